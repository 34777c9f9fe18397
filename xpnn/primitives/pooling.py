"""Pooling: the maximum or the average of sliding windows of images, channels last."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from xpnn import backend
from xpnn._dtypes import as_dtype
from xpnn.errors import ConfigError, ShapeError
from xpnn.primitives.base import primitive
from xpnn.primitives.indexing import unslice
from xpnn.primitives.windows import Pairs, pad, tap, window_outputs

__all__ = ["avg_pool2d", "max_pool2d", "pool2d_shape"]

Array = Any
Shape = tuple[int, ...]
Pair = tuple[int, int]
NONE: Pairs = ((0, 0), (0, 0))


def pool2d_shape(
    x_shape: Shape,
    *,
    pool: Pair,
    stride: Pair,
    padding: Pairs = NONE,
    ceil_mode: bool = False,
    who: str = "max_pool2d",
) -> Shape:
    """Return the shape (N, H', W', C) of a pooling.

    Raises
    ------
    ShapeError
        If the window does not fit into the image.
    ConfigError
        If there is so much padding that a window would hold nothing else.

    Examples
    --------
    >>> pool2d_shape((64, 7, 7, 20), pool=(2, 2), stride=(2, 2))
    (64, 3, 3, 20)
    """
    if len(x_shape) != 4:
        msg = (
            f"{who}: expected x of shape (N, H, W, C), got {tuple(x_shape)}. A single image needs"
            " a batch axis, x[None, ...], and a grey one a channel axis, x[..., None]."
        )
        raise ShapeError(msg)
    if any(max(pair) >= k for pair, k in zip(padding, pool, strict=True)):
        msg = (
            f"{who}: expected padding smaller than the window {pool}, got {padding}: some window"
            " would lie in the padding altogether. Pad less, or pool over a larger window."
        )
        raise ConfigError(msg)
    outputs = window_outputs(x_shape[1:3], pool, stride, padding, ceil_mode=ceil_mode, who=who)
    return (x_shape[0], *outputs, x_shape[3])


def _whole(shape: Shape, y_shape: Shape, pool: Pair, stride: Pair, padding: Pairs) -> Pairs:
    """Return the padding with which the last windows are whole; less than none cuts off a rest."""
    pairs = zip(shape[1:3], y_shape[1:3], pool, stride, padding, strict=True)
    return tuple((p, (m - 1) * s + k - n - p) for n, m, k, s, (p, _) in pairs)


def _taps(x: Array, y_shape: Shape, pool: Pair, stride: Pair) -> list[Array]:
    return [x[key] for key in _keys(y_shape, pool, stride)]


def _keys(y_shape: Shape, pool: Pair, stride: Pair) -> list[Any]:
    at = [(i, j) for i in range(pool[0]) for j in range(pool[1])]
    return [tap(ij, y_shape[1:3], stride) for ij in at]


def _spread(xp: Any, parts: list[Array], shape: Shape, whole: Pairs, keys: list[Any]) -> Array:
    """Add up what belongs to each tap, and take the padding away: the transpose of the taps."""
    padded = (shape[0], *(n + sum(p) for n, p in zip(shape[1:3], whole, strict=True)), shape[3])
    pairs = zip(parts, keys, strict=True)
    total = _fold(lambda a, b: a + b, [unslice(xp, p, shape=padded, key=key) for p, key in pairs])
    return pad(xp, total, tuple((-before, -after) for before, after in whole))


def _fold(f: Callable[[Any, Any], Any], xs: list[Any]) -> Any:
    return functools.reduce(f, xs)


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
    shape = pool2d_shape(x.shape, pool=pool, stride=stride, padding=padding, ceil_mode=ceil_mode)
    whole = _whole(x.shape, shape, pool, stride, padding)
    return _fold(xp.maximum, _taps(pad(xp, x, whole, _lowest(xp, x)), shape, pool, stride))


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
    padded = pad(xp, x, whole, -math.inf)
    zeros, parts, free = xp.zeros_like(g), [], None
    for key in keys:
        misses = padded[key] < y  # so that what is not a number hits
        hits = xp.logical_not(misses)
        if free is not None:
            hits = xp.logical_and(hits, free)
        free = misses if free is None else xp.logical_and(free, misses)
        parts.append(xp.where(hits, g, zeros))
    return (_spread(xp, parts, x.shape, whole, keys),)


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
) -> Array:
    """Average of each window: (N, H, W, C) -> (N, H', W', C).

    ``count_include_pad`` divides by all elements of a window, the zeros of the padding with them
    (not those that ``ceil_mode`` adds beyond it); otherwise by those of the image alone.
    """
    shape = pool2d_shape(
        x.shape, pool=pool, stride=stride, padding=padding, ceil_mode=ceil_mode, who="avg_pool2d"
    )
    whole = _whole(x.shape, shape, pool, stride, padding)
    total = _fold(lambda a, b: a + b, _taps(pad(xp, x, whole), shape, pool, stride))
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
) -> tuple[Array]:
    whole = _whole(x_shape, g.shape, pool, stride, padding)
    keys = _keys(g.shape, pool, stride)
    g = g * _shares(xp, g, x_shape, pool, stride, padding, count_include_pad)
    return (_spread(xp, [g] * len(keys), x_shape, whole, keys),)


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
