"""What the networks cannot do without: the matrix products alone, in NumPy's BLAS.

Of a product of x and w there are three in a step: that itself, and those of the gradients of w and
of x, which the first layer of a network does not need. Outputs are written into memory that is
there. A convolution is counted as one product of its windows, without gathering them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from os import environ
from typing import Any

import numpy as np

from networks.problems import Problem

__all__ = [
    *("conv3x3", "conv_stack", "copies", "dense", "embedding", "gpt", "gru", "lenet5", "lstm"),
    *("mlp", "resnet", "rnn", "transformer"),
]

Shape = tuple[int, ...]


class Product:
    """A product in a training step: forward, and for the gradients of both."""

    def __init__(self, x: Shape, w: Shape, *, first: bool = False) -> None:
        self.x, self.w = (np.ones(shape, np.float32) for shape in (x, w))
        self.y = np.ones((*x[:-1], w[-1]), np.float32)
        self.dx, self.dw = None if first else np.ones_like(self.x), np.ones_like(self.w)

    def forward(self) -> None:
        """Compute y."""
        np.matmul(self.x, self.w, out=self.y)

    def backward(self) -> None:
        """Compute what flows on, and the gradient of w."""
        np.matmul(self.x.mT, self.y, out=self.dw)
        if self.dx is not None:
            np.matmul(self.y, self.w.mT, out=self.dx)


def _products(products: list[Product]) -> Any:
    def step() -> None:
        for product in products:
            product.forward()
        for product in reversed(products):
            product.backward()

    return step


def _dense(batch: int, weights: list[Any], *, first: bool = False) -> list[Product]:
    shapes = [w.shape for w in weights[::2]]
    return [Product((batch, s[0]), s, first=first and not i) for i, s in enumerate(shapes)]


def _conv(places: int, kernel: Any, *, first: bool = False) -> Product:
    columns, n_out = kernel[..., 0].size, kernel.shape[-1]
    return Product((places, columns), (columns, n_out), first=first)


def mlp(problem: Problem) -> Any:
    """Prepare the products of the perceptron."""
    return _products(_dense(problem.x.shape[0], problem.weights, first=True))


def lenet5(problem: Problem) -> Any:
    """Prepare the products of LeNet-5."""
    (n, side, *_), w = problem.x.shape, problem.weights
    convs = [
        _conv(n * (side - 4) ** 2, w[0], first=True),
        _conv(n * ((side - 4) // 2 - 4) ** 2, w[2]),
    ]
    return _products(convs + _dense(n, w[4:]))


def conv_stack(problem: Problem) -> Any:
    """Prepare the products of the convolutions with normalization."""
    (n, side, *_), w = problem.x.shape, problem.weights
    places = n * side**2
    convs = [_conv(places, w[0], first=True), _conv(places, w[3]), _conv(places // 4, w[6])]
    return _products(convs + _dense(n, w[9:]))


def resnet(problem: Problem) -> Any:
    """Prepare the products of the residual network."""
    (n, side, *_), *w = problem.x.shape, *problem.weights
    places = n * side**2
    products = [_conv(places, w[0], first=True)]
    for kernel in [a for a in w[1:] if a.ndim == 4]:
        if kernel.shape[0] == 3 and kernel.shape[2] != kernel.shape[3]:
            places //= 4
        products.append(_conv(places, kernel))
    return _products(products + _dense(n, w[-2:]))


def dense(problem: Problem) -> Any:
    """Prepare the products of an affine map."""
    return _products(_dense(problem.x.shape[0], problem.weights))


def conv3x3(problem: Problem) -> Any:
    """Prepare the products of a convolution."""
    n, side, *_ = problem.x.shape
    return _products([_conv(n * side**2, problem.weights[0])])


def _recurrent(problem: Problem) -> Any:
    """Prepare the products of a recurrent layer; the gradient of U is one of all steps."""
    (n, length, inputs), (w, u, *_) = problem.x.shape, problem.weights
    outer = Product((n * length, inputs), w.shape)
    inner = Product((n * length, u.shape[0]), u.shape, first=True)
    one = Product((n, u.shape[0]), u.shape)

    def step() -> None:
        outer.forward()
        for _ in range(length):
            one.forward()
        for _ in range(length):
            np.matmul(one.y, one.w.mT, out=one.dx)
        inner.backward()
        outer.backward()

    return step


rnn = gru = lstm = _recurrent


def transformer(problem: Problem) -> Any:
    """Prepare the products of an encoder layer."""
    (n, length, features), heads, w = problem.x.shape, problem.heads, problem.weights
    size = features // heads
    scores = Product((n, heads, length, size), (n, heads, size, length))
    mixed = Product((n, heads, length, length), (n, heads, length, size))
    dense = _dense(n * length, w[:12])
    return _products([*dense[:3], scores, mixed, *dense[3:]])


gpt = transformer  # of the scores above the diagonal it needs none, which a product cannot leave


def copies(read: int, written: int) -> Any:
    """Prepare one pass over so many bytes: half of them copied to the other half.

    In as many threads as everybody has, a block each, unless it is done sooner in one.
    """
    size = (read + written) // 8
    source, target = np.ones(size, np.float32), np.ones(size, np.float32)
    threads = int(environ.get("OMP_NUM_THREADS", "1"))
    parts = list(zip(*(np.array_split(a, threads) for a in (target, source)), strict=True))
    if threads == 1 or read + written < 2**21:
        return lambda: np.copyto(target, source)
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(lambda part: np.copyto(*part), parts))


def embedding(problem: Problem) -> Any:
    """Prepare a pass over rows that are read and added to, and over all of Adam's arrays."""
    rows, table = problem.y.nbytes, problem.weights[0].nbytes
    return copies(2 * rows + 4 * table, 2 * rows + 3 * table)
