"""Matrix products: by BLAS with all its threads, or in parts by the threads of the pool."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn import parallel
from xpnn.kernels.numpy_memory import empty
from xpnn.kernels.numpy_parts import parts
from xpnn.kernels.numpy_reductions import ones

__all__ = [
    *("Last", "column_sums", "matmul", "matmul_accepts", "matmul_vjp", "multiply_alone"),
    *("product", "products", "stacked_product"),
]

Array = Any
Last = Callable[[Array, "Array | None"], Any]

_ALONE = 1 << 18  # multiplications up to which BLAS uses one thread anyway
_STACK = 1 << 25  # from which a part for each thread pays for waking it
_SHARED = 1 << 19  # the same if the pool is in use, whose caches then hold what it has just made
_LAYER = 1 << 17  # elements of a layer's output that are so many that sweeps over them are shared
_PIECE = _STACK // 4  # for the products of a stack
_ROWS = 16  # a multiple of the rows that the inner loops of BLAS take at a time
_SUMMED = 1 << 18  # elements of a matrix whose columns are added up at once
_IN_CACHE = 1 << 18  # elements of a product to which a vector is added while a cache holds them


def product(
    a: Array,
    b: Array,
    out: Array | None = None,
    plus: Array | None = None,
    last: Last | None = None,
) -> Array:
    """Return ``a @ b + plus`` for matrices and a vector, which may be missing.

    ``last`` is given rows or columns of ``a @ b``, and what is to be added to them or None, and
    writes into them what is wanted instead of the sums.

    On the threads of BLAS, or of the pool if it is in use, or begins with it, as with a layer's
    output of some size: those of BLAS would be in the way of the attention or whatever follows.
    """
    n, m = a.shape[0], b.shape[1]
    work = n * m * b.shape[0]
    if work <= _ALONE:  # the shortest way: a small network is mostly calls
        out = np.matmul(a, b, out=out)
        return out if plus is last is None else _finish(out, plus, last)
    if out is None:
        out = empty((n, m), a.dtype if a.dtype == b.dtype else np.result_type(a, b))
    threads = min(parallel.get_num_threads(), 2 * work // _SHARED)
    in_use = parallel.pool_in_use()
    finished = plus is not None or last is not None
    shared = work >= _SHARED and (in_use or (finished and n * m >= _LAYER))
    if not shared or threads == 1:
        if in_use:
            parallel.alone(np.matmul, a, b, out)
        else:
            np.matmul(a, b, out=out)
        return _finish(out, plus, last)
    pieces = threads * (-(-n * m // (threads * _IN_CACHE)) if finished and n >= m else 1)
    parallel.share(_multiply, _divided(a, b, out, pieces, plus, last))
    return out


def products(*pairs: tuple[Array, Array] | None) -> list[Array | None]:
    """Return the products of pairs of matrices, at the same time if the pool is in use.

    Threads that divide a product pack one and the same factor, each for itself. With products of
    their own they do not, which saves a tenth of the time.
    """
    if not parallel.pool_in_use() or (least := min(map(_work, pairs))) < _SHARED:
        return [None if pair is None else product(*pair) for pair in pairs]
    threads = min(parallel.get_num_threads(), len(pairs) * least // _SHARED)
    pieces = threads // math.gcd(threads, len(pairs))
    outs: list[Array | None] = []
    parts: list[_Part] = []
    for a, b in filter(None, pairs):
        outs.append(empty((len(a), b.shape[1]), np.result_type(a, b)))
        parts += _divided(a, b, outs[-1], pieces)
    parallel.share(_multiply, parts)
    return outs


def _work(pair: tuple[Array, Array] | None) -> int:
    return 0 if pair is None else pair[0].size * pair[1].shape[1]


_Part = tuple[Array, Array, Array, "Array | None", "Last | None"]


def _divided(
    a: Array, b: Array, out: Array, pieces: int, plus: Array | None = None, last: Last | None = None
) -> list[_Part]:
    """Return parts of a product: of its rows, or where these are fewer, of its columns."""
    n, m = out.shape
    if n >= m:
        rows = _steps(n, pieces)
        return [(a[i], b, out[i], plus, last) for i in rows]
    columns = _steps(m, pieces)
    return [(a, b[:, j], out[:, j], None if plus is None else plus[j], last) for j in columns]


def _steps(n: int, pieces: int) -> list[slice]:
    step = -(-n // (pieces * _ROWS)) * _ROWS
    return [slice(i, i + step) for i in range(0, n, step)]


def _multiply(part: _Part) -> None:
    a, b, out, plus, last = part
    _finish(np.matmul(a, b, out=out), plus, last)


def _finish(part: Array, plus: Array | None, last: Last | None) -> Array:
    if last is not None:
        last(part, plus)
    elif plus is not None:
        np.add(part, plus, out=part)
    return part


def multiply_alone(a: Array, b: Array) -> Array:
    """Return ``a @ b``, multiplied by this thread: for a kernel that shares out what comes next.

    Threads of BLAS, once they have helped, are in the way of those of the pool for 30 ms and more.
    """
    if a.size * b.size <= _ALONE * a.shape[-1]:
        return a @ b
    return parallel.alone(np.matmul, a, b)


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

    parallel.share(multiply, range(0, n, step), worth=n * each >= _STACK)
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
    if x2.ndim > 2:
        d1 = stacked_product(g, x2.mT) if needs[0] else None
        return d1, stacked_product(x1.mT, g) if needs[1] else None
    rows, rows_g = x1.reshape(-1, x1.shape[-1]), g.reshape(-1, g.shape[-1])
    back, over = (rows_g, x2.T), (rows.T, rows_g)
    d1, d2 = products(back if needs[0] else None, over if needs[1] else None)
    return d1 if d1 is None else d1.reshape(x1.shape), d2
