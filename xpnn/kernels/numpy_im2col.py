"""Convolution in NumPy as products with columns: blocks of im2col in reused memory.

A block is small enough for its columns to stay in a core's second-level cache until the product
has read them. Blocks are shared out to the threads, each of which calls BLAS for itself.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from xpnn.kernels.numpy_blocks import Pair, Pairs, blocks, clipped, window_outputs
from xpnn.kernels.numpy_memory import scratch
from xpnn.parallel import get_num_threads, share

__all__ = ["Window", "convolve", "input_gradient", "weight_gradient"]

Array = Any
Block = tuple[int, int, int, int]  # first and last image, first and last row of the output

_COLUMNS = 1 << 20  # bytes of columns a block
_FEW = 1 << 17  # with few channels: a copy has short runs, and the product is soon done
_FEW_CHANNELS = 4
_SHARED = 1 << 22  # multiplications from which a second thread pays


class Window(NamedTuple):
    """Where a kernel stops, and what it sees from there."""

    kernel: Pair
    outputs: Pair
    stride: Pair
    padding: Pairs
    dilation: Pair

    @classmethod
    def over(cls, x: Array, kernel: Pair, stride: Pair, padding: Pairs, dilation: Pair) -> Window:
        """Return the window of a kernel over images (N, H, W, C)."""
        outputs = window_outputs(x.shape[1:3], kernel, stride, padding, dilation)
        return cls(kernel, outputs, stride, padding, dilation)  # type: ignore[arg-type]

    def turned(self, size: Pair) -> Window:
        """Return the window by which the gradient of images of that size is a convolution."""
        axes = zip(self.kernel, self.outputs, self.padding, self.dilation, size, strict=True)
        around = []
        for k, m, (before, _), d, n in axes:
            reach = d * (k - 1)
            around.append((reach - before, n + before - m))
        return Window(self.kernel, size, (1, 1), (around[0], around[1]), self.dilation)

    @property
    def is_pointwise(self) -> bool:
        """Whether it sees the pixels one by one, all of them."""
        plain = self.stride == (1, 1) and self.padding == ((0, 0), (0, 0))
        return self.kernel == (1, 1) and plain

    def blocks(self, n: int, channels: int, itemsize: int) -> list[Block]:
        """Divide the outputs of n images into blocks, at least one a thread."""
        (kh, kw), (rows, columns) = self.kernel, self.outputs
        size = columns * kh * kw * channels
        target = (_FEW if channels <= _FEW_CHANNELS else _COLUMNS) // itemsize
        return list(blocks(n, rows, size, min(target, -(-n * rows * size // get_num_threads()))))


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _seen(x: Array, window: Window, block: Block) -> Array:
    """Return what the windows of a block see, (places, kh * kw * C), in this thread's scratch."""
    if window.is_pointwise:
        i0, i1, h0, h1 = block
        return _rows(x[i0:i1, h0:h1])
    return _columns(x, window, block)


def _columns(x: Array, window: Window, block: Block) -> Array:
    """Copy what the windows of a block see, a row a place.

    With few channels it is laid out the other way round, place by place for each tap: a run of
    copies is then a row of the image, not a few channels.
    """
    (kh, kw), (_, columns) = window.kernel, window.outputs
    (sh, sw), (dh, dw) = window.stride, window.dilation
    i0, i1, h0, h1 = block
    c = x.shape[3]
    seen = x[i0:i1]
    if window.padding == ((0, 0), (0, 0)):
        seen = seen[:, h0 * sh :]
    else:
        seen = _padded(seen, window, h0, h1)
    s0, s1, s2, s3 = seen.strides
    windows = as_strided(
        seen,
        (i1 - i0, h1 - h0, columns, kh, kw, c),
        (s0, s1 * sh, s2 * sw, s1 * dh, s2 * dw, s3),
        writeable=False,
    )
    few = c <= _FEW_CHANNELS
    if few:
        windows = windows.transpose(3, 4, 5, 0, 1, 2)
    found = scratch("columns", windows.shape, x.dtype)
    np.copyto(found, windows)
    places = (i1 - i0) * (h1 - h0) * columns
    return found.reshape(-1, places).T if few else found.reshape(places, -1)


def _padded(x: Array, window: Window, h0: int, h1: int) -> Array:
    """Return the rows of images that windows h0:h1 see, with the zeros around them."""
    (kh, kw), (_, columns) = window.kernel, window.outputs
    (sh, sw), (dh, dw) = window.stride, window.dilation
    (top, _), (left, _) = window.padding
    n, height, width, c = x.shape
    start, count = h0 * sh - top, (h1 - h0 - 1) * sh + (kh - 1) * dh + 1
    across = (columns - 1) * sw + (kw - 1) * dw + 1
    around = scratch("padded", (n, count, across, c), x.dtype)
    low, high = max(start, 0), min(start + count, height)
    wide = max(min(width, across - left), 0)
    if low >= high or not wide:
        around[...] = 0
        return around
    around[:, : low - start] = 0
    around[:, high - start :] = 0
    inside = around[:, low - start : high - start]
    inside[:, :, :left] = 0
    inside[:, :, left + wide :] = 0
    inside[:, :, left : left + wide] = x[:, low:high, :wide]
    return around


def convolve(x: Array, weight: Array, bias: Array | None, y: Array, window: Window) -> None:
    """Write the convolution of x with a kernel (kh, kw, C, O) into ``y``."""
    w = _rows(weight)
    if bias is not None:  # a row of the image at a time
        bias = np.broadcast_to(bias, y.shape[2:]).copy()

    def work(block: Block) -> None:
        i0, i1, h0, h1 = block
        part = y[i0:i1, h0:h1]
        np.matmul(_seen(x, window, block), w, out=_rows(part))
        if bias is not None:
            np.add(part, bias, out=part)

    found = window.blocks(len(x), x.shape[3], x.itemsize)
    share(work, found, worth=y.size * len(w) > _SHARED)


def weight_gradient(g: Array, x: Array, weight: Array, window: Window) -> tuple[Array, Array]:
    """Return the gradients of a kernel and of a bias, given that of the outputs."""
    found = window.blocks(len(x), x.shape[3], x.itemsize)
    worth = g.size * weight.size // weight.shape[3] > _SHARED
    parts = min(get_num_threads(), len(found)) if worth else 1
    totals = np.zeros((parts, weight.size // weight.shape[3], weight.shape[3]), x.dtype)
    bias_totals = np.zeros((parts, weight.shape[3]), x.dtype)

    def work(k: int) -> None:  # the same blocks in the same order, whichever thread is free
        part = scratch("weight", totals.shape[1:], x.dtype)
        for block in found[k::parts]:
            i0, i1, h0, h1 = block
            rows = _rows(g[i0:i1, h0:h1])
            np.matmul(_seen(x, window, block).T, rows, out=part)
            np.add(totals[k], part, out=totals[k])
            bias_totals[k] += np.ones(len(rows), rows.dtype) @ rows  # faster than sum(axis=0)

    share(work, range(parts), worth)
    return totals.sum(axis=0).reshape(weight.shape), bias_totals.sum(axis=0)


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

    found = window.blocks(len(g), c, g.itemsize)
    images = [list(bands) for _, bands in groupby(found, lambda block: block[0])]
    share(work, images, worth=g.size * len(_rows(weight)) > _SHARED)
