"""Convolutional layers."""

from __future__ import annotations

from typing import Any

from xpnn import activations, initializers
from xpnn import functional as F
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers.base import Layer, Parameter
from xpnn.layers.dense import require_floats
from xpnn.layers.images import channels_first, channels_last, images
from xpnn.primitives.windows import as_tuple, resolve_padding

__all__ = ["Conv2D"]

Array = Any


class Conv2D(Layer):
    r"""Convolution of images, :math:`y = a(x \star W + b)`; a cross-correlation, as everywhere.

    Parameters
    ----------
    out_channels : int
    kernel_size : int or pair
    in_channels : int, optional
        Taken from the first input if not given.
    stride, dilation : int or pair
        ``dilation=1`` means none.
    padding : int, pair, pair of pairs, "valid" or "same"
        "same" gives :math:`\lceil H / s \rceil` rows, as TensorFlow and Keras have it.
    groups : int
        Into how many groups the channels fall; ``groups=in_channels`` is a depthwise convolution.
    activation : str or callable, optional
    bias : bool
    weight_init, bias_init : str or Initializer
    data_format : {"channels_last", "channels_first"}
        How images come and go; the kernels are (kh, kw, in, out) in both.

    Attributes
    ----------
    weight : Parameter of shape (kh, kw, in_channels / groups, out_channels)
    bias : Parameter of shape (out_channels,), or None

    Notes
    -----
    (N, H, W, in_channels) -> (N, H', W', out_channels).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> conv = layers.Conv2D(20, 5, activation="relu")
    >>> conv(np.ones((64, 28, 28, 1), np.float32)).shape
    (64, 24, 24, 20)
    """

    def __init__(
        self,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        in_channels: int | None = None,
        *,
        stride: int | tuple[int, int] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        activation: Any = None,
        bias: bool = True,
        weight_init: Any = "glorot_uniform",
        bias_init: Any = "zeros",
        data_format: str = "channels_last",
    ) -> None:
        self.kernel_size = as_tuple(kernel_size, "kernel_size", who="Conv2D")
        self.stride = as_tuple(stride, "stride", who="Conv2D")
        self.dilation = as_tuple(dilation, "dilation", who="Conv2D")
        resolve_padding(padding, (1, 1), self.kernel_size, self.stride, who="Conv2D")
        if groups < 1 or out_channels < 1 or out_channels % groups:
            msg = (
                "Conv2D: 'out_channels' must be a positive multiple of 'groups', got"
                f" out_channels={out_channels}, groups={groups}."
            )
            raise ConfigError(msg)
        self.padding, self.groups = padding, groups
        self.out_channels, self.in_channels = out_channels, in_channels
        self.activation = activations.get(activation)
        self.use_bias = bias
        self.weight_init = initializers.get(weight_init)
        self.bias_init = initializers.get(bias_init)
        self.data_format = images("Conv2D", data_format)
        if in_channels is not None:
            self.ensure_built(channels_first((1, 1, 1, in_channels), data_format))

    def build(self, shape: tuple[int, ...]) -> None:
        if len(shape) == 4:
            channels = shape[-1] if self.data_format == "channels_last" else shape[1]
            self.in_channels = self.in_channels or channels
        if self.in_channels is None or self.in_channels % self.groups:
            msg = (
                f"Conv2D(groups={self.groups}): expected x of shape (N, H, W, C), C a multiple of"
                f" {self.groups}, got {tuple(shape)}. Grey images need a channel axis,"
                " x[..., None]."
            )
            raise ShapeError(msg)
        inner = self.in_channels // self.groups
        self.weight = Parameter(self.weight_init((*self.kernel_size, inner, self.out_channels)))
        self.bias = Parameter(self.bias_init((self.out_channels,))) if self.use_bias else None

    def forward(self, x: Array) -> Array:
        require_floats("Conv2D", x)
        y = F.conv2d(
            channels_last(x, self.data_format), self.weight, self.bias,
            stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups,
        )  # fmt: skip
        return channels_first(self.activation(y), self.data_format)
