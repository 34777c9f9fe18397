"""Devices, streams, events and graphs of an emulated CUDA: what is asked for is done at once.

A stream that is captured notes what would be launched on it. CUDA runs none of it: here it is run,
for the shapes of what comes of it, and at the end memory is made again what it was before, and NaN
where it is new.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Device", "Event", "Graph", "Stream", "current_device", "current_stream", "register"]

DEVICES = int(os.environ.get("XPNN_EMULATED_DEVICES", "2"))


class Device:
    """A device of the emulated machine."""

    def __init__(self, device: Any = None) -> None:
        self.id = _local.device.id if device is None else int(getattr(device, "id", device))

    def use(self) -> None:
        if not 0 <= self.id < DEVICES:
            msg = "cudaErrorInvalidDevice: invalid device ordinal"
            raise RuntimeError(msg)
        _local.device = Device(self.id)

    def __enter__(self) -> Device:
        _local.before.append(_local.device)
        self.use()
        return self

    def __exit__(self, *error: Any) -> None:
        _local.device = _local.before.pop()

    def synchronize(self) -> None:
        _refuse_capture("a device is waited for")

    @property
    def mem_info(self) -> tuple[int, int]:
        return 3 * 2**30, 4 * 2**30

    @property
    def compute_capability(self) -> str:
        return "90"

    @property
    def attributes(self) -> dict[str, int]:
        return {"MultiProcessorCount": 4}

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"


_memory: dict[int, weakref.ref[np.ndarray]] = {}


def register(host: np.ndarray) -> None:
    """Remember memory of the device, as long as there is any array in it."""
    while isinstance(host.base, np.ndarray):
        host = host.base
    key = id(host)
    if key not in _memory:
        _memory[key] = weakref.ref(host, lambda _: _memory.pop(key, None))
        if _watching is not None:
            _watching(host.nbytes)


_watching: Callable[[int], None] | None = None


def watch(look: Callable[[int], None] | None) -> None:
    """Have a function called with the size of all memory that is new from now on."""
    global _watching
    _watching = look


def bytes_in_use() -> int:
    """Return how much memory there are arrays in."""
    found = [ref() for ref in list(_memory.values())]
    return sum(x.nbytes for x in found if x is not None)


def _contents() -> dict[int, tuple[np.ndarray, np.ndarray]]:
    found = {key: ref() for key, ref in list(_memory.items())}
    return {key: (x, x.copy()) for key, x in found.items() if x is not None}


class Capture:
    """What is noted while a stream is captured."""

    def __init__(self) -> None:
        self.notes: list[Callable[[], None]] = []
        self.held: list[Any] = []
        self.broken: str | None = None
        self._before = _contents()

    def undo(self) -> None:
        """Make memory what it was before."""
        for key, (x, _) in _contents().items():
            if key in self._before and self._before[key][0] is x:
                x[...] = self._before[key][1]
            elif x.dtype.kind == "f" or x.dtype.name == "bfloat16":
                x.fill(np.nan)

    def note(self, again: Callable[[], None]) -> None:
        self.notes.append(again)


class Graph:
    """What was captured."""

    def __init__(self, notes: list[Callable[[], None]], held: list[Any]) -> None:
        self._notes, self._held, self.launched = notes, held, 0

    def launch(self, stream: Any = None) -> None:
        self.launched += 1
        for again in self._notes:
            again()

    def upload(self, stream: Any = None) -> None:
        pass


class Stream:
    """A stream."""

    null: Stream
    _next = iter(range(1, 1 << 30))

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False,
                 priority: Any = None) -> None:  # fmt: skip
        self.ptr = 0 if null else next(Stream._next)
        self.captures: Capture | None = None
        self.late: list[Callable[[], None]] = []  # copies from pinned memory that nobody waited for
        self._before: list[Stream] = []

    def use(self) -> Stream:
        _local.stream = self
        return self

    def __enter__(self) -> Stream:
        self._before.append(_local.stream)
        _local.stream = self
        return self

    def __exit__(self, *error: Any) -> None:
        _local.stream = self._before.pop()

    def synchronize(self) -> None:
        _refuse_capture("a stream is waited for")
        _done(self.late)

    def wait_event(self, event: Any) -> None:
        _done(event.late)

    def record(self, event: Any = None) -> Any:
        event = event or Event()
        event.record(self)
        return event

    def begin_capture(self, mode: Any = None) -> None:
        if not self.ptr:
            msg = "cannot capture on the default (legacy) stream"
            raise RuntimeError(msg)
        self.captures = Capture()

    def is_capturing(self) -> bool:
        return self.captures is not None

    def end_capture(self) -> Graph:
        capture, self.captures = self.captures, None
        if capture is not None:
            capture.undo()
        if capture is None or capture.broken:
            msg = "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error"
            raise RuntimeError(msg)
        return Graph(capture.notes, capture.held)


class Event:
    """An event, with the host's time."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False
                 ) -> None:  # fmt: skip
        self.time: float | None = None
        self.late: list[Callable[[], None]] = []

    def record(self, stream: Any = None) -> None:
        self.time = time.perf_counter()
        self.late = (stream or _local.stream).late

    def synchronize(self) -> None:
        _refuse_capture("an event is waited for")
        _done(self.late)

    @property
    def done(self) -> bool:
        return True


def _done(late: list[Callable[[], None]]) -> None:
    """Do what a stream has put off: a copy is as late as those who do not wait let it be."""
    while late:
        late.pop(0)()


def _refuse_capture(what: str) -> None:
    if (captures := _local.stream.captures) is not None:
        captures.broken = what
        msg = f"cudaErrorStreamCaptureUnsupported: {what}"
        raise RuntimeError(msg)


Device.__module__ = "cupy.cuda.device"  # by which xpnn knows it
Stream.null = Stream(null=True)
_local: Any = None
_first = object.__new__(Device)
_first.id = 0


class _Start(threading.local):
    def __init__(self) -> None:
        self.device, self.stream = _first, Stream.null
        self.before: list[Device] = []  # devices, in the blocks that are open


_local = _Start()


def current_device() -> Device:
    return _local.device  # type: ignore[no-any-return]


def current_stream() -> Stream:
    return _local.stream  # type: ignore[no-any-return]
