"""Convolution without columns, compiled: products with windows of images as they lie.

With channels last, what a row of a kernel sees is one run of ``kw * C`` numbers of the image, and
the next place begins ``stride * C`` numbers later. That is a matrix for
:func:`xpnn.kernels.numba_products.multiply`, whose rows overlap, and nothing need be copied but
zeros around an image. For kernels that fit a core's second-level cache; not for dilated ones.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from xpnn.kernels.numba_products import LANES, multiply
from xpnn.kernels.numpy_columns import Window
from xpnn.parallel import get_num_threads, share

__all__ = ["accepts", "convolve", "input_gradient", "weight_gradient"]

Array = Any

_LARGEST = 1 << 17  # numbers of a kernel
_SHARED = 1 << 20  # multiplications from which a second thread pays
_compile = njit(nogil=True, cache=True, error_model="numpy")


@_compile
def _seen_at(x, image, around, top, left):
    """Return where an image with zeros around lies, and the bytes from row to row of it.

    It is copied into the middle of ``around``, as far as it goes; one that needs no zeros (``top``
    is -1) stays where it is.
    """
    c = x.shape[3]
    if top < 0:
        pitch = 4 * x.shape[2] * c
        return x.ctypes.data + image * x.shape[1] * pitch, pitch
    for h in range(min(x.shape[1], around.shape[0] - top)):
        for w in range(min(x.shape[2], around.shape[1] - left)):
            for k in range(c):
                around[top + h, left + w, k] = x[image, h, w, k]
    return around.ctypes.data, 4 * around.shape[1] * c


@_compile
def _forward(x, weight, bias, y, first, last, size, stride, top, left, o):
    """Convolve images first:last; ``weight`` (kh, kw * C, O') has O' - O columns of zeros."""
    kh, run, wide = weight.shape
    rows, columns, c = y.shape[1], y.shape[2], x.shape[3]
    around = np.zeros((size[0], size[1], c), np.float32)
    sums = np.empty((rows, columns, wide), np.float32)
    step, out = 4 * stride[1] * c, 4 * wide
    for n in range(first, last):
        source, pitch = _seen_at(x, n, around, top, left)
        for i in range(kh):  # a row of the kernel at a time, which stays in the nearest cache
            for h in range(rows):
                multiply(
                    source + (h * stride[0] + i) * pitch, step, 0, 4,
                    weight.ctypes.data + i * run * out, 0, out, 1, run,
                    sums.ctypes.data + h * columns * out, out, columns, wide, i == 0,
                )  # fmt: skip
        for h in range(rows):
            for w in range(columns):
                for k in range(o):
                    y[n, h, w, k] = sums[h, w, k]
                for k in range(bias.size):
                    y[n, h, w, k] += bias[k]


@_compile
def _weight_gradient(x, g, total, sums, first, last, size, stride, top, left):
    """Add the gradients of images first:last to ``total`` (kh, kw * C, O') and ``sums`` (O,)."""
    kh, run, wide = total.shape
    rows, columns, o, c = g.shape[1], g.shape[2], g.shape[3], x.shape[3]
    around = np.zeros((size[0], size[1], c), np.float32)
    padded = np.zeros((rows, columns, wide), np.float32)
    step, out = 4 * stride[1] * c, 4 * wide
    for n in range(first, last):
        source, pitch = _seen_at(x, n, around, top, left)
        for h in range(rows):
            for w in range(columns):
                for k in range(o):
                    padded[h, w, k] = g[n, h, w, k]
                for k in range(o):
                    sums[k] += g[n, h, w, k]
        for i in range(kh):
            multiply(
                source + i * pitch, 4, stride[0] * pitch, step,
                padded.ctypes.data, columns * out, out, rows, columns,
                total.ctypes.data + i * run * out, out, run, wide, 0,
            )  # fmt: skip


@_compile
def _input_gradient(g, weight, dx, first, last, size, stride, kh, run, top, left):
    """Write the gradients of images first:last; ``weight`` is (O, wide), a row a feature."""
    o, wide = weight.shape
    rows, columns, c = g.shape[1], g.shape[2], dx.shape[3]
    around = np.empty(size[0] * size[1] * c, np.float32)
    parts = np.empty((columns, wide), np.float32)
    for n in range(first, last):
        around[:] = 0
        for h in range(rows):
            multiply(
                g.ctypes.data + 4 * (n * rows + h) * columns * o, 4 * o, 0, 4,
                weight.ctypes.data, 0, 4 * wide, 1, o,
                parts.ctypes.data, 4 * wide, columns, wide, 1,
            )  # fmt: skip
            for i in range(kh):
                start = (h * stride[0] + i) * size[1] * c
                for w in range(columns):
                    for k in range(run):
                        around[start + w * stride[1] * c + k] += parts[w, i * run + k]
        for h in range(dx.shape[1]):
            for w in range(dx.shape[2]):
                at = ((h + top) * size[1] + w + left) * c
                inside = h + top < size[0] and w + left < size[1]
                for k in range(c):
                    dx[n, h, w, k] = around[at + k] if inside else 0


# ----------------------------------------------------------------------------- convolution


def accepts(x: Array, weight: Array, y: Array, window: Window) -> bool:
    """Whether the kernel is small, and images lie as they should."""
    return (
        x.dtype == np.float32
        and x.flags.c_contiguous
        and y.flags.c_contiguous
        and window.dilation == (1, 1)
        and not window.is_pointwise
        and weight.size <= _LARGEST
    )


def _seen(window: Window, image: tuple[int, ...]) -> tuple[tuple[int, int], int, int]:
    """Return the size of what is seen of an image with zeros around, and how many before it.

    Of one that needs no zeros: -1.
    """
    size = tuple(
        (m - 1) * s + k
        for m, s, k in zip(window.outputs, window.stride, window.kernel, strict=True)
    )
    (top, _), (left, _) = window.padding
    if not top and not left and size[0] <= image[0] and size[1] <= image[1]:
        top = left = -1
    return size, top, left  # type: ignore[return-value]


def _parts(n: int, worth: bool) -> list[tuple[int, int]]:
    """Divide n images among the threads."""
    threads = min(get_num_threads(), n) if worth else 1
    return [(n * k // threads, n * (k + 1) // threads) for k in range(threads)]


def _wide(n: int) -> int:
    return -(-n // LANES) * LANES


def convolve(x: Array, weight: Array, bias: Array | None, y: Array, window: Window) -> None:
    """Write the convolution of x with a kernel (kh, kw, C, O) into ``y``."""
    kh, kw, c, o = weight.shape
    rows = np.zeros((kh, kw * c, _wide(o)), x.dtype)
    rows[..., :o] = weight.reshape(kh, kw * c, o)
    bias = np.empty(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
    size, top, left = _seen(window, x.shape[1:3])

    def work(part: tuple[int, int]) -> None:
        _forward(x, rows, bias, y, *part, size, window.stride, top, left, o)

    share(work, _parts(len(x), y.size * weight.size // o > _SHARED))


def weight_gradient(g: Array, x: Array, weight: Array, window: Window) -> tuple[Array, Array]:
    """Return the gradients of a kernel and of a bias, given that of the outputs."""
    kh, kw, c, o = weight.shape
    size, top, left = _seen(window, x.shape[1:3])
    parts = _parts(len(x), g.size * weight.size // o > _SHARED)
    totals = np.zeros((len(parts), kh, kw * c, _wide(o)), x.dtype)
    sums = np.zeros((len(parts), o), x.dtype)

    def work(k: int) -> None:
        _weight_gradient(x, g, totals[k], sums[k], *parts[k], size, window.stride, top, left)

    share(work, range(len(parts)))
    return totals.sum(axis=0)[..., :o].reshape(weight.shape), sums.sum(axis=0)


def input_gradient(g: Array, weight: Array, dx: Array, window: Window) -> None:
    """Write the gradient of the images, given that of the outputs, into ``dx``."""
    kh, kw, c, o = weight.shape
    rows = np.zeros((o, _wide(kh * kw * c)), g.dtype)
    rows[:, : kh * kw * c] = weight.reshape(-1, o).T
    size, top, left = _seen(window, (0, 0))

    def work(part: tuple[int, int]) -> None:
        _input_gradient(g, rows, dx, *part, size, window.stride, kh, kw * c, top, left)

    share(work, _parts(len(g), g.size * weight.size // o > _SHARED))
