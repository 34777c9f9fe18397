"""Convolution in NumPy as products with columns: blocks of im2col in reused memory.

A block is small enough for its columns to stay in a core's second-level cache until the product
has read them. Blocks are shared out to the threads, each of which calls BLAS for itself. What is
called for a block is little: threads that hand the interpreter's lock to and fro lose their time.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np

from xpnn.kernels.numpy_blocks import clipped
from xpnn.kernels.numpy_columns import Block, Columns, Window, largest, over_blocks
from xpnn.kernels.numpy_memory import scratch
from xpnn.parallel import get_num_threads, share

__all__ = ["convolve", "input_gradient", "weight_gradient"]

Array = Any

_BLOCK = 5 << 18  # bytes of columns and outputs
_FEW_CHANNELS = 4
_MOST_PLACES = 4
_SHARED = 1 << 22  # multiplications from which a second thread pays


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _places(window: Window, channels: int) -> int:
    """Return how many places to take for a row of columns."""
    if channels > _FEW_CHANNELS or window.kernel[1] == 1 or window.dilation[1] > 1:
        return 1
    return max(t for t in range(1, _MOST_PLACES + 1) if window.outputs[1] % t == 0)


def _repeated(weight: Array, places: int, stride: int) -> Array:
    """Return a kernel for several places, each of which has zeros where others see something."""
    if places == 1:
        return _rows(weight)
    kh, kw, c, o = weight.shape
    wide = np.zeros((kh, (places - 1) * stride + kw, c, places, o), weight.dtype)
    for t in range(places):
        wide[:, t * stride : t * stride + kw, :, t] = weight
    return wide.reshape(-1, places * o)


def _gathered(wide: Array, shape: tuple[int, ...], places: int, stride: int) -> Array:
    """Return the gradient of a kernel (kh, kw, C, O) from that of a repeated one."""
    if places == 1:
        return wide.reshape(shape)
    kh, kw, c, o = shape
    wide = wide.reshape(kh, -1, c, places, o)
    parts = [wide[:, t * stride : t * stride + kw, :, t] for t in range(places)]
    return np.sum(parts, axis=0)


class _Seen:
    """What the windows of a block see, as a matrix."""

    def __init__(self, x: Array, window: Window, features: int) -> None:
        n, (rows, columns) = len(x), window.outputs
        self.x, self.places = x, _places(window, x.shape[3])
        run = ((self.places - 1) * window.stride[1] + window.kernel[1]) * x.shape[3]
        size = columns * (window.kernel[0] * run // self.places + features)
        self.blocks = over_blocks(n, rows, size * x.itemsize, _BLOCK)
        self.columns = None
        if not window.is_pointwise:
            self.columns = Columns(x, window, largest(self.blocks), self.places)

    def __call__(self, block: Block) -> Array:
        if self.columns is None:
            i0, i1, h0, h1 = block
            return _rows(self.x[i0:i1, h0:h1])
        return self.columns(block)

    def outputs(self, y: Array, block: Block) -> Array:
        """Return the part of y that belongs to a block, a row a row of the matrix."""
        i0, i1, h0, h1 = block
        return y[i0:i1, h0:h1].reshape(-1, self.places * y.shape[3])


def convolve(x: Array, weight: Array, bias: Array | None, y: Array, window: Window) -> None:
    """Write the convolution of x with a kernel (kh, kw, C, O) into ``y``."""
    seen = _Seen(x, window, y.shape[3])
    w = _repeated(weight, seen.places, window.stride[1])
    if bias is not None:  # a row of the image at a time
        bias = np.broadcast_to(bias, y.shape[2:]).copy()

    def work(block: Block) -> None:
        np.matmul(seen(block), w, out=seen.outputs(y, block))
        if bias is not None:
            part = y[block[0] : block[1], block[2] : block[3]]
            np.add(part, bias, out=part)

    share(work, seen.blocks, worth=y.size * (weight.size // y.shape[3]) > _SHARED)


def weight_gradient(g: Array, x: Array, weight: Array, window: Window) -> tuple[Array, Array]:
    """Return the gradients of a kernel and of a bias, given that of the outputs."""
    o = g.shape[3]
    seen = _Seen(x, window, o)
    shape = _repeated(weight, seen.places, window.stride[1]).shape
    worth = g.size * (weight.size // o) > _SHARED
    parts = min(get_num_threads(), len(seen.blocks)) if worth else 1
    totals = np.zeros((parts, *shape), x.dtype)
    bias_totals = np.zeros((parts, shape[1]), x.dtype)

    def work(k: int) -> None:  # the same blocks in the same order, whichever thread is free
        part = scratch("weight", shape, x.dtype)
        for block in seen.blocks[k::parts]:
            rows = seen.outputs(g, block)
            np.matmul(seen(block).T, rows, out=part)
            np.add(totals[k], part, out=totals[k])
            bias_totals[k] += np.ones(len(rows), rows.dtype) @ rows  # faster than sum(axis=0)

    share(work, range(parts), worth)
    dw = _gathered(totals.sum(axis=0), weight.shape, seen.places, window.stride[1])
    return dw, _rows(bias_totals.reshape(-1, o)).sum(axis=0)


def input_gradient(g: Array, weight: Array, dx: Array, window: Window) -> None:
    """Write the gradient of the images, given that of the outputs, into ``dx``.

    Without a stride it is the convolution of g with the kernel turned by 180 degrees, unless most
    of that would be padding. Otherwise a product a tap, added to what the tap saw.
    """
    c, o = weight.shape[2:]
    (height, width), (rows, columns) = dx.shape[1:3], window.outputs
    back = window.turned((height, width))
    if (
        window.stride == (1, 1)
        and min(back.padding[0] + back.padding[1]) >= 0
        and 4 * height * width <= 5 * rows * columns
        and (min(c, o) > _FEW_CHANNELS or window.is_pointwise)
    ):
        turned = np.ascontiguousarray(weight[::-1, ::-1].transpose(0, 1, 3, 2))
        convolve(g, turned, None, dx, back)
        return
    dx[...] = 0
    _add_taps(g, weight, dx, window)


def _add_taps(g: Array, weight: Array, dx: Array, window: Window) -> None:
    kh, kw, c, o = weight.shape
    taps = np.ascontiguousarray(weight.transpose(0, 1, 3, 2)).reshape(kh * kw, o, c)
    columns = window.outputs[1]

    def work(bands: list[Block]) -> None:
        for i0, i1, h0, h1 in bands:
            g_rows = _rows(g[i0:i1, h0:h1])
            parts = scratch("columns", (kh * kw, len(g_rows), c), g.dtype)
            if c == 1:
                np.matmul(taps[..., 0], g_rows.T, out=parts[..., 0])
            else:
                np.matmul(g_rows, taps, out=parts)
            _add_block(parts.reshape(kh, kw, i1 - i0, h1 - h0, columns, c), (i0, i1, h0, h1))

    def _add_block(parts: Array, block: Block) -> None:
        i0, i1, h0, h1 = block
        for i in range(kh):
            offset = i * window.dilation[0] - window.padding[0][0]
            down = clipped(offset, window.stride[0], dx.shape[1], h0, h1)
            for j in range(kw):
                offset = j * window.dilation[1] - window.padding[1][0]
                across = clipped(offset, window.stride[1], dx.shape[2], 0, columns)
                seen = dx[i0:i1, down[1], across[1]]
                np.add(seen, parts[i, j, :, down[0], across[0]], out=seen)

    found = over_blocks(len(g), window.outputs[0], columns * kh * kw * c * g.itemsize, _BLOCK)
    images = [list(bands) for _, bands in groupby(found, lambda block: block[0])]
    share(work, images, worth=g.size * len(_rows(weight)) > _SHARED)
