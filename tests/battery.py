"""The table of layers: a row each, which every check of ``test_layers.py`` runs through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from xpnn import layers

__all__ = ["LAYERS", "Row"]


@dataclass(frozen=True)
class Row:
    """A layer: how to make it, what it takes and gives."""

    name: str
    make: Callable[[], Any]
    shape: tuple[int, ...]
    output: tuple[int, ...]
    random: bool = False  # differs between calls in training
    smooth: bool = True  # finite differences exist almost surely at random points
    wrong: dict[str, tuple[int, ...]] = field(default_factory=dict)  # message: shape refused

    def __str__(self) -> str:
        return self.name


LAYERS = [
    Row("dense", lambda: layers.Dense(3), (5, 4), (5, 3), wrong={"last axis 4": (5, 7)}),
    Row("dense tanh", lambda: layers.Dense(3, activation="tanh"), (5, 4), (5, 3)),
    Row("dense no bias", lambda: layers.Dense(3, bias=False), (5, 4), (5, 3)),
    Row("dense 4-d", lambda: layers.Dense(2, activation="sigmoid"), (2, 3, 1, 4), (2, 3, 1, 2)),
    Row("dense 1-d", lambda: layers.Dense(2), (4,), (2,)),
    Row("dense sized", lambda: layers.Dense(3, in_features=4), (1, 4), (1, 3)),
    Row(
        "dense initializers",
        lambda: layers.Dense(3, weight_init="he_normal", bias_init="ones", activation="relu"),
        (6, 4),
        (6, 3),
    ),
    Row("activation", lambda: layers.Activation("softmax"), (3, 4), (3, 4)),
    Row("flatten", layers.Flatten, (2, 3, 4), (2, 12)),
    Row("flatten from 2", lambda: layers.Flatten(start_axis=2), (2, 3, 4, 2), (2, 3, 8)),
    Row(
        "reshape",
        lambda: layers.Reshape((2, -1)),
        (3, 6),
        (3, 2, 3),
        wrong={"do not fill that shape": (3, 5)},
    ),
    Row("dropout", lambda: layers.Dropout(0.4), (6, 5), (6, 5), random=True),
    Row("dropout all", lambda: layers.Dropout(1.0), (3, 5), (3, 5)),
    Row("dropout none", lambda: layers.Dropout(0.0), (3, 5), (3, 5)),
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
