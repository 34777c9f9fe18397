"""Convolutional layers."""

from __future__ import annotations

from typing import Any, ClassVar

from xpnn import activations, backend, initializers
from xpnn.errors import ConfigError, ShapeError
from xpnn.functional.convolution import convolve
from xpnn.functional.transposed import check_transposed, convolve_transpose
from xpnn.layers.base import Layer, Parameter
from xpnn.layers.checks import integers, require_floats
from xpnn.layers.images import channels_first, channels_last, example_shape, images
from xpnn.layers.penalties import decay, decayed
from xpnn.primitives.convolution import swap_channels
from xpnn.primitives.windows import as_tuple, resolve_padding

__all__ = [
    "Conv1D",
    "Conv2D",
    "ConvTranspose1D",
    "ConvTranspose2D",
    "Convolution",
    "TransposedConvolution",
]

Array = Any
Sizes = int | tuple[int, ...]  # one for all axes, or one an axis


class Convolution(Layer):
    """What the convolutional layers share; ``axes`` says over how many axes they go.

    The parameters are described with :class:`Conv2D`.
    """

    axes: ClassVar[int]

    def __init__(
        self,
        out_channels: int,
        kernel_size: Sizes,
        in_channels: int | None = None,
        stride: Sizes = 1,
        padding: Any = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        activation: Any = None,
        bias: bool = True,
        *,
        weight_init: Any = "glorot_uniform",
        bias_init: Any = "zeros",
        l1: float = 0.0,
        l2: float = 0.0,
        data_format: str = "channels_last",
    ) -> None:
        who, n = type(self).__name__, self.axes
        self.kernel_size = as_tuple(kernel_size, "kernel_size", n=n, who=who)
        self.stride = as_tuple(stride, "stride", n=n, who=who)
        self.dilation = as_tuple(dilation, "dilation", n=n, who=who)
        resolve_padding(padding, (1,) * n, self.kernel_size, self.stride, who=who)
        out_channels, in_channels, groups = integers(
            who, out_channels=out_channels, in_channels=in_channels, groups=groups
        )
        for name, size in (("out_channels", out_channels), ("in_channels", in_channels)):
            if size is not None and size % groups:
                msg = (
                    f"{who}: {name!r} must be a positive multiple of 'groups', got"
                    f" {name}={size}, groups={groups}."
                )
                raise ConfigError(msg)
        self.padding, self.groups = padding, groups
        self.out_channels, self.in_channels = out_channels, in_channels
        self.activation = activations.get(activation)
        self.use_bias = bias
        self.weight_init = initializers.get(weight_init)
        self.bias_init = initializers.get(bias_init)
        self.l1, self.l2 = decay(who, l1, l2)
        self.data_format = images(who, data_format)
        if in_channels is not None:
            first = data_format == "channels_first"
            ones = (1,) * n
            self.ensure_built((1, in_channels, *ones) if first else (1, *ones, in_channels))

    def build(self, shape: tuple[int, ...]) -> None:
        who = type(self).__name__
        *_, channels = example_shape(who, shape, self.data_format, self.axes, self.in_channels)
        if channels % self.groups or channels < 1:
            wanted = f"a multiple of {self.groups} channels"
            wanted = wanted if self.groups > 1 else "at least one channel"
            msg = (
                f"{who}(groups={self.groups}): expected x with {wanted}, got {channels} in shape"
                f" {tuple(shape)}."
            )
            raise ShapeError(msg)
        self.in_channels = channels
        inner = channels // self.groups
        drawn = self.weight_init((*self.kernel_size, inner, self.out_channels))
        self.weight = Parameter(self.arrange(drawn))
        self.bias = Parameter(self.bias_init((self.out_channels,))) if self.use_bias else None

    def arrange(self, drawn: Array) -> Array:
        """Return initial values (*kernel, in / groups, out) as the weight has them."""
        return drawn

    def forward(self, x: Array) -> Array:
        who = type(self).__name__
        require_floats(who, x)
        example_shape(who, x.shape, self.data_format, self.axes, self.in_channels)
        y = self.compute(who, channels_last(x, self.data_format))
        return channels_first(y, self.data_format)

    def compute(self, who: str, x: Array) -> Array:
        """Return the output, with the channels last."""
        return convolve(
            who, x, self.weight, self.bias,
            self.stride, self.padding, self.dilation, self.groups, self.activation,
        )  # fmt: skip

    def penalty(self) -> Any:
        return decayed(self, self.l1, self.l2)


