"""From the host to a GPU beside what is computed there: pinned memory, and a stream of its own.

Two pinned buffers an array take turns. Who fills one waits until it was copied the last time; the
copy waits for what was to be computed when its memory on the GPU was taken, which may have been
that of a batch before; and what computes with the batch waits for the copy. The host waits for none
of it but in the thread that draws batches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from xpnn._cuda import keep_until, pinned
from xpnn._libraries import host_dtype
from xpnn.kernels.cupy_launch import cupy

__all__ = ["Upload"]

Array = Any


class Upload:
    """Copies arrays of the host to a GPU, batch by batch.

    Made in the thread that computes, called in the one that draws batches.
    """

    def __init__(self, device: Any) -> None:
        cuda = cupy().cuda
        self._device = device
        with device:
            self._compute = cuda.get_current_stream()
            self._stream = _stream(device.id, self._compute.ptr)
        self._memory: tuple[list[Any], list[Any]] = ([], [])  # pinned, of the arrays of a batch
        self._copied: list[Any] = [None, None]  # the event after which it can be filled again
        self._turn, self._place = 0, 0

    def __call__(self, x: Any, dtype: str | None = None) -> Array:
        """Return an array of the GPU that will have the values of ``x``, in ``dtype``."""
        kind = x.dtype if dtype is None else host_dtype(dtype)
        buffer = self._buffer(x.size * kind.itemsize).view(kind).reshape(x.shape)
        np.copyto(buffer, x, casting="unsafe")
        with self._device, self._stream:
            there = cupy().empty(x.shape, kind)
            if x.size:
                self._stream.wait_event(self._compute.record(_event()))
                there.set(buffer, stream=self._stream)
                keep_until(self._stream.record(_event()), buffer)
        return there

    def sent(self) -> Callable[[], None]:
        """End a batch; return what lets the current stream of its caller wait for its copies."""
        with self._device:
            event = self._stream.record(_event())
        self._copied[self._turn] = event
        self._turn, self._place = 1 - self._turn, 0

        def arrive() -> None:
            with self._device:
                cupy().cuda.get_current_stream().wait_event(event)

        return arrive

    def _buffer(self, size: int) -> Any:
        """Return so many bytes of the next buffer of this batch, once they may be written."""
        if not self._place and self._copied[self._turn] is not None:
            self._copied[self._turn].synchronize()
        memory = self._memory[self._turn]
        if len(memory) == self._place:
            memory.append(pinned(size, np.uint8))
        elif memory[self._place].size < size:
            memory[self._place] = pinned(size, np.uint8)
        self._place += 1
        return memory[self._place - 1][:size]


@cache
def _stream(device: int, compute: int) -> Any:
    """Return the stream for copies beside a stream: CuPy keeps memory for each, so they are few."""
    return cupy().cuda.Stream(non_blocking=True)


def _event() -> Any:
    return cupy().cuda.Event(disable_timing=True)
