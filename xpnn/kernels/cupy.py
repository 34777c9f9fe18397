"""Kernels for CuPy: the names that primitives and optimizers look up."""

from __future__ import annotations

from xpnn._cuda import free_memory, memory_stats
from xpnn.kernels.cupy_capture import Graph, address
from xpnn.kernels.cupy_conv import (
    conv2d,
    conv2d_accepts,
    conv2d_relu,
    conv2d_relu_accepts,
    conv2d_relu_vjp,
    conv2d_vjp,
)
from xpnn.kernels.cupy_elementwise import fused
from xpnn.kernels.cupy_norm import batch_norm, batch_norm_accepts, batch_norm_vjp
from xpnn.kernels.cupy_pool import (
    avg_pool2d,
    avg_pool2d_accepts,
    avg_pool2d_vjp,
    max_pool2d,
    max_pool2d_accepts,
    max_pool2d_vjp,
)
from xpnn.kernels.cupy_products import (
    linear,
    linear_accepts,
    linear_relu,
    linear_relu_accepts,
    linear_relu_vjp,
    linear_vjp,
    matmul,
    matmul_accepts,
    matmul_vjp,
    relu_in_place,
    sigmoid_in_place,
    tanh_in_place,
)
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
    "avg_pool2d",
    "avg_pool2d_accepts",
    "avg_pool2d_vjp",
    "batch_norm",
    "batch_norm_accepts",
    "batch_norm_vjp",
    "conv2d",
    "conv2d_accepts",
    "conv2d_relu",
    "conv2d_relu_accepts",
    "conv2d_relu_vjp",
    "conv2d_vjp",
    "free_memory",
    "fused",
    "linear",
    "linear_accepts",
    "linear_relu",
    "linear_relu_accepts",
    "linear_relu_vjp",
    "linear_vjp",
    "matmul",
    "matmul_accepts",
    "matmul_vjp",
    "max_pool2d",
    "max_pool2d_accepts",
    "max_pool2d_vjp",
    "memory_stats",
    "normalize",
    "normalize_accepts",
    "normalize_vjp",
    "relu_in_place",
    "sigmoid_in_place",
    "softmax",
    "softmax_accepts",
    "softmax_cross_entropy",
    "softmax_cross_entropy_accepts",
    "softmax_cross_entropy_vjp",
    "softmax_vjp",
    "tanh_in_place",
]
