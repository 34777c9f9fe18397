"""Indexing, gathering and sorting.

``take`` and :data:`scatter_add` are each other's derivative, and so are a slice and
:data:`unslice`: with these four, every kind of indexing can be differentiated any number of times.
"""

from __future__ import annotations

import math
from typing import Any

from xpnn import backend
from xpnn.primitives.base import Primitive, primitive

Array = Any


@primitive()
def getitem(xp: Any, x: Array, /, key: Any) -> Array:
    """Elements that a key of integers, slices, None and Ellipsis selects."""
    return x[key]


@primitive()
def unslice(xp: Any, x: Array, /, shape: tuple[int, ...], key: Any) -> Array:
    """Zeros of ``shape`` with ``x`` at ``key``: the transpose of :data:`getitem`."""
    zeros = xp.zeros(shape, dtype=x.dtype, device=_device(x))
    # The standard assigns to no key with None: leave the new axes out, of the key and of x.
    key = tuple(part for part in (key if isinstance(key, tuple) else (key,)) if part is not None)
    return backend.put(zeros, key, xp.reshape(x, zeros[key].shape))


getitem.d(lambda xp, g, x_shape, key: unslice(xp, g, shape=x_shape, key=key))
unslice.d(lambda xp, g, key: g[key])


def _device(x: Array) -> Any:
    return backend.device_of(x).native


