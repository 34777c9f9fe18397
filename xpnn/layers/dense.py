"""Fully connected layers."""

from __future__ import annotations

from typing import Any

from xpnn import activations, initializers
from xpnn import functional as F
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers.base import Layer, Parameter
from xpnn.layers.checks import integers, require_floats
from xpnn.layers.penalties import decay, decayed

__all__ = ["Dense"]

Array = Any


class Dense(Layer):
    r"""Fully connected layer, :math:`y = a(x W + b)`.

    Parameters
    ----------
    out_features : int
    in_features : int, optional
        The length of the last axis of x; taken from the first input if not given.
    activation : str, pair or callable, optional
        The function :math:`a`, such as "gelu" or ("elu", {"alpha": 0.5}), of
        :mod:`xpnn.activations` or your own; none by default.
    bias : bool
        Whether to add b.
    weight_init, bias_init : str, pair or Initializer
        Such as ("orthogonal", {"gain": "relu"}), of :mod:`xpnn.initializers`; Glorot & Bengio 2010,
        uniform, and zeros by default.
    l1, l2 : float
        Add :math:`l_1 \sum |W| + l_2 \sum W^2` to the loss; see :meth:`Layer.penalties`.
    weight : Parameter, optional
        The weight of another layer, which this one shares (weight tying).
    transposed : bool
        Whether the shared weight is of shape (out_features, in_features), as that of the encoder of
        an autoencoder, or an embedding, is for the layer that decodes.

    Attributes
    ----------
    weight : Parameter of shape (in_features, out_features)
    bias : Parameter of shape (out_features,), or None

    Notes
    -----
    (..., in_features) -> (..., out_features).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Dense(10, activation="relu")(np.ones((32, 784), np.float32)).shape
    (32, 10)
    """

    weight: Any  # None until it is built

    def __init__(
        self,
        out_features: int,
        in_features: int | None = None,
        activation: Any = None,
        bias: bool = True,
        weight_init: Any = "glorot_uniform",
        bias_init: Any = "zeros",
        l1: float = 0.0,
        l2: float = 0.0,
        weight: Parameter | None = None,
        transposed: bool = False,
    ) -> None:
        out_features, in_features = self.out_features, self.in_features = integers(
            type(self).__name__, out_features=out_features, in_features=in_features
        )
        self.activation = activations.get(activation)
        self.use_bias = bias
        self.weight_init = initializers.get(weight_init)
        self.bias_init = initializers.get(bias_init)
        self.l1, self.l2 = decay(type(self).__name__, l1, l2)
        self.weight, self.transposed = weight, transposed
        if weight is not None:
            in_features = self._of_shared(weight)
        elif transposed:
            msg = "Dense: 'transposed' says how a shared weight lies; give it as 'weight'."
            raise ConfigError(msg)
        if in_features is not None:
            self.ensure_built((1, in_features))

    def _of_shared(self, weight: Any) -> int:
        """Return how many inputs a shared weight takes, after looking at it."""
        if not isinstance(weight, Parameter):
            msg = (
                "Dense: 'weight' must be the Parameter of a layer, such as other.weight, got"
                f" {type(weight).__name__}. For the transpose, say transposed=True."
            )
            raise ConfigError(msg)
        shape = weight.shape[::-1] if self.transposed else weight.shape
        wanted = (self.in_features or shape[0], self.out_features)
        if tuple(shape) != wanted:
            way = (
                "(out_features, in_features)" if self.transposed else "(in_features, out_features)"
            )
            msg = f"Dense: expected a shared weight of shape {way}, got {tuple(weight.shape)}."
            raise ShapeError(msg)
        return int(shape[0])

    def build(self, shape: tuple[int, ...]) -> None:
        if not shape:
            msg = f"{type(self).__name__}: expected x with at least one axis, got a scalar."
            raise ShapeError(msg)
        if not shape[-1]:
            msg = f"{type(self).__name__}: expected x with features, got shape {tuple(shape)}."
            raise ShapeError(msg)
        self.in_features = self.in_features or shape[-1]
        if self.weight is None:
            size = (self.in_features, self.out_features)
            self.weight = Parameter(self._initial(self.weight_init, size))
        self.bias = None
        if self.use_bias:
            self.bias = Parameter(self._initial(self.bias_init, (self.out_features,)))

    def _initial(self, initializer: Any, shape: tuple[int, ...]) -> Array:
        """Return what a parameter begins with."""
        return initializer(shape)

    def forward(self, x: Array) -> Array:
        if x.ndim < 1 or x.shape[-1] != self.in_features:
            msg = (
                f"{type(self).__name__}(in_features={self.in_features}): expected x with last axis"
                f" {self.in_features}, got shape {tuple(x.shape)}."
            )
            if x.ndim > 2:
                msg += " Flatten the images first, for example with layers.Flatten()."
            raise ShapeError(msg)
        require_floats(type(self).__name__, x)
        return F.linear(x, self._used_weight(), self.bias, activation=self.activation)

    def _used_weight(self) -> Array:
        """Return the weight as x is multiplied by it."""
        return self.weight.T if self.transposed else self.weight

    def penalty(self) -> Any:
        return decayed(self, self.l1, self.l2)
