"""Element-wise functions: a row each, its derivative beside it.

For complex numbers a gradient is dL/dRe + i dL/dIm, so a holomorphic f pulls g back to
g * conj(f'(x)); :func:`_c` is that conj, and does nothing to real numbers. Where two arguments tie
(``maximum``, ``minimum``) each takes half of the gradient.
"""

from __future__ import annotations

import cmath
import math
import operator
from collections.abc import Callable
from typing import Any

from xpnn._dtypes import as_dtype
from xpnn.primitives.base import Primitive, cast, primitive

Array = Any


def _c(xp: Any, x: Any) -> Any:
    """Conjugate of a complex array or scalar; a real one as it is, without a copy."""
    if isinstance(x, (int, float, complex)):
        return x.conjugate()
    return xp.conj(x) if as_dtype(x.dtype).kind == "c" else x


def unary(name: str, doc: str, rule: Callable[..., Any] | None = None) -> Primitive:
    """Make a primitive of the namespace's function ``name`` of one array."""

    def forward(xp: Any, x: Array, /) -> Array:
        return getattr(xp, name)(x)

    forward.__name__, forward.__doc__ = name, doc
    return Primitive(forward).d(rule)


def binary(
    name: str,
    doc: str,
    rule1: Callable[..., Any] | None = None,
    rule2: Callable[..., Any] | None = None,
    *,
    symbol: Callable[[Any, Any], Any] | None = None,
) -> Primitive:
    """Make a primitive of the function ``name`` of two arrays, or of the operator that it is.

    An operator costs less than the function of the same name and takes scalars on both sides.
    """

    def by_name(xp: Any, x1: Array, x2: Array, /) -> Array:
        return getattr(xp, name)(x1, x2)

    def by_symbol(xp: Any, x1: Array, x2: Array, /) -> Array:
        return symbol(x1, x2)  # type: ignore[misc]

    forward = by_name if symbol is None else by_symbol
    forward.__name__, forward.__doc__ = name, doc
    return Primitive(forward, broadcasts=True).d(rule1, rule2)


# ------------------------------------------------------------------------------- arithmetic


def _pow_base(xp: Any, g: Array, x1: Array, x2: Array) -> Array:
    if isinstance(x2, (int, float, complex)):
        return xp.zeros_like(g) if x2 == 0 else g * _c(xp, x2 * x1 ** (x2 - 1))
    at_zero = (x1 == 0) & (x2 == 0)  # x**0 is 1 everywhere, also at x = 0
    return g * _c(xp, x2 * x1 ** xp.where(at_zero, xp.ones_like(x2), x2 - 1))


def _pow_exponent(xp: Any, g: Array, y: Array, x1: Array) -> Array:
    if isinstance(x1, (int, float, complex)):
        if x1 == 0:  # 0**x is 0 around any x > 0
            return xp.zeros_like(g)
        rate: complex = cmath.log(x1)
        if as_dtype(y.dtype).kind != "c":
            rate = rate.real if rate.imag == 0 else math.nan  # a negative number, to a real power
        return g * _c(xp, y * rate)
    safe = xp.where(x1 == 0, xp.ones_like(x1), x1)
    return g * _c(xp, y * xp.log(safe))


def _share(xp: Any, g: Array, wins: Array, ties: Array) -> Array:
    return xp.where(ties, g / 2, xp.where(wins, g, 0.0))


add = binary(
    "add", "Sum of two arrays.",
    lambda xp, g: g, lambda xp, g: g, symbol=operator.add,
)  # fmt: skip
subtract = binary(
    "subtract", "Difference of two arrays.",
    lambda xp, g: g, lambda xp, g: -g, symbol=operator.sub,
)  # fmt: skip
multiply = binary(
    "multiply", "Product of two arrays.",
    lambda xp, g, x2: g * _c(xp, x2), lambda xp, g, x1: g * _c(xp, x1), symbol=operator.mul,
)  # fmt: skip
divide = binary(
    "divide", "Quotient of two arrays.",
    lambda xp, g, x2: g / _c(xp, x2),
    lambda xp, g, y, x2: -g * _c(xp, y / x2), symbol=operator.truediv,
)  # fmt: skip
pow = binary(
    "pow", "Power of two arrays, ``x1 ** x2``.", _pow_base, _pow_exponent, symbol=operator.pow,
)  # fmt: skip
remainder = binary(
    "remainder", "Remainder of a division, with the sign of ``x2``.",
    lambda xp, g: g, lambda xp, g, x1, x2: -g * xp.floor(x1 / x2), symbol=operator.mod,
)  # fmt: skip
atan2 = binary(
    "atan2", "Angle of the point (x2, x1), in radians.",
    lambda xp, g, x1, x2: g * x2 / (x1 * x1 + x2 * x2),
    lambda xp, g, x1, x2: -g * x1 / (x1 * x1 + x2 * x2),
)  # fmt: skip
hypot = binary(
    "hypot", "Length of the vector (x1, x2).",
    lambda xp, g, y, x1: g * (x1 / xp.where(y == 0, xp.ones_like(y), y)),
    lambda xp, g, y, x2: g * (x2 / xp.where(y == 0, xp.ones_like(y), y)),
)  # fmt: skip
copysign = binary(
    "copysign", "Magnitude of ``x1`` with the sign of ``x2``.",
    lambda xp, g, y, x1: xp.where(xp.signbit(y) == xp.signbit(x1), g, -g), None,
)  # fmt: skip
logaddexp = binary(
    "logaddexp", "log(exp(x1) + exp(x2)), without overflow.",
    lambda xp, g, y, x1: g * xp.exp(x1 - y), lambda xp, g, y, x2: g * xp.exp(x2 - y),
)  # fmt: skip
maximum = binary(
    "maximum", "Larger of two arrays.",
    lambda xp, g, x1, x2: _share(xp, g, x1 > x2, x1 == x2),
    lambda xp, g, x1, x2: _share(xp, g, x2 > x1, x1 == x2),
)  # fmt: skip
minimum = binary(
    "minimum", "Smaller of two arrays.",
    lambda xp, g, x1, x2: _share(xp, g, x1 < x2, x1 == x2),
    lambda xp, g, x1, x2: _share(xp, g, x2 < x1, x1 == x2),
)  # fmt: skip

