"""The tutorial network of yadll on MNIST: its test error, with early stopping.

dropout 0.4 - 500 relu - dropout 0.2 - 500 relu - 10; batch 500, Nesterov momentum 0.5, learning
rate 0.1; 50,000 images to train, the last 10,000 of the training set to validate, 10,000 to test.
yadll reports 1.32 % for the weights of the best validation error. XPNN_DATA names the folder of
the files, or they are downloaded.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy

import xpnn
from xpnn import datasets, layers, optim
from xpnn.training import Callback, EarlyStopping

RESULTS = Path(__file__).parent / "results" / "mnist_tutorial.json"


class Report(Callback):
    """A line every ten epochs, with the validation error."""

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        """Print."""
        if (run.epoch + 1) % 10 == 0:
            error = 100 * (1 - values["val_accuracy"])
            line = f"epoch {run.epoch + 1:4}  loss {values['loss']:.4f}  validation {error:.2f} %"
            print(line, flush=True)


def network() -> xpnn.Sequential:
    """Return the network, compiled."""
    model = xpnn.Sequential(
        [
            layers.Flatten(),
            layers.Dropout(0.4),
            layers.Dense(500, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(500, activation="relu"),
            layers.Dense(10, weight_init="zeros"),
        ]
    )
    sgd = optim.SGD(0.1, momentum=0.5, nesterov=True)
    model.compile("cross_entropy", sgd, metrics=["accuracy"])
    return model


def run(seed: int, epochs: int, patience: int, device: str) -> dict[str, Any]:
    """Train once; return what was reached."""
    xpnn.set_device(device)
    xpnn.set_seed(seed)
    (x, y), (x_test, y_test) = datasets.load_mnist()
    model = network()
    started = time.perf_counter()
    history = model.fit(
        x[:50_000], y[:50_000], batch_size=500, epochs=epochs, verbose=0,
        validation_data=(x[50_000:], y[50_000:]),
        callbacks=[Report(), EarlyStopping("val_accuracy", patience=patience)],
    )  # fmt: skip
    seconds = time.perf_counter() - started
    error = 100 * (1 - model.evaluate(x_test, y_test)["accuracy"])
    best = 100 * (1 - max(history["val_accuracy"]))
    print(
        f"seed {seed}: test error {error:.2f} %, best validation {best:.2f} %,"
        f" {history.epochs} epochs, {seconds:.0f} s"
    )
    return {
        "seed": seed, "test_error": error, "validation_error": best,
        "epochs": history.epochs, "seconds": seconds, "device": str(xpnn.get_device()),
    }  # fmt: skip


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--patience", type=int, default=60)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    runs = [run(s, options.epochs, options.patience, options.device) for s in options.seeds]
    if options.save:
        report = {"python": platform.python_version(), "numpy": numpy.__version__, "runs": runs}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
