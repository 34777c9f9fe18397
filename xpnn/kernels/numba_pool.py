"""Compiled sweeps of max pooling with windows side by side: each reads its images once."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["tile_gradients", "tile_maxima"]

_compile = njit(nogil=True, cache=True, error_model="numpy")


@_compile
def tile_maxima(x, y):
    down, across = x.shape[1] // y.shape[1], x.shape[2] // y.shape[2]
    for n in range(y.shape[0]):
        for h in range(y.shape[1]):
            for w in range(y.shape[2]):
                for k in range(y.shape[3]):
                    y[n, h, w, k] = x[n, h * down, w * across, k]
                for i in range(down):
                    for j in range(across):
                        for k in range(y.shape[3]):
                            a, b = x[n, h * down + i, w * across + j, k], y[n, h, w, k]
                            y[n, h, w, k] = b if a <= b or b != b else a


@_compile
def tile_gradients(x, y, g, dx):
    down, across = x.shape[1] // y.shape[1], x.shape[2] // y.shape[2]
    free = np.empty(y.shape[3], np.int32)
    for n in range(y.shape[0]):
        for h in range(y.shape[1]):
            for w in range(y.shape[2]):
                free[:] = 1
                for i in range(down):
                    for j in range(across):
                        for k in range(y.shape[3]):
                            miss = x[n, h * down + i, w * across + j, k] < y[n, h, w, k]
                            hit = free[k] > miss
                            free[k] = free[k] & miss
                            dx[n, h * down + i, w * across + j, k] = g[n, h, w, k] if hit else 0
