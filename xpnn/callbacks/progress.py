"""Progress, on a terminal and in logs."""

from __future__ import annotations

import sys
from typing import Any

from xpnn.callbacks.base import Callback

__all__ = ["EpochLines", "ProgressBar"]


class ProgressBar(Callback):
    """A bar with loss, metrics and the time left; nothing when the output is not a terminal."""

    def __init__(self, every: float = 0.1) -> None:
        self.every = every
        self.bar: Any = None

    def on_epoch_begin(self, run: Any) -> None:
        if not sys.stderr.isatty():
            return
        from tqdm import tqdm

        self.bar = tqdm(
            total=run.steps_per_epoch,
            desc=f"epoch {run.epoch + 1}/{run.epochs}",
            unit="step",
            mininterval=self.every,
        )

    def on_step_end(self, run: Any, values: dict[str, Any]) -> None:
        # Values are read, which makes the device wait, only when the bar is drawn.
        if self.bar is not None and self.bar.update():
            self.bar.set_postfix(_rounded({k: float(v) for k, v in values.items()}), refresh=False)

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        if self.bar is not None:
            self.bar.set_postfix(_rounded(values))
            self.bar.close()
            self.bar = None

    def on_train_end(self, run: Any) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _rounded(values: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.4g}" for name, value in values.items()}


class EpochLines(Callback):
    """A line an epoch, for logs."""

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        parts = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        print(f"epoch {run.epoch + 1}/{run.epochs}  {parts}", flush=True)
