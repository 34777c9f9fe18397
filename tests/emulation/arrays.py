"""Arrays of an emulated GPU: NumPy's, behind a wall.

What CuPy refuses is refused: an array of the host among those of the device, one of another device,
an implicit way to the host. What makes the host wait for the device is counted in
:data:`waits`, and every operation in :data:`launches`; while a stream is captured, operations
are noted, to be replayed, and waiting is an error, as it is in CUDA.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from emulation.bfloat16 import as_cupy_does
from emulation.streams import current_device, current_stream, register

__all__ = [
    "Counter",
    "aligned",
    "from_host",
    "launches",
    "lifted",
    "multiplied",
    "ndarray",
    "on_host",
    "refuse_transfer",
    "waiting",
    "waits",
]


class Counter:
    """How often something happened."""

    def __init__(self) -> None:
        self.count = 0

    def reset(self) -> None:
        self.count = 0


launches, waits = Counter(), Counter()


def _wait(what: str) -> None:
    waits.count += 1
    if current_stream().captures is not None:
        current_stream().captures.broken = what
        msg = f"operation not permitted when stream is capturing ({what})"
        raise RuntimeError(f"cudaErrorStreamCaptureUnsupported: {msg}")


def refuse_transfer(way: str, stream: Any = None) -> None:
    """Raise CuPy's own error, before it asks CUDA, for a copy on a stream that is captured."""
    if (stream or current_stream()).captures is not None:
        msg = f"the current stream is capturing, so {way} transfers are disallowed"
        raise RuntimeError(msg)


class _Memory:
    """Where an array lies, as :class:`cupy.cuda.MemoryPointer` says it."""

    __slots__ = ("_host", "device", "device_id")

    def __init__(self, host: np.ndarray, device: Any) -> None:
        self._host, self.device, self.device_id = host, device, device.id

    @property
    def ptr(self) -> int:
        if (capture := current_stream().captures) is not None:
            capture.held.append(self._host)  # what is launched with an address needs the memory
        return int(self._host.ctypes.data)


