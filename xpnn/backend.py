"""Array libraries, devices and dtypes.

Requirements this module meets:

- beside ``_libraries`` and ``kernels`` no module names an array library;
- nothing falls back: an unknown array, a missing GPU, a mixed pair is an error that says the cure;
- the default device and dtype are context variables: safe across threads and ``async``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from xpnn._dtypes import DTYPES, DType, as_dtype
from xpnn._libraries import LIBRARIES, Library, find_library, host_dtype, is_writable, put
from xpnn.errors import DeviceError, DTypeError

__all__ = [
    "NAMESPACE_OF",
    "SCALAR_TYPES",
    "ArrayWrapper",
    "Device",
    "array_namespace",
    "as_device",
    "asarray",
    "available_devices",
    "device",
    "device_of",
    "extent",
    "get_device",
    "get_dtype",
    "index_dtype",
    "is_writable",
    "native_dtype",
    "on_host",
    "put",
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


class ArrayWrapper:
    """What holds a raw array in ``data``: the differentiable Tensor derives from it."""

    __slots__ = ("data",)
    data: Array


def unwrap(x: Any) -> Any:
    """Return the raw array inside a Tensor, and anything else as it is."""
    return x.data if isinstance(x, ArrayWrapper) else x


NAMESPACE_OF: dict[type, Namespace] = {}
# Scalars that NumPy gives where the standard asks for a 0-d array; `scalar[...]` is that array.
SCALAR_TYPES = frozenset(np.dtype(code).type for code in "?bhilqBHILQefdFD")


def array_namespace(*xs: Any) -> Namespace:
    """Return the standard namespace of arrays: ``xpnn.ops`` if one is a Tensor.

    Python scalars and None are passed over. Arrays of one library mix with its Tensors.

    Raises
    ------
    DeviceError
        If arrays of two libraries are given.
    DTypeError
        If something is not an array, or nothing is.

    Examples
    --------
    >>> import numpy, xpnn
    >>> xpnn.array_namespace(numpy.ones(3)).__name__
    'array_api_compat.numpy'
    """
    found = None
    wrapped = None
    for x in xs:
        if isinstance(x, ArrayWrapper):
            wrapped = x
            x = x.data
        elif x is None or isinstance(x, (bool, int, float, complex)):
            if type(x).__module__ == "builtins":
                continue
        xp = NAMESPACE_OF.get(type(x))
        if xp is None:
            xp = NAMESPACE_OF[type(x)] = find_library(x).xp
        if found is None:
            found = xp
        elif found is not xp:
            msg = (
                f"arrays of two libraries meet: {found.__name__} and {xp.__name__}."
                " Move one of them, for example with xpnn.to_device(x, xpnn.get_device())."
            )
            raise DeviceError(msg)
    if found is None:
        msg = "expected at least one array, got only scalars."
        raise DTypeError(msg)
    return found if wrapped is None else wrapper_namespace(wrapped)


def wrapper_namespace(x: Any) -> Namespace:
    """Return the namespace that a wrapper announces for itself."""
    return x.__array_namespace__()


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


def on_host(x: Any) -> bool:
    """Return whether the values of an array can be read without waiting for a device."""
    raw = unwrap(x)
    return find_library(raw).on_host(raw)


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
        return xp.astype(moved, native_dtype(target.xp, dtype))
    return xp.asarray(moved, copy=True) if copy and moved is x else moved


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
    if device_of(x) == target:
        return x
    return target.library.from_numpy(to_numpy(x), target.native, None)


def index_dtype(device: Any) -> Any:
    """Return the integer dtype of a device's own, in which it counts and indexes."""
    target = as_device(device)
    defaults = target.xp.__array_namespace_info__().default_dtypes(device=target.native)
    return native_dtype(target.xp, defaults["integral"])
