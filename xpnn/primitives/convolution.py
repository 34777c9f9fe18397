"""Convolution in two dimensions, channels last, and its transpose."""

from __future__ import annotations

import math
from typing import Any

from xpnn.errors import ShapeError
from xpnn.primitives.base import primitive, summed
from xpnn.primitives.columns import pad
from xpnn.primitives.elementwise import _c
from xpnn.primitives.products import matmul
from xpnn.primitives.shape import concat, stack
from xpnn.primitives.windows import LAYOUTS, Pairs, tap_keys, window_outputs

__all__ = ["KERNELS", "conv2d", "conv_shape", "conv_transpose2d", "swap_channels"]

Array = Any
Shape = tuple[int, ...]
Pair = tuple[int, int]

KERNELS = {1: "(k, C, O)", 2: "(kh, kw, C, O)"}


def conv_shape(
    x_shape: Shape,
    weight_shape: Shape,
    bias_shape: Shape | None = None,
    *,
    stride: Shape,
    padding: Pairs,
    dilation: Shape,
    groups: int = 1,
    who: str = "conv2d",
) -> Shape:
    """Return the shape (N, *outputs, O) of a convolution over as many axes as there are strides.

    Raises
    ------
    ShapeError
        If the shapes do not fit each other.

    Examples
    --------
    >>> conv_shape((64, 28, 28, 1), (5, 5, 1, 20),
    ...            stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1))
    (64, 24, 24, 20)
    """
    n = len(stride)
    if len(x_shape) != n + 2 or len(weight_shape) != n + 2:
        msg = (
            f"{who}: expected x of shape {LAYOUTS[n]} and weight of shape {KERNELS[n]}, got"
            f" {tuple(x_shape)} and {tuple(weight_shape)}. A single example needs a batch axis,"
            " x[None, ...], and one without channels a channel axis, x[..., None]."
        )
        raise ShapeError(msg)
    *kernel, channels, features = weight_shape
    if groups < 1 or features % groups:
        msg = (
            f"{who}: expected groups to divide the {features} features of a weight of shape"
            f" {tuple(weight_shape)}, got groups={groups}. Choose a multiple of it as features."
        )
        raise ShapeError(msg)
    if x_shape[-1] != channels * groups:
        times = f" and there are {groups} groups" if groups > 1 else ""
        msg = (
            f"{who}: expected x with {channels * groups} channels on its last axis, as the weight"
            f" has shape {tuple(weight_shape)}{times}, got x of shape {tuple(x_shape)}. Layers take"
            " channels that come first with data_format='channels_first'."
        )
        raise ShapeError(msg)
    if bias_shape is not None and tuple(bias_shape) != (features,):
        msg = f"{who}: expected bias of shape ({features},), got {tuple(bias_shape)}."
        raise ShapeError(msg)
    size = tuple(x_shape[1:-1])
    outputs = window_outputs(size, tuple(kernel), stride, padding, dilation, who=who)
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
    shape = conv_shape(
        x.shape, weight.shape, bias_shape,
        stride=stride, padding=padding, dilation=dilation, groups=groups,
    )  # fmt: skip
    taps = _taps(_pad(xp, x, padding), weight.shape, shape, stride, dilation)
    if _is_depthwise(weight.shape, groups):
        kernel = xp.reshape(weight, (-1, shape[3]))
        y = _total(_repeat(xp, t, shape[3]) * kernel[i, :] for i, t in enumerate(taps))
    else:
        kernel = _split(xp, xp.reshape(weight, (-1, shape[3])), groups)
        y = xp.reshape(_join(xp, matmul(xp, _columns(xp, taps, groups), kernel)), shape)
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
        dx = conv_transpose2d(
            xp, g, _c(xp, weight), None, size=x.shape[1:3],
            stride=stride, padding=padding, dilation=dilation, groups=groups,
        )  # fmt: skip
    if needs[1]:
        taps = _taps(_pad(xp, _c(xp, x), padding), weight.shape, g.shape, stride, dilation)
        if _is_depthwise(weight.shape, groups):
            sums = [xp.sum(_repeat(xp, t, g.shape[3]) * g, axis=(0, 1, 2)) for t in taps]
            dw = stack(xp, *sums, axis=0)
        else:
            columns = xp.matrix_transpose(_columns(xp, taps, groups))
            dw = _join(xp, matmul(xp, columns, _split(xp, _rows(xp, g), groups)))
        dw = xp.reshape(dw, weight.shape)
    if needs[2]:
        db = summed(xp, g, (0, 1, 2))
    return dx, dw, db


