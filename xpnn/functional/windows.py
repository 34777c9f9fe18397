"""What convolution and resizing are made of: padding, columns, dilation, upsampling."""

from __future__ import annotations

import math
from typing import Any

from xpnn import backend
from xpnn.autograd.record import apply
from xpnn.errors import ConfigError, ShapeError
from xpnn.primitives import columns, indexing
from xpnn.primitives.shape import stack
from xpnn.primitives.windows import as_pairs, as_tuple, resolve_padding, window_outputs

__all__ = [
    "col2im",
    "dilate",
    "im2col",
    "interpolator",
    "pad",
    "same_padding",
    "upsample2d",
]

Array = Any
Shape = tuple[int, ...]
Sizes = int | tuple[int, ...]  # one for all axes, or one an axis


def pad(x: Array, padding: Any, *, value: float = 0.0) -> Array:
    """Put a constant before and after the axes of an array.

    Parameters
    ----------
    x : array
    padding : int, or a sequence with an int or a pair (before, after) for every axis
    value : float

    Returns
    -------
    array

    Raises
    ------
    ConfigError
        If ``padding`` is none of these; a number may not be negative.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.pad(np.ones((1, 2)), ((0, 1), 1), value=5.0)
    array([[5., 1., 1., 5.],
           [5., 5., 5., 5.]])
    """
    options = {"padding": as_pairs(padding, x.ndim, who="pad"), "value": value}
    return apply(columns.pad, (x,), options)


def same_padding(
    size: Sizes, kernel_size: Sizes, *, stride: Sizes = 1, dilation: Sizes = 1
) -> tuple[tuple[int, int], ...]:
    r"""Return the padding (before, after) of each axis that ``padding="same"`` stands for.

    That with which a window stops at :math:`\lceil n / s \rceil` places, the odd element after, as
    TensorFlow and Keras have it. numpy-ml pads to n places at any stride s.

    Parameters
    ----------
    size : int or tuple of int
        Of the spatial axes; their number says how many there are.
    kernel_size, stride, dilation : int or tuple of int

    Examples
    --------
    >>> from xpnn import functional as F
    >>> F.same_padding((28, 27), 3, stride=2)
    ((0, 1), (1, 1))
    """
    n = 1 if isinstance(size, int) else len(size)
    sizes = as_tuple(size, "size", n=n, who="same_padding")
    window = _window("same_padding", n, kernel_size, stride, dilation)
    return resolve_padding(
        "same", sizes, window["kernel"], window["stride"], window["dilation"], who="same_padding"
    )


def _window(who: str, n: int, kernel_size: Any, stride: Any, dilation: Any) -> dict[str, Shape]:
    return {
        "kernel": as_tuple(kernel_size, "kernel_size", n=n, who=who),
        "stride": as_tuple(stride, "stride", n=n, who=who),
        "dilation": as_tuple(dilation, "dilation", n=n, who=who),
    }


def im2col(
    x: Array, kernel_size: Sizes, *, stride: Sizes = 1, padding: Any = 0, dilation: Sizes = 1
) -> Array:
    """Return the windows of sequences or images, each laid out as one row.

    The last axis has the elements of the window row by row and, of each, the channels: the order
    of a kernel, so that a convolution is ``im2col(x, k) @ reshape(weight, (-1, O))``. (PyTorch's
    ``unfold`` and numpy-ml's ``im2col`` have the channels outside, and one example after another.)

    Parameters
    ----------
    x : array of shape (N, T, C) or (N, H, W, C)
    kernel_size, stride, padding, dilation
        As for :func:`conv2d`.

    Returns
    -------
    array of shape (N, T', k C) or (N, H', W', kh kw C)

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.im2col(np.arange(4)[None, :, None], 2)[0]
    array([[0, 1],
           [1, 2],
           [2, 3]])
    """
    n = _spatial("im2col", x)
    window = _window("im2col", n, kernel_size, stride, dilation)
    size = tuple(x.shape[1:-1])
    pairs = resolve_padding(padding, size, *window.values(), who="im2col")
    return apply(columns.im2col, (x,), window | {"padding": pairs})


def col2im(
    x: Array,
    size: Sizes,
    kernel_size: Sizes,
    *,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
) -> Array:
    """Add the rows of :func:`im2col` up to what they came from: its transpose, not its inverse.

    An element that several windows see is the sum of what they say.

    Parameters
    ----------
    x : array of shape (N, T', k C) or (N, H', W', kh kw C)
    size : int or tuple of int
        Of the spatial axes of the result: T, or (H, W).
    kernel_size, stride, padding, dilation
        As for :func:`im2col`.

    Returns
    -------
    array of shape (N, T, C) or (N, H, W, C)

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.col2im(F.im2col(np.ones((1, 4, 1)), 2), 4, 2)[0, :, 0]
    array([1., 2., 2., 1.])
    """
    n = _spatial("col2im", x)
    window = _window("col2im", n, kernel_size, stride, dilation)
    sizes = as_tuple(size, "size", n=n, who="col2im")
    pairs = resolve_padding(padding, sizes, *window.values(), who="col2im")
    kernel, steps, between = window.values()
    outputs = window_outputs(sizes, kernel, steps, pairs, between, who="col2im")
    taps = math.prod(kernel)
    if tuple(x.shape[1:-1]) != outputs or x.shape[-1] % taps:
        msg = (
            f"col2im: expected x of shape (N, {', '.join(map(str, outputs))}, a multiple of {taps})"
            f" for windows {kernel} on axes of {sizes}, got {tuple(x.shape)}. Give the options that"
            " im2col was given."
        )
        raise ShapeError(msg)
    return apply(columns.col2im, (x,), window | {"padding": pairs, "size": sizes})


