"""``clip`` and ``sign`` on CuPy, without a look at values.

array-api-compat writes through boolean masks, whose elements the host counts: it waits, and a step
that is recorded may not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn.kernels.cupy_launch import cupy

__all__ = ["clip", "complex_sign", "sign"]

Array = Any


def clip(xp: Any, x: Array, lower: Any, upper: Any) -> Array:
    """Move ``x`` into its bounds in its own dtype; NaN in ``x`` and in bounds stays NaN."""
    y = x
    for bound, choose in ((lower, cupy().maximum), (upper, cupy().minimum)):
        if bound is not None and not _beyond(bound, x.dtype, choose is cupy().maximum):
            y = choose(y, _cast(bound, x.dtype))
    return x.copy() if y is x else y


def _beyond(bound: Any, dtype: Any, below: bool) -> bool:
    """Return whether a Python integer bounds nothing that an integer dtype holds."""
    if type(bound) is not int or dtype.kind not in "iu":
        return False
    limits = np.iinfo(dtype)
    return bound <= limits.min if below else bound >= limits.max


def _cast(bound: Any, dtype: Any) -> Any:
    # A scalar of NumPy is an argument of the kernel, and has the dtype that one of Python lacks.
    if isinstance(bound, cupy().ndarray):
        return bound.astype(dtype, copy=False)
    return dtype.type(bound)


def sign(xp: Any, x: Array) -> Array:
    """Return CuPy's own sign, which keeps NaN and is 0 for a complex 0."""
    return cupy().sign(x)


complex_sign = sign
