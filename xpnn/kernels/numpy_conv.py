"""NumPy kernels of convolution: which way to go, and groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from xpnn.kernels import fast, numpy_im2col, numpy_winograd
from xpnn.kernels.numpy_blocks import Pair, Pairs, window_outputs
from xpnn.kernels.numpy_columns import Window
from xpnn.kernels.numpy_depthwise import depthwise, depthwise_vjp
from xpnn.kernels.numpy_memory import empty

__all__ = ["conv2d", "conv2d_accepts", "conv2d_vjp"]

Array = Any


def conv2d_accepts(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Pair,
    padding: Pairs,
    dilation: Pair,
    groups: int,
) -> bool:
    """Whether the shapes fit (if not, the standard version says why) and the dtypes are one."""
    if x.ndim != 4 or weight.ndim != 4 or x.dtype.char not in "fd" or weight.dtype != x.dtype:
        return False
    kh, kw, channels, features = weight.shape
    if x.shape[3] != channels * groups or features % groups or min(padding[0] + padding[1]) < 0:
        return False
    if bias is not None and (bias.shape != (features,) or bias.dtype != x.dtype):
        return False
    outputs = window_outputs(x.shape[1:3], (kh, kw), stride, padding, dilation)
    return min(outputs) > 0 and min(x.shape[1:3]) > 0


def conv2d(
    xp: Any,
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: Pair,
    padding: Pairs,
    dilation: Pair,
    groups: int,
) -> Array:
    kh, kw, channels, features = weight.shape
    window = Window.over(x, (kh, kw), stride, padding, dilation)
    y = empty((x.shape[0], *window.outputs, features), x.dtype)
    if groups > 1 and channels == 1:
        depthwise(x, weight, bias, y, window)
        return y
    for ins, outs, w in _groups(weight, groups):
        part = None if bias is None else bias[outs]
        seen, out = x[..., ins], y[..., outs]
        _way(seen, w, out, window).convolve(seen, w, part, out, window)
    return y


def conv2d_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    x: Array,
    weight: Array,
    stride: Pair,
    padding: Pairs,
    dilation: Pair,
    groups: int,
) -> tuple[Array | None, Array | None, Array | None]:
    g = np.ascontiguousarray(g, dtype=x.dtype)
    kh, kw, channels, features = weight.shape
    window = Window.over(x, (kh, kw), stride, padding, dilation)
    dx = empty(x.shape, x.dtype) if needs[0] else None
    dw = np.empty(weight.shape, x.dtype) if needs[1] else None
    db = None
    if groups > 1 and channels == 1:
        if needs[0] or needs[1]:
            depthwise_vjp(g, x, weight, dx, dw, window)
    else:
        for ins, outs, w in _groups(weight, groups):
            g_part = g[..., outs]
            if dx is not None:
                to = dx[..., ins]
                _way(g_part, w, to, window).input_gradient(g_part, w, to, window)
            if dw is not None:
                seen = x[..., ins]
                way = _way(seen, w, g_part, window)
                part, sums = way.weight_gradient(g_part, seen, w, window)
                dw[..., outs] = _diagonal(part, channels)
                db = np.empty(features, x.dtype) if db is None else db
                db[outs] = sums
    if needs[2] and db is None:  # rows of the image at a time: long runs, which add up fast
        n, h, w, o = g.shape
        db = g.reshape(n * h, w * o).sum(axis=0).reshape(w, o).sum(axis=0)
    return dx, dw, db if needs[2] else None


def _way(source: Array, weight: Array, target: Array, window: Window) -> Any:
    """Return the module that has the fastest way from one array of images to another."""
    ways: list[Any] = [numpy_winograd]
    if fast.is_on():
        ways.insert(0, fast.compiled("xpnn.kernels.numba_winograd"))
        ways.append(fast.compiled("xpnn.kernels.numba_direct"))
    accepted = (way for way in ways if way.accepts(source, weight, target, window))
    return next(accepted, numpy_im2col)


def _groups(weight: Array, groups: int) -> Iterator[tuple[slice, slice, Array]]:
    """Yield the channels, the features and the weight of each group.

    Groups of few channels are joined into wider ones, with zeros where channels of one meet
    features of another: a product of 16 channels takes less time than eight of two.
    """
    kh, kw, c, features = weight.shape
    joined = max(r for r in range(1, groups + 1) if groups % r == 0 and (r == 1 or r * c <= 16))
    o = features // groups
    for first in range(0, groups, joined):
        w = weight[..., first * o : (first + joined) * o]
        if joined > 1:
            wide = np.zeros((kh, kw, joined * c, joined * o), w.dtype)
            for q in range(joined):
                outs = slice(q * o, (q + 1) * o)
                wide[:, :, q * c : (q + 1) * c, outs] = w[..., outs]
            w = wide
        ins = slice(first * c, (first + joined) * c)
        yield ins, slice(first * o, (first + joined) * o), w


def _diagonal(dw: Array, c: int) -> Array:
    """Return the blocks that belong to the groups of c channels from a gradient of joined ones."""
    joined = dw.shape[2] // c
    if joined == 1:
        return dw
    o = dw.shape[3] // joined
    return np.concatenate(
        [dw[:, :, q * c : (q + 1) * c, q * o : (q + 1) * o] for q in range(joined)], axis=-1
    )
