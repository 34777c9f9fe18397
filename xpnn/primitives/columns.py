"""Moving elements for windows: padding, and windows as columns (im2col) with its transpose."""

from __future__ import annotations

import functools
import operator
from typing import Any

from xpnn import backend
from xpnn.primitives.base import primitive
from xpnn.primitives.indexing import unslice
from xpnn.primitives.shape import concat
from xpnn.primitives.windows import Pairs, tap_keys, window_outputs

__all__ = ["col2im", "im2col", "pad", "spread"]

Array = Any
Sizes = tuple[int, ...]


@primitive()
def pad(xp: Any, x: Array, /, padding: Pairs, *, value: float = 0.0) -> Array:
    """Put ``value`` before and after the axes 0, 1, ...; a negative number takes away."""
    for axis, (before, after) in enumerate(padding):
        n = x.shape[axis]
        if before == after == 0:
            continue
        start, stop = max(-before, 0), min(n + after, n)
        if start < stop:
            whole = stop - start == n
            x = x if whole else x[(*(slice(None),) * axis, slice(start, stop), ...)]
            parts = [_border(xp, x, axis, before, value), x, _border(xp, x, axis, after, value)]
        else:  # nothing of x is left
            parts = [_border(xp, x, axis, n + before + after, value)]
        parts = [part for part in parts if part is not None]
        x = parts[0] if len(parts) == 1 else xp.concat(parts, axis=axis)
    return x


def _border(xp: Any, x: Array, axis: int, length: int, value: float) -> Array | None:
    if length <= 0:
        return None
    shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
    return xp.full(shape, value, dtype=x.dtype, device=backend.device_of(x).native)


pad.d(lambda xp, g, padding: pad(xp, g, padding=tuple((-p, -q) for p, q in padding)))


def spread(xp: Any, parts: list[Array], shape: Sizes, padding: Pairs, keys: list[Any]) -> Array:
    """Add up what belongs to each tap, and take the padding away: the transpose of the taps."""
    size = (n + p + q for n, (p, q) in zip(shape[1:-1], padding, strict=True))
    padded = (shape[0], *size, shape[-1])
    spread = [unslice(xp, p, shape=padded, key=key) for p, key in zip(parts, keys, strict=True)]
    total = functools.reduce(operator.add, spread)
    return pad(xp, total, padding=((0, 0), *((-p, -q) for p, q in padding)))


@primitive()
def im2col(
    xp: Any, x: Array, /, *, kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes
) -> Array:
    """Windows as rows: (N, *size, C) -> (N, *outputs, taps * C), tap by tap, row by row."""
    outputs = window_outputs(x.shape[1:-1], kernel, stride, padding, dilation, who="im2col")
    x = pad(xp, x, padding=((0, 0), *padding))
    parts = [x[key] for key in tap_keys(kernel, outputs, stride, dilation)]
    return parts[0] if len(parts) == 1 else concat(xp, *parts, axis=-1)


@primitive()
def col2im(
    xp: Any,
    x: Array,
    /,
    *,
    size: Sizes,
    kernel: Sizes,
    stride: Sizes,
    padding: Pairs,
    dilation: Sizes,
) -> Array:
    """Transpose of :data:`im2col`, which adds up: (N, *outputs, taps * C) -> (N, *size, C)."""
    keys = tap_keys(kernel, x.shape[1:-1], stride, dilation)
    c = x.shape[-1] // len(keys)
    parts = [x[..., i * c : (i + 1) * c] for i in range(len(keys))]
    return spread(xp, parts, (x.shape[0], *size, c), padding, keys)


def _im2col_vjp(
    xp: Any, g: Array, x_shape: Sizes, kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes
) -> Array:
    options = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    return col2im(xp, g, size=x_shape[1:-1], **options)


im2col.d(_im2col_vjp)
col2im.d(
    lambda xp, g, kernel, stride, padding, dilation: im2col(
        xp, g, kernel=kernel, stride=stride, padding=padding, dilation=dilation
    )
)
