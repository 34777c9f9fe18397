"""CUDA kernels of convolution: windows as columns (im2col), and a product of matrices.

The gradient with respect to the image is a product, whose rows are gathered (col2im): every pixel
adds up the windows that see it, always in the same order. Columns are made anew for the gradient of
the weight, and never of more images at once than a gigabyte holds. Where cuDNN is installed, and
has a plan, it computes all this but what is a product as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from xpnn.kernels import cudnn_conv
from xpnn.kernels.cupy_depthwise import depthwise, depthwise_dw, depthwise_dx
from xpnn.kernels.cupy_launch import contiguous, cupy, wide
from xpnn.kernels.cupy_products import column_sums, finish, product, relu_gradient
from xpnn.kernels.cupy_windows import REAL, Pair, Pairs, Window, launch

__all__ = [
    "conv2d",
    "conv2d_accepts",
    "conv2d_relu",
    "conv2d_relu_accepts",
    "conv2d_relu_vjp",
    "conv2d_vjp",
]

Array = Any

_MOST = 1 << 30  # bytes of columns at once
_PLACES = 1 << 31  # that the kernels count


def conv2d_accepts(
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: Pair,
    padding: Pairs,
    dilation: Pair,
    groups: int,
) -> bool:
    """Whether the shapes fit (if not, the standard version says why) and the dtypes are one."""
    if x.ndim != 4 or weight.ndim != 4 or x.dtype.name not in REAL or weight.dtype != x.dtype:
        return False
    channels, features = weight.shape[2:]
    if x.shape[3] != channels * groups or features % groups or 0 in (x.size, weight.size):
        return False
    if bias is not None and (bias.shape != (features,) or bias.dtype != x.dtype):
        return False
    window = Window.over(x, weight.shape[:2], stride, padding, dilation)
    places = x.shape[0] * max(math.prod(window.size), math.prod(window.outputs))
    return min(window.outputs) > 0 and places < _PLACES


conv2d_relu_accepts = conv2d_accepts


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
    relu: bool = False,
) -> Array:
    x, weight = contiguous(x), contiguous(weight)
    window = Window.over(x, weight.shape[:2], stride, padding, dilation)
    y = cupy().empty((x.shape[0], *window.outputs, weight.shape[3]), x.dtype)
    if groups > 1 and weight.shape[2] == 1:
        depthwise(x, weight, contiguous(bias), y, relu, window)
        return y
    if not _is_product(window, groups) and cudnn_conv.convolve(x, weight, y, window):
        if bias is not None or relu:
            finish(y, contiguous(bias), relu)
        return y
    factor = _by_groups(_rows(weight), groups)
    for images in _parts(x, window, groups):
        columns, rows = _im2col(x[images], window, groups), _rows(y[images])
        if groups == 1:
            product(columns, factor, out=rows, bias=bias, relu=relu)
        else:
            product(columns, factor, out=_by_groups(rows, groups))
    if groups > 1 and (bias is not None or relu):
        finish(y, contiguous(bias), relu)
    return y


conv2d_relu = partial(conv2d, relu=True)


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
    g, x, weight = contiguous(g.astype(x.dtype, copy=False)), contiguous(x), contiguous(weight)
    window = Window.over(x, weight.shape[:2], stride, padding, dilation)
    dx = cupy().empty_like(x) if needs[0] else None
    dw = None
    db = column_sums(_rows(g)) if needs[2] else None
    if groups > 1 and weight.shape[2] == 1:
        if needs[0]:
            depthwise_dx(g, weight, dx, window)
        if needs[1]:
            dw = depthwise_dw(g, x, window).reshape(weight.shape)
        return dx, dw, db
    other = not _is_product(window, groups)
    if needs[0] and not (other and cudnn_conv.input_gradient(g, weight, dx, window)):
        _input_gradient(g, weight, dx, window, groups)
    if needs[1]:
        dw = cudnn_conv.weight_gradient(g, x, weight.shape, window) if other else None
        if dw is None:
            dw = _weight_gradient(g, x, weight, window, groups)
    return dx, dw, db


def conv2d_relu_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    y: Array,
    x: Array,
    weight: Array,
    stride: Pair,
    padding: Pairs,
    dilation: Pair,
    groups: int,
) -> tuple[Array | None, Array | None, Array | None]:
    d, db = relu_gradient(_rows(g.astype(x.dtype, copy=False)), _rows(y), needs[2])
    needs, d = [*needs[:2], False], d.reshape(g.shape)
    dx, dw, _ = conv2d_vjp(xp, d, needs, x, weight, stride, padding, dilation, groups)
    return dx, dw, db


def _is_product(window: Window, groups: int) -> bool:
    """Return whether the columns are the images as they lie."""
    return window.are_pixels() or (groups == 1 and window.are_images())


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _by_groups(rows: Array, groups: int) -> Array:
    """(P, groups c) -> (groups, P, c), a view; as it is for one group."""
    return rows if groups == 1 else rows.reshape(len(rows), groups, -1).swapaxes(0, 1)


def _parts(x: Array, window: Window, groups: int) -> Iterator[slice]:
    """Yield as many images at a time as have columns of a gigabyte, and at least one."""
    row = math.prod(window.outputs) * math.prod(window.taps) * x.shape[3] * x.dtype.itemsize
    step = len(x) if _is_product(window, groups) else max(_MOST // row, 1)
    for first in range(0, len(x), step):
        yield slice(first, first + step)


def _im2col(x: Array, window: Window, groups: int) -> Array:
    """Return the windows of images: (places, taps C), or (groups, places, taps C / groups)."""
    places = len(x) * math.prod(window.outputs)
    if window.are_pixels():
        return _by_groups(_rows(x), groups)
    if groups == 1 and window.are_images():
        return x.reshape(places, -1)
    row = math.prod(window.taps) * x.shape[3]
    columns = cupy().empty((groups, places, row // groups), x.dtype)
    launch("im2col", (x, columns), (), places, row, x.shape[3], groups, window)
    return columns[0] if groups == 1 else columns


def _input_gradient(g: Array, weight: Array, dx: Array, window: Window, groups: int) -> None:
    channels = dx.shape[3]
    factor = _by_groups(_rows(weight), groups).swapaxes(-1, -2)
    for images in _parts(dx, window, groups):
        rows, to = _by_groups(_rows(g[images]), groups), dx[images]
        if window.are_pixels():
            product(rows, factor, out=_by_groups(_rows(to), groups))
        elif groups == 1 and window.are_images():
            product(rows, factor, out=to.reshape(len(to), -1))
        else:
            columns, places = product(rows, factor), to.size // channels
            launch("col2im", (columns, to), (), places, channels, channels, groups, window)


def _weight_gradient(g: Array, x: Array, weight: Array, window: Window, groups: int) -> Array:
    parts = list(_parts(x, window, groups))
    # sums over parts are as precise as those within one
    dw = cupy().empty(weight.shape, wide(x.dtype) if len(parts) > 1 else x.dtype)
    out = _by_groups(_rows(dw), groups)
    for i, images in enumerate(parts):
        columns = _im2col(x[images], window, groups).swapaxes(-1, -2)
        product(columns, _by_groups(_rows(g[images]), groups), out=out, plus=float(i > 0))
    return dw.astype(x.dtype, copy=False)
