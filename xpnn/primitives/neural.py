"""Fused functions of neural networks: linear map, dropout."""

from __future__ import annotations

import math
from typing import Any

from xpnn.primitives.base import Primitive, primitive, summed

Array = Any


@primitive()
def linear(xp: Any, x: Array, weight: Array, bias: Array | None, /) -> Array:
    """Affine map ``x W + b`` of the last axis: (..., in), (in, out), (out,) -> (..., out)."""
    n = math.prod(x.shape[:-1])
    rows = x if x.ndim == 2 else xp.reshape(x, (n, x.shape[-1]))  # one product, not a stack
    y = rows @ weight
    if bias is not None:
        y = y + bias
    return y if x.ndim == 2 else xp.reshape(y, (*x.shape[:-1], weight.shape[1]))


@linear.vjp
def _linear_vjp(
    xp: Any, g: Array, needs: list[bool], x: Array, weight: Array
) -> tuple[Array | None, ...]:
    rows, g_rows = x, g
    if x.ndim != 2:
        n = math.prod(x.shape[:-1])
        rows, g_rows = xp.reshape(x, (n, x.shape[-1])), xp.reshape(g, (n, g.shape[-1]))
    dx = xp.reshape(g_rows @ weight.T, x.shape) if needs[0] else None
    dw = rows.T @ g_rows if needs[1] else None
    db = summed(xp, g_rows, 0) if needs[2] else None
    return dx, dw, db


@primitive()
def dropout(xp: Any, x: Array, mask: Array, /, *, scale: float) -> Array:
    """``scale * x`` where the mask is True, zero elsewhere."""
    return xp.where(mask, x * scale, xp.zeros_like(x))


dropout.d(lambda xp, g, mask, scale: dropout(xp, g, mask, scale=scale), None)


@primitive()
def alpha_dropout(
    xp: Any, x: Array, mask: Array, /, *, scale: float, shift: float, dropped: float
) -> Array:
    """``scale * x + shift`` where the mask is True, ``dropped`` elsewhere."""
    return xp.where(mask, x * scale + shift, dropped)


alpha_dropout.d(lambda xp, g, mask, scale: dropout(xp, g, mask, scale=scale), None)


@primitive()
def logsumexp(
    xp: Any, x: Array, /, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False
) -> Array:
    """Logarithm of the sum of exponentials over axes, without overflow."""
    top = xp.max(x, axis=axis, keepdims=True)
    top = xp.where(xp.abs(top) == math.inf, xp.zeros_like(top), top)
    total = xp.sum(xp.exp(x - top), axis=axis, keepdims=True)
    nothing = total == 0  # every x is -inf, and so is the result
    total = xp.log(xp.where(nothing, xp.ones_like(total), total)) + top
    total = xp.where(nothing, xp.full_like(total, -math.inf), total)
    if keepdims:
        return total
    axes = tuple(range(x.ndim)) if axis is None else axis
    return xp.squeeze(total, axis=axes)


def _logsumexp_vjp(xp: Any, g: Array, y: Array, x: Array, axis: Any, keepdims: bool) -> Array:
    if not keepdims:
        axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
        axes = {a % x.ndim for a in axes}
        kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        g, y = xp.reshape(g, kept), xp.reshape(y, kept)
    return g * xp.exp(x - xp.where(y == -math.inf, xp.zeros_like(y), y))


logsumexp.d(_logsumexp_vjp)


__all__ = [name for name, value in globals().items() if isinstance(value, Primitive)]
