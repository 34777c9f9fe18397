"""Layers that are random in training."""

from __future__ import annotations

from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]

ROWS = [
    Row("dropout", lambda: layers.Dropout(0.4), (6, 5), (6, 5), random=True),
    Row("dropout all", lambda: layers.Dropout(1.0), (3, 5), (3, 5)),
    Row("dropout none", lambda: layers.Dropout(0.0), (3, 5), (3, 5)),
]
