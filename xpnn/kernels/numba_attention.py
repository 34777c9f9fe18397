"""Compiled sweeps over the rows of attention weights: each row stays in a first-level cache."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from __future__ import annotations

import math

from numba import njit

from xpnn.kernels.numba_math import exp, largest, options

__all__ = ["probabilities", "slopes", "weights"]


@njit(**options)
def weights(s, keep, gain, logarithm):
    zero, one = s.dtype.type(0), s.dtype.type(1)
    for i in range(len(s)):
        row = s[i]
        top = largest(row)
        if top == -math.inf:
            top = zero
        added = zero
        for j in range(len(row)):
            e = exp(row[j] - top)
            row[j] = e
            added += e
        if added == 0:
            added = one
        logarithm[i] = math.log(added) + top
        factor = gain / added
        for j in range(len(row)):
            row[j] *= factor
        if keep.size:
            _drop(row, keep[i], row)


@njit(**options)
def probabilities(s, keep, logarithm, dropped):
    for i in range(len(s)):
        row = s[i]
        for j in range(len(row)):
            row[j] = exp(row[j] - logarithm[i])
        if keep.size:
            _drop(row, keep[i], dropped[i])


@njit(**options)
def slopes(p, keep, lost, ds):
    for i in range(len(p)):
        row = ds[i]
        if keep.size:
            _drop(row, keep[i], row)
        for j in range(len(row)):
            row[j] = p[i, j] * (row[j] - lost[i])


@njit(**options)
def _drop(row, keep, out):
    zero = row.dtype.type(0)
    for j in range(len(row)):
        out[j] = row[j] if keep[j] else zero
