"""Normalization layers."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from xpnn import activations, initializers
from xpnn import functional as F
from xpnn.backend import array_namespace, unwrap
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers.base import Layer, Parameter
from xpnn.layers.checks import integers, require_floats

__all__ = ["BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm"]

Array = Any


class BatchNorm(Layer):
    r"""Batch normalization, :math:`y = \gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta`.

    In training :math:`\mu` and :math:`\sigma^2` are those of the batch, for each channel over all
    other axes; the running statistics take in a part ``momentum`` of them. In prediction they are
    the running statistics. Ioffe & Szegedy 2015; as in PyTorch, the batch is normalized with the
    variance over n, and the running variance takes in the one over n - 1. What Keras and numpy-ml
    call momentum, 0.9, is 0.1 here, and their running variance is that over n. A frozen layer still
    follows the batches in training, as in PyTorch; :meth:`eval` of the layer holds its statistics.

    Parameters
    ----------
    axis : int
        The axis of the channels: -1 for (N, ..., C), 1 for (N, C, ...).
    momentum : float
        How much of the batch statistics goes into the running ones, in [0, 1].
    epsilon : float
        Inside the root.
    affine : bool
        Whether there are :math:`\gamma` and :math:`\beta`.
    activation : str or callable, optional
        What y goes through at last. On the CPU, "relu" costs no pass over the memory here, as a
        layer behind this one does.

    Attributes
    ----------
    scale, shift : Parameter of shape (channels,), or None
        :math:`\gamma`, at first 1, and :math:`\beta`, at first 0.
    running_mean, running_var : array of shape (channels,)

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> y = layers.BatchNorm()(np.asarray([[0.0, 1.0], [2.0, 5.0]], np.float32))
    >>> bool(np.allclose(y.data, [[-1, -1], [1, 1]], atol=1e-4))
    True
    """

    functions: ClassVar[tuple[str, ...]] = ("batch_norm",)
    buffers: ClassVar[tuple[str, ...]] = ("running_mean", "running_var")
    channels: int | None = None

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        affine: bool = True,
        activation: Any = None,
    ) -> None:
        if not 0.0 <= momentum <= 1.0:
            msg = f"BatchNorm: 'momentum' must be in [0, 1], got {momentum}."
            raise ConfigError(msg)
        (self.axis,) = integers("BatchNorm", None, axis=axis)
        self.momentum, self.affine = momentum, affine
        self.epsilon = _positive("BatchNorm", epsilon)
        self.activation = activations.get(activation)

    def build(self, shape: tuple[int, ...]) -> None:
        if not -len(shape) <= self.axis < len(shape) or len(shape) < 2:
            msg = (
                f"BatchNorm(axis={self.axis}): expected x with at least two axes, one of them"
                f" {self.axis}, got shape {tuple(shape)}."
            )
            raise ShapeError(msg)
        if not shape[self.axis]:
            msg = f"BatchNorm: expected x with channels on axis {self.axis}, got {tuple(shape)}."
            raise ShapeError(msg)
        self.channels = shape[self.axis]
        self.scale = Parameter(initializers.ones((self.channels,))) if self.affine else None
        self.shift = Parameter(initializers.zeros((self.channels,))) if self.affine else None
        self.reset_running_stats()

    def reset_running_stats(self) -> None:
        """Set the running mean to 0 and the running variance to 1, as they are at first."""
        if self.channels is None:
            return
        self.running_mean = initializers.zeros((self.channels,), device=self._device)
        self.running_var = initializers.ones((self.channels,), device=self._device)

    def forward(self, x: Array) -> Array:
        require_floats("BatchNorm", x)
        if x.ndim < 2 or x.shape[self.axis] != self.channels:
            msg = (
                f"BatchNorm: expected x with {self.channels} channels on axis {self.axis}, got"
                f" shape {tuple(x.shape)}."
            )
            raise ShapeError(msg)
        options: dict[str, Any] = {"axis": self.axis, "epsilon": self.epsilon}
        if not self.training:
            options["statistics"] = self.running_mean, self.running_var
        elif (n := math.prod(x.shape) // self.channels) < 2:
            msg = (
                "BatchNorm: in training more than one value a channel is needed, got shape"
                f" {tuple(x.shape)}. Use a larger batch, or eval()."
            )
            raise ShapeError(msg)
        y, mean, var = F.batch_norm(
            x, self.scale, self.shift, activation=self.activation, **options
        )
        if self.training:
            self._take_in(unwrap(mean), unwrap(var) * (n / (n - 1)))
        return y

    def _take_in(self, mean: Array, var: Array) -> None:
        xp = array_namespace(mean)
        for name, new in (("running_mean", mean), ("running_var", var)):
            old = getattr(self, name)
            new = xp.astype(new, old.dtype, copy=False)
            setattr(self, name, old + self.momentum * (new - old))


class _Normalization(Layer):
    """What the layers without running statistics share: the parameters, and looking at x."""

    axis: Any  # an int, or a tuple of them
    affine: bool
    has_shift: ClassVar[bool] = True

    def _lengths(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the lengths along the axes, in the order of the axes; None if one is missing."""
        axes = (self.axis,) if isinstance(self.axis, int) else self.axis
        if any(not -len(shape) <= a < len(shape) for a in axes):
            return None
        return tuple(shape[a] for a in sorted(a % len(shape) for a in axes))

    def build(self, shape: tuple[int, ...]) -> None:
        self.scale = self.shift = None
        if not self.affine:
            return
        self.lengths = self._lengths(shape)
        if self.lengths is None:
            msg = f"{self!r}: expected x with the axes {self.axis}, got shape {tuple(shape)}."
            raise ShapeError(msg)
        self.scale = Parameter(initializers.ones(self.lengths))
        if self.has_shift:
            self.shift = Parameter(initializers.zeros(self.lengths))

    def normalize(self, x: Array) -> Array:
        """Compute the layer."""
        raise NotImplementedError

    def forward(self, x: Array) -> Array:
        who = type(self).__name__
        require_floats(who, x)
        if self.affine and self._lengths(x.shape) != self.lengths:
            where = f"axis {self.axis}" if isinstance(self.axis, int) else f"axes {self.axis}"
            msg = (
                f"{who}: built for x of lengths {self.lengths} on {where}, got shape"
                f" {tuple(x.shape)}."
            )
            raise ShapeError(msg)
        return self.normalize(x)


