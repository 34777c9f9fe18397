"""Fully connected layers."""

from __future__ import annotations

from typing import Any

from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]


def _linear(torch: Any, p: Any, x: Any) -> Any:
    return torch.nn.functional.linear(x, p["weight"].T, p.get("bias"))


def _tied() -> Any:
    first = layers.Dense(3, in_features=4, activation="sigmoid")
    return layers.Chain([first, layers.Dense(4, weight=first.weight, transposed=True)])


ROWS = [
    Row(
        "dense",
        lambda: layers.Dense(3),
        (5, 4),
        (5, 3),
        torch=_linear,
        wrong={"last axis 4": (5, 7)},
    ),
    Row(
        "dense tanh",
        lambda: layers.Dense(3, activation="tanh"),
        (5, 4),
        (5, 3),
        torch=lambda t, p, x: t.tanh(_linear(t, p, x)),
    ),
    Row("dense no bias", lambda: layers.Dense(3, bias=False), (5, 4), (5, 3), torch=_linear),
    Row("dense 4-d", lambda: layers.Dense(2, activation="sigmoid"), (2, 3, 1, 4), (2, 3, 1, 2)),
    Row("dense 1-d", lambda: layers.Dense(2), (4,), (2,)),
    Row("dense sized", lambda: layers.Dense(3, in_features=4), (1, 4), (1, 3)),
    Row(
        "dense initializers",
        lambda: layers.Dense(3, weight_init="he_normal", bias_init="ones", activation="relu"),
        (6, 4),
        (6, 3),
    ),
    Row(
        "dense tied to its transpose",
        _tied,
        (5, 4),
        (5, 4),
        torch=lambda t, p, x: (
            t.sigmoid(x @ p["0.weight"] + p["0.bias"]) @ p["0.weight"].T + p["1.bias"]
        ),
    ),
]
