"""The differentiable functions of neural networks: of Tensors Tensors, of raw arrays raw arrays.

Every function takes the arrays of one library. On torch or JAX arrays it is made of their functions
alone, so their own differentiation goes through it.
"""

from __future__ import annotations

from xpnn.functional.images import avg_pool2d, conv2d, max_pool2d
from xpnn.functional.neural import (
    dropout,
    linear,
    log_softmax,
    logsumexp,
    relu,
    sigmoid,
    softmax,
    softmax_cross_entropy,
    tanh,
)
from xpnn.functional.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
)

__all__ = [
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "dropout",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "linear",
    "log_softmax",
    "logsumexp",
    "max_pool2d",
    "relu",
    "rms_norm",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "tanh",
]
