"""Compiled sweeps of the affine map: what comes with its products, in one."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["add_and_rectify", "keep_positive_and_sum"]

_ZERO = np.float32(0)  # an integer would make doubles of what it stands beside
_ROWS = 256  # whose sums are added up first, so that small numbers are not added to large ones


@njit(nogil=True, cache=True, error_model="numpy")
def add_and_rectify(y, bias):
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            value = y[i, j] + bias[j]
            y[i, j] = _ZERO if value <= 0 else value


@njit(nogil=True, cache=True, error_model="numpy")
def keep_positive_and_sum(g, y, dx, sums):
    n, m = g.shape
    few = np.empty(m, g.dtype)
    sums[:] = 0
    for first in range(0, n, _ROWS):
        few[:] = 0
        for i in range(first, min(first + _ROWS, n)):
            for j in range(m):
                kept = g[i, j] if y[i, j] > 0 else _ZERO
                dx[i, j] = kept
                few[j] += kept
        for j in range(m):
            sums[j] += few[j]
