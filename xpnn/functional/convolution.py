"""Convolution of sequences and images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnn.autograd.record import apply
from xpnn.errors import ShapeError
from xpnn.functional.fused import apply_then
from xpnn.primitives import convolution, shape
from xpnn.primitives.convolution import conv_shape
from xpnn.primitives.windows import LAYOUTS, as_tuple, resolve_padding

__all__ = [
    "conv1d",
    "conv2d",
    "conv_output_shape",
    "convolve",
    "in_one_row",
    "spatial_axes",
]

Array = Any
Shape = tuple[int, ...]
Sizes = int | tuple[int, ...]  # one for all axes, or one an axis


def conv1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int = 1,
    padding: Any = 0,
    dilation: int = 1,
    groups: int = 1,
    activation: Callable[[Array], Array] | None = None,
) -> Array:
    r"""Return the cross-correlation of sequences with kernels, channels last.

    .. math:: y_{nto} = b_o + \sum_{ic} x_{n,\, s t + d i - p,\, c} \; W_{ico}

    It is computed as :func:`conv2d` of images of one row, by the same kernels.

    Parameters
    ----------
    x : array of shape (N, T, C)
    weight : array of shape (k, C / groups, O)
        PyTorch's is this with axes (2, 1, 0).
    bias : array of shape (O,), optional
    stride, dilation : int
        ``dilation=1`` means none.
    padding : int, (before, after), "valid", "same", "full" or "causal"
        As for :func:`conv2d`; "causal" puts all of it before, so that no output sees what comes
        after it.
    groups : int
        Into how many groups the channels fall; each sees only its own.
    activation : callable, optional
        A function of one array, of what was convolved; see :func:`linear`.

    Returns
    -------
    array of shape (N, T', O)

    Raises
    ------
    ShapeError, ConfigError
        If shapes or options do not fit each other.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> x = np.arange(4.0)[None, :, None]
    >>> F.conv1d(x, np.ones((2, 1, 1)), padding="causal")[0, :, 0]
    array([0., 1., 3., 5.])
    """
    s = as_tuple(stride, "stride", n=1, who="conv1d")
    d = as_tuple(dilation, "dilation", n=1, who="conv1d")
    return convolve("conv1d", x, weight, bias, s, padding, d, groups, activation)


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    activation: Callable[[Array], Array] | None = None,
) -> Array:
    r"""Return the cross-correlation of images with kernels, channels last.

    .. math:: y_{nhwo} = b_o + \sum_{ijc} x_{n,\, s h + d i - p,\, s w + d j - p,\, c} \; W_{ijco}

    Parameters
    ----------
    x : array of shape (N, H, W, C)
    weight : array of shape (kh, kw, C / groups, O)
        PyTorch's is this with axes (3, 2, 0, 1).
    bias : array of shape (O,), optional
    stride, dilation : int or pair
        ``dilation=1`` means none.
    padding : int, pair, pair of pairs, "valid", "same" or "full"
        Zeros around the image: for all sides, for each axis, or before and after each axis. "same"
        gives :math:`\lceil H / s \rceil` rows, the odd zero at the end, as TensorFlow and Keras
        have it; "full" gives every place where the kernel meets the image.
    groups : int
        Into how many groups the channels fall; each sees only its own.
    activation : callable, optional
        A function of one array, of what was convolved; see :func:`linear`.

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
    >>> F.conv2d(np.ones((2, 8, 8, 3)), np.ones((3, 3, 3, 4)), stride=2, padding="same").shape
    (2, 4, 4, 4)
    """
    s = as_tuple(stride, "stride", who="conv2d")
    d = as_tuple(dilation, "dilation", who="conv2d")
    return convolve("conv2d", x, weight, bias, s, padding, d, groups, activation)


def convolve(
    who: str,
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Shape,
    padding: Any,
    dilation: Shape,
    groups: int,
    activation: Callable[[Array], Array] | None = None,
) -> Array:
    """Convolve over as many axes as there are strides, 1 or 2, for a function or layer ``who``."""
    if x.ndim == weight.ndim == len(stride) + 2:  # else conv_shape says what is wrong
        sizes, kernel = tuple(x.shape[1:-1]), tuple(weight.shape[:-2])
        padding = resolve_padding(padding, sizes, kernel, stride, dilation, who=who)
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    options["groups"] = groups
    conv_shape(x.shape, weight.shape, None if bias is None else bias.shape, who=who, **options)
    if len(stride) == 2:
        return apply_then(convolution.conv2d, (x, weight, bias), options, activation)
    y = in_one_row(convolution.conv2d, x, weight, bias, options)
    return y if activation is None else activation(y)


def in_one_row(primitive: Any, x: Array, weight: Array, bias: Any, options: Any) -> Array:
    """Run sequences through a primitive for images, as images of one row."""
    row = {
        "stride": (1, *options["stride"]),
        "dilation": (1, *options["dilation"]),
        "padding": ((0, 0), *options["padding"]),
    }
    if "size" in options:
        row["size"] = (1, *options["size"])
    x = apply(shape.expand_dims, (x,), {"axis": 1})
    weight = apply(shape.expand_dims, (weight,), {"axis": 0})
    y = apply(primitive, (x, weight, bias), options | row)
    return apply(shape.squeeze, (y,), {"axis": 1})


def conv_output_shape(
    x_shape: Shape,
    weight_shape: Shape,
    *,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Shape:
    """Return the shape of what :func:`conv1d` or :func:`conv2d` makes of x.

    Parameters
    ----------
    x_shape : (N, T, C) or (N, H, W, C)
    weight_shape : (k, C / groups, O) or (kh, kw, C / groups, O)
    stride, padding, dilation, groups
        As for :func:`conv2d`.

    Raises
    ------
    ShapeError, ConfigError
        If shapes or options do not fit each other.

    Examples
    --------
    >>> from xpnn import functional as F
    >>> F.conv_output_shape((64, 28, 28, 1), (5, 5, 1, 20), stride=2, padding=2)
    (64, 14, 14, 20)
    """
    who, n = "conv_output_shape", spatial_axes("conv_output_shape", weight_shape)
    s = as_tuple(stride, "stride", n=n, who=who)
    d = as_tuple(dilation, "dilation", n=n, who=who)
    if len(x_shape) == n + 2:
        padding = resolve_padding(
            padding, tuple(x_shape[1:-1]), tuple(weight_shape[:-2]), s, d, who=who
        )
    options: Any = {"stride": s, "padding": padding, "dilation": d, "groups": groups}
    return conv_shape(tuple(x_shape), tuple(weight_shape), who=who, **options)


def spatial_axes(who: str, weight_shape: Shape) -> int:
    """Return how many spatial axes a weight is for: 1 or 2."""
    n = len(weight_shape) - 2
    if n not in LAYOUTS:
        msg = (
            f"{who}: expected a weight shape of three or four sizes, (k, C, O) or (kh, kw, C, O),"
            f" got {tuple(weight_shape)}."
        )
        raise ShapeError(msg)
    return n
