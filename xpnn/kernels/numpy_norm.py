"""NumPy kernels of batch normalization: each block is read once for the statistics.

Within a block, which stays in a cache, the mean comes first and then the squared deviations; the
blocks are joined in float64 (Chan, Golub & LeVeque, 1983). So the memory is read as often as the
textbook's E[x^2] - E[x]^2 reads it, without its loss of digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from xpnn.kernels.numpy_memory import empty, scratch

__all__ = ["batch_norm", "batch_norm_accepts", "batch_norm_vjp"]

Array = Any
_BLOCK = 1 << 17  # elements
_ROW = 1024


def batch_norm_accepts(
    x: Array, scale: Array | None, shift: Array | None, axes: tuple[int, ...], epsilon: float
) -> bool:
    """Whether the channels are on the last axis, and everything is of one precision."""
    if x.dtype.char not in "fd" or x.size == 0 or x.ndim < 2:
        return False
    if sorted(a % x.ndim for a in axes) != list(range(x.ndim - 1)):
        return False
    vectors = [v for v in (scale, shift) if v is not None]
    return all(v.shape == x.shape[-1:] and v.dtype == x.dtype for v in vectors)


def _tiling(places: int, channels: int) -> int:
    """Return how many places to take for a row: rows of a few channels make slow loops."""
    tile = 1
    while places % (2 * tile) == 0 and 2 * tile * channels <= _ROW:
        tile *= 2
    return tile


def _blocks(rows: int, row_size: int) -> Iterator[slice]:
    step = max(_BLOCK // row_size, 1)
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


def _sums(block: Array, channels: int) -> Array:
    """Sum over the places of a block, in float64 beyond its rows; a product with ones is fast."""
    ones = np.ones(len(block), block.dtype)
    return (ones @ block).reshape(-1, channels).sum(axis=0, dtype=np.float64)


def batch_norm(
    xp: Any,
    x: Array,
    scale: Array | None,
    shift: Array | None,
    *,
    axes: tuple[int, ...],
    epsilon: float,
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
    channels = x.shape[-1]
    places = x.size // channels
    tile = _tiling(places, channels)
    rows = x.reshape(-1, tile * channels)
    count, mean, squares = 0, np.zeros(channels), np.zeros(channels)
    for at in _blocks(*rows.shape):
        block = rows[at]
        n = len(block) * tile
        block_mean = _sums(block, channels) / n
        deviation = scratch("deviation", block.shape, x.dtype)
        around = block_mean.astype(x.dtype)
        np.subtract(block, np.tile(around, tile), out=deviation)
        block_mean = around + _sums(deviation, channels) / n  # what rounding the mean left over
        np.multiply(deviation, deviation, out=deviation)
        block_squares = _sums(deviation, channels) - n * (block_mean - around) ** 2
        gap = block_mean - mean
        mean += gap * (n / (count + n))
        squares += block_squares + gap * gap * (count * n / (count + n))
        count += n
    var = squares / places
    inverse = 1.0 / np.sqrt(var + epsilon)
    around = mean.astype(x.dtype)
    factor = inverse if scale is None else inverse * scale
    offset = (around - mean) * factor
    if shift is not None:
        offset = offset + shift
    y = empty(x.shape, x.dtype)
    y_rows = y.reshape(rows.shape)
    center, factors, offsets = (np.tile(v.astype(x.dtype), tile) for v in (around, factor, offset))
    for at in _blocks(*rows.shape):
        block = y_rows[at]
        np.subtract(rows[at], center, out=block)
        np.multiply(block, factors, out=block)
        np.add(block, offsets, out=block)
    return (y, around, var.astype(x.dtype)), (mean, inverse)


batch_norm.residual = True  # type: ignore[attr-defined]


def batch_norm_vjp(
    xp: Any,
    g: tuple[Array | None, Array | None, Array | None],
    needs: list[bool],
    res: tuple[Array, Array],
    x: Array,
    scale: Array | None,
    axes: tuple[int, ...],
) -> tuple[Array | None, ...]:
    g_y, g_mean, g_var = g
    mean, inverse = res
    channels = x.shape[-1]
    places = x.size // channels
    tile = _tiling(places, channels)
    rows = x.reshape(-1, tile * channels)
    around = mean.astype(x.dtype)
    center, rounded = np.tile(around, tile), around - mean
    total, product = np.zeros(channels), np.zeros(channels)  # of g, and of g (x - mean)
    if g_y is not None:
        g_rows = np.ascontiguousarray(g_y, dtype=x.dtype).reshape(rows.shape)
        for at in _blocks(*rows.shape):
            total += _sums(g_rows[at], channels)
            term = scratch("deviation", rows[at].shape, x.dtype)
            np.subtract(rows[at], center, out=term)
            np.multiply(term, g_rows[at], out=term)
            product += _sums(term, channels)
        product += total * rounded
    dx = None
    if needs[0]:
        # dx = factor g - slope (x - mean) - level
        factor = inverse if scale is None else inverse * scale
        slope, level = factor * inverse**2 * product / places, factor * total / places
        if g_mean is not None:
            level = level - g_mean / places
        if g_var is not None:
            slope = slope - 2.0 * g_var / places
        level = level + slope * rounded
        factors, slopes, levels = (np.tile(v.astype(x.dtype), tile) for v in (factor, slope, level))
        dx = empty(x.shape, x.dtype)
        dx_rows = dx.reshape(rows.shape)
        for at in _blocks(*rows.shape):
            block = dx_rows[at]
            np.subtract(rows[at], center, out=block)
            np.multiply(block, slopes, out=block)
            np.add(block, levels, out=block)
            if g_y is None:
                np.negative(block, out=block)
                continue
            term = scratch("deviation", block.shape, x.dtype)
            np.multiply(g_rows[at], factors, out=term)
            np.subtract(term, block, out=block)
    return (
        dx,
        (product * inverse).astype(x.dtype) if needs[1] and g_y is not None else None,
        total.astype(x.dtype) if needs[2] and g_y is not None else None,
    )
