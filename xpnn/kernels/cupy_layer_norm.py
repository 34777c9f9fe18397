"""CUDA kernels of normalization by rows: that of layers, and of root mean squares.

A row that fits into the registers of a block, 64 KB, is read once. So is what its gradient needs;
with the gradients of scale and shift, whose sums take registers too, up to 8192 columns, or 4096 of
float64. ``cuda/layer_norm.cu`` counts what moves.
"""

from __future__ import annotations

from typing import Any

from xpnn.kernels.cupy_launch import Source, contiguous, cupy, threads_for, wide
from xpnn.kernels.cupy_teams import Teams, aligned, are_rows, by_rows
from xpnn.kernels.layouts import normalizes_rows

__all__ = ["normalize", "normalize_accepts", "normalize_vjp", "sources"]

Array = Any

_norm = Source("layer_norm", headers=("teams.cuh",))
_PARTS = 264  # at most, into which rows are divided for sums over them: two blocks a processor
_LONG_PARTS = 64  # where columns too are shared out to blocks


def sources() -> dict[str, str]:
    """Return every CUDA source of this module by name, for the compile check."""
    return _norm.codes()


def normalize_accepts(
    x: Array,
    scale: Array | None,
    shift: Array | None,
    *,
    axes: tuple[int, ...],
    epsilon: float,
    centered: bool,
) -> bool:
    """Whether the axes are the last ones, scale and shift of their lengths, all of one dtype."""
    return normalizes_rows(x, (scale, shift), axes) and are_rows(x, len(axes))


def normalize(
    xp: Any,
    x: Array,
    scale: Array | None,
    shift: Array | None,
    *,
    axes: tuple[int, ...],
    epsilon: float,
    centered: bool,
) -> tuple[Array, tuple[Array | None, Array]]:
    x = aligned(x)
    rows, columns = by_rows(x, len(axes))
    y, inverse = cupy().empty_like(x), cupy().empty(rows, wide(x.dtype))
    mean = cupy().empty_like(inverse) if centered else None
    Teams.of(x, columns).launch(
        _norm, "normalize", x.dtype, (rows, columns),
        x, contiguous(scale), contiguous(shift), y, mean, inverse, float(epsilon),
    )  # fmt: skip
    return y, (mean, inverse)


normalize.residual = True  # type: ignore[attr-defined]


def normalize_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    res: tuple[Array | None, Array],
    x: Array,
    scale: Array | None,
    shift: Array | None,
    axes: tuple[int, ...],
) -> tuple[Array | None, ...]:
    mean, inverse = res
    g, x, scale = aligned(g), aligned(x), contiguous(scale)
    shape = by_rows(x, len(axes))
    dx = cupy().empty_like(x) if needs[0] else None
    if not ((needs[1] and scale is not None) or (needs[2] and shift is not None)):
        if needs[0]:
            _of_rows(g, x, scale, mean, inverse, dx, shape)
        return dx, None, None
    teams = Teams.with_sums(x, shape[1])
    if teams.packs:
        parts = min(-(-shape[0] // (4 * teams.each)), _PARTS)
        sums = cupy().empty((2, parts, shape[1]), inverse.dtype)
        _norm.launch(
            "normalize_both", x.dtype, parts, teams.block,
            g, x, scale, mean, inverse, dx, sums, *shape, teams.size,
        )  # fmt: skip
    else:
        if needs[0]:
            _of_rows(g, x, scale, mean, inverse, dx, shape)
        sums = _of_columns(g, x, mean, inverse, shape)
    totals = cupy().empty((2, shape[1]), x.dtype)
    grid = (-(-shape[1] // 32), 2)
    _norm.launch("sum_parts", x.dtype, grid, 512, sums, totals, sums.shape[1], shape[1])
    return (
        dx,
        totals[0].reshape(scale.shape) if needs[1] and scale is not None else None,
        totals[1].reshape(shift.shape) if needs[2] and shift is not None else None,
    )


def _of_rows(
    g: Array, x: Array, scale: Array | None, mean: Array | None, inverse: Array, dx: Array,
    shape: tuple[int, int],
) -> None:  # fmt: skip
    """Compute the gradient of x alone."""
    Teams.of(x, shape[1]).launch(
        _norm, "normalize_vjp", x.dtype, shape, g, x, scale, mean, inverse, dx
    )


def _of_columns(
    g: Array, x: Array, mean: Array | None, inverse: Array, shape: tuple[int, int]
) -> Array:
    """Return parts of the sums over long rows that the gradients of scale and shift are."""
    parts, threads = min(-(-shape[0] // 32), _LONG_PARTS), threads_for(shape[1], 128)
    sums = cupy().empty((2, parts, shape[1]), inverse.dtype)
    grid = (-(-shape[1] // threads), parts)
    _norm.launch("normalize_sums", x.dtype, grid, threads, g, x, mean, inverse, sums, *shape)
    return sums