def dilate(x: Array, dilation: Sizes) -> Array:
    """Put zeros between the elements along the spatial axes.

    Parameters
    ----------
    x : array of shape (N, ..., C)
    dilation : int or tuple of int
        How far apart elements are then: 1 changes nothing. (numpy-ml counts the zeros, one fewer.)

    Returns
    -------
    array
        An axis of n elements has :math:`d (n - 1) + 1`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.dilate(np.asarray([1.0, 2.0, 3.0])[None, :, None], 2)[0, :, 0]
    array([1., 0., 2., 0., 3.])
    """
    n = _spatial("dilate", x)
    ds = as_tuple(dilation, "dilation", n=n, who="dilate")
    sizes = (max((m - 1) * d + 1, 0) for m, d in zip(x.shape[1:-1], ds, strict=True))
    key = (slice(None), *(slice(None, None, d) for d in ds), slice(None))
    shape = (x.shape[0], *sizes, x.shape[-1])
    return apply(indexing.unslice, (x,), {"shape": shape, "key": key})


def upsample2d(x: Array, factor: Sizes, *, interpolation: str = "nearest") -> Array:
    """Return images of ``factor`` times as many rows and columns.

    Parameters
    ----------
    x : array of shape (N, H, W, C)
    factor : int or pair
    interpolation : {"nearest", "bilinear"}
        "nearest" repeats every pixel. "bilinear" is linear between the centres of pixels, and
        constant beyond the outermost: PyTorch's ``align_corners=False``, and what Keras and
        TensorFlow 2 do.

    Returns
    -------
    array of shape (N, factor H, factor W, C)

    Raises
    ------
    ConfigError, ShapeError

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> x = np.asarray([0.0, 4.0]).reshape(1, 1, 2, 1)
    >>> F.upsample2d(x, (1, 2))[0, 0, :, 0]
    array([0., 0., 4., 4.])
    >>> F.upsample2d(x, (1, 2), interpolation="bilinear")[0, 0, :, 0]
    array([0., 1., 3., 4.])
    """
    factors = as_tuple(factor, "factor", who="upsample2d")
    resize = interpolator("upsample2d", interpolation)
    if x.ndim != 4:
        msg = (
            f"upsample2d: expected x of shape (N, H, W, C), got {tuple(x.shape)}. A single image"
            " needs a batch axis, x[None, ...], and a grey one a channel axis, x[..., None]."
        )
        raise ShapeError(msg)
    xp = backend.array_namespace(x)
    for axis, s in enumerate(factors, 1):
        if s > 1:
            x = resize(xp, x, axis, s)
    return x


def interpolator(who: str, interpolation: str) -> Any:
    """Return the function that upsamples one axis in the way of that name."""
    known = {"nearest": _repeated, "bilinear": _interpolated}
    if interpolation not in known:
        msg = f"{who}: 'interpolation' must be 'nearest' or 'bilinear', got {interpolation!r}."
        raise ConfigError(msg)
    return known[interpolation]


def _repeated(xp: Any, x: Array, axis: int, s: int) -> Array:
    front, n, back = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    x = xp.broadcast_to(xp.expand_dims(x, axis=axis + 1), (*front, n, s, *back))
    return xp.reshape(x, (*front, n * s, *back))


def _interpolated(xp: Any, x: Array, axis: int, s: int) -> Array:
    """Make of each element the s that are t of the way to a neighbour: the next, or, t < 0, before.

    Their centres lie at (r + 1/2) / s - 1/2 for r = 0, ..., s - 1.
    """
    front, n, back = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    at = (slice(None),) * axis
    ends = x[(*at, slice(0, 1), ...)], x[(*at, slice(n - 1, n), ...)]
    wider = xp.concat([ends[0], x, ends[1]], axis=axis)
    before, after = wider[(*at, slice(0, n), ...)], wider[(*at, slice(2, n + 2), ...)]
    ts = [(r + 0.5) / s - 0.5 for r in range(s)]
    parts = [x + abs(t) * ((after if t > 0 else before) - x) for t in ts]
    return xp.reshape(stack(xp, *parts, axis=axis + 1), (*front, n * s, *back))


def _spatial(who: str, x: Array) -> int:
    if x.ndim < 3:
        msg = f"{who}: expected x of shape (N, ..., C) with spatial axes, got {tuple(x.shape)}."
        raise ShapeError(msg)
    return int(x.ndim) - 2
