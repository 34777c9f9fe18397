"""Dropout on a GPU: the array and its mask are read once, forward and back."""

from __future__ import annotations

from typing import Any

from xpnn.kernels.cupy_elementwise import launch_flat, packs
from xpnn.kernels.cupy_launch import DTYPES, Source, contiguous, cupy

__all__ = ["alpha_dropout", "alpha_dropout_accepts", "dropout", "dropout_accepts", "sources"]

Array = Any

_source = Source("dropout")


def sources() -> dict[str, str]:
    """Return every CUDA source of this module by name, for the compile check."""
    return _source.codes()


def dropout_accepts(x: Array, mask: Array, *, scale: float) -> bool:
    """Whether the mask is one of truth values, one for each element."""
    return (
        type(mask) is type(x)
        and x.dtype.name in DTYPES
        and mask.dtype.kind == "b"
        and mask.shape == x.shape
        and x.size > 0
    )


def dropout(xp: Any, x: Array, mask: Array, *, scale: float) -> Array:
    return _dropped(x, mask, scale, -0.0, 0.0)  # adding -0 changes nothing, also not the sign of 0


def alpha_dropout_accepts(
    x: Array, mask: Array, *, scale: float, shift: float, dropped: float
) -> bool:
    return dropout_accepts(x, mask, scale=scale)


def alpha_dropout(
    xp: Any, x: Array, mask: Array, *, scale: float, shift: float, dropped: float
) -> Array:
    return _dropped(x, mask, scale, shift, dropped)


def _dropped(x: Array, mask: Array, *numbers: float) -> Array:
    x, mask = contiguous(x), contiguous(mask)
    y = cupy().empty(x.shape, x.dtype)
    n, together = x.size, packs(x, mask, y)
    function = _source.kernel("dropout", x.dtype)
    launch_flat(function, n, together, x.itemsize, x, mask, y, n, together, *map(float, numbers))
    return y
