r"""Compiled activation functions in float32, and their gradients.

The normal distribution function is as in :mod:`xpnn.primitives.special`,

.. math:: 2 \Phi(-a \sqrt 2) = \operatorname{erfc} a = \frac{e^{-a^2}}{1 + 2 a}\, P(s),
          \qquad s = A - \frac{B}{a + K}, \qquad a \ge 0,

and its density is made of the same exponential.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from __future__ import annotations

import math

import numpy as np
from numba import njit

from xpnn.kernels.numba_math import exp

__all__ = ["gelu", "gelu_tanh", "gelu_tanh_vjp", "gelu_vjp", "silu", "silu_vjp"]

_compile = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})

_single = np.float32
_K, _A, _B = _single(2.75), _single(1.5365853658536586), _single(6.975609756097561)
_P = tuple(
    _single(c)
    for c in (
        -1.378394307e-05, 5.380116467e-05, 0.0001917456623, -0.001030740623, -0.001042149288,
        0.01894740833, -0.06792239527, 0.1308535963, -0.1238657205, -0.05988975117, 1.281586613,
    )
)  # fmt: skip
_HALF, _ONE, _TWO, _SIXTEEN = _single(0.5), _single(1), _single(2), _single(16)
_ROUND = _single(1.5 * 2**23)  # what is added to it loses its fraction
_FAR = _single(40)  # where Phi is 0 or 1, and its density 0
_ROOT_HALF, _DENSITY = _single(math.sqrt(0.5)), _single(1 / math.sqrt(2 * math.pi))
_SLOPE, _CUBE = _single(2 * math.sqrt(2 / math.pi)), _single(0.044715)
_END, _THREE, _LOWEST = _single(10), _single(3), _single(-88)


@njit(inline="always")  # LLVM finds it too long, and vectorizes no loop with a call in it
def _normal(x):
    """Return Phi(x) and exp(-x**2 / 2), for abs(x) <= 40."""
    a = abs(x) * _ROOT_HALF
    # The square of a is rounded, which exp would magnify by a**2: so of h, which has few bits.
    h = ((a * _SIXTEEN + _ROUND) - _ROUND) / _SIXTEEN
    e = exp(-h * h) * exp((h - a) * (h + a))
    s = _A - _B / (a + _K)
    p = _P[0]
    p = p * s + _P[1]
    p = p * s + _P[2]
    p = p * s + _P[3]
    p = p * s + _P[4]
    p = p * s + _P[5]
    p = p * s + _P[6]
    p = p * s + _P[7]
    p = p * s + _P[8]
    p = p * s + _P[9]
    p = p * s + _P[10]
    below = _HALF * e * p / (_ONE + _TWO * a)
    return (_ONE - below if x > 0 else below), e


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def _within(x, bound):
    x = -bound if x < -bound else x
    return bound if x > bound else x


@_compile
def gelu(x, y):
    for i in range(len(x)):
        y[i] = x[i] * _normal(_within(x[i], _FAR))[0]


@_compile
def gelu_vjp(g, x, dx):
    for i in range(len(x)):
        c = _within(x[i], _FAR)
        phi, e = _normal(c)
        dx[i] = g[i] * (phi + c * e * _DENSITY)


@_compile
def gelu_tanh(x, y):
    # (1 + tanh u) / 2 = 1 / (1 + exp(-2 u))
    for i in range(len(x)):
        c = _within(x[i], _END)
        y[i] = (c if x[i] < 0 else x[i]) / (_ONE + exp(-_SLOPE * (c + _CUBE * c * c * c)))


@_compile
def gelu_tanh_vjp(g, x, dx):
    for i in range(len(x)):
        c = _within(x[i], _END)
        s = _ONE / (_ONE + exp(-_SLOPE * (c + _CUBE * c * c * c)))
        dx[i] = g[i] * (s + c * s * (_ONE - s) * _SLOPE * (_ONE + _THREE * _CUBE * c * c))


@_compile
def silu(x, y):
    for i in range(len(x)):
        c = _LOWEST if x[i] < _LOWEST else x[i]
        y[i] = c / (_ONE + exp(-c))


@_compile
def silu_vjp(g, x, dx):
    for i in range(len(x)):
        c = _LOWEST if x[i] < _LOWEST else x[i]
        s = _ONE / (_ONE + exp(-c))
        dx[i] = g[i] * (s * (_ONE + c * (_ONE - s)))
