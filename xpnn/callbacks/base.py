"""The protocol of callbacks."""

from __future__ import annotations

from typing import Any

__all__ = ["Callback"]


class Callback:
    """Base of callbacks: override what is needed.

    ``run`` is what the methods are given: ``run.model``, ``run.epoch``, ``run.step`` (counted over
    all epochs), ``run.epochs``, ``run.steps_per_epoch`` (None if unknown), and ``run.stop``, which
    a callback sets to True to end training after the epoch.
    """

    def on_train_begin(self, run: Any) -> None:
        """Prepare, before the first epoch."""

    def on_epoch_begin(self, run: Any) -> None:
        """Prepare, before the first step of an epoch."""

    def on_step_end(self, run: Any, values: dict[str, Any]) -> None:
        """See the loss and metrics of a step: arrays on the device."""

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        """See the means of an epoch, with ``val_`` for those on validation data."""

    def on_train_end(self, run: Any) -> None:
        """Clean up; called also when training fails."""
