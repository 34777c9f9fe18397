"""One adapter an array library: its namespace, its devices, and the way to and from the host.

With ``backend`` and ``kernels`` this is the only place that names an array library. A library is
imported when it is first asked for, never before.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import numpy as np

from xpnn._cuda import keep_until, pinned, retell, trouble
from xpnn.errors import DeviceError, DTypeError, MissingLibraryError

__all__ = ["LIBRARIES", "Library", "find_library", "host_dtype", "is_writable", "overflows", "put"]

Array = Any
Namespace = Any


def _compat() -> Any:
    """Return array-api-compat, imported now: it costs a fifth of what importing xpnn does."""
    return importlib.import_module("array_api_compat")


def _cupy() -> Any:
    return importlib.import_module("cupy")


def host_dtype(name: str) -> Any:
    """Return NumPy's dtype of a name; bfloat16 is that of ml_dtypes, which JAX brings."""
    if name == "bfloat16":
        try:
            importlib.import_module("ml_dtypes")
        except ImportError as error:
            msg = "bfloat16 on the host needs ml_dtypes: pip install ml_dtypes."
            raise MissingLibraryError(msg) from error
    return np.dtype(name)


class Library:
    """An array library as xpnn sees it: its namespace, its devices, the way to the host.

    ``block`` is how many numbers, of what is computed in several passes and then forgotten, to
    compute at a time: enough to keep a GPU busy.
    """

    block = 2**24
    several = False  # devices among which an operation has to be told where to run

    def __init__(self, name: str, namespace: str) -> None:
        self.name = name
        self._namespace = namespace
        self._package = namespace.removeprefix("array_api_compat.").partition(".")[0]

    @cached_property
    def xp(self) -> Namespace:
        """The standard namespace, imported now."""
        try:
            return importlib.import_module(self._namespace)
        except ImportError as error:
            msg = f"its package does not import: {error}. pip install {self._package} brings it."
            raise DeviceError(msg) from error

    def status(self) -> str:
        """Return why this library cannot be used here, or an empty string if it can."""
        try:
            return "" if self.xp else "no namespace"
        except DeviceError as error:
            return str(error)

    def devices(self) -> list[Any]:
        """Every device of the library, in its own type; the first is the default."""
        return list(self.xp.__array_namespace_info__().devices())

    def native_device(self, spec: str) -> Any:
        """Return the library's own device for the part of a device string after the colon."""
        names = {self.device_name(d): d for d in reversed(self.devices())}
        found = next(iter(reversed(names.values()))) if not spec else names.get(spec)
        if found is None:
            msg = f"{self.name!r} has no device {spec!r}; it has {', '.join(sorted(names))}."
            raise DeviceError(msg)
        return found

    def device_name(self, native: Any) -> str:
        """Return the part of a device string after the colon."""
        return str(native)

    def device_of(self, x: Array) -> Any:
        """Return the library's own device object of an array."""
        return _compat().device(x)

    def on_host(self, x: Array) -> bool:
        """Return whether an array lies where the host reads it without waiting for a device."""
        return self.device_name(self.device_of(x)) == "cpu"

    def extent(self, x: Array) -> tuple[Any, Any]:
        """Return the least and the greatest number in an array."""
        return self.xp.min(x), self.xp.max(x)

    def to_numpy(self, x: Array) -> Any:
        """Copy or view an array on the host."""
        return np.asarray(x)

    def on_its_way(self, x: Array) -> Callable[[], Any]:
        """Send an array to the host; the function that is returned waits for it, and gives it."""
        return lambda: self.to_numpy(x)

    def from_numpy(self, x: Any, native: Any, copy: bool | None) -> Array:
        """Return an array of this library on one of its devices."""
        return self.xp.asarray(x, device=native, copy=copy)

    def move(self, x: Array, library: Library, native: Any) -> Array:
        """Return an array of this library as one of a library on one of its devices."""
        return library.from_numpy(self.to_numpy(x), native, None)

    def scope(self, native: Any) -> Any:
        """Return the context in which new arrays land on the device."""
        return nullcontext()

    def elsewhere(self, who: str, arrays: list[Array]) -> Any:
        """Return the context in which an operation on arrays has to run, None if it is this one.

        Only where there are :attr:`several` devices.
        """

    def restored(self) -> Any:
        """Return a context after which the current device is the one that it was before."""
        return nullcontext()

    def follow(self, g: Any) -> None:
        """Make the device of a gradient, or of those in a tuple, the current one."""


