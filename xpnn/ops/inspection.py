"""What dtypes hold, how they promote, and what the namespace can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xpnn import backend
from xpnn._dtypes import DTYPES, DType, as_dtype
from xpnn.backend import native_dtype, unwrap
from xpnn.ops.creation import default_complex, default_int

__all__ = [
    "FInfo",
    "IInfo",
    "Info",
    "__array_namespace_info__",
    "broadcast_shapes",
    "can_cast",
    "finfo",
    "iinfo",
    "isdtype",
    "result_type",
]

_KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "c",
    "numeric": "iufc",
}


@dataclass(frozen=True)
class FInfo:
    """Limits of a floating-point dtype; for a complex one, of its parts."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


@dataclass(frozen=True)
class IInfo:
    """Limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: DType


_FLOATS = {"float16": (10, 15), "bfloat16": (7, 127), "float32": (23, 127), "float64": (52, 1023)}
_PARTS = {"complex64": "float32", "complex128": "float64"}


def _dtype_of(x: Any) -> DType:
    return as_dtype(getattr(x, "dtype", x))


def finfo(type: Any, /) -> FInfo:
    """Return the limits of a floating-point dtype, or of the dtype of an array."""
    dtype = _dtype_of(type)
    name = _PARTS.get(dtype.name, dtype.name)
    if name not in _FLOATS:
        msg = f"finfo: expected a floating-point dtype, got {dtype}."
        raise TypeError(msg)
    digits, top = _FLOATS[name]
    largest = (2.0 - 2.0**-digits) * 2.0**top
    part = DTYPES[name]
    return FInfo(part.itemsize * 8, 2.0**-digits, largest, -largest, 2.0 ** (1 - top), part)


def iinfo(type: Any, /) -> IInfo:
    """Return the limits of an integer dtype, or of the dtype of an array."""
    dtype = _dtype_of(type)
    if dtype.kind not in "iu":
        msg = f"iinfo: expected an integer dtype, got {dtype}."
        raise TypeError(msg)
    bits = dtype.itemsize * 8
    if dtype.kind == "u":
        return IInfo(bits, 2**bits - 1, 0, dtype)
    return IInfo(bits, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), dtype)


def isdtype(dtype: Any, kind: Any) -> bool:
    """Return whether a dtype is of a kind, such as "real floating", or equals another dtype."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str) and kind not in DTYPES:
        if kind not in _KINDS:
            msg = f"isdtype: unknown kind {kind!r}; kinds are {', '.join(_KINDS)}."
            raise ValueError(msg)
        return as_dtype(dtype).kind in _KINDS[kind]
    return as_dtype(dtype) is as_dtype(kind)


def _native(x: Any) -> Any:
    """Return an operand for the default library: raw array, native dtype, or scalar."""
    if isinstance(x, (bool, int, float, complex)):
        return x
    dtype = _dtype_of(unwrap(x))
    return native_dtype(backend.get_device().xp, dtype)


def can_cast(from_: Any, to: Any, /) -> bool:
    """Return whether a dtype casts to another under the promotion rules of the standard."""
    xp = backend.get_device().xp
    return bool(xp.can_cast(_native(from_), _native(to)))


def result_type(*arrays_and_dtypes: Any) -> DType:
    """Return the dtype to which arrays, dtypes and scalars promote."""
    xp = backend.get_device().xp
    return as_dtype(xp.result_type(*(_native(x) for x in arrays_and_dtypes)))


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape to which shapes broadcast."""
    ndim = max((len(s) for s in shapes), default=0)
    out = [1] * ndim
    for shape in shapes:
        for i, n in enumerate(shape, ndim - len(shape)):
            if n != 1 and out[i] not in (1, n):
                msg = f"broadcast_shapes: {shapes} do not broadcast together."
                raise ValueError(msg)
            out[i] = n if out[i] == 1 else out[i]
    return tuple(out)


class Info:
    """The inspection interface of the standard."""

    def capabilities(self) -> dict[str, Any]:
        """Return what the default library can do, such as boolean indexing."""
        native = backend.get_device().xp
        if hasattr(native, "__array_namespace_info__"):
            return dict(native.__array_namespace_info__().capabilities())
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> Any:
        """Return the device on which new arrays are made."""
        return backend.get_device()

    def devices(self) -> tuple[Any, ...]:
        """Return the devices of the default library."""
        library = backend.get_device().library
        return tuple(backend.Device(library, native) for native in library.devices())

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType]:
        """Return the dtypes that new arrays get."""
        target = backend.get_device() if device is None else backend.as_device(device)
        return {
            "real floating": backend.get_dtype(),
            "complex floating": default_complex(),
            "integral": default_int(target),
            "indexing": default_int(target),
        }

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, DType]:
        """Return the dtypes of a device, by name, all or those of a kind."""
        target = backend.get_device() if device is None else backend.as_device(device)
        info = target.xp.__array_namespace_info__()
        return {n: as_dtype(d) for n, d in info.dtypes(device=target.native, kind=kind).items()}


def __array_namespace_info__() -> Info:
    """Return the inspection interface of the standard."""
    return Info()
