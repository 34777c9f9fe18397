"""The differentiable functions of neural networks: of Tensors Tensors, of raw arrays raw arrays.

Every function takes the arrays of one library. On torch or JAX arrays it is made of their functions
alone, so their own differentiation goes through it.
"""

from __future__ import annotations

from xpnn.functional.attention import attention
from xpnn.functional.convolution import conv1d, conv2d, conv_output_shape
from xpnn.functional.embedding import embedding, embedding_bag
from xpnn.functional.fans import fans
from xpnn.functional.neural import (
    alpha_dropout,
    dropout,
    gaussian_noise,
    linear,
    logsumexp,
    softmax_cross_entropy,
)
from xpnn.functional.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
)
from xpnn.functional.pooling import (
    avg_pool1d,
    avg_pool2d,
    global_avg_pool,
    global_max_pool,
    max_pool1d,
    max_pool2d,
)
from xpnn.functional.rectifiers import (
    elu,
    exponential,
    gelu,
    leaky_relu,
    mish,
    prelu,
    relu,
    selu,
    silu,
    softplus,
)
from xpnn.functional.recurrent import gru, lstm, rnn
from xpnn.functional.recurrent_steps import (
    clip_gradient,
    gru_step,
    lstm_step,
    rnn_step,
    sequence_mask,
)
from xpnn.functional.sigmoids import (
    elliot,
    hard_sigmoid,
    log_softmax,
    sigmoid,
    softmax,
    softsign,
    symmetric_elliot,
    tanh,
    ultra_fast_sigmoid,
)
from xpnn.functional.special import erf, erfc
from xpnn.functional.transposed import (
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose_output_shape,
)
from xpnn.functional.windows import col2im, dilate, im2col, pad, same_padding, upsample2d

__all__ = [
    "alpha_dropout",
    "attention",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "clip_gradient",
    "col2im",
    "conv1d",
    "conv2d",
    "conv_output_shape",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose_output_shape",
    "dilate",
    "dropout",
    "elliot",
    "elu",
    "embedding",
    "embedding_bag",
    "erf",
    "erfc",
    "exponential",
    "fans",
    "gaussian_noise",
    "gelu",
    "global_avg_pool",
    "global_max_pool",
    "group_norm",
    "gru",
    "gru_step",
    "hard_sigmoid",
    "im2col",
    "instance_norm",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsumexp",
    "lstm",
    "lstm_step",
    "max_pool1d",
    "max_pool2d",
    "mish",
    "pad",
    "prelu",
    "relu",
    "rms_norm",
    "rnn",
    "rnn_step",
    "same_padding",
    "selu",
    "sequence_mask",
    "sigmoid",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "softsign",
    "symmetric_elliot",
    "tanh",
    "ultra_fast_sigmoid",
    "upsample2d",
]
