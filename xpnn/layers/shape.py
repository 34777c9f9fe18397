"""Layers that only change the shape, and functions as layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xpnn import activations
from xpnn.backend import array_namespace
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers.base import Layer
from xpnn.layers.checks import integers

__all__ = ["ExpandDims", "Flatten", "Lambda", "Permute", "Reshape", "Squeeze"]

Array = Any


class Flatten(Layer):
    """Make one axis of all axes from ``start_axis`` on.

    Parameters
    ----------
    start_axis : int
        1 keeps the batch axis.

    Notes
    -----
    (N, H, W, C) -> (N, H W C). What numpy-ml calls ``keep_dim="last"``, (N, H, W, C) -> (N H W, C),
    takes every place for an example, and so is no layer but a function,
    ``xpnn.ops.reshape(x, (-1, x.shape[-1]))``. :class:`Dense` does not need it: it keeps all axes
    but the last.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Flatten()(np.ones((32, 8, 8))).shape
    (32, 64)
    """

    def __init__(self, start_axis: int = 1) -> None:
        (self.start_axis,) = integers("Flatten", 0, start_axis=start_axis)

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
        self.shape = _several("Reshape", "shape", shape)
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


class Permute(Layer):
    """Put the axes of each example in another order.

    Parameters
    ----------
    axes : tuple of int
        For each axis of the result after the first, which axis of x it is. The first, that of the
        examples, is axis 0 and stays where it is; so Keras counts as well.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Permute((3, 1, 2))(np.ones((32, 28, 24, 3))).shape
    (32, 3, 28, 24)
    """

    def __init__(self, axes: tuple[int, ...]) -> None:
        self.axes = _several("Permute", "axes", axes)
        ndim = len(self.axes) + 1
        if sorted(a % ndim if -ndim <= a < ndim else 0 for a in self.axes) != [*range(1, ndim)]:
            msg = (
                f"Permute: 'axes' must name each axis from 1 to {ndim - 1} once (axis 0, that of"
                f" the examples, stays), got {self.axes}."
            )
            raise ConfigError(msg)

    def forward(self, x: Array) -> Array:
        if x.ndim != len(self.axes) + 1:
            msg = (
                f"Permute({self.axes}): expected x with {len(self.axes) + 1} axes, the first for"
                f" the examples, got shape {tuple(x.shape)}."
            )
            raise ShapeError(msg)
        return array_namespace(x).permute_dims(x, (0, *(a % x.ndim for a in self.axes)))


class ExpandDims(Layer):
    """Insert an axis of length 1.

    Parameters
    ----------
    axis : int
        Where the new axis is in the result; not the first, which is that of the examples.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.ExpandDims(-1)(np.ones((32, 28, 28))).shape
    (32, 28, 28, 1)
    """

    def __init__(self, axis: int) -> None:
        self.axis = _not_first("ExpandDims", axis)

    def forward(self, x: Array) -> Array:
        if not -x.ndim <= self.axis <= x.ndim:
            msg = (
                f"ExpandDims: axis {self.axis} cannot be put after the first axis of x of shape"
                f" {tuple(x.shape)}."
            )
            raise ShapeError(msg)
        return array_namespace(x).expand_dims(x, axis=self.axis)


class Squeeze(Layer):
    """Remove an axis of length 1.

    Parameters
    ----------
    axis : int
        Which axis; not the first, which is that of the examples.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Squeeze(-1)(np.ones((32, 28, 28, 1))).shape
    (32, 28, 28)
    """

    def __init__(self, axis: int) -> None:
        self.axis = _not_first("Squeeze", axis)

    def forward(self, x: Array) -> Array:
        if not -x.ndim < self.axis < x.ndim or x.shape[self.axis] != 1:
            msg = (
                f"Squeeze: expected x with length 1 on axis {self.axis}, after the first axis, got"
                f" shape {tuple(x.shape)}."
            )
            raise ShapeError(msg)
        return array_namespace(x).squeeze(x, axis=self.axis)


class Lambda(Layer):
    """A function of arrays as a layer.

    Parameters
    ----------
    f : callable or str
        A function of one array or several, or the name of an activation. It is called with Tensors,
        whose namespace ``xpnn.array_namespace`` finds.

    Raises
    ------
    ConfigError
        From ``to_config`` and ``save``, if it is a function of one's own: a file cannot hold it. A
        network to be saved has a class of its own instead, with the function as its ``forward``.

    Notes
    -----
    Parameters that the function uses are not those of the layer: no optimizer finds them.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Lambda(lambda x: x * x)(np.asarray([1.0, 2.0, 3.0])).data
    array([1., 4., 9.])
    """

    def __init__(self, f: Callable[..., Array] | str) -> None:
        if not callable(f) and not isinstance(f, str):
            msg = f"Lambda: 'f' must be a function or the name of an activation, got {f!r}."
            raise ConfigError(msg)
        self.f = activations.get(f)

    def forward(self, *inputs: Array) -> Array:
        return self.f(*inputs)


def _not_first(who: str, axis: int) -> int:
    if axis == 0:
        msg = f"{who}: 'axis' must not be 0, the axis of the examples."
        raise ConfigError(msg)
    return int(integers(who, None, axis=axis)[0])


def _several(who: str, name: str, values: Any) -> tuple[int, ...]:
    """Return a list or tuple of integers as a tuple."""
    if not isinstance(values, (tuple, list)):
        msg = f"{who}: {name!r} must be a tuple of integers, got {values!r}."
        raise ConfigError(msg)
    return tuple(integers(who, None, **{name: value})[0] for value in values)
