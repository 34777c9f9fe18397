"""The same 20 training steps, dropout included, on every device: how far the losses are apart."""

from __future__ import annotations

from typing import Any

import numpy as np

import xpnn
from xpnn import datasets, layers, optim
from xpnn.errors import DeviceError
from xpnn.training import Callback

DEVICES = ("cpu", "strict:device1", "torch:cpu", "jax:cpu", "cuda")


class Losses(Callback):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_step_end(self, run: Any, values: dict[str, Any]) -> None:
        """Fetch the loss."""
        self.seen.append(float(values["loss"]))


def train(device: str) -> np.ndarray:
    """Return the losses of 20 steps on a device."""
    xpnn.set_seed(0)
    with xpnn.device(device):
        x, y = datasets.load_digits()
        model = xpnn.Sequential(
            [
                layers.Flatten(),
                layers.Dropout(0.2),
                layers.Dense(64, activation="relu"),
                layers.Dropout(0.5),
                layers.Dense(10),
            ]
        )
        model.compile("cross_entropy", optim.Adam(1e-2))
        losses = Losses()
        model.fit(x[:640], y[:640], batch_size=32, callbacks=[losses], verbose=0)
    return np.asarray(losses.seen)


def main() -> None:
    """Print a line a device."""
    reference = train("cpu")
    print(f"{'cpu':16} {len(reference)} losses, {reference[0]:.6f} ... {reference[-1]:.6f}")
    for device in DEVICES[1:]:
        try:
            found = train(device)
        except DeviceError as error:
            print(f"{device:16} left out: {error}")
            continue
        apart = np.max(np.abs(found - reference) / reference)
        print(f"{device:16} largest relative difference {apart:.1e}")


if __name__ == "__main__":
    main()
