"""What models that make examples from random codes share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xpnn import backend
from xpnn.autograd.transforms import no_grad
from xpnn.backend import array_namespace, unwrap
from xpnn.errors import ConfigError, DataError, ShapeError
from xpnn.layers.checks import integers
from xpnn.random import get_rng
from xpnn.training import Model

__all__ = ["Generative", "only_x"]

Array = Any


def only_x(model: Any, batch: Any, *, weights: bool = False) -> Array:
    """Return x of a batch that has nothing else, but weights if they are taken.

    Raises
    ------
    DataError
        If there are targets, weights or several inputs, which the model would pass over.
    """
    who = type(model).__name__
    if batch.y is not None or isinstance(batch.x, tuple):
        what = "several inputs" if batch.y is None else "targets"
        msg = f"{who}: it learns from one array x alone, got {what}. Call fit(x)."
        raise DataError(msg)
    if batch.weight is not None and not weights:
        msg = f"{who}: its examples have no weights, got some. Leave out 'sample_weight'."
        raise DataError(msg)
    return batch.x


class Generative(Model):
    """A model that turns codes z from N(0, 1) into examples like those it is fitted to.

    Subclasses set ``latent`` in ``__init__`` and write :meth:`generate`.

    Attributes
    ----------
    latent : int
        The length of a code.
    shape : tuple of int
        Of one example; known from the first call on.
    """

    latent: int
    shape: tuple[int, ...]

    def build(self, shape: tuple[int, ...]) -> None:
        self.shape = tuple(shape[1:])

    def generate(self, z: Array) -> Array:
        """Return an example for each code: (N, latent) -> (N, ...)."""
        raise NotImplementedError

    def sample(self, n: int) -> Array:
        """Return n new examples, from codes of the random stream: a raw array (n, ...).

        Raises
        ------
        ConfigError
            If the model has not seen data yet, and so does not know their shape.
        """
        (n,) = integers(f"{type(self).__name__}.sample", n=n)
        self._built()
        return self._predicted(lambda: self.generate(self._codes(n)))

    def _codes(self, n: int) -> Array:
        one = self.parameters()[0]
        return get_rng().normal((n, self.latent), dtype=one.dtype, device=one.device)

    def _shaped(self, x: Array, what: str) -> Array:
        """Return a network's output for each code in the shape of examples."""
        size = math.prod(self.shape)
        if math.prod(x.shape[1:]) != size:
            msg = (
                f"{type(self).__name__}: the {what} made {tuple(x.shape[1:])} of a code; examples"
                f" have shape {self.shape}. End it in as many numbers, such as Dense({size})."
            )
            raise ShapeError(msg)
        return array_namespace(x).reshape(x, (x.shape[0], *self.shape))

    def _built(self) -> None:
        if self._shapes is None:
            msg = (
                f"{type(self).__name__}: it does not know yet what examples look like. Fit it"
                " first, or call it once on some."
            )
            raise ConfigError(msg)

    def _predicted(self, f: Callable[[], Any]) -> Array:
        """Return a raw array that is computed in prediction mode, off the tape."""
        modes = [(layer, layer.training) for layer in self.layers()]
        self.eval()
        try:
            with no_grad():
                return unwrap(f())
        finally:
            for layer, mode in modes:
                layer.training = mode

    def _zeros(self) -> Array:
        """Return a code of zeros, on the device and of the dtype by default."""
        return backend.asarray([[0.0] * self.latent])
