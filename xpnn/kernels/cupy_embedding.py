"""CUDA kernels of rows picked by ids, and of sums of rows that share an id: the embedding.

The ids are sorted, together with their places, so that the rows of each are added in one order,
that of :data:`xpnn.primitives.indexing.scatter_add`: no two threads add to one place. The host asks
for nothing. Where an id is that of no row, what is picked is NaN, and its gradient goes nowhere.
"""

from __future__ import annotations

import math
from typing import Any

from xpnn.kernels.cupy_launch import DTYPES, Source, contiguous, cupy, threads_for

__all__ = [
    "lookup",
    "lookup_accepts",
    "lookup_vjp",
    "scatter_add",
    "scatter_add_accepts",
    "scatter_add_vjp",
    "sources",
    "take",
    "take_accepts",
    "take_vjp",
]

Array = Any

_SUMMED = (*DTYPES, "int32", "int64")
_embedding = Source("embedding", _SUMMED)
_PACK = 16  # bytes
_BITS = 5  # of how many rows make a part, and how many parts make a larger one
_THREADS = 256
_ACROSS = 65_535  # blocks, at most, along the second axis of a grid
_MOST = 1 << 31  # ids and places together are 64 bits


def sources() -> dict[str, str]:
    """Return every CUDA source of this module by name, for the compile check."""
    return _embedding.codes()


def _is_index(indices: Array) -> bool:
    return indices.ndim == 1 and indices.dtype.kind in "iu" and 0 < indices.size < _MOST


def _blocks(n: int) -> int:
    return min(-(-n // _THREADS), 1 << 16)


def _packed(name: str, columns: int, *arrays: Array) -> tuple[str, int]:
    """Return the kernel for rows of so many columns, and how many it counts, packs if it can."""
    width = _PACK // arrays[0].itemsize
    if columns % width or any(x.data.ptr % _PACK for x in arrays):
        return name, columns
    return f"{name}_packs", columns // width


# ------------------------------------------------------------------------------------ rows


def take_accepts(x: Array, indices: Array, *, axis: int | None) -> bool:
    """Whether whole rows of real numbers are picked."""
    first = axis in (0, -x.ndim) or (axis is None and x.ndim == 1)
    return first and x.size > 0 and x.dtype.name in DTYPES and _is_index(indices)


def take(xp: Any, x: Array, indices: Array, *, axis: int | None) -> Array:
    return _pick(x, indices, from_end=True)


def lookup_accepts(x: Array, indices: Array) -> bool:
    return take_accepts(x, indices, axis=0)


def lookup(xp: Any, x: Array, indices: Array) -> Array:
    return _pick(x, indices, from_end=False)


def lookup_vjp(
    xp: Any, g: Array, needs: list[bool], x_shape: tuple[int, ...], indices: Array
) -> tuple[Array | None, None]:
    return _sums(g, indices, x_shape[0], from_end=False) if needs[0] else None, None


def _pick(x: Array, indices: Array, from_end: bool) -> Array:
    """Return rows by number; a negative one counts from the end, or is that of none."""
    x, ids = contiguous(x), contiguous(indices.astype("int64", copy=False))
    y = cupy().empty((ids.size, *x.shape[1:]), x.dtype)
    name, columns = _packed("pick", math.prod(x.shape[1:]), x, y)
    grid, end = _blocks(ids.size * columns), int(from_end)
    _embedding.launch(name, x.dtype, grid, _THREADS, x, ids, y, end, x.shape[0], columns, ids.size)
    return y


def take_vjp(
    xp: Any, g: Array, needs: list[bool], x_shape: tuple[int, ...], indices: Array
) -> tuple[Array | None, None]:
    return scatter_add(xp, g, indices, length=x_shape[0]) if needs[0] else None, None


# ------------------------------------------------------------------------------------ sums


def scatter_add_accepts(x: Array, indices: Array, *, length: int) -> bool:
    summed = x.size > 0 and x.dtype.name in _SUMMED
    return summed and _is_index(indices) and 0 < length < _MOST


def scatter_add(xp: Any, x: Array, indices: Array, *, length: int) -> Array:
    return _sums(x, indices, length, from_end=True)


def _sums(x: Array, indices: Array, length: int, from_end: bool) -> Array:
    n, ids = indices.size, contiguous(indices.astype("int64", copy=False))
    key, start = cupy().empty(n, "int64"), cupy().empty(length + 1, "int64")
    launch = _embedding.launch
    launch("keys", x.dtype, _blocks(n), _THREADS, ids, key, int(from_end), length, n)
    key = cupy().sort(key)
    launch("starts", x.dtype, _blocks(length + 1), _THREADS, key, start, length, n)
    x, y = contiguous(x), cupy().empty((length, *x.shape[1:]), x.dtype)
    levels = _levels(n)
    places = [2 * ((n + (1 << bits) - 1) >> bits) for bits in levels]
    sums = cupy().empty((max(sum(places), 1), x.size // n), x.dtype)
    packs, columns = _packed("totals", x.size // n, x, y, sums)
    below, at = None, 0
    threads = threads_for(columns, _THREADS)
    across = min(-(-columns // threads), _ACROSS)
    for bits, count in zip(levels, places, strict=True):
        here = sums[at : at + count]
        launch(
            packs.replace("totals", "parts"), x.dtype, (count, across), threads,
            x, below, key, start, here, bits, length, columns, n,
        )  # fmt: skip
        below, at = here, at + count
    launch(
        packs, x.dtype, _blocks(length * columns), _THREADS,
        x, sums, key, start, y, length, columns, n,
    )  # fmt: skip
    return y


def _levels(n: int) -> list[int]:
    """Return the binary logarithms of how many rows parts have, of which there can be in ``n``."""
    return [bits for bits in range(_BITS, 31, _BITS) if n > 1 << bits]


def scatter_add_vjp(
    xp: Any, g: Array, needs: list[bool], indices: Array
) -> tuple[Array | None, None]:
    return take(xp, g, indices, axis=0) if needs[0] else None, None
