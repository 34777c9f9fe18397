"""Sums, extrema, statistics and cumulative sums along axes."""

from __future__ import annotations

import math
from typing import Any

from xpnn._dtypes import as_dtype
from xpnn.primitives.base import Primitive, cast, primitive
from xpnn.primitives.shape import stack

Array = Any
Axis = int | tuple[int, ...] | None


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    """Return the reduced axes, each counted from the front."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in ((axis,) if isinstance(axis, int) else axis))


def _spread(xp: Any, g: Array, shape: tuple[int, ...], axis: Axis) -> Array:
    """Broadcast what a reduction gave back over the axes that it reduced."""
    axes = _axes(axis, len(shape))
    kept = tuple(1 if i in axes else n for i, n in enumerate(shape))
    return xp.broadcast_to(xp.reshape(g, kept), shape)


def _count(shape: tuple[int, ...], axis: Axis) -> int:
    return math.prod(shape[i] for i in _axes(axis, len(shape)))


@primitive()
def sum(
    xp: Any, x: Array, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False
) -> Array:
    """Sum over axes."""
    return xp.sum(x, axis=axis, dtype=dtype, keepdims=keepdims)


def _sum_vjp(xp: Any, g: Array, x_shape: tuple[int, ...], x_dtype: Any, axis: Axis) -> Array:
    return _spread(xp, cast(xp, g, x_dtype), x_shape, axis)


sum.d(_sum_vjp)


@primitive()
def mean(xp: Any, x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Arithmetic mean over axes."""
    return xp.mean(x, axis=axis, keepdims=keepdims)


mean.d(
    lambda xp, g, x_shape, axis: _spread(xp, g / (_count(x_shape, axis) or 1), x_shape, axis),
)


@primitive()
def var(
    xp: Any, x: Array, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False
) -> Array:
    """Variance over axes: the squared deviations over n - ``correction``."""
    return xp.var(x, axis=axis, correction=correction, keepdims=keepdims)


def _var_vjp(xp: Any, g: Array, x: Array, axis: Axis, correction: float) -> Array:
    deviation = x - xp.mean(x, axis=axis, keepdims=True)
    freedom = _count(x.shape, axis) - correction
    scale = 2.0 / freedom if freedom > 0 else math.inf
    return _spread(xp, g * scale, x.shape, axis) * deviation


var.d(_var_vjp)


@primitive()
def std(
    xp: Any, x: Array, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False
) -> Array:
    """Standard deviation over axes."""
    return xp.std(x, axis=axis, correction=correction, keepdims=keepdims)


std.d(
    lambda xp, g, y, x, axis, correction: _var_vjp(xp, g / (2 * y), x, axis, correction),
)


@primitive()
def prod(
    xp: Any, x: Array, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False
) -> Array:
    """Product over axes."""
    return xp.prod(x, axis=axis, dtype=dtype, keepdims=keepdims)


def _prod_vjp(xp: Any, g: Array, x: Array, axis: Axis) -> Array:
    # The product of all others, from the left and from the right: right where elements are zero.
    axes = _axes(axis, x.ndim)
    order = tuple(i for i in range(x.ndim) if i not in axes) + axes
    kept = tuple(x.shape[i] for i in order[: x.ndim - len(axes)])
    flat = xp.reshape(xp.permute_dims(x, order), (*kept, _count(x.shape, axes)))
    left = xp.cumulative_prod(flat, axis=-1, include_initial=True)[..., :-1]
    right = xp.flip(
        xp.cumulative_prod(xp.flip(flat, axis=-1), axis=-1, include_initial=True)[..., :-1], axis=-1
    )
    others = left * right
    if as_dtype(x.dtype).kind == "c":
        others = xp.conj(others)
    others = xp.reshape(others, tuple(x.shape[i] for i in order))
    back = tuple(order.index(i) for i in range(x.ndim))
    g = cast(xp, g, x.dtype)
    return _spread(xp, g, x.shape, axis) * xp.permute_dims(others, back)


prod.d(_prod_vjp)


