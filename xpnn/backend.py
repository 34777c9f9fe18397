"""Array libraries, devices and dtypes.

Requirements this module meets:

- beside ``_libraries`` and ``kernels`` no module names an array library;
- nothing falls back: an unknown array, a missing GPU, a mixed pair is an error that says the cure;
- the default device and dtype are context variables: safe across threads and ``async``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import numpy as np

from xpnn._dtypes import DTYPES, DType, as_dtype
from xpnn._libraries import LIBRARIES, Library, find_library, host_dtype, is_writable, put
from xpnn._namespaces import (
    NAMESPACE_OF,
    SCALAR_TYPES,
    SEVERAL,
    ArrayWrapper,
    array_namespace,
    elsewhere,
    unwrap,
    wrapper_namespace,
)
from xpnn.errors import DeviceError, DTypeError

__all__ = [
    "NAMESPACE_OF",
    "SCALAR_TYPES",
    "SEVERAL",
    "ArrayWrapper",
    "Device",
    "array_namespace",
    "as_device",
    "asarray",
    "available_devices",
    "device",
    "device_of",
    "elsewhere",
    "extent",
    "get_device",
    "get_dtype",
    "index_dtype",
    "is_writable",
    "native_dtype",
    "on_device_of",
    "on_host",
    "on_its_way",
    "put",
    "refuse_elsewhere",
    "set_device",
    "set_dtype",
    "to_device",
    "to_numpy",
    "unwrap",
    "wrapper_namespace",
]

Array = Any
Namespace = Any

# numpy.zeros(3, dtype=tensor.dtype) asks a dtype-like object for this (NumPy >= 2.4).
DType.__numpy_dtype__ = property(lambda self: np.dtype(self.name))  # type: ignore[attr-defined]


# --------------------------------------------------------------------------------- devices


class Device:
    """A device of an array library, written ``"cpu"``, ``"cuda:0"``, ``"torch:cpu"``, ...

    Compares equal to its own string and, where a library calls its device so, to the library's.

    Examples
    --------
    >>> import xpnn
    >>> xpnn.get_device() == "cpu"
    True
    """

    __slots__ = ("library", "native")

    def __init__(self, library: Library, native: Any) -> None:
        self.library = library
        self.native = native

    @property
    def xp(self) -> Namespace:
        """The namespace of the raw arrays on this device."""
        return self.library.xp

    def __str__(self) -> str:
        name = self.library.name
        return name if name == "cpu" else f"{name}:{self.library.device_name(self.native)}"

    def __repr__(self) -> str:
        return f"Device({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Device):
            return self.library is other.library and bool(self.native == other.native)
        if isinstance(other, str):
            try:
                return self == as_device(other)
            except DeviceError:
                return False
        return bool(self.native == other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return as_device, (str(self),)  # a library is a module, which is not copied


def as_device(device: Any) -> Device:
    """Return the :class:`Device` of a string such as ``"cuda:1"``, or of a library's own device.

    Raises
    ------
    DeviceError
        If the name is unknown, or the device cannot be used here; the message says why.
    """
    if isinstance(device, Device):
        return device
    if not isinstance(device, str):
        module = type(device).__module__.partition(".")[0]
        names = {"cupy": "cuda", "torch": "torch", "array_api_strict": "strict", "jaxlib": "jax"}
        if module in names:
            return Device(LIBRARIES[names[module]], device)
        msg = f"expected a device such as 'cpu' or 'cuda:0', got {device!r}."
        raise DeviceError(msg)
    name, _, spec = device.partition(":")
    library = LIBRARIES.get(name)
    if library is None or (name == "cpu" and spec):
        known = "'cpu', 'cuda', 'cuda:1', 'torch:cpu', 'jax:cpu', 'strict:device1'"
        msg = f"unknown device {device!r}; devices are written {known}."
        raise DeviceError(msg)
    try:
        return Device(library, library.native_device(spec))
    except DeviceError as error:
        msg = f"cannot use device {device!r}: {error}"
        raise DeviceError(msg) from error


_HOST = Device(LIBRARIES["cpu"], "cpu")
_HERE = nullcontext()
_device: ContextVar[Device] = ContextVar("xpnn_device", default=_HOST)


def get_device() -> Device:
    """Return the device on which new arrays and parameters are made."""
    return _device.get()


def set_device(device: Any) -> None:
    """Make new arrays and parameters on ``device`` from now on.

    Parameters
    ----------
    device : str or Device
        ``"cpu"`` (NumPy), ``"cuda"``, ``"cuda:1"`` (CuPy), ``"torch:cpu"``, ``"jax:cpu"``,
        ``"strict:device1"``.

    Raises
    ------
    DeviceError
        If the device cannot be used here. It never falls back to another one.

    Examples
    --------
    >>> import xpnn
    >>> xpnn.set_device("cpu")
    """
    chosen = as_device(device)
    scope = chosen.library.scope(chosen.native)
    if hasattr(scope, "use"):  # CuPy's device is the thread's current one
        scope.use()
    _device.set(chosen)


@contextmanager
def device(device: Any) -> Iterator[Device]:
    """Make new arrays on ``device`` inside the ``with`` block.

    Examples
    --------
    >>> import xpnn
    >>> with xpnn.device("cpu"):
    ...     x = xpnn.asarray([1.0, 2.0])
    """
    chosen = as_device(device)
    token = _device.set(chosen)
    try:
        with chosen.library.scope(chosen.native):
            yield chosen
    finally:
        _device.reset(token)


def device_of(x: Any) -> Device:
    """Return the device on which an array or a Tensor lies."""
    raw = unwrap(x)
    library = find_library(raw)
    return Device(library, library.device_of(raw))


def on_device_of(x: Any) -> Any:
    """Return the context in which operations on raw arrays run where ``x`` lies.

    Functions of Tensors go there by themselves; CuPy computes on its thread's current device.
    """
    raw = unwrap(x)
    if type(raw) in NAMESPACE_OF:
        return _HERE
    library = find_library(raw)
    return library.scope(library.device_of(raw)) if library.several else _HERE


def refuse_elsewhere(who: str, x: Any) -> None:
    """Raise an error if what computes with raw arrays would do so on another device than ``x``'s.

    Raises
    ------
    DeviceError
    """
    if type(x) not in NAMESPACE_OF and elsewhere(who, (x,)) is not None:
        here = device_of(x)
        msg = (
            f"{who}: the arrays lie on {here}, which is not the current device of this thread."
            f" Compute within `with xpnn.device('{here}'):`, or call xpnn.set_device('{here}')."
        )
        raise DeviceError(msg)


def on_host(x: Any) -> bool:
    """Return whether the values of an array can be read without waiting for a device."""
    raw = unwrap(x)
    return find_library(raw).on_host(raw)


def on_its_way(x: Any) -> Callable[[], Any]:
    """Send an array or a Tensor to the host; the function that is returned waits for it.

    What a device is told afterwards is not waited for.

    Examples
    --------
    >>> import numpy
    >>> from xpnn.backend import on_its_way
    >>> float(on_its_way(numpy.asarray(2.0))())
    2.0
    """
    return find_library(raw := unwrap(x)).on_its_way(raw)


def extent(x: Any) -> tuple[Any, Any]:
    """Return the least and the greatest number in an array that is not empty."""
    return find_library(raw := unwrap(x)).extent(raw)


def available_devices() -> list[str]:
    """Return the devices that really work here, each in the form that :func:`set_device` takes.

    Libraries that are installed are imported to find out, so the first call may take seconds.
    """
    usable = (library for library in LIBRARIES.values() if not library.status())
    return [str(Device(library, native)) for library in usable for native in library.devices()]


# ---------------------------------------------------------------------------------- dtypes

_dtype: ContextVar[DType] = ContextVar("xpnn_dtype", default=DTYPES["float32"])
_NATIVE: dict[tuple[Namespace, str], Any] = {}
_TAKES_ML_DTYPES = ("array_api_compat.numpy", "array_api_compat.cupy")


def get_dtype() -> DType:
    """Return the dtype of new floating-point arrays and parameters; float32 unless set."""
    return _dtype.get()


def set_dtype(dtype: Any) -> None:
    """Make new floating-point arrays and parameters of ``dtype`` from now on.

    Parameters
    ----------
    dtype : str or dtype
        ``"float16"`` (where the array library has it), ``"float32"`` or ``"float64"``.
    """
    chosen = as_dtype(dtype)
    if chosen.name not in ("float16", "float32", "float64"):
        msg = f"set_dtype: expected float16, float32 or float64, got {chosen}."
        raise DTypeError(msg)
    _dtype.set(chosen)


def native_dtype(xp: Namespace, dtype: Any) -> Any:
    """Return the dtype object of namespace ``xp`` for a DType, a name or a foreign dtype."""
    name = as_dtype(dtype).name
    found = _NATIVE.get((xp, name)) or getattr(xp, name, None)
    if found is None and xp.__name__ in _TAKES_ML_DTYPES:
        found = host_dtype(name)
    if found is None:
        msg = f"{xp.__name__} has no dtype {name}."
        raise DTypeError(msg)
    return _NATIVE.setdefault((xp, name), found)


# ------------------------------------------------------------------------------------ moves


def asarray(x: Any, *, device: Any = None, dtype: Any = None, copy: bool | None = None) -> Array:
    """Return an array on ``device`` (default: where it lies, else the default device).

    Parameters
    ----------
    x : array, Tensor, scalar or nested sequence
        Python floats become the default dtype, integers int64, and booleans bool; an array keeps
        its dtype unless ``dtype`` is given.
    device, dtype : optional
        As for :func:`set_device` and :func:`set_dtype`; any dtype of the standard.
    copy : bool, optional
        True forces a copy; None copies when it must.

    Examples
    --------
    >>> import xpnn
    >>> xpnn.asarray([1, 2.5]).dtype
    dtype('float32')
    """
    if isinstance(x, ArrayWrapper) or hasattr(x, "__dlpack__"):
        target = device_of(x) if device is None else as_device(device)
        moved = to_device(x, target)
    else:
        target = get_device() if device is None else as_device(device)
        host = np.asarray(x)
        if host.dtype.kind not in "biufc" and host.dtype.name not in DTYPES:
            msg = f"asarray: expected numbers, got {type(x).__name__} that holds {host.dtype}."
            raise DTypeError(msg)
        if dtype is None and host.dtype.kind in "fc" and not isinstance(x, np.generic):
            wide = get_dtype() == "float64"
            dtype = get_dtype() if host.dtype.kind == "f" else f"complex{128 if wide else 64}"
        if dtype is not None:
            host = host.astype(_host_dtype(dtype), copy=False)
        moved = target.library.from_numpy(host, target.native, None)
    xp = array_namespace(moved)
    found = as_dtype(moved.dtype)  # an error for what holds no numbers
    if dtype is not None and found is not as_dtype(dtype):
        with on_device_of(moved):
            return xp.astype(moved, native_dtype(target.xp, dtype))
    if copy and moved is x:
        with on_device_of(moved):
            return xp.asarray(moved, copy=True)
    return moved


def _host_dtype(dtype: Any) -> Any:
    return native_dtype(LIBRARIES["cpu"].xp, dtype)


def to_numpy(x: Any) -> Any:
    """Return a NumPy array with the values of an array, a Tensor, or a nested sequence.

    On the host it may share memory with ``x``.
    """
    raw = unwrap(x)
    if isinstance(raw, (np.ndarray, list, tuple, bool, int, float, complex)):
        return np.asarray(raw)
    return find_library(raw).to_numpy(raw)


def to_device(x: Any, device: Any) -> Any:
    """Move an array or a Tensor to a device; it comes back as it is if it lies there already.

    A Tensor stays on the tape: the gradient travels back to the device it came from.
    """
    target = as_device(device)
    if isinstance(x, ArrayWrapper):
        return x.to_device(target)  # type: ignore[attr-defined]
    source = device_of(x)
    return x if source == target else source.library.move(x, target.library, target.native)


def index_dtype(device: Any) -> Any:
    """Return the integer dtype of a device's own, in which it counts and indexes."""
    target = as_device(device)
    defaults = target.xp.__array_namespace_info__().default_dtypes(device=target.native)
    return native_dtype(target.xp, defaults["integral"])
