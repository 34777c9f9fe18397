"""CUDA kernels of batch normalization, with channels on any axis, and the ReLU behind it."""

from __future__ import annotations

from typing import Any

from xpnn.kernels.cupy_channels import Layout, launch, of_channels
from xpnn.kernels.cupy_launch import contiguous, cupy, wide
from xpnn.kernels.cupy_windows import REAL

__all__ = [
    "batch_norm",
    "batch_norm_accepts",
    "batch_norm_inference",
    "batch_norm_inference_accepts",
    "batch_norm_inference_vjp",
    "batch_norm_vjp",
]

Array = Any


def batch_norm_accepts(
    x: Array,
    scale: Array | None,
    shift: Array | None,
    *,
    axes: tuple[int, ...],
    epsilon: float,
    rectified: bool,
) -> bool:
    """Whether one axis is left, and scale and shift are as precise as x, or as what is computed."""
    return _accepts(x, axes, scale, shift)


def _accepts(x: Array, axes: tuple[int, ...], *vectors: Array | None) -> bool:
    if x.dtype.name not in REAL or x.size == 0 or x.size >= 1 << 32:
        return False
    if len({a % x.ndim for a in axes}) != x.ndim - 1:
        return False
    channels, dtypes = x.shape[_channel_axis(x, axes)], (x.dtype.name, wide(x.dtype))
    given = [v for v in vectors if v is not None]
    return all(v.shape == (channels,) and v.dtype.name in dtypes for v in given)


def batch_norm(
    xp: Any,
    x: Array,
    scale: Array | None,
    shift: Array | None,
    *,
    axes: tuple[int, ...],
    epsilon: float,
    rectified: bool,
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
    x = contiguous(x)
    y, a = cupy().empty_like(x), wide(x.dtype)
    axis = _channel_axis(x, axes)
    layout, channels = Layout.of(axis, x), x.shape[axis]
    parts = cupy().empty((channels, layout.parts, 3), a)
    mean, var, inverse = (cupy().empty(channels, a) for _ in range(3))
    launch("moments", x.dtype, layout, x, parts)
    of_channels(
        "statistics", x.dtype, channels,
        parts, mean, var, inverse, channels, layout.parts, float(epsilon),
    )  # fmt: skip
    vectors = mean, inverse, _vector(scale, a), _vector(shift, a)
    launch("mapped", x.dtype, Layout.of(axis, x, y, steps=4), x, *vectors, y, int(rectified))
    return (y, mean, var), (mean, inverse)


batch_norm.residual = True  # type: ignore[attr-defined]


def batch_norm_vjp(
    xp: Any,
    g: tuple[Array | None, Array | None, Array | None],
    needs: list[bool],
    res: tuple[Array, Array],
    x: Array,
    scale: Array | None,
    shift: Array | None,
    axes: tuple[int, ...],
    rectified: bool,
) -> tuple[Array | None, ...]:
    mean, inverse = res
    x, a, axis = contiguous(x), wide(x.dtype), _channel_axis(x, axes)
    channels, places = len(mean), x.size // len(mean)
    g_y = None if g[0] is None else contiguous(g[0].astype(x.dtype, copy=False))
    g_mean, g_var = (_vector(v, a) for v in g[1:])
    vectors = mean, inverse, _vector(scale, a), _vector(shift, a)
    parts, count, flag = None, 0, int(rectified)
    if g_y is not None:
        layout = Layout.of(axis, x, g_y)
        parts, count = cupy().empty((channels, layout.parts, 2), a), layout.parts
        launch("products", x.dtype, layout, g_y, x, *vectors, parts, flag)
    d_scale, d_shift, slope, level = cupy().empty((4, channels), a)
    of_channels(
        "slopes", x.dtype, channels, parts, inverse, vectors[2], g_mean, g_var,
        d_scale, d_shift, slope, level, channels, count, float(places),
    )  # fmt: skip
    dx = None
    if needs[0]:
        dx = cupy().empty_like(x)
        layout = Layout.of(axis, x, dx, *([] if g_y is None else [g_y]), steps=4)
        launch("batch_dx", x.dtype, layout, g_y, x, *vectors, slope, level, dx, flag)
    if g_y is None:
        return dx, None, None
    return (
        dx,
        d_scale.astype(scale.dtype, copy=False) if needs[1] and scale is not None else None,
        d_shift.astype(shift.dtype, copy=False) if needs[2] and shift is not None else None,
    )


# ---------------------------------------------------------------------- with given statistics


def batch_norm_inference_accepts(
    x: Array,
    mean: Array,
    var: Array,
    scale: Array | None,
    shift: Array | None,
    *,
    axes: tuple[int, ...],
    epsilon: float,
) -> bool:
    """Whether one axis is left, and all others are as precise as x, or as what is computed."""
    return _accepts(x, axes, mean, var, scale, shift)


def batch_norm_inference(
    xp: Any,
    x: Array,
    mean: Array,
    var: Array,
    scale: Array | None,
    shift: Array | None,
    *,
    axes: tuple[int, ...],
    epsilon: float,
) -> Array:
    return _inferred(contiguous(x), mean, var, scale, shift, axes, epsilon)


def batch_norm_inference_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    x: Array,
    mean: Array,
    var: Array,
    scale: Array | None,
    shift: Array | None,
    axes: tuple[int, ...],
    epsilon: float,
) -> tuple[Array | None, ...]:
    g, x = contiguous(g.astype(x.dtype, copy=False)), contiguous(x)
    # the same map, of g, without mean and shift
    dx = _inferred(g, None, var, scale, None, axes, epsilon) if needs[0] else None
    vectors = mean, var, scale, shift
    wanted = [need and v is not None for need, v in zip(needs[1:], vectors, strict=True)]
    if not any(wanted):
        return dx, None, None, None, None
    a, axis = wide(x.dtype), _channel_axis(x, axes)
    layout, channels = Layout.of(axis, x, g), x.shape[axis]
    parts, found = cupy().empty((channels, layout.parts, 2), a), cupy().empty((4, channels), a)
    mean, var, scale = (_vector(v, a) for v in vectors[:3])
    launch("products", x.dtype, layout, g, x, mean, var, None, None, parts, 0)
    of_channels(
        "inferred_sums", x.dtype, channels,
        parts, var, scale, *found, channels, layout.parts, float(epsilon),
    )  # fmt: skip
    grads = zip(found, vectors, wanted, strict=True)
    return dx, *(d.astype(v.dtype, copy=False) if want else None for d, v, want in grads)


def _inferred(
    x: Array, mean: Array | None, var: Array, scale: Array | None, shift: Array | None,
    axes: tuple[int, ...], epsilon: float,
) -> Array:  # fmt: skip
    y, axis = cupy().empty_like(x), _channel_axis(x, axes)
    vectors = (_vector(v, wide(x.dtype)) for v in (mean, var, scale, shift))
    layout = Layout.of(axis, x, y, steps=4)
    launch("inferred", x.dtype, layout, x, *vectors, y, float(epsilon))
    return y


def _channel_axis(x: Array, axes: tuple[int, ...]) -> int:
    """Return the axis that is not among those of the statistics."""
    (axis,) = set(range(x.ndim)) - {a % x.ndim for a in axes}
    return axis


def _vector(v: Array | None, dtype: str) -> Array | None:
    return v if v is None else contiguous(v.astype(dtype, copy=False))
