"""Convolution."""

from __future__ import annotations

from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]

ROWS = [
    Row(
        "conv2d",
        lambda: layers.Conv2D(3, 2),
        (2, 4, 5, 2),
        (2, 3, 4, 3),
        wrong={"2 channels": (2, 4, 5, 3), "H, W, C": (4, 5, 2), "larger than the": (2, 1, 5, 2)},
    ),
    Row(
        "conv2d same stride",
        lambda: layers.Conv2D(4, (3, 2), stride=2, padding="same", activation="tanh"),
        (2, 5, 4, 3),
        (2, 3, 2, 4),
    ),
    Row(
        "conv2d all options",
        lambda: layers.Conv2D(
            4, 2, stride=(1, 2), padding=((1, 0), (2, 1)), dilation=(2, 1), groups=2, bias=False
        ),
        (2, 4, 4, 2),
        (2, 3, 3, 4),
    ),
    Row(
        "conv2d depthwise channels first",
        lambda: layers.Conv2D(6, 3, 3, padding=1, groups=3, data_format="channels_first"),
        (2, 3, 4, 5),
        (2, 6, 4, 5),
    ),
]
