"""What the workloads of ``gpu.py`` cannot do without: operations of arithmetic, and bytes.

Operations are those of matrix products, two a multiplication and addition: one product forward, and
two back, of the weights and of the input, which the first layer of a network does not need. Bytes
are what must cross the memory of a GPU if every layer is computed at once and nothing fits in
caches: outputs are written, read by the next layer and again on the way back, and their gradients
written and read; Adam reads parameter, gradient and two moments, and writes all but the gradient.
In 16 bits activations have half the bytes; what an optimizer holds stays in float32.

Of kernels that fuse what is element-wise, or of rows, bytes are those of one pass: each array is
read once forward and once back, batch normalization its input twice, as a mean comes before what
it is taken from.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

__all__ = ["KERNELS", "WORK", "Work", "adam", "momentum"]

_FLOAT = 4  # bytes
_CLASSES = 10


class Work(NamedTuple):
    """Operations of arithmetic, and bytes of activations in float32 and of an optimizer's state."""

    flops: float
    activations: float
    states: float = 0.0

    def bytes(self, precision: str = "float32") -> float:
        """Return the bytes of a step."""
        return self.activations * (0.5 if precision == "bfloat16" else 1.0) + self.states

    def floor(self, flops: float, bandwidth: float, precision: str = "float32") -> float:
        """Return the seconds that a card needs with these rates, if both went on together."""
        return max(self.flops / flops, self.bytes(precision) / bandwidth)


def adam(parameters: float) -> Work:
    """Return the work of a step of Adam alone."""
    return Work(0.0, 0.0, 7 * _FLOAT * parameters)


def momentum(parameters: float) -> Work:
    """Return the work of a step of SGD with momentum: parameter and state are read and written."""
    return Work(0.0, 0.0, 5 * _FLOAT * parameters)


def _sum(products: list[tuple[float, float, float]], outputs: float) -> Work:
    """Return the work of a network: products as (rows, inner, columns), the first at the input."""
    flops = sum(2 * m * k * n * (3 if i else 2) for i, (m, k, n) in enumerate(products))
    weights = sum(k * n for _, k, n in products)
    return Work(flops, 5 * _FLOAT * outputs, adam(weights).states)


def mlp(batch: int = 500, sizes: Sequence[int] = (784, 500, 500, 10)) -> Work:
    """Return the work of the perceptron."""
    pairs = list(itertools.pairwise(sizes))
    return _sum([(batch, *pair) for pair in pairs], batch * sum(sizes[1:]))


