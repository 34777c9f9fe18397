"""Layers that make sequences and images larger."""

from __future__ import annotations

from typing import Any, ClassVar

from xpnn import functional as F
from xpnn.functional.windows import interpolator
from xpnn.layers.base import Layer
from xpnn.layers.checks import require_floats
from xpnn.layers.images import channels_first, channels_last, example_shape, images
from xpnn.primitives.windows import as_pairs, as_tuple

__all__ = ["UpSample2D", "ZeroPad1D", "ZeroPad2D"]

Array = Any


class _ZeroPad(Layer):
    axes: ClassVar[int]

    def __init__(self, padding: Any = 1, data_format: str = "channels_last") -> None:
        who = type(self).__name__
        self.padding = as_pairs(padding, self.axes, who=who)
        self.data_format = images(who, data_format)

    def forward(self, x: Array) -> Array:
        who, none = type(self).__name__, (0, 0)
        require_floats(who, x)
        example_shape(who, x.shape, self.data_format, self.axes)
        first = self.data_format == "channels_first"
        pairs = (none, none, *self.padding) if first else (none, *self.padding, none)
        return F.pad(x, pairs)


class ZeroPad1D(_ZeroPad):
    """Put zeros before and after sequences.

    Parameters
    ----------
    padding : int or (before, after)
    data_format : {"channels_last", "channels_first"}
        (N, T, C) or (N, C, T).

    Notes
    -----
    (N, T, C) -> (N, T + before + after, C).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.ZeroPad1D((2, 0))(np.ones((8, 10, 3), np.float32)).shape
    (8, 12, 3)
    """

    axes = 1


class ZeroPad2D(_ZeroPad):
    """Put zeros around images.

    Parameters
    ----------
    padding : int, pair or pair of pairs
        For all sides, for (rows, columns), or ((top, bottom), (left, right)).
    data_format : {"channels_last", "channels_first"}

    Notes
    -----
    (N, H, W, C) -> (N, H + top + bottom, W + left + right, C).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.ZeroPad2D(((0, 1), (2, 2)))(np.ones((8, 10, 10, 3), np.float32)).shape
    (8, 11, 14, 3)
    """

    axes = 2


class UpSample2D(Layer):
    """Make images a whole number of times larger.

    Parameters
    ----------
    factor : int or pair
    interpolation : {"nearest", "bilinear"}
        "nearest" repeats every pixel. "bilinear" is linear between the centres of pixels, and
        constant beyond the outermost: PyTorch's ``align_corners=False``, and what Keras does.
    data_format : {"channels_last", "channels_first"}

    Notes
    -----
    (N, H, W, C) -> (N, factor H, factor W, C).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.UpSample2D(2)(np.ones((8, 7, 7, 3), np.float32)).shape
    (8, 14, 14, 3)
    """

    def __init__(
        self,
        factor: int | tuple[int, ...] = 2,
        interpolation: str = "nearest",
        data_format: str = "channels_last",
    ) -> None:
        self.factor = as_tuple(factor, "factor", who="UpSample2D")
        interpolator("UpSample2D", interpolation)
        self.interpolation = interpolation
        self.data_format = images("UpSample2D", data_format)

    def forward(self, x: Array) -> Array:
        require_floats("UpSample2D", x)
        example_shape("UpSample2D", x.shape, self.data_format, 2)
        y = F.upsample2d(
            channels_last(x, self.data_format), self.factor, interpolation=self.interpolation
        )
        return channels_first(y, self.data_format)
