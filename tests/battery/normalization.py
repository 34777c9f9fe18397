"""Normalization."""

from __future__ import annotations

from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]

ROWS = [
    Row("batch norm", layers.BatchNorm, (6, 3), (6, 3), batch=True, wrong={"3 channels": (6, 4)}),
    Row("batch norm images", layers.BatchNorm, (3, 2, 4, 2), (3, 2, 4, 2), batch=True),
    Row(
        "batch norm channels first",
        lambda: layers.BatchNorm(axis=1, affine=False, epsilon=1e-3),
        (4, 3, 2),
        (4, 3, 2),
        batch=True,
    ),
]
