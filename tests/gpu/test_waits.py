"""In a training step the host never waits for the GPU: it prepares what comes next meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from emulation.arrays import waits
from helpers import usable

import xpnn
from gpu.twins import counted, on_cuda
from xpnn import layers, losses, optim
from xpnn.data import Batch

pytestmark = [pytest.mark.gpu, counted]


def perceptron() -> list[Any]:
    return [layers.Dense(8, activation="relu"), layers.Dropout(0.3), layers.Dense(3)]


def convolutional() -> list[Any]:
    return [
        layers.Conv2D(4, 3), layers.BatchNorm(activation="relu"), layers.MaxPool2D(2),
        layers.Conv2D(4, 3, padding="same", activation="relu"), layers.GlobalAvgPool(),
        layers.Dense(3),
    ]  # fmt: skip


def recurrent() -> list[Any]:
    return [layers.Bidirectional(layers.LSTM(5)), layers.GRU(4, return_sequences=False),
            layers.Dense(3)]  # fmt: skip


def transformer() -> list[Any]:
    return [
        layers.PositionalEncoding(), layers.TransformerEncoderLayer(2, 8),
        layers.TransformerEncoderLayer(2, 8, causal=True, norm_first=True), layers.LayerNorm(),
        layers.GlobalAvgPool(), layers.Dense(3),
    ]  # fmt: skip


def embedded() -> list[Any]:
    return [layers.Embedding(7, 4, padding_idx=0), layers.LSTM(5, return_sequences=False),
            layers.Dense(3)]  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], list[Any]], tuple[int, ...]]] = {
    "perceptron": (perceptron, (6, 5)),
    "convolutional": (convolutional, (6, 8, 8, 2)),
    "recurrent": (recurrent, (6, 5, 4)),
    "transformer": (transformer, (6, 5, 4)),
}
OPTIMIZERS: list[Callable[[], Any]] = [
    lambda: optim.SGD(0.1, momentum=0.9),
    lambda: optim.AdamW(1e-3),
    lambda: optim.RMSprop(1e-3),
]


def made(network: Callable[[], list[Any]], shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Return a model, inputs and labels on the GPU."""
    xpnn.set_seed(0)
    model = xpnn.Sequential(network()).to(usable("cuda"))
    x = np.random.default_rng(0).standard_normal(shape).astype("float32")
    return model, on_cuda(x), on_cuda(np.arange(shape[0]) % 3)


def waits_of(step: Callable[[], Any]) -> int:
    """Return how often the host waits in a step, which is not the first one."""
    step()
    before = waits.count
    step()
    return waits.count - before


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_of_ones_own(optimizer: Callable[[], Any], name: str) -> None:
    model, x, y = made(*NETWORKS[name])
    rule = optimizer()

    def step() -> None:
        loss = losses.cross_entropy(model(x), y)
        loss.backward()
        rule.step(model)

    assert waits_of(step) == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_of_fit(name: str) -> None:
    model, x, y = made(*NETWORKS[name])
    model.compile(loss="cross_entropy", optimizer=optim.Adam(1e-3), metrics=["accuracy"])
    assert waits_of(lambda: model.train_step(Batch(x, y, None))) == 0


def test_an_embedding_does_not_look_at_its_ids() -> None:
    model, _, y = made(embedded, (6, 5))
    ids = on_cuda(np.arange(30).reshape(6, 5) % 7)
    model.compile(loss="cross_entropy", optimizer=optim.Adam(1e-3))
    assert waits_of(lambda: model.train_step(Batch(ids, y, None))) == 0


def test_waits_are_counted() -> None:
    _, x, _ = made(perceptron, (6, 5))
    assert waits_of(lambda: float(x[0, 0])) == 1
    assert waits_of(lambda: x[x > 0]) == 1
