r"""NVIDIA's cuDNN, where its Python package and library are installed.

A graph of one operation is planned for each kind of it: for its shapes, dtype, layout and
precision. Plans whose sums change from run to run are left out. What a graph needs on the way comes
from CuPy's pool, so that it can be recorded.

``cudnn_conv`` and ``cudnn_attention`` say what is asked of it. What it has no plan for is computed
by kernels of this package; :func:`status` says which it is.
"""

from __future__ import annotations

import importlib
import threading
from functools import cache
from typing import Any, Protocol

from xpnn.kernels.cupy_launch import cupy

__all__ = ["ALIGNED", "Operation", "data_type", "library", "run", "status"]

Array = Any

ALIGNED = 16  # bytes, to which cuDNN trusts that arrays begin
_NAMES = {"float16": "HALF", "bfloat16": "BFLOAT16", "float32": "FLOAT"}
_MOST_PLANS = 4096

_plans: dict[Any, tuple[Any, int] | None] = {}  # None for what has no plan
_refusals: list[str] = []
_of_thread = threading.local()  # handles by device: threads must not share one


class Operation(Protocol):
    """What is planned: a tuple, equal for what one plan can do, whose text names it."""

    @property
    def dtype(self) -> str:
        """The dtype of its arrays; sums are of float32."""

    def declare(self, library: Any, graph: Any) -> None:
        """Add the operation, and its tensors, to an empty graph."""

    def choose(self, library: Any, graph: Any) -> None:
        """Leave out those of the graph's plans that are not wanted."""


@cache
def library() -> Any:
    """Return the package, or why there is none, as a string."""
    try:
        found = importlib.import_module("cudnn")
        found.backend_version()
    except ImportError as error:
        cure = "pip install 'xpnn[cudnn]' brings it (CUDA 12: xpnn[cudnn12])"
        return f"not installed ({error}); {cure}"
    except Exception as error:  # of the library that the package looks for
        return f"the package finds no library: {error}"
    return found


def status() -> str:
    """Return whether cuDNN is used on CUDA devices, which version and what for, or why not.

    Examples
    --------
    >>> from xpnn.kernels import cudnn
    >>> print(cudnn.status())  # doctest: +SKIP
    9.13.0, for convolutions and attention in 16 bits
    """
    found = library()
    if isinstance(found, str):
        return found
    text = f"{found.backend_version_string()}, for convolutions and attention in 16 bits"
    if _refusals:
        text += f", but not for {len(_refusals)} kinds of them (the last: {_refusals[-1]})"
    return text


def data_type(found: Any, dtype: str) -> Any:
    """Return what the package calls a dtype."""
    return getattr(found.data_type, _NAMES[dtype])


def run(operation: Operation, arrays: dict[int, Array]) -> bool:
    """Compute some arrays from the others, by the uids of their tensors, if cuDNN has a plan."""
    found = library()
    if isinstance(found, str) or operation.dtype not in _NAMES:
        return False
    if any(x.data.ptr % ALIGNED for x in arrays.values()):
        return False
    key = (cupy().cuda.runtime.getDevice(), operation)
    if key not in _plans:
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        try:
            _plans[key] = _build(found, operation)
        except Exception as error:  # what the package raises has no common class
            _plans[key] = None
            _refusals.append(f"{operation}: {' '.join(str(error).split())}")
    plan = _plans[key]
    if plan is None:
        return False
    graph, size = plan
    workspace = cupy().empty(max(size, 1), "uint8")
    places = {uid: x.data.ptr for uid, x in arrays.items()}
    graph.execute(places, workspace.data.ptr, handle=_handle(found))
    return True


def _build(found: Any, operation: Operation) -> tuple[Any, int]:
    """Return a planned graph, and how many bytes of workspace it takes."""
    graph = found.pygraph(
        io_data_type=data_type(found, operation.dtype),
        intermediate_data_type=found.data_type.FLOAT,
        compute_data_type=found.data_type.FLOAT,
        handle=_handle(found),
    )
    operation.declare(found, graph)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([found.heur_mode.A, found.heur_mode.FALLBACK])
    operation.choose(found, graph)
    graph.check_support()
    graph.build_plans()
    return graph, graph.get_workspace_size()


def _handle(found: Any) -> Any:
    """Return the handle of this thread and the current device, set to the current stream."""
    device = cupy().cuda.runtime.getDevice()
    handles = _of_thread.__dict__
    if device not in handles:
        handles[device] = found.create_handle()
    found.set_stream(handle=handles[device], stream=cupy().cuda.get_current_stream().ptr)
    return handles[device]
