"""A module ``cupy`` that needs no GPU: NumPy behind the wall of :mod:`emulation.arrays`.

``install()`` puts it where ``import cupy`` finds it. array-api-compat wraps it as it wraps CuPy,
and kernels run through :mod:`emulation.simt`. Only what xpnn uses of CuPy is here.
"""

from __future__ import annotations

import functools
import importlib
import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from emulation import arrays, cublaslt, simt, solvers, streams
from emulation.bfloat16 import as_cupy_does

__all__ = ["install"]

# What NumPy has by these names is no function of arrays.
_AS_THEY_ARE = frozenset(
    ("dtype finfo iinfo newaxis nan inf pi e euler_gamma can_cast result_type promote_types"
     " issubdtype broadcast_shapes ndindex errstate isscalar isdtype").split()
)  # fmt: skip
_NO_FUNCTIONS = frozenset(
    ("array asarray asanyarray ascontiguousarray empty zeros ones full arange linspace eye"
     " empty_like zeros_like ones_like full_like identity tri frombuffer fromiter fromfile"
     " from_dlpack save load savez matrix memmap ndarray generic char rec ma").split()
)  # fmt: skip


# What NumPy has and CuPy 14.2 has not.
_MISSING = frozenset(
    ("False_ ScalarType True_ asmatrix block bmat busday_count busday_offset busdaycalendar bytes_"
     " character clongdouble complex256 datetime64 datetime_as_string datetime_data einsum_path"
     " errstate flexible float128 frompyfunc fromregex geomspace get_include getbufsize geterr"
     " geterrcall histogram_bin_edges info insert is_busday isnat little_endian longdouble matvec"
     " nanpercentile nanquantile ndenumerate nditer nested_iters object_ polyder polydiv polyint"
     " recarray record sctypeDict setbufsize seterr seterrcall show_runtime spacing str_ test"
     " timedelta64 typecodes unstack vecdot vecmat void __array_namespace_info__"
     " linalg.diagonal linalg.matrix_norm linalg.multi_dot linalg.outer linalg.svdvals"
     " linalg.tensordot linalg.trace linalg.vecdot linalg.vector_norm").split()
)  # fmt: skip
# What looks at values on the host: sizes of results, and what a solver says of its matrix.
_WAITING = frozenset(
    ("argwhere bincount compress cov delete extract flatnonzero histogram histogram2d histogramdd"
     " intersect1d nonzero percentile quantile setdiff1d setxor1d trim_zeros union1d unique"
     " unique_all unique_counts unique_inverse unique_values"
     " linalg.cond linalg.det linalg.eigh linalg.eigvalsh linalg.lstsq"
     " linalg.matrix_rank linalg.pinv linalg.qr linalg.slogdet linalg.svd"
     " linalg.tensorinv linalg.tensorsolve").split()
)  # fmt: skip


# Of more than so many arrays of one dtype, CuPy copies a table of addresses from the host, unless
# they are as large as this on average.
_MANY, _LARGE = 8, 2 * 2**20


def _joining(function: Any) -> Any:
    """Return a function that joins arrays as one that CuPy refuses where it does."""

    @functools.wraps(function)
    def join(parts: Any, *args: Any, **options: Any) -> Any:
        parts = list(parts)
        alike = len({x.dtype for x in parts}) == 1
        if len(parts) > _MANY and alike and sum(x.nbytes for x in parts) < _LARGE * len(parts):
            arrays.refuse_transfer("H2D")
        return function(parts, *args, **options)

    return join


def _function(name: str, value: Any) -> Any:
    if name == "matmul":
        return arrays.lifted(arrays.multiplied)
    if name in solvers.SOLVERS:
        return solvers.SOLVERS[name]
    value = as_cupy_does(name, value)
    if name in _WAITING:
        return arrays.waiting(value)
    if name in ("concat", "concatenate", "stack"):
        return _joining(arrays.lifted(value))
    return arrays.lifted(value)


class _RawModule:
    """``cupy.RawModule``: kernels of one source."""

    def __init__(self, *, code: str, options: tuple[str, ...] = (), **more: Any) -> None:
        self.code, self.options = code, tuple(o for o in options if o.startswith("-D"))

    def compile(self, log_stream: Any = None) -> None:
        simt.library(self.code, self.options)

    def get_function(self, name: str) -> Any:
        return _RawKernel(self.code, name, self.options)


