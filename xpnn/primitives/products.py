"""Products of matrices and vectors."""

from __future__ import annotations

import math
from typing import Any

from xpnn.primitives.base import Primitive, primitive, unbroadcast
from xpnn.primitives.elementwise import _c

Array = Any


@primitive()
def matmul(xp: Any, x1: Array, x2: Array, /) -> Array:
    """Matrix product over the last two axes; the axes before them broadcast."""
    return xp.matmul(x1, x2)  # not `@`: torch's does not promote


def _h(xp: Any, x: Array) -> Array:
    return _c(xp, xp.matrix_transpose(x))


def _matmul_vjp1(xp: Any, g: Array, x1_shape: tuple[int, ...], x2: Array) -> Array:
    if len(x1_shape) == 1:
        g = g[..., None, :] if x2.ndim > 1 else g[..., None, None]
        x2 = x2 if x2.ndim > 1 else x2[:, None]
        return unbroadcast(xp, xp.matmul(g, _h(xp, x2))[..., 0, :], x1_shape)
    if x2.ndim == 1:
        return unbroadcast(xp, g[..., None] * _c(xp, x2), x1_shape)
    return unbroadcast(xp, xp.matmul(g, _h(xp, x2)), x1_shape)


def _matmul_vjp2(xp: Any, g: Array, x1: Array, x2_shape: tuple[int, ...]) -> Array:
    if len(x2_shape) == 1:
        if x1.ndim == 1:
            return g * _c(xp, x1)
        return unbroadcast(xp, xp.matmul(_h(xp, x1), g[..., None])[..., 0], x2_shape)
    if x1.ndim == 1:
        return unbroadcast(xp, _c(xp, x1)[:, None] * g[..., None, :], x2_shape)
    if x1.ndim > 2 and len(x2_shape) == 2:  # one product instead of a stack of them and a sum
        n = math.prod(x1.shape[:-1])
        rows = xp.reshape(x1, (n, x1.shape[-1]))
        return xp.matmul(_h(xp, rows), xp.reshape(g, (n, g.shape[-1])))
    return unbroadcast(xp, xp.matmul(_h(xp, x1), g), x2_shape)


matmul.d(_matmul_vjp1, _matmul_vjp2)


def _tensordot_axes(axes: Any, ndim1: int, ndim2: int) -> tuple[list[int], list[int]]:
    if isinstance(axes, int):
        return list(range(ndim1 - axes, ndim1)), list(range(axes))
    return [a % ndim1 for a in axes[0]], [a % ndim2 for a in axes[1]]


@primitive()
def tensordot(xp: Any, x1: Array, x2: Array, /, *, axes: Any = 2) -> Array:
    """Sum of products over ``axes`` of two arrays."""
    return xp.tensordot(x1, x2, axes=axes)


def _tensordot_vjp1(xp: Any, g: Array, x1_shape: tuple[int, ...], x2: Array, axes: Any) -> Array:
    ndim1 = len(x1_shape)
    summed1, summed2 = _tensordot_axes(axes, ndim1, x2.ndim)
    free1 = [i for i in range(ndim1) if i not in summed1]
    free2 = [i for i in range(x2.ndim) if i not in summed2]
    out = xp.tensordot(g, _c(xp, x2), axes=(list(range(len(free1), g.ndim)), free2))
    # now free1 in order, then the summed axes in the order in which x2 has them
    order = free1 + [a for _, a in sorted(zip(summed2, summed1, strict=True))]
    return xp.permute_dims(out, tuple(order.index(i) for i in range(ndim1)))


def _tensordot_vjp2(xp: Any, g: Array, x1: Array, x2_shape: tuple[int, ...], axes: Any) -> Array:
    ndim2 = len(x2_shape)
    summed1, summed2 = _tensordot_axes(axes, x1.ndim, ndim2)
    free1 = [i for i in range(x1.ndim) if i not in summed1]
    free2 = [i for i in range(ndim2) if i not in summed2]
    out = xp.tensordot(_c(xp, x1), g, axes=(free1, list(range(len(free1)))))
    order = [b for _, b in sorted(zip(summed1, summed2, strict=True))] + free2
    return xp.permute_dims(out, tuple(order.index(i) for i in range(ndim2)))


tensordot.d(_tensordot_vjp1, _tensordot_vjp2)


@primitive(broadcasts=False)
def vecdot(xp: Any, x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Sum over an axis of ``conj(x1) * x2``; the other axes broadcast."""
    return xp.vecdot(x1, x2, axis=axis)


vecdot.d(
    lambda xp, g, x1_shape, x2, axis: unbroadcast(
        xp, _c(xp, xp.expand_dims(g, axis=axis)) * x2, x1_shape
    ),
    lambda xp, g, x1, x2_shape, axis: unbroadcast(xp, xp.expand_dims(g, axis=axis) * x1, x2_shape),
)


__all__ = [name for name, value in globals().items() if isinstance(value, Primitive)]
