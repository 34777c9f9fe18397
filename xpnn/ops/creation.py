"""Creation functions: new Tensors, on the default device unless another array says where."""

from __future__ import annotations

from typing import Any

from xpnn import backend, kernels
from xpnn._cuda import retell
from xpnn._dtypes import DTYPES, as_dtype
from xpnn.autograd.record import apply, wrap
from xpnn.autograd.tensor import Tensor
from xpnn.backend import array_namespace, native_dtype, unwrap
from xpnn.errors import GraphError
from xpnn.ops._lift import lift
from xpnn.primitives import elementwise, shape

__all__ = [
    "arange",
    "asarray",
    "astype",
    "default_complex",
    "default_int",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "full",
    "full_like",
    "linspace",
    "meshgrid",
    "ones",
    "ones_like",
    "tril",
    "triu",
    "zeros",
    "zeros_like",
]

Array = Any


def default_complex() -> Any:
    """Return the complex dtype of the default floating-point dtype's precision."""
    return DTYPES["complex128" if backend.get_dtype() == "float64" else "complex64"]


def default_int(device: Any) -> Any:
    """Return the integer dtype that the library of a device gives to Python integers."""
    return as_dtype(backend.index_dtype(device))


def _new(name: str, *args: Any, dtype: Any, device: Any, **params: Any) -> Tensor:
    """Call the creation function ``name`` of the device's library."""
    target = backend.get_device() if device is None else backend.as_device(device)
    xp = target.xp
    dtype = default_int(target) if dtype is None else dtype
    try:
        with target.library.scope(target.native):
            make = getattr(xp, name) if name != "linspace" else _kernel(xp, name) or xp.linspace
            made = make(*args, dtype=native_dtype(xp, dtype), device=target.native, **params)
    except MemoryError as error:
        retell(error)
    return wrap(made)


def _kernel(xp: Any, name: str) -> Any:
    """Return what stands in for a function of a library that does less than the standard says."""
    return getattr(kernels.load(xp.__name__), name, None)


def _like(name: str, x: Any, *args: Any, dtype: Any, device: Any) -> Any:
    """Call the creation function ``name`` for the shape, dtype and device of ``x``."""
    dtype = x.dtype if dtype is None else dtype
    if not isinstance(x, Tensor):
        xp = array_namespace(x)
        device = backend.device_of(x).native if device is None else backend.as_device(device).native
        return getattr(xp, name)(x, *args, dtype=native_dtype(xp, dtype), device=device)
    return _new(name.removesuffix("_like"), x.shape, *args, dtype=dtype, device=device or x.device)


def _dtype_of_scalars(*values: Any) -> Any:
    if any(isinstance(v, complex) for v in values):
        return default_complex()
    if any(isinstance(v, float) for v in values):
        return backend.get_dtype()
    return DTYPES["bool"] if all(isinstance(v, bool) for v in values) else None


def asarray(
    obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None
) -> Tensor:
    """Make a Tensor of a scalar, a nested sequence or an array."""
    if isinstance(obj, Tensor):
        moved = obj if device is None else obj.to_device(device)
        if dtype is not None and moved.dtype != dtype:
            if copy is False:
                msg = f"asarray(copy=False): a copy is needed to cast {moved.dtype} to {dtype}."
                raise ValueError(msg)
            return astype(moved, dtype)
        if copy and moved is obj:
            return apply(elementwise.positive, (obj,)) if obj.requires_grad else _copied(obj)
        return moved
    if copy is False and not hasattr(obj, "__dlpack__"):
        msg = "asarray(copy=False): a copy is needed to make an array of scalars or sequences."
        raise ValueError(msg)
    if copy is False and dtype is not None and as_dtype(obj.dtype) != as_dtype(dtype):
        msg = f"asarray(copy=False): a copy is needed to cast {obj.dtype} to {dtype}."
        raise ValueError(msg)
    if isinstance(obj, (list, tuple)):
        obj = _unwrapped(obj)
    return wrap(backend.asarray(obj, dtype=dtype, device=device, copy=copy))


def _copied(x: Tensor) -> Tensor:
    return wrap(array_namespace(x.data).asarray(x.data, copy=True))


def _unwrapped(obj: Any) -> Any:
    if isinstance(obj, (list, tuple)):
        return [_unwrapped(x) for x in obj]
    if isinstance(obj, Tensor) and obj.requires_grad:
        msg = "asarray of a list of Tensors would leave the tape; join them with ops.stack(...)."
        raise GraphError(msg)
    return obj.item() if isinstance(obj, Tensor) else obj


