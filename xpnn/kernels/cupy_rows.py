"""CUDA kernels of softmax, its logarithm and cross-entropy.

A row that fits into the registers of a block, 64 KB, is read once; of a longer one, all but the
loss, which needs no second look, read it twice. ``cuda/rows.cu`` counts what moves.
"""

from __future__ import annotations

from typing import Any

from xpnn.kernels.cupy_launch import Source, contiguous, cupy, wide
from xpnn.kernels.cupy_teams import Teams, aligned, are_rows, by_rows

__all__ = [
    "log_softmax",
    "log_softmax_accepts",
    "log_softmax_vjp",
    "softmax",
    "softmax_accepts",
    "softmax_cross_entropy",
    "softmax_cross_entropy_accepts",
    "softmax_cross_entropy_vjp",
    "softmax_vjp",
    "sources",
]

Array = Any

_rows = Source("rows", headers=("teams.cuh",))


def sources() -> dict[str, str]:
    """Return every CUDA source of this module by name, for the compile check."""
    return _rows.codes()


def _launch(name: str, x: Array, *arrays: Array) -> None:
    """Run a kernel over the rows of an array, after which they are cut."""
    shape = by_rows(x)
    Teams.of(x, shape[1]).launch(_rows, name, x.dtype, shape, *arrays)


# ------------------------------------------------------------------------------ softmax


def softmax_accepts(x: Array, *, axis: int) -> bool:
    return are_rows(x) and axis in (-1, x.ndim - 1)


def softmax(xp: Any, x: Array, *, axis: int) -> Array:
    x = aligned(x)
    y = cupy().empty_like(x)
    _launch("softmax", x, x, y)
    return y


def softmax_vjp(xp: Any, g: Array, needs: list[bool], y: Array, axis: int) -> tuple[Array]:
    g, y = aligned(g), aligned(y)
    dx = cupy().empty_like(y)
    _launch("softmax_vjp", y, g, y, dx)
    return (dx,)


def log_softmax_accepts(x: Array, *, axis: int) -> bool:
    return softmax_accepts(x, axis=axis)


def log_softmax(xp: Any, x: Array, *, axis: int) -> Array:
    x = aligned(x)
    y = cupy().empty_like(x)
    _launch("log_softmax", x, x, y)
    return y


def log_softmax_vjp(xp: Any, g: Array, needs: list[bool], y: Array, axis: int) -> tuple[Array]:
    g, y = aligned(g), aligned(y)
    dx = cupy().empty_like(y)
    _launch("log_softmax_vjp", y, g, y, dx)
    return (dx,)


# ------------------------------------------------------------------------ cross-entropy


def softmax_cross_entropy_accepts(
    logits: Array, labels: Array, *, smoothing: float, mean: bool
) -> bool:
    return are_rows(logits)


def softmax_cross_entropy(
    xp: Any, logits: Array, labels: Array, *, smoothing: float, mean: bool
) -> tuple[Array, Any]:
    logits, targets = aligned(logits), _whole(labels)
    rows, columns = by_rows(logits)
    loss, logarithm = (cupy().empty(rows, wide(logits.dtype)) for _ in range(2))
    Teams.of(logits, columns).launch_any(
        _rows, "cross_entropy", logits.dtype, (rows, columns),
        logits, targets, loss, logarithm, float(smoothing),
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
    logits, (logarithm, targets) = aligned(logits), res
    dx = cupy().empty_like(logits)
    rows, columns = by_rows(logits)
    of_row = contiguous(g.astype(logarithm.dtype, copy=False))
    Teams.of(logits, columns).launch_any(
        _rows, "cross_entropy_vjp", logits.dtype, (rows, columns),
        of_row, 0 if mean else 1, 1 / rows if mean else 1.0,
        logits, targets, logarithm, dx, float(smoothing),
    )  # fmt: skip
    return dx, None


def _whole(labels: Array) -> Array:
    return contiguous(labels.astype("int64", copy=False))
