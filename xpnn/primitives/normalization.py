"""Normalization over any axes, and of batches: with their own statistics, or with given ones."""

from __future__ import annotations

import math
from typing import Any

from xpnn.errors import ShapeError
from xpnn.primitives.base import primitive, unbroadcast, wide

__all__ = ["batch_norm", "batch_norm_inference", "normalize"]

Array = Any
Shape = tuple[int, ...]


def _channel_axis(x_shape: Shape, axes: tuple[int, ...], *channels: Array | None) -> Shape:
    """Return ``x_shape`` with length 1 on all axes but that of the channels."""
    ndim = len(x_shape)
    reduced = {a % ndim for a in axes}
    left = [i for i in range(ndim) if i not in reduced]
    if len(left) != 1:
        msg = (
            f"batch_norm: expected axes to be all axes of x but that of the channels, got {axes}"
            f" for x of shape {tuple(x_shape)}. With channels last, use {tuple(range(ndim - 1))}."
        )
        raise ShapeError(msg)
    n = x_shape[left[0]]
    for vector in channels:
        if vector is not None and tuple(vector.shape) != (n,):
            msg = (
                f"batch_norm: expected a value a channel, ({n},), for x of shape {tuple(x_shape)}"
                f" with the statistics over axes {axes}, got {tuple(vector.shape)}. Is the layer"
                " built for other channels, or are the channels on another axis?"
            )
            raise ShapeError(msg)
    return tuple(n if i == left[0] else 1 for i in range(ndim))


def _like(xp: Any, x: Array, dtype: Any) -> Array:
    return x if x.dtype == dtype else xp.astype(x, dtype)


@primitive(residual=True)
def normalize(
    xp: Any,
    x: Array,
    scale: Array | None,
    shift: Array | None,
    /,
    *,
    axes: tuple[int, ...],
    epsilon: float = 1e-5,
    centered: bool = True,
) -> tuple[Array, tuple[Array | None, Array]]:
    r"""Normalise over axes: what layer, group, instance and RMS normalization have in common.

    .. math:: y = \gamma \hat x + \beta, \quad
              \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \quad
              \mu = \frac1n \sum x, \quad \sigma^2 = \frac1n \sum (x - \mu)^2

    with :math:`\mu = 0` if not ``centered``. x, scale and shift (or None), which broadcast against
    x -> y like x. The sums are over the n elements along ``axes``, in float32 at least, and the
    variance is that of the deviations. What is kept is the mean, and one over the standard
    deviation.
    """
    single = wide(xp, x)
    mean = xp.mean(single, axis=axes, keepdims=True) if centered else None
    deviation = single if mean is None else single - mean
    inverse = 1.0 / xp.sqrt(xp.mean(deviation * deviation, axis=axes, keepdims=True) + epsilon)
    y = deviation * inverse
    if scale is not None:
        y = y * scale
    if shift is not None:
        y = y + shift
    return _like(xp, y, x.dtype), (mean, inverse)


@normalize.vjp
def _normalize_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    res: tuple[Array | None, Array],
    x: Array,
    scale: Array | None,
    shift: Array | None,
    axes: tuple[int, ...],
) -> tuple[Array | None, ...]:
    # dx = (h - mean(h) - x^ mean(h x^)) / sigma, where h = g gamma; without mean(h) if mu = 0
    mean, inverse = res
    g, single = wide(xp, g), wide(xp, x)
    normal = (single if mean is None else single - mean) * inverse
    dx = d_scale = d_shift = None
    if needs[0]:
        h = g if scale is None else g * scale
        dx = h - normal * xp.mean(h * normal, axis=axes, keepdims=True)
        if mean is not None:
            dx = dx - xp.mean(h, axis=axes, keepdims=True)
        dx = _like(xp, dx * inverse, x.dtype)
    if needs[1] and scale is not None:
        d_scale = _like(xp, unbroadcast(xp, g * normal, scale.shape), scale.dtype)
    if needs[2] and shift is not None:
        d_shift = _like(xp, unbroadcast(xp, g, shift.shape), shift.dtype)
    return dx, d_scale, d_shift


@primitive(residual=True)
def batch_norm(
    xp: Any,
    x: Array,
    scale: Array | None,
    shift: Array | None,
    /,
    *,
    axes: tuple[int, ...],
    epsilon: float = 1e-5,
    rectified: bool = False,
) -> tuple[tuple[Array, Array, Array], Any]:
    r"""Normalise each channel with the mean and the variance of the batch.

    .. math:: y = \gamma \hat x + \beta, \quad
              \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \quad
              \mu = \frac1n \sum x, \quad \sigma^2 = \frac1n \sum (x - \mu)^2

    x, the axes to sum over (all but that of the C channels), scale (C,) or None, shift (C,) or None
    -> y like x, mean (C,), var (C,). The variance is the biased one, over n; it is summed from the
    deviations, in float32 at least. Ioffe & Szegedy (2015). ``rectified``: y is max(y, 0), a ReLU
    that costs no pass of its own. What is kept is the mean, one over the standard deviation, and
    where y is positive.
    """
    kept = _channel_axis(x.shape, axes, scale, shift)
    if math.prod(x.shape) == 0:
        msg = (
            "batch_norm: expected at least one value a channel to take the mean of, got x of shape"
            f" {tuple(x.shape)}. Leave out the empty batch, or use the running statistics."
        )
        raise ShapeError(msg)
    single = wide(xp, x)
    mean = xp.mean(single, axis=axes, keepdims=True)
    deviation = single - mean
    var = xp.mean(deviation * deviation, axis=axes, keepdims=True)
    inverse = 1.0 / xp.sqrt(var + epsilon)
    factor = inverse if scale is None else inverse * xp.reshape(scale, kept)
    y = deviation * factor
    if shift is not None:
        y = y + xp.reshape(shift, kept)
    positive = None
    if rectified:
        positive, y = y > 0, xp.maximum(y, 0.0)
    outputs = _like(xp, y, x.dtype), xp.reshape(mean, (-1,)), xp.reshape(var, (-1,))
    return outputs, (mean, inverse, positive)


