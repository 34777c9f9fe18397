"""The same training run on the CPU and on a GPU: how far apart the losses are, step by step.

One seed gives both the same weights, batches and dropout masks, so that the losses of the first 100
steps differ by rounding alone: by less than a thousandth, or it exits with 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import xpnn
from xpnn import datasets, layers, optim
from xpnn.callbacks import Callback
from xpnn.errors import DeviceError

__all__ = ["BOUND", "NETWORKS", "Losses", "apart", "compiled", "data", "losses_on"]

BOUND = 1e-3  # relative
BATCH = 32


def _mlp() -> list[Any]:
    return [
        layers.Flatten(), layers.Dropout(0.2), layers.Dense(64, activation="relu"),
        layers.Dropout(0.5), layers.Dense(10),
    ]  # fmt: skip


def _convnet() -> list[Any]:
    return [
        layers.Reshape((8, 8, 1)), layers.Conv2D(8, 3, padding=1), layers.BatchNorm(),
        layers.Activation("relu"), layers.MaxPool2D(2), layers.Conv2D(16, 3, padding=1),
        layers.BatchNorm(activation="relu"), layers.GlobalAvgPool(), layers.Dense(10),
    ]  # fmt: skip


def _lstm() -> list[Any]:
    return [layers.LSTM(32, return_sequences=False), layers.Dense(10)]


def _transformer() -> list[Any]:
    return [
        layers.Dense(16), layers.TransformerEncoderLayer(2, 32, dropout=0.1), layers.Flatten(),
        layers.Dense(10),
    ]  # fmt: skip


NETWORKS: dict[str, Callable[[], list[Any]]] = {
    "MLP with dropout": _mlp,
    "convnet with batch normalization": _convnet,
    "LSTM": _lstm,
    "transformer": _transformer,
}


class Losses(Callback):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_step_end(self, run: Any, values: dict[str, Any]) -> None:
        """Fetch the loss."""
        self.seen.append(float(values["loss"]))


def data(steps: int) -> tuple[Any, Any]:
    """Return digits as rows of pixels, as many as so many steps take, over and over."""
    x, y = datasets.load_digits()
    x, y = np.asarray(x, "float32").reshape(-1, 8, 8), np.asarray(y)
    n = min(len(x), steps * BATCH)
    return x[:n], y[:n]


def compiled(name: str, device: str, lr: float = 1e-3) -> xpnn.Sequential:
    """Return a network on a device, with the weights of seed 0."""
    xpnn.set_seed(0)
    model = xpnn.Sequential(NETWORKS[name]()).to(device)
    model.compile("cross_entropy", optim.Adam(lr), ["accuracy"])
    return model


def losses_on(name: str, device: str, steps: int = 100) -> list[float]:
    """Return the losses of the first steps on a device."""
    model, losses = compiled(name, device), Losses()
    x, y = data(steps)
    model.fit(x, y, batch_size=BATCH, steps_per_epoch=steps, callbacks=[losses], verbose=0)
    return losses.seen


def apart(a: list[float], b: list[float]) -> float:
    """Return the largest relative difference of two runs."""
    one, other = np.asarray(a), np.asarray(b)
    return float(np.max(np.abs(one - other) / np.abs(other)))


def main() -> None:
    """Print a line a network; exit with 1 if a GPU trains otherwise than the CPU."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, help="write the losses of both to this file")
    options = parser.parse_args()
    try:
        xpnn.to_device(np.ones(1), options.device)
    except DeviceError as error:
        sys.exit(f"left out: {error}")
    found: dict[str, Any] = {}
    for name in NETWORKS:
        host = losses_on(name, "cpu", options.steps)
        there = losses_on(name, options.device, options.steps)
        found[name] = {"cpu": host, options.device: there, "apart": apart(there, host)}
        print(
            f"{name:34} loss {host[0]:.4f} ... {host[-1]:.4f}, largest relative difference"
            f" {found[name]['apart']:.1e}",
            flush=True,
        )
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if far := [name for name, row in found.items() if not row["apart"] < BOUND]:
        sys.exit(f"further apart than {BOUND}: {', '.join(far)}")


if __name__ == "__main__":
    main()
