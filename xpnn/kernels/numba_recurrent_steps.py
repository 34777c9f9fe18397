"""Steps of recurrent networks, compiled: each reads and writes every array once, for float32.

Loops run over one row of one gate at a time, which stays in the first-level cache, and look at few
arrays each: with more of them the compiler no longer checks that they do not overlap, and does not
vectorize. See :mod:`xpnn.kernels.numpy_recurrent_steps` for what they compute.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["gru_back", "gru_slopes", "gru_step", "lstm_back", "lstm_slopes", "lstm_step"]

_FAST = {"contract", "reassoc", "nsz"}  # NaN and infinities are as they should be
_compile = njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST)

_HALF, _ONE = np.float32(0.5), np.float32(1)
_EDGE = np.float32(9.02)  # tanh is 1 from here on
# tanh x = x P(x^2) / Q(x^2) with a relative error of 2e-8, a weighted least-squares fit.
_P0, _P1, _P2, _P3, _P4 = np.array(
    [0.999999979, 0.133797191, 0.00349403584, 2.05834992e-05, 1.33190909e-08], np.float32
)
_Q1, _Q2, _Q3, _Q4 = np.array(
    [0.467130343, 0.0258710782, 0.00032830948, 7.76202848e-07], np.float32
)


@_compile
def _tanh(x):
    x = _EDGE if x > _EDGE else x  # a NaN is not greater
    x = -_EDGE if x < -_EDGE else x
    u = x * x
    p = (((_P4 * u + _P3) * u + _P2) * u + _P1) * u + _P0
    q = (((_Q4 * u + _Q3) * u + _Q2) * u + _Q1) * u + _ONE
    y = x * p / q
    y = _ONE if y > _ONE else y
    return -_ONE if y < -_ONE else y


@_compile
def _sigmoid(x):
    return _HALF * _tanh(_HALF * x) + _HALF


# ------------------------------------------------------------------------------------ LSTM


@_compile
def lstm_step(p, q, gates, c, new, squashed, h):
    n, hidden = h.shape
    for r in range(n):
        a, b = q[r], p[r]
        for j in range(a.size):
            a[j] += b[j]
        i, f, g, o = gates[0, r], gates[1, r], gates[2, r], gates[3, r]
        for j in range(hidden):
            i[j] = _sigmoid(a[j])
        for j in range(hidden):
            f[j] = _sigmoid(a[hidden + j])
        for j in range(hidden):
            g[j] = _tanh(a[2 * hidden + j])
        for j in range(hidden):
            o[j] = _sigmoid(a[3 * hidden + j])
        old, m, s, y = c[r], new[r], squashed[r], h[r]
        for j in range(hidden):
            m[j] = f[j] * old[j]
        for j in range(hidden):
            m[j] += i[j] * g[j]
        for j in range(hidden):
            s[j] = _tanh(m[j])
        for j in range(hidden):
            y[j] = o[j] * s[j]


@_compile
def lstm_slopes(gates, c, squashed, slopes, through):
    steps, n, hidden = c.shape
    for k in range(steps):
        for r in range(n):
            i, f, g, o = gates[k, 0, r], gates[k, 1, r], gates[k, 2, r], gates[k, 3, r]
            y = slopes[k, 0, r]
            for j in range(hidden):
                y[j] = i[j] * (_ONE - i[j]) * g[j]
            y, old = slopes[k, 1, r], c[k, r]
            for j in range(hidden):
                y[j] = f[j] * (_ONE - f[j]) * old[j]
            y = slopes[k, 2, r]
            for j in range(hidden):
                y[j] = (_ONE - g[j]) * (_ONE + g[j]) * i[j]
            y, s = slopes[k, 3, r], squashed[k, r]
            for j in range(hidden):
                y[j] = o[j] * (_ONE - o[j]) * s[j]
            y = through[k, r]
            for j in range(hidden):
                y[j] = (_ONE - s[j] * s[j]) * o[j]


@_compile
def lstm_back(slopes, through, f, g, dh, dc, da):
    n, hidden = dh.shape
    for r in range(n):
        d, a, m, s = dh[r], g[r], dc[r], through[r]
        for j in range(hidden):
            d[j] += a[j]
        for j in range(hidden):
            m[j] += s[j] * d[j]
        for k in range(3):
            y, s = da[r, k], slopes[k, r]
            for j in range(hidden):
                y[j] = s[j] * m[j]
        y, s = da[r, 3], slopes[3, r]
        for j in range(hidden):
            y[j] = s[j] * d[j]
        s = f[r]
        for j in range(hidden):
            m[j] *= s[j]


# ------------------------------------------------------------------------------------- GRU


@_compile
def gru_step(p, q, bias, gates, h, new):
    rows, hidden = h.shape
    for k in range(rows):
        a, b, x, y = q[k], p[k], h[k], new[k]
        r, z, n, inner = gates[0, k], gates[1, k], gates[2, k], gates[3, k]
        for j in range(2 * hidden):
            a[j] += b[j]
        for j in range(hidden):
            r[j] = _sigmoid(a[j])
        for j in range(hidden):
            z[j] = _sigmoid(a[hidden + j])
        for j in range(hidden):
            inner[j] = a[2 * hidden + j] + bias[j]
        for j in range(hidden):
            n[j] = r[j] * inner[j]
        for j in range(hidden):
            n[j] = _tanh(n[j] + b[2 * hidden + j])
        for j in range(hidden):
            y[j] = n[j] + z[j] * (x[j] - n[j])


@_compile
def gru_slopes(gates, before, slopes):
    steps, rows, hidden = before.shape
    for t in range(steps):
        for k in range(rows):
            r, z, n, inner = gates[t, 0, k], gates[t, 1, k], gates[t, 2, k], gates[t, 3, k]
            y = slopes[t, 0, k]
            for j in range(hidden):
                y[j] = r[j] * (_ONE - r[j]) * inner[j]
            y, h = slopes[t, 1, k], before[t, k]
            for j in range(hidden):
                y[j] = z[j] * (_ONE - z[j]) * (h[j] - n[j])
            y = slopes[t, 2, k]
            for j in range(hidden):
                y[j] = (_ONE - z[j]) * (_ONE - n[j] * n[j])


@_compile
def gru_back(slopes, gates, g, dh, past, da):
    rows, hidden = dh.shape
    for k in range(rows):
        d, a, y, z = dh[k], g[k], past[k], gates[1, k]
        for j in range(hidden):
            d[j] += y[j] + a[j]
        d_inner, d_r, d_z, d_n = da[k, 0], da[k, 1], da[k, 2], da[k, 3]
        s = slopes[1, k]
        for j in range(hidden):
            d_z[j] = s[j] * d[j]
        s = slopes[2, k]
        for j in range(hidden):
            d_n[j] = s[j] * d[j]
        s = slopes[0, k]
        for j in range(hidden):
            d_r[j] = s[j] * d_n[j]
        r = gates[0, k]
        for j in range(hidden):
            d_inner[j] = r[j] * d_n[j]
        for j in range(hidden):
            y[j] = z[j] * d[j]
