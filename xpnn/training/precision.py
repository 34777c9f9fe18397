"""Sums of many numbers need more digits than the numbers have."""

from __future__ import annotations

from typing import Any

from xpnn._dtypes import DTYPES, as_dtype
from xpnn.backend import array_namespace

__all__ = ["wide", "widened"]


def wide(dtype: Any) -> Any:
    """Return float32 for float16 and bfloat16, any other dtype as it is.

    A sum of float16 is infinite from 65520 on, and one of ones stays at 2048.
    """
    few = dtype is not None and as_dtype(dtype).name in ("float16", "bfloat16")
    return DTYPES["float32"] if few else dtype


def widened(x: Any) -> Any:
    """Return an array in a dtype in which sums can be taken; what is no array as it is."""
    dtype = getattr(x, "dtype", None)
    if wide(dtype) is dtype:
        return x
    xp = array_namespace(x)
    return xp.astype(x, xp.float32)