@batch_norm.vjp
def _batch_norm_vjp(
    xp: Any,
    g: tuple[Array | None, Array | None, Array | None],
    needs: list[bool],
    res: tuple[Array, Array, Array | None],
    x: Array,
    scale: Array | None,
    shift: Array | None,
    axes: tuple[int, ...],
) -> tuple[Array | None, ...]:
    # dx = gamma / sigma (g - mean(g) - x^ mean(g x^)), then what came through mean and variance
    g_y, g_mean, g_var = g
    mean, inverse, positive = res
    kept, count = mean.shape, math.prod(x.shape) // math.prod(mean.shape)
    normal = (wide(xp, x) - mean) * inverse
    dx = d_scale = d_shift = None
    if g_y is not None:
        g_y = wide(xp, g_y)
        if positive is not None:
            g_y = xp.where(positive, g_y, xp.zeros_like(g_y))
        d_shift = xp.sum(g_y, axis=axes, keepdims=True)
        d_scale = xp.sum(g_y * normal, axis=axes, keepdims=True)
    if needs[0]:
        terms = []
        if g_y is not None:
            factor = inverse if scale is None else inverse * xp.reshape(scale, kept)
            terms.append(factor * (g_y - (d_shift + normal * d_scale) / count))
        if g_mean is not None:
            terms.append(xp.broadcast_to(xp.reshape(g_mean, kept) / count, x.shape))
        if g_var is not None:
            terms.append(normal * (xp.reshape(g_var, kept) * (2.0 / count) / inverse))
        for term in terms:
            dx = term if dx is None else dx + term
        dx = dx if dx is None else _like(xp, dx, x.dtype)
    return (
        dx,
        _vector(xp, d_scale, scale) if needs[1] else None,
        _vector(xp, d_shift, shift) if needs[2] else None,
    )


def _vector(xp: Any, total: Array | None, like: Array) -> Array | None:
    return None if total is None else _like(xp, xp.reshape(total, (-1,)), like.dtype)


@primitive()
def batch_norm_inference(
    xp: Any,
    x: Array,
    mean: Array,
    var: Array,
    scale: Array | None,
    shift: Array | None,
    /,
    *,
    axes: tuple[int, ...],
    epsilon: float = 1e-5,
) -> Array:
    r"""Normalise each channel with given statistics: the affine map of a trained layer.

    .. math:: y = a x + (\beta - a \mu), \quad a = \gamma / \sqrt{\sigma^2 + \epsilon}

    x, mean (C,), var (C,), scale (C,) or None, shift (C,) or None -> y like x. Differentiable in
    every argument.
    """
    kept = _channel_axis(x.shape, axes, mean, var, scale, shift)
    factor = 1.0 / xp.sqrt(wide(xp, var) + epsilon)
    if scale is not None:
        factor = scale * factor
    offset = factor * -mean
    if shift is not None:
        offset = shift + offset
    y = x * xp.reshape(factor, kept) + xp.reshape(offset, kept)
    return _like(xp, y, x.dtype)


@batch_norm_inference.vjp
def _batch_norm_inference_vjp(
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
    # With s = 1 / sigma, sums over a channel: dx = gamma s g, d_shift = sum(g),
    # d_scale = s sum(g (x - mu)), d_mean = -gamma s sum(g), d_var = -gamma s^3 sum(g (x - mu)) / 2
    kept = _channel_axis(x.shape, axes)
    inverse = 1.0 / xp.sqrt(wide(xp, var) + epsilon)
    factor = inverse if scale is None else scale * inverse
    g = wide(xp, g)
    d_mean = d_var = d_scale = d_shift = None
    dx = _like(xp, g * xp.reshape(factor, kept), x.dtype) if needs[0] else None
    if needs[1] or needs[4]:
        total = xp.sum(g, axis=axes, dtype=g.dtype)
        d_mean = _vector(xp, -factor * total, mean) if needs[1] else None
        d_shift = _vector(xp, total, shift) if needs[4] and shift is not None else None
    if needs[2] or needs[3]:
        deviation = wide(xp, x) - xp.reshape(wide(xp, mean), kept)
        total = xp.sum(g * deviation, axis=axes, dtype=g.dtype) * inverse
        d_var = _vector(xp, -0.5 * factor * inverse * total, var) if needs[2] else None
        d_scale = _vector(xp, total, scale) if needs[3] and scale is not None else None
    return dx, d_mean, d_var, d_scale, d_shift
