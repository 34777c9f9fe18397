"""NumPy kernels of pooling: sweeps over the taps of a window, a block of images at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.kernels.fast import sweep
from xpnn.kernels.numpy_blocks import Pair, Pairs, clipped
from xpnn.kernels.numpy_memory import empty, scratch
from xpnn.parallel import share

__all__ = [
    "avg_pool2d",
    "avg_pool2d_accepts",
    "avg_pool2d_vjp",
    "max_pool2d",
    "max_pool2d_accepts",
    "max_pool2d_vjp",
    "tile_gradients",
    "tile_maxima",
]

Array = Any
_BLOCK = 1 << 18  # elements of x: in smaller ones threads wait for each other between calls
_SHARED = 1 << 20  # from which a second thread pays


def max_pool2d_accepts(x: Array, pool: Pair, stride: Pair, padding: Pairs, ceil_mode: bool) -> bool:
    """Whether the shapes fit (if not, the standard version says why) and the dtype is real."""
    if x.ndim != 4 or x.dtype.kind != "f" or 0 in x.shape[1:3] or min(padding[0] + padding[1]) < 0:
        return False
    axes = zip(x.shape[1:3], pool, padding, strict=True)
    return all(n + sum(p) >= k and max(p) < k for n, k, p in axes)


def avg_pool2d_accepts(
    x: Array,
    pool: Pair,
    stride: Pair,
    padding: Pairs,
    ceil_mode: bool,
    count_include_pad: bool,
    mode: str,
) -> bool:
    """Whether the shapes fit (if not, the standard version says why) and the dtype is real."""
    return max_pool2d_accepts(x, pool, stride, padding, ceil_mode)


def _outputs(x: Array, pool: Pair, stride: Pair, padding: Pairs, ceil_mode: bool) -> list[int]:
    outputs = []
    for n, k, s, (before, after) in zip(x.shape[1:3], pool, stride, padding, strict=True):
        room = n + before + after - k
        count = (-(-room // s) if ceil_mode else room // s) + 1
        outputs.append(count - (ceil_mode and (count - 1) * s >= n + before))
    return outputs


Places = tuple[slice, slice, slice]


def _taps(
    shape: tuple[int, ...], outputs: Any, pool: Pair, stride: Pair, padding: Pairs
) -> list[tuple[Places, Places]]:
    """Return for each tap the windows that see something with it, and what they see."""
    taps = []
    for i in range(pool[0]):
        down = clipped(i - padding[0][0], stride[0], shape[1], 0, outputs[0])
        for j in range(pool[1]):
            across = clipped(j - padding[1][0], stride[1], shape[2], 0, outputs[1])
            everything = slice(None)
            taps.append(((everything, down[0], across[0]), (everything, down[1], across[1])))
    return taps


def _each(shape: tuple[int, ...], work: Callable[[slice], None]) -> None:
    """Call ``work`` on some images at a time, on all threads if there are many."""
    n, height, width, c = shape
    step = max(_BLOCK // max(height * width * c, 1), 1)
    images = [slice(first, first + step) for first in range(0, n, step)]
    share(work, images, worth=math.prod(shape) > _SHARED)


def _tiles(shape: tuple[int, ...], outputs: Any, pool: Pair, stride: Pair, padding: Pairs) -> bool:
    """Whether every element of x is seen by one window, and once."""
    axes = zip(shape[1:3], outputs, pool, stride, padding, strict=True)
    return all(k == s and m * k == n and p == (0, 0) for n, m, k, s, p in axes)


def _reduce(
    f: Any, x: Array, y: Array, axis: int, k: int, stride: int, before: int, start: float
) -> None:
    """Write into ``y`` what ``f`` makes of the windows along one axis; padding is ``start``."""
    taps = _line(x.shape[axis], y.shape[axis], k, stride, before, axis)
    everything = slice(0, y.shape[axis])
    if k > 1 and all(places[axis] == everything for places, _ in taps):
        (_, one), (_, two), *taps = taps
        f(x[one], x[two], out=y)
    else:
        y[...] = start
    for places, seen in taps:
        part = y[places]
        f(part, x[seen], out=part)


def _line(
    n: int, outputs: int, k: int, stride: int, before: int, axis: int
) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Return for each tap along one axis the windows that see something, and what they see."""
    front = (slice(None),) * axis
    pairs = [clipped(i - before, stride, n, 0, outputs) for i in range(k)]
    return [((*front, places), (*front, seen)) for places, seen in pairs]


def _forward(
    f: Any,
    x: Array,
    outputs: list[int],
    pool: Pair,
    stride: Pair,
    padding: Pairs,
    start: float,
    shares: Array | None = None,
) -> Array:
    """Return what ``f`` makes of each window, times ``shares``.

    Rows of an image first, which are long runs, and then the columns of what is left.
    """
    y = empty((x.shape[0], *outputs, x.shape[3]), x.dtype)

    def work(images: slice) -> None:
        x_block, y_block = x[images], y[images]
        rows = scratch("rows", (len(x_block), outputs[0], *x.shape[2:]), x.dtype)
        _reduce(f, x_block, rows, 1, pool[0], stride[0], padding[0][0], start)
        _reduce(f, rows, y_block, 2, pool[1], stride[1], padding[1][0], start)
        if shares is not None:
            np.multiply(y_block, shares, out=y_block)

    _each(x.shape, work)
    return y


@sweep
def tile_maxima(x: Array, y: Array) -> None:
    """Write the maxima of the tiles of x of which y has one each."""
    tiles = _tiled(x, y)
    np.copyto(y, tiles[0])
    for tile in tiles[1:]:
        np.maximum(y, tile, out=y)


