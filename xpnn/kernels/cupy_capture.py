"""Recording what CuPy launches as a CUDA graph, in memory of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnn.errors import GraphError
from xpnn.kernels.cupy_launch import cupy

__all__ = ["Graph", "address"]

Array = Any
_INSIDE = ("array_api_compat", "cupy", "cupy_backends", "emulation", "xpnn")


class Graph:
    """A CUDA graph and the memory it computes in.

    What a recorded step allocates comes from a pool of its own, so that nobody else is given that
    memory between two replays.
    """

    def __init__(self) -> None:
        self._pool = cupy().cuda.MemoryPool()
        self._stream = cupy().cuda.Stream(non_blocking=True)
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
        with cuda.using_allocator(self._pool.malloc), self._stream:
            self._stream.begin_capture()
            try:
                result = step()
            except BaseException as error:
                failed = error
            try:
                self._graph = self._stream.end_capture()
            except Exception as error:
                failed = failed or error
        if failed is None:
            return result
        if isinstance(failed, GraphError) or not _is_of_cuda(failed):
            raise failed
        raise GraphError(_broken(failed)) from failed

    def launch(self) -> None:
        """Replay the recording on the current stream."""
        self._graph.launch(stream=cupy().cuda.get_current_stream())


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
        " copy to the host. Do that outside, with what the step returns."
    )
