"""What the networks compute: data, and the weights they begin with, in the order of xpnn.

Images are channels last, kernels (kh, kw, in, out), matrices (in, out), gates as in xpnn: see
DESIGN in the documentation of its layers. A layer alone is given the gradient of its output.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    *("Problem", "conv3x3", "conv_stack", "dense", "embedding", "gpt", "gru", "lenet5", "lstm"),
    *("mlp", "resnet", "rnn", "transformer"),
]

CLASSES = 10


class Problem(NamedTuple):
    """Data and initial weights of a network.

    Attributes
    ----------
    x : array
    y : array
        Labels; of a layer alone, the gradient of its output.
    weights : list of array
    heads : int
        Of attention.
    """

    x: Any
    y: Any
    weights: list[Any]
    heads: int = 1


def mlp(batch: int = 500, sizes: Sequence[int] = (784, 500, 500, 10)) -> Problem:
    """Return a perceptron with ReLUs: weight and bias in turn."""
    draw = Draw()
    weights = itertools.chain.from_iterable(map(draw.dense, sizes[:-1], sizes[1:]))
    return Problem(draw.normal(batch, sizes[0]), draw.labels(batch, sizes[-1]), list(weights))


def lenet5(
    batch: int = 128, side: int = 28, filters: Sequence[int] = (20, 50), hidden: int = 500
) -> Problem:
    """Return LeNet-5 as the tutorials have it: 5 x 5 convolutions, 2 x 2 maxima; with ReLUs."""
    draw, (first, second) = Draw(), filters
    inner = ((side - 4) // 2 - 4) // 2
    weights = [
        *draw.conv(5, 1, first), *draw.conv(5, first, second),
        *draw.dense(inner * inner * second, hidden), *draw.dense(hidden, CLASSES),
    ]  # fmt: skip
    return Problem(draw.normal(batch, side, side, 1), draw.labels(batch), weights)


def conv_stack(batch: int = 64, side: int = 32, channels: Sequence[int] = (32, 32, 64)) -> Problem:
    """Return three 3 x 3 convolutions without bias, each with BN and ReLU, the last two pooled."""
    draw = Draw()
    weights = []
    for n_in, n_out in itertools.pairwise((3, *channels)):
        weights += [draw.conv(3, n_in, n_out)[0], draw.full(1.0, n_out), draw.full(0.0, n_out)]
    weights += draw.dense((side // 4) ** 2 * channels[-1], CLASSES)
    return Problem(draw.normal(batch, side, side, 3), draw.labels(batch), weights)


def resnet(
    batch: int = 64, side: int = 32, channels: Sequence[int] = (32, 64), blocks: int = 2
) -> Problem:
    """Return a residual network: a convolution, stages of blocks, the mean over places.

    Every block is two 3 x 3 convolutions with BN around which the input takes a shortcut; all
    stages but the first begin with a stride of 2, and where channels change the shortcut is a 1 x 1
    convolution with BN.
    """
    draw = Draw()

    def normalized(size: int, n_in: int, n_out: int) -> list[Any]:
        return [draw.conv(size, n_in, n_out)[0], draw.full(1.0, n_out), draw.full(0.0, n_out)]

    weights, n_in = normalized(3, 3, channels[0]), channels[0]
    for n_out in channels:
        for _ in range(blocks):
            weights += normalized(3, n_in, n_out) + normalized(3, n_out, n_out)
            weights += normalized(1, n_in, n_out) if n_in != n_out else []
            n_in = n_out
    weights += draw.dense(n_in, CLASSES)
    return Problem(draw.normal(batch, side, side, 3), draw.labels(batch), weights)


def dense(batch: int = 512, inputs: int = 512, outputs: int = 512) -> Problem:
    """Return one affine map, alone."""
    draw = Draw()
    x, dy = draw.normal(batch, inputs), draw.normal(batch, outputs)
    return Problem(x, dy, draw.dense(inputs, outputs))


def conv3x3(batch: int = 32, side: int = 32, channels: int = 64) -> Problem:
    """Return one padded 3 x 3 convolution, alone."""
    draw = Draw()
    x, dy = (draw.normal(batch, side, side, channels) for _ in range(2))
    return Problem(x, dy, draw.conv(3, channels, channels))


def _recurrent(gates: int, batch: int, length: int, inputs: int, hidden: int) -> Problem:
    draw = Draw()
    x, dy = (draw.normal(batch, length, n) for n in (inputs, hidden))
    weights = [draw.scaled(inputs, gates * hidden), draw.scaled(hidden, gates * hidden)]
    return Problem(x, dy, [*weights, draw.full(0.0, gates * hidden)])


def rnn(batch: int = 64, length: int = 100, inputs: int = 64, hidden: int = 256) -> Problem:
    """Return Elman's layer with tanh: W, U, b."""
    return _recurrent(1, batch, length, inputs, hidden)


def lstm(batch: int = 64, length: int = 100, inputs: int = 64, hidden: int = 256) -> Problem:
    """Return an LSTM layer: W, U, b, with the gates i, f, g, o."""
    return _recurrent(4, batch, length, inputs, hidden)


def gru(batch: int = 64, length: int = 100, inputs: int = 64, hidden: int = 256) -> Problem:
    """Return a GRU layer: W, U, b, with the gates r, z, n, and the inner bias of n."""
    problem = _recurrent(3, batch, length, inputs, hidden)
    return problem._replace(weights=[*problem.weights, Draw().full(0.0, hidden)])


def transformer(
    batch: int = 32, length: int = 128, features: int = 256, heads: int = 8, hidden: int = 1024
) -> Problem:
    """Return an encoder layer, normalized after the sums, without dropout."""
    draw = Draw()
    x, dy = (draw.normal(batch, length, features) for _ in range(2))
    weights = [
        *(w for _ in range(4) for w in draw.dense(features, features)),  # query, key, value, out
        *draw.dense(features, hidden), *draw.dense(hidden, features),
        *(draw.full(value, features) for _ in range(2) for value in (1.0, 0.0)),
    ]  # fmt: skip
    return Problem(x, dy, weights, heads)


gpt = transformer  # a block of a language model has the same weights; what it computes is other


def embedding(rows: int = 50_000, width: int = 128, ids: int = 8192) -> Problem:
    """Return a table of vectors, alone."""
    draw = Draw()
    return Problem(draw.labels(ids, rows), draw.normal(ids, width), [draw.normal(rows, width)])


class Draw:
    """Random arrays in float32."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def normal(self, *shape: int) -> Any:
        return self.rng.standard_normal(shape, dtype=np.float32)

    def labels(self, n: int, classes: int = CLASSES) -> Any:
        return self.rng.integers(0, classes, n)

    def full(self, value: float, n: int) -> Any:
        return np.full(n, value, np.float32)

    def scaled(self, *shape: int) -> Any:
        """Return weights by which the size of a signal stays as it is."""
        return self.normal(*shape) * np.float32(np.prod(shape[:-1]) ** -0.5)

    def dense(self, n_in: int, n_out: int) -> list[Any]:
        return [self.scaled(n_in, n_out), self.full(0.0, n_out)]

    def conv(self, size: int, n_in: int, n_out: int) -> list[Any]:
        return [self.scaled(size, size, n_in, n_out), self.full(0.0, n_out)]