class LayerNorm(_Normalization):
    r"""Layer normalization, :math:`y = \gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta`.

    The mean and the variance (over n, not n - 1) are those of each example over the given axes, in
    training and in prediction. Ba, Kiros & Hinton 2016, with a scale and a shift for every
    normalized element, as in PyTorch and Keras (whose epsilon is 1e-3).

    Parameters
    ----------
    axis : int or tuple of int
        What is normalized: -1 for the features of (N, ..., D); (1, 2, 3) for whole images
        (N, H, W, C), which numpy-ml calls LayerNorm2D.
    epsilon : float
        Inside the root.
    affine : bool
        Whether there are :math:`\gamma` and :math:`\beta`.

    Attributes
    ----------
    scale, shift : Parameter of the lengths of x along ``axis``, or None
        :math:`\gamma`, at first 1, and :math:`\beta`, at first 0.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> y = layers.LayerNorm()(np.asarray([[0.0, 2.0], [5.0, 1.0]], np.float32))
    >>> bool(np.allclose(y.data, [[-1, 1], [1, -1]], atol=1e-4))
    True
    """

    functions: ClassVar[tuple[str, ...]] = ("layer_norm",)

    def __init__(
        self, axis: int | tuple[int, ...] = -1, epsilon: float = 1e-5, affine: bool = True
    ) -> None:
        self.axis, self.affine = _distinct("LayerNorm", axis), affine
        self.epsilon = _positive("LayerNorm", epsilon)

    def normalize(self, x: Array) -> Array:
        return F.layer_norm(x, self.scale, self.shift, axis=self.axis, epsilon=self.epsilon)


class RMSNorm(_Normalization):
    r"""Root-mean-square normalization, :math:`y = \gamma x / \sqrt{\frac1n \sum x^2 + \epsilon}`.

    Layer normalization without the mean and the shift (Zhang & Sennrich 2019). The paper has no
    epsilon; it is inside the root as in PyTorch and Keras.

    Parameters
    ----------
    axis : int or tuple of int
        Over which the mean of the squares is taken, of each example.
    epsilon : float
    scale : bool
        Whether there is :math:`\gamma`.

    Attributes
    ----------
    scale : Parameter of the lengths of x along ``axis``, or None
        :math:`\gamma`, at first 1.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> y = layers.RMSNorm()(np.asarray([[3.0, 4.0, 0.0, 0.0]], np.float32))
    >>> bool(np.allclose(y.data, [[1.2, 1.6, 0, 0]], atol=1e-4))
    True
    """

    functions: ClassVar[tuple[str, ...]] = ("rms_norm",)
    has_shift: ClassVar[bool] = False

    def __init__(
        self, axis: int | tuple[int, ...] = -1, epsilon: float = 1e-5, scale: bool = True
    ) -> None:
        self.axis, self.affine = _distinct("RMSNorm", axis), scale
        self.epsilon = _positive("RMSNorm", epsilon)

    def normalize(self, x: Array) -> Array:
        return F.rms_norm(x, self.scale, axis=self.axis, epsilon=self.epsilon)


