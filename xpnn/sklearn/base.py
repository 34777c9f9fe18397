"""What classifier and regressor share: their parameters, training, prediction, pickling."""

from __future__ import annotations

import contextvars
import copy
from collections.abc import Callable
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from xpnn import backend, losses, optim, random
from xpnn.callbacks import EarlyStopping
from xpnn.errors import ConfigError
from xpnn.optim.config import whole
from xpnn.sklearn.networks import network, packed, unpacked

__all__ = ["Estimator"]

_HIDDEN, _ACTIVATION = (100,), "relu"


class Estimator(BaseEstimator):  # type: ignore[misc]
    """Base of the estimators: all but what targets are and what predictions mean."""

    default_loss: str

    def __init__(
        self,
        model: Any = None,
        *,
        hidden: Any = _HIDDEN,
        activation: Any = _ACTIVATION,
        loss: Any = None,
        optimizer: Any = None,
        lr: Any = None,
        epochs: int = 100,
        batch_size: int = 64,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        callbacks: Any = None,
        device: Any = None,
        dtype: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
    ) -> None:
        self.model = model
        self.hidden = hidden
        self.activation = activation
        self.loss = loss
        self.optimizer = optimizer
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.callbacks = callbacks
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    # ----------------------------------------------------------------- what subclasses write

    def _last(self) -> str:
        """Return the activation of the last layer of the network that is made here."""
        return "linear"

    # ------------------------------------------------------------------------------ training

    def _is_fitted(self) -> bool:
        return hasattr(self, "model_")

    def _loss(self) -> Any:
        return losses.get(self.default_loss if self.loss is None else self.loss)

    def _learn(
        self, x: Any, targets: Any, weights: Any, *, outputs: int, fresh: bool, strata: Any = None,
        once: bool = False,
    ) -> None:  # fmt: skip
        """Train for some epochs, or ``once`` over the data; a fresh model, or that there is."""
        epochs = 1 if once else whole(self, "epochs", self.epochs, least=1)
        self._check()
        if fresh:
            self._stream = self._new_stream()
            self.n_iter_ = 0

        def work() -> None:
            if fresh:
                self.model_ = self._new_model(x, outputs)
            options: dict[str, Any] = {"batch_size": self.batch_size, "verbose": self.verbose}
            data = (x, targets, weights)
            if self.validation_fraction and not once:
                data, held_out = self._split(data, strata)
                options["validation_data"] = held_out if weights is not None else held_out[:2]
            callbacks = copy.deepcopy(list(self.callbacks or ()))
            if self.patience is not None and not once:
                callbacks.append(EarlyStopping("val_loss", patience=self.patience))
            if data[2] is not None:
                options["sample_weight"] = data[2]
            self.history_ = self.model_.fit(
                data[0], data[1], epochs=epochs, callbacks=callbacks, **options
            )

        self._inside(work, str(x.dtype) if self.dtype is None else self.dtype)
        self.n_iter_ += self.history_.epochs

    def _check(self) -> None:
        who = type(self).__name__
        if self.model is not None and (self.hidden, self.activation) != (_HIDDEN, _ACTIVATION):
            msg = (
                f"{who}: 'hidden' and 'activation' describe the network that is made without a"
                " 'model'. Give it or them."
            )
            raise ConfigError(msg)
        if not 0 <= self.validation_fraction < 1:
            msg = (
                f"{who}: 'validation_fraction' must be in [0, 1), got {self.validation_fraction!r}."
            )
            raise ConfigError(msg)
        if self.patience is not None and not self.validation_fraction:
            msg = (
                f"{who}: 'patience' waits for the loss on validation data. Say"
                " validation_fraction=0.1."
            )
            raise ConfigError(msg)

    def _new_stream(self) -> random.Stream:
        if self.random_state is None:
            return random.get_rng().spawn()
        return random.Stream(int(check_random_state(self.random_state).randint(2**31 - 1)))

    def _new_model(self, x: Any, outputs: int) -> Any:
        who = type(self).__name__
        model = network(
            self.model, tuple(x.shape[1:]), outputs, self.hidden, self.activation, self._last()
        )
        optimizer = None if self.optimizer is None else optim.get(copy.deepcopy(self.optimizer))
        if model.optimizer is None:
            model.compile(self._loss(), "adam" if optimizer is None else optimizer)
        elif self.loss is not None:
            measures = model.criterion.parts[0].metrics.values() if model.criterion else ()
            model.compile(self._loss(), model.optimizer, measures)
        if optimizer is not None:
            model.optimizer = optimizer
        if self.lr is not None:
            model.optimizer.lr = self.lr
        found = tuple(model.predict(x[:1]).shape)
        if found != (1, outputs):
            msg = (
                f"{who}: the model gives shape {found} for one example; expected (1, {outputs})."
                f" End it in layers.Dense({outputs})."
            )
            raise ConfigError(msg)
        return model

    def _split(self, data: tuple[Any, ...], strata: Any) -> tuple[Any, Any]:
        """Set apart a part of the data, with the same share of every class."""
        given = [part for part in data if part is not None]
        parts = train_test_split(
            *given,
            test_size=self.validation_fraction,
            stratify=strata,
            random_state=int(random.get_rng().integers(0, 2**31, (), device="cpu")),
        )
        none = [None] * (len(data) - len(given))
        return (*parts[::2], *none), (*parts[1::2], *none)

    def _inside(self, f: Callable[[], Any], dtype: Any) -> Any:
        """Call a function in a context with the estimator's device, random stream and a dtype."""

        def work() -> Any:
            random.set_rng(self._stream)
            backend.set_dtype(dtype)
            with backend.device(backend.get_device() if self.device is None else self.device):
                return f()

        return contextvars.copy_context().run(work)

    # ---------------------------------------------------------------------------- prediction

    def _outputs(self, X: Any) -> Any:
        """Return what the model makes of data, a row an example."""
        check_is_fitted(self, "model_")
        x = validate_data(self, X, reset=False, **_INPUTS)
        return self.model_.predict(x)

    # ------------------------------------------------------------------------------ pickling

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a pickle or a copy, with the model as configuration and arrays."""
        state = dict(super().__getstate__())
        if "model_" in state:
            state["model_"] = packed(state["model_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up a state; the model's weights go to the default device."""
        state = dict(state)
        parts = state.pop("model_", None)
        super().__setstate__(state)
        if parts is None:
            return

        def work() -> Any:
            backend.set_dtype(parts["dtype"])
            random.set_rng(random.Stream(0))  # for weights that are overwritten at once
            return unpacked(parts)

        self.model_ = contextvars.copy_context().run(work)

    def __sklearn_is_fitted__(self) -> bool:
        return self._is_fitted()


_INPUTS: dict[str, Any] = {"dtype": ("float64", "float32"), "allow_nd": True}
