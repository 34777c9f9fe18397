"""NumPy kernels of activation functions: in parts that fit a cache, on all threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn.kernels.fast import sweep
from xpnn.kernels.numpy_memory import empty, scratch
from xpnn.kernels.numpy_parts import elementwise, is_large, keep, over_parts
from xpnn.kernels.numpy_reductions import maxima, sums

__all__ = [
    "keep_positive",
    "relu",
    "relu_accepts",
    "relu_in_place",
    "relu_vjp",
    "softmax",
    "softmax_accepts",
    "softmax_vjp",
]

Array = Any


def relu_accepts(x: Array) -> bool:
    return x.dtype.char in "efd"


def relu(xp: Any, x: Array) -> Array:
    return elementwise(_rectify, x, short=True) if is_large(x) else np.maximum(x, 0)


def _rectify(x: Array, y: Array) -> None:
    np.maximum(x, 0, out=y)


def relu_in_place(x: Array) -> None:
    """Write the ReLU of x into it."""
    if not is_large(x) or not x.flags.c_contiguous:
        np.maximum(x, 0, out=x)
        return
    flat = x.reshape(-1)
    over_parts(lambda at: _rectify(flat[at], flat[at]), flat.size, short=True)


def relu_vjp(xp: Any, g: Array, needs: list[bool], y: Array) -> tuple[Array]:
    if not is_large(y):
        return (np.where(y > 0, g, np.zeros((), g.dtype)),)
    f = keep_positive if g.dtype.char in "fd" and g.dtype == y.dtype else keep_positive.plain
    return (elementwise(f, g, y, short=True),)


@sweep
def keep_positive(g: Array, y: Array, dx: Array) -> None:
    """Write g where y is positive, and 0 elsewhere."""
    above = np.greater(y, 0, out=scratch("above", y.shape, np.bool_))
    keep(g, above, dx)


def softmax_accepts(x: Array, *, axis: int) -> bool:
    return x.size > 0 and x.ndim > 0 and x.dtype.kind == "f"


def softmax(xp: Any, x: Array, *, axis: int) -> Array:
    y = empty(x.shape, x.dtype)

    def part(x: Array, y: Array, axis: int = -1) -> None:
        # A difference that overflows has the exponential 0, as it should; only the warning is
        # unwanted.
        with np.errstate(over="ignore"):
            np.subtract(x, maxima(x, axis), out=y)
        np.exp(y, out=y)
        y /= sums(y, axis)

    _over_rows(part, axis, x, y)
    return y


def softmax_vjp(xp: Any, g: Array, needs: list[bool], y: Array, axis: int) -> tuple[Array]:
    dx = empty(g.shape, g.dtype)

    def part(g: Array, y: Array, dx: Array, axis: int = -1) -> None:
        np.multiply(g, y, out=dx)
        np.subtract(g, sums(dx, axis), out=dx)
        dx *= y

    _over_rows(part, axis, g, y, dx)
    return (dx,)


def _over_rows(part: Any, axis: int, *xs: Array) -> None:
    """Call ``part`` on rows along the last axis, or once on arrays with another axis."""
    if axis not in (-1, xs[0].ndim - 1):
        part(*xs, axis)
        return
    rows = [x.reshape(-1, x.shape[-1]) for x in xs]
    over_parts(lambda at: part(*(x[at] for x in rows)), *rows[0].shape)