def lenet5(
    batch: int = 128, side: int = 28, filters: Sequence[int] = (20, 50), hidden: int = 500
) -> Work:
    """Return the work of LeNet-5."""
    (a, b), one = filters, side - 4
    two = one // 2 - 4
    flat = (two // 2) ** 2 * b
    products = [
        (batch * one**2, 25, a), (batch * two**2, 25 * a, b), (batch, flat, hidden),
        (batch, hidden, _CLASSES),
    ]  # fmt: skip
    outputs = batch * (one**2 * a * 1.25 + two**2 * b * 1.25 + hidden + _CLASSES)
    return _sum([*products], outputs)


def conv_stack(batch: int = 64, side: int = 32, channels: Sequence[int] = (32, 32, 64)) -> Work:
    """Return the work of the convolutions with normalization; of that no more than its bytes."""
    places = [batch * side**2, batch * side**2, batch * (side // 2) ** 2]
    pairs = itertools.pairwise((3, *channels))
    products = [(p, 9 * m, n) for p, (m, n) in zip(places, pairs, strict=True)]
    outputs = sum(2 * p * n for p, _, n in products)  # of the convolution, and normalized
    flat = (side // 4) ** 2 * channels[-1]
    return _sum([*products, (batch, flat, _CLASSES)], outputs)


def resnet(
    batch: int = 64, side: int = 32, channels: Sequence[int] = (32, 64), blocks: int = 2
) -> Work:
    """Return the work of the residual network."""
    places, n_in = batch * side**2, channels[0]
    products: list[tuple[float, float, float]] = [(places, 27, n_in)]
    for n_out in channels:
        for _ in range(blocks):
            places //= 1 if n_in == n_out else 4
            products += [(places, 9 * n_in, n_out), (places, 9 * n_out, n_out)]
            products += [] if n_in == n_out else [(places, n_in, n_out)]
            n_in = n_out
    outputs = sum(2 * p * n for p, _, n in products)  # of the convolution, and normalized
    return _sum([*products, (batch, n_in, _CLASSES)], outputs)


def dense(batch: int = 512, inputs: int = 512, outputs: int = 512) -> Work:
    """Return the work of an affine map alone, also of its input's gradient, and without Adam."""
    n = 2 * (batch * (inputs + outputs) + inputs * outputs)
    return Work(6 * batch * inputs * outputs, _FLOAT * n)


def conv3x3(batch: int = 32, side: int = 32, channels: int = 64) -> Work:
    """Return the work of a convolution alone, also of its input's gradient, and without Adam."""
    places = batch * side**2
    return Work(6 * places * 9 * channels**2, 6 * _FLOAT * places * channels)


def _recurrent(gates: int, batch: int, length: int, inputs: int, hidden: int) -> Work:
    rows = batch * length
    flops = 6 * rows * (inputs + hidden) * gates * hidden
    weights = (inputs + hidden) * gates * hidden
    activations = _FLOAT * rows * (2 * inputs + 5 * (gates + 1) * hidden)
    return Work(flops, activations, adam(weights).states)


def rnn(batch: int = 64, length: int = 100, inputs: int = 64, hidden: int = 256) -> Work:
    """Return the work of a recurrent layer."""
    return _recurrent(1, batch, length, inputs, hidden)


def gru(batch: int = 64, length: int = 100, inputs: int = 64, hidden: int = 256) -> Work:
    """Return the work of a GRU."""
    return _recurrent(3, batch, length, inputs, hidden)


def lstm(batch: int = 64, length: int = 100, inputs: int = 64, hidden: int = 256) -> Work:
    """Return the work of an LSTM."""
    return _recurrent(4, batch, length, inputs, hidden)


def transformer(
    batch: int = 32, length: int = 128, features: int = 256, heads: int = 8, hidden: int = 1024
) -> Work:
    """Return the work of an encoder layer, whose scores need not cross the memory."""
    rows, weights = batch * length, 4 * features**2 + 2 * features * hidden
    flops = 6 * rows * weights + 3 * 4 * batch * length**2 * features
    outputs = rows * (4 * features + hidden + 4 * features)
    return Work(flops, 5 * _FLOAT * outputs, adam(weights).states)


def gpt(
    batch: int = 32, length: int = 128, features: int = 256, heads: int = 8, hidden: int = 1024
) -> Work:
    """Return the work of a block of a language model, which needs half of the scores."""
    whole = transformer(batch, length, features, heads, hidden)
    return whole._replace(flops=whole.flops - 6 * batch * length**2 * features)


def embedding(rows: int = 50_000, width: int = 128, ids: int = 8192) -> Work:
    """Return the work of an embedding: some rows are read and added to, Adam sees them all."""
    activations = 4 * _FLOAT * ids * width
    return Work(0.0, activations, _FLOAT * rows * width + adam(rows * width).states)


WORK = {
    f.__name__: f
    for f in (
        *(mlp, lenet5, conv_stack, resnet, dense, conv3x3, rnn, gru, lstm, transformer, gpt),
        *(embedding, adam, momentum),
    )
}
# How often an array crosses the memory, forward and back.
KERNELS = {
    "gelu": 2 + 3, "dropout": 2 + 2, "layer_norm": 2 + 3, "softmax": 2 + 3, "cross_entropy": 1 + 2,
    "batch_norm_relu": 3 + 5,
}  # fmt: skip


def _kernel(times: int, rows: int, columns: int) -> Work:
    return Work(0.0, times * _FLOAT * rows * columns)


WORK |= {name: partial(_kernel, times) for name, times in KERNELS.items()}
