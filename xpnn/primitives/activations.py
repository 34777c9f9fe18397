"""Activation functions: each keeps one array for its derivative.

None overflows for a finite argument, nor does its derivative, also not in a branch that is not
taken. A rule keeps the output where that tells the slope: the next layer keeps the same array, so
it costs no memory. Else it keeps the argument.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from xpnn._dtypes import as_dtype
from xpnn.errors import DTypeError
from xpnn.primitives import special
from xpnn.primitives.base import Primitive, primitive

Array = Any

_LARGEST = {
    "float16": 65504.0,
    "bfloat16": (2 - 2.0**-7) * 2.0**127,
    "float32": (2 - 2.0**-23) * 2.0**127,
    "float64": sys.float_info.max,
}


def _largest(xp: Any, x: Array) -> float:
    """Return the largest finite number of the dtype of ``x``.

    Raises
    ------
    DTypeError
        If that is no dtype of real floating-point numbers.
    """
    dtype = as_dtype(x.dtype)
    if dtype.kind != "f":
        msg = f"expected real floating-point numbers for an activation, got {dtype}."
        raise DTypeError(msg)
    return _LARGEST[dtype.name]


# ------------------------------------------------------------------------------- rectifiers


@primitive()
def relu(xp: Any, x: Array, /) -> Array:
    """max(x, 0); the derivative at 0 is 0."""
    return xp.maximum(x, 0.0)


relu.d(lambda xp, g, y: xp.where(y > 0, g, xp.zeros_like(g)))


@primitive()
def leaky_relu(xp: Any, x: Array, /, *, alpha: float) -> Array:
    """max(x, alpha x), 0 <= alpha <= 1; the derivative at 0 is alpha."""
    return xp.maximum(x, alpha * x)


leaky_relu.d(lambda xp, g, y, alpha: xp.where(y > 0, g, alpha * g))


@primitive(broadcasts=True, elementwise=True)
def prelu(xp: Any, x: Array, alpha: Array, /) -> Array:
    """Leaky ReLU whose slope alpha is an array that broadcasts against x."""
    return xp.maximum(x, 0.0) + alpha * xp.minimum(x, 0.0)


prelu.d(
    lambda xp, g, x, alpha: xp.where(x > 0, g, alpha * g),
    lambda xp, g, x: g * xp.minimum(x, 0.0),
)


@primitive()
def elu(xp: Any, x: Array, /, *, alpha: float) -> Array:
    """max(x, 0) + alpha (exp(min(x, 0)) - 1), alpha > 0."""
    return xp.maximum(x, 0.0) + alpha * xp.expm1(xp.minimum(x, 0.0))


elu.d(lambda xp, g, y, alpha: g * xp.where(y > 0, 1.0, xp.minimum(y, 0.0) + alpha))

# The fixed point of Klambauer et al.: mean 0 and variance 1 stay so.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


@primitive()
def selu(xp: Any, x: Array, /) -> Array:
    """Scaled exponential linear unit; what would overflow is the largest number."""
    top = _largest(xp, x) / SELU_SCALE * (1 - 2 * float(xp.finfo(x.dtype).eps))
    above = SELU_SCALE * xp.minimum(xp.maximum(x, 0.0), top)
    return above + SELU_SCALE * SELU_ALPHA * xp.expm1(xp.minimum(x, 0.0))


selu.d(lambda xp, g, y: g * xp.where(y > 0, SELU_SCALE, y + SELU_SCALE * SELU_ALPHA))


# ------------------------------------------------------------------------- smooth rectifiers


def _within(xp: Any, x: Array, bound: float) -> Array:
    return xp.minimum(xp.maximum(x, -bound), bound)


@primitive(elementwise=True)
def gelu(xp: Any, x: Array, /) -> Array:
    r""":math:`x \Phi(x)`, the normal distribution function being :math:`\Phi`."""
    return 0.5 * x * special.erfc(xp, x * -math.sqrt(0.5))


def _gelu_vjp(xp: Any, g: Array, x: Array) -> Array:
    c = _within(xp, x, 40.0)  # where Phi is 0 or 1 and its density 0, in every dtype
    density = xp.exp(-0.5 * c * c) / math.sqrt(2 * math.pi)
    return g * (0.5 * special.erfc(xp, c * -math.sqrt(0.5)) + c * density)


gelu.d(_gelu_vjp)

_CUBE = 0.044715
_ROOT = math.sqrt(2 / math.pi)


def _gelu_gate(xp: Any, c: Array) -> Array:
    return xp.tanh(_ROOT * (c + _CUBE * c * c * c))


@primitive(elementwise=True)
def gelu_tanh(xp: Any, x: Array, /) -> Array:
    """GELU with tanh in place of the error function."""
    # tanh is 1 from |x| = 10 on; further out, the cube would overflow
    return 0.5 * x * (1 + _gelu_gate(xp, _within(xp, x, 10.0)))


def _gelu_tanh_vjp(xp: Any, g: Array, x: Array) -> Array:
    c = _within(xp, x, 10.0)
    t = _gelu_gate(xp, c)
    slope = _ROOT * (1 + 3 * _CUBE * c * c)
    return g * (0.5 * (1 + t) + 0.5 * c * (1 - t * t) * slope)


gelu_tanh.d(_gelu_tanh_vjp)


def _from_below(xp: Any, x: Array) -> Array:
    """max(x, -b), b the largest integer whose exponential is finite."""
    return xp.maximum(x, -float(math.floor(math.log(_largest(xp, x)))))


@primitive(elementwise=True)
def silu(xp: Any, x: Array, /) -> Array:
    """Sigmoid(x) times x, as x / (1 + exp(-x)): the tanh form loses digits for x << 0."""
    x = _from_below(xp, x)
    return x / (1 + xp.exp(-x))


def _silu_vjp(xp: Any, g: Array, x: Array) -> Array:
    x = _from_below(xp, x)
    s = 1 / (1 + xp.exp(-x))
    return g * (s * (1 + x * (1 - s)))


silu.d(_silu_vjp)


@primitive()
def softplus(xp: Any, x: Array, /) -> Array:
    """log(1 + exp(x)), as max(x, 0) + log1p(exp(-|x|))."""
    return xp.maximum(x, 0.0) + xp.log1p(xp.exp(-xp.abs(x)))


softplus.d(lambda xp, g, y: -g * xp.expm1(-y))  # sigmoid(x) = 1 - exp(-softplus(x))


@primitive(elementwise=True)
def mish(xp: Any, x: Array, /) -> Array:
    """Tanh of softplus(x), times x."""
    return x * xp.tanh(softplus(xp, x))


def _mish_vjp(xp: Any, g: Array, x: Array) -> Array:
    c = _within(xp, x, 1000.0)  # where the slope is 0 or 1; its own would overflow further out
    z = softplus(xp, c)
    t = xp.tanh(z)
    return g * (t - c * (1 - t * t) * xp.expm1(-z))


mish.d(_mish_vjp)


@primitive()
def exponential(xp: Any, x: Array, /) -> Array:
    """exp(x); where that would overflow, just below the largest number."""
    bound = math.log(_largest(xp, x)) * (1 - 2 * float(xp.finfo(x.dtype).eps))
    return xp.exp(xp.minimum(x, bound))


exponential.d(lambda xp, g, y: g * y)


# -------------------------------------------------------------------------------- sigmoids


@primitive()
def sigmoid(xp: Any, x: Array, /) -> Array:
    """1 / (1 + exp(-x)), as (tanh(x/2) + 1) / 2, which cannot overflow."""
    return 0.5 * xp.tanh(0.5 * x) + 0.5


sigmoid.d(lambda xp, g, y: g * (y * (1 - y)))


@primitive()
def hard_sigmoid(xp: Any, x: Array, /, *, slope: float) -> Array:
    """min(max(slope x + 1/2, 0), 1), slope > 0."""
    if slope > 1:  # the product could overflow
        x = _within(xp, x, 1 / slope)
    return xp.minimum(xp.maximum(slope * x + 0.5, 0.0), 1.0)


hard_sigmoid.d(lambda xp, g, y, slope: xp.where((y > 0) & (y < 1), slope * g, 0.0))

# Theano's pieces, in u = |x| / 2: a hyperbola up to 1.7, a chord up to 3, a constant.
_BEND, _END = 1.7, 3.0
_CHORD, _CHORD_SLOPE = 0.935409070603099, 0.0458812946797165


@primitive(elementwise=True)
def ultra_fast_sigmoid(xp: Any, x: Array, /) -> Array:
    """Theano's piecewise approximation of the sigmoid."""
    u = xp.minimum(0.5 * xp.abs(x), _END)
    chord = _CHORD + _CHORD_SLOPE * (u - _BEND)
    return 0.5 * (1 + xp.sign(x) * xp.where(u < _BEND, 1.5 * u / (1 + u), chord))


