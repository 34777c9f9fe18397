"""Compiled sweeps of batch normalization: each reads its block once."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from __future__ import annotations

from numba import njit

__all__ = ["deviations", "input_gradient", "products", "scaled"]

_compile = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})


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
