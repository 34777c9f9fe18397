"""Arrays joined in a step that is recorded.

Of more than eight arrays CuPy copies a table of addresses to the device, which is faster than a
copy of each, but nothing comes from the host while a stream is captured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpnn import replay
from xpnn.kernels.cupy_launch import cupy

__all__ = ["concat", "concat_accepts", "stack", "stack_accepts"]

Array = Any

_TOGETHER = 8  # arrays that CuPy joins without a table


def concat_accepts(*arrays: Array, axis: int) -> bool:
    """Whether CuPy would make a table, and may not; arrays of several dtypes it copies."""
    if len(arrays) <= _TOGETHER or replay.current() is None:
        return False
    return all(x.dtype == arrays[0].dtype for x in arrays)


def concat(xp: Any, *arrays: Array, axis: int) -> Array:
    return _joined(arrays, axis % arrays[0].ndim)


stack_accepts = concat_accepts


def stack(xp: Any, *arrays: Array, axis: int) -> Array:
    axis %= arrays[0].ndim + 1
    return _joined([cupy().expand_dims(x, axis) for x in arrays], axis)


def _joined(arrays: Sequence[Array], axis: int) -> Array:
    """Return arrays of one dtype side by side, a few of which are written at a time."""
    shape = list(arrays[0].shape)
    shape[axis] = sum(x.shape[axis] for x in arrays)
    y = cupy().empty(tuple(shape), arrays[0].dtype)
    start = 0
    for first in range(0, len(arrays), _TOGETHER):
        some = arrays[first : first + _TOGETHER]
        stop = start + sum(x.shape[axis] for x in some)
        cupy().concatenate(some, axis=axis, out=y[(*(slice(None),) * axis, slice(start, stop))])
        start = stop
    return y
