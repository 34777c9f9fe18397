"""Event files for TensorBoard."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from xpnn import backend
from xpnn._extras import require
from xpnn.callbacks.base import Callback, as_path
from xpnn.optim.config import flag, whole

__all__ = ["TensorBoard"]


class TensorBoard(Callback):
    """Write what ``tensorboard --logdir folder`` shows.

    At the end of every epoch: loss and metrics, in ``folder/train`` and ``folder/validation``, so
    that both are drawn into one chart, and the learning rate ``lr`` (``lr/<name>`` for each of
    several optimizers). The horizontal axis counts optimizer steps.

    Parameters
    ----------
    folder : path
        One a run, such as ``"logs/adam-1"``; it is made if need be. What an earlier run wrote to
        it, TensorBoard hides from the step on at which this one begins: all of it for a new run,
        only what is done once more after a resume.
    every : int, optional
        Also the loss and metrics of every so many steps, as ``step/<name>``. Reading them waits
        for the device.
    histograms : bool
        Whether the values of every parameter are shown, at the end of every epoch.

    Raises
    ------
    MissingLibraryError
        When training begins, if tensorboardX is not installed.

    Notes
    -----
    The files are written by tensorboardX, which is small: ``torch.utils.tensorboard`` needs
    PyTorch, and ``tensorboard`` itself brings a web server. Every event is in the file as soon as
    its epoch ends. Events have the time of day, so files of equal runs differ in it.

    Examples
    --------
    >>> from xpnn.callbacks import TensorBoard
    >>> board = TensorBoard("logs/adam-1", every=100)
    """

    def __init__(
        self, folder: str | os.PathLike[str], every: int | None = None, histograms: bool = False
    ) -> None:
        self.folder = as_path(self, "folder", folder)
        self.every = None if every is None else whole(self, "every", every, 1)
        self.histograms = flag(self, "histograms", histograms)
        self._files: dict[str, _EventFile] = {}
        self._first = 0

    def on_train_begin(self, run: Any) -> None:
        self._first = run.step + 1 if run.step else 0
        self._file("train")

    def on_step_end(self, run: Any, values: dict[str, Any]) -> None:
        if self.every is not None and run.step % self.every == 0:
            for name, value in values.items():
                self._file("train").scalar(f"step/{name}", float(value), run.step)

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        train = self._file("train")
        for name, value in (_rates(run.model) | values).items():
            if name.startswith("val_"):
                self._file("validation").scalar(name.removeprefix("val_"), value, run.step)
            else:
                train.scalar(name, value, run.step)
        if self.histograms:
            for name, p in run.model.named_parameters().items():
                train.histogram(name.replace(".", "/"), backend.to_numpy(p), run.step)
        for file in self._files.values():
            file.flush()

    def on_train_end(self, run: Any) -> None:
        for file in self._files.values():
            file.close()
        self._files = {}

    def _file(self, name: str) -> _EventFile:
        if name not in self._files:
            self._files[name] = _EventFile(self.folder / name, self._first)
        return self._files[name]


def _rates(model: Any) -> dict[str, float]:
    alone = len(model.optimizers) == 1
    return {"lr" if alone else f"lr/{name}": float(o.lr) for name, o in model.optimizers.items()}


class _EventFile:
    """A new event file; its events are written at once, without a thread that may be behind.

    TensorBoard hides what earlier files of the folder say of step ``first`` and later ones.
    """

    def __init__(self, folder: Path, first: int) -> None:
        require("tensorboardX", "tensorboard", "callbacks.TensorBoard")
        from tensorboardX import RecordWriter, summary
        from tensorboardX.proto import event_pb2

        self._summary, self._proto = summary, event_pb2
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{time.time():.6f}.{os.getpid()}"
        self._records = RecordWriter(str(folder / name))
        self._write(file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=first, session_log=start)

    def scalar(self, tag: str, value: float, step: int) -> None:
        self._write(step=step, summary=self._summary.scalar(tag, value))

    def histogram(self, tag: str, values: Any, step: int) -> None:
        xp = backend.array_namespace(values)
        finite = values[xp.isfinite(values)]  # others fit into no bin
        if finite.shape[0]:
            self._write(step=step, summary=self._summary.histogram(tag, finite, bins=64))

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()

    def _write(self, **parts: Any) -> None:
        event = self._proto.Event(wall_time=time.time(), **parts)
        self._records.write(event.SerializeToString())
