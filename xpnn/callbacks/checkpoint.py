"""Writing a run down, so that it can go on after a crash."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from xpnn.callbacks.base import Callback, as_path
from xpnn.callbacks.stopping import direction, monitored
from xpnn.errors import ConfigError

__all__ = ["Checkpoint", "checkpoints_in"]

_NAME = re.compile(r"checkpoint-(\d{8,})\.safetensors")
_BEST = "best.safetensors"
_TORN = re.compile(r"(checkpoint-\d{8,}|best)\.safetensors\.[0-9a-f]+\.part")


def checkpoints_in(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the checkpoints in a folder, the oldest first."""
    where = Path(folder)
    if where.exists() and not where.is_dir():
        msg = f"{folder}: expected a folder of checkpoints, this is a file."
        raise ConfigError(msg)
    found = [p for p in where.iterdir() if _NAME.fullmatch(p.name)] if where.is_dir() else []
    return sorted(found, key=lambda p: int(_NAME.fullmatch(p.name)[1]))  # type: ignore[index]


def _counts(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool) and value >= 1


class Checkpoint(Callback):
    """Write the whole state of a run to a folder, now and then.

    A file ``checkpoint-<step>.safetensors`` holds all that decides how the run goes on: weights,
    what the optimizer and the learning-rate schedule remember, the state of the random stream, the
    position in the epoch, the history, and what the other callbacks remember. So
    ``model.fit(..., resume=folder)`` ends with the weights of a run that was never interrupted, bit
    for bit on one machine and device. Files are written atomically: a crash, of the process or of
    the machine, leaves the old ones.

    Beside them ``best.safetensors`` is the model, as :meth:`Model.save` writes it, with the weights
    of the best validation so far.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    every : int, optional
        After how many steps of the optimizer; at the end of every epoch if not given. The step
        after which Ctrl-C ends the run is written down in any case, unless a second Ctrl-C, which
        acts at once, comes before that is done.
    keep : int
        How many checkpoints are kept, the newest ones.
    monitor : str
        The value that says which weights are best. One named with ``val_`` says so if there is
        validation data.
    mode : {"auto", "min", "max"}
        Which way it is better.
    best : bool
        Whether to write ``best.safetensors``.
    overwrite : bool
        Whether a run that does not resume may delete the checkpoints of another in the folder, and
        its best model.

    Raises
    ------
    ConfigError
        At the start of a run that does not resume, if there are checkpoints in the folder already;
        at the first validation or epoch, if there is no value ``monitor``.

    Notes
    -----
    To write one makes the device wait, and takes about as long as copying the weights to disk, with
    those that the optimizer keeps: three times the model for Adam.

    Examples
    --------
    >>> import tempfile, numpy as np, xpnn
    >>> from xpnn.callbacks import Checkpoint
    >>> x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    >>> folder = tempfile.mkdtemp()
    >>> def run(epochs):
    ...     xpnn.set_seed(0)
    ...     model = xpnn.Sequential([xpnn.layers.Dense(1)])
    ...     model.compile("mse", "adam")
    ...     return model.fit(x, 2 * x, epochs=epochs, callbacks=[Checkpoint(folder)], resume=folder)
    >>> len(run(2)["loss"]), len(run(5)["loss"])  # the second goes on where the first stopped
    (2, 5)
    """

    rank: ClassVar[int] = 100  # last, when all others have seen the step

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: int | None = None,
        keep: int = 2,
        monitor: str = "val_loss",
        mode: str = "auto",
        best: bool = True,
        overwrite: bool = False,
    ) -> None:
        for name, value in (("every", every), ("keep", keep)):
            if not _counts(value) and not (value is None and name == "every"):
                msg = f"Checkpoint: {name!r} must be a whole number, at least 1, got {value!r}."
                raise ConfigError(msg)
        self.folder, self.every, self.keep = as_path(self, "folder", folder), every, keep
        self.monitor, self.write_best, self.overwrite = monitor, best, overwrite
        self.sign = direction(self, monitor, mode)
        self.best = -math.inf
        self._written = 0  # the step of the last checkpoint; before the first there is nothing new

    def on_train_begin(self, run: Any) -> None:
        there, self._written = checkpoints_in(self.folder), run.step
        if not run.resumed:
            self.best = -math.inf
            if there and not self.overwrite:
                msg = (
                    f"Checkpoint: {self.folder} holds checkpoints of another run, such as"
                    f" {there[-1].name}. Go on with it by fit(..., resume={str(self.folder)!r}), or"
                    " start anew with overwrite=True or in another folder."
                )
                raise ConfigError(msg)
            for path in (*there, self.folder / _BEST) if self.overwrite else ():
                path.unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if _TORN.fullmatch(path.name):  # a process was killed while it wrote
                path.unlink(missing_ok=True)

    def on_step_end(self, run: Any, values: dict[str, Any]) -> None:
        if self.every is not None and run.step % self.every == 0:
            self._write(run)

    def on_validation_end(self, run: Any, values: dict[str, float]) -> None:
        if self.monitor.startswith("val_"):
            self._look(run, values)

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        if not self.monitor.startswith("val_"):
            self._look(run, values)
        if self.every is None:
            self._write(run)

    def on_interrupt(self, run: Any) -> None:
        if run.step != self._written:
            self._write(run)

    def _look(self, run: Any, values: dict[str, float]) -> None:
        if not self.write_best:
            return
        score = self.sign * monitored(self, self.monitor, values)
        if score > self.best:
            self.best = score
            run.model.save(self.folder / _BEST)

    def _write(self, run: Any) -> None:
        run.write(self.folder / f"checkpoint-{run.step:08d}.safetensors")
        self._written = run.step
        for path in checkpoints_in(self.folder)[: -self.keep]:
            path.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        return {"best": None if math.isinf(self.best) else self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best = -math.inf if state["best"] is None else float(state["best"])
