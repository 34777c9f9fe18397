"""Fused functions of losses: cross-entropies, and a logarithm and a root with bounded derivatives.

Probabilities reach 0 and 1 in float32, where :math:`1 - 10^{-8} = 1`: clipping them by a small
number changes nothing. Here logarithms end at -100, as in PyTorch, and a derivative divides by no
less than :math:`10^{-12}`.
"""

from __future__ import annotations

import math
from typing import Any

from xpnn import backend
from xpnn.primitives import activations
from xpnn.primitives.base import Primitive, primitive

Array = Any

_LOWEST = -100.0  # exp of it is 3.7e-44, a subnormal number of float32
_SMALLEST = 1e-12


def _smallest(xp: Any, x: Array) -> float:
    """Return what a derivative divides by at least: its inverse is finite in the dtype of x."""
    return max(_SMALLEST, float(xp.finfo(x.dtype).smallest_normal))


def _ended_log(xp: Any, x: Array) -> Array:
    zero = x == 0
    y = xp.maximum(xp.log(xp.where(zero, xp.ones_like(x), x)), _LOWEST)
    return xp.where(zero, _LOWEST, y)


def _ended_log1m(xp: Any, x: Array) -> Array:
    one = x == 1
    y = xp.maximum(xp.log1p(-xp.where(one, xp.zeros_like(x), x)), _LOWEST)
    return xp.where(one, _LOWEST, y)


@primitive()
def bounded_log(xp: Any, x: Array, /) -> Array:
    """max(log(x), -100), also for x = 0; the derivative is 1 / max(x, 1e-12)."""
    return _ended_log(xp, x)


bounded_log.d(lambda xp, g, x: g / xp.maximum(x, _smallest(xp, x)))


@primitive()
def bounded_sqrt(xp: Any, x: Array, /) -> Array:
    """Square root; the derivative is 1 / max(2 sqrt(x), 2e-6), so that of a distance 0 is 0."""
    return xp.sqrt(x)


bounded_sqrt.d(lambda xp, g, y: g / xp.maximum(2 * y, 2 * math.sqrt(_smallest(xp, y))))


@primitive()
def binary_cross_entropy(xp: Any, p: Array, t: Array, /) -> Array:
    """-t log(p) - (1 - t) log(1 - p), with logarithms that end at -100, an element each."""
    return t * -_ended_log(xp, p) + (1 - t) * -_ended_log1m(xp, p)


@binary_cross_entropy.vjp
def _binary_cross_entropy_vjp(
    xp: Any, g: Array, needs: list[bool], p: Array, t: Array
) -> tuple[Array | None, ...]:
    least = _smallest(xp, p)
    dp = dt = None
    if needs[0]:
        dp = g * ((1 - t) / xp.maximum(1 - p, least) - t / xp.maximum(p, least))
    if needs[1]:
        dt = g * (bounded_log(xp, 1 - p) - bounded_log(xp, p))
    return dp, dt


@primitive()
def binary_cross_entropy_with_logits(
    xp: Any, x: Array, t: Array, pos_weight: Array | None, /
) -> Array:
    """-w t log(s(x)) - (1 - t) log(1 - s(x)) with the sigmoid s, an element each; w has no rule."""
    tail = xp.log1p(xp.exp(-xp.abs(x)))  # log(1 + e^x) = max(x, 0) + tail
    if pos_weight is None:
        return xp.maximum(x, 0.0) - x * t + tail
    return (1 - t) * (xp.maximum(x, 0.0) + tail) + pos_weight * t * (xp.maximum(-x, 0.0) + tail)


@binary_cross_entropy_with_logits.vjp
def _binary_cross_entropy_with_logits_vjp(
    xp: Any, g: Array, needs: list[bool], x: Array, t: Array, pos_weight: Array | None
) -> tuple[Array | None, ...]:
    dx = dt = None
    if needs[0] and pos_weight is None:
        dx = g * (activations.sigmoid(xp, x) - t)
    elif needs[0]:
        dx = g * (
            (1 - t) * activations.sigmoid(xp, x) - pos_weight * t * activations.sigmoid(xp, -x)
        )
    if needs[1]:
        dt = g * -x
        if pos_weight is not None:
            dt = dt + g * (pos_weight - 1) * activations.softplus(xp, -x)
    return dx, dt, None


@primitive(residual=True)
def softmax_cross_entropy(
    xp: Any, logits: Array, labels: Array, /, *, smoothing: float = 0.0, mean: bool = False
) -> tuple[Array, Array]:
    r"""Cross-entropy of integer labels, :math:`\log \sum_j e^{x_j} - x_{label}`, a value a row.

    ``logits`` (..., classes), ``labels`` (...) -> (...), or () for the ``mean`` of all rows. The
    part ``smoothing`` of the target is spread over all classes. What is kept is the logarithm of
    the sum.
    """
    top = xp.max(logits, axis=-1, keepdims=True)
    shifted = logits - top
    total = xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
    target = xp.take_along_axis(shifted, labels[..., None], axis=-1)
    if smoothing:
        spread = xp.mean(shifted, axis=-1, keepdims=True)
        target = (1 - smoothing) * target + smoothing * spread
    values = (total - target)[..., 0]
    return xp.mean(values) if mean else values, total + top


@softmax_cross_entropy.vjp
def _softmax_cross_entropy_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    logits: Array,
    labels: Array,
    res: Array,
    smoothing: float,
    mean: bool,
) -> tuple[Array, None]:
    # softmax(x) - target, times the gradient of the row
    home = backend.device_of(labels).native
    classes = xp.arange(logits.shape[-1], dtype=labels.dtype, device=home)
    target = xp.astype(labels[..., None] == classes, logits.dtype)
    if smoothing:
        target = (1 - smoothing) * target + smoothing / logits.shape[-1]
    of_row = g / (math.prod(labels.shape) or 1) if mean else g[..., None]
    return (xp.exp(logits - res) - target) * of_row, None


@primitive(residual=True)
def soft_cross_entropy(xp: Any, logits: Array, targets: Array, /) -> tuple[Array, Array]:
    r"""Cross-entropy of distributions, :math:`-\sum_j t_j \log \mathrm{softmax}(x)_j`, a row each.

    ``logits`` and ``targets`` (..., classes) -> (...); 0 log 0 is 0. The targets need not add up
    to 1. What is kept is the logarithm of the sum.
    """
    top = xp.max(logits, axis=-1, keepdims=True)
    shifted = logits - top
    total = xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
    surprise = xp.where(targets == 0, 0.0, total - shifted)  # infinite for a logit of -inf
    return xp.sum(targets * surprise, axis=-1), total + top


@soft_cross_entropy.vjp
def _soft_cross_entropy_vjp(
    xp: Any, g: Array, needs: list[bool], logits: Array, targets: Array, res: Array
) -> tuple[Array | None, ...]:
    g = g[..., None]
    dx = dt = None
    if needs[0]:
        dx = (xp.exp(logits - res) * xp.sum(targets, axis=-1, keepdims=True) - targets) * g
    if needs[1]:
        dt = (res - logits) * g
    return dx, dt


__all__ = [name for name, value in globals().items() if isinstance(value, Primitive)]
