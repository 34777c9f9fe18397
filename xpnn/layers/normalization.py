"""Normalization layers."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from xpnn import functional as F
from xpnn import initializers
from xpnn.backend import array_namespace, unwrap
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers.base import Layer, Parameter
from xpnn.layers.dense import require_floats

__all__ = ["BatchNorm"]

Array = Any


class BatchNorm(Layer):
    r"""Batch normalization, :math:`y = \gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta`.

    In training :math:`\mu` and :math:`\sigma^2` are those of the batch, for each channel over all
    other axes; the running statistics take in a part ``momentum`` of them. In prediction they are
    the running statistics. Ioffe & Szegedy 2015; as in PyTorch, the batch is normalized with the
    variance over n, and the running variance takes in the one over n - 1.

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

    buffers: ClassVar[tuple[str, ...]] = ("running_mean", "running_var")

    def __init__(
        self, axis: int = -1, momentum: float = 0.1, epsilon: float = 1e-5, affine: bool = True
    ) -> None:
        if not 0.0 <= momentum <= 1.0:
            msg = f"BatchNorm: 'momentum' must be in [0, 1], got {momentum}."
            raise ConfigError(msg)
        if epsilon <= 0.0:
            msg = f"BatchNorm: 'epsilon' must be positive, got {epsilon}."
            raise ConfigError(msg)
        self.axis, self.momentum, self.epsilon, self.affine = axis, momentum, epsilon, affine

    def build(self, shape: tuple[int, ...]) -> None:
        if not -len(shape) <= self.axis < len(shape) or len(shape) < 2:
            msg = (
                f"BatchNorm(axis={self.axis}): expected x with at least two axes, one of them"
                f" {self.axis}, got shape {tuple(shape)}."
            )
            raise ShapeError(msg)
        self.channels = shape[self.axis]
        self.scale = Parameter(initializers.ones((self.channels,))) if self.affine else None
        self.shift = Parameter(initializers.zeros((self.channels,))) if self.affine else None
        self.reset_running_stats()

    def reset_running_stats(self) -> None:
        """Set the running mean to 0 and the running variance to 1."""
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
        if not self.training:
            running = (self.running_mean, self.running_var)
            return F.batch_norm(
                x, self.scale, self.shift,
                axis=self.axis, epsilon=self.epsilon, statistics=running,
            )[0]  # fmt: skip
        n = math.prod(x.shape) // self.channels
        if n < 2:
            msg = (
                "BatchNorm: in training more than one value a channel is needed, got shape"
                f" {tuple(x.shape)}. Use a larger batch, or eval()."
            )
            raise ShapeError(msg)
        y, mean, var = F.batch_norm(x, self.scale, self.shift, axis=self.axis, epsilon=self.epsilon)
        self._take_in(unwrap(mean), unwrap(var) * (n / (n - 1)))
        return y

    def _take_in(self, mean: Array, var: Array) -> None:
        xp = array_namespace(mean)
        for name, new in (("running_mean", mean), ("running_var", var)):
            old = getattr(self, name)
            new = xp.astype(new, old.dtype, copy=False)
            setattr(self, name, old + self.momentum * (new - old))
