"""A training run: what it is doing, and how far it is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from xpnn._names import hint
from xpnn.callbacks import Callback
from xpnn.callbacks.base import as_path
from xpnn.errors import ConfigError, NonFiniteError
from xpnn.training import checkpoints
from xpnn.training.capture import Captured
from xpnn.training.guard import Guard
from xpnn.training.history import History, Means
from xpnn.training.sources import Source

__all__ = ["Run", "listed"]


class Run:
    """The state of a training run, as the loop keeps it and callbacks see it.

    Attributes
    ----------
    model : Model
    epochs, epoch : int
        How many there are to be, and the current one, counted from 0.
    step : int
        Steps of the optimizer done so far, over all epochs.
    batch : int
        Batches of this epoch so far.
    history : History
    stop : bool
        Whether to end after this step.
    interrupted : bool
        Whether Ctrl-C was pressed.
    resumed : bool
        Whether it goes on from a checkpoint.
    take_step : callable
        The model's ``train_step``, captured if the run is to be.
    """

    def __init__(
        self,
        model: Any,
        source: Source,
        *,
        epochs: int,
        epoch: int = 0,
        validation: Source | None = None,
        validate_every: int | None = None,
        accumulate: int = 1,
        capture: bool = False,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.model = model
        self.take_step = Captured(model.train_step) if capture else model.train_step
        self.source, self.validation, self.validate_every = source, validation, validate_every
        self.accumulate = accumulate
        self.callbacks = sorted(callbacks, key=lambda callback: callback.rank)
        self.epochs, self.epoch = epochs, epoch
        self.step, self.batch = 0, 0
        self.history, self.means, self.guard = History(), Means(), Guard(model)
        self.stop = self.interrupted = self.resumed = False
        self.looked = False  # whether the model is built and the targets were checked
        self.epoch_ended = False  # between the last step of an epoch and the next epoch
        self.validated: tuple[int, dict[str, float]] | None = None  # the last time: step, values

    @property
    def steps_per_epoch(self) -> int | None:
        """How many steps an epoch has, None if that is not known."""
        batches = self.source.batches
        return None if batches is None else -(-batches // self.accumulate)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must be equal for a resumed run to go on as the first would have."""
        found = {**self.source.fingerprint, "accumulate": self.accumulate}
        if self.model.precision != "float32":
            found["precision"] = self.model.precision
        return found

    def call(self, hook: str, *arguments: Any) -> None:
        """Call a method of all callbacks, in their order."""
        for callback in self.callbacks:
            getattr(callback, hook)(self, *arguments)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint. A run whose loss became no number has none.

        Raises
        ------
        NonFiniteError
            If the loss of the last steps, which are waited for, is NaN or infinite.
        """
        self.guard.finish()
        checkpoints.write(self, path)

    def resume(self, folder: str | os.PathLike[str]) -> None:
        """Go on from the newest checkpoint in a folder, or from one that is named, if there is."""
        path = checkpoints.newest(as_path("fit", "resume", folder))
        if path is not None:
            if self.epoch:
                msg = (
                    "fit: a resumed run begins at the epoch of its checkpoint, not 'initial_epoch'."
                )
                raise ConfigError(msg)
            checkpoints.read(self, path)
            self.resumed = True
            self.guard = Guard(self.model)

    def deal_with(self, error: Exception) -> bool:
        """Show an error to all callbacks; return whether one of them deals with it."""
        if isinstance(error, NonFiniteError):
            self.guard.waiting.clear()
        return any([callback.on_error(self, error) for callback in self.callbacks])


def listed(who: str, callbacks: Any) -> list[Callback]:
    """Return callbacks as a list; None is none.

    Raises
    ------
    ConfigError
        If they are no sequence of callbacks, or one is there twice.
    """
    if callbacks is None:
        return []
    found = list(callbacks) if isinstance(callbacks, Iterable) else []
    odd = [one for one in found if not isinstance(one, Callback)]
    if odd or not isinstance(callbacks, Iterable):
        msg = f"{who}: 'callbacks' must be a list of callbacks.Callback objects, got {callbacks!r}."
        msg += hint(odd[0], ()) if odd else ""
        raise ConfigError(msg)
    if len({id(one) for one in found}) < len(found):
        msg = f"{who}: a callback is twice in 'callbacks', {callbacks!r}. Make another one."
        raise ConfigError(msg)
    return found
