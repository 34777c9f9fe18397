"""How arrays of a primitive have to lie for kernels, whatever their library."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["normalizes_rows"]

Array = Any


def normalizes_rows(x: Array, vectors: tuple[Array | None, ...], axes: tuple[int, ...]) -> bool:
    """Return whether axes are the last ones, and vectors of their lengths and of the dtype of x.

    Then a normalization over the axes is one of rows, with an element of each vector a column.
    """
    last = x.ndim - len(axes)
    if x.size == 0 or sorted(a % x.ndim for a in axes) != list(range(last, x.ndim)):
        return False
    lengths = x.shape[last:]
    n = math.prod(lengths)
    return all(
        v is None or (v.dtype == x.dtype and v.shape[-len(axes) :] == lengths and v.size == n)
        for v in vectors
    )