class _NumPy(Library):
    block = 2**18  # they stay in the caches from one pass to the next

    def devices(self) -> list[Any]:
        return ["cpu"]  # asking the namespace would import it, 0.1 s that `import xpnn` can spare

    def device_of(self, x: Array) -> Any:
        return "cpu"

    def on_host(self, x: Array) -> bool:
        return True

    def extent(self, x: Array) -> tuple[Any, Any]:
        return np.minimum.reduce(x, axis=None), np.maximum.reduce(x, axis=None)

    def from_numpy(self, x: Any, native: Any, copy: bool | None) -> Array:
        return np.asarray(x) if copy is None else np.array(x, copy=copy)


class _Sent:
    """An array on its way from a GPU to the host, where it is once an event is done."""

    def __init__(self, host: Any, event: Any) -> None:
        self._host, self._event = host, event

    @property
    def arrived(self) -> bool:
        return bool(self._event.done)

    def __call__(self) -> Any:
        if not self.arrived:  # to ask is allowed while a step is recorded, to wait is not
            self._event.synchronize()
        return self._host


class _CuPy(Library):
    def status(self) -> str:
        return trouble()

    def devices(self) -> list[Any]:
        if reason := self.status():
            raise DeviceError(reason)
        cuda = _cupy().cuda
        return [cuda.Device(i) for i in range(cuda.runtime.getDeviceCount())]

    def device_name(self, native: Any) -> str:
        return str(native.id)

    def device_of(self, x: Array) -> Any:
        return x.device

    def to_numpy(self, x: Array) -> Any:
        return x.get()

    def on_its_way(self, x: Array) -> Callable[[], Any]:
        # get() waits for all that the device was told since; an event only for what came before.
        with x.device:
            host = pinned(x.shape, x.dtype)
            x.get(out=host, blocking=False)
            sent = _cupy().cuda.get_current_stream().record(_cupy().cuda.Event(disable_timing=True))
        keep_until(sent, host)
        return _Sent(host, sent)

    def from_numpy(self, x: Any, native: Any, copy: bool | None) -> Array:
        try:
            with native:  # CuPy's functions ignore `device=`: their device is the current one
                return self.xp.asarray(x)
        except MemoryError as error:
            retell(error)

    def move(self, x: Array, library: Library, native: Any) -> Array:
        if library is not self:
            return super().move(x, library, native)
        # From GPU to GPU: the copy waits for what is computed there, and memory there for the copy.
        stream, event = _cupy().cuda.get_current_stream, _cupy().cuda.Event
        with x.device:
            if not (x.flags.c_contiguous or x.flags.f_contiguous):
                x = x.copy()  # CuPy would do so here as well, but behind the event
            written = stream().record(event(disable_timing=True))
        with native:
            stream().wait_event(written)
            try:
                moved = x.copy()
            except MemoryError as error:
                retell(error)
            read = stream().record(event(disable_timing=True))
        with x.device:
            stream().wait_event(read)
        return moved

    @cached_property
    def several(self) -> bool:  # type: ignore[override]
        return _cupy().cuda.runtime.getDeviceCount() > 1

    def scope(self, native: Any) -> Any:
        return native

    def elsewhere(self, who: str, arrays: list[Array]) -> Any:
        found = {x.data.device_id for x in arrays}
        if len(found) > 1:
            first, second, *_ = sorted(found)
            msg = (
                f"{who}: arrays of two devices meet, cuda:{first} and cuda:{second}. Move one of"
                f" them, for example with xpnn.to_device(x, 'cuda:{first}'), or the whole model"
                f" with model.to('cuda:{first}')."
            )
            raise DeviceError(msg)
        (one,) = found
        current = _cupy().cuda.runtime.getDevice()
        return None if one == current else _cupy().cuda.Device(one)

    def restored(self) -> Any:
        return _cupy().cuda.Device()

    def follow(self, g: Any) -> None:
        for part in g if isinstance(g, tuple) else (g,):
            if isinstance(part, np.ndarray):  # of a pass on the host
                return
            # The other is that of a Tensor, in a pass that is recorded.
            found = part if isinstance(part, _cupy().ndarray) else getattr(part, "data", None)
            if isinstance(found, _cupy().ndarray):
                found.device.use()
                return