class GroupNorm(_Normalization):
    r"""Group normalization, :math:`y = \gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta`.

    The mean and the variance (over n, not n - 1) are those of an example's group of neighbouring
    channels at all places, in training and in prediction. Wu & He 2018.

    Parameters
    ----------
    groups : int
        Divides the number of channels. The paper takes 32.
    axis : int
        The axis of the channels: -1 for (N, ..., C), 1 for (N, C, ...).
    epsilon : float
        Inside the root.
    affine : bool
        Whether there are :math:`\gamma` and :math:`\beta`.

    Attributes
    ----------
    scale, shift : Parameter of shape (channels,), or None
        :math:`\gamma`, at first 1, and :math:`\beta`, at first 0.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.GroupNorm(2)(np.ones((5, 8, 8, 6), np.float32)).shape
    (5, 8, 8, 6)
    """

    functions: ClassVar[tuple[str, ...]] = ("group_norm",)

    def __init__(
        self, groups: int, axis: int = -1, epsilon: float = 1e-5, affine: bool = True
    ) -> None:
        (self.groups,) = integers("GroupNorm", groups=groups)
        (self.axis,) = integers("GroupNorm", None, axis=axis)
        self.affine = affine
        self.epsilon = _positive("GroupNorm", epsilon)

    def normalize(self, x: Array) -> Array:
        return F.group_norm(
            x, self.groups, self.scale, self.shift, axis=self.axis, epsilon=self.epsilon
        )


class InstanceNorm(_Normalization):
    r"""Instance normalization, :math:`y = \gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta`.

    The mean and the variance (over n, not n - 1) are those of one channel of one example over all
    places, in training and in prediction: there are no running statistics, as by default in
    PyTorch, whose layer has no scale and shift by default either. Ulyanov, Vedaldi & Lempitsky
    2016.

    Parameters
    ----------
    axis : int
        The axis of the channels: -1 for (N, ..., C), 1 for (N, C, ...).
    epsilon : float
        Inside the root.
    affine : bool
        Whether there are :math:`\gamma` and :math:`\beta`.

    Attributes
    ----------
    scale, shift : Parameter of shape (channels,), or None
        :math:`\gamma`, at first 1, and :math:`\beta`, at first 0.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> y = layers.InstanceNorm()(np.asarray([[[1.0], [3.0]], [[20.0], [10.0]]], np.float32))
    >>> bool(np.allclose(y.data[..., 0], [[-1, 1], [1, -1]], atol=1e-4))
    True
    """

    functions: ClassVar[tuple[str, ...]] = ("instance_norm",)

    def __init__(self, axis: int = -1, epsilon: float = 1e-5, affine: bool = True) -> None:
        (self.axis,) = integers("InstanceNorm", None, axis=axis)
        self.affine = affine
        self.epsilon = _positive("InstanceNorm", epsilon)

    def normalize(self, x: Array) -> Array:
        return F.instance_norm(x, self.scale, self.shift, axis=self.axis, epsilon=self.epsilon)


def _positive(who: str, epsilon: float) -> float:
    if not epsilon > 0.0:
        msg = f"{who}: 'epsilon' must be positive, got {epsilon}."
        raise ConfigError(msg)
    return epsilon


def _distinct(who: str, axis: int | tuple[int, ...]) -> int | tuple[int, ...]:
    """Return an axis, or a tuple of different axes."""
    if not isinstance(axis, (tuple, list)):
        return int(integers(who, None, axis=axis)[0])
    axes = tuple(integers(who, None, axis=a)[0] for a in axis)
    if not axes or len(set(axes)) != len(axes):
        msg = f"{who}: 'axis' must be an axis or several different ones, got {axis}."
        raise ConfigError(msg)
    return axes
