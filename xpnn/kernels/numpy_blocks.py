"""What the window kernels for NumPy share: reused memory, blocks that fit a cache, clipped taps."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["blocks", "clipped", "scratch", "window_outputs"]

Array = Any
Pair = tuple[int, int]
Pairs = tuple[Pair, ...]

_memory = threading.local()
_KEPT_BYTES = 1 << 25


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array of any content, in memory that calls of one thread use again and again.

    New memory costs a page fault every 4 kB, half the time of an operation on it. What is larger
    than 32 MB is not kept.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size > _KEPT_BYTES:
        return np.empty(shape, dtype)
    kept = _memory.__dict__.get(name)
    if kept is None or kept.size < size:
        kept = _memory.__dict__[name] = np.empty(size, np.uint8)
    return kept[:size].view(dtype).reshape(shape)


def blocks(n: int, rows: int, row_size: int, target: int) -> Iterator[tuple[int, int, int, int]]:
    """Divide n images of ``rows`` rows into blocks of about ``target`` elements.

    Yields (first image, last image, first row, last row): several whole images, or a band of one.
    """
    fitting = max(target // max(row_size, 1), 1)
    if fitting >= rows:
        step = fitting // rows
        for first in range(0, n, step):
            yield first, min(first + step, n), 0, rows
        return
    bands = -(-rows // fitting)
    fitting = -(-rows // bands)
    for image in range(n):
        for top in range(0, rows, fitting):
            yield image, image + 1, top, min(top + fitting, rows)


def window_outputs(
    size: tuple[int, ...], kernel: tuple[int, ...], stride: Pair, padding: Pairs, dilation: Pair
) -> tuple[int, ...]:
    """Return at how many places a window stops on each axis; below 1 if it does not fit."""
    axes = zip(size, kernel, stride, padding, dilation, strict=True)
    return tuple((n + sum(p) - (k - 1) * d - 1) // s + 1 for n, k, s, p, d in axes)


def clipped(offset: int, stride: int, size: int, first: int, last: int) -> tuple[slice, slice]:
    """Return which of the places first:last of a window see something with one of their taps.

    The tap of place m sees element ``m * stride + offset`` of an axis of ``size`` elements.
    Returns the places, counted from ``first``, and the elements that they see.
    """
    start = max(first, -(offset // stride))  # ceil(-offset / stride)
    stop = min(last, (size - 1 - offset) // stride + 1)
    if start >= stop:
        return slice(0, 0), slice(0, 0)
    seen = slice(start * stride + offset, (stop - 1) * stride + offset + 1, stride)
    return slice(start - first, stop - first), seen
