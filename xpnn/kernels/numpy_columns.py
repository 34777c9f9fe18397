"""What the windows of images see, copied side by side: the rows of a matrix, a block at a time."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from xpnn.kernels.numpy_blocks import Pair, Pairs, blocks, window_outputs
from xpnn.kernels.numpy_memory import scratch
from xpnn.parallel import get_num_threads

__all__ = ["Block", "Columns", "Source", "Window", "largest", "over_blocks"]

Array = Any
Block = tuple[int, int, int, int]  # first and last image, first and last row of the output


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

    def reach(self, axis: int, outputs: int) -> int:
        """Return over how many pixels so many windows side by side extend."""
        return (outputs - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1


def over_blocks(n: int, rows: int, row_bytes: int, target: int) -> list[Block]:
    """Divide ``rows`` rows of n images into blocks of up to ``target`` bytes, as many a thread."""
    size, threads = n * rows * row_bytes, get_num_threads()
    count = threads * max(-(-size // (threads * target)), 1)
    return list(blocks(n, rows, row_bytes, -(-size // count)))


def largest(found: list[Block]) -> Pair:
    """Return the images and the rows of the largest of blocks."""
    images, rows = (max((b[i + 1] - b[i] for b in found), default=1) for i in (0, 2))
    return images, rows


class Source:
    """Images as windows see them: with zeros around, if these see any.

    Attributes
    ----------
    array : (images, rows, columns, C)
        The images themselves, where nothing must be copied; else memory for those of one block.
    """

    def __init__(self, name: str, x: Array, window: Window, size: Pair) -> None:
        """``size`` is that of the largest block, images and rows; ``name`` that of its memory."""
        self.x, self.window = x, window
        (top, _), (self.left, _) = window.padding
        height, width, c = x.shape[1:]
        across = window.reach(1, window.outputs[1])
        inside = window.reach(0, window.outputs[0]) <= height and across <= width
        self.copies = bool(top or self.left or not inside or x.strides[3] != x.itemsize
                           or x.strides[2] != c * x.itemsize)  # fmt: skip
        self.array = x[:, :, :across]
        if self.copies:
            images, rows = size
            shape = (images, window.reach(0, rows), across, c)
            self.array = scratch(name, shape, x.dtype)
            self.array[...] = 0
            self.across = max(min(width, across - self.left), 0)
            self.in_bands = rows < window.outputs[0]

    def at(self, block: Block) -> tuple[slice, slice]:
        """Return where the windows of a block are: among those over ``array``."""
        i0, i1, h0, h1 = block
        if not self.copies:
            return slice(i0, i1), slice(h0, h1)
        n, count = i1 - i0, self.window.reach(0, h1 - h0)
        start = h0 * self.window.stride[0] - self.window.padding[0][0]
        low, high = max(start, 0), max(min(start + count, self.x.shape[1]), 0)
        if self.in_bands:  # what is above and below differs from block to block
            self.array[:n, : max(low - start, 0)] = 0
            self.array[:n, max(high - start, 0) : count] = 0
        if low < high and self.across:
            to = self.array[:n, low - start : high - start, self.left : self.left + self.across]
            np.copyto(to, self.x[i0:i1, low:high, : self.across])
        return slice(0, n), slice(0, h1 - h0)


class Columns(threading.local):
    """The columns of blocks of images, in memory of each thread that asks for them.

    A row of the matrix is what a window sees, or, of several ``places`` side by side, the run of
    pixels that their windows see together: with few channels, runs are short, and copying them
    takes longer than the product with the zeros of a kernel that is repeated, place by place.
    """

    def __init__(self, x: Array, window: Window, size: Pair, places: int = 1) -> None:
        images, rows = size
        (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.stride, window.dilation
        c, across = x.shape[3], window.outputs[1] // places
        self.source = Source("padded", x, window, size)
        array = self.source.array
        s0, s1, s2, s3 = array.strides
        shape = (array.shape[0], (array.shape[1] - dh * (kh - 1) - 1) // sh + 1, across)
        steps = (s0, s1 * sh, s2 * sw * places)
        seen: tuple[int, ...]
        step: tuple[int, ...]
        if dw == 1:
            seen, step = (kh, ((places - 1) * sw + kw) * c), (s1 * dh, s3)
        else:
            seen, step = (kh, kw, c), (s1 * dh, s2 * dw, s3)
        self.windows = as_strided(array, (*shape, *seen), (*steps, *step), writeable=False)
        self.found = scratch("columns", (images, rows, across, *seen), x.dtype)

    def __call__(self, block: Block) -> Array:
        at = self.source.at(block)
        found = self.found[: block[1] - block[0], : block[3] - block[2]]
        np.copyto(found, self.windows[at])
        return found.reshape(found.shape[0] * found.shape[1] * found.shape[2], -1)