# --------------------------------------------------------------------------- one array, smooth


def _abs_vjp(xp: Any, g: Array, y: Array, x: Array) -> Array:
    if as_dtype(x.dtype).kind != "c":
        return g * xp.sign(x)
    return g * (x / xp.where(y == 0, xp.ones_like(y), y))


abs = unary("abs", "Absolute value.", _abs_vjp)
acos = unary("acos", "Inverse cosine.", lambda xp, g, x: -g / _c(xp, xp.sqrt(1 - x * x)))
acosh = unary(
    "acosh", "Inverse hyperbolic cosine.",
    lambda xp, g, x: g / _c(xp, xp.sqrt(x - 1) * xp.sqrt(x + 1)),
)  # fmt: skip
asin = unary("asin", "Inverse sine.", lambda xp, g, x: g / _c(xp, xp.sqrt(1 - x * x)))
asinh = unary("asinh", "Inverse hyperbolic sine.", lambda xp, g, x: g / _c(xp, xp.sqrt(x * x + 1)))
atan = unary("atan", "Inverse tangent.", lambda xp, g, x: g / _c(xp, 1 + x * x))
atanh = unary("atanh", "Inverse hyperbolic tangent.", lambda xp, g, x: g / _c(xp, 1 - x * x))
cos = unary("cos", "Cosine.", lambda xp, g, x: -g * _c(xp, xp.sin(x)))
cosh = unary("cosh", "Hyperbolic cosine.", lambda xp, g, x: g * _c(xp, xp.sinh(x)))
exp = unary("exp", "Exponential.", lambda xp, g, y: g * _c(xp, y))


@primitive()
def expm1(xp: Any, x: Array, /) -> Array:
    """exp(x) - 1, exact near 0."""
    y = xp.expm1(x)
    if as_dtype(x.dtype).kind == "c":  # the standard wants +0 for both real zeros; NumPy gives -0
        zero = xp.zeros_like(x)
        y = xp.where(x == 0, xp.where(xp.signbit(xp.imag(x)), xp.conj(zero), zero), y)
    return y


expm1.d(lambda xp, g, y: g * _c(xp, y + 1))
log = unary("log", "Natural logarithm.", lambda xp, g, x: g / _c(xp, x))
log1p = unary("log1p", "log(1 + x), exact near 0.", lambda xp, g, x: g / _c(xp, 1 + x))
log2 = unary("log2", "Logarithm to base 2.", lambda xp, g, x: g / _c(xp, x * math.log(2)))
log10 = unary("log10", "Logarithm to base 10.", lambda xp, g, x: g / _c(xp, x * math.log(10)))
negative = unary("negative", "Negative of each element.", lambda xp, g: -g)
positive = unary("positive", "Each element as it is.", lambda xp, g: g)
reciprocal = unary("reciprocal", "1 / x.", lambda xp, g, y: -g * _c(xp, y * y))
sin = unary("sin", "Sine.", lambda xp, g, x: g * _c(xp, xp.cos(x)))
sinh = unary("sinh", "Hyperbolic sine.", lambda xp, g, x: g * _c(xp, xp.cosh(x)))
sqrt = unary("sqrt", "Square root.", lambda xp, g, y: g / _c(xp, 2 * y))
square = unary("square", "Square.", lambda xp, g, x: g * _c(xp, 2 * x))
tan = unary("tan", "Tangent.", lambda xp, g, y: g * _c(xp, 1 + y * y))
tanh = unary("tanh", "Hyperbolic tangent.", lambda xp, g, y: g * _c(xp, 1 - y * y))


@primitive()
def complex_sign(xp: Any, x: Array, /) -> Array:
    """Direction of complex numbers, x / abs(x)."""
    return xp.sign(x)


