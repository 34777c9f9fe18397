"""Convolution and pooling of images."""

from __future__ import annotations

from typing import Any

from xpnn.autograd.record import apply
from xpnn.errors import ShapeError
from xpnn.primitives import convolution, pooling
from xpnn.primitives.windows import as_tuple, resolve_padding

__all__ = ["avg_pool2d", "conv2d", "max_pool2d"]

Array = Any
Sizes = int | tuple[int, ...]  # one for both axes, or one an axis


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Array:
    r"""Return the cross-correlation of images with kernels, channels last.

    Parameters
    ----------
    x : array of shape (N, H, W, C)
    weight : array of shape (kh, kw, C / groups, O)
    bias : array of shape (O,), optional
    stride, dilation : int or pair
        ``dilation=1`` means none.
    padding : int, pair, pair of pairs, "valid" or "same"
        Zeros around the image. "same" gives :math:`\lceil H / s \rceil` rows, the odd one at the
        end, as TensorFlow and Keras have it.
    groups : int
        Into how many groups the channels fall; each sees only its own.

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
    stride = as_tuple(stride, "stride")
    dilation = as_tuple(dilation, "dilation")
    sizes, kernel = tuple(x.shape[1:3]), tuple(weight.shape[:2])
    if x.ndim == weight.ndim == 4:  # else conv2d itself says what is wrong
        padding = resolve_padding(padding, sizes, kernel, stride, dilation)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return apply(convolution.conv2d, (x, weight, bias), options)


def _pool(who: str, x: Array, size: Any, stride: Any, padding: Any) -> dict[str, Any]:
    if x.ndim != 4:
        msg = (
            f"{who}: expected x of shape (N, H, W, C), got {tuple(x.shape)}. Grey images need a"
            " channel axis, x[..., None]."
        )
        raise ShapeError(msg)
    pool = as_tuple(size, "size", who=who)
    steps = pool if stride is None else as_tuple(stride, "stride", who=who)
    pairs = resolve_padding(padding, tuple(x.shape[1:3]), pool, steps, who=who)
    return {"pool": pool, "stride": steps, "padding": pairs}


def max_pool2d(
    x: Array,
    size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
) -> Array:
    """Return the largest element of each window; the first of equal ones gets the gradient.

    Parameters
    ----------
    x : array of shape (N, H, W, C)
    size : int or pair
        Of the window.
    stride : int or pair, optional
        The size of the window if not given.
    padding : int, pair, pair of pairs, "valid" or "same"
        What is around the image never is the largest.
    ceil_mode : bool
        Whether a window that begins inside and ends beyond the image counts.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.max_pool2d(np.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    options = _pool("max_pool2d", x, size, stride, padding)
    return apply(pooling.max_pool2d, (x,), options | {"ceil_mode": ceil_mode})


def avg_pool2d(
    x: Array,
    size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Return the mean of each window.

    Parameters
    ----------
    x, size, stride, padding, ceil_mode
        As for :func:`max_pool2d`.
    count_include_pad : bool
        Whether the zeros of the padding count as elements, as PyTorch has it by default.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.avg_pool2d(np.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    options = _pool("avg_pool2d", x, size, stride, padding)
    options |= {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    return apply(pooling.avg_pool2d, (x,), options)
