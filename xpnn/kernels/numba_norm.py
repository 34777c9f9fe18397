"""Compiled sweeps of batch normalization: each reads its block once."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from __future__ import annotations

import numpy as np
from numba import njit

__all__ = [
    *("deviations", "input_gradient", "products", "rectified", "rectified_gradient"),
    *("rectified_products", "scaled"),
]

_compile = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
_ZERO = np.float32(0)  # an integer would make doubles of what it stands beside


@_compile
def deviations(x, center, sums, squares):
    sums[:] = 0
    squares[:] = 0
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            d = x[i, j] - center[j]
            sums[j] += d
            squares[j] += d * d


@_compile
def scaled(x, center, factor, offset, y):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            y[i, j] = (x[i, j] - center[j]) * factor[j] + offset[j]


@_compile
def products(g, x, center, sums, products):
    sums[:] = 0
    products[:] = 0
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            sums[j] += g[i, j]
            products[j] += g[i, j] * (x[i, j] - center[j])


@_compile
def input_gradient(g, x, center, factor, slope, level, dx):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            dx[i, j] = factor[j] * g[i, j] - slope[j] * (x[i, j] - center[j]) - level[j]


@_compile
def rectified(x, center, factor, offset, y):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            value = (x[i, j] - center[j]) * factor[j] + offset[j]
            y[i, j] = _ZERO if value <= 0 else value


@_compile
def rectified_products(g, x, center, factor, offset, dx, sums, products):
    sums[:] = 0
    products[:] = 0
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            d = x[i, j] - center[j]
            kept = g[i, j] if d * factor[j] + offset[j] > 0 else _ZERO
            sums[j] += kept
            products[j] += kept * d


@_compile
def rectified_gradient(g, x, center, factor, offset, slope, level, dx):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            d = x[i, j] - center[j]
            kept = g[i, j] if d * factor[j] + offset[j] > 0 else _ZERO
            dx[i, j] = factor[j] * kept - slope[j] * d - level[j]
