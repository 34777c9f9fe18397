"""Compiled sweeps of activation functions."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["keep_positive"]

_ZERO = np.float32(0)  # an integer would make doubles of what it stands beside


@njit(nogil=True, cache=True, error_model="numpy")
def keep_positive(g, y, dx):
    for i in range(g.size):
        dx[i] = g[i] if y[i] > 0 else _ZERO
