"""Blocks of convolutional layers: LeNet's, the residual block, and WaveNet's."""

from __future__ import annotations

from typing import Any

from xpnn import activations
from xpnn.errors import ConfigError, ShapeError
from xpnn.functional.convolution import convolve
from xpnn.functional.pooling import pool
from xpnn.layers.base import Layer
from xpnn.layers.checks import integers, require_floats
from xpnn.layers.conv import Conv1D, Conv2D, Convolution
from xpnn.layers.images import channels_first, channels_last, example_shape, images
from xpnn.layers.normalization import BatchNorm
from xpnn.primitives import pooling
from xpnn.primitives.windows import as_tuple, resolve_padding

__all__ = ["ConvPool2D", "ResidualBlock", "WaveNetBlock"]

Array = Any
Sizes = int | tuple[int, ...]  # one for both axes, or one an axis


class ConvPool2D(Convolution):
    r"""Convolution and pooling, and only then bias and activation.

    .. math:: y = a(\mathrm{pool}(x \star W) + b)

    The order of LeNet in the Theano tutorials, and of yadll. With the maximum and a growing
    activation it computes what convolution, activation and pooling one after another compute, and
    the activation has less to do. The weight is drawn as that of a :class:`Conv2D`; yadll and the
    tutorials divide the number of outputs in Glorot's formula by the elements of the window.

    Parameters
    ----------
    out_channels : int
    kernel_size : int or pair
    pool_size : int or pair
    in_channels : int, optional
        Taken from the first input if not given.
    pool_stride : int or pair, optional
        The size of the window if not given.
    pool_padding : int, pair, pair of pairs, "valid", "same" or "full"
    pool : {"max", "average"}
        The zeros of the padding count in an average.
    stride, padding, dilation, groups, bias, weight_init, bias_init, l1, l2, data_format
        As for :class:`Conv2D`.
    activation : str or callable, optional

    Attributes
    ----------
    weight : Parameter of shape (kh, kw, in_channels / groups, out_channels)
    bias : Parameter of shape (out_channels,), or None

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> block = layers.ConvPool2D(20, 5, 2, activation="tanh")
    >>> block(np.ones((64, 28, 28, 1), np.float32)).shape
    (64, 12, 12, 20)
    """

    axes = 2

    def __init__(
        self,
        out_channels: int,
        kernel_size: Sizes,
        pool_size: Sizes = 2,
        in_channels: int | None = None,
        *,
        pool: str = "max",
        pool_stride: Sizes | None = None,
        pool_padding: Any = 0,
        stride: Sizes = 1,
        padding: Any = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        activation: Any = None,
        bias: bool = True,
        weight_init: Any = "glorot_uniform",
        bias_init: Any = "zeros",
        l1: float = 0.0,
        l2: float = 0.0,
        data_format: str = "channels_last",
    ) -> None:
        if pool not in ("max", "average"):
            msg = f"ConvPool2D: 'pool' must be 'max' or 'average', got {pool!r}."
            raise ConfigError(msg)
        self.pool = pool
        self.pool_size = as_tuple(pool_size, "pool_size", who="ConvPool2D")
        self.pool_stride = self.pool_size
        if pool_stride is not None:
            self.pool_stride = as_tuple(pool_stride, "pool_stride", who="ConvPool2D")
        resolve_padding(pool_padding, (1, 1), self.pool_size, self.pool_stride, who="ConvPool2D")
        self.pool_padding = pool_padding
        super().__init__(
            out_channels, kernel_size, in_channels, stride=stride, padding=padding,
            dilation=dilation, groups=groups, activation=activation, bias=bias,
            weight_init=weight_init, bias_init=bias_init, l1=l1, l2=l2, data_format=data_format,
        )  # fmt: skip

    def compute(self, who: str, x: Array) -> Array:
        y = convolve(
            who, x, self.weight, None, self.stride, self.padding, self.dilation, self.groups
        )
        primitive = pooling.max_pool2d if self.pool == "max" else pooling.avg_pool2d
        y = pool(who, primitive, y, self.pool_size, self.pool_stride, self.pool_padding, False)
        return self.activation(y if self.bias is None else y + self.bias)