def arange(
    start: float,
    /,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Numbers from ``start`` to ``stop``, ``step`` apart."""
    if dtype is None:
        dtype = _dtype_of_scalars(start, stop, step)
    if stop is None:
        start, stop = 0, start
    return _new("arange", start, stop, step, dtype=dtype, device=device)


def linspace(
    start: complex,
    stop: complex,
    /,
    num: int,
    *,
    dtype: Any = None,
    device: Any = None,
    endpoint: bool = True,
) -> Tensor:
    """``num`` evenly spaced numbers from ``start`` to ``stop``."""
    if dtype is None:
        dtype = _dtype_of_scalars(1.0, start, stop)
    return _new("linspace", start, stop, num, dtype=dtype, device=device, endpoint=endpoint)


def eye(
    n_rows: int,
    n_cols: int | None = None,
    /,
    *,
    k: int = 0,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Ones on diagonal ``k`` of a matrix, zeros elsewhere."""
    dtype = backend.get_dtype() if dtype is None else dtype
    return _new("eye", n_rows, n_cols, k=k, dtype=dtype, device=device)


def empty(shape: int | tuple[int, ...], *, dtype: Any = None, device: Any = None) -> Tensor:
    """Array whose values nobody set."""
    return _new("empty", shape, dtype=dtype or backend.get_dtype(), device=device)


def zeros(shape: int | tuple[int, ...], *, dtype: Any = None, device: Any = None) -> Tensor:
    """Array of zeros."""
    return _new("zeros", shape, dtype=dtype or backend.get_dtype(), device=device)


def ones(shape: int | tuple[int, ...], *, dtype: Any = None, device: Any = None) -> Tensor:
    """Array of ones."""
    return _new("ones", shape, dtype=dtype or backend.get_dtype(), device=device)


def full(
    shape: int | tuple[int, ...], fill_value: complex, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """Array filled with one value."""
    dtype = _dtype_of_scalars(fill_value) if dtype is None else dtype
    return _new("full", shape, fill_value, dtype=dtype, device=device)


def empty_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Any:
    """Array of the shape of ``x`` whose values nobody set."""
    return _like("empty_like", x, dtype=dtype, device=device)


def zeros_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Any:
    """Zeros of the shape of ``x``."""
    return _like("zeros_like", x, dtype=dtype, device=device)


def ones_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Any:
    """Ones of the shape of ``x``."""
    return _like("ones_like", x, dtype=dtype, device=device)


def full_like(x: Array, /, fill_value: complex, *, dtype: Any = None, device: Any = None) -> Any:
    """One value in the shape of ``x``."""
    return _like("full_like", x, fill_value, dtype=dtype, device=device)


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """Make a Tensor of an array of any library that speaks DLPack, without a copy if it can."""
    if isinstance(x, Tensor) and x.requires_grad:
        msg = "from_dlpack of a Tensor that requires a gradient would leave the tape; detach it."
        raise GraphError(msg)
    raw = unwrap(x)
    target = backend.get_device() if device is None else backend.as_device(device)
    told = device is not None
    kernel = _kernel(target.xp, "from_dlpack")
    if kernel is not None:
        try:
            return wrap(kernel(raw, target, copy, told))
        except MemoryError as error:
            retell(error)
    options: dict[str, Any] = {} if copy is None else {"copy": copy}
    if told:
        options["device"] = target.native
    return wrap(target.xp.from_dlpack(raw, **options))


def meshgrid(*arrays: Array, indexing: str = "xy") -> tuple[Array, ...]:
    """Coordinate grids of one-dimensional arrays."""
    count = len(arrays)
    swap = indexing == "xy" and count > 1
    if indexing not in ("xy", "ij"):
        msg = f"meshgrid: 'indexing' must be 'xy' or 'ij', got {indexing!r}."
        raise ValueError(msg)
    places = [1, 0, *range(2, count)] if swap else list(range(count))
    lengths = [arrays[i].shape[0] if arrays[i].ndim else 1 for i in places]
    grids = []
    for place, x in zip(places, arrays, strict=True):
        column = tuple(-1 if i == place else 1 for i in range(count))
        grids.append(_broadcast_to(_reshape(x, column), tuple(lengths)))
    return tuple(grids)


_reshape, _broadcast_to = lift(shape.reshape), lift(shape.broadcast_to)
tril, triu = lift(shape.tril), lift(shape.triu)


def astype(x: Array, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    """Cast an array; the gradient is cast back."""
    dtype = as_dtype(dtype)
    if isinstance(x, Tensor):
        if device is not None:
            x = x.to_device(device)
        if x.dtype == dtype and not copy:
            return x
        native = native_dtype(array_namespace(x.data), dtype)
        if not dtype.is_inexact:
            x = x.detach()
        return apply(elementwise.astype, (x,), {"dtype": native, "copy": copy})
    xp = array_namespace(x)
    return xp.astype(x, native_dtype(xp, dtype), copy=copy)