@primitive()
def conv_transpose2d(
    xp: Any,
    x: Array,
    weight: Array,
    bias: Array | None,
    /,
    *,
    size: Pair,
    stride: Pair = (1, 1),
    padding: Pairs = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    r"""Transpose of :data:`conv2d` as a linear map of images: what its gradient is.

    .. math:: y_{nuvc} = b_c + \sum_{h s + d i - p = u} \sum_{w s + d j - p = v} \sum_o
              x_{nhwo} W_{ijco}

    x (N, H', W', O), weight (kh, kw, C / groups, O), ``size`` (H, W) -> (N, H, W, C). The options
    are those of the convolution that makes H' x W' places of H x W ones.

    A stride s divides the rows of y into s phases, and a phase meets only every s-th tap: it is a
    convolution of x, with stride 1, with those taps in the opposite order. So no zeros are
    multiplied, and everything is made of :data:`conv2d`, its kernels included.
    """
    backward = swap_channels(xp, weight, groups)
    plan = zip(size, weight.shape[:2], x.shape[1:3], stride, padding, dilation, strict=True)
    down, across = (_phases(*axis) for axis in plan)

    def phase(i: Phase, j: Phase) -> Array | None:
        if i is None or j is None:
            return None
        (rows, i_step, top_bottom), (columns, j_step, left_right) = i, j
        kernel = xp.flip(backward[rows, columns, ...], axis=(0, 1))
        around = (top_bottom, left_right)
        return conv2d(xp, x, kernel, None, padding=around, dilation=(i_step, j_step), groups=groups)

    y = _interleave(xp, [[phase(i, j) for j in across] for i in down])
    top, left = (before % s for (before, _), s in zip(padding, stride, strict=True))
    if y.shape[1:3] != size:
        y = y[:, top : top + size[0], left : left + size[1], :]
    return y if bias is None else y + bias


@conv_transpose2d.vjp
def _conv_transpose2d_vjp(
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
    options: dict[str, Any] = {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
    }  # fmt: skip
    dx = conv2d(xp, g, _c(xp, weight), None, **options) if needs[0] else None
    dw = None
    if needs[1]:  # x and g have changed places
        g_c, x_c = _c(xp, g), _c(xp, x)
        implementation = conv2d.on(xp)
        accepts = implementation.accepts
        if accepts is not None and not accepts(g_c, weight, None, **options):
            implementation = conv2d
        rule: Any = implementation.joint
        dw = rule(xp, x_c, [False, True, False], g_c, weight, **options)[1]
    db = summed(xp, g, (0, 1, 2)) if needs[2] else None
    return dx, dw, db


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


def _interleave(xp: Any, parts: list[list[Array | None]]) -> Array:
    """Put the phases (N, Q, R, C) together, every s-th row and column of a phase; None is zeros."""
    if len(parts) == len(parts[0]) == 1:
        return parts[0][0]
    some = next(part for row in parts for part in row if part is not None)
    nothing = xp.zeros_like(some)
    rows = [stack(xp, *(nothing if p is None else p for p in row), axis=3) for row in parts]
    y = stack(xp, *rows, axis=2)
    n, h, sh, w, sw, c = y.shape
    return xp.reshape(y, (n, h * sh, w * sw, c))


def _pad(xp: Any, x: Array, padding: Pairs) -> Array:
    return pad(xp, x, padding=((0, 0), *padding))


def _taps(x: Array, weight_shape: Shape, shape: Shape, stride: Pair, dilation: Pair) -> list[Array]:
    return [x[key] for key in tap_keys(weight_shape[:2], shape[1:3], stride, dilation)]


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
    together = taps[0] if len(taps) == 1 else concat(xp, *taps, axis=-1)
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


def swap_channels(xp: Any, weight: Array, groups: int) -> Array:
    """(..., C / groups, O) -> (..., O / groups, C)."""
    if groups == 1:
        return xp.matrix_transpose(weight)
    *kernel, c, o = weight.shape
    weight = xp.reshape(weight, (*kernel, c, groups, o // groups))
    k = len(kernel)
    weight = xp.permute_dims(weight, (*range(k), k + 2, k + 1, k))
    return xp.reshape(weight, (*kernel, o // groups, groups * c))
