"""Small arrays that the host writes for kernels, without waiting: addresses, lengths, constants.

A kernel for many arrays finds them by a table of addresses, and a table of *chunks* tells each of
its blocks on which part of which array to work.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from xpnn import replay
from xpnn._cuda import keep_until, pinned
from xpnn.kernels.cupy_launch import cupy, outside

__all__ = ["Chunks", "Mirror", "mirror"]

Array = Any

_SHORT, _LONG = 2**12, 2**16  # elements a chunk: few, so that all multiprocessors have work
_MANY = 2**24  # elements in all, from which there are long chunks enough


class Mirror:
    """An array of the device that follows what the host writes.

    What is written goes by way of pinned memory, a new piece each time. The copy has its place in
    the current stream, behind the kernels that read what was there before.

    In a step that is recorded nothing is copied: the array is made, and written before a replay.
    It lies outside of the memory of the recording, whose kernels may write anywhere in that.
    """

    __slots__ = ("_values", "array")

    def __init__(self) -> None:
        self.array: Array = None
        self._values: Array = None  # what has been asked for

    def put(self, values: Array) -> None:
        """Let the array have these values, those of a NumPy array."""
        self.place(values)
        if (made := replay.current()) is not None:
            made.renewals.append(lambda: self.put(values))
        elif not self._has(values):
            self._values = values.copy()
            self._copy()

    def place(self, values: Array) -> None:
        """Make an array for such values, which are put there later."""
        if self.array is None or self.array.shape != values.shape:
            with nullcontext() if replay.current() is None else outside():
                self.array = cupy().empty(values.shape, values.dtype)
            self._values = None

    def _has(self, values: Array) -> bool:
        now = self._values
        return now is not None and now.dtype == values.dtype and np.array_equal(now, values)

    def _copy(self) -> None:
        stream = cupy().cuda.get_current_stream()
        buffer = pinned(self._values.shape, self._values.dtype)
        buffer[...] = self._values
        self.array.set(buffer, stream=stream)
        keep_until(stream.record(cupy().cuda.Event(disable_timing=True)), buffer)


def mirror(workspace: dict[Any, Any], key: Any) -> Mirror:
    """Return the mirror of a name; in a step that is recorded, one that is the recording's own."""
    if replay.current() is not None:
        return Mirror()
    found = workspace.get(key)
    if found is None:
        found = workspace[key] = Mirror()
    return found


class Chunks:
    """The parts into which arrays of some sizes are divided, a block each.

    Attributes
    ----------
    table : Mirror
        For each the number of its array, where it begins, and how long it is.
    count : int
    """

    __slots__ = ("_sizes", "count", "table")

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = tuple(sizes)
        length = _SHORT if sum(sizes) < _MANY else _LONG
        rows = [(np.arange(0, n, length, dtype=np.int64), n) for n in sizes]
        parts = [
            np.stack([np.full_like(start, i), start, np.minimum(n - start, length)], axis=1)
            for i, (start, n) in enumerate(rows)
        ]
        whole = np.concatenate(parts) if parts else np.empty((0, 3), np.int64)
        self.count = len(whole)
        self.table = Mirror()
        if self.count:
            self.table.put(whole)

    @staticmethod
    def of(workspace: dict[Any, Any], key: Any, sizes: Sequence[int]) -> Chunks:
        """Return the chunks of some sizes: those of a name, if they are the same as before."""
        if replay.current() is not None:
            return Chunks(sizes)
        found = workspace.get(key)
        if found is None or found._sizes != tuple(sizes):
            found = workspace[key] = Chunks(sizes)
        return found