def _extremum_vjp(xp: Any, g: Array, y: Array, x: Array, axis: Axis) -> Array:
    """Share the gradient evenly between the elements that tie."""
    hits = xp.astype(x == _spread(xp, y, x.shape, axis), g.dtype)
    ties = xp.sum(hits, axis=axis, keepdims=True)
    return _spread(xp, g, x.shape, axis) * (hits / ties)


@primitive()
def max(xp: Any, x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Largest element over axes; ties share the gradient."""
    return xp.max(x, axis=axis, keepdims=keepdims)


@primitive()
def min(xp: Any, x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Smallest element over axes; ties share the gradient."""
    return xp.min(x, axis=axis, keepdims=keepdims)


max.d(_extremum_vjp)
min.d(_extremum_vjp)


@primitive()
def cumulative_sum(
    xp: Any,
    x: Array,
    /,
    *,
    axis: int | None = None,
    dtype: Any = None,
    include_initial: bool = False,
) -> Array:
    """Running sum along an axis."""
    return xp.cumulative_sum(x, axis=axis, dtype=dtype, include_initial=include_initial)


def _only_axis(axis: int | None, ndim: int) -> int:
    return ndim - 1 if axis is None else axis % ndim


def _drop_first(xp: Any, g: Array, axis: int) -> Array:
    return g[(slice(None),) * axis + (slice(1, None), ...)]


def _cumulative_sum_vjp(
    xp: Any, g: Array, x_shape: Any, x_dtype: Any, axis: int | None, include_initial: bool
) -> Array:
    axis = _only_axis(axis, len(x_shape))
    if include_initial:
        g = _drop_first(xp, g, axis)
    g = xp.flip(xp.cumulative_sum(xp.flip(g, axis=axis), axis=axis), axis=axis)
    return cast(xp, g, x_dtype)


cumulative_sum.d(_cumulative_sum_vjp)


@primitive()
def cumulative_prod(
    xp: Any,
    x: Array,
    /,
    *,
    axis: int | None = None,
    dtype: Any = None,
    include_initial: bool = False,
) -> Array:
    """Running product along an axis."""
    return xp.cumulative_prod(x, axis=axis, dtype=dtype, include_initial=include_initial)


def _cumulative_prod_vjp(
    xp: Any, g: Array, x: Array, axis: int | None, include_initial: bool
) -> Array:
    # dx_i = left_i s_i, where left_i is the product before i and s_i = g_i + x_{i+1} s_{i+1}:
    # a loop instead of the quotient y / x, so that zeros in x are no exception.
    axis = _only_axis(axis, x.ndim)
    if include_initial:
        g = _drop_first(xp, g, axis)
    g = cast(xp, g, x.dtype)
    if x.shape[axis] == 0:
        return g
    left = xp.cumulative_prod(x, axis=axis, include_initial=True)
    left = left[(slice(None),) * axis + (slice(None, -1), ...)]
    if as_dtype(x.dtype).kind == "c":
        x, left = xp.conj(x), xp.conj(left)
    xs, gs = xp.unstack(x, axis=axis), xp.unstack(g, axis=axis)
    sums = [gs[-1]]
    for x_next, g_here in zip(reversed(xs[1:]), reversed(gs[:-1]), strict=True):
        sums.append(g_here + x_next * sums[-1])
    return left * stack(xp, *sums[::-1], axis=axis)


cumulative_prod.d(_cumulative_prod_vjp)

# ------------------------------------------------------------------------ without a derivative


@primitive()
def all(xp: Any, x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Whether all elements over axes are true."""
    return xp.all(x, axis=axis, keepdims=keepdims)


@primitive()
def any(xp: Any, x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Whether some element over axes is true."""
    return xp.any(x, axis=axis, keepdims=keepdims)


@primitive()
def argmax(xp: Any, x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
    """Index of the first largest element along an axis."""
    return xp.argmax(x, axis=axis, keepdims=keepdims)


@primitive()
def argmin(xp: Any, x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
    """Index of the first smallest element along an axis."""
    return xp.argmin(x, axis=axis, keepdims=keepdims)


@primitive()
def count_nonzero(xp: Any, x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Count of elements over axes that are not zero."""
    return xp.count_nonzero(x, axis=axis, keepdims=keepdims)


__all__ = [name for name, value in globals().items() if isinstance(value, Primitive)]
