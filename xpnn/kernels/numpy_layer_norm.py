"""NumPy kernel of normalization over the last axes: that of layers, and by root mean squares.

Rows are taken in parts that fit a cache; sums over parts are added up in their order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpnn import parallel
from xpnn.kernels.fast import sweep
from xpnn.kernels.layouts import normalizes_rows
from xpnn.kernels.numpy_memory import empty, scratch
from xpnn.kernels.numpy_parts import parts

__all__ = [
    "normalize",
    "normalize_accepts",
    "normalize_vjp",
    "rows_differentiated",
    "rows_normalized",
]

Array = Any


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
    return x.dtype.char in "fd" and normalizes_rows(x, (scale, shift), axes)


def normalize(
    xp: Any,
    x: Array,
    scale: Array | None,
    shift: Array | None,
    *,
    axes: tuple[int, ...],
    epsilon: float,
    centered: bool,
) -> tuple[Array, tuple[Array, Array]]:
    n = math.prod(x.shape[x.ndim - len(axes) :])
    rows = np.ascontiguousarray(x).reshape(-1, n)
    factor = np.ones(n, x.dtype) if scale is None else np.ascontiguousarray(scale).reshape(n)
    offset = np.zeros(n, x.dtype) if shift is None else np.ascontiguousarray(shift).reshape(n)
    y = empty(x.shape, x.dtype)
    y_rows = y.reshape(rows.shape)
    mean, inverse = (np.zeros(len(rows), x.dtype) for _ in range(2))
    added = x.dtype.type(epsilon)
    places = parts(*rows.shape)
    parallel.share(
        lambda at: rows_normalized(
            rows[at], factor, offset, added, centered, y_rows[at], mean[at], inverse[at]
        ),
        places,
        worth=len(places) > 3,
    )
    return y, (mean, inverse)


normalize.residual = True  # type: ignore[attr-defined]


def normalize_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    res: tuple[Array, Array],
    x: Array,
    scale: Array | None,
    shift: Array | None,
    axes: tuple[int, ...],
    centered: bool,
) -> tuple[Array | None, ...]:
    n = math.prod(x.shape[x.ndim - len(axes) :])
    rows, g_rows = (np.ascontiguousarray(a).reshape(-1, n) for a in (x, g))
    factor = np.ones(n, x.dtype) if scale is None else np.ascontiguousarray(scale).reshape(n)
    dx = empty(x.shape, x.dtype)
    dx_rows = dx.reshape(rows.shape)
    mean, inverse = res
    places = parts(*rows.shape)
    d_scale, d_shift = (np.zeros((len(places), n), x.dtype) for _ in range(2))

    def part(i: int) -> None:
        at = places[i]
        rows_differentiated(
            g_rows[at], rows[at], factor, mean[at], inverse[at], centered,
            dx_rows[at], d_scale[i], d_shift[i],
        )  # fmt: skip

    parallel.share(part, range(len(places)), worth=len(places) > 3)
    return (
        dx if needs[0] else None,
        None if scale is None or not needs[1] else d_scale.sum(axis=0).reshape(scale.shape),
        None if shift is None or not needs[2] else d_shift.sum(axis=0).reshape(shift.shape),
    )


# ----------------------------------------------------------------------------- sweeps over rows


@sweep
def rows_normalized(
    x: Array,
    scale: Array,
    shift: Array,
    epsilon: Any,
    centered: bool,
    y: Array,
    mean: Array,
    inverse: Array,
) -> None:
    """Write y = scale (x - mean) inverse + shift, the mean, and one over the deviation."""
    n = x.shape[1]
    if centered:
        np.mean(x, axis=1, out=mean)
    np.subtract(x, mean[:, None], out=y)
    np.divide(np.vecdot(y, y), n, out=inverse)
    inverse += epsilon
    np.sqrt(inverse, out=inverse)
    np.divide(1.0, inverse, out=inverse)
    y *= inverse[:, None]
    y *= scale
    y += shift


@sweep
def rows_differentiated(
    g: Array,
    x: Array,
    scale: Array,
    mean: Array,
    inverse: Array,
    centered: bool,
    dx: Array,
    d_scale: Array,
    d_shift: Array,
) -> None:
    """Write dx = (h - mean(h) - x^ mean(h x^)) inverse, h = g scale; sums of g x^ and of g."""
    n = x.shape[1]
    ones = np.ones(len(x), x.dtype)
    normal = scratch("normal", x.shape, x.dtype)
    np.subtract(x, mean[:, None], out=normal)
    normal *= inverse[:, None]
    np.multiply(g, normal, out=dx)
    np.matmul(ones, dx, out=d_scale)
    np.matmul(ones, g, out=d_shift)
    np.multiply(g, scale, out=dx)
    along = np.vecdot(dx, normal) / n
    if centered:
        level = dx.sum(axis=1)
        level /= n
        dx -= level[:, None]
    normal *= along[:, None]
    dx -= normal
    dx *= inverse[:, None]
