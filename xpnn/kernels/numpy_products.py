"""Matrix products: by BLAS with all its threads, or in parts by the threads of the pool."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn import parallel
from xpnn.kernels.numpy_memory import empty

__all__ = ["product"]

Array = Any

_ALONE = 1 << 18  # multiplications up to which BLAS uses one thread anyway
_SHARED = 1 << 26  # from which a part for each thread pays for waking it
_ROWS = 48  # a multiple of the rows that the inner loops of BLAS take at a time


def product(a: Array, b: Array, out: Array | None = None) -> Array:
    """Return ``a @ b`` for matrices, on the threads of BLAS, or of the pool if it is in use."""
    n, m = a.shape[0], b.shape[1]
    work = n * m * b.shape[0]
    if out is None:
        out = empty((n, m), np.result_type(a, b))
    if work <= _ALONE or not parallel.pool_in_use():
        return np.matmul(a, b, out=out)
    if work < _SHARED:
        with parallel.blas_alone:
            return np.matmul(a, b, out=out)
    threads = parallel.get_num_threads()
    if n >= m:
        step = _step(n, threads)
        parallel.share(
            lambda i: np.matmul(a[i : i + step], b, out=out[i : i + step]), range(0, n, step)
        )
    else:
        step = _step(m, threads)
        parallel.share(
            lambda i: np.matmul(a, b[:, i : i + step], out=out[:, i : i + step]),
            range(0, m, step),
        )
    return out


def _step(n: int, threads: int) -> int:
    return -(-n // (threads * _ROWS)) * _ROWS
