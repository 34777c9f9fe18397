r"""Convolution in NumPy with fewer products: Winograd's minimal filtering F(4, k), down the rows.

Four rows of the output need k + 3 products of a row with a row of the kernel instead of 4 k:

.. math:: Y = A^\top [(G w) \odot (B^\top d)]

(Winograd, 1980; Lavin & Gray, 2016, for both directions at once), where d are k + 3 rows of the
image and w the k rows of the kernel. Across, a row meets a row by products with columns, as in
:mod:`xpnn.kernels.numpy_im2col`. The transforms are products as well, of small matrices with rows
as they lie. The gradient of the images is the convolution of that of the outputs with the kernel
turned; that of the kernel is

.. math:: dw = G^\top [\textstyle\sum (B^\top d) \odot (A g)].

In one direction the interpolation costs less than a digit: errors are a few 1e-6 of the largest
output in float32. For float64 there are plain products.
"""

from __future__ import annotations

import functools
import math
import threading
from itertools import groupby
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from xpnn.kernels import numpy_im2col
from xpnn.kernels.numpy_blocks import Pair
from xpnn.kernels.numpy_columns import Block, Source, Window, largest, over_blocks
from xpnn.kernels.numpy_memory import scratch
from xpnn.kernels.numpy_products import multiply_alone
from xpnn.parallel import get_num_threads, share

__all__ = ["accepts", "convolve", "input_gradient", "transforms", "weight_gradient"]

Array = Any

_OUT = 4  # rows at a time
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # and infinity
_BLOCK = 3 << 19  # bytes of columns and what becomes of them
_LEAST = 1 << 23  # multiplications below which there is nothing to gain
_LEAST_CHANNELS = 8


@functools.cache
def transforms(k: int) -> tuple[Array, Array, Array]:
    """Return the matrices B^T, G and A^T for k rows of a kernel, in float32.

    With a point for each product: the values there of the polynomials whose coefficients are the
    rows, and back by interpolation (Toom & Cook), transposed.
    """
    n = k + _OUT - 1
    points = np.asarray(_POINTS[: n - 1])
    powers = np.vander(points, k + _OUT, increasing=True)
    rests = [np.delete(points, i) for i in range(n - 1)]
    scales = [np.prod(point - rest) for point, rest in zip(points, rests, strict=True)]
    bt, g, at = np.zeros((n, n)), np.zeros((n, k)), np.zeros((_OUT, n))
    for i, rest in enumerate(rests):
        bt[i, :-1] = np.poly(rest)[::-1]
    bt[-1] = np.poly(points)[::-1]
    g[:-1] = powers[:, :k] / np.asarray(scales)[:, None]
    at[:, :-1] = powers[:, :_OUT].T
    g[-1, -1] = at[-1, -1] = 1.0
    return bt.astype(np.float32), g.astype(np.float32), at.astype(np.float32)


def _times(matrix: Array, w: Array) -> Array:
    """Return a matrix times what lies along the first axis."""
    return multiply_alone(matrix, w.reshape(len(w), -1)).reshape(-1, *w.shape[1:])


class _Tiles(threading.local):
    """Rows of images as polynomials at the points, in memory of each thread that asks."""

    def __init__(self, name: str, x: Array, window: Window, size: Pair, matrix: Array) -> None:
        """``window`` is one of as many rows as the matrix has columns."""
        self.source, self.matrix = Source(name, x, window, size), matrix
        array, n = self.source.array, window.kernel[0]
        s0, s1, _, s3 = array.strides
        down = (array.shape[1] - n) // _OUT + 1
        shape = (array.shape[0], down, n, array.shape[2] * array.shape[3])
        self.tiles = as_strided(array, shape, (s0, _OUT * s1, s1, s3), writeable=False)

    def __call__(self, block: Block, out: Array) -> None:
        """Write them for a block into (images, rows of tiles, points, a row)."""
        np.matmul(self.matrix, self.tiles[self.source.at(block)], out=out)


