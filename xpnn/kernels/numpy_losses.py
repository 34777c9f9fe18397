"""NumPy kernel of cross-entropy: a few rows at a time, so that no more than their part is made."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn.kernels.numpy_memory import empty, scratch
from xpnn.kernels.numpy_parts import over_parts
from xpnn.kernels.numpy_reductions import maxima, sums

__all__ = [
    "softmax_cross_entropy",
    "softmax_cross_entropy_accepts",
    "softmax_cross_entropy_vjp",
]

Array = Any

# The least number that is not subnormal, and a logarithm above which a probability, also divided
# by some thousands of rows, is far from it.
_FAINT = {c: (np.finfo(c).tiny, 0.7 * np.log(np.finfo(c).tiny)) for c in "fd"}


def softmax_cross_entropy_accepts(
    logits: Array, labels: Array, *, smoothing: float, mean: bool
) -> bool:
    return logits.dtype.char in "fd" and logits.size > 0


def softmax_cross_entropy(
    xp: Any, logits: Array, labels: Array, *, smoothing: float, mean: bool
) -> tuple[Array, Array]:
    classes = logits.shape[-1]
    rows, targets = logits.reshape(-1, classes), labels.reshape(-1)
    loss, logarithm = (np.empty(len(rows), logits.dtype) for _ in range(2))

    def part(at: slice) -> None:
        x = rows[at]
        top = maxima(x)
        shifted = scratch("shifted", x.shape, x.dtype)
        np.subtract(x, top, out=shifted)
        target = shifted[np.arange(len(x)), targets[at]][:, None]
        if smoothing:
            target *= 1 - smoothing
            target += smoothing * shifted.mean(axis=-1, keepdims=True)
        np.exp(shifted, out=shifted)
        total = np.log(sums(shifted))
        np.subtract(total, target, out=loss[at, None])
        np.add(total, top, out=logarithm[at, None])

    over_parts(part, *rows.shape)
    if mean:
        value = np.add.reduce(loss) / loss.dtype.type(loss.size)
        return value, logarithm
    return loss.reshape(labels.shape), logarithm.reshape(*labels.shape, 1)


softmax_cross_entropy.residual = True  # type: ignore[attr-defined]


def softmax_cross_entropy_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    logits: Array,
    labels: Array,
    res: Array,
    smoothing: float,
    mean: bool,
) -> tuple[Array, None]:
    # softmax(x) - target, times the gradient of the row
    classes = logits.shape[-1]
    dx = empty(logits.shape, logits.dtype)
    rows, d_rows = (a.reshape(-1, classes) for a in (logits, dx))
    targets, logarithm = labels.reshape(-1), res.reshape(-1, 1)
    factor, factors = (g / len(rows), None) if mean else (None, g.reshape(-1, 1))
    tiny, far = _FAINT[dx.dtype.char]

    def part(at: slice) -> None:
        d = np.subtract(rows[at], logarithm[at], out=d_rows[at])
        faint = np.minimum.reduce(d, axis=None) < far
        np.exp(d, out=d)
        if smoothing:
            d -= smoothing / classes
        d[np.arange(len(d)), targets[at]] -= 1 - smoothing
        d *= factor if factors is None else factors[at]
        if faint:
            _drop_subnormal(d, tiny)

    over_parts(part, *rows.shape)
    return dx, None


def _drop_subnormal(d: Array, tiny: Any) -> None:
    """Write 0 where d is subnormal: products with such numbers take 50 times as long."""
    size = np.abs(d, out=scratch("size", d.shape, d.dtype))
    np.multiply(d, np.greater_equal(size, tiny, out=scratch("kept", d.shape, np.bool_)), out=d)
