"""Compiled sweeps of layer normalization: a row is read from memory once, and written once."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from __future__ import annotations

import math

from numba import njit

from xpnn.kernels.numba_math import options

__all__ = ["rows_differentiated", "rows_normalized"]


@njit(**options)
def rows_normalized(x, scale, shift, epsilon, centered, y, mean, inverse):
    zero, one, n = x.dtype.type(0), x.dtype.type(1), x.dtype.type(x.shape[1])
    for i in range(len(x)):
        row, out = x[i], y[i]
        center = zero
        if centered:
            for j in range(len(row)):
                center += row[j]
            center /= n
        squares = zero
        for j in range(len(row)):
            deviation = row[j] - center
            squares += deviation * deviation
        factor = one / math.sqrt(squares / n + epsilon)
        for j in range(len(row)):
            out[j] = (row[j] - center) * factor * scale[j] + shift[j]
        mean[i] = center
        inverse[i] = factor


@njit(**options)
def rows_differentiated(g, x, scale, mean, inverse, centered, dx, d_scale, d_shift):
    zero, n = x.dtype.type(0), x.dtype.type(x.shape[1])
    for i in range(len(x)):
        row, slope, out = x[i], g[i], dx[i]
        center, factor = mean[i], inverse[i]
        level = along = zero
        for j in range(len(row)):
            h = slope[j] * scale[j]
            level += h
            along += h * ((row[j] - center) * factor)
        level = level / n if centered else zero
        along /= n
        for j in range(len(row)):
            normal = (row[j] - center) * factor
            out[j] = (slope[j] * scale[j] - level - normal * along) * factor
        for j in range(len(row)):
            d_scale[j] += slope[j] * ((row[j] - center) * factor)
        for j in range(len(row)):
            d_shift[j] += slope[j]
