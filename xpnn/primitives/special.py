r"""The error function, which the standard lacks, in functions of the standard.

Shepherd and Laframboise (1981, "Chebyshev approximation of :math:`(1 + 2x) e^{x^2}` erfc x in
:math:`0 \le x < \infty`") found one smooth function for all of the half-line, so that no element
takes a branch and every element costs one polynomial:

.. math:: \operatorname{erfc} a = \frac{e^{-a^2}}{1 + 2 a}\, P(s),
          \qquad s = A - \frac{B}{a + K} \in [-1, 1], \qquad a \ge 0.

The coefficients are our own: Chebyshev interpolation in 60 digits over what a dtype can hold, for
float64 up to a = 27.5 (degree 21, P is off by 6e-17), for float32 up to 10.25 (degree 10, 5e-9).
"""

from __future__ import annotations

import math
from typing import Any

from xpnn._dtypes import as_dtype
from xpnn.primitives.base import Primitive, primitive

Array = Any

# K, A, B and P, the highest power first
_DOUBLE = (
    4.0, 1.290909090909091, 9.163636363636364,
    (
        -4.976177333560382e-10, 9.468021410133234e-10, 7.160659034973482e-09,
        -1.6627133986121028e-08, -6.58339474020659e-08, 2.2939365522722576e-07,
        4.286515669968286e-07, -3.040877961422623e-06, 7.471087150652461e-07,
        3.320706443799359e-05, -0.0001008426855750114, -7.929252278868952e-05,
        0.0016926344897145852, -0.007561972805123552, 0.02191807950396563, -0.047630282365370154,
        0.08057331220113464, -0.10431241456054816, 0.09156840722356478, -0.017181569474475317,
        -0.12158418055296626, 1.2508036785977203,
    ),
)  # fmt: skip
_SINGLE = (
    2.75, 1.5365853658536586, 6.975609756097561,
    (
        -1.378394307e-05, 5.380116467e-05, 0.0001917456623, -0.001030740623, -0.001042149288,
        0.01894740833, -0.06792239527, 0.1308535963, -0.1238657205, -0.05988975117, 1.281586613,
    ),
)  # fmt: skip
# erf(x) / x as a polynomial in x**2, for |x| < 1/2, where 1 - erfc(x) would lose digits
_SMALL_DOUBLE = (
    1.4726381680017032e-06, -1.4845900896375835e-05, 0.00012053337222877719,
    -0.0008548297798086192, 0.005223977373542183, -0.026866170632921085, 0.11283791670925457,
    -0.37612638903183476, 1.1283791670955126,
)  # fmt: skip
_SMALL_SINGLE = (
    0.004719505354, -0.02675794433, 0.1128283473915, -0.3761260917334, 1.1283791656148,
)  # fmt: skip
_FAR = 28.0  # erfc is zero from here on, in every dtype
_SLOPE = 2 / math.sqrt(math.pi)  # of erf at 0


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Evaluate by Horner's rule, the highest power first."""
    y = x * coefficients[0] + coefficients[1]
    for c in coefficients[2:]:
        y = y * x + c
    return y


def _is_double(x: Array) -> bool:
    return as_dtype(x.dtype).name == "float64"


def _upper(xp: Any, a: Array) -> Array:
    """erfc(a) for 0 <= a <= 28."""
    k, shift, scale, coefficients = _DOUBLE if _is_double(a) else _SINGLE
    p = _polynomial(shift - scale / (a + k), coefficients)
    # The square of a is rounded, which exp would magnify by a**2: so of h, which has few bits.
    h = xp.floor(a * 16) * 0.0625
    return p * xp.exp(-h * h) * xp.exp((h - a) * (h + a)) / (1 + 2 * a)


@primitive(elementwise=True)
def erf(xp: Any, x: Array, /) -> Array:
    r"""Error function, :math:`\frac{2}{\sqrt\pi} \int_0^x e^{-t^2} dt`."""
    a = xp.minimum(xp.abs(x), _FAR)
    near = xp.minimum(a, 0.5)
    small = near * _polynomial(near * near, _SMALL_DOUBLE if _is_double(x) else _SMALL_SINGLE)
    return xp.sign(x) * xp.where(a < 0.5, small, 1 - _upper(xp, a))


@primitive(elementwise=True)
def erfc(xp: Any, x: Array, /) -> Array:
    """Complementary error function, 1 - erf(x), exact also where it is small."""
    y = _upper(xp, xp.minimum(xp.abs(x), _FAR))
    sign = xp.sign(x)
    return sign * y + (1 - sign)  # y or 2 - y: a choice by elements costs as much as y itself


def _bell(xp: Any, x: Array) -> Array:
    """The derivative of erf."""
    a = xp.minimum(xp.abs(x), _FAR)
    return _SLOPE * xp.exp(-a * a)


erf.d(lambda xp, g, x: g * _bell(xp, x))
erfc.d(lambda xp, g, x: -g * _bell(xp, x))


__all__ = [name for name, value in globals().items() if isinstance(value, Primitive)]
