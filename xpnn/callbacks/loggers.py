"""Logs of a run in files: CSV and JSON."""

from __future__ import annotations

import os
from typing import Any

from xpnn import io
from xpnn.callbacks.base import Callback, as_path
from xpnn.optim.config import whole

__all__ = ["CSVLogger", "JSONLogger"]


class CSVLogger(Callback):
    """Write a row an epoch to a CSV file: ``epoch`` from 1, ``step``, loss and metrics.

    The file holds the epochs of ``fit``'s history: a new run begins it anew, one that is resumed
    goes on, and what the interrupted run wrote of epochs that are done once more is dropped.
    Numbers have all their digits and no times are written, so equal runs give equal files,
    interrupted or not. A value that is missing in an epoch is ``nan`` there.

    Parameters
    ----------
    path : path
        In a folder that exists.

    Notes
    -----
    A row is appended. The whole file is replaced, at once, only when a new name appears, or a value
    was reported of an epoch after its row was written.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from xpnn.callbacks import CSVLogger
    >>> model = xpnn.Sequential([xpnn.layers.Dense(1, weight_init="zeros")])
    >>> model.compile("mse", xpnn.optim.SGD(0.25))
    >>> x = np.ones((32, 1), "float32")
    >>> with TemporaryDirectory() as folder:
    ...     log = Path(folder) / "log.csv"
    ...     history = model.fit(x, x, epochs=2, callbacks=[CSVLogger(log)])
    ...     print(log.read_text())
    epoch,step,loss
    1,1,1.0
    2,2,0.0
    <BLANKLINE>
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = as_path(self, "path", path)
        self._names: list[str] = []  # of the columns
        self._rows = 0
        self._last = ""  # row
        self._before = 0  # epochs before those of the history

    def on_train_begin(self, run: Any) -> None:
        self._before = run.epoch - run.history.epochs
        self._write(run.history)

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        self._follow(run.history)

    def on_train_end(self, run: Any) -> None:
        self._follow(run.history)

    def _follow(self, history: Any) -> None:
        """Bring the file up to date."""
        old = self._row(history, self._rows - 1) if self._rows else ""
        if list(history) != self._names or old != self._last:
            self._write(history)
            return
        new = [self._row(history, i) for i in range(self._rows, history.epochs)]
        if new:
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                file.write("".join(new))
            self._rows, self._last = history.epochs, new[-1]

    def _write(self, history: Any) -> None:
        self._names, self._rows = list(history), history.epochs
        head = ",".join(map(_quoted, ["epoch", "step", *self._names])) + "\n"
        rows = [self._row(history, i) for i in range(self._rows)]
        io.write_text(self.path, head + "".join(rows))
        self._last = rows[-1] if rows else ""

    def _row(self, history: Any, i: int) -> str:
        values = [repr(float(history[name][i])) for name in self._names]
        return ",".join([str(self._before + i + 1), str(history.steps[i]), *values]) + "\n"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"\r\n') else name


class JSONLogger(Callback):
    """Write the history to a JSON file, whole, at the end of every epoch and of training.

    It holds ``{"epochs": 2, "steps": [10, 20], "history": {"loss": [0.5, 0.25]}}``, as
    :meth:`xpnn.training.History.to_json` writes it; values that are not finite are ``null``.
    ``History.from_json(path)`` reads it. Equal runs give equal files, interrupted or not.

    Parameters
    ----------
    path : path
        In a folder that exists. The file is replaced at once, and never half written.
    every : int
        How many epochs pass until it is written again. For a thousand epochs that takes some
        milliseconds a value.

    Examples
    --------
    >>> from xpnn.callbacks import JSONLogger
    >>> log = JSONLogger("run.json")
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        self.path = as_path(self, "path", path)
        self.every = whole(self, "every", every, 1)

    def on_train_begin(self, run: Any) -> None:
        run.history.to_json(self.path)

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        if run.history.epochs % self.every == 0:
            run.history.to_json(self.path)

    def on_train_end(self, run: Any) -> None:
        run.history.to_json(self.path)