class _Held:
    """An address that a launch has copied, with its memory, but without the array."""

    def __init__(self, x: Any) -> None:
        self.data = x.data


class _RawKernel:
    """``cupy.RawKernel``, which a captured stream notes."""

    def __init__(self, code: str, name: str, options: tuple[str, ...] = (), **more: Any) -> None:
        defines = tuple(o for o in options if o.startswith("-D"))
        self.name, self._kernel = name, simt.Kernel(code, name, defines)

    def __call__(self, grid: Any, block: Any, args: Any, **options: Any) -> None:
        for x in args:
            if isinstance(x, np.ndarray):
                msg = f"Unsupported type {type(x)}"
                raise TypeError(msg)
            if isinstance(x, arrays.ndarray) and x.device != streams.current_device():
                # CuPy does not look: on a GPU the kernel would read foreign memory, or fail.
                msg = f"{self.name} is launched on a device where one of its arrays does not lie."
                raise simt.EmulationError(msg)
        held = tuple(_Held(x) if isinstance(x, arrays.ndarray) else x for x in args)
        arrays.launches.count += 1
        if (capture := streams.current_stream().captures) is not None:
            # What it reads, tables of addresses say, may not be there before the replay.
            capture.note(lambda: self._kernel(grid, block, held, **options))
        else:
            self._kernel(grid, block, held, **options)


