"""What layers have in common that are trained on their own input, without targets."""

from __future__ import annotations

from typing import Any

from xpnn.errors import ConfigError, ShapeError
from xpnn.layers.base import Layer
from xpnn.layers.checks import integers, require_floats

__all__ = ["Unsupervised"]

Array = Any


class Unsupervised(Layer):
    """Base of layers that can be trained on their own input.

    Called, such a layer gives the code of its input, so that it stands in a network like any other.
    Beside that it has a loss of its own, of the input alone. :func:`xpnn.pretrain` takes a network
    layer by layer through it, before the whole is trained on targets. A loop of one's own::

        loss = layer.loss(x)
        loss.backward()
        optimizer.step(layer)

    Where x comes from layers below, compute it inside ``xpnn.no_grad()``: a loss is differentiable
    in its input too, and would leave gradients in the parameters below. Parameters that only the
    loss uses, such as the bias of the visible units, get none from a loss on targets; the optimizer
    then leaves them as they are.

    Subclasses write ``forward``, ``build(self, shape)``, ``loss`` and, if there is more to watch
    than the loss, ``measures``.

    Attributes
    ----------
    visible : int
        The length of the last axis of the input.
    hidden : int
        The length of the code.
    """

    visible: int | None
    hidden: int

    def loss(self, x: Array) -> Array:
        """Return what is to be minimised for examples x (..., visible): a Tensor of one element."""
        msg = f"{type(self).__name__} has no loss method."
        raise NotImplementedError(msg)

    def measures(self, x: Array) -> dict[str, Array]:
        """Return what is worth watching beside the loss: means over examples, by name."""
        return {}

    def _sized(self, hidden: int, visible: int | None) -> None:
        """Set the sizes, and build if both are known."""
        self.hidden, self.visible = integers(type(self).__name__, hidden=hidden, visible=visible)

    def _look_at(self, x: Array) -> None:
        """Build for x if that has not been done, and refuse what does not fit."""
        self.ensure_built(tuple(x.shape))
        self._look(x, self.visible, "x")

    def _look_at_code(self, method: str, h: Array) -> None:
        """Refuse what is no code; a code does not tell how many visible units there are."""
        if self.visible is None:
            msg = (
                f"{type(self).__name__}.{method}: the number of visible units is not known yet."
                " Give it as visible=..., or call the layer on data first."
            )
            raise ConfigError(msg)
        self._look(h, self.hidden, "a code")

    def _look(self, x: Array, width: int | None, what: str) -> None:
        name = type(self).__name__
        if x.ndim < 1 or x.shape[-1] != width:
            msg = (
                f"{name}(hidden={self.hidden}, visible={self.visible}): expected {what} with last"
                f" axis {width}, got shape {tuple(x.shape)}."
            )
            if x.ndim > 2:
                msg += " Flatten the images first, for example with layers.Flatten()."
            raise ShapeError(msg)
        require_floats(name, x)

    def _width(self, shape: tuple[int, ...]) -> int:
        """Return how many visible units there are for an input of this shape."""
        if not shape:
            msg = f"{type(self).__name__}: expected x with at least one axis, got a scalar."
            raise ShapeError(msg)
        return self.visible or shape[-1]
