"""A module ``cudnn`` for an emulated GPU: graphs of one convolution, computed with NumPy.

It knows what xpnn asks of NVIDIA's package, demands it in its order, and reads and writes memory by
addresses as cuDNN does, by the strides that tensors were declared with.
"""

from __future__ import annotations

import ctypes
import itertools
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np

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
        """Return the array (N, C, H, W) that lies at an address."""
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
    """A graph of one convolution."""

    def __init__(self, module: FakeCudnn, *, io_data_type: Any, intermediate_data_type: Any,
                 compute_data_type: Any, handle: Any) -> None:  # fmt: skip
        assert handle in module.handles
        assert intermediate_data_type.name == compute_data_type.name == "FLOAT"
        self.module, self.done, self.unwanted = module, [], set()
        self.tensors: dict[str, _Tensor] = {}

    def tensor(self, *, dim: Any, stride: Any, data_type: Any, uid: int) -> _Tensor:
        return _Tensor(dim, stride, data_type, uid)

    def _convolution(self, kind: str, result: str, options: Any, **tensors: _Tensor) -> _Tensor:
        assert set(options) == {"pre_padding", "post_padding", "stride", "dilation"}
        assert all(len(pair) == 2 and min(pair) >= 0 for pair in options.values())
        out = _Tensor()
        out.virtual = True
        self.kind, self.result, self.options = kind, result, options
        self.tensors = {**tensors, result: out}
        return out

    def conv_fprop(self, *, image: _Tensor, weight: _Tensor, **options: Any) -> _Tensor:
        return self._convolution("fprop", "map", options, image=image, weight=weight)

    def conv_dgrad(self, *, loss: _Tensor, filter: _Tensor, **options: Any) -> _Tensor:
        return self._convolution("dgrad", "image", options, map=loss, weight=filter)

    def conv_wgrad(self, *, image: _Tensor, loss: _Tensor, **options: Any) -> _Tensor:
        return self._convolution("wgrad", "weight", options, image=image, map=loss)

    def _did(self, what: str) -> None:
        self.done.append(what)
        assert self.done == _ORDER[: len(self.done)]

    def validate(self) -> None:
        self._did("validate")
        assert len({t.uid for t in self.tensors.values()}) == 3
        assert not any(t.virtual for t in self.tensors.values())
        x, w, y = (self.tensors[name].dim for name in ("image", "weight", "map"))
        assert (x[0], w[0]) == (y[0], y[1])
        assert x[1] % w[1] == 0
        o = self.options
        for i in (0, 1):
            span = (w[i + 2] - 1) * o["dilation"][i] + 1
            room = x[i + 2] + o["pre_padding"][i] + o["post_padding"][i] - span
            assert y[i + 2] == room // o["stride"][i] + 1

    def build_operation_graph(self) -> None:
        self._did("build_operation_graph")

    def create_execution_plans(self, modes: list[Any]) -> None:
        assert [mode.name for mode in modes] == ["A", "FALLBACK"]
        self._did("create_execution_plans")

    def deselect_numeric_notes(self, notes: list[Any]) -> None:
        assert self.done[-1] == "create_execution_plans"  # before there is nothing to mark
        self.unwanted |= {note.name for note in notes}

    def check_support(self) -> None:
        self._did("check_support")
        if self.module.refuses(self):
            msg = "No valid execution plans\nwere built"
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
        assert handle.stream is not None
        self.module.runs.append((self.kind, handle.stream))
        arrays = {name: t.at(places[t.uid]) for name, t in self.tensors.items()}
        out = arrays[self.result]
        wide = {name: a.astype(np.float64) for name, a in arrays.items() if a is not out}
        wide[self.result] = np.zeros(out.shape)
        self._add_taps(wide)
        out[...] = wide[self.result].astype(out.dtype)

    def _add_taps(self, a: dict[str, Any]) -> None:
        o, x, w, y = self.options, a["image"], a["weight"], a["map"]
        before, after = o["pre_padding"], o["post_padding"]
        pad = ((0, 0), (0, 0), (before[0], after[0]), (before[1], after[1]))
        padded = np.pad(x, pad)
        groups = x.shape[1] // w.shape[1]
        c, k = w.shape[1], w.shape[0] // groups
        for q, i, j in itertools.product(range(groups), range(w.shape[2]), range(w.shape[3])):
            ins, outs = slice(q * c, (q + 1) * c), slice(q * k, (q + 1) * k)
            at = [
                slice(t * d, t * d + (m - 1) * s + 1, s)
                for t, d, m, s in zip((i, j), o["dilation"], y.shape[2:], o["stride"], strict=True)
            ]
            seen, tap = padded[:, ins, at[0], at[1]], w[outs, :, i, j]
            if self.kind == "fprop":
                y[:, outs] += np.einsum("nchw,kc->nkhw", seen, tap)
            elif self.kind == "dgrad":
                seen += np.einsum("nkhw,kc->nchw", y[:, outs], tap)
            else:
                w[outs, :, i, j] = np.einsum("nchw,nkhw->kc", seen, y[:, outs])
        if self.kind == "dgrad":
            h, v = x.shape[2:]
            x[...] = padded[:, :, before[0] : before[0] + h, before[1] : before[1] + v]


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
