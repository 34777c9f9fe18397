"""Depthwise convolution in NumPy: a sweep a tap, a block of images at a time."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np

from xpnn.kernels.numpy_blocks import blocks, clipped
from xpnn.kernels.numpy_columns import Block, Window
from xpnn.kernels.numpy_memory import scratch
from xpnn.parallel import get_num_threads, share

__all__ = ["depthwise", "depthwise_vjp"]

Array = Any
Tap = tuple[int, int, tuple[slice, slice, slice], tuple[slice, slice, slice]]

_BLOCK = 1 << 17  # bytes
_SHARED = 1 << 20  # elements of the outputs from which a second thread pays


def _blocks(x: Array, window: Window) -> list[Block]:
    rows, columns = window.outputs
    return list(blocks(len(x), rows, columns * x.shape[3], _BLOCK // x.itemsize))


def _taps(x: Array, window: Window, block: Block) -> list[Tap]:
    """Return for each tap of the kernel the places within a block, and what they see of x."""
    i0, i1, h0, h1 = block
    taps = []
    for i in range(window.kernel[0]):
        offset = i * window.dilation[0] - window.padding[0][0]
        down = clipped(offset, window.stride[0], x.shape[1], h0, h1)
        for j in range(window.kernel[1]):
            offset = j * window.dilation[1] - window.padding[1][0]
            across = clipped(offset, window.stride[1], x.shape[2], 0, window.outputs[1])
            places = (slice(None), down[0], across[0])
            taps.append((i, j, places, (slice(i0, i1), down[1], across[1])))
    return taps


def _row_weights(weight: Array, columns: int, q: int, m: int) -> Array:
    """Return the weights of output q of m a channel, repeated along a row: (kh, kw, columns, C)."""
    w = weight[:, :, :, q::m]
    return np.broadcast_to(w, (*w.shape[:2], columns, w.shape[3])).copy()


def depthwise(x: Array, weight: Array, bias: Array | None, y: Array, window: Window) -> None:
    """Write into ``y`` the convolution in which each channel has m outputs of its own."""
    m = y.shape[3] // x.shape[3]
    weights = [_row_weights(weight, window.outputs[1], q, m) for q in range(m)]

    def work(block: Block) -> None:
        i0, i1, h0, h1 = block
        taps = _taps(x, window, block)
        for q, w in enumerate(weights):
            out = y[i0:i1, h0:h1, :, q::m]
            out[...] = 0.0 if bias is None else bias[q::m]
            for i, j, places, seen in taps:
                part = out[places]
                term = scratch("term", part.shape, x.dtype)
                np.multiply(x[seen], w[i, j, places[2]], out=term)
                np.add(part, term, out=part)

    share(work, _blocks(x, window), worth=y.size > _SHARED)


def depthwise_vjp(
    g: Array, x: Array, weight: Array, dx: Array | None, dw: Array | None, window: Window
) -> None:
    """Write the gradients of images and kernel, unless they are None."""
    m = g.shape[3] // x.shape[3]
    weights = [_row_weights(weight, window.outputs[1], q, m) for q in range(m)]
    images = [list(bands) for _, bands in groupby(_blocks(x, window), lambda block: block[0])]
    worth = g.size > _SHARED
    parts = min(get_num_threads(), len(images)) if worth else 1
    totals = np.zeros((parts, *weight.shape), x.dtype)
    if dx is not None:
        dx[...] = 0.0

    def work(k: int) -> None:  # the same blocks in the same order, whichever thread is free
        for bands in images[k::parts]:
            for block in bands:
                add(block, totals[k])

    def add(block: Block, total: Array) -> None:
        i0, i1, h0, h1 = block
        taps = _taps(x, window, block)
        for q, w in enumerate(weights):
            arrived = g[i0:i1, h0:h1, :, q::m]
            for i, j, places, seen in taps:
                part = arrived[places]
                term = scratch("term", part.shape, x.dtype)
                if dx is not None:
                    np.multiply(part, w[i, j, places[2]], out=term)
                    to = dx[seen]
                    np.add(to, term, out=to)
                if dw is not None:
                    np.multiply(part, x[seen], out=term)
                    total[i, j, 0, q::m] += term.sum(axis=(0, 1)).sum(axis=0)

    share(work, range(parts))
    if dw is not None:
        dw[...] = totals.sum(axis=0)
