"""Stopping before the last epoch."""

from __future__ import annotations

import math
from typing import Any

from xpnn import backend
from xpnn.callbacks.base import Callback
from xpnn.errors import ConfigError

__all__ = ["EarlyStopping", "snapshot"]

_GROW = ("acc", "f1", "precision", "r2", "recall", "top_k")  # metrics that are better when larger


class EarlyStopping(Callback):
    """Stop when a value has not improved for some epochs.

    Parameters
    ----------
    monitor : str
        The name of the value, such as ``"val_loss"`` or ``"val_accuracy"``.
    patience : int
        How many epochs without improvement are waited for.
    min_delta : float
        By how much a value must be better.
    mode : {"auto", "min", "max"}
        Which way is better; "auto" takes "max" for accuracies, precision, recall, F1 and R2.
    restore_best : bool
        Whether the weights of the best epoch are put back at the end.

    Examples
    --------
    >>> from xpnn.callbacks import EarlyStopping
    >>> stop = EarlyStopping("val_accuracy", patience=5)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 3,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
    ) -> None:
        if mode not in ("auto", "min", "max"):
            msg = f"EarlyStopping: 'mode' must be 'auto', 'min' or 'max', got {mode!r}."
            raise ConfigError(msg)
        if patience < 0:
            msg = f"EarlyStopping: 'patience' must not be negative, got {patience}."
            raise ConfigError(msg)
        self.monitor, self.patience, self.min_delta = monitor, patience, min_delta
        grows = mode == "max" or (mode == "auto" and any(name in monitor for name in _GROW))
        self.sign = 1 if grows else -1
        self.restore_best = restore_best

    def on_train_begin(self, run: Any) -> None:
        self.best, self.best_epoch = -math.inf, -1
        self.best_state: dict[str, Any] | None = None

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        if self.monitor not in values:
            msg = (
                f"EarlyStopping: there is no value {self.monitor!r}; there are"
                f" {', '.join(values)}. Is validation data missing?"
            )
            raise ConfigError(msg)
        score = self.sign * values[self.monitor]
        if score > self.best + self.min_delta:
            self.best, self.best_epoch = score, run.epoch
            if self.restore_best:
                self.best_state = snapshot(run.model)
        elif run.epoch - self.best_epoch >= self.patience:
            run.stop = True

    def on_train_end(self, run: Any) -> None:
        if self.best_state is not None:
            run.model.load_state_dict(self.best_state)


def snapshot(model: Any) -> dict[str, Any]:
    """Return copies of a model's parameters and buffers."""
    return {
        name: backend.array_namespace(x).asarray(x, copy=True)
        for name, x in model.state_dict().items()
        if x is not None
    }