class Conv1D(Convolution):
    r"""Convolution of sequences, :math:`y = a(x \star W + b)`.

    .. math:: (x \star W)_{nto} = \sum_{ic} x_{n,\, s t + d i - p,\, c} \; W_{ico}

    A cross-correlation, as everywhere in deep learning. It is computed as the convolution of images
    of one row, by the same kernels.

    Parameters
    ----------
    out_channels : int
    kernel_size : int
    in_channels : int, optional
        Taken from the first input if not given.
    stride, dilation : int
        ``dilation=1`` means none.
    padding : int, (before, after), "valid", "same", "full" or "causal"
        "causal" pads before only, so that no output sees what comes after it (van den Oord et al.
        2016); the others are as for :class:`Conv2D`.
    groups, activation, bias, weight_init, bias_init, l1, l2
        As for :class:`Conv2D`.
    data_format : {"channels_last", "channels_first"}
        (N, T, C) or (N, C, T); the kernels are (k, in, out) in both.

    Attributes
    ----------
    weight : Parameter of shape (k, in_channels / groups, out_channels)
        PyTorch's is this with axes (2, 1, 0).
    bias : Parameter of shape (out_channels,), or None

    Notes
    -----
    (N, T, in_channels) -> (N, T', out_channels).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> conv = layers.Conv1D(16, 2, padding="causal", dilation=4)
    >>> conv(np.ones((8, 100, 3), np.float32)).shape
    (8, 100, 16)
    """

    axes = 1


