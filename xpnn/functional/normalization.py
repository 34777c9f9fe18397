"""Normalization."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xpnn._dtypes import as_dtype
from xpnn.autograd.record import apply
from xpnn.backend import array_namespace
from xpnn.errors import DTypeError, ShapeError
from xpnn.functional.rectifiers import relu
from xpnn.primitives import normalization

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm"]

Array = Any
Axis = int | tuple[int, ...]


def batch_norm(
    x: Array,
    scale: Array | None = None,
    shift: Array | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    statistics: tuple[Array, Array] | None = None,
    activation: Callable[[Array], Array] | None = None,
) -> tuple[Array, Array, Array]:
    r"""Normalize each channel, :math:`\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta`.

    Parameters
    ----------
    x : array
    scale, shift : array of shape (channels,), optional
        :math:`\gamma` and :math:`\beta`.
    axis : int
        The axis of the channels; the statistics are over all others.
    epsilon : float
        Inside the root.
    statistics : (mean, variance), optional
        Of each channel, for prediction; taken from ``x`` if not given (the variance over n, not
        n - 1).
    activation : callable, optional
        A function of one array, what ``y`` goes through at last. ``relu`` is computed in the same
        pass over the memory.

    Returns
    -------
    y, mean, variance : arrays

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> y, mean, variance = F.batch_norm(np.asarray([[1.0], [3.0]]), epsilon=0.0)
    >>> y[:, 0], mean, variance
    (array([-1.,  1.]), array([2.]), array([1.]))
    """
    _check_real("batch_norm", x)
    (axis,) = _axes("batch_norm", axis, x)
    options: dict[str, Any] = {
        "axes": tuple(i for i in range(x.ndim) if i != axis), "epsilon": epsilon,
    }  # fmt: skip
    if statistics is None:
        options["rectified"] = rectified = activation is relu
        y, mean, variance = apply(normalization.batch_norm, (x, scale, shift), options)
        return y if rectified or activation is None else activation(y), mean, variance
    mean, variance = statistics
    xp = array_namespace(x, mean, scale, shift)
    y = normalization.batch_norm_inference(xp, x, mean, variance, scale, shift, **options)
    return y if activation is None else activation(y), mean, variance


def layer_norm(
    x: Array,
    scale: Array | None = None,
    shift: Array | None = None,
    *,
    axis: Axis = -1,
    epsilon: float = 1e-5,
) -> Array:
    r"""Normalize each example over some of its axes (Ba, Kiros & Hinton 2016).

    .. math:: y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    Parameters
    ----------
    x : array
    scale, shift : array of the lengths of ``x`` along ``axis``, optional
        :math:`\gamma` and :math:`\beta`, a value for each normalized element.
    axis : int or tuple of int
        The axes over which mean and variance (over n, not n - 1) are taken.
    epsilon : float
        Inside the root.

    Returns
    -------
    array
        Of the shape and dtype of ``x``.

    Raises
    ------
    ShapeError
        If an axis is not there or has no elements, or scale or shift have another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.layer_norm(np.asarray([[1.0, 3.0], [20.0, 10.0]]), epsilon=0.0)
    array([[-1.,  1.],
           [ 1., -1.]])
    """
    axes = _axes("layer_norm", axis, x)
    scale, shift = (_along("layer_norm", v, x, axes) for v in (scale, shift))
    return _normalize("layer_norm", x, scale, shift, axes, epsilon)


def rms_norm(
    x: Array, scale: Array | None = None, *, axis: Axis = -1, epsilon: float = 1e-5
) -> Array:
    r"""Divide by the root of the mean square (Zhang & Sennrich 2019).

    .. math:: y = \gamma \frac{x}{\sqrt{\frac1n \sum x^2 + \epsilon}}

    The paper has no :math:`\epsilon`; it is inside the root here as in PyTorch and Keras.

    Parameters
    ----------
    x : array
    scale : array of the lengths of ``x`` along ``axis``, optional
        :math:`\gamma`.
    axis : int or tuple of int
        The axes over which the mean is taken.
    epsilon : float

    Returns
    -------
    array
        Of the shape and dtype of ``x``.

    Raises
    ------
    ShapeError
        If an axis is not there or has no elements, or scale has another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.rms_norm(np.asarray([[3.0, 4.0, 0.0, 0.0]]), epsilon=0.0)
    array([[1.2, 1.6, 0. , 0. ]])
    """
    axes = _axes("rms_norm", axis, x)
    scale = _along("rms_norm", scale, x, axes)
    return _normalize("rms_norm", x, scale, None, axes, epsilon, centered=False)


def group_norm(
    x: Array,
    groups: int,
    scale: Array | None = None,
    shift: Array | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
) -> Array:
    r"""Normalize each group of channels of each example (Wu & He 2018).

    .. math:: y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    with the mean and the variance (over n, not n - 1) of an example's group: neighbouring channels
    at all places. One group is a layer normalization with a scale and a shift a channel; as many
    groups as channels are an instance normalization.

    Parameters
    ----------
    x : array of shape (N, ..., channels), or with the channels on another axis
    groups : int
        Divides the number of channels.
    scale, shift : array of shape (channels,), optional
        :math:`\gamma` and :math:`\beta`.
    axis : int
        The axis of the channels; not the first, which is that of the examples.
    epsilon : float
        Inside the root.

    Returns
    -------
    array
        Of the shape and dtype of ``x``.

    Raises
    ------
    ShapeError
        If the channels do not divide into the groups, or scale or shift have another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.group_norm(np.asarray([[1.0, 3.0, 20.0, 10.0]]), 2, epsilon=0.0)
    array([[-1.,  1.,  1., -1.]])
    """
    axis = _channels("group_norm", axis, x)
    n = x.shape[axis]
    if groups < 1 or n % groups:
        msg = (
            f"group_norm: expected channels that divide into {groups} groups, got {n} on axis"
            f" {axis} of x of shape {tuple(x.shape)}. Choose a divisor of {n}, or another axis."
        )
        raise ShapeError(msg)
    parts, xp = (groups, n // groups), array_namespace(x)
    split = xp.reshape(x, (*x.shape[:axis], *parts, *x.shape[axis + 1 :]))
    vectors = [_along("group_norm", v, x, (axis,)) for v in (scale, shift)]
    scale, shift = (
        v if v is None else array_namespace(v).reshape(v, (*parts, *v.shape[1:])) for v in vectors
    )
    axes = tuple(i for i in range(1, split.ndim) if i != axis)
    y = _normalize("group_norm", split, scale, shift, axes, epsilon)
    return xp.reshape(y, x.shape)


def instance_norm(
    x: Array,
    scale: Array | None = None,
    shift: Array | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
) -> Array:
    r"""Normalize each channel of each example (Ulyanov, Vedaldi & Lempitsky 2016).

    .. math:: y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    with the mean and the variance (over n, not n - 1) of one channel of one example over its
    places, in training and in prediction.

    Parameters
    ----------
    x : array of shape (N, ..., channels), or with the channels on another axis
    scale, shift : array of shape (channels,), optional
        :math:`\gamma` and :math:`\beta`.
    axis : int
        The axis of the channels; not the first, which is that of the examples.
    epsilon : float
        Inside the root.

    Returns
    -------
    array
        Of the shape and dtype of ``x``.

    Raises
    ------
    ShapeError
        If a channel has less than two values, which would all become zero, or scale or shift have
        another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> x = np.asarray([[[1.0, 20.0], [3.0, 10.0]]])  # one example, two places, two channels
    >>> F.instance_norm(x, epsilon=0.0)
    array([[[-1.,  1.],
            [ 1., -1.]]])
    """
    axis = _channels("instance_norm", axis, x)
    axes = tuple(i for i in range(1, x.ndim) if i != axis)
    if math.prod(x.shape[i] for i in axes) < 2:
        msg = (
            "instance_norm: expected at least two values a channel, whose mean is taken, got x of"
            f" shape {tuple(x.shape)} with channels on axis {axis}. Is that the axis of the"
            " channels? For features without places, use layer_norm."
        )
        raise ShapeError(msg)
    scale, shift = (_along("instance_norm", v, x, (axis,)) for v in (scale, shift))
    return _normalize("instance_norm", x, scale, shift, axes, epsilon)


# -------------------------------------------------------------------------- what they share


def _check_real(who: str, x: Array) -> None:
    dtype = as_dtype(x.dtype)
    if dtype.kind != "f":
        msg = f"{who}: expected real floating-point x, got {dtype}."
        raise DTypeError(msg)


def _axes(who: str, axis: Axis, x: Array) -> tuple[int, ...]:
    """Return axes counted from the front, in order."""
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    axes = tuple(sorted({a % x.ndim for a in given if -x.ndim <= a < x.ndim}))
    if len(axes) != len(given) or not axes:
        msg = f"{who}: expected x to have, each once, the axes {axis}, got shape {tuple(x.shape)}."
        raise ShapeError(msg)
    return axes


def _channels(who: str, axis: int, x: Array) -> int:
    """Return the axis of the channels, counted from the front."""
    (found,) = _axes(who, axis, x)
    if found == 0:
        msg = (
            f"{who}: expected channels on axis {axis} and examples on the first axis, got x of"
            f" shape {tuple(x.shape)}. For a single example, use x[None, ...]."
        )
        raise ShapeError(msg)
    return found


def _along(who: str, values: Array | None, x: Array, axes: tuple[int, ...]) -> Array | None:
    """Return an array of the lengths of x along axes as one that broadcasts against x."""
    if values is None:
        return None
    lengths = tuple(x.shape[a] for a in axes)
    if tuple(values.shape) != lengths:
        where = f"axis {axes[0]}" if len(axes) == 1 else f"the axes {axes}"
        msg = (
            f"{who}: expected scale and shift of shape {lengths}, as x of shape {tuple(x.shape)}"
            f" has it on {where}, got {tuple(values.shape)}."
        )
        raise ShapeError(msg)
    kept = tuple(x.shape[i] if i in axes else 1 for i in range(axes[0], x.ndim))
    return values if kept == lengths else array_namespace(values).reshape(values, kept)


def _normalize(
    who: str,
    x: Array,
    scale: Array | None,
    shift: Array | None,
    axes: tuple[int, ...],
    epsilon: float,
    centered: bool = True,
) -> Array:
    _check_real(who, x)
    if any(x.shape[a] == 0 for a in axes):
        msg = (
            f"{who}: expected at least one value to take the mean of, got x of shape"
            f" {tuple(x.shape)} for the axes {axes}."
        )
        raise ShapeError(msg)
    options = {"axes": axes, "epsilon": epsilon, "centered": centered}
    return apply(normalization.normalize, (x, scale, shift), options)
