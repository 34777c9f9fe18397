"""Transposed convolution of sequences and images."""

from __future__ import annotations

from typing import Any

from xpnn.autograd.record import apply
from xpnn.errors import ConfigError, ShapeError
from xpnn.functional.convolution import in_one_row, spatial_axes
from xpnn.primitives import convolution
from xpnn.primitives.convolution import KERNELS
from xpnn.primitives.windows import LAYOUTS, as_tuple, resolve_padding, spans

__all__ = [
    "check_transposed",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose_output_shape",
    "convolve_transpose",
]

Array = Any
Shape = tuple[int, ...]
Sizes = int | tuple[int, ...]  # one for all axes, or one an axis


def conv_transpose1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int = 1,
    padding: Any = 0,
    dilation: int = 1,
    groups: int = 1,
    output_padding: int = 0,
) -> Array:
    r"""Return the transposed convolution of sequences, channels last.

    What :func:`conv_transpose2d` is for images.

    Parameters
    ----------
    x : array of shape (N, T, C)
    weight : array of shape (k, O / groups, C)
        That of the convolution which this one transposes. PyTorch's is this with axes (2, 1, 0).
    bias : array of shape (O,), optional
    stride, dilation, output_padding : int
    padding : int, (before, after), "valid", "same" or "full"
    groups : int

    Returns
    -------
    array of shape (N, T', O)

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> x = np.asarray([1.0, 2.0])[None, :, None]
    >>> F.conv_transpose1d(x, np.ones((3, 1, 1)), stride=2)[0, :, 0]
    array([1., 1., 3., 2., 2.])
    """
    who = "conv_transpose1d"
    s = as_tuple(stride, "stride", n=1, who=who)
    d = as_tuple(dilation, "dilation", n=1, who=who)
    more = as_tuple(output_padding, "output_padding", n=1, who=who, least=0)
    return convolve_transpose(who, x, weight, bias, s, padding, d, groups, more)


def conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    output_padding: Sizes = 0,
) -> Array:
    r"""Return the transposed convolution of images, channels last ("deconvolution").

    The transpose of :func:`conv2d` with the same weight and options as a linear map: its gradient
    with respect to x. An axis of n elements becomes one of

    .. math:: n' = s (n - 1) - p_0 - p_1 + d (k - 1) + 1 + \text{output padding}

    elements (Dumoulin & Visin 2016, section 4).

    Parameters
    ----------
    x : array of shape (N, H, W, C)
    weight : array of shape (kh, kw, O / groups, C)
        That of the convolution from O channels to C which this one transposes. PyTorch's is this
        with axes (3, 2, 0, 1), as for :func:`conv2d`; Keras has the same order.
    bias : array of shape (O,), optional
    stride, dilation : int or pair
    padding : int, pair, pair of pairs, "valid", "same" or "full"
        What the convolution adds, so this one takes it away. "same" gives exactly :math:`s H` rows,
        as in Keras.
    groups : int
    output_padding : int or pair
        How many more elements each axis has at its end: which of the s sizes, which the convolution
        maps to the same one, is meant. Smaller than the stride (PyTorch allows it to be
        smaller than the dilation instead), and zero with "same".

    Returns
    -------
    array of shape (N, H', W', O)

    Raises
    ------
    ShapeError, ConfigError
        If shapes or options do not fit each other.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> w = np.ones((3, 3, 4, 8))
    >>> F.conv_transpose2d(np.ones((2, 5, 5, 8)), w, stride=2, padding="same").shape
    (2, 10, 10, 4)
    """
    who = "conv_transpose2d"
    s = as_tuple(stride, "stride", who=who)
    d = as_tuple(dilation, "dilation", who=who)
    more = as_tuple(output_padding, "output_padding", who=who, least=0)
    return convolve_transpose(who, x, weight, bias, s, padding, d, groups, more)


def convolve_transpose(
    who: str,
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Shape,
    padding: Any,
    dilation: Shape,
    groups: int,
    output_padding: Shape,
) -> Array:
    """Transposed :func:`convolve`, for a function or layer ``who``."""
    bias_shape = None if bias is None else bias.shape
    y_shape, pairs = _transposed(
        who, x.shape, weight.shape, bias_shape, stride, padding, dilation, groups, output_padding
    )
    options = {
        "size": y_shape[1:-1], "stride": stride, "padding": pairs, "dilation": dilation,
        "groups": groups,
    }  # fmt: skip
    if len(stride) == 2:
        return apply(convolution.conv_transpose2d, (x, weight, bias), options)
    return in_one_row(convolution.conv_transpose2d, x, weight, bias, options)


