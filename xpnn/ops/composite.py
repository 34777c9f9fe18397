"""Functions of several arrays or with optional ones, put together from primitives."""

from __future__ import annotations

from typing import Any

from xpnn._dtypes import as_dtype
from xpnn.autograd.record import apply
from xpnn.ops._lift import lift
from xpnn.ops.inspection import broadcast_shapes
from xpnn.primitives import elementwise, indexing, shape

__all__ = ["broadcast_arrays", "clip", "concat", "diff", "moveaxis", "sign", "stack", "tile"]

Array = Any
_reshape, _broadcast_to = lift(shape.reshape), lift(shape.broadcast_to)


def clip(x: Array, /, min: Any = None, max: Any = None) -> Any:
    """Elements of ``x``, moved into [min, max]; a bound is an array, a scalar or None."""
    return apply(elementwise.clip, (x, min, max))


def sign(x: Array, /) -> Any:
    """Sign of each element; for complex numbers x / abs(x), which alone has a derivative."""
    steps = as_dtype(x.dtype).kind != "c"
    return apply(elementwise.STEPS["sign"] if steps else elementwise.complex_sign, (x,))


def concat(arrays: Any, /, *, axis: int | None = 0) -> Any:
    """Join arrays along an existing axis; flattened, if ``axis`` is None."""
    if axis is None:
        arrays, axis = [_reshape(x, (-1,)) for x in arrays], 0
    return apply(shape.concat, tuple(arrays), {"axis": axis})


def stack(arrays: Any, /, *, axis: int = 0) -> Any:
    """Join arrays along a new axis."""
    return apply(shape.stack, tuple(arrays), {"axis": axis})


def broadcast_arrays(*arrays: Array) -> tuple[Any, ...]:
    """Broadcast arrays against one another."""
    common = broadcast_shapes(*(x.shape for x in arrays))
    return tuple(_broadcast_to(x, common) for x in arrays)


def moveaxis(x: Array, source: Any, destination: Any, /) -> Any:
    """Move axes to other places."""
    return apply(shape.moveaxis, (x,), {"source": source, "destination": destination})


def tile(x: Array, repetitions: tuple[int, ...], /) -> Any:
    """Lay copies of ``x`` side by side."""
    return apply(shape.tile, (x,), {"repetitions": repetitions})


def diff(
    x: Array,
    /,
    *,
    axis: int = -1,
    n: int = 1,
    prepend: Array | None = None,
    append: Array | None = None,
) -> Any:
    """Differences of neighbours along an axis, ``n`` times over."""
    parts = [part for part in (prepend, x, append) if part is not None]
    if len(parts) > 1:
        x = concat(parts, axis=axis)
    before = (slice(None),) * (axis % x.ndim)
    for _ in range(n):
        later = apply(indexing.getitem, (x,), {"key": (*before, slice(1, None), ...)})
        earlier = apply(indexing.getitem, (x,), {"key": (*before, slice(None, -1), ...)})
        x = apply(elementwise.subtract, (later, earlier))
    return x