class OutOfMemoryError(MemoryError):
    """What the pool raises."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        self._given = size, total, limit
        more = f", limit set to: {limit:,} bytes" * bool(limit)
        super().__init__(
            f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes{more})."
        )

    def __reduce__(self) -> Any:
        return type(self), self._given


OutOfMemoryError.__module__ = "cupy.cuda.memory"


class _DefaultPool:
    """The pool of all arrays: what it keeps when they go is what it held at most before."""

    def __init__(self) -> None:
        self.limit, self._held = 0, 0

    def malloc(self, size: int) -> Any:
        return size

    def used_bytes(self) -> int:
        return streams.bytes_in_use()

    def total_bytes(self) -> int:
        self._held = max(self._held, self.used_bytes())
        return self._held

    def free_bytes(self) -> int:
        return self.total_bytes() - self.used_bytes()

    def free_all_blocks(self, stream: Any = None) -> None:
        self._held = 0

    def set_limit(self, size: int | None = None, fraction: Any = None) -> None:
        self.limit = size or 0
        streams.watch(self._look if self.limit else None)

    def get_limit(self) -> int:
        return self.limit

    def _look(self, new: int) -> None:
        if (used := self.used_bytes()) > self.limit:
            raise OutOfMemoryError(new, used - new, self.limit)


class Memory:
    """Memory that can be counted, in which nothing lies."""

    def __init__(self, size: int) -> None:
        self.size, self.ptr, self.device_id = size, 0, streams.current_device().id


class MemoryPointer:
    """A place in memory."""

    def __init__(self, mem: Memory, offset: int) -> None:
        self.mem, self.ptr, self.device_id = mem, mem.ptr + offset, mem.device_id


class MemoryPool:
    """Memory that is new for each array, all of which is free when it is asked for."""

    def __init__(self, allocator: Any = None) -> None:
        self._allocator = allocator or (lambda size: MemoryPointer(Memory(size), 0))
        self._chunks: list[Memory] = []

    def malloc(self, size: int) -> MemoryPointer:
        found: MemoryPointer = self._allocator(size)
        self._chunks.append(found.mem)
        return found

    def used_bytes(self) -> int:
        return self.total_bytes()

    def total_bytes(self) -> int:
        return sum(memory.size for memory in self._chunks)

    def free_all_blocks(self, stream: Any = None) -> None:
        self._chunks.clear()


_pool = _DefaultPool()
_allocators: list[Any] = []


def _allocate(shape: Any, dtype: Any) -> None:
    size = arrays.bytes_of(shape, dtype)
    if _allocators:
        _allocators[-1](size)


@contextmanager
def _using_allocator(allocator: Any = None) -> Any:
    _allocators.append(allocator)
    try:
        yield
    finally:
        _allocators.pop()


def _creator(name: str) -> Any:
    f = getattr(np, name)

    def create(*args: Any, **kwargs: Any) -> Any:
        if name == "linspace":
            float(args[1] - args[0])  # as CuPy does
        made = f(*args, **kwargs)
        if name == "empty":
            made = arrays.aligned(made.shape, made.dtype)
        _allocate(made.shape, made.dtype)
        x = arrays.ndarray(made)
        if name == "empty" and (made.dtype.kind == "f" or made.dtype.name == "bfloat16"):
            made.fill(np.nan)  # who reads it before it is written will see it
        if (capture := streams.current_stream().captures) is not None and name != "empty":
            capture.note(lambda: made.__setitem__(..., f(*args, **kwargs)))
        return x

    return create


def _like(name: str) -> Any:
    create = _creator(name.removesuffix("_like"))

    def create_like(x: Any, *args: Any, dtype: Any = None, shape: Any = None, **kwargs: Any) -> Any:
        kwargs.pop("order", None), kwargs.pop("subok", None)
        return create(shape or x.shape, *args, dtype=dtype or x.dtype, **kwargs)

    return create_like


def _array(x: Any, dtype: Any = None, copy: Any = True, order: Any = None, ndmin: int = 0,
           blocking: bool = False, **more: Any) -> Any:  # fmt: skip
    if isinstance(x, arrays.ndarray):
        same = dtype is None or x.dtype == np.dtype(dtype)
        contiguous = order not in ("C",) or x.flags.c_contiguous
        if same and contiguous and not copy:
            return x
        return arrays._call(np.array, x, dtype=dtype, order=order or "K")
    made = arrays.from_host(x, dtype, order)
    _allocate(made.shape, made.dtype)
    return made


def _asarray(x: Any, dtype: Any = None, order: Any = None, **more: Any) -> Any:
    return _array(x, dtype=dtype, copy=False, order=order)


def _asnumpy(x: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True
             ) -> Any:  # fmt: skip
    return x.get(out=out, blocking=blocking) if isinstance(x, arrays.ndarray) else np.asarray(x)


def _from_dlpack(x: Any, *, device: Any = None, copy: bool | None = None) -> Any:
    kind, index = x.__dlpack_device__()
    if device is not None:
        msg = "from_dlpack() does not support device yet."
        raise NotImplementedError(msg)
    if kind == 1:
        msg = "CPU arrays cannot be directly imported to CuPy."
        raise TypeError(msg)
    capsule = x.__dlpack__(stream=1, max_version=(1, 0), copy=copy)
    # Its memory is that of the host, where NumPy reads it.
    speaker = type("Speaker", (), {"__dlpack__": lambda self, **options: capsule,
                                   "__dlpack_device__": lambda self: (1, 0)})()  # fmt: skip
    return arrays.ndarray(np.from_dlpack(speaker), streams.Device(index))


def _where(condition: Any, *values: Any) -> Any:
    if not values:
        return arrays.waiting(np.nonzero)(condition)
    return arrays.lifted(as_cupy_does("where", np.where))(condition, *values)


def _runtime() -> ModuleType:
    module = ModuleType("cupy.cuda.runtime")

    class CUDARuntimeError(RuntimeError):
        pass

    module.CUDARuntimeError = CUDARuntimeError
    module.getDeviceCount = lambda: streams.DEVICES
    module.getDevice = lambda: streams.current_device().id
    module.driverGetVersion = lambda: 13000
    module.runtimeGetVersion = lambda: 13020
    module.getDeviceProperties = lambda i: {
        "name": f"Emulated {i}".encode(), "totalGlobalMem": 4 * 2**30, "major": 9, "minor": 0,
        "multiProcessorCount": 4, "clockRate": 1, "memoryClockRate": 1, "memoryBusWidth": 1,
    }  # fmt: skip
    module.memcpyAsync = lambda *args: None
    return module


def _cuda() -> ModuleType:
    module = ModuleType("cupy.cuda")
    module.Device, module.Stream, module.Event = streams.Device, streams.Stream, streams.Event
    module.get_current_stream = streams.current_stream
    module.get_elapsed_time = lambda a, b: 1e3 * (b.time - a.time)
    module.is_available = lambda: True
    module.MemoryPool, module.using_allocator = MemoryPool, _using_allocator
    module.Memory, module.MemoryPointer = Memory, MemoryPointer
    module.runtime = _runtime()
    module.__path__ = []  # a package
    module.device = ModuleType("cupy.cuda.device")
    module.device.Device = streams.Device
    module.stream = ModuleType("cupy.cuda.stream")
    module.stream.Stream, module.stream.Event = streams.Stream, streams.Event
    module.memory = ModuleType("cupy.cuda.memory")
    module.memory.OutOfMemoryError = OutOfMemoryError
    module.memory.MemoryPool = MemoryPool
    module.memory.Memory, module.memory.MemoryPointer = Memory, MemoryPointer
    return module


def _submodule(name: str, source: Any) -> ModuleType:
    module = ModuleType(name)
    for key in source.__all__ if hasattr(source, "__all__") else dir(source):
        value, place = getattr(source, key), f"{name.removeprefix('cupy.')}.{key}"
        if place in _MISSING:
            continue
        if callable(value) and not isinstance(value, type):
            value = _function(place, value)
        elif key.startswith("_"):
            continue
        setattr(module, key, value)
    module.__all__ = [key for key in vars(module) if not key.startswith("_")]
    return module


def _module() -> ModuleType:
    cupy = ModuleType("cupy")
    cupy.__path__ = []  # a package
    for name in [*np.__all__, "pow", "concat"]:
        value = getattr(np, name)
        if name in _NO_FUNCTIONS | _MISSING or isinstance(value, ModuleType):
            continue
        if callable(value) and not isinstance(value, type) and name not in _AS_THEY_ARE:
            value = _function(name, value)
        setattr(cupy, name, value)
    for name in ("empty", "zeros", "ones", "full", "arange", "linspace", "eye", "identity", "tri"):
        setattr(cupy, name, _creator(name))
    for name in ("empty_like", "zeros_like", "ones_like", "full_like"):
        setattr(cupy, name, _like(name))
    cupy.__version__ = "14.2.0+emulated"  # NumPy lists its own in __all__
    cupy.ndarray, cupy.generic = arrays.ndarray, np.generic
    cupy.array, cupy.asarray, cupy.asanyarray = _array, _asarray, _asarray
    cupy.ascontiguousarray = lambda x, dtype=None: _array(x, dtype=dtype, copy=False, order="C")
    cupy.asnumpy = _asnumpy
    cupy.from_dlpack = _from_dlpack
    cupy.may_share_memory = np.may_share_memory
    cupy.RawModule, cupy.RawKernel = _RawModule, _RawKernel
    cupy.cuda = _cuda()
    cupy.is_available = lambda: True
    cupy.get_default_memory_pool = lambda: _pool
    cupy.get_default_pinned_memory_pool = lambda: MemoryPool()
    cupy.where = _where
    cupy.linalg = _submodule("cupy.linalg", np.linalg)
    cupy.fft = _submodule("cupy.fft", np.fft)
    return cupy


def _cupyx() -> ModuleType:
    module = ModuleType("cupyx")
    module.errstate = solvers.errstate
    for name in ("empty", "zeros"):
        setattr(module, f"{name}_pinned", getattr(np, name))
    for name in ("empty", "zeros"):
        setattr(module, f"{name}_like_pinned", getattr(np, f"{name}_like"))
    return module


def _pathfinder() -> dict[str, ModuleType]:
    """Return ``cuda.pathfinder``, which finds the emulated library."""
    try:
        finder = importlib.import_module("cuda.pathfinder")
        cuda = sys.modules["cuda"]
    except ImportError:
        finder, cuda = ModuleType("cuda.pathfinder"), ModuleType("cuda")
        cuda.__path__ = []  # a package

    def load(name: str) -> Any:
        if name != "cublasLt":
            msg = f'Failure finding "{name}"'
            raise RuntimeError(msg)
        return SimpleNamespace(abs_path=cublaslt.path())

    finder.load_nvidia_dynamic_lib = load
    return {"cuda": cuda, "cuda.pathfinder": finder}


def install() -> ModuleType:
    """Make ``import cupy`` find the emulated module, in this process, from now on."""
    found = sys.modules.get("cupy")
    if found is not None and "emulated" in getattr(found, "__version__", ""):
        return found
    if found is not None:
        msg = "CuPy itself was imported already; the emulated one cannot take its place."
        raise RuntimeError(msg)
    cupy = _module()
    sys.modules |= {
        "cupy": cupy, "cupy.cuda": cupy.cuda, "cupy.cuda.runtime": cupy.cuda.runtime,
        "cupy.cuda.device": cupy.cuda.device, "cupy.cuda.stream": cupy.cuda.stream,
        "cupy.cuda.memory": cupy.cuda.memory,
        "cupy.linalg": cupy.linalg, "cupy.fft": cupy.fft, "cupyx": _cupyx(),
        **_pathfinder(),
    }  # fmt: skip
    return cupy
