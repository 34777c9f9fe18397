"""Layers that are random in training."""

from __future__ import annotations

from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]

ROWS = [
    Row("dropout", lambda: layers.Dropout(0.4), (6, 5), (6, 5), random=True),
    Row("dropout all", lambda: layers.Dropout(1.0), (3, 5), (3, 5)),
    Row("dropout none", lambda: layers.Dropout(0.0), (3, 5), (3, 5)),
    Row("alpha dropout", lambda: layers.AlphaDropout(0.3), (6, 5), (6, 5), random=True),
    Row("alpha dropout none", lambda: layers.AlphaDropout(0.0), (3, 5), (3, 5)),
    Row("gaussian noise", lambda: layers.GaussianNoise(0.2), (6, 5), (6, 5), random=True),
    Row("gaussian noise none", lambda: layers.GaussianNoise(0.0), (3, 5), (3, 5)),
    Row(
        "drop connect",
        lambda: layers.DropConnect(4, 0.3, activation="tanh", l1=0.1),
        (5, 6),
        (5, 4),
        random=True,
        wrong={r"DropConnect\(in_features=6\): expected x with last axis 6": (5, 7)},
    ),
    Row(
        "drop connect none",
        lambda: layers.DropConnect(3, 0.0, bias=False),
        (5, 4),
        (5, 3),
        torch=lambda t, p, x: x @ p["weight"],
    ),
    Row(
        "drop connect all",
        lambda: layers.DropConnect(3, 1.0),
        (5, 4),
        (5, 3),
        torch=lambda t, p, x: 0 * (x @ p["weight"]) + p["bias"],
    ),
]
