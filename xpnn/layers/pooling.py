"""Pooling layers."""

from __future__ import annotations

from typing import Any

from xpnn import functional as F
from xpnn.layers.base import Layer
from xpnn.layers.dense import require_floats
from xpnn.layers.images import channels_first, channels_last, images
from xpnn.primitives.windows import as_tuple, resolve_padding

__all__ = ["AvgPool2D", "MaxPool2D"]

Array = Any


class _Pool2D(Layer):
    """What the pooling layers share: the window."""

    def __init__(
        self,
        pool_size: int | tuple[int, int] = 2,
        stride: int | tuple[int, int] | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        data_format: str = "channels_last",
    ) -> None:
        who = type(self).__name__
        self.pool_size = as_tuple(pool_size, "pool_size", who=who)
        self.stride = self.pool_size if stride is None else as_tuple(stride, "stride", who=who)
        resolve_padding(padding, (1, 1), self.pool_size, self.stride, who=who)
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.data_format = images(who, data_format)

    def pool(self, x: Array, **options: Any) -> Array:
        """Pool images (N, H, W, C)."""
        raise NotImplementedError

    def forward(self, x: Array) -> Array:
        require_floats(type(self).__name__, x)
        y = self.pool(
            channels_last(x, self.data_format),
            stride=self.stride, padding=self.padding, ceil_mode=self.ceil_mode,
        )  # fmt: skip
        return channels_first(y, self.data_format)


class MaxPool2D(_Pool2D):
    """The largest element of each window.

    Parameters
    ----------
    pool_size : int or pair
    stride : int or pair, optional
        The size of the window if not given.
    padding : int, pair, pair of pairs, "valid" or "same"
        What is around the image never is the largest.
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

    def pool(self, x: Array, **options: Any) -> Array:
        return F.max_pool2d(x, self.pool_size, **options)


class AvgPool2D(_Pool2D):
    """The mean of each window.

    Parameters
    ----------
    pool_size, stride, padding, ceil_mode, data_format
        As for :class:`MaxPool2D`.
    count_include_pad : bool
        Whether the zeros of the padding count as elements, as PyTorch has it by default.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.AvgPool2D(2)(np.ones((64, 24, 24, 20), np.float32)).shape
    (64, 12, 12, 20)
    """

    def __init__(
        self,
        pool_size: int | tuple[int, int] = 2,
        stride: int | tuple[int, int] | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        data_format: str = "channels_last",
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(pool_size, stride, padding, ceil_mode, data_format)
        self.count_include_pad = count_include_pad

    def pool(self, x: Array, **options: Any) -> Array:
        return F.avg_pool2d(x, self.pool_size, count_include_pad=self.count_include_pad, **options)
