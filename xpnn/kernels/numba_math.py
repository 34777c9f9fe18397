"""Mathematical functions for compiled loops.

The compiler vectorizes polynomials and integers; not the functions of a library, and not what
depends on the order of numbers that may be none.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

__all__ = ["exp", "largest", "options", "power_of_two"]

# Sums may be reordered; not a number and infinity must stay what they are.
options: Any = {
    "nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}
}  # fmt: skip

_single = np.float32
_LOG2E, _LOG2_HIGH, _LOG2_LOW = _single(1.44269504), _single(0.693359375), _single(-2.12194440e-4)
_ROUND = _single(1.5 * 2**23)  # what is added to it loses its fraction
_LOWEST, _HIGHEST = _single(-87.3), _single(88.3)
_TAYLOR = (1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
_C = tuple(_single(c) for c in _TAYLOR)
_ONE, _ZERO = _single(1), _single(0)


@intrinsic
def power_of_two(typing: Any, n: Any) -> Any:
    """Return 2**n in float32, for a float32 n that is whole, from -126 to 127: by its bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer, single = ir.IntType(32), ir.FloatType()
        exponent = builder.add(builder.fptosi(args[0], integer), ir.Constant(integer, 127))
        return builder.bitcast(builder.shl(exponent, ir.Constant(integer, 23)), single)

    return types.float32(types.float32), generate


def _between_orders(to_integer: bool) -> Any:
    """Return a compiled function to integers that are ordered as floats are, or back."""

    @intrinsic
    def convert(typing: Any, x: Any) -> Any:
        bits = x.bitwidth
        single = bits == 32
        floats = types.float32 if single else types.float64
        integers = types.int32 if single else types.int64

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = ir.IntType(bits)
            value = builder.bitcast(args[0], kind) if to_integer else args[0]
            sign = builder.ashr(value, ir.Constant(kind, bits - 1))
            flip = builder.and_(sign, ir.Constant(kind, 2 ** (bits - 1) - 1))
            value = builder.xor(value, flip)
            if to_integer:
                return value
            return builder.bitcast(value, ir.FloatType() if single else ir.DoubleType())

        return (integers(floats) if to_integer else floats(integers)), generate

    return convert


_ordered, _from_ordered = _between_orders(True), _between_orders(False)


@njit(nogil=True, error_model="numpy")
def largest(row):
    """Return the largest number: by integers, as the order of floats, NaN's, is no such thing."""
    top = _ordered(row[0])
    for j in range(len(row)):
        x = _ordered(row[j])
        top = x if x > top else top
    return _from_ordered(top)


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def _exp_single(x):
    # exp(x) = 2^n exp(r), |r| < log(2) / 2; a factor so small that it is subnormal is 0
    c = _HIGHEST if x > _HIGHEST else x
    n = (c * _LOG2E + _ROUND) - _ROUND
    r = c - n * _LOG2_HIGH
    r = r - n * _LOG2_LOW
    p = _C[0]
    p = p * r + _C[1]
    p = p * r + _C[2]
    p = p * r + _C[3]
    p = p * r + _C[4]
    p = p * r + _C[5]
    p = p * (r * r) + r + _ONE
    return _ZERO if x < _LOWEST else p * power_of_two(n)


def exp(x: Any) -> Any:
    """Return exp(x), for float32 from -87.3, below which it is 0, to 88.3."""
    return math.exp(x)


@overload(exp)
def _exp(x):
    if x == types.float32:
        return lambda x: _exp_single(x)
    return lambda x: math.exp(x)
