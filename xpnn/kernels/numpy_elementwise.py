"""Element-wise functions of one array, and sums of two: on parts that stay in a cache.

A part is computed by the standard function itself, whose temporaries stay in the cache too, on all
threads; or by a compiled loop, where there is one of the same name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.kernels import fast
from xpnn.kernels.numpy_memory import empty
from xpnn.kernels.numpy_parts import elementwise, is_large, over_parts

__all__ = ["add", "add_accepts", "in_parts", "in_parts_accepts", "total"]

Array = Any
_COMPILED = "xpnn.kernels.numba_elementwise"


def in_parts_accepts(x: Array, **static: Any) -> bool:
    """Whether x is more than one part, of real floating-point numbers."""
    return x.dtype.char in "efd" and is_large(x)


def in_parts(name: str, f: Callable[..., Array]) -> Callable[..., Array]:
    """Return ``f(xp, *arrays, **static)``, for arrays of one shape and dtype, part by part."""

    def shared(xp: Any, *arrays: Array, **static: Any) -> Array:
        loop = None
        if fast.is_on() and all(x.dtype == np.float32 for x in arrays):
            loop = getattr(fast.compiled(_COMPILED), name, None)
        y = empty(arrays[0].shape, arrays[0].dtype)
        *flat, out = (x.reshape(-1) for x in (*arrays, y))

        def part(at: slice) -> None:
            if loop is not None:
                loop(*(x[at] for x in flat), out[at])
            else:
                out[at] = f(xp, *(x[at] for x in flat), **static)

        over_parts(part, y.size)
        return y

    return shared


def add_accepts(x1: Array, x2: Array) -> bool:
    """Whether both are large, alike, and lie in the order of their elements."""
    return (
        type(x1) is np.ndarray
        and is_large(x1)
        and type(x2) is np.ndarray
        and x1.shape == x2.shape
        and x1.dtype == x2.dtype
        and x1.flags.c_contiguous
        and x2.flags.c_contiguous
    )


def add(xp: Any, x1: Array, x2: Array) -> Array:
    return elementwise(np.add, x1, x2, short=True)


def total(x1: Array, x2: Array) -> Array:
    """Return ``x1 + x2``, on all threads if they are large: for gradients that meet."""
    return add(np, x1, x2) if add_accepts(x1, x2) else x1 + x2
