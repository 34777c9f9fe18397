"""A module ``cudnn`` for an emulated GPU: graphs of one operation, computed with NumPy.

It knows what xpnn asks of NVIDIA's package, demands it in its order, and reads and writes memory by
addresses as cuDNN does, by the strides that tensors were declared with. What operations demand and
compute stands in ``cudnn_conv.py`` and ``cudnn_attention.py``.
"""

from __future__ import annotations

import ctypes
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np

from emulation import cudnn_attention, cudnn_conv, streams
from xpnn import backend

__all__ = ["FakeCudnn"]

_ORDER = "validate build_operation_graph create_execution_plans check_support build_plans".split()
_DTYPES = {"HALF": "float16", "BFLOAT16": "bfloat16", "FLOAT": "float32"}
_NOTES = ("NONDETERMINISTIC", "REDUCED_PRECISION_REDUCTION", "TENSOR_CORE", "DOWN_CONVERT_INPUTS")


class _NotSupported(Exception):
    pass


class _Tensor:
    """A tensor of a graph, whose setters return it."""

    def __init__(self, dim: Any = None, stride: Any = None, data_type: Any = None, uid: Any = None
                 ) -> None:  # fmt: skip
        self.dim, self.stride, self.data_type, self.uid = dim, stride, data_type, uid
        self.virtual = False

    def set_output(self, value: bool) -> _Tensor:
        self.virtual = not value
        return self

    def set_uid(self, uid: int) -> _Tensor:
        self.uid = uid
        return self

    def set_data_type(self, data_type: Any) -> _Tensor:
        self.data_type = data_type
        return self

    def set_dim(self, dim: list[int]) -> _Tensor:
        self.dim = dim
        return self

    def set_stride(self, stride: list[int]) -> _Tensor:
        self.stride = stride
        return self

    def at(self, address: int) -> Any:
        """Return the array that lies at an address."""
        assert type(address) is int
        assert address % 16 == 0
        dtype = np.dtype(backend._host_dtype(_DTYPES[self.data_type.name]))
        assert all(type(n) is int for n in (*self.dim, *self.stride))
        size = sum((n - 1) * s for n, s in zip(self.dim, self.stride, strict=True)) + 1
        memory = (ctypes.c_char * (size * dtype.itemsize)).from_address(address)
        strides = [s * dtype.itemsize for s in self.stride]
        flat = np.frombuffer(memory, dtype)
        return np.lib.stride_tricks.as_strided(flat, self.dim, strides)


