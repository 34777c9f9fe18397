"""Kernels for NumPy: the names that primitives and optimizers look up."""

from __future__ import annotations

from xpnn.kernels.numpy_conv import conv2d, conv2d_accepts, conv2d_vjp
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
from xpnn.kernels.numpy_norm import batch_norm, batch_norm_accepts, batch_norm_vjp
from xpnn.kernels.numpy_optim import adam_update, sgd_update
from xpnn.kernels.numpy_pool import (
    avg_pool2d,
    avg_pool2d_accepts,
    avg_pool2d_vjp,
    max_pool2d,
    max_pool2d_accepts,
    max_pool2d_vjp,
)

__all__ = [
    "adam_update",
    "avg_pool2d",
    "avg_pool2d_accepts",
    "avg_pool2d_vjp",
    "batch_norm",
    "batch_norm_accepts",
    "batch_norm_vjp",
    "conv2d",
    "conv2d_accepts",
    "conv2d_vjp",
    "dropout",
    "dropout_vjp",
    "linear",
    "linear_vjp",
    "max_pool2d",
    "max_pool2d_accepts",
    "max_pool2d_vjp",
    "relu",
    "relu_vjp",
    "sgd_update",
    "softmax_cross_entropy",
    "softmax_cross_entropy_vjp",
]
