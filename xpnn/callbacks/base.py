"""The protocol of callbacks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from xpnn._names import hint
from xpnn.errors import ConfigError
from xpnn.metrics._common import grows

__all__ = ["Callback", "as_path", "grows"]


class Callback:
    """Base of callbacks: override what is needed.

    ============================ ==================================================================
    method                       called
    ============================ ==================================================================
    on_train_begin(run)          before the first epoch; after a resume too, with the state loaded
    on_epoch_begin(run)          before the first step of an epoch, and where a resumed run goes on
    on_step_end(run, values)     after every step: loss and metrics, arrays on the device
    on_validation_step(run, n)   after every batch of validation data, the n-th of its pass
    on_validation_end(run, v)    after validation data was measured, before what follows it
    on_epoch_end(run, values)    with the means of the epoch: floats, with ``val_`` on validation
    on_interrupt(run)            when Ctrl-C ends training, after the last step that is done
    on_error(run, error)         when something was raised; returns True if training just ends
    on_train_end(run)            at the end, however it came about
    ============================ ==================================================================

    To read a value of ``on_step_end`` makes the device wait, so do it rarely. Validation within an
    epoch comes before ``on_step_end`` of the step after which it is done.

    ``run`` is what the methods are given. It has ``model``; ``epochs`` and ``epoch``, counted from
    0; ``step``, the steps of the optimizer done so far over all epochs; ``batch``, the batches of
    this epoch so far; ``steps_per_epoch``, None if unknown; ``history``; ``resumed``, whether it
    goes on from a checkpoint; ``interrupted``, by Ctrl-C; and ``stop``, which a callback sets to
    True to end training after this step. An epoch that is ended so counts; one that was interrupted
    does not: its means are in the history, but ``on_epoch_end`` is not called.

    What a callback remembers between calls, and a resumed run must know, it gives in ``state_dict``
    and takes back in ``load_state_dict``.

    Examples
    --------
    >>> from xpnn.callbacks import Callback
    >>> class Goal(Callback):
    ...     def on_epoch_end(self, run, values):
    ...         run.stop = values["loss"] < 0.1
    """

    rank: ClassVar[int] = 0  # those of a higher rank are called later

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in vars(cls):
            if name.startswith("on_") and not hasattr(Callback, name):
                raise _no_hook(cls, name)

    def on_train_begin(self, run: Any) -> None:
        """Prepare, before the first epoch."""

    def on_epoch_begin(self, run: Any) -> None:
        """Prepare, before the first step of an epoch."""

    def on_step_end(self, run: Any, values: dict[str, Any]) -> None:
        """See the loss and metrics of a step: arrays on the device."""

    def on_validation_step(self, run: Any, batches: int) -> None:
        """See how many batches of validation data are done."""

    def on_validation_end(self, run: Any, values: dict[str, float]) -> None:
        """See loss and metrics on validation data, named with ``val_``."""

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        """See the means of an epoch, with ``val_`` for those on validation data."""

    def on_interrupt(self, run: Any) -> None:
        """See a run that Ctrl-C ends, between two steps."""

    def on_error(self, run: Any, error: Exception) -> bool:
        """See what was raised; return True if it is dealt with, and training ends quietly."""
        return False

    def on_train_end(self, run: Any) -> None:
        """Clean up; called also when training fails."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know: JSON values, and arrays, by name."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave; arrays come back as NumPy's."""


# What Keras calls a step, and validation.
_KERAS = {
    "train_batch": "step",
    "test_batch": "validation_step",
    "batch": "step",
    "test": "validation",
}


def _no_hook(cls: type, name: str) -> ConfigError:
    hooks = [hook for hook in vars(Callback) if hook.startswith("on_")]
    ours = name
    for word in _KERAS:
        ours = ours.replace(word, _KERAS[word])
    msg = (
        f"{cls.__name__}: {name!r} would never be called; the hooks are {', '.join(hooks)}."
        f"{hint(ours, hooks)}"
    )
    return ConfigError(msg)


def as_path(owner: Any, name: str, value: Any) -> Path:
    """Return an argument that is a path.

    ``owner`` is the object whose argument it is, or the name of a function.

    Raises
    ------
    ConfigError
        If it is something else.
    """
    if isinstance(value, (str, os.PathLike)):
        return Path(value)
    who = owner if isinstance(owner, str) else type(owner).__name__
    msg = f"{who}: {name!r} must be a path, got {value!r}."
    raise ConfigError(msg)
