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
    batch: bool = False  # normalizes over the batch: in training not for less than two examples
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
    Row("batch norm", layers.BatchNorm, (6, 3), (6, 3), batch=True, wrong={"3 channels": (6, 4)}),
    Row("batch norm images", layers.BatchNorm, (3, 2, 4, 2), (3, 2, 4, 2), batch=True),
    Row(
        "batch norm channels first",
        lambda: layers.BatchNorm(axis=1, affine=False, epsilon=1e-3),
        (4, 3, 2),
        (4, 3, 2),
        batch=True,
    ),
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
