"""What the window kernels for NumPy share: blocks that fit a cache, clipped taps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["blocks", "clipped", "window_outputs"]

Array = Any
Pair = tuple[int, int]
Pairs = tuple[Pair, ...]


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