def _complex_sign_vjp(xp: Any, g: Array, y: Array, x: Array) -> Array:
    # The part of g along y changes the length only: (g - y Re(conj(y) g)) / |x|.
    length = xp.abs(x)
    length = xp.where(length == 0, xp.ones_like(length), length)
    return (g - y * xp.real(xp.conj(y) * g)) / length


complex_sign.d(_complex_sign_vjp)
conj = unary("conj", "Complex conjugate.", lambda xp, g: xp.conj(g))
real = unary("real", "Real part.", lambda xp, g, x_dtype: xp.astype(g, x_dtype))


def _imag_vjp(xp: Any, g: Array, x_dtype: Any) -> Array:
    is_complex = as_dtype(x_dtype).kind == "c"
    return xp.astype(g, x_dtype) * 1j if is_complex else xp.zeros_like(g)


imag = unary("imag", "Imaginary part.", _imag_vjp)


@primitive(broadcasts=True)
def where(xp: Any, condition: Array, x1: Array, x2: Array, /) -> Array:
    """Elements of ``x1`` where ``condition`` holds, and of ``x2`` elsewhere."""
    return xp.where(condition, x1, x2)


where.d(
    None,
    lambda xp, g, condition: xp.where(condition, g, xp.zeros_like(g)),
    lambda xp, g, condition: xp.where(condition, xp.zeros_like(g), g),
)


@primitive(broadcasts=True)
def clip(xp: Any, x: Array, lower: Array | None, upper: Array | None, /) -> Array:
    """Elements of ``x``, moved into [lower, upper]; a bound is an array, a scalar or None."""
    return xp.clip(x, lower, upper)


def _inside(xp: Any, x: Array, lower: Any, upper: Any) -> Array:
    """Whether an element kept its value, so that the gradient goes to it and not to a bound."""
    kept = xp.ones_like(x, dtype=xp.bool)
    if lower is not None:
        kept = kept & (x >= lower)
    return kept if upper is None else kept & (x <= upper)


clip.d(
    lambda xp, g, x, lower, upper: xp.where(_inside(xp, x, lower, upper), g, xp.zeros_like(g)),
    lambda xp, g, x, lower, upper: xp.where(
        (x < lower) if upper is None else (x < lower) & (lower <= upper), g, xp.zeros_like(g)
    ),
    lambda xp, g, x, lower, upper: xp.where(
        (x > upper) if lower is None else (x > upper) | (lower > upper), g, xp.zeros_like(g)
    ),
)


@primitive()
def astype(xp: Any, x: Array, /, dtype: Any, *, copy: bool = True, device: Any = None) -> Array:
    """Cast ``x`` to ``dtype``."""
    return (
        xp.astype(x, dtype, copy=copy)
        if device is None
        else xp.astype(x, dtype, copy=copy, device=device)
    )


astype.d(lambda xp, g, x_dtype: cast(xp, g, x_dtype))

# ------------------------------------------------ without a derivative, or with derivative zero

_STEPS = {
    "ceil": "Round up.",
    "floor": "Round down.",
    "round": "Round to the nearest integer, halves to even.",
    "sign": "Sign; for complex numbers x / abs(x).",
    "trunc": "Round towards zero.",
    "bitwise_invert": "Invert each bit.",
    "isfinite": "Whether each element is finite.",
    "isinf": "Whether each element is infinite.",
    "isnan": "Whether each element is NaN.",
    "logical_not": "Whether each element is false.",
    "signbit": "Whether the sign bit is set.",
}
_STEPS_OF_TWO = {
    "bitwise_and": ("Bits set in both.", operator.and_),
    "bitwise_left_shift": ("Shift bits to the left.", operator.lshift),
    "bitwise_or": ("Bits set in either.", operator.or_),
    "bitwise_right_shift": ("Shift bits to the right.", operator.rshift),
    "bitwise_xor": ("Bits set in one only.", operator.xor),
    "equal": ("Whether two arrays are equal.", operator.eq),
    "floor_divide": ("Quotient, rounded down.", operator.floordiv),
    "greater": ("Whether ``x1 > x2``.", operator.gt),
    "greater_equal": ("Whether ``x1 >= x2``.", operator.ge),
    "less": ("Whether ``x1 < x2``.", operator.lt),
    "less_equal": ("Whether ``x1 <= x2``.", operator.le),
    "logical_and": ("Whether both are true.", None),
    "logical_or": ("Whether either is true.", None),
    "logical_xor": ("Whether one only is true.", None),
    "nextafter": ("Next number after ``x1`` towards ``x2``.", None),
    "not_equal": ("Whether two arrays differ.", operator.ne),
}
STEPS: dict[str, Primitive] = {name: unary(name, doc) for name, doc in _STEPS.items()} | {
    name: binary(name, doc, symbol=symbol) for name, (doc, symbol) in _STEPS_OF_TWO.items()
}

__all__ = [name for name, value in globals().items() if isinstance(value, Primitive)]
__all__ += ["STEPS", "binary", "unary"]
