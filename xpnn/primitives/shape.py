"""Functions that move elements without computing with them."""

from __future__ import annotations

from typing import Any

from xpnn.primitives.base import Primitive, cast, primitive, summed, unbroadcast

Array = Any


@primitive()
def broadcast_to(xp: Any, x: Array, /, shape: tuple[int, ...]) -> Array:
    """Repeat ``x`` along new and length-1 axes, without a copy."""
    return xp.broadcast_to(x, shape)


broadcast_to.d(lambda xp, g, x_shape: unbroadcast(xp, g, x_shape))


@primitive()
def reshape(xp: Any, x: Array, /, shape: tuple[int, ...], *, copy: bool | None = None) -> Array:
    """Give ``x`` another shape with the same number of elements, in row-major order."""
    return xp.reshape(x, shape, copy=copy)


reshape.d(lambda xp, g, x_shape: xp.reshape(g, x_shape))


@primitive()
def expand_dims(xp: Any, x: Array, /, axis: int | tuple[int, ...] = 0) -> Array:
    """Insert axes of length 1."""
    return xp.expand_dims(x, axis=axis)


expand_dims.d(lambda xp, g, x_shape: xp.reshape(g, x_shape))


@primitive()
def squeeze(xp: Any, x: Array, /, axis: int | tuple[int, ...]) -> Array:
    """Remove axes of length 1."""
    return xp.squeeze(x, axis=axis)


squeeze.d(lambda xp, g, x_shape: xp.reshape(g, x_shape))


@primitive()
def permute_dims(xp: Any, x: Array, /, axes: tuple[int, ...]) -> Array:
    """Put the axes in another order."""
    return xp.permute_dims(x, axes)


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    positive = [a % len(axes) for a in axes]
    return tuple(sorted(range(len(axes)), key=positive.__getitem__))


permute_dims.d(lambda xp, g, axes: xp.permute_dims(g, _inverse(axes)))


@primitive()
def moveaxis(
    xp: Any, x: Array, /, source: int | tuple[int, ...], destination: int | tuple[int, ...]
) -> Array:
    """Move axes to other places."""
    return xp.moveaxis(x, source, destination)


moveaxis.d(lambda xp, g, source, destination: xp.moveaxis(g, destination, source))


@primitive()
def matrix_transpose(xp: Any, x: Array, /) -> Array:
    """Swap the last two axes."""
    return xp.matrix_transpose(x)


matrix_transpose.d(lambda xp, g: xp.matrix_transpose(g))


@primitive()
def flip(xp: Any, x: Array, /, *, axis: int | tuple[int, ...] | None = None) -> Array:
    """Reverse the order along axes."""
    return xp.flip(x, axis=axis)


flip.d(lambda xp, g, axis: xp.flip(g, axis=axis))


@primitive()
def roll(
    xp: Any,
    x: Array,
    /,
    shift: int | tuple[int, ...],
    *,
    axis: int | tuple[int, ...] | None = None,
) -> Array:
    """Shift elements along axes; what leaves at the end enters at the start."""
    return xp.roll(x, shift, axis=axis)


roll.d(
    lambda xp, g, shift, axis: xp.roll(
        g, -shift if isinstance(shift, int) else tuple(-s for s in shift), axis=axis
    )
)


@primitive()
def tril(xp: Any, x: Array, /, *, k: int = 0) -> Array:
    """Lower triangle of matrices, zero above diagonal ``k``."""
    return xp.tril(x, k=k)


@primitive()
def triu(xp: Any, x: Array, /, *, k: int = 0) -> Array:
    """Upper triangle of matrices, zero below diagonal ``k``."""
    return xp.triu(x, k=k)


tril.d(lambda xp, g, k: xp.tril(g, k=k))
triu.d(lambda xp, g, k: xp.triu(g, k=k))


@primitive()
def tile(xp: Any, x: Array, /, repetitions: tuple[int, ...]) -> Array:
    """Lay copies of ``x`` side by side."""
    return xp.tile(x, repetitions)


def _tile_vjp(xp: Any, g: Array, x_shape: tuple[int, ...], repetitions: tuple[int, ...]) -> Array:
    ndim = max(len(x_shape), len(repetitions))
    lengths = (1,) * (ndim - len(x_shape)) + x_shape
    counts = (1,) * (ndim - len(repetitions)) + tuple(repetitions)
    pairs = tuple(n for pair in zip(counts, lengths, strict=True) for n in pair)
    total = summed(xp, xp.reshape(g, pairs), tuple(range(0, 2 * ndim, 2)))
    return xp.reshape(total, x_shape)


tile.d(_tile_vjp)


@primitive()
def concat(xp: Any, *arrays: Array, axis: int = 0) -> Array:
    """Join arrays along an existing axis."""
    return xp.concat(arrays, axis=axis)


@concat.vjp
def _concat_vjp(
    xp: Any, g: Array, needs: list[bool], arrays_shape: list[tuple[int, ...]], axis: int
) -> list[Array | None]:
    axis %= len(arrays_shape[0])
    grads, start = [], 0
    for need, shape in zip(needs, arrays_shape, strict=True):
        stop = start + shape[axis]
        grads.append(g[(slice(None),) * axis + (slice(start, stop), ...)] if need else None)
        start = stop
    return grads


@primitive()
def stack(xp: Any, *arrays: Array, axis: int = 0) -> Array:
    """Join arrays along a new axis."""
    return xp.stack(arrays, axis=axis)


@stack.vjp
def _stack_vjp(xp: Any, g: Array, needs: list[bool], axis: int) -> list[Array | None]:
    return list(xp.unstack(g, axis=axis))


@primitive()
def unstack(xp: Any, x: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
    """Split an array along an axis, which goes away."""
    return tuple(xp.unstack(x, axis=axis))


@unstack.vjp
def _unstack_vjp(
    xp: Any, g: tuple[Array | None, ...], needs: list[bool], axis: int
) -> tuple[Array]:
    some = next(x for x in g if x is not None)
    return (stack(xp, *(xp.zeros_like(some) if x is None else x for x in g), axis=axis),)


@primitive()
def to_device(xp: Any, x: Array, /, source: Any, target: Any) -> Array:
    """Move an array from the device ``source`` to the device ``target``."""
    return source.library.move(x, target.library, target.native)


def _to_device_vjp(xp: Any, g: Array, x_dtype: Any, source: Any, target: Any) -> Array:
    back = to_device(xp, g, source=target, target=source)
    return cast(xp, back, x_dtype)  # a library may have had no float64


to_device.d(_to_device_vjp)


__all__ = [name for name, value in globals().items() if isinstance(value, Primitive)]
