"""Sums of many numbers need more digits than the numbers have."""

from __future__ import annotations

from typing import Any

from xpnn._dtypes import as_dtype
from xpnn.backend import array_namespace

__all__ = ["widened"]


def widened(x: Any) -> Any:
    """Return float32 for float16 and bfloat16, anything else as it is.

    A sum of float16 is infinite from 65520 on, and one of ones stays at 2048.
    """
    dtype = getattr(x, "dtype", None)
    if dtype is None or (found := as_dtype(dtype)).kind != "f" or found.itemsize > 2:
        return x
    xp = array_namespace(x)
    return xp.astype(x, xp.float32)
