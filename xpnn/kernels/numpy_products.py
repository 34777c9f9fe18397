"""Matrix products: by BLAS with all its threads, or in parts by the threads of the pool."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn import parallel
from xpnn.kernels.numpy_memory import empty
from xpnn.kernels.numpy_parts import are_many, parts
from xpnn.kernels.numpy_reductions import ones

__all__ = [
    *("column_sums", "matmul", "matmul_accepts", "matmul_vjp", "multiply_alone", "product"),
    "stacked_product",
]

Array = Any

_ALONE = 1 << 18  # multiplications up to which BLAS uses one thread anyway
_SHARED = 1 << 25  # from which a part for each thread pays for waking it
_PIECE = _SHARED // 4  # for the products of a stack
_ROWS = 16  # a multiple of the rows that the inner loops of BLAS take at a time
_SUMMED = 1 << 18  # elements of a matrix whose columns are added up at once
_IN_CACHE = 1 << 18  # elements of a product to which a vector is added while a cache holds them


def product(
    a: Array,
    b: Array,
    out: Array | None = None,
    plus: Array | None = None,
    last: Callable[[Array], Any] | None = None,
) -> Array:
    """Return ``a @ b + plus`` for matrices and a vector, which may be missing; ``last`` changes it.

    On the threads of BLAS, or of the pool if it is in use, or if what is added to the product, or
    comes after it, is for all threads too: those of BLAS would be in the way.
    """
    n, m = a.shape[0], b.shape[1]
    work = n * m * b.shape[0]
    if work <= _ALONE:  # the shortest way: a small network is mostly calls
        out = np.matmul(a, b, out=out)
        return out if plus is last is None else _finish(out, plus, last)
    if out is None:
        out = empty((n, m), a.dtype if a.dtype == b.dtype else np.result_type(a, b))
    threads = parallel.get_num_threads()
    in_use = parallel.pool_in_use()
    finished = plus is not None or last is not None
    if work < _SHARED or threads == 1 or not (in_use or (finished and are_many(n * m))):
        if in_use:
            parallel.alone(np.matmul, a, b, out)
        else:
            np.matmul(a, b, out=out)
        return _finish(out, plus, last)
    if n >= m:
        step = _step(n, threads * -(-n * m // (threads * _IN_CACHE)) if finished else threads)

        def rows(i: int) -> None:
            _finish(np.matmul(a[i : i + step], b, out=out[i : i + step]), plus, last)

        parallel.share(rows, range(0, n, step))
    else:
        step = _step(m, threads)

        def columns(j: int) -> None:
            part = np.matmul(a, b[:, j : j + step], out=out[:, j : j + step])
            _finish(part, None if plus is None else plus[j : j + step], last)

        parallel.share(columns, range(0, m, step))
    return out


def _finish(part: Array, plus: Array | None, last: Callable[[Array], Any] | None) -> Array:
    if plus is not None:
        np.add(part, plus, out=part)
    if last is not None:
        last(part)
    return part


def multiply_alone(a: Array, b: Array) -> Array:
    """Return ``a @ b``, multiplied by this thread: for a kernel that shares out what comes next.

    Threads of BLAS, once they have helped, are in the way of those of the pool for 30 ms and more.
    """
    if a.size * b.size <= _ALONE * a.shape[-1]:
        return a @ b
    return parallel.alone(np.matmul, a, b)


def _step(n: int, parts: int) -> int:
    return -(-n // (parts * _ROWS)) * _ROWS


def column_sums(x: Array) -> Array:
    """Return the sums of columns, by products with ones: twice as fast as ``sum(axis=0)``.

    Of half precision they are added in float32, as by the standard version.
    """
    if x.dtype.char not in "fd":
        single = np.float32 if x.dtype.itemsize < 4 else x.dtype
        return np.add.reduce(x, axis=0, dtype=single).astype(x.dtype, copy=False)
    if x.size <= _SUMMED:
        return ones(len(x), x.dtype) @ x
    places = parts(len(x), x.shape[1], _SUMMED)
    sums = np.empty((len(places), x.shape[1]), x.dtype)

    def add_up(i: int) -> None:
        block = x[places[i]]
        np.matmul(ones(len(block), x.dtype), block, out=sums[i])

    parallel.share(add_up, range(len(places)))
    return sums.sum(axis=0)


def stacked_product(a: Array, b: Array) -> Array:
    """Return the products of two stacks of matrices, which the threads share."""
    shape = (*a.shape[:-1], b.shape[-1])
    out = empty(shape, np.result_type(a, b))
    stacks = [x.reshape(-1, *x.shape[-2:]) for x in (a, b, out)]
    n, each = len(stacks[0]), math.prod(shape[-2:]) * a.shape[-1]
    step = max(_PIECE // each, 1)

    def multiply(i: int) -> None:
        x, y, part = (stack[i : i + step] for stack in stacks)
        np.matmul(x, y, out=part)

    parallel.share(multiply, range(0, n, step), worth=n * each >= _SHARED)
    return out


def matmul_accepts(x1: Array, x2: Array) -> bool:
    """Whether the product is large, and of two matrices or of stacks of the same axes."""
    if getattr(x1, "ndim", 0) < 2 or getattr(x2, "ndim", 0) < 2:
        return False
    if x1.dtype != x2.dtype or x1.dtype.char not in "fd" or x1.shape[-1] != x2.shape[-2]:
        return False
    if x1.size * x2.shape[-1] <= _ALONE:
        return False
    return x2.ndim == 2 or x1.shape[:-2] == x2.shape[:-2]


def matmul(xp: Any, x1: Array, x2: Array) -> Array:
    if x2.ndim > 2:
        return stacked_product(x1, x2)
    y = product(x1.reshape(-1, x1.shape[-1]), x2)
    return y.reshape(*x1.shape[:-1], x2.shape[1])


def matmul_vjp(
    xp: Any, g: Array, needs: list[bool], x1: Array, x2: Array
) -> tuple[Array | None, Array | None]:
    # d1 = g x2^T, d2 = x1^T g; over all axes but the last, if x2 is one matrix
    d1 = matmul(xp, g, x2.swapaxes(-1, -2)) if needs[0] else None
    if not needs[1]:
        return d1, None
    if x2.ndim > 2:
        return d1, stacked_product(x1.swapaxes(-1, -2), g)
    return d1, product(x1.reshape(-1, x1.shape[-1]).T, g.reshape(-1, g.shape[-1]))