class ndarray:
    """An array of an emulated device."""

    __slots__ = ("__weakref__", "_host", "base", "device")
    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 100

    def __init__(self, host: np.ndarray, device: Any = None, base: Any = None) -> None:
        self._host = host
        self.base = base  # whose memory a view is of
        register(host)
        self.device = current_device() if device is None else device

    # ------------------------------------------------------------------ what it is

    dtype = property(lambda self: self._host.dtype)
    shape = property(lambda self: self._host.shape)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    data = property(lambda self: _Memory(self._host, self.device))
    T = property(lambda self: self._view(self._host.T))
    mT = property(lambda self: self._view(self._host.mT))
    real = property(lambda self: self._view(self._host.real))
    imag = property(lambda self: self._view(self._host.imag))

    def _view(self, host: np.ndarray) -> Any:
        return ndarray(host, self.device, self if self.base is None else self.base)

    def __len__(self) -> int:
        return len(self._host)

    def __repr__(self) -> str:
        return f"emulated {self._host!r}"

    # ------------------------------------------------------------------ to the host

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> Any:
        if blocking or out is None:
            _wait("a copy to the host")
        refuse_transfer("D2H", stream)
        host = np.array(self._host, order=order)  # type: ignore[call-overload]
        if out is None:
            return host
        out[...] = host
        return out

    def item(self, *where: Any) -> Any:
        _wait("a copy to the host")
        return self._host.item(*where)

    def tolist(self) -> Any:
        _wait("a copy to the host")
        return self._host.tolist()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        msg = "Implicit conversion to a NumPy array is not allowed. Please use `.get()`."
        raise TypeError(msg)

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    # ------------------------------------------------------------------ operations

    def __getitem__(self, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        _look_at(keys)
        fancy = any(isinstance(k, (ndarray, list)) for k in keys)
        if fancy:  # out of range wraps around; no error, as nobody looks
            return _call(_take, self, key)
        _refuse_host(keys)
        return self._view(self._host[keys if any(k is Ellipsis for k in keys) else (*keys, ...)])

    def __setitem__(self, key: Any, value: Any) -> None:
        _look_at(key if isinstance(key, tuple) else (key,))
        _call(_put, self, key, value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        if out is not None:
            kwargs["out"] = out[0] if len(out) == 1 else out
        return _call(getattr(ufunc, method) if method != "__call__" else ufunc, *inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _call(function, *args, **kwargs)

    def nonzero(self) -> Any:
        return waiting(np.nonzero)(self)

    def astype(self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None,
               copy: bool = True) -> Any:  # fmt: skip
        if not copy and self.dtype == np.dtype(dtype):
            return self
        return _call(_astype, self, dtype, order)

    def reshape(self, *shape: Any, order: str = "C") -> Any:
        host = self._host.reshape(*shape, order=order)  # type: ignore[call-overload]
        if host.size and not np.shares_memory(host, self._host):
            return _call(_reshaped, self, host.shape, order)
        return self._view(host)

    def ravel(self, order: str = "C") -> Any:
        return self.reshape(-1, order=order)

    def view(self, dtype: Any) -> Any:
        return self._view(self._host.view(dtype))

    def transpose(self, *axes: Any) -> Any:
        return self._view(self._host.transpose(*axes))

    def swapaxes(self, a: int, b: int) -> Any:
        return self._view(self._host.swapaxes(a, b))

    def squeeze(self, axis: Any = None) -> Any:
        return self._view(self._host.squeeze(axis))

    def set(self, host: Any, stream: Any = None) -> None:
        if type(host) is not np.ndarray:
            msg = f"Only numpy.ndarray can be set to cupy.ndarray, got {type(host)}"
            raise TypeError(msg)
        if host.shape != self.shape or host.dtype != self.dtype:
            msg = f"Shape mismatch or dtype mismatch: {host.shape} {host.dtype}"
            raise ValueError(msg)
        if stream is None:
            _wait("a copy from the host")
        refuse_transfer("H2D", stream)
        launches.count += 1
        if stream is None or not stream.ptr:
            self._host[...] = host
        else:
            stream.late.append(lambda: self._host.__setitem__(..., host))

    def copy(self, order: str = "C") -> Any:
        """Return a copy on the current device, also of an array on another one."""
        if self.device == current_device():
            return _call(np.ndarray.copy, self, order)
        launches.count += 1
        return ndarray(np.array(self._host, order="C"))

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()

    def __dlpack__(self, *, dl_device: Any = None, copy: bool | None = None, **options: Any) -> Any:
        _wait("an exchange by DLPack")
        if dl_device == (1, 0):
            if copy is False:
                msg = "GPU memory cannot be exported to CPU without copy."
                raise ValueError(msg)
            return self._host.copy().__dlpack__(max_version=(1, 0))
        if copy:
            msg = "copy=True only supported for copy to CPU."
            raise BufferError(msg)
        return self._host.__dlpack__(max_version=(1, 0))

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, self.device.id)

    __cuda_array_interface__ = property(
        lambda self: {
            "shape": self.shape, "typestr": self.dtype.str, "version": 3,
            "data": (self.data.ptr, False), "strides": self.strides,
        }
    )  # fmt: skip


ndarray.__module__ = "cupy"


def _look_at(keys: tuple[Any, ...]) -> None:
    """Wait where CuPy does: it counts the elements of a mask, to read them and to write them."""
    if any(isinstance(k, ndarray) and k.dtype == bool for k in keys):
        _wait("a boolean index")
    if any(isinstance(k, list) for k in keys):  # an array of the host before it is one here
        refuse_transfer("H2D")


def _refuse_host(values: Any) -> None:
    for x in values:
        if isinstance(x, (list, tuple)):
            _refuse_host(x)
        elif isinstance(x, np.ndarray):
            msg = f"Unsupported type {type(x)}: an array of the host among those of a device"
            raise TypeError(msg)


def _unwrapped(x: Any) -> Any:
    if isinstance(x, ndarray):
        if x.device != current_device():
            msg = (
                "Array device must be same as the current device: array device ="
                f" {x.device.id} while current = {current_device().id}"
            )
            raise ValueError(msg)
        return x._host
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*map(_unwrapped, x))
    if isinstance(x, (list, tuple)):
        return type(x)(map(_unwrapped, x))
    return x


def _wrapped(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return ndarray(x)
    if isinstance(x, np.generic):
        return ndarray(np.asarray(x))
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*map(_wrapped, x))
    if isinstance(x, (list, tuple)):
        return type(x)(map(_wrapped, x))
    return x


def _owns_new_memory(x: Any, given: tuple[Any, ...]) -> bool:
    return not any(isinstance(y, np.ndarray) and np.may_share_memory(x, y) for y in _leaves(given))


def _leaves(x: Any) -> list[Any]:
    if isinstance(x, (list, tuple)):
        return [leaf for y in x for leaf in _leaves(y)]
    return [x]


def _call(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a function of NumPy on what is in arrays; note it, if a stream is captured."""
    _refuse_host([*args, *kwargs.values()])
    into = kwargs.get("out")
    given = _unwrapped(args), _unwrapped(kwargs)
    named = {name: _unwrapped(x) for name, x in kwargs.items()}
    launches.count += 1
    result = f(*given[0], **named)
    capture = current_stream().captures
    if capture is not None:
        fresh = [x for x in _leaves(_arrays(result)) if isinstance(x, np.ndarray)]
        results = [x for x in fresh if _owns_new_memory(x, (given[0], tuple(named.values())))]

        def again() -> None:
            new = f(*given[0], **named)
            if results:
                for old, x in zip(results, _leaves(_arrays(new)), strict=False):
                    old[...] = x

        if results or into is not None or f in (_put,):
            if isinstance(result, np.generic):
                result = fresh[0]
            capture.note(again)
            if results and not isinstance(result, (list, tuple)):
                return ndarray(results[0])
    if isinstance(result, np.ndarray) and result.base is not None and into is None:
        for x in _leaves([*args, *kwargs.values()]):
            if isinstance(x, ndarray) and np.may_share_memory(result, x._host):
                return x._view(result)
    return into if isinstance(into, ndarray) else _wrapped(result)


def _arrays(x: Any) -> Any:
    if isinstance(x, np.generic):
        return np.asarray(x)
    if isinstance(x, (list, tuple)):
        return [_arrays(y) for y in x]
    return x


def _astype(x: Any, dtype: Any, order: str) -> Any:
    return x.astype(dtype, order=order)


def _reshaped(x: Any, shape: Any, order: str) -> Any:
    return np.array(x.reshape(shape, order=order))


def _wrapping(x: Any, keys: Any) -> Any:
    """Return indices that wrap around, as CuPy's do."""
    keys = keys if isinstance(keys, tuple) else (keys,)
    if Ellipsis in [k for k in keys if not isinstance(k, np.ndarray)]:
        return keys
    new, axis = [], 0
    for k in keys:
        if k is None:
            new.append(k)
            continue
        if isinstance(k, np.ndarray) and k.dtype == bool:
            axis += k.ndim
        else:
            if isinstance(k, np.ndarray) and x.shape[axis]:
                k = k % x.shape[axis]
            axis += 1
        new.append(k)
    return tuple(new)


def _take(x: Any, keys: Any) -> Any:
    return np.array(x[_wrapping(x, keys)])


def _put(x: Any, keys: Any, value: Any) -> None:
    x[_wrapping(x, keys)] = value


def _method(name: str) -> Callable[..., Any]:
    f = as_cupy_does(name, getattr(np.ndarray, name))

    @functools.wraps(f)
    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        return _call(f, self, *args, **kwargs)

    return method


for _name in (
    *(
        "all any argmax argmin argsort clip conj cumprod cumsum diagonal dot fill max mean min"
    ).split(),
    *("prod repeat round sum take trace var std").split(),
):
    setattr(ndarray, _name, _method(_name))


def multiplied(a: Any, b: Any, **options: Any) -> Any:
    """Multiply matrices as CuPy does: stacks of bfloat16 fall to a kernel of integers."""
    stacks = max(np.ndim(a), np.ndim(b)) > 2 and a.size and b.size
    if stacks and np.promote_types(a.dtype, b.dtype).name == "bfloat16":
        msg = "Unsupported type bfloat16"
        raise TypeError(msg)
    return np.matmul(a, b, **options)


def _operator(name: str) -> Callable[..., Any]:
    plain = multiplied if name == "__matmul__" else getattr(np.ndarray, name)
    f = as_cupy_does(name, plain)

    def method(self: ndarray, *others: Any) -> Any:
        for x in others:
            if not isinstance(x, (ndarray, bool, int, float, complex, np.generic)):
                return NotImplemented
        return _call(f, self, *others)

    return method


for _name in (
    *("add sub mul truediv floordiv mod pow matmul and or xor lshift rshift").split(),
    *("radd rsub rmul rtruediv rfloordiv rmod rpow rand ror rxor rlshift rrshift").split(),
    *("eq ne lt le gt ge neg pos abs invert divmod").split(),
):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))


