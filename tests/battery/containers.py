"""Layers made of layers."""

from __future__ import annotations

from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]

ROWS = [
    Row(
        "chain",
        lambda: layers.Chain(
            [layers.Flatten(), layers.Dense(4, activation="tanh"), layers.Dense(2)]
        ),
        (5, 2, 3),
        (5, 2),
    ),
    Row(
        "chain in chain with dropout",
        lambda: layers.Chain(
            [layers.Chain([layers.Dense(4), layers.Dropout(0.5)]), layers.Activation("sigmoid")]
        ),
        (5, 3),
        (5, 4),
        random=True,
    ),
]
