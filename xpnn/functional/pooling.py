"""Pooling of sequences and images."""

from __future__ import annotations

import math
from typing import Any

from xpnn import backend
from xpnn._dtypes import as_dtype
from xpnn.autograd.record import apply
from xpnn.errors import ConfigError, DTypeError, ShapeError
from xpnn.primitives import pooling, shape
from xpnn.primitives.pooling import pool_shape
from xpnn.primitives.windows import as_tuple, resolve_padding

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "global_avg_pool",
    "global_max_pool",
    "max_pool1d",
    "max_pool2d",
    "pool",
    "pool_mode",
]

Array = Any
Sizes = int | tuple[int, ...]  # one for all axes, or one an axis


def pool(
    who: str,
    primitive: Any,
    x: Array,
    window: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Any,
    ceil_mode: bool,
    **options: Any,
) -> Array:
    """Pool over as many axes as the window has, 1 or 2, for a function or layer ``who``.

    A sequence is an image of one row.
    """
    dtype = as_dtype(x.dtype)
    if primitive is pooling.max_pool2d and dtype.kind == "c":
        msg = f"{who}: expected real x, as complex numbers have no largest, got {dtype}."
        raise DTypeError(msg)
    if x.ndim == len(window) + 2:  # else pool_shape says what is wrong
        padding = resolve_padding(padding, tuple(x.shape[1:-1]), window, stride, who=who)
    else:
        padding = ((0, 0),) * len(window)
    where = {"pool": window, "stride": stride, "padding": padding}
    pool_shape(x.shape, ceil_mode=ceil_mode, who=who, **where)
    options["ceil_mode"] = ceil_mode
    if len(window) == 2:
        return apply(primitive, (x,), options | where)
    row = {"pool": (1, *window), "stride": (1, *stride), "padding": ((0, 0), *padding)}
    y = apply(primitive, (apply(shape.expand_dims, (x,), {"axis": 1}),), options | row)
    return apply(shape.squeeze, (y,), {"axis": 1})


def _pool(who: str, n: int, primitive: Any, x: Array, size: Any, stride: Any, *rest: Any) -> Array:
    window = as_tuple(size, "size", n=n, who=who)
    steps = window if stride is None else as_tuple(stride, "stride", n=n, who=who)
    padding, ceil_mode, options = rest
    return pool(who, primitive, x, window, steps, padding, ceil_mode, **options)


def max_pool1d(
    x: Array, size: int, *, stride: int | None = None, padding: Any = 0, ceil_mode: bool = False
) -> Array:
    """Return the largest element of each window of sequences.

    Parameters
    ----------
    x : array of shape (N, T, C)
    size, stride, padding, ceil_mode
        As for :func:`max_pool2d`; the padding may be "causal" as well.

    Returns
    -------
    array of shape (N, T', C)

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.max_pool1d(np.asarray([1.0, 3.0, 2.0, 0.0])[None, :, None], 2)[0, :, 0]
    array([3., 2.])
    """
    return _pool("max_pool1d", 1, pooling.max_pool2d, x, size, stride, padding, ceil_mode, {})


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
    padding : int, pair, pair of pairs, "valid", "same" or "full"
        What is around the image never is the largest.
    ceil_mode : bool
        Whether a window that begins inside and ends beyond the image counts.

    Returns
    -------
    array of shape (N, H', W', C)

    Raises
    ------
    ShapeError, ConfigError
        If the window does not fit, or would lie in the padding altogether.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.max_pool2d(np.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    return _pool("max_pool2d", 2, pooling.max_pool2d, x, size, stride, padding, ceil_mode, {})


def avg_pool1d(
    x: Array,
    size: int,
    *,
    stride: int | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    mode: str = "average",
) -> Array:
    """Return the mean, or the sum, of each window of sequences.

    Parameters
    ----------
    x : array of shape (N, T, C)
    size, stride, padding, ceil_mode
        As for :func:`max_pool1d`.
    count_include_pad, mode
        As for :func:`avg_pool2d`.

    Returns
    -------
    array of shape (N, T', C)

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.avg_pool1d(np.asarray([1.0, 3.0, 2.0, 0.0])[None, :, None], 2)[0, :, 0]
    array([2., 1.])
    """
    options = {"count_include_pad": count_include_pad, "mode": pool_mode("avg_pool1d", mode)}
    return _pool("avg_pool1d", 1, pooling.avg_pool2d, x, size, stride, padding, ceil_mode, options)


def avg_pool2d(
    x: Array,
    size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    mode: str = "average",
) -> Array:
    """Return the mean, or the sum, of each window.

    Parameters
    ----------
    x, size, stride, padding, ceil_mode
        As for :func:`max_pool2d`.
    count_include_pad : bool
        Whether the zeros of the padding count as elements, as PyTorch has it by default; TensorFlow
        and Keras do not count them.
    mode : {"average", "sum"}
        "sum" divides by nothing, so that nothing is counted.

    Returns
    -------
    array of shape (N, H', W', C)

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.avg_pool2d(np.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    options = {"count_include_pad": count_include_pad, "mode": pool_mode("avg_pool2d", mode)}
    return _pool("avg_pool2d", 2, pooling.avg_pool2d, x, size, stride, padding, ceil_mode, options)


def pool_mode(who: str, mode: str) -> str:
    """Return a ``mode`` that is one of the two."""
    if mode not in ("average", "sum"):
        msg = f"{who}: 'mode' must be 'average' or 'sum', got {mode!r}."
        raise ConfigError(msg)
    return mode


def global_avg_pool(x: Array, *, keepdims: bool = False) -> Array:
    """Return the mean over all spatial axes (Lin, Chen & Yan 2013).

    Parameters
    ----------
    x : array of shape (N, ..., C)
        With any number of spatial axes, but at least one.
    keepdims : bool
        Whether they stay, with length 1.

    Returns
    -------
    array of shape (N, C), or (N, 1, ..., 1, C)

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.global_avg_pool(np.arange(4.0).reshape(1, 2, 2, 1))
    array([[1.5]])
    """
    _has_places("global_avg_pool", x)
    axes = tuple(range(1, x.ndim - 1))
    return backend.array_namespace(x).mean(x, axis=axes, keepdims=keepdims)


def global_max_pool(x: Array, *, keepdims: bool = False) -> Array:
    """Return the largest element over all spatial axes; the first of equal ones gets the gradient.

    Parameters
    ----------
    x, keepdims
        As for :func:`global_avg_pool`.

    Returns
    -------
    array of shape (N, C), or (N, 1, ..., 1, C)

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.global_max_pool(np.arange(4.0).reshape(1, 2, 2, 1))
    array([[3.]])
    """
    _has_places("global_max_pool", x)
    (n, *places, c), xp = x.shape, backend.array_namespace(x)
    y = apply(pooling.first_max, (xp.reshape(x, (n, math.prod(places), c)),))
    return xp.reshape(y, (n, *(1 for _ in places), c)) if keepdims else y


def _has_places(who: str, x: Array) -> None:
    if x.ndim < 3 or 0 in x.shape[1:-1]:
        msg = (
            f"{who}: expected x of shape (N, ..., C) with at least one spatial axis, and none of"
            f" length 0, got shape {tuple(x.shape)}."
        )
        raise ShapeError(msg)