class ResidualBlock(Layer):
    r"""Two convolutions around which x takes a shortcut, :math:`y = a(f(x) + h(x))`.

    .. math:: f(x) = \mathrm{BN}(W_2 \star a(\mathrm{BN}(W_1 \star x)))

    He, Zhang, Ren & Sun 2016 ("Deep residual learning"), the basic block of ResNet-18 and -34. The
    shortcut :math:`h(x)` is x itself or, where the shape changes, :math:`\mathrm{BN}(W_3 \star x)`
    with a kernel of one pixel (option B of the paper). No convolution has a bias, since the
    normalization takes the mean away. numpy-ml normalizes after the activation instead,
    :math:`\mathrm{BN}(W_2 \star \mathrm{BN}(a(W_1 \star x)))`.

    Parameters
    ----------
    out_channels : int
    kernel_size : int or pair
        Of both convolutions, which pad as much as keeps the size; with a stride
        :math:`\lceil H / s \rceil` rows are left, and odd kernels are padded on both sides alike,
        as in PyTorch's ResNet.
    in_channels : int, optional
        Taken from the first input if not given.
    stride : int or pair
        Of the first convolution and of the shortcut.
    shortcut : {"identity", "convolution"}, optional
        The identity if input and output have one shape, else the convolution, if not given.
    activation : str or callable, optional
    weight_init : str or Initializer
        He et al. 2015, normal, by default.
    momentum, epsilon : float
        Of the :class:`BatchNorm` layers.
    data_format : {"channels_last", "channels_first"}

    Notes
    -----
    (N, H, W, in_channels) -> (N, H / stride, W / stride, out_channels).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> block = layers.ResidualBlock(32, stride=2)
    >>> block(np.ones((8, 28, 28, 16), np.float32)).shape
    (8, 14, 14, 32)
    """

    def __init__(
        self,
        out_channels: int,
        kernel_size: Sizes = 3,
        in_channels: int | None = None,
        *,
        stride: Sizes = 1,
        shortcut: str | None = None,
        activation: Any = "relu",
        weight_init: Any = "he_normal",
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        data_format: str = "channels_last",
    ) -> None:
        kernel = as_tuple(kernel_size, "kernel_size", who="ResidualBlock")
        steps = as_tuple(stride, "stride", who="ResidualBlock")
        if shortcut not in (None, "identity", "convolution"):
            msg = (
                "ResidualBlock: 'shortcut' must be 'identity', 'convolution' or None, got"
                f" {shortcut!r}."
            )
            raise ConfigError(msg)
        out_channels, in_channels = self.out_channels, self.in_channels = integers(
            "ResidualBlock", out_channels=out_channels, in_channels=in_channels
        )
        self.stride, self.shortcut = steps, shortcut
        self.activation = activations.get(activation)
        self.data_format = images("ResidualBlock", data_format)
        around = tuple(((k - 1) // 2, k // 2) for k in kernel)
        plain: dict[str, Any] = {"bias": False, "weight_init": weight_init}
        norm: dict[str, Any] = {"momentum": momentum, "epsilon": epsilon}
        self.convolution1 = Conv2D(out_channels, kernel, stride=steps, padding=around, **plain)
        self.norm1 = BatchNorm(activation=activation, **norm)
        self.convolution2 = Conv2D(out_channels, kernel, padding=around, **plain)
        self.norm2 = BatchNorm(**norm)
        if shortcut != "identity":  # build() takes them away again if they are not needed
            self.convolution3: Any = Conv2D(out_channels, 1, stride=steps, **plain)
            self.norm3: Any = BatchNorm(**norm)
        if in_channels is not None:
            first = data_format == "channels_first"
            self.ensure_built((1, in_channels, 1, 1) if first else (1, 1, 1, in_channels))

    def build(self, shape: tuple[int, ...]) -> None:
        *_, channels = example_shape("ResidualBlock", shape, self.data_format, 2, self.in_channels)
        self.in_channels = channels
        fits = channels == self.out_channels and self.stride == (1, 1)
        if self.shortcut == "identity" and not fits:
            msg = (
                "ResidualBlock: shortcut='identity' needs stride 1 and as many channels out as in,"
                f" got stride {self.stride} and {channels} channels to {self.out_channels}. Leave"
                " 'shortcut' out, or give 'convolution'."
            )
            raise ShapeError(msg)
        if self.shortcut is None and fits:
            self.convolution3 = self.norm3 = None
        self.shortcut = self.shortcut or ("identity" if fits else "convolution")
        inner = (1, 1, 1, self.out_channels)
        self.convolution1.ensure_built((1, 1, 1, channels))
        self.convolution2.ensure_built(inner)
        self.norm1.ensure_built(inner)
        self.norm2.ensure_built(inner)
        if self.shortcut == "convolution":
            self.convolution3.ensure_built((1, 1, 1, channels))
            self.norm3.ensure_built(inner)

    def forward(self, x: Array) -> Array:
        require_floats("ResidualBlock", x)
        example_shape("ResidualBlock", x.shape, self.data_format, 2, self.in_channels)
        x = channels_last(x, self.data_format)
        y = self.norm1(self.convolution1(x))
        y = self.norm2(self.convolution2(y))
        if self.shortcut == "convolution":
            x = self.norm3(self.convolution3(x))
        return channels_first(self.activation(y + x), self.data_format)


class WaveNetBlock(Layer):
    r"""A gated causal convolution with a residual and a skip connection.

    .. math:: z = \tanh(W_f \star x) \odot \sigma(W_g \star x), \qquad
              x' = x + W_r z, \qquad s' = s + W_s z

    with :math:`W_f` and :math:`W_g` causal and dilated, :math:`W_r` and :math:`W_s` of one element,
    and a bias in each; van den Oord et al. 2016 ("WaveNet"), figure 4. numpy-ml's block has a
    single convolution in the place of :math:`W_f` and :math:`W_g`.

    Parameters
    ----------
    dilation_channels : int
        Of z.
    skip_channels : int
        Of s.
    kernel_size : int
    dilation : int
        A stack has blocks of 1, 2, 4, ..., 512.
    in_channels : int, optional
        Of x, and of the residual output; taken from the first input if not given.
    bias : bool
    weight_init : str or Initializer

    Notes
    -----
    Called with x (N, T, in_channels) and, in all blocks but the first, the sum of the skip
    connections so far (N, T, skip_channels). Returns x' and s' of these shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> first, second = (layers.WaveNetBlock(32, 16, dilation=d) for d in (1, 2))
    >>> x, skip = first(np.ones((8, 100, 24), np.float32))
    >>> x, skip = second(x, skip)
    >>> x.shape, skip.shape
    ((8, 100, 24), (8, 100, 16))
    """

    def __init__(
        self,
        dilation_channels: int,
        skip_channels: int,
        kernel_size: int = 2,
        dilation: int = 1,
        in_channels: int | None = None,
        *,
        bias: bool = True,
        weight_init: Any = "glorot_uniform",
    ) -> None:
        as_tuple(kernel_size, "kernel_size", n=1, who="WaveNetBlock")
        as_tuple(dilation, "dilation", n=1, who="WaveNetBlock")
        self.dilation_channels, self.skip_channels, self.in_channels = integers(
            "WaveNetBlock",
            dilation_channels=dilation_channels, skip_channels=skip_channels,
            in_channels=in_channels,
        )  # fmt: skip
        self.plain: dict[str, Any] = {"bias": bias, "weight_init": weight_init}
        past: dict[str, Any] = {"padding": "causal", "dilation": dilation, **self.plain}
        self.filter = Conv1D(dilation_channels, kernel_size, activation="tanh", **past)
        self.gate = Conv1D(dilation_channels, kernel_size, activation="sigmoid", **past)
        self.to_skip = Conv1D(skip_channels, 1, **self.plain)
        if in_channels is not None:
            self.ensure_built((1, 1, in_channels))

    def build(self, *shapes: tuple[int, ...]) -> None:
        shape = example_shape("WaveNetBlock", shapes[0], "channels_last", 1, self.in_channels)
        self.in_channels = shape[-1]
        inner = (1, 1, self.dilation_channels)
        self.filter.ensure_built((1, 1, self.in_channels))
        self.gate.ensure_built((1, 1, self.in_channels))
        self.to_skip.ensure_built(inner)
        self.to_residual = Conv1D(self.in_channels, 1, self.dilation_channels, **self.plain)
        self.to_residual.train(self.training)

    def forward(self, x: Array, skip: Array | None = None) -> tuple[Array, Array]:
        require_floats("WaveNetBlock", x)
        example_shape("WaveNetBlock", x.shape, "channels_last", 1, self.in_channels)
        z = self.filter(x) * self.gate(x)
        to_skip = self.to_skip(z)
        if skip is not None:
            if tuple(skip.shape) != tuple(to_skip.shape):
                msg = (
                    f"WaveNetBlock: expected skip of shape {tuple(to_skip.shape)}, that of the"
                    f" previous block, got {tuple(skip.shape)}. All blocks of a stack need the same"
                    " skip_channels."
                )
                raise ShapeError(msg)
            to_skip = skip + to_skip
        return x + self.to_residual(z), to_skip
