"""Layers of several inputs: called with an argument for each, ``Add()(a, b, c)``."""

from __future__ import annotations

import functools
import math
from typing import Any

from xpnn import activations
from xpnn.backend import array_namespace
from xpnn.errors import ConfigError, DTypeError, ShapeError
from xpnn.layers.base import Layer
from xpnn.layers.checks import integers, require_floats
from xpnn.primitives.products import matmul
from xpnn.primitives.shape import concat, stack

__all__ = [
    "MERGES",
    "Add",
    "Average",
    "Concatenate",
    "Dot",
    "Maximum",
    "Multiply",
    "add",
    "average",
    "concatenate",
    "maximum",
    "multiply",
]

Array = Any
Arrays = tuple[Any, ...]


# -------------------------------------------------------------------- arrays of one shape


def add(who: str, inputs: Arrays) -> Array:
    """Return the sum of arrays of one shape."""
    return functools.reduce(_alike(who, inputs).add, inputs)


def multiply(who: str, inputs: Arrays) -> Array:
    """Return the product of arrays of one shape."""
    return functools.reduce(_alike(who, inputs).multiply, inputs)


def average(who: str, inputs: Arrays) -> Array:
    """Return the mean of arrays of one shape."""
    return add(who, inputs) / len(inputs)


def maximum(who: str, inputs: Arrays) -> Array:
    """Return the largest of each element of arrays of one shape; ties share the gradient."""
    xp = _alike(who, inputs)
    # Taken in pairs, three that tie would get 1/4, 1/4 and 1/2 of the gradient.
    return xp.maximum(*inputs) if len(inputs) == 2 else xp.max(stack(xp, *inputs), axis=0)


def concatenate(who: str, inputs: Arrays, axis: int = -1) -> Array:
    """Return arrays joined along an axis that is not the first."""
    _check_arrays(who, inputs)
    shapes = [tuple(x.shape) for x in inputs]
    ndim = len(shapes[0])
    at = axis % ndim if -ndim <= axis < ndim else 0
    if at == 0 or len({(len(s), *s[:at], *s[at + 1 :]) for s in shapes}) > 1:
        msg = (
            f"{who}: expected inputs of one shape but for their axis {axis}, which is not that of"
            f" the examples, got {_listed(shapes)}."
        )
        raise ShapeError(msg)
    return concat(array_namespace(*inputs), *inputs, axis=at)


MERGES = {
    "add": add, "average": average, "concat": concatenate, "maximum": maximum,
    "multiply": multiply, "sum": add,
}  # fmt: skip


def _check_arrays(who: str, inputs: Arrays) -> None:
    if not inputs or not all(hasattr(x, "shape") for x in inputs):
        kinds = ", ".join(type(x).__name__ for x in inputs) or "nothing"
        msg = f"{who}: expected an array as an argument for each input, {who}()(a, b), got {kinds}."
        raise DTypeError(msg)


def _alike(who: str, inputs: Arrays) -> Any:
    """Return the namespace of floating-point arrays of one shape."""
    _check_arrays(who, inputs)
    shape = inputs[0].shape
    if any(x.shape != shape for x in inputs):
        msg = (
            f"{who}: expected inputs of one shape, got {_listed([x.shape for x in inputs])}."
            " Nothing is broadcast: bring them to one shape first, for example with layers.Dense."
        )
        raise ShapeError(msg)
    for x in inputs:
        require_floats(who, x)
    return array_namespace(*inputs)


def _listed(shapes: Any) -> str:
    return ", ".join(str(tuple(shape)) for shape in shapes)


# ------------------------------------------------------------------------------ the layers


class _Merge(Layer):
    """What the layers of inputs of one shape share."""

    def __init__(self, activation: Any = None) -> None:
        self.activation = activations.get(activation)

    def merge(self, *inputs: Array) -> Array:
        """Compute the layer, before its activation."""
        raise NotImplementedError

    def forward(self, *inputs: Array) -> Array:
        return self.activation(self.merge(*inputs))


class Add(_Merge):
    r"""Sum of the inputs, :math:`y = a(\sum_i x_i)`.

    Parameters
    ----------
    activation : str or callable, optional
        The function :math:`a`; none by default.

    Notes
    -----
    Any number of inputs of one shape -> that shape. Nothing is broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Add()(np.asarray([[1.0, 2.0]]), np.asarray([[3.0, 4.0]])).data
    array([[4., 6.]])
    """

    def merge(self, *inputs: Array) -> Array:
        return add("Add", inputs)


class Multiply(_Merge):
    r"""Product of the inputs, element by element, :math:`y = a(\prod_i x_i)`.

    Parameters
    ----------
    activation : str or callable, optional
        The function :math:`a`; none by default.

    Notes
    -----
    Any number of inputs of one shape -> that shape. Nothing is broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Multiply()(np.asarray([[1.0, 2.0]]), np.asarray([[3.0, 4.0]])).data
    array([[3., 8.]])
    """

    def merge(self, *inputs: Array) -> Array:
        return multiply("Multiply", inputs)


