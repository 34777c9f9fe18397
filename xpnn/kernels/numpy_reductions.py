"""Reductions that NumPy is slow at: over short rows, over columns, of few numbers.

Along an axis of ten numbers NumPy begins anew ten numbers later; a product with ones does not, and
neither does a maximum over the rows of the transpose: 4 us instead of 40 for 500 rows.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from xpnn.kernels.numpy_parts import is_large

__all__ = ["maxima", "mean", "mean_accepts", "mean_vjp", "ones", "sums"]

Array = Any

_SHORT = 64  # numbers of a row


@functools.lru_cache(maxsize=64)
def ones(n: int, dtype: Any) -> Array:
    """Return n ones, which are kept, and cannot be written."""
    x = np.ones(n, dtype)
    x.flags.writeable = False
    return x


def maxima(x: Array, axis: int = -1) -> Array:
    """Return the greatest numbers along an axis, which is kept."""
    if not _has_short_rows(x, axis):
        return np.maximum.reduce(x, axis=axis, keepdims=True)
    return np.maximum.reduce(x.T.copy(), axis=0)[:, None]


def sums(x: Array, axis: int = -1) -> Array:
    """Return the sums along an axis, which is kept."""
    if not _has_short_rows(x, axis) or x.dtype.char not in "fd":
        return np.add.reduce(x, axis=axis, keepdims=True)
    return (x @ ones(x.shape[1], x.dtype))[:, None]


def _has_short_rows(x: Array, axis: int) -> bool:
    return bool(x.ndim == 2 and axis in (-1, 1) and x.shape[1] <= _SHORT)


def mean_accepts(x: Array, *, axis: Any, keepdims: bool) -> bool:
    # Of a large one the gradient is better a view, which is read-only and repeats one number.
    return axis is None and not keepdims and x.dtype.char in "fd" and 0 < x.size and not is_large(x)


def mean(xp: Any, x: Array, *, axis: Any, keepdims: bool) -> Array:
    return np.add.reduce(x, axis=None) / x.dtype.type(x.size)


def mean_vjp(xp: Any, g: Array, needs: list[bool], x_shape: tuple[int, ...]) -> tuple[Array]:
    dx = np.empty(x_shape, g.dtype)
    dx.fill(g / dx.size)
    return (dx,)
