"""Recording what CuPy launches as a CUDA graph, in memory of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from xpnn import _cuda
from xpnn.errors import GraphError
from xpnn.kernels.cupy_launch import cupy

__all__ = ["Graph", "Room", "address"]

Array = Any
_INSIDE = ("array_api_compat", "cupy", "cupy_backends", "emulation", "xpnn")


class Room:
    """The memory that recordings of one step compute in, of which one runs at a time.

    What a recorded step allocates comes from a pool of its own, so that nobody else is given that
    memory between two replays. Recordings share it: what one of them needs on the way, another may
    write over. So a replay on another stream than that of the last one waits for that.

    Graphs go on writing to what the pool has free, which it would give back to the device when it
    finds no more: so the room keeps all memory that the pool was ever given.
    """

    def __init__(self) -> None:
        self._memory: list[Any] = []
        self.pool = cupy().cuda.MemoryPool(partial(_lasting, self._memory))
        self._streams: dict[int, Any] = {}
        self._last: dict[int, Any] = {}
        self._lock = threading.Lock()
        _cuda.recordings.add(self)

    def bytes(self) -> int:
        """Return how much memory recordings compute in."""
        return sum(int(memory.size) for memory in self._memory)

    def stream(self) -> Any:
        """Return the stream on which recordings of the current device are made."""
        device = cupy().cuda.runtime.getDevice()
        if device not in self._streams:
            self._streams[device] = cupy().cuda.Stream(non_blocking=True)
        return self._streams[device]

    def enter(self) -> None:
        """Let the current stream wait for the last replay, which may still read its inputs."""
        with self._lock:
            self._follow()

    def launch(self, graph: Any) -> None:
        """Replay a graph on the current stream, after the last replay."""
        with self._lock:
            stream = self._follow()  # another thread may have entered since
            graph.launch(stream=stream)

    def _follow(self) -> Any:
        """Return the current stream, which is the last now, and waits for the one before."""
        device, stream = cupy().cuda.runtime.getDevice(), cupy().cuda.get_current_stream()
        last = self._last.get(device)
        if last is not None and last.ptr != stream.ptr:
            stream.wait_event(last.record())
        self._last[device] = stream
        return stream


def _lasting(kept: list[Any], size: int) -> Any:
    """Return new memory of the device, which lasts as long as a list."""
    memory = cupy().cuda.Memory(size)
    kept.append(memory)
    return cupy().cuda.MemoryPointer(memory, 0)


class Graph:
    """A CUDA graph, which computes in a room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._graph: Any = None

    def record(self, step: Callable[[], Any]) -> Any:
        """Record what ``step`` launches, none of which runs now; return what it returns.

        Raises
        ------
        GraphError
            If it does what cannot be recorded: it waits for the device, or its values are asked
            for.
        """
        cuda = cupy().cuda
        cuda.get_current_stream().synchronize()
        failed: BaseException | None = None
        stream = self._room.stream()
        with cuda.using_allocator(self._room.pool.malloc), stream:
            stream.begin_capture()
            try:
                result = step()
            except BaseException as error:
                failed = error
            try:
                self._graph = stream.end_capture()
            except Exception as error:
                failed = failed or error
        if failed is None:
            return result
        if isinstance(failed, GraphError) or not _is_of_cuda(failed):
            raise failed
        raise GraphError(_broken(failed)) from failed

    def enter(self) -> None:
        """Let the current stream wait until what a replay reads may be written."""
        self._room.enter()

    def launch(self) -> None:
        """Replay the recording on the current stream."""
        self._room.launch(self._graph)


def address(x: Array) -> int:
    """Return where on the device an array lies."""
    return int(x.data.ptr)


def _is_of_cuda(error: BaseException) -> bool:
    text = f"{type(error).__module__} {error}".lower()
    return any(word in text for word in ("cuda", "cupy", "captur", "stream"))


def _broken(error: BaseException) -> str:
    """Return what broke a recording, and where: in which line of whose step it is."""
    where, trace = "its end", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in _INSIDE:
            where = f"{code.co_filename}:{trace.tb_lineno}, in {code.co_name}"
        trace = trace.tb_next
    return (
        f"capture: the step does what a GPU cannot replay ({error}), at {where}. In a captured step"
        " nothing may wait for the device: no float(loss), no `if` on a value, no boolean index, no"
        " copy to the host; nor may an array come from the host. Do that outside, with what the"
        " step is given and returns."
    )