@sweep
def tile_gradients(x: Array, y: Array, g: Array, dx: Array) -> None:
    """Write g to where the maximum of each tile is first met, and 0 elsewhere."""
    free = scratch("free", y.shape, np.bool_)  # tiles that have not met their maximum
    free[...] = True
    miss = scratch("miss", y.shape, np.bool_)
    hit = scratch("hit", y.shape, np.bool_)
    for seen, to in zip(_tiled(x, y), _tiled(dx, y), strict=True):
        np.less(seen, y, out=miss)  # not "equal": so that what is not a number hits
        np.greater(free, miss, out=hit)
        np.logical_and(free, miss, out=free)
        np.multiply(g, hit, out=to)


def _tiled(x: Array, y: Array) -> list[Array]:
    """Return a view of x for each place within a tile."""
    down, across = x.shape[1] // y.shape[1], x.shape[2] // y.shape[2]
    return [x[:, i::down, j::across] for i in range(down) for j in range(across)]


def max_pool2d(
    xp: Any, x: Array, *, pool: Pair, stride: Pair, padding: Pairs, ceil_mode: bool
) -> Array:
    outputs = _outputs(x, pool, stride, padding, ceil_mode)
    if _tiles(x.shape, outputs, pool, stride, padding):
        x = np.ascontiguousarray(x)
        y = empty((x.shape[0], *outputs, x.shape[3]), x.dtype)
        f = _swept(tile_maxima, x)
        _each(x.shape, lambda images: f(x[images], y[images]))
        return y
    return _forward(np.maximum, x, outputs, pool, stride, padding, -np.inf)


def max_pool2d_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    y: Array,
    x: Array,
    pool: Pair,
    stride: Pair,
    padding: Pairs,
) -> tuple[Array]:
    outputs = y.shape[1:3]
    dx = empty(x.shape, x.dtype)
    if _tiles(x.shape, outputs, pool, stride, padding):
        x, y, g = (np.ascontiguousarray(a) for a in (x, y, g))
        f = _swept(tile_gradients, x)
        _each(x.shape, lambda at: f(x[at], y[at], g[at], dx[at]))
        return (dx,)
    taps = _taps(x.shape, outputs, pool, stride, padding)

    def work(images: slice) -> None:
        x_block, y_block, g_block, dx_block = x[images], y[images], g[images], dx[images]
        dx_block[...] = 0
        free = scratch("free", y_block.shape, np.bool_)  # windows that have not met their maximum
        free[...] = True
        misses = scratch("misses", y_block.shape, np.bool_)
        hits = scratch("hits", y_block.shape, np.bool_)
        for places, seen in taps:
            miss, hit, left = misses[places], hits[places], free[places]
            np.less(x_block[seen], y_block[places], out=miss)
            np.greater(left, miss, out=hit)
            np.logical_and(left, miss, out=left)
            term = scratch("term", hit.shape, dx.dtype)
            np.multiply(g_block[places], hit, out=term)
            to = dx_block[seen]
            np.add(to, term, out=to)

    _each(x.shape, work)
    return (dx,)


def _swept(f: Any, x: Array) -> Any:
    """Return the sweep that knows the dtype of an array: half precision is NumPy's alone."""
    return f if x.dtype.char in "fd" else f.plain


def avg_pool2d(
    xp: Any,
    x: Array,
    *,
    pool: Pair,
    stride: Pair,
    padding: Pairs,
    ceil_mode: bool,
    count_include_pad: bool,
    mode: str,
) -> Array:
    outputs = _outputs(x, pool, stride, padding, ceil_mode)
    shares = None
    if mode == "average":
        shares = _shares(x, outputs, pool, stride, padding, count_include_pad)
    return _forward(np.add, x, outputs, pool, stride, padding, 0.0, shares)


def avg_pool2d_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    x: Array,
    pool: Pair,
    stride: Pair,
    padding: Pairs,
    count_include_pad: bool,
    mode: str,
) -> tuple[Array]:
    outputs = g.shape[1:3]
    shares = None
    if mode == "average":
        shares = _shares(x, outputs, pool, stride, padding, count_include_pad)
    dx = empty(x.shape, x.dtype)

    def work(images: slice) -> None:
        block = dx[images]
        part = g[images]
        if shares is not None:
            part = scratch("term", part.shape, dx.dtype)
            np.multiply(g[images], shares, out=part)
        rows = scratch("rows", (len(block), outputs[0], *x.shape[2:]), dx.dtype)
        _spread(part, rows, 2, pool[1], stride[1], padding[1])
        _spread(rows, block, 1, pool[0], stride[0], padding[0])

    _each(x.shape, work)
    return (dx,)


def _spread(g: Array, x: Array, axis: int, k: int, stride: int, padding: Pair) -> None:
    """Write into ``x`` the sum of the windows that see it along one axis."""
    taps = _line(x.shape[axis], g.shape[axis], k, stride, padding[0], axis)
    if k == stride and padding == (0, 0) and g.shape[axis] * k == x.shape[axis]:
        for places, seen in taps:
            x[seen] = g[places]
        return
    x[...] = 0.0
    for places, seen in taps:
        to = x[seen]
        np.add(to, g[places], out=to)


def _shares(
    x: Array, outputs: Any, pool: Pair, stride: Pair, padding: Pairs, count_include_pad: bool
) -> Array:
    """Return one over the number of elements that each window counts, (H', W', 1)."""
    counts = []
    axes = zip(x.shape[1:3], outputs, pool, stride, padding, strict=True)
    for n, m, k, s, (before, after) in axes:
        low, high = (-before, n + after) if count_include_pad else (0, n)
        starts = np.arange(m) * s - before
        counts.append(np.minimum(starts + k, high) - np.maximum(starts, low))
    return (1.0 / np.outer(*counts)).astype(x.dtype)[:, :, None]
