"""CUDA kernels of convolution: windows as columns (im2col), and a product of matrices.

The gradient with respect to the image is a product, whose rows are gathered (col2im): every pixel
adds up the windows that see it, always in the same order. Columns are made anew for the gradient of
the weight, and never of more images at once than a gigabyte holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from xpnn.kernels.cupy_channels import sum_of_rows
from xpnn.kernels.cupy_launch import Source, contiguous, cupy, wide
from xpnn.kernels.cupy_windows import REAL, Pair, Pairs, Window, by_places, divides

__all__ = ["conv2d", "conv2d_accepts", "conv2d_vjp", "sources"]

Array = Any

_columns = Source("columns")
_MOST = 1 << 30  # bytes of columns at once
_PLACES = 1 << 31  # that the kernels count
_TAPS = 9  # of which a thread sums the gradients at once
_PARTS = 256  # at most, of the places, for the sums over them


def sources() -> dict[str, str]:
    """Return every CUDA source of this module by name, for the compile check."""
    return _columns.codes()


def _product(a: Array, b: Array, out: Array | None = None) -> Array:
    """Return the product of two matrices, or of stacks of them."""
    if out is None:
        out = cupy().empty((*a.shape[:-1], b.shape[-1]), a.dtype)
    stacks = zip(a, b, out, strict=True) if a.ndim == 3 else [(a, b, out)]
    for left, right, to in stacks:  # CuPy has no stacked product of bfloat16
        cupy().matmul(left, right, out=to)
    return out


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
    x, weight = contiguous(x), contiguous(weight)
    window = Window.over(x, weight.shape[:2], stride, padding, dilation)
    y = cupy().empty((x.shape[0], *window.outputs, weight.shape[3]), x.dtype)
    if groups > 1 and weight.shape[2] == 1:
        arrays = (x, weight, contiguous(bias), y)
        _depthwise("depthwise", arrays, y.shape[3], y.size // y.shape[3], window, groups)
        return y
    factor = _by_groups(weight.reshape(-1, weight.shape[3]), groups)
    for images in _parts(x, window):
        columns, rows = _im2col(x[images], window, groups), y[images].reshape(-1, y.shape[3])
        if groups == 1:
            _product(columns, factor, rows)
        else:
            rows.reshape(len(rows), groups, -1)[...] = _product(columns, factor).swapaxes(0, 1)
    if bias is not None:
        y += bias
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
    g = contiguous(g.astype(x.dtype, copy=False))
    x, weight = contiguous(x), contiguous(weight)
    window = Window.over(x, weight.shape[:2], stride, padding, dilation)
    depthwise = groups > 1 and weight.shape[2] == 1
    dx = dw = None
    if needs[0]:
        dx = cupy().empty_like(x)
        if depthwise:
            places = x.size // x.shape[3]
            _depthwise("depthwise_dx", (g, weight, dx), x.shape[3], places, window, groups)
        else:
            _input_gradient(g, weight, dx, window, groups)
    if needs[1]:
        way = _depthwise_weight_gradient if depthwise else _weight_gradient
        dw = way(g, x, window, groups).astype(x.dtype, copy=False).reshape(weight.shape)
    db = sum_of_rows(g.reshape(-1, g.shape[3])) if needs[2] else None
    return dx, dw, db


def _parts(x: Array, window: Window) -> Iterator[slice]:
    """Yield as many images at a time as have columns of a gigabyte, and at least one."""
    row = math.prod(window.outputs) * math.prod(window.taps) * x.shape[3] * x.dtype.itemsize
    step = len(x) if window.is_all() else max(_MOST // row, 1)
    for first in range(0, len(x), step):
        yield slice(first, first + step)


def _launch(
    name: str, arrays: tuple[Any, ...], times: int | None, places: int, row: int, channels: int,
    groups: int, window: Window,
) -> None:  # fmt: skip
    """Run a kernel whose threads take a channel, or some neighbouring ones if memory allows it."""
    x = arrays[0]
    if times in (None, 1) and divides(channels // (groups if times is None else 1), arrays):
        name, row = f"{name}_wide", row * x.dtype.itemsize // 16
    grid, block, lanes = by_places(places, row)
    given = arrays if times is None else (*arrays, times)
    _columns.launch(
        name, x.dtype, grid, block, *given, places, lanes, channels, groups, *window.numbers()
    )


def _im2col(x: Array, window: Window, groups: int) -> Array:
    """Return the windows of images: (places, taps C), or (groups, places, taps C / groups)."""
    places = len(x) * math.prod(window.outputs)
    if groups == 1 and window.is_all():
        return x.reshape(places, -1)
    row = math.prod(window.taps) * x.shape[3]
    columns = cupy().empty((groups, places, row // groups), x.dtype)
    _launch("im2col", (x, columns), None, places, row, x.shape[3], groups, window)
    return columns[0] if groups == 1 else columns


def _by_groups(rows: Array, groups: int) -> Array:
    """(P, groups c) -> (groups, P, c), and as it is for one group."""
    if groups == 1:
        return rows
    return cupy().ascontiguousarray(rows.reshape(len(rows), groups, -1).swapaxes(0, 1))


def _input_gradient(g: Array, weight: Array, dx: Array, window: Window, groups: int) -> None:
    channels, features = dx.shape[3], weight.shape[3]
    factor = _by_groups(weight.reshape(-1, features), groups).swapaxes(-1, -2)
    for images in _parts(dx, window):
        rows, to = _by_groups(g[images].reshape(-1, features), groups), dx[images]
        if groups == 1 and window.is_all():
            _product(rows, factor, to.reshape(len(rows), -1))
            continue
        columns, places = _product(rows, factor), to.size // channels
        _launch("col2im", (columns, to), None, places, channels, channels, groups, window)


def _weight_gradient(g: Array, x: Array, window: Window, groups: int) -> Array:
    dw: Array = None
    for images in _parts(x, window):
        rows = _by_groups(g[images].reshape(-1, g.shape[3]), groups)
        part = _product(_im2col(x[images], window, groups).swapaxes(-1, -2), rows)
        if dw is not None:  # sums over parts are as precise as those within one
            part = dw.astype(wide(x.dtype), copy=False) + part.astype(wide(x.dtype), copy=False)
        dw = part
    return dw if groups == 1 else cupy().ascontiguousarray(dw.swapaxes(0, 1))


# ---------------------------------------------------------------------------- depthwise


def _depthwise(
    name: str, arrays: tuple[Any, ...], row: int, places: int, window: Window, channels: int
) -> None:
    times = arrays[1].shape[3] // channels
    _launch(name, arrays, times, places, row, channels, channels, window)


def _depthwise_weight_gradient(g: Array, x: Array, window: Window, channels: int) -> Array:
    features, taps = g.shape[3], math.prod(window.taps)
    places = g.size // features
    lanes = min(1 << (features - 1).bit_length(), 32)
    parts = min(-(-places * lanes // (256 * 16)), _PARTS)
    sums = cupy().empty((parts, taps, features), wide(x.dtype))
    grid = (-(-features // lanes), parts, -(-taps // _TAPS))
    _columns.launch(
        "depthwise_dw", x.dtype, grid, 256, x, g, sums, features // channels,
        places, lanes, channels, channels, *window.numbers(),
    )  # fmt: skip
    return sums.sum(axis=0)
