"""``vecdot`` on CuPy: products of elements, and their sums.

A product of matrices would be one call, but cuBLASLt has none of integers or complex numbers, nor
of stacks that broadcast to each other, and CuPy's own cannot be captured.
"""

from __future__ import annotations

from typing import Any

from xpnn.kernels.cupy_launch import cupy, wide

__all__ = ["vecdot", "vecdot_accepts"]

Array = Any
_HALF = ("float16", "bfloat16")


def vecdot_accepts(x1: Array, x2: Array, *, axis: int) -> bool:
    """Whether the axis is the same one, and as long, in both; if not, others say what is wrong."""
    among = -min(x1.ndim, x2.ndim) <= axis < (0 if x1.ndim != x2.ndim else x1.ndim)
    return among and x1.shape[axis] == x2.shape[axis]


def vecdot(xp: Any, x1: Array, x2: Array, *, axis: int) -> Array:
    dtype = cupy().result_type(x1, x2)
    x1, x2 = _wide(x1), _wide(x2)
    products = (x1.conj() if x1.dtype.kind == "c" else x1) * x2
    return products.sum(axis=axis, dtype=products.dtype).astype(dtype, copy=False)


def _wide(x: Array) -> Array:
    """Return halves in float32: their products may be too large for 16 bits."""
    return x.astype(wide(x.dtype)) if x.dtype.name in _HALF else x
