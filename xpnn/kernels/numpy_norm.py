"""NumPy kernels of batch normalization: sums over blocks that stay in a cache.

The squares are those of deviations from about the mean, so that the memory is read as often as the
textbook's E[x^2] - E[x]^2 reads it, without its loss of digits. Blocks are shared out to the
threads, and their sums added up in their order, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.kernels.fast import sweep
from xpnn.kernels.numpy_memory import empty, scratch
from xpnn.kernels.numpy_parts import keep
from xpnn.kernels.numpy_products import multiply_alone
from xpnn.kernels.numpy_reductions import ones
from xpnn.parallel import share

__all__ = [
    "batch_norm",
    "batch_norm_accepts",
    "batch_norm_vjp",
    "deviations",
    "input_gradient",
    "products",
    "rectified",
    "rectified_gradient",
    "rectified_products",
    "scaled",
]

Array = Any
_BLOCK = 1 << 18  # elements: in smaller ones threads wait for each other between calls
_ROW = 1024
_SOME = 16
_SHARED = 1 << 19  # elements from which a second thread pays


def batch_norm_accepts(
    x: Array,
    scale: Array | None,
    shift: Array | None,
    axes: tuple[int, ...],
    epsilon: float,
    rectified: bool,
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


def _folded(found: Array, channels: int) -> Array:
    """Add up what was found in blocks (blocks, 2, a row): over blocks and the places of a row."""
    return found.sum(axis=0).reshape(2, -1, channels).sum(axis=1)


def _columns(block: Array) -> Array:
    return multiply_alone(ones(len(block), block.dtype), block)  # faster than a sum


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
def rectified(x: Array, center: Array, factor: Array, offset: Array, y: Array) -> None:
    """Write ``(x - center) * factor + offset``, or 0 where that is less."""
    scaled.plain(x, center, factor, offset, y)
    np.maximum(y, np.zeros_like(center), out=y)  # a row takes less time than a number


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


@sweep
def rectified_products(
    g: Array, x: Array, center: Array, factor: Array, offset: Array, dx: Array, sums: Array,
    products: Array,
) -> None:  # fmt: skip
    """Write the sums of :func:`products`, with g where :func:`rectified` is positive.

    That is left in ``dx`` for :func:`rectified_gradient`, unless it is computed anew.
    """
    d = np.subtract(x, center, out=scratch("deviation", x.shape, x.dtype))
    np.multiply(d, factor, out=dx)
    np.add(dx, offset, out=dx)
    keep(g, np.greater(dx, 0, out=scratch("above", x.shape, np.bool_)), dx)
    sums[...] = _columns(dx)
    np.multiply(d, dx, out=d)
    products[...] = _columns(d)


@sweep
def rectified_gradient(
    g: Array, x: Array, center: Array, factor: Array, offset: Array, slope: Array, level: Array,
    dx: Array,
) -> None:  # fmt: skip
    """Write :func:`input_gradient`, with g where :func:`rectified` is positive."""
    input_gradient.plain(dx, x, center, factor, slope, level, dx)


# ------------------------------------------------------------------------------- kernels


def _statistics(rows: Array, tile: int, channels: int) -> tuple[Array, Array]:
    """Return mean and variance, in float64.

    The deviations are first taken from the mean of every 16th row. That is not the mean of all, but
    so near to it, by the variance itself, that the squares lose a digit at most.
    """
    some, places = rows[::_SOME], len(rows) * tile
    near = (_columns(some).reshape(tile, channels).sum(axis=0) / (len(some) * tile)).astype(
        rows.dtype
    )
    center = np.tile(near, tile)
    found = np.empty((_count(rows), 2, len(center)))
    _each(rows, lambda i, at: deviations(rows[at], center, *found[i]))
    sums, squares = _folded(found, channels)
    rest = sums / places
    return near + rest, squares / places - rest**2


def batch_norm(
    xp: Any,
    x: Array,
    scale: Array | None,
    shift: Array | None,
    *,
    axes: tuple[int, ...],
    epsilon: float,
    rectified: bool,
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array | None]]:
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
    center, *line = (np.tile(v.astype(x.dtype), tile) for v in (around, factor, offset))
    f = _rectified if rectified else scaled
    _each(rows, lambda i, at: f(rows[at], center, *line, y_rows[at]))
    return (y, around, var.astype(x.dtype)), (mean, inverse, line[1] if rectified else None)


_rectified = rectified  # an argument has that name
batch_norm.residual = True  # type: ignore[attr-defined]


def batch_norm_vjp(
    xp: Any,
    g: tuple[Array | None, Array | None, Array | None],
    needs: list[bool],
    res: tuple[Array, Array, Array | None],
    x: Array,
    scale: Array | None,
    axes: tuple[int, ...],
) -> tuple[Array | None, ...]:
    g_y, g_mean, g_var = g
    mean, inverse, offset = res  # the offset only of what was rectified
    channels = x.shape[-1]
    places = x.size // channels
    tile = _tiling(places, channels)
    rows = np.ascontiguousarray(x).reshape(-1, tile * channels)
    around = mean.astype(x.dtype)
    center, rounded = np.tile(around, tile), around - mean
    factor = inverse if scale is None else inverse * scale
    factors = np.tile(factor.astype(x.dtype), tile)
    total, product = np.zeros(channels), np.zeros(channels)  # of g, and of g (x - mean)
    dx = empty(x.shape, x.dtype) if needs[0] or offset is not None else None
    dx_rows: Any = None if dx is None else dx.reshape(rows.shape)
    if g_y is not None:
        g_rows = np.ascontiguousarray(g_y, dtype=x.dtype).reshape(rows.shape)
        found = np.empty((_count(rows), 2, len(center)))

        def add(i: int, at: slice) -> None:
            if offset is None:
                products(g_rows[at], rows[at], center, *found[i])
            else:
                rectified_products(
                    g_rows[at], rows[at], center, factors, offset, dx_rows[at], *found[i]
                )

        _each(rows, add)
        total, product = _folded(found, channels)
        product += total * rounded
    if needs[0]:
        # dx = factor g - slope (x - mean) - level
        slope, level = factor * inverse**2 * product / places, factor * total / places
        if g_mean is not None:
            level = level - g_mean / places
        if g_var is not None:
            slope = slope - 2.0 * g_var / places
        level = level + slope * rounded
        slopes, levels = (np.tile(v.astype(x.dtype), tile) for v in (slope, level))

        def subtract(i: int, at: slice) -> None:
            if g_y is None:
                scaled(rows[at], center, -slopes, -levels, dx_rows[at])
            elif offset is None:
                input_gradient(g_rows[at], rows[at], center, factors, slopes, levels, dx_rows[at])
            else:
                rectified_gradient(
                    g_rows[at], rows[at], center, factors, offset, slopes, levels, dx_rows[at]
                )

        _each(rows, subtract)
    return (
        dx if needs[0] else None,
        (product * inverse).astype(x.dtype) if needs[1] and g_y is not None else None,
        total.astype(x.dtype) if needs[2] and g_y is not None else None,
    )
