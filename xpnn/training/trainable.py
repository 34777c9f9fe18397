"""What of a model says how it is trained: its loss, its optimizer, and what a step is."""

from __future__ import annotations

import math
from typing import Any

from xpnn import backend, optim, parallel, random
from xpnn.autograd.tensor import Tensor
from xpnn.autograd.transforms import no_grad
from xpnn.backend import unwrap
from xpnn.data import Batch
from xpnn.errors import ConfigError, GraphError, ShapeError
from xpnn.layers.base import Layer
from xpnn.training.history import History
from xpnn.training.objective import Objective, refuse_missing_targets
from xpnn.training.precision import Mixed, each_of, widened

__all__ = ["Trainable"]


class Trainable(Mixed, Layer):
    """A layer with a loss and an optimizer: the half of :class:`Model` that is about one batch."""

    optimizer: Any = None
    criterion: Objective | None = None
    history: History | None = None

    def compile(
        self,
        loss: Any = None,
        optimizer: Any = "adam",
        metrics: Any = (),
        *,
        loss_weights: Any = None,
        precision: str | None = None,
    ) -> None:
        """Choose how to train.

        Parameters
        ----------
        loss : str, pair, callable, list or dict
            A name, a name and its arguments such as ``("huber", {"delta": 2.0})``, or
            ``f(predictions, targets)`` -> an array of one element. For several outputs a list, in
            their order, or a dict by names of one's choice, under which they are reported. None if
            :meth:`objective` is overridden.
        optimizer : str or Optimizer
        metrics : iterable of str, pair or callable, or dict of such
            Reported beside the loss; of several outputs for each, or by their names.
        loss_weights : list or dict of float, optional
            By what the losses of several outputs are multiplied in their sum.
        precision : {None, "float32", "mixed_bfloat16", "mixed_float16"}
            The mixed ones compute products and convolutions in 16 bits, see :class:`~xpnn.autocast`
            and :attr:`precision`, in ``fit``, ``evaluate`` and ``predict``. None leaves everything
            to the dtype of the parameters, as "float32" does.
        """
        given = loss is not None or bool(metrics) or loss_weights is not None
        self.criterion = Objective(loss, metrics, loss_weights) if given else None
        self.optimizer = optim.get(optimizer)
        self.precision = precision

    @property
    def optimizers(self) -> dict[str, Any]:
        """The optimizers by name, which checkpoints save; override it if there are several."""
        return {"optimizer": self.optimizer}

    def objective(self, batch: Batch) -> tuple[Any, dict[str, Any]]:
        """Return what is minimised on a batch, and what is reported beside it, by name.

        The compiled losses and metrics, and what the layers add to the loss. Override it for a loss
        that is no function of outputs and targets alone, or has no targets.

        Parameters
        ----------
        batch : Batch
            ``x``, ``y`` and ``weight``, on the model's device.

        Returns
        -------
        loss : Tensor
            Of one element.
        values : dict
            Means over the examples of the batch.
        """
        if self.criterion is None:
            self._compiled()
        refuse_missing_targets(batch.y)
        loss, values = self.criterion(self._outputs(batch.x), batch.y, batch.weight)  # type: ignore[misc]
        penalty = self.penalties()
        return loss if penalty is None else loss + penalty, values

    def add_gradients(self, batch: Batch) -> dict[str, Any]:
        """Add the gradients of the objective on a batch to those there are.

        Returns
        -------
        dict
            ``"loss"``, and what is reported beside it: arrays on the device.
        """
        with self.autocast():
            loss, values = self.objective(batch)
        if not isinstance(loss, Tensor):
            msg = (
                f"fit: the loss must be a Tensor, got {type(loss).__name__}: forward and loss"
                " compute with the functions of xpnn.ops, from which gradients come."
            )
            raise GraphError(msg)
        if math.prod(loss.shape) != 1:
            msg = (
                f"fit: the loss must be one number, got shape {tuple(loss.shape)}. Let it return"
                " the mean, as with reduction='mean'."
            )
            raise ShapeError(msg)
        self.backpropagate(loss)
        return {"loss": unwrap(loss), **{name: unwrap(value) for name, value in values.items()}}

    def train_step(self, batch: Batch) -> dict[str, Any]:
        """Take one step on a batch; return what :meth:`add_gradients` does.

        Override it for a step of another kind, with several updates for example; see
        :meth:`autocast`.
        """
        values = self.add_gradients(batch)
        self.apply_gradients()
        return values

    def build_on(self, batch: Batch) -> Any:
        """Run the model once, so that it has weights: without a trace, dropout or statistics.

        Returns the outputs, if those are what targets are compared with. Override it if ``forward``
        does not use all layers, or takes something else than ``batch.x``.
        """
        with no_grad():
            predictions = self.eval()._outputs(batch.x)
        self.train()
        if predictions is None:
            msg = f"{type(self).__name__}.forward returned None; is a return missing?"
            raise ConfigError(msg)
        return predictions

    def _outputs(self, x: Any) -> Any:
        parallel.begin_step()
        y = self(*x) if isinstance(x, tuple) else self(x)
        return y if self.precision == "float32" else each_of(y, widened)

    def _look_at(self, batch: Batch, targets: Any) -> None:
        """Build on the first batch of a run, and look at all targets once."""
        self._compiled()
        built, rng = not self._unbuilt(), random.get_rng()
        state = rng.state
        predictions = self.build_on(batch)
        if built:  # nothing was drawn but what a forward pass draws: a resumed run goes on exactly
            rng.state = state
        if not self.parameters():
            name = type(self).__name__
            msg = (
                f"{name} has no parameters to train. Layers are made in __init__, each in an"
                " attribute or in a list, where they are found; not in a dict, nor anew in forward."
            )
            raise ConfigError(msg)
        self._check_masters()
        if self.criterion is not None:
            self.criterion.check(targets, predictions)

    def _compiled(self) -> None:
        missing = self.criterion is None and type(self).objective is Trainable.objective
        if self.optimizer is None or (missing and type(self).train_step is Trainable.train_step):
            name = type(self).__name__
            msg = f"{name} was not compiled. Call model.compile(loss=..., optimizer=...) first."
            raise ConfigError(msg)

    def _home(self) -> Any:
        """Return the device of the parameters, or the one on which they will be made."""
        for p in self.parameters():
            return p.device
        return self._device or backend.get_device()

    def _at_home(self) -> Any:
        """Return the context in which what is computed with raw arrays runs on that device."""
        home = backend.as_device(self._home())
        return home.library.scope(home.native)

    def _place(self) -> dict[str, Any]:
        """Return where batches go, and in which dtype."""
        parameters = self.parameters()
        dtype = parameters[0].dtype if parameters else backend.get_dtype()
        return {"device": self._home(), "dtype": dtype}
