"""Pooling: the maximum or the average of sliding windows of images, channels last."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

from xpnn import backend
from xpnn._dtypes import as_dtype
from xpnn.errors import ConfigError, ShapeError
from xpnn.primitives.base import primitive
from xpnn.primitives.columns import pad, spread
from xpnn.primitives.windows import LAYOUTS, Pairs, tap_keys, window_outputs

__all__ = ["avg_pool2d", "first_max", "max_pool2d", "pool_shape"]

Array = Any
Shape = tuple[int, ...]
Pair = tuple[int, int]
NONE: Pairs = ((0, 0), (0, 0))


def pool_shape(
    x_shape: Shape,
    *,
    pool: Shape,
    stride: Shape,
    padding: Pairs,
    ceil_mode: bool = False,
    who: str,
) -> Shape:
    """Return the shape (N, *outputs, C) of a pooling over as many axes as the window has.

    Raises
    ------
    ShapeError
        If the window does not fit into the input.
    ConfigError
        If there is so much padding that a window would hold nothing else.

    Examples
    --------
    >>> pool_shape((64, 7, 20), pool=(2,), stride=(2,), padding=((0, 0),), who="max_pool1d")
    (64, 3, 20)
    """
    if len(x_shape) != len(pool) + 2:
        msg = (
            f"{who}: expected x of shape {LAYOUTS[len(pool)]}, got {tuple(x_shape)}. A single"
            " example needs a batch axis, x[None, ...], and one without channels a channel axis,"
            " x[..., None]."
        )
        raise ShapeError(msg)
    if any(max(pair) >= k for pair, k in zip(padding, pool, strict=True)):
        msg = (
            f"{who}: expected padding smaller than the window {pool}, got {padding}: some window"
            " would lie in the padding altogether. Pad less, or pool over a larger window."
        )
        raise ConfigError(msg)
    size = tuple(x_shape[1:-1])
    outputs = window_outputs(size, pool, stride, padding, ceil_mode=ceil_mode, who=who)
    return (x_shape[0], *outputs, x_shape[-1])


def _whole(shape: Shape, y_shape: Shape, pool: Pair, stride: Pair, padding: Pairs) -> Pairs:
    """Return the padding with which the last windows are whole; less than none cuts off a rest."""
    pairs = zip(shape[1:3], y_shape[1:3], pool, stride, padding, strict=True)
    return tuple((p, (m - 1) * s + k - n - p) for n, m, k, s, (p, _) in pairs)


def _pad(xp: Any, x: Array, padding: Pairs, value: Any = 0.0) -> Array:
    return pad(xp, x, padding=((0, 0), *padding), value=value)


def _over_taps(f: Callable[[Any, Any], Any], x: Array, y_shape: Shape, *window: Any) -> Array:
    return functools.reduce(f, [x[key] for key in _keys(y_shape, *window)])


def _keys(y_shape: Shape, pool: Pair, stride: Pair) -> list[Any]:
    return tap_keys(pool, tuple(y_shape[1:3]), stride)


@primitive()
def max_pool2d(
    xp: Any,
    x: Array,
    /,
    *,
    pool: Pair,
    stride: Pair,
    padding: Pairs = NONE,
    ceil_mode: bool = False,
) -> Array:
    """Largest element of each window: (N, H, W, C) -> (N, H', W', C).

    Padding never wins. A window's gradient goes to its first largest element, row by row, as in
    PyTorch.
    """
    shape = pool_shape(
        x.shape, pool=pool, stride=stride, padding=padding, ceil_mode=ceil_mode, who="max_pool2d"
    )
    whole = _whole(x.shape, shape, pool, stride, padding)
    return _over_taps(xp.maximum, _pad(xp, x, whole, _lowest(xp, x)), shape, pool, stride)


def _lowest(xp: Any, x: Array) -> Any:
    dtype = as_dtype(x.dtype)
    return -math.inf if dtype.kind == "f" else xp.iinfo(x.dtype).min


@max_pool2d.vjp
def _max_pool2d_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    y: Array,
    x: Array,
    pool: Pair,
    stride: Pair,
    padding: Pairs,
) -> tuple[Array]:
    whole = _whole(x.shape, y.shape, pool, stride, padding)
    keys = _keys(y.shape, pool, stride)
    padded = _pad(xp, x, whole, -math.inf)
    zeros, parts, free = xp.zeros_like(g), [], None
    for key in keys:
        misses = padded[key] < y  # so that what is not a number hits
        hits = xp.logical_not(misses)
        if free is not None:
            hits = xp.logical_and(hits, free)
        free = misses if free is None else xp.logical_and(free, misses)
        parts.append(xp.where(hits, g, zeros))
    return (spread(xp, parts, x.shape, whole, keys),)


@primitive()
def avg_pool2d(
    xp: Any,
    x: Array,
    /,
    *,
    pool: Pair,
    stride: Pair,
    padding: Pairs = NONE,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    mode: str = "average",
) -> Array:
    """Average, or sum, of each window: (N, H, W, C) -> (N, H', W', C).

    ``count_include_pad`` divides by all elements of a window, the zeros of the padding with them
    (not those that ``ceil_mode`` adds beyond it); otherwise by those of the image alone. The
    ``mode`` "sum" divides by nothing.
    """
    shape = pool_shape(
        x.shape, pool=pool, stride=stride, padding=padding, ceil_mode=ceil_mode, who="avg_pool2d"
    )
    whole = _whole(x.shape, shape, pool, stride, padding)
    total = _over_taps(operator.add, _pad(xp, x, whole), shape, pool, stride)
    if mode == "sum":
        return total
    return total * _shares(xp, total, x.shape, pool, stride, padding, count_include_pad)


@avg_pool2d.vjp
def _avg_pool2d_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    x_shape: Shape,
    pool: Pair,
    stride: Pair,
    padding: Pairs,
    count_include_pad: bool,
    mode: str,
) -> tuple[Array]:
    whole = _whole(x_shape, g.shape, pool, stride, padding)
    keys = _keys(g.shape, pool, stride)
    if mode == "average":
        g = g * _shares(xp, g, x_shape, pool, stride, padding, count_include_pad)
    return (spread(xp, [g] * len(keys), x_shape, whole, keys),)


def _shares(
    xp: Any,
    like: Array,
    x_shape: Shape,
    pool: Pair,
    stride: Pair,
    padding: Pairs,
    count_include_pad: bool,
) -> Any:
    """Return one over the number of elements that each window counts: a number or (H', W', 1)."""
    counts = _counts(x_shape, like.shape, pool, stride, padding, count_include_pad)
    if all(count == k for axis, k in zip(counts, pool, strict=True) for count in axis):
        return 1.0 / math.prod(pool)
    rows = [[[1.0 / (down * across)] for across in counts[1]] for down in counts[0]]
    return xp.asarray(rows, dtype=like.dtype, device=backend.device_of(like).native)


def _counts(
    x_shape: Shape,
    y_shape: Shape,
    pool: Pair,
    stride: Pair,
    padding: Pairs,
    count_include_pad: bool,
) -> list[list[int]]:
    """Return how many elements each window counts along the rows, and along the columns."""
    counts = []
    axes = zip(x_shape[1:3], y_shape[1:3], pool, stride, padding, strict=True)
    for n, m, k, s, (before, after) in axes:
        low, high = (-before, n + after) if count_include_pad else (0, n)
        starts = range(-before, -before + m * s, s)
        counts.append([min(start + k, high) - max(start, low) for start in starts])
    return counts


@primitive()
def first_max(xp: Any, x: Array, /) -> Array:
    """Largest element along axis 1: (N, L, C) -> (N, C). The first of equals gets the gradient."""
    return xp.max(x, axis=1)


def _first_max_vjp(xp: Any, g: Array, x: Array) -> Array:
    # at one place a row, so that equal elements do not share it
    places = xp.argmax(x, axis=1, keepdims=True)
    each = xp.arange(x.shape[1], dtype=places.dtype, device=backend.device_of(x).native)
    hits = each[:, None] == places
    g = xp.expand_dims(g, axis=1)
    return xp.where(hits, g, xp.zeros_like(g))


first_max.d(_first_max_vjp)
