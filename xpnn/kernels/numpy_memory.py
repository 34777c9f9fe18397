"""Memory that NumPy kernels use again: for their results, and for what they compute on the way.

New memory costs a page fault every 4 kB, as much time as an operation on it.
"""

from __future__ import annotations

import bisect
import math
import sys
import threading
import weakref
from typing import Any

import numpy as np

__all__ = ["empty", "free_memory", "memory_stats", "scratch"]

Array = Any

_LEAST = 1 << 20  # bytes: smaller arrays are in good hands with the C library
_SLACK = 1.25  # how much larger than wanted memory may be
_STALE = 1024  # requests after which memory that nobody wanted is given back
_LARGEST_SCRATCH = 1 << 25


def _references(blocks: list[Array], i: int) -> int:
    return sys.getrefcount(blocks[i])


# What is counted for memory that only its list refers to differs between versions of Python, and
# without a global lock nothing is counted exactly.
_COUNTS = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
_UNSEEN = _references([np.empty(0)], 0) if _COUNTS else 0


class _Arena:
    """Blocks of memory; one that no array looks at any more is given out again.

    An array of :meth:`empty` is a view of its block, and so are the views of that array: NumPy lets
    all of them refer to the block itself. How many references it has says whether it is in use.
    """

    def __init__(self) -> None:
        self.blocks: list[Array] = []  # by size
        self.sizes: list[int] = []
        self.asked: list[int] = []  # at which request
        self.requests = self.reused = 0
        self.lock = threading.Lock()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        if size < _LEAST or not _COUNTS:
            return np.empty(shape, dtype)
        with self.lock:
            return self._take(size)[:size].view(dtype).reshape(shape)

    def _take(self, size: int) -> Array:
        self.requests += 1
        i = bisect.bisect_left(self.sizes, size)
        limit = size * _SLACK
        while i < len(self.sizes) and self.sizes[i] <= limit:
            if _references(self.blocks, i) == _UNSEEN:
                self.asked[i] = self.requests
                self.reused += 1
                return self.blocks[i]
            i += 1
        self.drop(self.requests - _STALE)
        block = np.empty(size, np.uint8)
        i = bisect.bisect_left(self.sizes, size)
        self.blocks.insert(i, block)
        self.sizes.insert(i, size)
        self.asked.insert(i, self.requests)
        return block

    def drop(self, before: int) -> None:
        """Give back what is free and was last asked for before some request."""
        free = set(self.free())
        kept = [i for i, at in enumerate(self.asked) if at >= before or i not in free]
        if len(kept) < len(self.blocks):
            self.blocks = [self.blocks[i] for i in kept]
            self.sizes = [self.sizes[i] for i in kept]
            self.asked = [self.asked[i] for i in kept]

    def free(self) -> list[int]:
        """Return the numbers of the blocks that are not in use."""
        return [i for i in range(len(self.blocks)) if _references(self.blocks, i) == _UNSEEN]


_arena = _Arena()
empty = _arena.empty


class _Kept:
    """What one thread computes in, by name."""

    __slots__ = ("__weakref__", "arrays")

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}


class _Here(threading.local):
    def __init__(self) -> None:
        self.kept = _Kept()
        _everywhere.add(self.kept)


_everywhere: weakref.WeakSet[_Kept] = weakref.WeakSet()
_here = _Here()


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array of any content, in memory that calls of one thread use again and again.

    What is larger than 32 MB is not kept.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size > _LARGEST_SCRATCH:
        return empty(shape, dtype)
    arrays = _here.kept.arrays
    kept = arrays.get(name)
    if kept is None or kept.size < size:
        kept = arrays[name] = np.empty(size, np.uint8)
    return kept[:size].view(dtype).reshape(shape)


def memory_stats() -> dict[str, int]:
    """Return bytes held, in use and as scratch, and how often memory was asked for and reused."""
    with _arena.lock:
        held = sum(_arena.sizes)
        unused = sum(_arena.sizes[i] for i in _arena.free())
        asked, reused = _arena.requests, _arena.reused
    spare = sum(x.nbytes for kept in list(_everywhere) for x in list(kept.arrays.values()))
    return {
        "held": held + spare,
        "in_use": held - unused,
        "scratch": spare,
        "requests": asked,
        "reused": reused,
    }


def free_memory() -> None:
    """Give back all memory that no array is in."""
    with _arena.lock:
        _arena.drop(_arena.requests + 1)
    for kept in list(_everywhere):
        kept.arrays.clear()