class Conv2D(Convolution):
    r"""Convolution of images, :math:`y = a(x \star W + b)`; a cross-correlation, as everywhere.

    .. math:: (x \star W)_{nhwo} = \sum_{ijc} x_{n,\, s h + d i - p,\, s w + d j - p,\, c} W_{ijco}

    Parameters
    ----------
    out_channels : int
    kernel_size : int or pair
    in_channels : int, optional
        Taken from the first input if not given.
    stride, dilation : int or pair
        ``dilation=1`` means none.
    padding : int, pair, pair of pairs, "valid", "same" or "full"
        Zeros on all sides, on both sides of each axis, or before and after each axis. "same" gives
        :math:`\lceil H / s \rceil` rows, the odd zero at the end, as TensorFlow and Keras have it;
        numpy-ml's gives H rows at any stride. "full" gives every place where the kernel meets the
        image.
    groups : int
        Into how many groups the channels fall, each of which sees only its own;
        ``groups=in_channels`` is a depthwise convolution.
    activation : str or callable, optional
        Its last axis is that of the channels in both data formats.
    bias : bool
    weight_init, bias_init : str or Initializer
        Glorot & Bengio 2010, uniform, and zeros by default.
    l1, l2 : float
        Add :math:`l_1 \sum |W| + l_2 \sum W^2` to the loss; see :meth:`Layer.penalties`.
    data_format : {"channels_last", "channels_first"}
        How images come and go; the kernels are (kh, kw, in, out) in both.

    Attributes
    ----------
    weight : Parameter of shape (kh, kw, in_channels / groups, out_channels)
        PyTorch's is this with axes (3, 2, 0, 1).
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

    axes = 2


class TransposedConvolution(Convolution):
    """What the transposed convolutional layers share: the weight of the one that they transpose."""

    def __init__(
        self,
        out_channels: int,
        kernel_size: Sizes,
        in_channels: int | None = None,
        stride: Sizes = 1,
        padding: Any = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        activation: Any = None,
        bias: bool = True,
        *,
        output_padding: Sizes = 0,
        weight_init: Any = "glorot_uniform",
        bias_init: Any = "zeros",
        l1: float = 0.0,
        l2: float = 0.0,
        data_format: str = "channels_last",
    ) -> None:
        who, n = type(self).__name__, self.axes
        self.output_padding = as_tuple(output_padding, "output_padding", n=n, who=who, least=0)
        steps = as_tuple(stride, "stride", n=n, who=who)
        check_transposed(who, steps, padding, self.output_padding)
        super().__init__(
            out_channels, kernel_size, in_channels, stride=stride, padding=padding,
            dilation=dilation, groups=groups, activation=activation, bias=bias,
            weight_init=weight_init, bias_init=bias_init, l1=l1, l2=l2, data_format=data_format,
        )  # fmt: skip

    def arrange(self, drawn: Array) -> Array:
        # Drawn as for a convolution from in to out, so that an initializer sees the right fans.
        return swap_channels(backend.array_namespace(drawn), drawn, self.groups)

    def compute(self, who: str, x: Array) -> Array:
        y = convolve_transpose(
            who, x, self.weight, self.bias,
            self.stride, self.padding, self.dilation, self.groups, self.output_padding,
        )  # fmt: skip
        return self.activation(y)


class ConvTranspose1D(TransposedConvolution):
    """Transposed convolution of sequences: what :class:`ConvTranspose2D` is for images.

    Parameters
    ----------
    out_channels, kernel_size, stride, dilation, output_padding : int
    in_channels : int, optional
    padding : int, (before, after), "valid", "same" or "full"
        "same" gives exactly s T elements. There is no "causal".
    groups, activation, bias, weight_init, bias_init, l1, l2
        As for :class:`Conv2D`.
    data_format : {"channels_last", "channels_first"}
        (N, T, C) or (N, C, T).

    Attributes
    ----------
    weight : Parameter of shape (k, out_channels / groups, in_channels)
        PyTorch's is this with axes (2, 1, 0).
    bias : Parameter of shape (out_channels,), or None

    Notes
    -----
    (N, T, in_channels) -> (N, T', out_channels).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> up = layers.ConvTranspose1D(4, 5, stride=3, padding="same")
    >>> up(np.ones((8, 10, 16), np.float32)).shape
    (8, 30, 4)
    """

    axes = 1


class ConvTranspose2D(TransposedConvolution):
    r"""Transposed convolution of images, the gradient of :class:`Conv2D` with respect to its input.

    .. math:: y_{nuvo} = a(b_o + \sum_{h s + d i - p = u} \sum_{w s + d j - p = v} \sum_c
              x_{nhwc} W_{ijoc})

    An axis of n elements becomes one of :math:`s (n - 1) - p_0 - p_1 + d (k - 1) + 1` elements and
    the output padding (Dumoulin & Visin 2016, section 4). Often called a deconvolution, which it
    is not: it does not undo a convolution.

    Parameters
    ----------
    out_channels : int
    kernel_size : int or pair
    in_channels : int, optional
        Taken from the first input if not given.
    stride, dilation : int or pair
    padding : int, pair, pair of pairs, "valid", "same" or "full"
        What the convolution adds, so this one takes it away; "same" gives exactly :math:`s H` rows,
        as in Keras.
    groups : int
    output_padding : int or pair
        How many more rows and columns there are at the end; smaller than the stride, and 0 with
        "same".
    activation, bias, weight_init, bias_init, l1, l2, data_format
        As for :class:`Conv2D`.

    Attributes
    ----------
    weight : Parameter of shape (kh, kw, out_channels / groups, in_channels)
        The very weight of the :class:`Conv2D` from out_channels to in_channels which this layer
        transposes. PyTorch's is this with axes (3, 2, 0, 1), as for Conv2D, and Keras's is the
        same. It is drawn with in_channels as the inputs, as it should be: PyTorch and Keras take
        the fans the other way round.
    bias : Parameter of shape (out_channels,), or None

    Notes
    -----
    (N, H, W, in_channels) -> (N, H', W', out_channels).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> up = layers.ConvTranspose2D(3, 4, stride=2, padding=1)
    >>> up(np.ones((8, 7, 7, 20), np.float32)).shape
    (8, 14, 14, 3)
    """

    axes = 2