class _Columns(threading.local):
    """Columns of such rows, one matrix for each point."""

    def __init__(self, x: Array, window: Window, size: Pair, matrix: Array) -> None:
        (_, kw), (_, sw), (_, dw) = window.kernel, window.stride, window.dilation
        points, (images, rows), columns, c = len(matrix), size, window.outputs[1], x.shape[3]
        across = window.reach(1, columns)
        tall = window._replace(kernel=(points, kw), stride=(_OUT, sw))
        tall = tall._replace(outputs=(-(-window.outputs[0] // _OUT), columns))
        self.tiles = _Tiles("padded", x, tall, size, matrix)
        self.values = scratch("values", (images, rows, points, across * c), x.dtype)
        s0, s1, s2, s3 = self.values.strides
        self.windows = as_strided(
            self.values,
            (points, images, rows, columns, kw, c),
            (s2, s0, s1, sw * c * s3, dw * c * s3, s3),
            writeable=False,
        )
        self.found = scratch("columns", (self.windows.size,), x.dtype)

    def __call__(self, block: Block) -> Array:
        images, rows = block[1] - block[0], block[3] - block[2]
        self.tiles(block, self.values[:images, :rows])
        windows = self.windows[:, :images, :rows]
        found = self.found[: windows.size].reshape(windows.shape)
        np.copyto(found, windows)
        points, *places, kw, c = windows.shape
        return found.reshape(points, math.prod(places), kw * c)


def _blocks(n: int, window: Window, weight: Array) -> list[Block]:
    """Divide images into blocks of rows of tiles."""
    (kh, kw), (rows, columns) = window.kernel, window.outputs
    c, o = weight.shape[2:]
    size = 4 * (kh + _OUT - 1) * columns * (kw * c + c + o)
    return over_blocks(n, -(-rows // _OUT), size, _BLOCK)


def _memory(name: str, points: int, block: Block, size: int) -> tuple[Array, Array]:
    """Return memory for rows at all points: point by point, and the same tile by tile."""
    images, rows = block[1] - block[0], block[3] - block[2]
    there = scratch(name, (points, images, rows, size), np.float32)
    return there, there.transpose(1, 2, 0, 3)


def convolve(x: Array, weight: Array, bias: Array | None, y: Array, window: Window) -> None:
    """Write the convolution of x with a kernel (kh, kw, C, O) into ``y``."""
    bt, g, at = transforms(len(weight))
    (_, kw, c, o), (rows, columns) = weight.shape, window.outputs
    kernel = _times(g, weight).reshape(len(g), kw * c, o)
    found = _blocks(len(x), window, weight)
    seen = _Columns(x, window, largest(found), bt)
    fits = rows % _OUT == 0 and y.flags.c_contiguous
    if bias is not None:
        bias = np.broadcast_to(bias, y.shape[2:]).copy()

    def work(block: Block) -> None:
        i0, i1, r0, r1 = block
        part = y[i0:i1, r0 * _OUT : r1 * _OUT]
        products, by_tiles = _memory("products", len(g), block, columns * o)
        np.matmul(seen(block), kernel, out=products.reshape(len(g), -1, o))
        shape = (i1 - i0, r1 - r0, _OUT, columns * o)
        out = part.reshape(shape) if fits else scratch("outputs", shape, y.dtype)
        np.matmul(at, by_tiles, out=out)
        if not fits:
            np.copyto(part, out.reshape(i1 - i0, -1, columns, o)[:, : part.shape[1]])
        if bias is not None:
            np.add(part, bias, out=part)

    share(work, found)


def _gradient_tiles(g: Array, window: Window, found: list[Block], at: Array) -> _Tiles:
    """Return what writes the gradients of four rows of outputs, taken to the points."""
    rows, columns = window.outputs
    fours = Window((_OUT, 1), (-(-rows // _OUT), columns), (_OUT, 1), ((0, 0), (0, 0)), (1, 1))
    return _Tiles("padded gradient", g, fours, largest(found), np.ascontiguousarray(at.T))


def weight_gradient(g: Array, x: Array, weight: Array, window: Window) -> tuple[Array, Array]:
    """Return the gradients of a kernel and of a bias, given that of the outputs."""
    bt, to_kernel, at = transforms(len(weight))
    (_, kw, c, o), columns, points = weight.shape, window.outputs[1], len(bt)
    found = _blocks(len(x), window, weight)
    seen = _Columns(x, window, largest(found), bt)
    tiles = _gradient_tiles(g, window, found, at)
    parts = min(get_num_threads(), len(found))
    totals = np.zeros((parts, points, kw * c, o), x.dtype)
    bias_totals = np.zeros((parts, o), x.dtype)

    def work(k: int) -> None:  # the same blocks in the same order, whichever thread is free
        part = scratch("weight", totals.shape[1:], x.dtype)
        for block in found[k::parts]:
            i0, i1, r0, r1 = block
            values, by_tiles = _memory("products", points, block, columns * o)
            tiles(block, by_tiles)
            np.matmul(seen(block).mT, values.reshape(points, -1, o), out=part)
            np.add(totals[k], part, out=totals[k])
            ends = g[i0:i1, r0 * _OUT : r1 * _OUT].reshape(-1, o)
            bias_totals[k] += np.ones(len(ends), g.dtype) @ ends

    share(work, range(parts))
    dw = _times(np.ascontiguousarray(to_kernel.T), totals.sum(axis=0))
    return dw.reshape(weight.shape), bias_totals.sum(axis=0)


def input_gradient(g: Array, weight: Array, dx: Array, window: Window) -> None:
    """Write the gradient of the images, given that of the outputs, into ``dx``.

    Without a stride it is the convolution of g with the kernel turned by 180 degrees, unless most
    of that would be padding. Otherwise the transpose of every step of the convolution.
    """
    (height, width), (rows, columns) = dx.shape[1:3], window.outputs
    back = window.turned((height, width))
    if (
        window.stride == (1, 1)
        and min(back.padding[0] + back.padding[1]) >= 0
        and 4 * height * width <= 5 * rows * columns
    ):
        turned = np.ascontiguousarray(weight[::-1, ::-1].transpose(0, 1, 3, 2))
        convolve(g, turned, None, dx, back)
    elif window.dilation[1] > 1:
        numpy_im2col.input_gradient(g, weight, dx, window)
    else:
        _transposed(g, weight, dx, window)


def _transposed(g: Array, weight: Array, dx: Array, window: Window) -> None:
    r"""Write :math:`B [(G w) \odot (A g)]`, added up where windows and tiles overlap."""
    bt, to_kernel, at = transforms(len(weight))
    (_, kw, c, o), columns, points = weight.shape, window.outputs[1], len(bt)
    (top, _), (left, _) = window.padding
    kernel = _times(to_kernel, weight).reshape(points, kw * c, o)
    kernel = np.ascontiguousarray(kernel.mT)
    found = _blocks(len(g), window, weight)
    tiles = _gradient_tiles(g, window, found, at)
    stride, across = window.stride[1], window.reach(1, columns)
    apart = -(-kw // stride)  # windows that do not overlap

    def work(bands: list[Block]) -> None:
        dx[bands[0][0] : bands[0][1]] = 0
        for block in bands:
            add(block)

    def add(block: Block) -> None:
        i0, i1, r0, r1 = block
        n, m = i1 - i0, r1 - r0
        values, by_tiles = _memory("products", points, block, columns * o)
        tiles(block, by_tiles)
        parts = scratch("columns", (points, n * m * columns, kw * c), g.dtype)
        np.matmul(values.reshape(points, -1, o), kernel, out=parts)
        parts = parts.reshape(points, n, m, columns, kw * c)
        lines, by_tiles = _memory("values", points, block, across * c)
        lines[...] = 0
        for first in range(min(apart, columns)):
            some = parts[:, :, :, first::apart]
            at_places = _runs(lines[..., first * stride * c :], apart * stride * c, some.shape[3:])
            np.add(at_places, some, out=at_places)
        rows = scratch("rows", (n, m, points, across * c), g.dtype)
        np.matmul(bt.T, by_tiles, out=rows)
        image = scratch("image", (n, (m - 1) * _OUT + points, across * c), g.dtype)
        image[...] = 0
        for first in range(min(2, m)):  # two tiles further on they do not overlap
            some = rows[:, first::2].reshape(n, -1, points * across * c)
            lines = image.reshape(n, -1)[:, first * _OUT * across * c :]
            at_places = _runs(lines, 2 * _OUT * across * c, some.shape[1:])
            np.add(at_places, some, out=at_places)
        image = image.reshape(n, -1, across, c)
        start = r0 * _OUT - top
        low, high = max(start, 0), min(start + image.shape[1], dx.shape[1])
        wide = min(dx.shape[2], across - left)
        if low < high and wide > 0:
            part = dx[i0:i1, low:high, :wide]
            seen = image[:, low - start : high - start, left : left + wide]
            np.add(part, seen, out=part)

    share(work, [list(bands) for _, bands in groupby(found, lambda block: block[0])])


def _runs(lines: Array, step: int, shape: tuple[int, ...]) -> Array:
    """Return a view of runs of numbers, ``step`` apart, along the last axis."""
    *strides, one = lines.strides
    return as_strided(lines, (*lines.shape[:-1], *shape), (*strides, step * one, one))


def accepts(x: Array, weight: Array, y: Array, window: Window) -> bool:
    """Whether there is enough to do, and tiles do not lie beyond the edges too often."""
    kh, rows = len(weight), window.outputs[0]
    return (
        x.dtype == np.float32
        and 2 <= kh <= len(_POINTS) + 2 - _OUT
        and window.stride[0] == window.dilation[0] == 1
        and min(weight.shape[2:]) >= _LEAST_CHANNELS
        and 4 * _OUT * -(-rows // _OUT) <= 5 * rows
        and len(x) * rows * window.outputs[1] * weight.size >= _LEAST
    )
