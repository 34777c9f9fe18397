"""Pooling."""

from __future__ import annotations

from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]

ROWS = [
    Row("max pool", lambda: layers.MaxPool2D(2), (2, 4, 7, 3), (2, 2, 3, 3)),
    Row(
        "max pool overlapping",
        lambda: layers.MaxPool2D(3, stride=2, padding=1, ceil_mode=True),
        (2, 6, 5, 2),
        (2, 4, 3, 2),
    ),
    Row("average pool", lambda: layers.AvgPool2D((1, 2)), (2, 3, 4, 3), (2, 3, 2, 3)),
    Row(
        "average pool padded",
        lambda: layers.AvgPool2D(
            3, stride=2, padding=1, count_include_pad=False, data_format="channels_first"
        ),
        (2, 2, 5, 4),
        (2, 2, 3, 2),
    ),
]
