"""The folder of a run: what is written while it goes on, and the results at its end.

Nothing in the folder changes before the first step is done, when all that can be refused has been.
Results take the place of an earlier run's when the run ends, and all together: one that fails
leaves those that are there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from xpnn.callbacks import Callback, Checkpoint, CSVLogger
from xpnn.callbacks.checkpoint import checkpoints_in
from xpnn.errors import ConfigError
from xpnn.training import History

__all__ = ["Files", "checked"]

_MODEL, _RUNNING, _HISTORY = "model.safetensors", "running.csv", ("history.json", "history.csv")
_PICTURES = ("curves", "confusion", "filters", "reconstructions", "samples")
_PNG = tuple(f"{name}.png" for name in _PICTURES)


def checked(out: str | os.PathLike[str], resume: bool, overwrite: bool) -> Path:
    """Return a folder that can be written to, as it is or not yet there.

    Raises
    ------
    ConfigError
        If it cannot be, or if it holds checkpoints and nothing says what to do with them.
    """
    if resume and overwrite:
        msg = "'resume' goes on with the checkpoints that 'overwrite' would delete. Give one."
        raise ConfigError(msg)
    if not os.fspath(out):
        msg = "'out' must be a folder, got an empty name. The current one is '.'."
        raise ConfigError(msg)
    folder = Path(out)
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))
    if not there.is_dir():
        msg = f"'out' must be a folder, or one that can be made: {there} is a file."
        raise ConfigError(msg)
    if not os.access(there, os.W_OK | os.X_OK):
        msg = f"'out' must be a folder that can be written to, got {folder}."
        raise ConfigError(msg)
    old = checkpoints_in(folder)
    if old and not (resume or overwrite):
        msg = (
            f"{folder} holds checkpoints of another run, such as {old[-1].name}. Go on with it by"
            " --resume, delete them by --overwrite, or name another folder."
        )
        raise ConfigError(msg)
    return folder


class Files(Callback):
    """Writes the files of a run.

    Parameters
    ----------
    folder : Path
        Made after the first step, if it is not there.
    every : int, optional
        After how many steps there is a checkpoint.
    overwrite : bool
        Whether checkpoints that are there are deleted.

    Attributes
    ----------
    begun : bool
        Whether the folder is this run's by now.
    """

    rank = 100  # after those that report something

    def __init__(self, folder: Path, every: int | None, overwrite: bool) -> None:
        self.folder, self.overwrite = folder, overwrite
        self.begun = self.failed = False
        self.writers: list[Callback] = [CSVLogger(folder / _RUNNING)]
        if every is not None:
            self.writers.append(Checkpoint(folder, every=every, best=False))

    def on_train_begin(self, run: Any) -> None:
        if run.resumed:  # the folder is this run's
            self._begin(run)

    def on_step_end(self, run: Any, values: dict[str, Any]) -> None:
        self._begin(run)
        for writer in self.writers:
            writer.on_step_end(run, values)

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        for writer in self.writers:
            writer.on_epoch_end(run, values)

    def on_interrupt(self, run: Any) -> None:
        for writer in self.writers if self.begun else ():
            writer.on_interrupt(run)

    def on_error(self, run: Any, error: Exception) -> bool:
        self.failed = True
        return False

    def on_train_end(self, run: Any) -> None:
        if not (self.failed or run.interrupted):
            self._begin(run)  # a run without steps has results too
        for writer in self.writers if self.begun else ():
            writer.on_train_end(run)

    def _begin(self, run: Any) -> None:
        if self.begun:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in checkpoints_in(self.folder) if self.overwrite else ():
            path.unlink(missing_ok=True)
        for name in (_MODEL, _RUNNING, *_HISTORY, *_PNG):
            for path in self.folder.glob(f"{name}.*.part"):  # a process was killed while it wrote
                path.unlink(missing_ok=True)
        for writer in self.writers:
            writer.on_train_begin(run)
        self.begun = True

    def results(self, model: Any, history: History) -> list[Path]:
        """Write model and history in place of others, and return the paths of all files."""
        model.save(self.folder / _MODEL)  # first: for it the disk may be too small
        for name in _PNG:
            (self.folder / name).unlink(missing_ok=True)
        json, csv = (self.folder / name for name in _HISTORY)
        history.to_json(json)
        os.replace(self.folder / _RUNNING, csv)
        return [self.folder / _MODEL, json, csv, *checkpoints_in(self.folder)]
