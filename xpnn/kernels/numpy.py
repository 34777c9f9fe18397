"""Kernels for NumPy: the names that primitives and optimizers look up."""

from __future__ import annotations

import numpy as np

from xpnn import parallel
from xpnn.kernels import numpy_memory, sums
from xpnn.kernels.numpy_activations import (
    relu,
    relu_accepts,
    relu_in_place,
    relu_vjp,
    softmax,
    softmax_accepts,
    softmax_vjp,
)
from xpnn.kernels.numpy_attention import attention, attention_accepts, attention_vjp
from xpnn.kernels.numpy_conv import conv2d, conv2d_accepts, conv2d_vjp
from xpnn.kernels.numpy_elementwise import add, add_accepts, in_parts, in_parts_accepts, total
from xpnn.kernels.numpy_indexing import free_sums, scatter_add, scatter_add_vjp, sums_memory
from xpnn.kernels.numpy_layer_norm import normalize, normalize_accepts, normalize_vjp
from xpnn.kernels.numpy_losses import (
    softmax_cross_entropy,
    softmax_cross_entropy_accepts,
    softmax_cross_entropy_vjp,
)
from xpnn.kernels.numpy_neural import (
    dropout,
    dropout_accepts,
    dropout_vjp,
    linear,
    linear_relu,
    linear_relu_vjp,
    linear_vjp,
)
from xpnn.kernels.numpy_norm import batch_norm, batch_norm_accepts, batch_norm_vjp
from xpnn.kernels.numpy_optim import elementwise_update, gradient_norm
from xpnn.kernels.numpy_pool import (
    avg_pool2d,
    avg_pool2d_accepts,
    avg_pool2d_vjp,
    max_pool2d,
    max_pool2d_accepts,
    max_pool2d_vjp,
)
from xpnn.kernels.numpy_products import matmul, matmul_accepts, matmul_vjp
from xpnn.kernels.numpy_recurrent import (
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
from xpnn.kernels.numpy_reductions import mean, mean_accepts, mean_vjp

__all__ = [
    "add",
    "add_accepts",
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
    "conv2d_vjp",
    "dropout",
    "dropout_accepts",
    "dropout_vjp",
    "elementwise_update",
    "free_memory",
    "gradient_norm",
    "gru_scan",
    "gru_scan_accepts",
    "gru_scan_vjp",
    "in_parts",
    "in_parts_accepts",
    "linear",
    "linear_relu",
    "linear_relu_vjp",
    "linear_vjp",
    "lstm_scan",
    "lstm_scan_accepts",
    "lstm_scan_vjp",
    "matmul",
    "matmul_accepts",
    "matmul_vjp",
    "max_pool2d",
    "max_pool2d_accepts",
    "max_pool2d_vjp",
    "mean",
    "mean_accepts",
    "mean_vjp",
    "memory_stats",
    "normalize",
    "normalize_accepts",
    "normalize_vjp",
    "relu",
    "relu_accepts",
    "relu_in_place",
    "relu_vjp",
    "rnn_scan",
    "rnn_scan_accepts",
    "rnn_scan_vjp",
    "scatter_add",
    "scatter_add_vjp",
    "softmax",
    "softmax_accepts",
    "softmax_cross_entropy",
    "softmax_cross_entropy_accepts",
    "softmax_cross_entropy_vjp",
    "softmax_vjp",
]


sums[np.ndarray] = total


def free_memory() -> None:
    """Give back all memory that no array is in."""
    free_sums()
    numpy_memory.free_memory()


def memory_stats() -> dict[str, int]:
    """Return bytes held, in use and as scratch, and how often memory was asked for and reused."""
    stats = numpy_memory.memory_stats()
    held, used = sums_memory()
    return {**stats, "held": stats["held"] + held, "in_use": stats["in_use"] + used}


def _keep_freed_memory() -> None:
    """Let the C library keep what arrays give back, for the arrays of the next step.

    glibc returns freed memory to the system as soon as more than a threshold of it lies at the top
    of the heap; a training step of a few megabytes then pays for the same pages again and again, a
    fifth of its time. The threshold is twice the largest block that was mapped for itself and freed
    again, 32 MB at most. Such a block, whose pages nobody touches, costs nothing; elsewhere than in
    glibc it does nothing.
    """
    np.empty(2**25 - 2**16, dtype=np.uint8)


_keep_freed_memory()
parallel.heed_environment()