def _transposed(
    who: str,
    x_shape: Shape,
    weight_shape: Shape,
    bias_shape: Shape | None,
    stride: Shape,
    padding: Any,
    dilation: Shape,
    groups: int,
    output_padding: Shape,
) -> tuple[Shape, Any]:
    """Return the shape of a transposed convolution, and the padding that it takes away."""
    n = len(stride)
    if len(x_shape) != n + 2 or len(weight_shape) != n + 2:
        msg = (
            f"{who}: expected x of shape {LAYOUTS[n]} and weight of shape"
            f" {KERNELS[n].replace('C, O', 'O, C')}, got {tuple(x_shape)} and"
            f" {tuple(weight_shape)}. A single example needs a batch axis, x[None, ...]."
        )
        raise ShapeError(msg)
    *front, inner, channels = weight_shape
    kernel, sizes = tuple(front), tuple(x_shape[1:-1])
    if x_shape[-1] != channels or groups < 1 or channels % groups:
        msg = (
            f"{who}: expected x with {channels} channels on its last axis, a multiple of"
            f" groups={groups}, as the weight has shape {tuple(weight_shape)}, got x of shape"
            f" {tuple(x_shape)}. The weight is (..., out / groups, in), that of the convolution"
            " which is transposed."
        )
        raise ShapeError(msg)
    if bias_shape is not None and tuple(bias_shape) != (inner * groups,):
        msg = f"{who}: expected bias of shape ({inner * groups},), got {tuple(bias_shape)}."
        raise ShapeError(msg)
    check_transposed(who, stride, padding, output_padding)
    if padding == "same":
        size = tuple(m * s for m, s in zip(sizes, stride, strict=True))
        pairs = resolve_padding("same", size, kernel, stride, dilation, who=who)
    else:
        pairs = resolve_padding(padding, sizes, kernel, stride, dilation, who=who)
        axes = zip(sizes, stride, pairs, spans(kernel, dilation), output_padding, strict=True)
        size = tuple(s * (m - 1) - p - q + span + more for m, s, (p, q), span, more in axes)
    if min(sizes) < 1 or min(size) < 1:
        msg = (
            f"{who}: nothing is left: axes of {sizes} elements with a window of"
            f" {spans(kernel, dilation)}, stride {stride} and padding {pairs}, which is taken away,"
            f" would have {size}. Pad less."
        )
        raise ShapeError(msg)
    return (x_shape[0], *size, inner * groups), pairs


def check_transposed(who: str, stride: Shape, padding: Any, output_padding: Shape) -> None:
    """Raise an error for options that a transposed convolution does not have."""
    if padding == "causal":
        msg = (
            f"{who}: a transposed convolution has no padding 'causal'. To keep s T elements, use"
            " padding='valid' and cut the end off."
        )
        raise ConfigError(msg)
    wrong = any(more >= s for more, s in zip(output_padding, stride, strict=True))
    if wrong or (padding == "same" and any(output_padding)):
        msg = (
            f"{who}: expected output_padding smaller than the stride {stride}, and 0 with"
            f" padding='same', which gives s n elements, got {output_padding}."
        )
        raise ConfigError(msg)


def conv_transpose_output_shape(
    x_shape: Shape,
    weight_shape: Shape,
    *,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    output_padding: Sizes = 0,
) -> Shape:
    """Return the shape of what :func:`conv_transpose1d` or :func:`conv_transpose2d` makes of x.

    Parameters
    ----------
    x_shape : (N, T, C) or (N, H, W, C)
    weight_shape : (k, O / groups, C) or (kh, kw, O / groups, C)
    stride, padding, dilation, groups, output_padding
        As for :func:`conv_transpose2d`.

    Examples
    --------
    >>> from xpnn import functional as F
    >>> F.conv_transpose_output_shape((64, 7, 7, 20), (4, 4, 3, 20), stride=2, padding=1)
    (64, 14, 14, 3)
    """
    who = "conv_transpose_output_shape"
    n = spatial_axes(who, weight_shape)
    s = as_tuple(stride, "stride", n=n, who=who)
    d = as_tuple(dilation, "dilation", n=n, who=who)
    more = as_tuple(output_padding, "output_padding", n=n, who=who, least=0)
    shapes = (tuple(x_shape), tuple(weight_shape), None)
    return _transposed(who, *shapes, s, padding, d, groups, more)[0]
