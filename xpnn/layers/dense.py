"""Fully connected layers and activations."""

from __future__ import annotations

from typing import Any

from xpnn import activations, initializers
from xpnn import functional as F
from xpnn._dtypes import as_dtype
from xpnn.errors import ConfigError, DTypeError, ShapeError
from xpnn.layers.base import Layer, Parameter

__all__ = ["Activation", "Dense", "require_floats"]

Array = Any


def require_floats(who: str, x: Array) -> None:
    """Raise an error if ``x`` does not hold floating-point numbers."""
    dtype = as_dtype(x.dtype)
    if not dtype.is_inexact:
        msg = (
            f"{who}: expected floating-point x, got {dtype}."
            " Convert it, for example with xpnn.asarray(x, dtype='float32')."
        )
        raise DTypeError(msg)


class Dense(Layer):
    r"""Fully connected layer, :math:`y = a(x W + b)`.

    Parameters
    ----------
    out_features : int
    in_features : int, optional
        The length of the last axis of x; taken from the first input if not given.
    activation : str or callable, optional
        The function :math:`a`; none by default.
    bias : bool
        Whether to add b.
    weight_init, bias_init : str or Initializer
        Glorot & Bengio 2010, uniform, and zeros by default.

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

    def __init__(
        self,
        out_features: int,
        in_features: int | None = None,
        activation: Any = None,
        bias: bool = True,
        weight_init: Any = "glorot_uniform",
        bias_init: Any = "zeros",
    ) -> None:
        for name, n in (("out_features", out_features), ("in_features", in_features)):
            if n is not None and n < 1:
                msg = f"Dense: {name!r} must be at least 1, got {n}."
                raise ConfigError(msg)
        self.out_features, self.in_features = out_features, in_features
        self.activation = activations.get(activation)
        self.use_bias = bias
        self.weight_init = initializers.get(weight_init)
        self.bias_init = initializers.get(bias_init)
        if in_features is not None:
            self.ensure_built((1, in_features))

    def build(self, shape: tuple[int, ...]) -> None:
        if not shape:
            msg = "Dense: expected x with at least one axis, got a scalar."
            raise ShapeError(msg)
        self.in_features = self.in_features or shape[-1]
        self.weight = Parameter(self.weight_init((self.in_features, self.out_features)))
        self.bias = Parameter(self.bias_init((self.out_features,))) if self.use_bias else None

    def forward(self, x: Array) -> Array:
        if x.ndim < 1 or x.shape[-1] != self.in_features:
            msg = (
                f"Dense(in_features={self.in_features}): expected x with last axis"
                f" {self.in_features}, got shape {tuple(x.shape)}."
            )
            if x.ndim > 2:
                msg += " Flatten the images first, for example with layers.Flatten()."
            raise ShapeError(msg)
        require_floats("Dense", x)
        return self.activation(F.linear(x, self.weight, self.bias))


class Activation(Layer):
    """An activation function as a layer.

    Parameters
    ----------
    activation : str or callable
        "relu", "sigmoid", "tanh", "softmax", "linear", or a function of one array.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Activation("relu")(np.asarray([-1.0, 2.0])).data
    array([0., 2.])
    """

    def __init__(self, activation: Any) -> None:
        self.activation = activations.get(activation)

    def forward(self, x: Array) -> Array:
        require_floats("Activation", x)
        return self.activation(x)
