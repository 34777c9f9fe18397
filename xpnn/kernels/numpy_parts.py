"""What kernels share that go over an array once: parts of it that fit a cache, for all threads."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import numpy as np

from xpnn import parallel
from xpnn.kernels.numpy_memory import empty

__all__ = ["are_many", "elementwise", "is_large", "keep", "over_parts", "parts"]

Array = Any

_PART = 1 << 16  # elements
_LONG = 1 << 18  # elements of a part for work that is but a few short sweeps
_BITS = {2: np.int16, 4: np.int32, 8: np.int64}


def parts(rows: int, width: int = 1, size: int | None = None) -> list[slice]:
    """Divide rows of ``width`` elements into parts of 64 k elements, or of ``size``."""
    step = max((size or _PART) // max(width, 1), 1)
    return [slice(i, min(i + step, rows)) for i in range(0, rows, step)]


def is_large(x: Array) -> bool:
    """Return whether an array is more than one part."""
    return bool(x.size > _PART)


def are_many(elements: int) -> bool:
    """Return whether there are so many that a sweep over them is for all threads."""
    return elements > 3 * _PART


def over_parts(
    work: Callable[[slice], None], rows: int, width: int = 1, short: bool = False
) -> None:
    """Call ``work`` on parts of the rows, on all threads if there is more than a little.

    If it is but a few short sweeps, parts are larger: threads wait for each other between calls.
    """
    size = _LONG if short else _PART
    if rows * width <= size:
        work(slice(0, rows))
    else:
        parallel.share(work, parts(rows, width, size), worth=are_many(rows * width))


def elementwise(f: Callable[..., Any], *xs: Array, short: bool = False) -> Array:
    """Return what ``f(*xs, out)`` writes, part by part: a flat part of each array at a time.

    The arrays are of one shape, and the result of the dtype of the first; ``short`` as for
    :func:`over_parts`.
    """
    y = empty(xs[0].shape, xs[0].dtype)
    flat = [x.reshape(-1) for x in (*xs, y)]
    over_parts(lambda at: f(*map(itemgetter(at), flat)), y.size, short=short)
    return y


def keep(x: Array, mask: Array, out: Array) -> None:
    """Write x where the mask is True and zero elsewhere, also for infinite x: by their bits."""
    bits = _BITS[x.dtype.itemsize]
    np.multiply(x.view(bits), mask, out=out.view(bits))