class Average(_Merge):
    r"""Mean of the inputs, :math:`y = a(\frac1k \sum_{i=1}^k x_i)`.

    Parameters
    ----------
    activation : str or callable, optional
        The function :math:`a`; none by default.

    Notes
    -----
    Any number of inputs of one shape -> that shape. Nothing is broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Average()(np.asarray([[1.0, 2.0]]), np.asarray([[3.0, 4.0]])).data
    array([[2., 3.]])
    """

    def merge(self, *inputs: Array) -> Array:
        return average("Average", inputs)


class Maximum(_Merge):
    r"""Largest of the inputs, element by element, :math:`y = a(\max_i x_i)`.

    Inputs that tie share the gradient evenly, as in ``torch.amax``; Keras takes the inputs in
    pairs, so that of three that tie the last gets half of it.

    Parameters
    ----------
    activation : str or callable, optional
        The function :math:`a`; none by default.

    Notes
    -----
    Any number of inputs of one shape -> that shape. Nothing is broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Maximum()(np.asarray([[1.0, 5.0]]), np.asarray([[3.0, 4.0]])).data
    array([[3., 5.]])
    """

    def merge(self, *inputs: Array) -> Array:
        return maximum("Maximum", inputs)


class Concatenate(Layer):
    """The inputs side by side along an axis.

    Parameters
    ----------
    axis : int
        Along which; not the first, which is that of the examples.
    activation : str or callable, optional
        Of what is joined; none by default.

    Notes
    -----
    Any number of inputs of one shape but for ``axis`` -> their lengths along ``axis`` added up.
    Integers are joined too.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Concatenate()(np.ones((5, 3)), np.ones((5, 4))).shape
    (5, 7)
    """

    def __init__(self, axis: int = -1, activation: Any = None) -> None:
        if axis == 0:
            msg = (
                "Concatenate: 'axis' must not be 0, the axis of the examples. To join batches, use"
                " xpnn.ops.concat."
            )
            raise ConfigError(msg)
        (self.axis,) = integers("Concatenate", None, axis=axis)
        self.activation = activations.get(activation)

    def forward(self, *inputs: Array) -> Array:
        return self.activation(concatenate("Concatenate", inputs, self.axis))


class Dot(Layer):
    r"""Inner product of two inputs, example by example.

    .. math:: y_{n, p, q} = a\Big(\sum_k u_{n, p, k} \, v_{n, q, k}\Big)

    for the axes -1 of both. As Keras's layer, and its ``batch_dot``.

    Parameters
    ----------
    axes : int or pair of int
        The axis over which the sum is taken, of both inputs or of each; not the first.
    normalize : bool
        Whether to divide by the lengths of the vectors, which makes the cosine of the angle
        between them. A vector of zeros stays zero.
    activation : str or callable, optional
        The function :math:`a`; none by default.

    Notes
    -----
    u (N, P..., K) and v (N, Q..., K) -> (N, P..., Q...): first the other axes of the first input,
    then those of the second; two matrices (N, K) -> (N, 1).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Dot()(np.asarray([[1.0, 2.0]]), np.asarray([[3.0, 4.0]])).data
    array([[11.]])
    >>> layers.Dot(axes=(2, 1))(np.ones((5, 2, 3)), np.ones((5, 3, 4))).shape
    (5, 2, 4)
    """

    def __init__(
        self, axes: int | tuple[int, int] = -1, normalize: bool = False, activation: Any = None
    ) -> None:
        pair = tuple(axes) if isinstance(axes, (tuple, list)) else (axes, axes)
        self.axes = tuple(integers("Dot", None, axes=axis)[0] for axis in pair)
        if len(self.axes) != 2 or 0 in self.axes:
            msg = f"Dot: 'axes' must be an axis or a pair, not 0, that of the examples; got {axes}."
            raise ConfigError(msg)
        self.normalize = normalize
        self.activation = activations.get(activation)

    def forward(self, u: Array, v: Array) -> Array:
        _check_arrays("Dot", (u, v))
        places = [
            axis % x.ndim if -x.ndim <= axis < x.ndim else 0
            for x, axis in zip((u, v), self.axes, strict=True)
        ]
        i, j = places
        if 0 in places or (u.shape[0], u.shape[i]) != (v.shape[0], v.shape[j]):
            msg = (
                f"Dot(axes={self.axes}): expected two inputs of as many examples and of one length"
                f" along these axes, got {_listed([u.shape, v.shape])}."
            )
            raise ShapeError(msg)
        require_floats("Dot", u)
        require_floats("Dot", v)
        xp = array_namespace(u, v)
        if self.normalize:
            u, v = _unit(xp, u, i), _unit(xp, v, j)
        n, k = u.shape[0], u.shape[i]
        p, q = (u.shape[1:i] + u.shape[i + 1 :]), (v.shape[1:j] + v.shape[j + 1 :])
        rows = xp.reshape(xp.moveaxis(u, i, -1), (n, math.prod(p), k))
        columns = xp.reshape(xp.moveaxis(v, j, 1), (n, k, math.prod(q)))
        y = xp.reshape(matmul(xp, rows, columns), (n, *p, *q) if p or q else (n, 1))
        return self.activation(y)


def _unit(xp: Any, x: Array, axis: int) -> Array:
    """Return vectors of length 1, and those of length 0 as they are."""
    square = xp.sum(x * x, axis=axis, keepdims=True)
    return x / xp.sqrt(xp.where(square == 0, xp.ones_like(square), square))
