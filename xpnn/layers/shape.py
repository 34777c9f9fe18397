"""Layers that only change the shape."""

from __future__ import annotations

import math
from typing import Any

from xpnn.backend import array_namespace
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers.base import Layer

__all__ = ["Flatten", "Reshape"]

Array = Any


class Flatten(Layer):
    """Make one axis of all axes from ``start_axis`` on.

    Parameters
    ----------
    start_axis : int
        1 keeps the batch axis.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Flatten()(np.ones((32, 8, 8))).shape
    (32, 64)
    """

    def __init__(self, start_axis: int = 1) -> None:
        if start_axis < 0:
            msg = f"Flatten: 'start_axis' must not be negative, got {start_axis}."
            raise ConfigError(msg)
        self.start_axis = start_axis

    def forward(self, x: Array) -> Array:
        if x.ndim < self.start_axis:
            msg = (
                f"Flatten(start_axis={self.start_axis}): expected x with at least"
                f" {self.start_axis} axes, got shape {tuple(x.shape)}."
            )
            raise ShapeError(msg)
        kept, rest = x.shape[: self.start_axis], x.shape[self.start_axis :]
        return array_namespace(x).reshape(x, (*kept, math.prod(rest)))


class Reshape(Layer):
    """Give each example another shape.

    Parameters
    ----------
    shape : tuple of int
        The new shape without the batch axis; one length may be -1.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Reshape((8, 8, -1))(np.ones((32, 64))).shape
    (32, 8, 8, 1)
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = tuple(shape)
        if self.shape.count(-1) > 1 or any(n < -1 for n in self.shape):
            msg = f"Reshape: 'shape' may hold one -1 and else no negative length, got {shape}."
            raise ConfigError(msg)

    def forward(self, x: Array) -> Array:
        size, known = math.prod(x.shape[1:]), math.prod(n for n in self.shape if n != -1)
        rest = size // known if known else 0
        if size != known * (rest if -1 in self.shape else 1):
            msg = (
                f"Reshape({self.shape}): an example of shape {tuple(x.shape[1:])} has {size}"
                " elements, which do not fill that shape."
            )
            raise ShapeError(msg)
        shape = (rest if n == -1 else n for n in self.shape)
        return array_namespace(x).reshape(x, (x.shape[0], *shape))
