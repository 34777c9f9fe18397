"""Kernels for NumPy: the names that primitives and optimizers look up."""

from __future__ import annotations

from xpnn.kernels.numpy_neural import (
    dropout,
    dropout_vjp,
    linear,
    linear_vjp,
    relu,
    relu_vjp,
    softmax_cross_entropy,
    softmax_cross_entropy_vjp,
)

__all__ = [
    "dropout",
    "dropout_vjp",
    "linear",
    "linear_vjp",
    "relu",
    "relu_vjp",
    "softmax_cross_entropy",
    "softmax_cross_entropy_vjp",
]
