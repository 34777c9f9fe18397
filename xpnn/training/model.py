"""Model: a layer that can be trained, evaluated, saved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from xpnn import backend, losses, optim
from xpnn.autograd.tensor import Tensor
from xpnn.autograd.transforms import no_grad
from xpnn.backend import unwrap
from xpnn.callbacks import Callback, EpochLines, ProgressBar
from xpnn.data import Batches, as_arrays
from xpnn.errors import ConfigError, DataError, GraphError, ShapeError
from xpnn.layers.base import Layer
from xpnn.layers.containers import Chain
from xpnn.training.history import History
from xpnn.training.loop import Run, measure, named_metrics, run_epochs
from xpnn.training.saving import Saveable
from xpnn.training.summary import summary

__all__ = ["Model", "Sequential"]

Array = Any


class Model(Saveable, Layer):
    """A layer that can be trained.

    Write ``__init__`` (the layers) and ``forward``; the rest is here.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> from xpnn import layers, optim
    >>> class Net(xpnn.Model):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.hidden = layers.Dense(8, activation="tanh")
    ...         self.out = layers.Dense(1)
    ...     def forward(self, x):
    ...         return self.out(self.hidden(x))
    >>> xpnn.set_seed(0)
    >>> x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    >>> net = Net()
    >>> net.compile(loss="mean_squared_error", optimizer=optim.Adam(0.05))
    >>> history = net.fit(x, x * x, batch_size=16, epochs=60)
    >>> history["loss"][-1] < 0.01
    True
    """

    optimizer: Any = None
    loss: Any = None
    metrics: dict[str, Any]
    history: History | None = None

    def compile(self, loss: Any, optimizer: Any = "adam", metrics: Iterable[Any] = ()) -> None:
        """Choose how to train.

        Parameters
        ----------
        loss : str, pair or callable
            A name, a name and its arguments such as ``("huber", {"delta": 2.0})``, or
            ``f(predictions, targets)`` -> an array of one element.
        optimizer : str or Optimizer
        metrics : iterable of str, pair or callable
            Reported beside the loss.
        """
        self.loss = losses.get(loss)
        self.optimizer = optim.get(optimizer)
        self.metrics = named_metrics(metrics)

    def _compiled(self) -> None:
        if self.loss is None:
            name = type(self).__name__
            msg = f"{name} was not compiled. Call model.compile(loss=..., optimizer=...) first."
            raise ConfigError(msg)

    def _home(self) -> Any:
        """Return the device of the parameters, or the one on which they will be made."""
        for p in self.parameters():
            return p.device
        return self._device or backend.get_device()

    def _batches(self, *arrays: Any, batch_size: int, shuffle: bool = False) -> Batches:
        parameters = self.parameters()
        dtype = parameters[0].dtype if parameters else backend.get_dtype()
        return Batches(
            *arrays, batch_size=batch_size, shuffle=shuffle, device=self._home(), dtype=dtype
        )

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        batch_size: int = 32,
        epochs: int = 1,
        validation_split: float = 0.0,
        validation_data: tuple[Any, Any] | None = None,
        shuffle: bool = True,
        callbacks: Sequence[Callback] = (),
        verbose: int = 1,
    ) -> History:
        """Train on arrays.

        Parameters
        ----------
        x : array or tuple of arrays
            Inputs, examples along the first axis. Moved to the model's device batch by batch, and
            cast to its dtype.
        y : array
            Targets.
        batch_size, epochs : int
        validation_split : float
            The fraction at the end of the data (before it is shuffled) that is set apart and
            evaluated after every epoch.
        validation_data : (x, y), optional
            What is evaluated instead.
        shuffle : bool
            Whether every epoch takes the examples in another order.
        callbacks : sequence of Callback
        verbose : {0, 1, 2}
            Nothing, a progress bar (on a terminal), or a line an epoch.

        Returns
        -------
        History
            The means of every epoch: ``loss``, the metrics, and both with ``val_``.

        Raises
        ------
        NonFiniteError
            If the loss becomes NaN or infinite; the last good weights are put back.
        DataError
            If there are no examples, or not as many targets.
        """
        self._compiled()
        if not hasattr(epochs, "__index__") or epochs < 0:
            msg = f"fit: 'epochs' must not be negative, got {epochs!r}. It is a whole number."
            raise ConfigError(msg)
        if isinstance(callbacks, Callback) or any(not isinstance(c, Callback) for c in callbacks):
            msg = (
                f"fit: 'callbacks' must be a list of training.Callback objects, got {callbacks!r}."
            )
            raise ConfigError(msg)
        if validation_data is not None and (
            not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2
        ):
            msg = (
                "fit: 'validation_data' must be a pair (x, y), got"
                f" {type(validation_data).__name__}. Several inputs are a tuple in it, ((a, b), y)."
            )
            raise ConfigError(msg)
        x, y = as_arrays(x), as_arrays(y)
        if validation_data is None and validation_split:
            (x, y), validation_data = _split_tail(x, y, validation_split)
        batches = self._batches(x, y, batch_size=batch_size, shuffle=shuffle)
        validation = None
        if validation_data is not None:
            validation = self._batches(*validation_data, batch_size=max(batch_size, 256))
        run = Run(self, batches, epochs)
        self.history = run.history
        shown: list[Callback] = [ProgressBar()] if verbose == 1 else []
        if verbose == 2:
            shown = [EpochLines()]
        return run_epochs(run, self.loss, self.metrics, validation, [*callbacks, *shown])

    def train_step(self, x: Any, y: Any, loss: Any, measures: dict[str, Any]) -> dict[str, Any]:
        """Take one step on a batch; return loss and metrics as arrays on the device."""
        predictions = self(*x) if isinstance(x, tuple) else self(x)
        value = loss(predictions, y)
        if not isinstance(value, Tensor):
            msg = (
                f"fit: the loss must be a Tensor, got {type(value).__name__}: forward and loss"
                " compute with the functions of xpnn.ops, from which gradients come."
            )
            raise GraphError(msg)
        if math.prod(value.shape) != 1:
            msg = (
                f"fit: the loss must be one number, got shape {tuple(value.shape)}. Let it return"
                " the mean, as with reduction='mean'."
            )
            raise ShapeError(msg)
        if (penalty := self.penalties()) is not None:
            value = value + penalty
        value.backward()
        self.optimizer.step(self)
        with no_grad():
            found = {name: unwrap(f(predictions, y)) for name, f in measures.items()}
        return {"loss": unwrap(value), **found}

    def evaluate(self, x: Any, y: Any, *, batch_size: int = 256) -> dict[str, float]:
        """Return loss and metrics on data, in prediction mode.

        Examples
        --------
        >>> import numpy as np, xpnn
        >>> model = xpnn.Sequential([xpnn.layers.Dense(2)])
        >>> model.compile(loss="cross_entropy", metrics=["accuracy"])
        >>> sorted(model.evaluate(np.ones((4, 3)), np.zeros(4, int)))
        ['accuracy', 'loss']
        """
        self._compiled()
        return measure(self, self._batches(x, y, batch_size=batch_size), self.loss, self.metrics)

    def predict(self, x: Any, *, batch_size: int = 256) -> Any:
        """Return the outputs for inputs, in prediction mode, on the side where the inputs lie.

        Parameters
        ----------
        x : array or tuple of arrays

        Returns
        -------
        array
            A raw array of the library and on the device of ``x``.
        """
        first = unwrap(x[0] if isinstance(x, tuple) else x)
        home = backend.device_of(first) if hasattr(first, "shape") else backend.as_device("cpu")
        was_training = self.training
        self.eval()
        outputs = []
        try:
            with no_grad():
                for (batch,) in self._batches(x, batch_size=batch_size):
                    y = self(*batch) if isinstance(batch, tuple) else self(batch)
                    outputs.append(_each(y, lambda part: backend.to_device(unwrap(part), home)))
        finally:
            self.train(was_training)
        if isinstance(outputs[0], tuple):
            return tuple(home.xp.concat(parts, axis=0) for parts in zip(*outputs, strict=True))
        return home.xp.concat(outputs, axis=0)

    def summary(self) -> str:
        """Return a table of the layers and the shapes of their parameters, and print it.

        A layer has its parameters after the model was called or fitted once.

        Examples
        --------
        >>> import xpnn
        >>> text = xpnn.Sequential([xpnn.layers.Dense(2, in_features=3)]).summary()
        layer    parameters  shapes
        0 Dense           8  weight (3, 2), bias (2,)
        8 parameters (8 trainable), 32 bytes, on cpu
        """
        text = summary(self)
        print(text)
        return text


class Sequential(Chain, Model):
    """Layers one after another, as a model that can be trained.

    Parameters
    ----------
    layers : iterable of Layer

    Examples
    --------
    >>> import xpnn
    >>> from xpnn import layers
    >>> model = xpnn.Sequential([layers.Dense(500, activation="relu"), layers.Dense(10)])
    """


def _split_tail(x: Any, y: Any, fraction: float) -> tuple[Any, Any]:
    if not 0.0 < fraction < 1.0:
        msg = f"fit: 'validation_split' must be in (0, 1), got {fraction}."
        raise ConfigError(msg)
    n = len(y)
    cut = n - round(n * fraction)
    if cut in (0, n):
        msg = f"fit: {n} examples cannot be split at validation_split={fraction}."
        raise DataError(msg)
    head = _each(x, lambda part: part[:cut, ...])
    return (head, y[:cut, ...]), (_each(x, lambda part: part[cut:, ...]), y[cut:, ...])


def _each(x: Any, f: Any) -> Any:
    return tuple(f(part) for part in x) if isinstance(x, tuple) else f(x)
