"""Convolution in two dimensions, channels last, and its transpose."""

from __future__ import annotations

import math
from typing import Any

from xpnn.errors import ShapeError
from xpnn.primitives.base import primitive
from xpnn.primitives.elementwise import _c
from xpnn.primitives.windows import Pairs, pad, tap, window_outputs

__all__ = ["conv2d", "conv2d_shape", "conv2d_transpose"]

Array = Any
Shape = tuple[int, ...]
Pair = tuple[int, int]


def conv2d_shape(
    x_shape: Shape,
    weight_shape: Shape,
    bias_shape: Shape | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pairs = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Shape:
    """Return the shape (N, H', W', O) of a convolution.

    Raises
    ------
    ShapeError
        If the shapes do not fit each other.

    Examples
    --------
    >>> conv2d_shape((64, 28, 28, 1), (5, 5, 1, 20))
    (64, 24, 24, 20)
    """
    if len(x_shape) != 4 or len(weight_shape) != 4:
        msg = (
            "conv2d: expected x of shape (N, H, W, C) and weight of shape (kh, kw, C, O), got"
            f" {tuple(x_shape)} and {tuple(weight_shape)}. A single image needs a batch axis,"
            " x[None, ...], and a grey one a channel axis, x[..., None]."
        )
        raise ShapeError(msg)
    *kernel, channels, features = weight_shape
    if x_shape[3] != channels * groups:
        times = f" and there are {groups} groups" if groups > 1 else ""
        msg = (
            f"conv2d: expected x with {channels * groups} channels on its last axis, as the weight"
            f" has shape {tuple(weight_shape)}{times}, got x of shape {tuple(x_shape)}. Images with"
            " the channels first need data_format='channels_first'."
        )
        raise ShapeError(msg)
    if features % groups:
        msg = (
            f"conv2d: expected groups to divide the {features} features of a weight of shape"
            f" {tuple(weight_shape)}, got groups={groups}. Choose a multiple of it as features."
        )
        raise ShapeError(msg)
    if bias_shape is not None and tuple(bias_shape) != (features,):
        msg = f"conv2d: expected bias of shape ({features},), got {tuple(bias_shape)}."
        raise ShapeError(msg)
    outputs = window_outputs(x_shape[1:3], tuple(kernel), stride, padding, dilation)
    return (x_shape[0], *outputs, features)


@primitive()
def conv2d(
    xp: Any,
    x: Array,
    weight: Array,
    bias: Array | None,
    /,
    *,
    stride: Pair = (1, 1),
    padding: Pairs = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    r"""Cross-correlation of images with kernels, what deep learning calls convolution.

    .. math:: y_{nhwo} = b_o + \sum_{ijc} x_{n,\, s h + d i - p,\, s w + d j - p,\, c} \; W_{ijco}

    x (N, H, W, C), weight (kh, kw, C / groups, O), bias (O,) or None -> (N, H', W', O). The
    channels fall into ``groups``, each of which sees only its own C / groups channels of x.

    One product: the rows of its left side are the windows, flattened (im2col; Chellapilla, Puri &
    Simard, 2006). Depthwise convolution, one channel a group, is a sum over taps instead.
    """
    bias_shape = None if bias is None else bias.shape
    shape = conv2d_shape(
        x.shape, weight.shape, bias_shape,
        stride=stride, padding=padding, dilation=dilation, groups=groups,
    )  # fmt: skip
    taps = _taps(pad(xp, x, padding), weight.shape, shape, stride, dilation)
    if _is_depthwise(weight.shape, groups):
        kernel = xp.reshape(weight, (-1, shape[3]))
        y = _total(_repeat(xp, t, shape[3]) * kernel[i, :] for i, t in enumerate(taps))
    else:
        kernel = _split(xp, xp.reshape(weight, (-1, shape[3])), groups)
        y = xp.reshape(_join(xp, _columns(xp, taps, groups) @ kernel), shape)
    return y if bias is None else y + bias


@conv2d.vjp
def _conv2d_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    x: Array,
    weight: Array,
    stride: Pair,
    padding: Pairs,
    dilation: Pair,
    groups: int,
) -> tuple[Array | None, ...]:
    dx = dw = db = None
    if needs[0]:
        dx = conv2d_transpose(
            xp, g, _c(xp, weight), size=x.shape[1:3],
            stride=stride, padding=padding, dilation=dilation, groups=groups,
        )  # fmt: skip
    if needs[1]:
        taps = _taps(pad(xp, _c(xp, x), padding), weight.shape, g.shape, stride, dilation)
        if _is_depthwise(weight.shape, groups):
            sums = [xp.sum(_repeat(xp, t, g.shape[3]) * g, axis=(0, 1, 2)) for t in taps]
            dw = xp.stack(sums, axis=0)
        else:
            columns = xp.matrix_transpose(_columns(xp, taps, groups))
            dw = _join(xp, columns @ _split(xp, _rows(xp, g), groups))
        dw = xp.reshape(dw, weight.shape)
    if needs[2]:
        db = xp.sum(g, axis=(0, 1, 2), dtype=g.dtype)
    return dx, dw, db


def conv2d_transpose(
    xp: Any,
    y: Array,
    weight: Array,
    /,
    *,
    size: Pair,
    stride: Pair = (1, 1),
    padding: Pairs = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    r"""Transpose of :func:`conv2d` as a linear map of x: what its gradient is.

    .. math:: x_{nuvc} = \sum_{h s + d i - p = u} \sum_{w s + d j - p = v} \sum_o y_{nhwo} W_{ijco}

    y (N, H', W', O), weight (kh, kw, C / groups, O), ``size`` (H, W) -> (N, H, W, C).

    A stride s divides the rows of x into s phases, and a phase meets only every s-th tap: it is a
    convolution of y, with stride 1, with those taps in the opposite order. So no zeros are
    multiplied, and everything is made of :func:`conv2d`, its kernels included.
    """
    backward = _swap(xp, weight, groups)
    plan = zip(size, weight.shape[:2], y.shape[1:3], stride, padding, dilation, strict=True)
    down, across = (_phases(*axis) for axis in plan)

    def phase(i: Phase, j: Phase) -> Array | None:
        if i is None or j is None:
            return None
        (rows, i_step, top_bottom), (columns, j_step, left_right) = i, j
        kernel = xp.flip(backward[rows, columns, ...], axis=(0, 1))
        around = (top_bottom, left_right)
        return conv2d(xp, y, kernel, None, padding=around, dilation=(i_step, j_step), groups=groups)

    parts = [[phase(i, j) for j in across] for i in down]
    if stride == (1, 1):
        return parts[0][0]
    some = next(part for row in parts for part in row if part is not None)
    nothing = xp.zeros_like(some)
    rows = [xp.stack([nothing if p is None else p for p in row], axis=3) for row in parts]
    x = xp.stack(rows, axis=2)
    n, h, sh, w, sw, c = x.shape
    x = xp.reshape(x, (n, h * sh, w * sw, c))
    top, left = (before % s for (before, _), s in zip(padding, stride, strict=True))
    return x[:, top : top + size[0], left : left + size[1], :]


Phase = tuple[slice, int, Pair] | None


def _phases(n: int, k: int, m: int, s: int, padding: Pair, d: int) -> list[Phase]:
    """Return for each phase of an axis its taps, their dilation, and the padding of the m outputs.

    Element u of the axis is at place u + p = s q + r of phase r. Tap i, which sits at d i, belongs
    to phase d i mod s; every (s / gcd(s, d))-th tap belongs to the same one.
    """
    before = padding[0]
    q_start, q_stop = before // s, -(-(n + before) // s)
    common = math.gcd(s, d)
    every, step = s // common, d // common
    phases: list[Phase] = [None] * s
    for first in range(min(every, k)):
        count = -(-(k - first) // every)
        shift = d * first // s
        left = shift + (count - 1) * step - q_start
        right = q_stop - shift - m
        taps = slice(first, first + (count - 1) * every + 1, every)
        phases[d * first % s] = taps, step, (left, right)
    return phases


def _taps(x: Array, weight_shape: Shape, shape: Shape, stride: Pair, dilation: Pair) -> list[Array]:
    kh, kw = weight_shape[:2]
    at = [(i, j) for i in range(kh) for j in range(kw)]
    return [x[tap(ij, shape[1:3], stride, dilation)] for ij in at]


def _total(terms: Any) -> Array:
    first, *rest = terms
    for term in rest:
        first = first + term
    return first


def _is_depthwise(weight_shape: Shape, groups: int) -> bool:
    return groups > 1 and weight_shape[2] == 1


def _repeat(xp: Any, x: Array, features: int) -> Array:
    """Repeat each channel for the features that depthwise convolution makes of it."""
    *front, channels = x.shape
    if channels == features:
        return x
    shape = (*front, channels, features // channels)
    return xp.reshape(xp.broadcast_to(x[..., None], shape), (*front, features))


def _rows(xp: Any, x: Array) -> Array:
    return xp.reshape(x, (math.prod(x.shape[:3]), x.shape[3]))


def _columns(xp: Any, taps: list[Array], groups: int) -> Array:
    """(places, taps * C), or (groups, places, taps * C / groups) for several groups."""
    if groups > 1:
        *places, c = taps[0].shape
        taps = [xp.reshape(t, (*places, groups, c // groups)) for t in taps]
    together = taps[0] if len(taps) == 1 else xp.concat(taps, axis=-1)
    if groups == 1:
        return _rows(xp, together)
    p, c = math.prod(together.shape[:3]), together.shape[-1]
    return xp.permute_dims(xp.reshape(together, (p, groups, c)), (1, 0, 2))


def _split(xp: Any, rows: Array, groups: int) -> Array:
    """(P, groups * c) -> (groups, P, c); as it is for one group."""
    if groups == 1:
        return rows
    p, c = rows.shape
    return xp.permute_dims(xp.reshape(rows, (p, groups, c // groups)), (1, 0, 2))


def _join(xp: Any, stacked: Array) -> Array:
    """(groups, P, c) -> (P, groups * c): the inverse of :func:`_split`."""
    if stacked.ndim == 2:
        return stacked
    groups, p, c = stacked.shape
    return xp.reshape(xp.permute_dims(stacked, (1, 0, 2)), (p, groups * c))


def _swap(xp: Any, weight: Array, groups: int) -> Array:
    """(kh, kw, C / groups, O) -> (kh, kw, O / groups, C)."""
    kh, kw, c, o = weight.shape
    if groups == 1:
        return xp.permute_dims(weight, (0, 1, 3, 2))
    weight = xp.reshape(weight, (kh, kw, c, groups, o // groups))
    return xp.reshape(xp.permute_dims(weight, (0, 1, 4, 3, 2)), (kh, kw, o // groups, groups * c))
