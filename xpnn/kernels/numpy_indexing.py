"""Sums of rows by index in NumPy: the gradient of an embedding.

Of a table of many rows few are used in a step, and the others have a gradient of zeros. To write
those zeros, and read them again, costs more than all else. So the memory of a large sum is used
again, and only the rows that were written are made zero again; and which those are is known
(:func:`written_rows`) to an optimizer under which a gradient of zeros changes nothing.

The sum itself is an array like any other, but read-only: its zeros stay zeros.
"""

from __future__ import annotations

import math
import sys
import threading
from typing import Any

import numpy as np

from xpnn import parallel
from xpnn.kernels.numpy_memory import scratch

__all__ = ["free_sums", "scatter_add", "scatter_add_vjp", "sums_memory", "written_rows"]

Array = Any

_LEAST = 1 << 20  # bytes of a sum whose memory is used again
_KEPT = 8  # sums; the oldest is given up for another
_BLOCK = 2**16  # elements that are copied at a time
_SHARED = 2**19  # elements from which a second thread pays


class _Sum:
    """Memory for sums, zero but for the rows that were written last."""

    __slots__ = ("rows", "table")

    def __init__(self, shape: tuple[int, int], dtype: Any) -> None:
        self.table = np.zeros(shape, dtype)
        self.rows: Array = np.empty(0, np.intp)


def _references(one: _Sum) -> int:
    return sys.getrefcount(one.table)


_COUNTS = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
_UNSEEN = _references(_Sum((1, 1), np.uint8))
_sums: list[_Sum] = []
_lock = threading.Lock()


def _zeros(shape: tuple[int, int], dtype: Any, rows: Array) -> Array:
    """Return a table of zeros, of which ``rows`` are going to be written."""
    if math.prod(shape) * dtype.itemsize < _LEAST or not _COUNTS:
        return np.zeros(shape, dtype)
    with _lock:
        for one in _sums:
            if (
                _references(one) == _UNSEEN
                and one.table.shape == shape
                and one.table.dtype == dtype
            ):
                one.table[one.rows] = 0
                break
        else:
            one = _Sum(shape, dtype)
            del _sums[: max(0, len(_sums) - _KEPT + 1)]
            _sums.append(one)
        one.rows = rows
        return one.table


def free_sums() -> None:
    """Give back the memory of sums that nobody uses any more."""
    with _lock:
        _sums[:] = [one for one in _sums if _references(one) != _UNSEEN]


def sums_memory() -> tuple[int, int]:
    """Return how many bytes are kept for sums, and how many of them are in use."""
    with _lock:
        used = [one.table.nbytes for one in _sums if _references(one) != _UNSEEN]
        return sum(one.table.nbytes for one in _sums), sum(used)


def written_rows(x: Array) -> Array:
    """Return which rows of a sum are not zeros, in ascending order; None if that is not known."""
    if x.flags.writeable or not x.flags.c_contiguous:
        return None
    for one in _sums:
        if x.base is one.table and x.size == one.table.size and x.shape[0] == one.table.shape[0]:
            return one.rows
    return None


def scatter_add(xp: Any, x: Array, indices: Array, /, *, length: int) -> Array:
    """Sums of the rows of ``x`` that share an index.

    They are added in the order of :data:`xpnn.primitives.indexing.scatter_add`, in pairs, then the
    sums of those: it gives the same bits.
    """
    n, shape = indices.shape[0], (length, *x.shape[1:])
    if not n or not math.prod(shape):
        return np.zeros(shape, x.dtype)
    indices = indices.astype(np.intp, copy=False)
    indices = np.where(indices < 0, indices + length, indices)
    order = np.argsort(indices, kind="stable")
    ids = indices[order]
    first = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    rows, size = ids[first], np.diff(first, append=n)
    x = x.reshape(n, -1)
    table = _zeros((length, x.shape[1]), x.dtype, rows)
    alone = size == 1
    _copy_rows(x, order[first[alone]], table, rows[alone])
    rows, first, size = rows[~alone], first[~alone], size[~alone]
    while rows.size:  # a level of the tree
        pairs = (size + 1) // 2
        start = np.cumsum(pairs) - pairs
        rank = 2 * (np.arange(start[-1] + pairs[-1]) - np.repeat(start, pairs))
        left = np.repeat(first, pairs) + rank
        both = np.flatnonzero(rank + 1 < np.repeat(size, pairs))
        sums = x[order[left]]
        sums[both] += x[order[left[both] + 1]]
        x, order, first, size = sums, np.arange(sums.shape[0]), start, pairs
        done = size == 1
        table[rows[done]] = x[first[done]]
        rows, first, size = rows[~done], first[~done], size[~done]
    total = table.reshape(shape)
    total.flags.writeable = total.nbytes < _LEAST
    return total


def _copy_rows(x: Array, source: Array, table: Array, target: Array) -> None:
    """Copy rows of ``x`` to rows of ``table``."""
    step = max(1, _BLOCK // x.shape[1])

    def copy(low: int) -> None:
        at = source[low : low + step]
        few = scratch("rows", (at.size, x.shape[1]), x.dtype)
        np.take(x, at, axis=0, out=few, mode="clip")
        table[target[low : low + step]] = few

    worth = source.size * x.shape[1] >= _SHARED
    parallel.share(copy, range(0, source.size, step), worth)


def scatter_add_vjp(xp: Any, g: Array, needs: Any, indices: Array) -> list[Array]:
    """Gradients of :func:`scatter_add`."""
    return [np.take(g, indices, axis=0) if needs[0] else None, None]