class _Graph:
    """A graph of one operation."""

    def __init__(self, module: FakeCudnn, *, io_data_type: Any, intermediate_data_type: Any,
                 compute_data_type: Any, handle: Any) -> None:  # fmt: skip
        assert handle in module.handles
        assert intermediate_data_type.name == compute_data_type.name == "FLOAT"
        self.module, self.done, self.unwanted = module, [], set()
        self.tensors: dict[str, _Tensor] = {}
        self.without: list[str] = []
        self.most: int | None = None

    def tensor(self, *, dim: Any, stride: Any, data_type: Any, uid: int) -> _Tensor:
        return _Tensor(dim, stride, data_type, uid)

    def _operation(self, operation: Any, tensors: dict[str, Any], *results: str) -> list[_Tensor]:
        outs = [_Tensor() for _ in results]
        for out in outs:
            out.virtual = True
        self.operation, self.kind, self.results = operation, operation.kind, results
        self.tensors = {**tensors, **dict(zip(results, outs, strict=True))}
        return outs

    def conv_fprop(self, *, image: _Tensor, weight: _Tensor, **options: Any) -> _Tensor:
        fprop = cudnn_conv.Convolution("fprop", options)
        return self._operation(fprop, {"image": image, "weight": weight}, "map")[0]

    def conv_dgrad(self, *, loss: _Tensor, filter: _Tensor, **options: Any) -> _Tensor:
        dgrad = cudnn_conv.Convolution("dgrad", options)
        return self._operation(dgrad, {"map": loss, "weight": filter}, "image")[0]

    def conv_wgrad(self, *, image: _Tensor, loss: _Tensor, **options: Any) -> _Tensor:
        wgrad = cudnn_conv.Convolution("wgrad", options)
        return self._operation(wgrad, {"image": image, "map": loss}, "weight")[0]

    def sdpa(self, *, q: _Tensor, k: _Tensor, v: _Tensor, generate_stats: bool, **options: Any
             ) -> list[_Tensor]:  # fmt: skip
        assert generate_stats is True
        forward = cudnn_attention.Attention("sdpa", **options)
        return self._operation(forward, {"q": q, "k": k, "v": v}, "o", "stats")

    def sdpa_backward(
        self, *, q: _Tensor, k: _Tensor, v: _Tensor, o: _Tensor, dO: _Tensor, stats: _Tensor,
        use_deterministic_algorithm: bool, **options: Any,
    ) -> list[_Tensor]:  # fmt: skip
        assert use_deterministic_algorithm is True
        backward = cudnn_attention.Attention("sdpa_backward", **options)
        given = {"q": q, "k": k, "v": v, "o": o, "dO": dO, "stats": stats}
        return self._operation(backward, given, "dQ", "dK", "dV")

    def _did(self, what: str) -> None:
        self.done.append(what)
        assert self.done == _ORDER[: len(self.done)]

    def validate(self) -> None:
        self._did("validate")
        assert len({t.uid for t in self.tensors.values()}) == len(self.tensors)
        assert not any(t.virtual for t in self.tensors.values())
        self.operation.validate(self.tensors)

    def build_operation_graph(self) -> None:
        self._did("build_operation_graph")

    def create_execution_plans(self, modes: list[Any]) -> None:
        assert [mode.name for mode in modes] == ["A", "FALLBACK"]
        self._did("create_execution_plans")

    def deselect_numeric_notes(self, notes: list[Any]) -> None:
        assert self.done[-1] == "create_execution_plans"  # before there is nothing to mark
        self.unwanted |= {note.name for note in notes}

    def deselect_engines(self, names: list[str]) -> None:
        assert self.done[-1] == "create_execution_plans"
        self.without = names

    def deselect_workspace_greater_than(self, size: int) -> None:
        assert self.done[-1] == "create_execution_plans"
        self.most = size

    def check_support(self) -> None:
        self._did("check_support")
        if self.module.refuses(self):
            msg = "No valid execution plans\nwere built"
            raise _NotSupported(msg)
        if self.most is not None and self.module.workspace > self.most:
            msg = f"Requires {self.module.workspace} bytes of workspace"
            raise _NotSupported(msg)

    def build_plans(self) -> None:
        self._did("build_plans")
        self.module.graphs.append(self)

    def get_workspace_size(self) -> int:
        assert self.done == _ORDER
        return self.module.workspace

    def execute(self, places: dict[int, int], workspace: int, *, handle: Any) -> None:
        assert self.done == _ORDER
        assert set(places) == {t.uid for t in self.tensors.values()}
        assert type(workspace) is int
        assert workspace
        assert handle.stream == streams.current_stream().ptr
        self.module.runs.append((self.kind, handle.stream))

        def compute() -> None:
            ctypes.memset(workspace, 0xFF, self.module.workspace)  # NaN
            arrays = {name: t.at(places[t.uid]) for name, t in self.tensors.items()}
            wide = {
                name: np.zeros(a.shape) if name in self.results else a.astype(np.float64)
                for name, a in arrays.items()
            }
            self.operation.compute(wide)
            for name in self.results:
                arrays[name][...] = wide[name].astype(arrays[name].dtype)

        if (capture := streams.current_stream().captures) is not None:
            capture.note(compute)
        compute()


class FakeCudnn:
    """The module.

    Attributes
    ----------
    graphs : list
        Those that were planned.
    runs : list of (str, int)
        What was computed, on which stream.
    workspace : int
        How many bytes graphs ask for.
    refuses : callable
        Whether a graph has no plan.
    """

    def __init__(self) -> None:
        names = Enum("data_type", [*_DTYPES, "DOUBLE"])
        self.data_type, self.numerical_note = names, Enum("numerical_note", list(_NOTES))
        self.heur_mode = Enum("heur_mode", ["A", "B", "FALLBACK"])
        self.diagonal_alignment = Enum("diagonal_alignment", ["TOP_LEFT", "BOTTOM_RIGHT"])
        self.graphs: list[_Graph] = []
        self.runs: list[tuple[str, int]] = []
        self.handles: list[Any] = []
        self.workspace = 0
        self.refuses = lambda graph: False

    def backend_version(self) -> int:
        return 91300

    def backend_version_string(self) -> str:
        return "9.13.0"

    def create_handle(self) -> Any:
        self.handles.append(SimpleNamespace(stream=None))
        return self.handles[-1]

    def set_stream(self, *, handle: Any, stream: int) -> None:
        assert handle in self.handles
        assert type(stream) is int
        handle.stream = stream

    def pygraph(self, **options: Any) -> _Graph:
        return _Graph(self, **options)