class _Torch(Library):
    def devices(self) -> list[Any]:
        if self.xp is None:
            return []
        torch = importlib.import_module("torch")
        cuda = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
        return [torch.device("cpu"), *cuda]

    def to_numpy(self, x: Array) -> Any:
        if x.dtype == self.xp.bfloat16:  # the bits, as torch and NumPy do not exchange it
            return x.detach().view(self.xp.int16).numpy(force=True).view(host_dtype("bfloat16"))
        return x.numpy(force=True)  # also off the tape, the GPU and lazy conjugation

    def from_numpy(self, x: Any, native: Any, copy: bool | None) -> Array:
        if x.dtype.name == "bfloat16":
            bits = self.from_numpy(x.view(np.int16), native, copy)
            return bits.view(self.xp.bfloat16)
        # torch would warn about, and then write through, a read-only NumPy array.
        safe = np.array(x) if copy or not x.flags.writeable else np.ascontiguousarray(x)
        return self.xp.asarray(safe.reshape(x.shape), device=native)


class _Jax(Library):
    def devices(self) -> list[Any]:
        return list(importlib.import_module("jax").devices()) if self.xp else []

    def device_name(self, native: Any) -> str:
        return str(native.platform) + (f":{native.id}" if native.id else "")


class _Strict(Library):
    def on_host(self, x: Array) -> bool:
        return True  # its other devices are make-believe

    def device_name(self, native: Any) -> str:
        return str(native).removeprefix("array_api_strict.Device('").removesuffix("')")

    def to_numpy(self, x: Array) -> Any:
        return np.from_dlpack(x).copy() if x.size else np.asarray(x.to_device(self.devices()[0]))


_NUMPY: Library = _NumPy("cpu", "array_api_compat.numpy")
_CUPY: Library = _CuPy("cuda", "array_api_compat.cupy")
_TORCH: Library = _Torch("torch", "array_api_compat.torch")
LIBRARIES: dict[str, Library] = {
    "cpu": _NUMPY,
    "cuda": _CUPY,
    "torch": _TORCH,
    "jax": _Jax("jax", "jax.numpy"),
    "strict": _Strict("strict", "array_api_strict"),
}
_LIBRARY_OF: dict[type, Library] = {np.ndarray: _NUMPY}


def find_library(x: Any) -> Library:
    """Return the library of a raw array, and remember it for the array's type."""
    cls = type(x)
    if cls in _LIBRARY_OF:
        return _LIBRARY_OF[cls]
    if _compat().is_numpy_array(x):
        found = _NUMPY
    elif _compat().is_cupy_array(x):
        found = _CUPY
    elif _compat().is_torch_array(x):
        found = _TORCH
    elif _compat().is_jax_array(x):
        found = LIBRARIES["jax"]
    else:
        try:
            name = _compat().array_namespace(x).__name__
        except (TypeError, AttributeError):
            msg = (
                f"expected an array, got {cls.__module__}.{cls.__qualname__}."
                " Make one with xpnn.asarray(...)."
            )
            raise DTypeError(msg) from None
        found = LIBRARIES["strict"] if name == "array_api_strict" else Library(name, name)
    _LIBRARY_OF[cls] = found
    return found


def overflows() -> Any:
    """Return a context in which NumPy does not warn that a number became infinite, or none."""
    return np.errstate(over="ignore", invalid="ignore")


def is_writable(x: Any) -> bool:
    """Return whether a raw array can be written in place."""
    if type(x) is np.ndarray:
        return bool(x.flags.writeable)
    return bool(_compat().is_writeable_array(x))


def put(x: Array, key: Any, value: Any) -> Array:
    """Return ``x`` with ``x[key] = value``: written in place where the library allows it.

    Only for an array that the caller has just made.
    """
    if is_writable(x):
        x[key] = value
        return x
    return x.at[key].set(value)  # JAX
