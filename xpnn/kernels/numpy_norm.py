"""NumPy kernels of batch normalization: each block is read once for the statistics.

Within a block, which stays in a cache, the mean comes first and then the squared deviations; the
blocks are joined in float64 (Chan, Golub & LeVeque, 1983). So the memory is read as often as the
textbook's E[x^2] - E[x]^2 reads it, without its loss of digits. Blocks are shared out to the
threads, and joined in their order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.kernels.fast import sweep
from xpnn.kernels.numpy_memory import empty, scratch
from xpnn.parallel import share

__all__ = [
    "batch_norm",
    "batch_norm_accepts",
    "batch_norm_vjp",
    "deviations",
    "input_gradient",
    "products",
    "scaled",
]

Array = Any
_BLOCK = 1 << 17  # elements
_ROW = 1024
_SHARED = 1 << 19  # elements from which a second thread pays


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


def _step(rows: Array) -> int:
    return max(_BLOCK // rows.shape[1], 1)


def _count(rows: Array) -> int:
    """Return how many blocks there are."""
    return -(-len(rows) // _step(rows))


def _each(rows: Array, work: Callable[[int, slice], None]) -> None:
    """Call ``work`` on every block of rows, with its number."""
    step = _step(rows)
    share(
        lambda i: work(i, slice(i * step, (i + 1) * step)),
        range(_count(rows)),
        worth=rows.size > _SHARED,
    )


def _folded(sums: Array, channels: int) -> Array:
    """Return sums over the places of a row, in float64."""
    return sums.reshape(-1, channels).sum(axis=0, dtype=np.float64)


def _columns(block: Array) -> Array:
    return np.ones(len(block), block.dtype) @ block  # faster than a sum


# ------------------------------------------------------------------------------- sweeps


@sweep
def deviations(x: Array, center: Array, sums: Array, squares: Array) -> None:
    """Write the sums over rows of ``x - center`` and of its squares."""
    d = scratch("deviation", x.shape, x.dtype)
    np.subtract(x, center, out=d)
    sums[...] = _columns(d)
    np.multiply(d, d, out=d)
    squares[...] = _columns(d)


@sweep
def scaled(x: Array, center: Array, factor: Array, offset: Array, y: Array) -> None:
    """Write ``(x - center) * factor + offset``."""
    np.subtract(x, center, out=y)
    np.multiply(y, factor, out=y)
    np.add(y, offset, out=y)


@sweep
def products(g: Array, x: Array, center: Array, sums: Array, products: Array) -> None:
    """Write the sums over rows of g and of ``g (x - center)``."""
    sums[...] = _columns(g)
    d = scratch("deviation", x.shape, x.dtype)
    np.subtract(x, center, out=d)
    np.multiply(d, g, out=d)
    products[...] = _columns(d)


@sweep
def input_gradient(
    g: Array, x: Array, center: Array, factor: Array, slope: Array, level: Array, dx: Array
) -> None:
    """Write ``factor g - slope (x - center) - level``."""
    d = scratch("deviation", x.shape, x.dtype)
    np.subtract(x, center, out=d)
    np.multiply(d, slope, out=d)
    np.add(d, level, out=d)
    np.multiply(g, factor, out=dx)
    np.subtract(dx, d, out=dx)


# ------------------------------------------------------------------------------- kernels


def _statistics(rows: Array, tile: int, channels: int) -> tuple[Array, Array]:
    """Return mean and variance, in float64."""
    found = np.empty((_count(rows), 3, channels))

    def work(i: int, at: slice) -> None:
        block = rows[at]
        n = len(block) * tile
        around = (_folded(_columns(block), channels) / n).astype(rows.dtype)
        sums, squares = np.empty((2, rows.shape[1]))
        deviations(block, np.tile(around, tile), sums, squares)
        rest = _folded(sums, channels) / n  # what rounding the mean left over
        found[i, 0], found[i, 1] = n, around + rest
        found[i, 2] = _folded(squares, channels) - n * rest**2

    _each(rows, work)
    count, mean, squares = 0.0, np.zeros(channels), np.zeros(channels)
    for n, block_mean, block_squares in found:
        gap = block_mean - mean
        mean += gap * (n / (count + n))
        squares += block_squares + gap * gap * (count * n / (count + n))
        count = count + n
    return mean, squares / count


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
    tile = _tiling(x.size // channels, channels)
    rows = np.ascontiguousarray(x).reshape(-1, tile * channels)
    mean, var = _statistics(rows, tile, channels)
    inverse = 1.0 / np.sqrt(var + epsilon)
    around = mean.astype(x.dtype)
    factor = inverse if scale is None else inverse * scale
    offset = (around - mean) * factor
    if shift is not None:
        offset = offset + shift
    y = empty(x.shape, x.dtype)
    y_rows = y.reshape(rows.shape)
    center, factor, offset = (np.tile(v.astype(x.dtype), tile) for v in (around, factor, offset))
    _each(rows, lambda i, at: scaled(rows[at], center, factor, offset, y_rows[at]))
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
    rows = np.ascontiguousarray(x).reshape(-1, tile * channels)
    around = mean.astype(x.dtype)
    center, rounded = np.tile(around, tile), around - mean
    total, product = np.zeros(channels), np.zeros(channels)  # of g, and of g (x - mean)
    if g_y is not None:
        g_rows = np.ascontiguousarray(g_y, dtype=x.dtype).reshape(rows.shape)
        found = np.empty((_count(rows), 2, channels))

        def add(i: int, at: slice) -> None:
            sums, of_products = np.empty((2, rows.shape[1]))
            products(g_rows[at], rows[at], center, sums, of_products)
            found[i] = _folded(sums, channels), _folded(of_products, channels)

        _each(rows, add)
        total, product = found.sum(axis=0)
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
        if g_y is None:
            _each(rows, lambda i, at: scaled(rows[at], center, -slopes, -levels, dx_rows[at]))
        else:
            _each(
                rows,
                lambda i, at: input_gradient(
                    g_rows[at], rows[at], center, factors, slopes, levels, dx_rows[at]
                ),
            )
    return (
        dx,
        (product * inverse).astype(x.dtype) if needs[1] and g_y is not None else None,
        total.astype(x.dtype) if needs[2] and g_y is not None else None,
    )
