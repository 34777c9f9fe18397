"""CUDA kernels of depthwise convolution: sums over the taps of a window, without a product."""

from __future__ import annotations

import math
from typing import Any

from xpnn.kernels.cupy_launch import cupy, wide
from xpnn.kernels.cupy_products import column_sums
from xpnn.kernels.cupy_windows import Window, columns_source, launch

__all__ = ["depthwise", "depthwise_dw", "depthwise_dx"]

Array = Any

_BLOCK = 256  # threads, as many as the kernel has room for
_TAPS = 9  # whose gradients a thread sums at once
_PLACES = 16  # at least, that a thread sums
_PARTS = 256  # at most, of the places, for the sums over them


def depthwise(
    x: Array, weight: Array, bias: Array | None, y: Array, relu: bool, window: Window
) -> None:
    """Write the convolution of each channel, with its ReLU or without, into ``y``."""
    channels, features = x.shape[3], y.shape[3]
    given = int(relu), features // channels
    places = y.size // features
    arrays = (x, weight, bias, y)
    launch("depthwise", arrays, given, places, features, channels, channels, window)


def depthwise_dx(g: Array, weight: Array, dx: Array, window: Window) -> None:
    """Write the gradient with respect to the image."""
    channels, times = dx.shape[3], g.shape[3] // dx.shape[3]
    places = dx.size // channels
    arrays = (g, weight, dx)
    launch("depthwise_dx", arrays, (times,), places, channels, channels, channels, window)


def depthwise_dw(g: Array, x: Array, window: Window) -> Array:
    """Return the gradient with respect to the weight, flat: sums of parts, and then of those."""
    channels, features, taps = x.shape[3], g.shape[3], math.prod(window.taps)
    places = g.size // features
    lanes = min(1 << (features - 1).bit_length(), 32)
    parts = min(-(-places * lanes // (_BLOCK * _PLACES)), _PARTS)
    sums = cupy().empty((parts, taps * features), wide(x.dtype))
    grid = (-(-features // lanes), parts, -(-taps // _TAPS))
    columns_source.launch(
        "depthwise_dw", x.dtype, grid, _BLOCK, x, g, sums, features // channels,
        places, lanes, channels, channels, *window.numbers(),
    )  # fmt: skip
    return column_sums(sums).astype(x.dtype, copy=False)