@primitive()
def take(xp: Any, x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
    """Slices of ``x`` along an axis, picked by a one-dimensional array of indices."""
    return xp.take(x, indices, axis=axis)


def _take_vjp(
    xp: Any, g: Array, x_shape: tuple[int, ...], indices: Array, axis: int | None
) -> Array:
    axis = 0 if axis is None else axis % len(x_shape)
    g = g if axis == 0 else xp.moveaxis(g, axis, 0)
    total = scatter_add(xp, g, indices, length=x_shape[axis])
    return total if axis == 0 else xp.moveaxis(total, 0, axis)


take.d(_take_vjp, None)


@primitive()
def lookup(xp: Any, x: Array, indices: Array, /) -> Array:
    """Rows of ``x`` by number; where there is no such row NaN, and no gradient."""
    there, safe = _there(xp, indices, x.shape[0])
    rows = xp.take(x, safe, axis=0)
    return xp.where(_column(xp, there, x.ndim), rows, xp.full_like(rows, xp.nan))


def _there(xp: Any, indices: Array, length: int) -> tuple[Array, Array]:
    """Return which indices are those of rows, and indices that all are."""
    there = (indices >= 0) & (indices < length)
    return there, xp.where(there, indices, xp.zeros_like(indices))


def _column(xp: Any, flags: Array, ndim: int) -> Array:
    return xp.reshape(flags, (-1,) + (1,) * (ndim - 1))


def _lookup_vjp(xp: Any, g: Array, x_shape: tuple[int, ...], indices: Array) -> Array:
    there, safe = _there(xp, indices, x_shape[0])
    g = xp.where(_column(xp, there, len(x_shape)), g, xp.zeros_like(g))
    return scatter_add(xp, g, safe, length=x_shape[0])


lookup.d(_lookup_vjp, None)


@primitive()
def scatter_add(xp: Any, x: Array, indices: Array, /, *, length: int) -> Array:
    """Sums of the rows of ``x`` that share an index: ``y[indices[i]] += x[i]``, from zeros.

    Written with gathers alone, so that it has one order of summation on every device. Sorted by
    index, the rows of an index are neighbours: a segment. A level adds them in pairs, and the next
    level the sums of those, until each segment is down to one row. What is done drops out, so the
    levels together have no more than three times the rows of ``x``, however often an index repeats.
    """
    n = indices.shape[0]
    home = backend.device_of(x)
    if n == 0 or length == 0:
        return xp.zeros((length, *x.shape[1:]), dtype=x.dtype, device=home.native)
    indices = xp.astype(indices, backend.index_dtype(home), copy=False)
    indices = xp.where(indices < 0, indices + length, indices)
    order = xp.argsort(indices, stable=True)
    ids = xp.take(indices, order, axis=0)

    def count(k: int) -> Array:
        return xp.arange(k, dtype=ids.dtype, device=home.native)

    new = xp.astype(ids[1:] != ids[:-1], ids.dtype)
    segment = xp.cumulative_sum(new, include_initial=True)  # of each row; numbered from 0
    first = xp.searchsorted(segment, count(n))
    size = xp.searchsorted(segment, count(n), side="right") - first  # 0 behind the last segment
    rows = xp.take(x, order, axis=0)
    levels, below = [xp.zeros_like(rows[:1, ...]), rows], 1
    place = first + below  # where among all levels the sum of each segment lies
    for _ in range((int(xp.max(size)) - 1).bit_length()):
        below += rows.shape[0]
        going_on = size > 1
        pairs = xp.where(going_on, (size + 1) // 2, xp.zeros_like(size))
        ends = xp.cumulative_sum(pairs)
        starts = ends - pairs
        # 3 rows become 2, more become fewer: a bound on the next level, where a count would be
        # waited for. Rows behind the last pair hold sums that nobody asks for.
        pair = count(rows.shape[0] * 2 // 3)
        of = xp.minimum(xp.searchsorted(ends, pair, side="right"), n - 1)
        rank = 2 * (pair - xp.take(starts, of, axis=0))
        alone = rank + 1 >= xp.take(size, of, axis=0)
        left = xp.minimum(xp.take(first, of, axis=0) + rank, rows.shape[0] - 1)
        right = xp.take(rows, xp.minimum(left + 1, rows.shape[0] - 1), axis=0)
        alone = xp.reshape(alone, (-1,) + (1,) * (x.ndim - 1))
        rows = xp.take(rows, left, axis=0) + xp.where(alone, xp.zeros_like(right), right)
        levels.append(rows)
        first = xp.where(going_on, starts, first)
        place = xp.where(going_on, starts + below, place)
        size = pairs
    wanted = count(length)
    at = xp.minimum(xp.searchsorted(ids, wanted), n - 1)
    place = xp.take(place, xp.take(segment, at, axis=0), axis=0)
    place = xp.where(xp.take(ids, at, axis=0) == wanted, place, xp.zeros_like(place))
    return xp.take(xp.concat(levels, axis=0), place, axis=0)


scatter_add.d(lambda xp, g, indices: xp.take(g, indices, axis=0), None)


@primitive()
def take_along_axis(xp: Any, x: Array, indices: Array, /, *, axis: int = -1) -> Array:
    """Elements of ``x`` along an axis, picked by an array of indices of the same rank."""
    return xp.take_along_axis(x, indices, axis=axis)


def _flat_positions(xp: Any, indices: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Row-major positions, in an array of ``shape``, of what ``take_along_axis`` picks."""
    where, stride = None, 1
    for i in reversed(range(len(shape))):
        if i == axis:
            part = xp.where(indices < 0, indices + shape[i], indices)
        else:
            ramp = xp.arange(shape[i], dtype=indices.dtype, device=_device(indices))
            part = xp.reshape(ramp, (shape[i],) + (1,) * (len(shape) - 1 - i))
        where = part * stride if where is None else where + part * stride
        stride *= shape[i]
    return where


def _take_along_axis_vjp(
    xp: Any, g: Array, x_shape: tuple[int, ...], indices: Array, axis: int
) -> Array:
    positions = _flat_positions(xp, indices, x_shape, axis % len(x_shape))
    positions = xp.broadcast_to(positions, g.shape)
    flat = scatter_add(
        xp, xp.reshape(g, (-1,)), xp.reshape(positions, (-1,)), length=math.prod(x_shape)
    )
    return xp.reshape(flat, x_shape)


take_along_axis.d(_take_along_axis_vjp, None)


@primitive()
def repeat(xp: Any, x: Array, repeats: int | Array, /, *, axis: int | None = None) -> Array:
    """Each element ``repeats`` times along an axis; of the flattened array if it is None."""
    return xp.repeat(x, repeats, axis=axis)


def _repeat_vjp(
    xp: Any, g: Array, x_shape: tuple[int, ...], repeats: int | Array, axis: int | None
) -> Array:
    shape = (math.prod(x_shape),) if axis is None else x_shape
    at = 0 if axis is None else axis % len(x_shape)
    sources = xp.repeat(xp.arange(shape[at], device=_device(g)), repeats)
    return xp.reshape(_take_vjp(xp, g, shape, sources, at), x_shape)


repeat.d(_repeat_vjp, None)


@primitive()
def sort(
    xp: Any, x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True
) -> Array:
    """Elements in ascending or descending order along an axis."""
    return xp.sort(x, axis=axis, descending=descending, stable=stable)


def _sort_vjp(xp: Any, g: Array, x: Array, axis: int, descending: bool) -> Array:
    order = xp.argsort(x, axis=axis, descending=descending, stable=True)
    return xp.take_along_axis(g, xp.argsort(order, axis=axis), axis=axis)


sort.d(_sort_vjp)

# ------------------------------------------------------------------------ without a derivative


@primitive()
def argsort(
    xp: Any, x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True
) -> Array:
    """Indices that put an array in order along an axis."""
    return xp.argsort(x, axis=axis, descending=descending, stable=stable)


@primitive()
def nonzero(xp: Any, x: Array, /) -> tuple[Array, ...]:
    """Indices of the elements that are not zero, an array an axis."""
    return tuple(xp.nonzero(x))


@primitive()
def searchsorted(
    xp: Any, x1: Array, x2: Array, /, *, side: str = "left", sorter: Array | None = None
) -> Array:
    """Places in the sorted array ``x1`` at which the elements of ``x2`` belong."""
    return xp.searchsorted(x1, x2, side=side, sorter=backend.unwrap(sorter))


@primitive()
def isin(xp: Any, x1: Array, x2: Array, /, *, invert: bool = False) -> Array:
    """Whether each element of ``x1`` is in ``x2``."""
    return xp.isin(x1, x2, invert=invert)


@primitive()
def unique_all(xp: Any, x: Array, /) -> tuple[Array, ...]:
    """Unique values, the index of the first of each, the inverse, and the counts."""
    return xp.unique_all(x)


@primitive()
def unique_counts(xp: Any, x: Array, /) -> tuple[Array, ...]:
    """Unique values and their counts."""
    return xp.unique_counts(x)


@primitive()
def unique_inverse(xp: Any, x: Array, /) -> tuple[Array, ...]:
    """Unique values and the indices that rebuild ``x`` from them."""
    return xp.unique_inverse(x)


@primitive()
def unique_values(xp: Any, x: Array, /) -> Array:
    """Unique values."""
    return xp.unique_values(x)


__all__ = [name for name, value in globals().items() if isinstance(value, Primitive)]
