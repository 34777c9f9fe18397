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

from itertools import pairwise
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from xpnn.kernels.numba_products import LANES, multiply
from xpnn.kernels.numpy_columns import Window
from xpnn.kernels.numpy_products import column_sums, multiply_alone
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
_BLOCK = 3 << 17  # numbers of transformed tiles that stay in a core's second-level cache
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
            vector = ir.VectorType(ir.FloatType(), LANES)
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
                        constant = ir.Constant(vector, [factor] * LANES)
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
def _cut(x, image, top, left, tile):
    """Copy a square of an image into ``tile``, with zeros beyond its edges."""
    for i in range(tile.shape[0]):
        for j in range(tile.shape[1]):
            h, w = top + i, left + j
            if 0 <= h < x.shape[1] and 0 <= w < x.shape[2]:
                for k in range(x.shape[3]):
                    tile[i, j, k] = x[image, h, w, k]
            else:
                for k in range(x.shape[3]):
                    tile[i, j, k] = 0


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
                for _ in range(0, c, LANES):
                    _input(source, row, c * size, target, step_row, step)
                    source += LANES * size
                    target += LANES * size
            else:
                _cut(x, image, h, w, tile)
                source = tile.ctypes.data
                for _ in range(0, c, LANES):
                    _input(source, _IN * c * size, c * size, target, step_row, step)
                    source += LANES * size
                    target += LANES * size


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
                _cut(g, image, h, w, tile)
                source, source_row = tile.ctypes.data, _OUT * c * size
            for _ in range(0, c, LANES):
                _gradient(source, source_row, c * size, target, step_row, step)
                source += LANES * size
                target += LANES * size


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
            for _ in range(0, c, LANES):
                _output(source, step_row, step, target, target_row, c * size)
                source += LANES * size
                target += LANES * size
            for i in range(min(_OUT, height - h)):
                for j in range(min(_OUT, width - w)):
                    if not whole:
                        for o in range(c):
                            y[image, h + i, w + j, o] = tile[i, j, o]
                    for o in range(bias.size):
                        y[image, h + i, w + j, o] += bias[o]


# -------------------------------------------------------------------------------- blocks


@_compile
def _convolve(x, kernel, bias, y, first, last, step, down, across, top, left):
    """Convolve the tiles in rows first:last, ``step`` rows at a time."""
    c, o = x.shape[3], y.shape[3]
    v = np.empty((_IN, _IN, step * across, c), np.float32)
    m = np.empty((_IN, _IN, step * across, o), np.float32)
    for r in range(first, last, step):
        stop = min(r + step, last)
        tiles = (stop - r) * across
        _take_input(x, r, stop, down, across, top, left, v)
        for k in range(_IN * _IN):
            multiply(
                v.ctypes.data + k * v.strides[1], 4 * c, 0, 4,
                kernel.ctypes.data + k * 4 * c * o, 0, 4 * o, 1, c,
                m.ctypes.data + k * m.strides[1], 4 * o, tiles, o, 1,
            )  # fmt: skip
        _give_output(m, r, stop, down, across, bias, y)


@_compile
def _correlate(g, x, total, first, last, step, down, across, top, left):
    """Add to ``total`` (36, C, O) what the tiles in rows first:last say of the kernel."""
    c, o = x.shape[3], g.shape[3]
    v = np.empty((_IN, _IN, step * across, c), np.float32)
    m = np.empty((_IN, _IN, step * across, o), np.float32)
    for r in range(first, last, step):
        stop = min(r + step, last)
        tiles = (stop - r) * across
        _take_input(x, r, stop, down, across, top, left, v)
        _take_gradient(g, r, stop, down, across, m)
        for k in range(_IN * _IN):
            multiply(
                v.ctypes.data + k * v.strides[1], 4, 0, 4 * c,
                m.ctypes.data + k * m.strides[1], 0, 4 * o, 1, tiles,
                total.ctypes.data + k * 4 * c * o, 4 * o, c, o, 0,
            )  # fmt: skip


# ----------------------------------------------------------------------------- convolution


def accepts(x: Array, weight: Array, y: Array, window: Window) -> bool:
    """Whether it is such a convolution, and tiles do not mostly lie beyond the edges."""
    kh, kw, c, o = weight.shape
    plain = (kh, kw) == (3, 3) and window.stride == window.dilation == (1, 1)
    if not plain or x.dtype != np.float32 or c % LANES or o % LANES:
        return False
    if not (x.flags.c_contiguous and y.flags.c_contiguous):  # a group of channels
        return False
    down, across = _tiles(window)
    rows, columns = window.outputs
    return 2 * _OUT * _OUT * down * across <= 3 * rows * columns


def _tiles(window: Window) -> tuple[int, int]:
    rows, columns = window.outputs
    return -(-rows // _OUT), -(-columns // _OUT)


def _divided(n: int, window: Window, weight: Array, work: int) -> tuple[list[Any], int]:
    """Return the rows of tiles of each thread, and how many make a block."""
    down, across = _tiles(window)
    threads = get_num_threads() if work > _SHARED else 1
    rows = n * down
    step = max(_BLOCK // (_IN * _IN * sum(weight.shape[2:]) * across), 1)
    edges = [rows * k // threads for k in range(threads + 1)]
    return [part for part in pairwise(edges) if part[0] < part[1]], step


def _sandwich(matrix: Array, w: Array) -> Array:
    """Return ``matrix @ w @ matrix.T`` over the first two axes."""
    n, m = matrix.shape
    once = multiply_alone(matrix, w.reshape(m, -1)).reshape(n, m, -1)
    return multiply_alone(matrix, once).reshape(n, n, *w.shape[2:])


def convolve(x: Array, weight: Array, bias: Array | None, y: Array, window: Window) -> None:
    """Write the convolution of x with a kernel (3, 3, C, O) into ``y``."""
    tiles, (top, left) = _tiles(window), (before for before, _ in window.padding)
    parts, step = _divided(len(x), window, weight, y.size * weight.shape[2])
    kernel = _sandwich(_G, weight)
    bias = np.empty(0, np.float32) if bias is None else np.ascontiguousarray(bias)
    share(lambda part: _convolve(x, kernel, bias, y, *part, step, *tiles, top, left), parts)


def input_gradient(g: Array, weight: Array, dx: Array, window: Window) -> None:
    """Write the gradient of the images, given that of the outputs, into ``dx``."""
    turned = np.ascontiguousarray(weight[::-1, ::-1].transpose(0, 1, 3, 2))
    convolve(g, turned, None, dx, window.turned(dx.shape[1:3]))


def weight_gradient(g: Array, x: Array, weight: Array, window: Window) -> tuple[Array, Array]:
    """Return the gradients of a kernel and of a bias, given that of the outputs."""
    c, o = weight.shape[2:]
    tiles, (top, left) = _tiles(window), (before for before, _ in window.padding)
    parts, step = _divided(len(x), window, weight, g.size * c)
    totals = np.zeros((len(parts), _IN, _IN, c, o), x.dtype)

    def work(k: int) -> None:
        _correlate(g, x, totals[k], *parts[k], step, *tiles, top, left)

    share(work, range(len(parts)))
    return _sandwich(_G.T, totals.sum(axis=0)), column_sums(g.reshape(-1, o))
