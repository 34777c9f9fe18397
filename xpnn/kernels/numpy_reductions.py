"""NumPy kernel of the mean of all numbers of a small array, in which a loss of examples ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn.kernels.numpy_parts import is_large

__all__ = ["mean", "mean_accepts", "mean_vjp"]

Array = Any


def mean_accepts(x: Array, *, axis: Any, keepdims: bool) -> bool:
    # Of a large one the gradient is better a view, which is read-only and repeats one number.
    return axis is None and not keepdims and x.dtype.char in "fd" and 0 < x.size and not is_large(x)


def mean(xp: Any, x: Array, *, axis: Any, keepdims: bool) -> Array:
    return np.add.reduce(x, axis=None) / x.dtype.type(x.size)


def mean_vjp(xp: Any, g: Array, needs: list[bool], x_shape: tuple[int, ...]) -> tuple[Array]:
    dx = np.empty(x_shape, g.dtype)
    dx.fill(g / dx.size)
    return (dx,)
