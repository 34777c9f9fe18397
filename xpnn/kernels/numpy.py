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
from xpnn.kernels.numpy_optim import adam_update, sgd_update

__all__ = [
    "adam_update",
    "dropout",
    "dropout_vjp",
    "linear",
    "linear_vjp",
    "relu",
    "relu_vjp",
    "sgd_update",
    "softmax_cross_entropy",
    "softmax_cross_entropy_vjp",
]
