r"""Convolution with kernels of 3 x 3 by Winograd's minimal filtering F(4 x 4, 3 x 3), compiled.

Tiles of 6 x 6 pixels give 4 x 4 outputs each with 36 products a pair of channels, instead of 144:

.. math:: Y = A^\top [(G w G^\top) \odot (B^\top d B)] A

(Lavin & Gray, 2016). The products, summed over channels, are 36 matrix products over a block of
tiles that stays in a second-level cache. The gradient of the images is the convolution of that of
the outputs with the kernel turned; that of the kernel is

.. math:: dw = G^\top [\textstyle\sum (B^\top d B) \odot (A g A^\top)] G.

The interpolation points 0, 1, -1, 2, -2 and infinity cost about one digit: errors are some 1e-5 of
the largest output in float32. For float64 there are plain products.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from xpnn.kernels.numpy_im2col import Window
from xpnn.kernels.numpy_memory import scratch
from xpnn.parallel import get_num_threads, share

__all__ = ["accepts", "convolve", "input_gradient", "weight_gradient"]

Array = Any

_OUT, _IN = 4, 6  # the sides of a tile
_BT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_G = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float32,
)
_AT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    np.float32,
)
_LANES = 16  # channels at a time
_TILES = 64  # a block: with 64 channels 36 * 64 * (64 + 64) numbers, 1.2 MB
_SHARED = 1 << 20  # multiplications from which a second thread pays


# ------------------------------------------------------------------------------ transforms


def _between(matrix: Array) -> Any:
    """Return a compiled function that writes ``matrix @ x @ matrix.T``, for 16 channels at once.

    Addresses and steps are in bytes: x is square, ``down`` from row to row and ``across`` from
    column to column; the result lies likewise. Loops in Python's terms are not enough: the
    compiler cannot know that what is written is not what is read next.
    """

    @intrinsic
    def between(
        typing: Any, x: Any, down: Any, across: Any, y: Any, y_down: Any, y_across: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vector = ir.VectorType(ir.FloatType(), _LANES)
            x, down, across, y, y_down, y_across = args

            def pointer(base: Any, i: int, down: Any, j: int, across: Any) -> Any:
                for n, step in ((i, down), (j, across)):
                    base = builder.add(base, builder.mul(step, ir.Constant(step.type, n)))
                return builder.inttoptr(base, vector.as_pointer())

            def combined(factors: Any, vectors: Any) -> Any:
                total = None
                for factor, v in zip(factors.tolist(), vectors, strict=True):
                    if factor == 0:
                        continue
                    if abs(factor) != 1:
                        constant = ir.Constant(vector, [factor] * _LANES)
                        v = builder.fmul(v, constant, flags=("contract",))
                    if total is None:
                        total = builder.fneg(v) if factor == -1 else v
                    else:
                        add = builder.fsub if factor == -1 else builder.fadd
                        total = add(total, v, flags=("contract",))
                return total

            rows, n = matrix.shape
            size = range(n)
            loaded = [
                [builder.load(pointer(x, i, down, j, across), align=4) for j in size] for i in size
            ]
            columns = [
                [combined(matrix[i], [loaded[k][j] for k in size]) for j in size]
                for i in range(rows)
            ]
            for i in range(rows):
                for j in range(rows):
                    value = combined(matrix[j], columns[i])
                    builder.store(value, pointer(y, i, y_down, j, y_across), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), generate

    return between


_input, _output, _gradient = _between(_BT), _between(_AT), _between(np.ascontiguousarray(_AT.T))
_compile = njit(nogil=True, cache=True, error_model="numpy")


@_compile
def _cut(x, top, left, tile):
    """Copy a square of an image into ``tile``, with zeros beyond its edges."""
    for i in range(tile.shape[0]):
        for j in range(tile.shape[1]):
            h, w = top + i, left + j
            if 0 <= h < x.shape[0] and 0 <= w < x.shape[1]:
                tile[i, j] = x[h, w]
            else:
                tile[i, j] = 0


@_compile
def _take_input(x, first, last, down, across, top, left, v):
    """Write the transforms of the tiles in rows first:last, (6, 6, tiles, C)."""
    height, width, c = x.shape[1:]
    tile = np.empty((_IN, _IN, c), np.float32)
    size, row = 4, 4 * width * c
    where, to = x.ctypes.data, v.ctypes.data
    step, step_row = v.strides[1], v.strides[0]
    for r in range(first, last):
        image, h = r // down, r % down * _OUT - top
        for k in range(across):
            w = k * _OUT - left
            target = to + ((r - first) * across + k) * c * size
            if h >= 0 and w >= 0 and h + _IN <= height and w + _IN <= width:
                source = where + ((image * height + h) * width + w) * c * size
                for _ in range(0, c, _LANES):
                    _input(source, row, c * size, target, step_row, step)
                    source += _LANES * size
                    target += _LANES * size
            else:
                _cut(x[image], h, w, tile)
                source = tile.ctypes.data
                for _ in range(0, c, _LANES):
                    _input(source, _IN * c * size, c * size, target, step_row, step)
                    source += _LANES * size
                    target += _LANES * size


@_compile
def _take_gradient(g, first, last, down, across, v):
    """Write the transforms of tiles of 4 x 4 gradients in rows first:last, (6, 6, tiles, O)."""
    height, width, c = g.shape[1:]
    tile = np.empty((_OUT, _OUT, c), np.float32)
    size, row = 4, 4 * width * c
    where, to = g.ctypes.data, v.ctypes.data
    step, step_row = v.strides[1], v.strides[0]
    for r in range(first, last):
        image, h = r // down, r % down * _OUT
        for k in range(across):
            w = k * _OUT
            target = to + ((r - first) * across + k) * c * size
            if h + _OUT <= height and w + _OUT <= width:
                source, source_row = where + ((image * height + h) * width + w) * c * size, row
            else:
                _cut(g[image], h, w, tile)
                source, source_row = tile.ctypes.data, _OUT * c * size
            for _ in range(0, c, _LANES):
                _gradient(source, source_row, c * size, target, step_row, step)
                source += _LANES * size
                target += _LANES * size


@_compile
def _give_output(m, first, last, down, across, bias, y):
    """Write the outputs of the tiles in rows first:last from (6, 6, tiles, O)."""
    height, width, c = y.shape[1:]
    tile = np.empty((_OUT, _OUT, c), np.float32)
    size, row = 4, 4 * width * c
    where, to = m.ctypes.data, y.ctypes.data
    step, step_row = m.strides[1], m.strides[0]
    for r in range(first, last):
        image, h = r // down, r % down * _OUT
        for k in range(across):
            w = k * _OUT
            source = where + ((r - first) * across + k) * c * size
            whole = h + _OUT <= height and w + _OUT <= width
            if whole:
                target, target_row = to + ((image * height + h) * width + w) * c * size, row
            else:
                target, target_row = tile.ctypes.data, _OUT * c * size
            for _ in range(0, c, _LANES):
                _output(source, step_row, step, target, target_row, c * size)
                source += _LANES * size
                target += _LANES * size
            for i in range(min(_OUT, height - h)):
                for j in range(min(_OUT, width - w)):
                    if not whole:
                        y[image, h + i, w + j] = tile[i, j]
                    for o in range(bias.size):
                        y[image, h + i, w + j, o] += bias[o]


# ----------------------------------------------------------------------------- convolution


def accepts(x: Array, weight: Array, y: Array, window: Window) -> bool:
    """Whether it is such a convolution, and tiles do not mostly lie beyond the edges."""
    kh, kw, c, o = weight.shape
    plain = (kh, kw) == (3, 3) and window.stride == window.dilation == (1, 1)
    if not plain or x.dtype != np.float32 or c % _LANES or o % _LANES:
        return False
    if not (x.flags.c_contiguous and y.flags.c_contiguous):  # a group of channels
        return False
    down, across = _tiles(window)
    rows, columns = window.outputs
    return 2 * _OUT * _OUT * down * across <= 3 * rows * columns


def _tiles(window: Window) -> tuple[int, int]:
    rows, columns = window.outputs
    return -(-rows // _OUT), -(-columns // _OUT)


def _blocks(n: int, window: Window) -> list[tuple[int, int]]:
    """Return the first and last row of tiles of each block."""
    down, across = _tiles(window)
    step = max(_TILES // across, 1)
    return [(first, min(first + step, n * down)) for first in range(0, n * down, step)]


def _sandwich(matrix: Array, w: Array) -> Array:
    """Return ``matrix @ w @ matrix.T`` over the first two axes."""
    n, m = matrix.shape
    once = (matrix @ w.reshape(m, -1)).reshape(n, m, -1)
    return np.matmul(matrix, once).reshape(n, n, *w.shape[2:])


def convolve(x: Array, weight: Array, bias: Array | None, y: Array, window: Window) -> None:
    """Write the convolution of x with a kernel (3, 3, C, O) into ``y``."""
    c, o = weight.shape[2:]
    down, across = _tiles(window)
    top, left = window.padding[0][0], window.padding[1][0]
    kernel = _sandwich(_G, weight).reshape(-1, c, o)
    bias = np.empty(0, np.float32) if bias is None else np.ascontiguousarray(bias)

    def work(block: tuple[int, int]) -> None:
        tiles = (block[1] - block[0]) * across
        v = scratch("tiles", (_IN, _IN, tiles, c), x.dtype)
        m = scratch("products", (_IN, _IN, tiles, o), x.dtype)
        _take_input(x, *block, down, across, top, left, v)
        np.matmul(v.reshape(-1, tiles, c), kernel, out=m.reshape(-1, tiles, o))
        _give_output(m, *block, down, across, bias, y)

    share(work, _blocks(len(x), window), worth=y.size * c > _SHARED)


def input_gradient(g: Array, weight: Array, dx: Array, window: Window) -> None:
    """Write the gradient of the images, given that of the outputs, into ``dx``."""
    turned = np.ascontiguousarray(weight[::-1, ::-1].transpose(0, 1, 3, 2))
    convolve(g, turned, None, dx, window.turned(dx.shape[1:3]))


def weight_gradient(g: Array, x: Array, weight: Array, window: Window) -> tuple[Array, Array]:
    """Return the gradients of a kernel and of a bias, given that of the outputs."""
    c, o = weight.shape[2:]
    down, across = _tiles(window)
    top, left = window.padding[0][0], window.padding[1][0]
    height = g.shape[1]
    g_rows = g.reshape(-1, g.shape[2] * o)
    blocks = _blocks(len(x), window)
    worth = g.size * c > _SHARED
    parts = min(get_num_threads(), len(blocks)) if worth else 1
    totals = np.zeros((parts, _IN * _IN, c, o), x.dtype)
    bias_totals = np.zeros((parts, g_rows.shape[1]), x.dtype)

    def work(k: int) -> None:  # the same blocks in the same order, whichever thread is free
        part = scratch("weight", totals.shape[1:], x.dtype)
        for first, last in blocks[k::parts]:
            tiles = (last - first) * across
            v = scratch("tiles", (_IN, _IN, tiles, c), x.dtype)
            m = scratch("products", (_IN, _IN, tiles, o), x.dtype)
            _take_input(x, first, last, down, across, top, left, v)
            _take_gradient(g, first, last, down, across, m)
            transposed = v.reshape(-1, tiles, c).transpose(0, 2, 1)
            np.matmul(transposed, m.reshape(-1, tiles, o), out=part)
            np.add(totals[k], part, out=totals[k])
            start, stop = (r // down * height + min(r % down * _OUT, height) for r in (first, last))
            bias_totals[k] += np.ones(stop - start, x.dtype) @ g_rows[start:stop]

    share(work, range(parts), worth)
    dw = _sandwich(_G.T, totals.sum(axis=0).reshape(_IN, _IN, c, o))
    return dw, bias_totals.sum(axis=0).reshape(-1, o).sum(axis=0)
