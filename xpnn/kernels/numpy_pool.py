"""NumPy kernels of pooling: sweeps over the taps of a window, a block of images at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from xpnn.kernels.numpy_blocks import Pair, Pairs, clipped, scratch

__all__ = [
    "avg_pool2d",
    "avg_pool2d_accepts",
    "avg_pool2d_vjp",
    "max_pool2d",
    "max_pool2d_accepts",
    "max_pool2d_vjp",
]

Array = Any
_BLOCK = 1 << 17  # elements of x: what a sweep reads stays in a second-level cache


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


def _images(shape: tuple[int, ...]) -> Iterator[slice]:
    n, height, width, c = shape
    step = max(_BLOCK // max(height * width * c, 1), 1)
    for first in range(0, n, step):
        yield slice(first, first + step)


def _tiles(shape: tuple[int, ...], outputs: Any, pool: Pair, stride: Pair, padding: Pairs) -> bool:
    """Whether every element of x is seen by one window, and once."""
    axes = zip(shape[1:3], outputs, pool, stride, padding, strict=True)
    return all(k == s and m * k == n and p == (0, 0) for n, m, k, s, p in axes)


def max_pool2d(
    xp: Any, x: Array, *, pool: Pair, stride: Pair, padding: Pairs, ceil_mode: bool
) -> Array:
    outputs = _outputs(x, pool, stride, padding, ceil_mode)
    y = np.empty((x.shape[0], *outputs, x.shape[3]), x.dtype)
    taps = _taps(x.shape, outputs, pool, stride, padding)
    whole = padding == ((0, 0), (0, 0)) and not ceil_mode  # every window sees something with each
    for images in _images(x.shape):
        x_block, y_block = x[images], y[images]
        rest = taps
        if not whole:
            y_block[...] = -np.inf
        elif len(taps) == 1:
            y_block[...] = x_block[taps[0][1]]
        else:
            (_, one), (_, two), *rest = taps
            np.maximum(x_block[one], x_block[two], out=y_block)
        for places, seen in rest:
            part = y_block[places]
            np.maximum(part, x_block[seen], out=part)
    return y


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
    taps = _taps(x.shape, outputs, pool, stride, padding)
    tiles = _tiles(x.shape, outputs, pool, stride, padding)
    dx = np.empty(x.shape, x.dtype) if tiles else np.zeros(x.shape, x.dtype)
    for images in _images(x.shape):
        x_block, y_block, g_block, dx_block = x[images], y[images], g[images], dx[images]
        free = scratch("free", y_block.shape, np.bool_)  # windows that have not met their maximum
        free[...] = True
        misses = scratch("misses", y_block.shape, np.bool_)
        hits = scratch("hits", y_block.shape, np.bool_)
        for places, seen in taps:
            miss, hit, left = misses[places], hits[places], free[places]
            # not "equal": so that what is not a number hits
            np.less(x_block[seen], y_block[places], out=miss)
            np.greater(left, miss, out=hit)
            np.logical_and(left, miss, out=left)
            to = dx_block[seen]
            if tiles:
                np.multiply(g_block[places], hit, out=to)
            else:
                term = scratch("term", hit.shape, dx.dtype)
                np.multiply(g_block[places], hit, out=term)
                np.add(to, term, out=to)
    return (dx,)


def avg_pool2d(
    xp: Any,
    x: Array,
    *,
    pool: Pair,
    stride: Pair,
    padding: Pairs,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Array:
    outputs = _outputs(x, pool, stride, padding, ceil_mode)
    y = np.zeros((x.shape[0], *outputs, x.shape[3]), x.dtype)
    taps = _taps(x.shape, outputs, pool, stride, padding)
    shares = _shares(x, outputs, pool, stride, padding, count_include_pad)
    for images in _images(x.shape):
        x_block, y_block = x[images], y[images]
        for places, seen in taps:
            part = y_block[places]
            np.add(part, x_block[seen], out=part)
        np.multiply(y_block, shares, out=y_block)
    return y


def avg_pool2d_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    x: Array,
    pool: Pair,
    stride: Pair,
    padding: Pairs,
    count_include_pad: bool,
) -> tuple[Array]:
    outputs = g.shape[1:3]
    taps = _taps(x.shape, outputs, pool, stride, padding)
    tiles = _tiles(x.shape, outputs, pool, stride, padding)
    shares = _shares(x, outputs, pool, stride, padding, count_include_pad)
    dx = np.empty(x.shape, x.dtype) if tiles else np.zeros(x.shape, x.dtype)
    for images in _images(x.shape):
        dx_block = dx[images]
        part = scratch("term", dx_block.shape[:1] + g.shape[1:], dx.dtype)
        np.multiply(g[images], shares, out=part)
        for places, seen in taps:
            to = dx_block[seen]
            if tiles:
                to[...] = part
            else:
                np.add(to, part[places], out=to)
    return (dx,)


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
