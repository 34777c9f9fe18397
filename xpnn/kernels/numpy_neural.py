"""NumPy kernels of fused functions and activations: no temporary that need not be.

Each mutates only what it has just made.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpnn.kernels.numpy_products import product

__all__ = [
    "dropout",
    "dropout_vjp",
    "linear",
    "linear_vjp",
    "relu",
    "relu_vjp",
    "softmax",
    "softmax_accepts",
    "softmax_cross_entropy",
    "softmax_cross_entropy_vjp",
    "softmax_vjp",
]

Array = Any

_FEW = 64  # rows


def linear(xp: Any, x: Array, weight: Array, bias: Array | None) -> Array:
    rows = x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = _times_transposed(rows, weight.T) if _lies_across(weight) else product(rows, weight)
    if bias is not None:
        y = np.add(y, bias, out=y if y.dtype == np.result_type(y, bias) else None)
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], weight.shape[1])


def linear_vjp(
    xp: Any, g: Array, needs: list[bool], x: Array, weight: Array
) -> tuple[Array | None, ...]:
    rows, g_rows = x, g
    if x.ndim != 2:
        n = math.prod(x.shape[:-1])
        rows, g_rows = x.reshape(n, x.shape[-1]), g.reshape(n, g.shape[-1])
    across = _lies_across(weight)
    dx = dw = None
    if needs[0]:
        dx = product(g_rows, weight.T) if across else _times_transposed(g_rows, weight)
        dx = dx.reshape(x.shape)
    if needs[1]:  # in the order of the weight's elements, as it is added to what lies like that
        dw = product(g_rows.T, rows).T if across else product(rows.T, g_rows)
    # A product with ones adds up columns twice as fast as sum(axis=0).
    db = np.ones(len(g_rows), g.dtype) @ g_rows if needs[2] else None
    return dx, dw, db


def _lies_across(weight: Array) -> bool:
    """Tell the transpose of a matrix, such as the weight of a decoder that is the encoder's."""
    return bool(weight.flags.f_contiguous and not weight.flags.c_contiguous)


def _times_transposed(rows: Array, weight: Array) -> Array:
    """Return ``rows @ weight.T``, for which BLAS needs up to twice the time if rows are few."""
    if len(rows) > _FEW:
        return product(rows, weight.T)
    return np.ascontiguousarray((weight @ rows.T).T)


def relu(xp: Any, x: Array) -> Array:
    return np.maximum(x, 0)


def relu_vjp(xp: Any, g: Array, needs: list[bool], y: Array) -> tuple[Array]:
    return (np.multiply(g, y > 0),)


def softmax_accepts(x: Array, *, axis: int) -> bool:
    return x.size > 0 and x.ndim > 0 and x.dtype.kind == "f"


def softmax(xp: Any, x: Array, *, axis: int) -> Array:
    # A difference that overflows has the exponential 0, as it should; only the warning is unwanted.
    with np.errstate(over="ignore"):
        y = np.subtract(x, x.max(axis=axis, keepdims=True))
    np.exp(y, out=y)
    y /= y.sum(axis=axis, keepdims=True)
    return y


def softmax_vjp(xp: Any, g: Array, needs: list[bool], y: Array, axis: int) -> tuple[Array]:
    dx = np.multiply(g, y)
    np.subtract(g, dx.sum(axis=axis, keepdims=True), out=dx)
    dx *= y
    return (dx,)


def softmax_cross_entropy(
    xp: Any, logits: Array, labels: Array, *, smoothing: float
) -> tuple[Array, Array]:
    top = logits.max(axis=-1, keepdims=True)
    shifted = np.subtract(logits, top)
    target = np.take_along_axis(shifted, labels[..., None], axis=-1)
    if smoothing:
        target *= 1 - smoothing
        target += smoothing * shifted.mean(axis=-1, keepdims=True)
    np.exp(shifted, out=shifted)
    total = np.log(shifted.sum(axis=-1, keepdims=True))
    return (total - target)[..., 0], total + top


softmax_cross_entropy.residual = True  # type: ignore[attr-defined]


def softmax_cross_entropy_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    logits: Array,
    labels: Array,
    res: Array,
    smoothing: float,
) -> tuple[Array, None]:
    dx = np.subtract(logits, res, order="C")  # so that the rows below are a view of it
    np.exp(dx, out=dx)
    if smoothing:
        dx -= smoothing / dx.shape[-1]
    flat = dx.reshape(labels.size, dx.shape[-1])
    flat[np.arange(labels.size), labels.reshape(-1)] -= 1 - smoothing
    dx *= g[..., None]
    return dx, None


def dropout(xp: Any, x: Array, mask: Array, *, scale: float) -> Array:
    y = np.multiply(x, mask)
    y *= scale
    return y


def dropout_vjp(
    xp: Any, g: Array, needs: list[bool], mask: Array, scale: float
) -> tuple[Array, None]:
    return dropout(xp, g, mask, scale=scale), None
