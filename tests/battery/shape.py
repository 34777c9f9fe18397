"""Layers that change the shape."""

from __future__ import annotations

from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]

ROWS = [
    Row("flatten", layers.Flatten, (2, 3, 4), (2, 12), any_dtype=True),
    Row(
        "flatten from 2",
        lambda: layers.Flatten(start_axis=2),
        (2, 3, 4, 2),
        (2, 3, 8),
        any_dtype=True,
    ),
    Row(
        "reshape",
        lambda: layers.Reshape((2, -1)),
        (3, 6),
        (3, 2, 3),
        any_dtype=True,
        wrong={"do not fill that shape": (3, 5)},
    ),
]
