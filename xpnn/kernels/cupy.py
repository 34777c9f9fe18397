"""Kernels for CuPy: the names that primitives and optimizers look up."""

from __future__ import annotations

from xpnn._cuda import free_memory, memory_stats
from xpnn.kernels.cupy_attention import attention, attention_accepts, attention_vjp
from xpnn.kernels.cupy_capture import Graph, Room, address
from xpnn.kernels.cupy_conv import (
    conv2d,
    conv2d_accepts,
    conv2d_relu,
    conv2d_relu_accepts,
    conv2d_relu_vjp,
    conv2d_vjp,
)
from xpnn.kernels.cupy_dropout import (
    alpha_dropout,
    alpha_dropout_accepts,
    dropout,
    dropout_accepts,
)
from xpnn.kernels.cupy_elementwise import fused
from xpnn.kernels.cupy_embedding import (
    scatter_add,
    scatter_add_accepts,
    scatter_add_vjp,
    take,
    take_accepts,
    take_vjp,
)
from xpnn.kernels.cupy_layer_norm import normalize, normalize_accepts, normalize_vjp
from xpnn.kernels.cupy_norm import batch_norm, batch_norm_accepts, batch_norm_vjp
from xpnn.kernels.cupy_norms import global_factor, gradient_norm
from xpnn.kernels.cupy_optim import elementwise_update
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
from xpnn.kernels.cupy_recurrent import (
    gru_scan,
    gru_scan_accepts,
    gru_scan_vjp,
    lstm_scan,
    lstm_scan_accepts,
    lstm_scan_vjp,
    rnn_scan,
    rnn_scan_accepts,
    rnn_scan_vjp,
)
from xpnn.kernels.cupy_rows import (
    log_softmax,
    log_softmax_accepts,
    log_softmax_vjp,
    softmax,
    softmax_accepts,
    softmax_cross_entropy,
    softmax_cross_entropy_accepts,
    softmax_cross_entropy_vjp,
    softmax_vjp,
)
from xpnn.kernels.cupy_scaling import adapt_scale, any_overflow
from xpnn.kernels.cupy_tensordot import tensordot, tensordot_accepts, tensordot_vjp
from xpnn.kernels.cupy_upload import Upload

__all__ = [
    "Graph",
    "Room",
    "Upload",
    "adapt_scale",
    "address",
    "alpha_dropout",
    "alpha_dropout_accepts",
    "any_overflow",
    "attention",
    "attention_accepts",
    "attention_vjp",
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
    "dropout",
    "dropout_accepts",
    "elementwise_update",
    "free_memory",
    "fused",
    "global_factor",
    "gradient_norm",
    "gru_scan",
    "gru_scan_accepts",
    "gru_scan_vjp",
    "linear",
    "linear_accepts",
    "linear_relu",
    "linear_relu_accepts",
    "linear_relu_vjp",
    "linear_vjp",
    "log_softmax",
    "log_softmax_accepts",
    "log_softmax_vjp",
    "lstm_scan",
    "lstm_scan_accepts",
    "lstm_scan_vjp",
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
    "rnn_scan",
    "rnn_scan_accepts",
    "rnn_scan_vjp",
    "scatter_add",
    "scatter_add_accepts",
    "scatter_add_vjp",
    "sigmoid_in_place",
    "softmax",
    "softmax_accepts",
    "softmax_cross_entropy",
    "softmax_cross_entropy_accepts",
    "softmax_cross_entropy_vjp",
    "softmax_vjp",
    "take",
    "take_accepts",
    "take_vjp",
    "tanh_in_place",
    "tensordot",
    "tensordot_accepts",
    "tensordot_vjp",
]