def _ultra_fast_sigmoid_vjp(xp: Any, g: Array, x: Array) -> Array:
    u = xp.minimum(0.5 * xp.abs(x), _END)
    r = 1 / (1 + u)
    chord = xp.where(u < _END, 0.25 * _CHORD_SLOPE * g, 0.0)
    return xp.where(u < _BEND, 0.375 * r * r * g, chord)


ultra_fast_sigmoid.d(_ultra_fast_sigmoid_vjp)


@primitive(elementwise=True)
def symmetric_elliot(xp: Any, x: Array, /, *, steepness: float) -> Array:
    """(s x) / (1 + |s x|), s > 0, as x / (1/s + |x|), which cannot overflow."""
    return x / (1 / steepness + xp.abs(x))


def _symmetric_elliot_vjp(xp: Any, g: Array, x: Array, steepness: float) -> Array:
    # of x and not of y, 1 - |y| loses digits: that these slopes decay slowly is their point
    c = 1 / steepness
    r = c / (c + xp.abs(x))
    return g * (steepness * r * r)


symmetric_elliot.d(_symmetric_elliot_vjp)


# --------------------------------------------------------------------------------- softmax


def _below_top(xp: Any, x: Array, axis: int) -> Array:
    """Return x less its maximum along an axis, the lowest finite number where that overflows."""
    largest, top = _largest(xp, x), xp.max(x, axis=axis, keepdims=True)
    # Only below a positive maximum can it overflow; elsewhere minus infinity stays what it is.
    lowest = xp.where(top > 0, xp.maximum(top, 0.0) - largest, -math.inf)
    return xp.maximum(x, lowest) - top


@primitive()
def softmax(xp: Any, x: Array, /, *, axis: int = -1) -> Array:
    """exp(x) over its sum along an axis; the largest element is subtracted first."""
    if not x.shape[axis]:
        return x  # nothing has no maximum
    shifted = xp.exp(_below_top(xp, x, axis))
    return shifted / xp.sum(shifted, axis=axis, keepdims=True)


softmax.d(lambda xp, g, y, axis: y * (g - xp.sum(g * y, axis=axis, keepdims=True)))


@primitive()
def log_softmax(xp: Any, x: Array, /, *, axis: int = -1) -> Array:
    """Logarithm of softmax, x - log(sum(exp(x))), without underflow."""
    if not x.shape[axis]:
        return x
    shifted = _below_top(xp, x, axis)
    y = shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))
    return xp.where(x == -math.inf, x, y)  # what is masked stays masked


log_softmax.d(lambda xp, g, y, axis: g - xp.exp(y) * xp.sum(g, axis=axis, keepdims=True))


__all__ = [name for name, value in globals().items() if isinstance(value, Primitive)]
__all__ += ["SELU_ALPHA", "SELU_SCALE"]
