"""Pooling layers."""

from __future__ import annotations

from typing import Any, ClassVar

from xpnn import functional as F
from xpnn.errors import ShapeError
from xpnn.functional.pooling import pool, pool_mode
from xpnn.layers.base import Layer
from xpnn.layers.checks import require_floats
from xpnn.layers.images import channels_first, channels_last, example_shape, images
from xpnn.primitives import pooling
from xpnn.primitives.windows import as_tuple, resolve_padding

__all__ = [
    "AvgPool1D",
    "AvgPool2D",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "MaxPool1D",
    "MaxPool2D",
    "Pooling",
]

Array = Any
Sizes = int | tuple[int, ...]  # one for all axes, or one an axis


class Pooling(Layer):
    """What the pooling layers share: the window, over ``axes`` axes."""

    axes: ClassVar[int]

    def __init__(
        self,
        pool_size: Sizes = 2,
        stride: Sizes | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        data_format: str = "channels_last",
    ) -> None:
        who, n = type(self).__name__, self.axes
        self.pool_size = as_tuple(pool_size, "pool_size", n=n, who=who)
        self.stride = self.pool_size if stride is None else as_tuple(stride, "stride", n=n, who=who)
        resolve_padding(padding, (1,) * n, self.pool_size, self.stride, who=who)
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.data_format = images(who, data_format)

    def pool(self, who: str, x: Array) -> Array:
        """Pool what has its channels last, for a layer ``who``."""
        raise NotImplementedError

    def forward(self, x: Array) -> Array:
        who = type(self).__name__
        require_floats(who, x)
        example_shape(who, x.shape, self.data_format, self.axes)
        y = self.pool(who, channels_last(x, self.data_format))
        return channels_first(y, self.data_format)


class _MaxPool(Pooling):
    def pool(self, who: str, x: Array) -> Array:
        return pool(
            who, pooling.max_pool2d, x, self.pool_size, self.stride, self.padding, self.ceil_mode
        )


class MaxPool1D(_MaxPool):
    """The largest element of each window of sequences.

    Parameters
    ----------
    pool_size : int
    stride : int, optional
        The size of the window if not given.
    padding : int, (before, after), "valid", "same", "full" or "causal"
    ceil_mode
        As for :class:`MaxPool2D`.
    data_format : {"channels_last", "channels_first"}
        (N, T, C) or (N, C, T).

    Notes
    -----
    (N, T, C) -> (N, T', C).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.MaxPool1D(3, stride=2)(np.ones((64, 25, 20), np.float32)).shape
    (64, 12, 20)
    """

    axes = 1


class MaxPool2D(_MaxPool):
    """The largest element of each window.

    Parameters
    ----------
    pool_size : int or pair
    stride : int or pair, optional
        The size of the window if not given.
    padding : int, pair, pair of pairs, "valid", "same" or "full"
        What is around the image never is the largest. (numpy-ml pads with zeros, which may be.)
    ceil_mode : bool
        Whether a window that begins inside and ends beyond the image counts.
    data_format : {"channels_last", "channels_first"}

    Notes
    -----
    (N, H, W, C) -> (N, H', W', C). Of equal elements the first gets the gradient, as in PyTorch.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.MaxPool2D(2)(np.ones((64, 24, 24, 20), np.float32)).shape
    (64, 12, 12, 20)
    """

    axes = 2


class _AvgPool(Pooling):
    def __init__(
        self,
        pool_size: Sizes = 2,
        stride: Sizes | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        data_format: str = "channels_last",
        count_include_pad: bool = True,
        mode: str = "average",
    ) -> None:
        super().__init__(pool_size, stride, padding, ceil_mode, data_format)
        self.count_include_pad = count_include_pad
        self.mode = pool_mode(type(self).__name__, mode)

    def pool(self, who: str, x: Array) -> Array:
        return pool(
            who, pooling.avg_pool2d, x, self.pool_size, self.stride, self.padding, self.ceil_mode,
            count_include_pad=self.count_include_pad, mode=self.mode,
        )  # fmt: skip


class AvgPool1D(_AvgPool):
    """The mean, or the sum, of each window of sequences.

    Parameters
    ----------
    pool_size, stride, padding, ceil_mode, data_format
        As for :class:`MaxPool1D`.
    count_include_pad, mode
        As for :class:`AvgPool2D`.

    Notes
    -----
    (N, T, C) -> (N, T', C).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.AvgPool1D(5)(np.ones((64, 25, 20), np.float32)).shape
    (64, 5, 20)
    """

    axes = 1


class AvgPool2D(_AvgPool):
    """The mean, or the sum, of each window.

    Parameters
    ----------
    pool_size, stride, padding, ceil_mode, data_format
        As for :class:`MaxPool2D`.
    count_include_pad : bool
        Whether the zeros of the padding count as elements, as PyTorch has it by default; TensorFlow
        and Keras do not count them.
    mode : {"average", "sum"}
        "sum" divides by nothing.

    Notes
    -----
    (N, H, W, C) -> (N, H', W', C).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.AvgPool2D(2)(np.ones((64, 24, 24, 20), np.float32)).shape
    (64, 12, 12, 20)
    """

    axes = 2


class _GlobalPool(Layer):
    def __init__(self, keepdims: bool = False, data_format: str = "channels_last") -> None:
        self.keepdims = keepdims
        self.data_format = images(type(self).__name__, data_format)

    def reduce(self, x: Array) -> Array:
        """Pool what has its channels last."""
        raise NotImplementedError

    def forward(self, x: Array) -> Array:
        who = type(self).__name__
        require_floats(who, x)
        first = self.data_format == "channels_first"
        if x.ndim < 3 or 0 in (x.shape[2:] if first else x.shape[1:-1]):
            msg = (
                f"{who}: expected x of shape {'(N, C, ...)' if first else '(N, ..., C)'} with at"
                f" least one spatial axis, and none of length 0, got {tuple(x.shape)}."
            )
            raise ShapeError(msg)
        y = self.reduce(channels_last(x, self.data_format))
        return channels_first(y, self.data_format) if self.keepdims else y


class GlobalAvgPool(_GlobalPool):
    """The mean over all spatial axes, however many there are (Lin, Chen & Yan 2013).

    Parameters
    ----------
    keepdims : bool
        Whether the spatial axes stay, with length 1.
    data_format : {"channels_last", "channels_first"}

    Notes
    -----
    (N, ..., C) -> (N, C), or (N, 1, ..., 1, C).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.GlobalAvgPool()(np.ones((64, 7, 7, 20), np.float32)).shape
    (64, 20)
    """

    def reduce(self, x: Array) -> Array:
        return F.global_avg_pool(x, keepdims=self.keepdims)


class GlobalMaxPool(_GlobalPool):
    """The largest element over all spatial axes, however many there are.

    Parameters
    ----------
    keepdims, data_format
        As for :class:`GlobalAvgPool`.

    Notes
    -----
    (N, ..., C) -> (N, C), or (N, 1, ..., 1, C). Of equal elements the first gets the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.GlobalMaxPool(keepdims=True)(np.ones((64, 25, 20), np.float32)).shape
    (64, 1, 20)
    """

    def reduce(self, x: Array) -> Array:
        return F.global_max_pool(x, keepdims=self.keepdims)