def _in_place(name: str) -> Callable[..., Any]:
    f = getattr(np, name)

    def method(self: ndarray, other: Any) -> Any:
        _call(f, self, other, out=self)
        return self

    return method


for _name, _function in {
    "iadd": "add", "isub": "subtract", "imul": "multiply", "itruediv": "true_divide",
    "ifloordiv": "floor_divide", "imod": "remainder", "ipow": "power", "iand": "bitwise_and",
    "ior": "bitwise_or", "ixor": "bitwise_xor", "ilshift": "left_shift", "irshift": "right_shift",
}.items():  # fmt: skip
    setattr(ndarray, f"__{_name}__", _in_place(_function))


def lifted(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of NumPy as one of the device's arrays."""

    @functools.wraps(f)
    def function(*args: Any, **kwargs: Any) -> Any:
        return _call(f, *args, **kwargs)

    return function


def waiting(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of NumPy as one for which the host waits."""

    @functools.wraps(f)
    def function(*args: Any, **kwargs: Any) -> Any:
        _wait(f"{f.__name__}, which looks at values")
        return _call(f, *args, **kwargs)

    return function


def from_host(x: Any, dtype: Any = None, order: str | None = None, copy: bool = True) -> ndarray:
    """Return an array of the current device with the values of what lies on the host."""
    host = np.array(_unwrapped(x), dtype=dtype, order=order or "K")  # type: ignore[call-overload]
    if host.dtype == object:
        msg = f"Unsupported dtype {host.dtype}"
        raise ValueError(msg)
    if host.ndim:
        refuse_transfer("H2D")
    memory = aligned(host.shape, host.dtype)
    memory[...] = host
    if (capture := current_stream().captures) is not None:  # one number: a kernel that fills
        capture.note(lambda: memory.__setitem__(..., host))
    return ndarray(memory) if host.flags.c_contiguous else ndarray(host)


def on_host(x: ndarray) -> np.ndarray:
    """Return what an array holds, without waiting: for those who emulate."""
    return x._host


def aligned(shape: Any, dtype: Any) -> np.ndarray:
    """Return memory of the host that begins where CuPy's pool would let it: at 512 bytes."""
    dtype = np.dtype(dtype)
    size = bytes_of(shape, dtype)
    memory = np.empty(size + 512, np.uint8)
    first = -memory.ctypes.data % 512
    return memory[first : first + size].view(dtype).reshape(shape)


def bytes_of(shape: Any, dtype: Any) -> int:
    """Return how much memory an array takes."""
    return math.prod(shape if isinstance(shape, tuple) else (shape,)) * np.dtype(dtype).itemsize
