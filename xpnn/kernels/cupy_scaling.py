"""The scale of a loss on a GPU: whether gradients overflowed, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnn.kernels.cupy_launch import Source, contiguous, cupy
from xpnn.kernels.cupy_tables import Chunks, mirror

__all__ = ["adapt_scale", "any_overflow", "sources"]

Array = Any

_scaling = Source("scaling")
_THREADS = 256


def sources() -> dict[str, str]:
    """Return every CUDA source of this module by name, for the compile check."""
    return _scaling.codes()


def any_overflow(grads: Sequence[Array], workspace: dict[Any, Any]) -> Array:
    """Return whether any of some arrays of one device holds infinity or NaN: a 0-d array.

    It is one launch for those of a dtype.

    Parameters
    ----------
    grads : sequence of array
    workspace : dict
        Where the tables are kept for the next call.
    """
    found = cupy().zeros((), np.bool_)
    alike: dict[Any, list[Array]] = {}
    for g in grads:
        alike.setdefault(g.dtype, []).append(contiguous(g))
    for dtype, few in alike.items():
        name = str(dtype), few[0].device.id
        chunks = Chunks.of(workspace, ("chunks", *name), [g.size for g in few])
        if not chunks.count:
            continue
        pointers = mirror(workspace, ("pointers", *name))
        pointers.put(np.asarray([g.data.ptr for g in few], np.uint64))
        tables = pointers.array, chunks.table.array
        _scaling.launch("find_overflow", dtype, chunks.count, _THREADS, *tables, found)
    return found


def adapt_scale(
    found: Array,
    used: Array,
    state: tuple[Array, Array, Array],
    *,
    growth: float,
    backoff: float,
    interval: int,
    largest: float,
) -> tuple[Array, tuple[Array, Array, Array]]:
    """Return what gradients are to be multiplied with, and the state after the step.

    Parameters
    ----------
    found : array
        Whether there was an overflow.
    used : array
        The scale of the loss that the gradients are of.
    state : tuple of three arrays
        The scale, a float32; and of int32 how many steps were good since it was changed, and how
        many were skipped.
    growth, backoff : float
        What the scale is multiplied with after ``interval`` good steps, and after an overflow.
    interval : int
    largest : float
        What the scale grows to, at most.
    """
    factor, *new = (cupy().empty((), x.dtype) for x in (used, *state))
    _scaling.launch(
        "adapt_scale", used.dtype, 1, 1,
        found, used, *state, growth, backoff, interval, largest, factor, *new,
    )  # fmt: skip
    return factor, tuple(new)
