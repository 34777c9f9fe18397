"""Kernels for CuPy: the names that primitives and optimizers look up."""

from __future__ import annotations

from xpnn.kernels.cupy_capture import Graph, address
from xpnn.kernels.cupy_rows import (
    normalize,
    normalize_accepts,
    normalize_vjp,
    softmax,
    softmax_accepts,
    softmax_cross_entropy,
    softmax_cross_entropy_accepts,
    softmax_cross_entropy_vjp,
    softmax_vjp,
)

__all__ = [
    "Graph",
    "address",
    "normalize",
    "normalize_accepts",
    "normalize_vjp",
    "softmax",
    "softmax_accepts",
    "softmax_cross_entropy",
    "softmax_cross_entropy_accepts",
    "softmax_cross_entropy_vjp",
    "softmax_vjp",
]
