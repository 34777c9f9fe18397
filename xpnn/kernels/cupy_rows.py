"""CUDA kernels of what is computed by rows: softmax, cross-entropy, layer normalization."""

from __future__ import annotations

import math
from typing import Any

from xpnn.kernels.cupy_launch import Source, contiguous, cupy, threads_for, wide
from xpnn.kernels.layouts import normalizes_rows

__all__ = [
    "log_softmax",
    "log_softmax_accepts",
    "log_softmax_vjp",
    "normalize",
    "normalize_accepts",
    "normalize_vjp",
    "softmax",
    "softmax_accepts",
    "softmax_cross_entropy",
    "softmax_cross_entropy_accepts",
    "softmax_cross_entropy_vjp",
    "softmax_vjp",
    "sources",
]

Array = Any

_rows = Source("rows")
_PARTS = 64  # at most, into which rows are divided for sums over them


def sources() -> dict[str, str]:
    """Return every CUDA source of this module by name, for the compile check."""
    return _rows.codes()


def _by_rows(x: Array, axes: int = 1) -> tuple[int, int]:
    """Return how many rows an array has, and how long they are, if they are its last axes."""
    columns = math.prod(x.shape[x.ndim - axes :])
    return x.size // columns, columns


def _is_real(x: Array) -> bool:
    return x.dtype.name in ("float16", "bfloat16", "float32", "float64")


# ------------------------------------------------------------------------------ softmax


def softmax_accepts(x: Array, *, axis: int) -> bool:
    return _is_real(x) and x.size > 0 and axis in (-1, x.ndim - 1)


def softmax(xp: Any, x: Array, *, axis: int) -> Array:
    x = contiguous(x)
    y = cupy().empty_like(x)
    rows, columns = _by_rows(x)
    _rows.launch("softmax", x.dtype, rows, threads_for(columns), x, y, columns)
    return y


def softmax_vjp(xp: Any, g: Array, needs: list[bool], y: Array, axis: int) -> tuple[Array]:
    g, y = contiguous(g), contiguous(y)
    dx = cupy().empty_like(y)
    rows, columns = _by_rows(y)
    _rows.launch("softmax_vjp", y.dtype, rows, threads_for(columns), g, y, dx, columns)
    return (dx,)


def log_softmax_accepts(x: Array, *, axis: int) -> bool:
    return softmax_accepts(x, axis=axis)


def log_softmax(xp: Any, x: Array, *, axis: int) -> Array:
    x = contiguous(x)
    y = cupy().empty_like(x)
    rows, columns = _by_rows(x)
    _rows.launch("log_softmax", x.dtype, rows, threads_for(columns), x, y, columns)
    return y


def log_softmax_vjp(xp: Any, g: Array, needs: list[bool], y: Array, axis: int) -> tuple[Array]:
    g, y = contiguous(g), contiguous(y)
    dx = cupy().empty_like(y)
    rows, columns = _by_rows(y)
    _rows.launch("log_softmax_vjp", y.dtype, rows, threads_for(columns), g, y, dx, columns)
    return (dx,)


# ------------------------------------------------------------------------ cross-entropy


def softmax_cross_entropy_accepts(
    logits: Array, labels: Array, *, smoothing: float, mean: bool
) -> bool:
    return _is_real(logits) and logits.size > 0


def softmax_cross_entropy(
    xp: Any, logits: Array, labels: Array, *, smoothing: float, mean: bool
) -> tuple[Array, Any]:
    logits, targets = contiguous(logits), _whole(labels)
    rows, columns = _by_rows(logits)
    loss, logarithm = (cupy().empty(rows, wide(logits.dtype)) for _ in range(2))
    _rows.launch(
        "cross_entropy", logits.dtype, rows, threads_for(columns),
        logits, targets, loss, logarithm, columns, float(smoothing),
    )  # fmt: skip
    value = loss.mean() if mean else loss.reshape(labels.shape)
    return value.astype(logits.dtype, copy=False), (logarithm, targets)


softmax_cross_entropy.residual = True  # type: ignore[attr-defined]


def softmax_cross_entropy_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    logits: Array,
    res: tuple[Array, Array],
    smoothing: float,
    mean: bool,
) -> tuple[Array, None]:
    logits, (logarithm, targets) = contiguous(logits), res
    dx = cupy().empty_like(logits)
    rows, columns = _by_rows(logits)
    of_row = contiguous(g.astype(logarithm.dtype, copy=False))
    _rows.launch(
        "cross_entropy_vjp", logits.dtype, rows, threads_for(columns),
        of_row, 0 if mean else 1, 1 / rows if mean else 1.0,
        logits, targets, logarithm, dx, columns, float(smoothing),
    )  # fmt: skip
    return dx, None


def _whole(labels: Array) -> Array:
    return contiguous(labels.astype("int64", copy=False))


# ------------------------------------------------------------------------ normalization


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
    return _is_real(x) and normalizes_rows(x, (scale, shift), axes)


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
    x = contiguous(x)
    rows, columns = _by_rows(x, len(axes))
    y, inverse = cupy().empty_like(x), cupy().empty(rows, wide(x.dtype))
    mean = cupy().empty_like(inverse) if centered else None
    _rows.launch(
        "normalize", x.dtype, rows, threads_for(columns),
        x, contiguous(scale), contiguous(shift), y, mean, inverse, columns, float(epsilon),
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
    g, x = contiguous(g), contiguous(x)
    rows, columns = _by_rows(x, len(axes))
    dx = d_scale = d_shift = None
    if needs[0]:
        dx = cupy().empty_like(x)
        _rows.launch(
            "normalize_vjp", x.dtype, rows, threads_for(columns),
            g, x, contiguous(scale), mean, inverse, dx, columns,
        )  # fmt: skip
    if (needs[1] and scale is not None) or (needs[2] and shift is not None):
        parts = min(-(-rows // 32), _PARTS)
        sums = cupy().empty((2, parts, columns), inverse.dtype)
        threads = threads_for(columns, 128)
        grid = (-(-columns // threads), parts)
        _rows.launch(
            "normalize_sums", x.dtype, grid, threads,
            g, x, mean, inverse, sums[0], sums[1], rows, columns,
        )  # fmt: skip
        totals = sums.sum(axis=1).astype(x.dtype, copy=False)
        if needs[1] and scale is not None:
            d_scale = totals[0].reshape(scale.shape)
        if needs[2] and shift is not None:
            d_shift = totals[1].reshape(shift.shape)
    return dx, d_scale, d_shift
