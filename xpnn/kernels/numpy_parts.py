"""What kernels share that go over an array once: parts of it that fit a cache, for all threads."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import numpy as np

from xpnn import parallel
from xpnn.kernels.numpy_memory import empty, scratch

__all__ = ["add", "are_many", "elementwise", "is_large", "keep", "over_parts", "parts"]

Array = Any

_PART = 1 << 16  # elements
_BITS = {2: np.int16, 4: np.int32, 8: np.int64}


def parts(rows: int, width: int = 1, size: int | None = None) -> list[slice]:
    """Divide rows of ``width`` elements into parts of 64 k elements, or ``size``."""
    step = max((size or _PART) // max(width, 1), 1)
    return [slice(i, min(i + step, rows)) for i in range(0, rows, step)]


def is_large(x: Array) -> bool:
    """Return whether an array is more than one part."""
    return bool(x.size > _PART)


def are_many(elements: int) -> bool:
    """Return whether there are so many that a sweep over them is for all threads."""
    return elements > 3 * _PART


def over_parts(
    work: Callable[[slice], None], rows: int, width: int = 1, size: int | None = None
) -> None:
    """Call ``work`` on parts of the rows, on all threads if there is more than a little."""
    if rows * width <= (size or _PART):
        work(slice(0, rows))
        return
    places = parts(rows, width, size)
    parallel.share(work, places, worth=are_many(rows * width))


def elementwise(f: Callable[..., Any], *xs: Array, size: int | None = None) -> Array:
    """Return what ``f(*xs, out)`` writes, part by part: a flat part of each array at a time.

    The arrays are of one shape, and the result of the dtype of the first. If ``f`` is but a few
    short sweeps, larger parts are better: threads wait for each other between calls.
    """
    y = empty(xs[0].shape, xs[0].dtype)
    flat = [x.reshape(-1) for x in (*xs, y)]
    over_parts(lambda at: f(*map(itemgetter(at), flat)), y.size, size=size)
    return y


def add(a: Array, b: Array) -> Array:
    """Return ``a + b``, on all threads if they are large."""
    alike = type(b) is np.ndarray and a.shape == b.shape and a.dtype == b.dtype
    if not is_large(a) or not alike or not a.flags.c_contiguous or not b.flags.c_contiguous:
        return a + b
    return elementwise(np.add, a, b)


def keep(x: Array, mask: Array, out: Array) -> None:
    """Write x where the mask is True and zero elsewhere, also for infinite x: by their bits."""
    bits = scratch("bits", x.shape, _BITS[x.dtype.itemsize])
    np.copyto(bits, mask)
    np.negative(bits, out=bits)
    np.bitwise_and(x.view(bits.dtype), bits, out=out.view(bits.dtype))
