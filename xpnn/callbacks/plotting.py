"""Learning curves while a model learns."""

from __future__ import annotations

import os
from typing import Any

from xpnn import plot
from xpnn._extras import require
from xpnn.callbacks.base import Callback, as_path
from xpnn.callbacks.progress import in_notebook
from xpnn.errors import ConfigError

__all__ = ["PlotHistory"]


class PlotHistory(Callback):
    """Draw :func:`xpnn.plot.curves` of the history again and again, as it grows.

    In a notebook the picture in the cell is replaced. With a path it is written to a file as well,
    which is never half there: a viewer that watches it shows how training goes on. A resumed run
    draws the epochs before it too.

    Parameters
    ----------
    path : path, optional
        A file such as ``"curves.png"``. Needed where there is no notebook.
    every : int
        How many epochs pass between two pictures; the last epoch is always drawn. A picture takes
        some tenths of a second.
    log : bool
        Whether losses have a logarithmic scale.

    Raises
    ------
    ConfigError
        When training begins, if there is neither a notebook nor a path.
    MissingLibraryError
        Then, if matplotlib is not installed.

    Examples
    --------
    >>> from xpnn.callbacks import PlotHistory
    >>> watch = PlotHistory("curves.png", every=5)
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, every: int = 1, log: bool = False
    ) -> None:
        if not hasattr(every, "__index__") or every < 1:
            msg = f"PlotHistory: 'every' must be a whole number of epochs from 1, got {every!r}."
            raise ConfigError(msg)
        self.path = None if path is None else as_path(self, "path", path)
        self.every, self.log = every, log
        self._cell: Any = None  # the picture in a notebook
        self._drawn = 0  # epochs

    def on_train_begin(self, run: Any) -> None:
        if self.path is None and not in_notebook():
            msg = (
                "PlotHistory: there is no notebook here to draw in. Give a file to write, such as"
                " PlotHistory('curves.png')."
            )
            raise ConfigError(msg)
        require("matplotlib.figure", "plot", "PlotHistory")  # now rather than after an epoch
        self._cell, self._drawn = None, run.history.epochs

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        if (run.epoch + 1) % self.every == 0:
            self._draw(run.history)

    def on_train_end(self, run: Any) -> None:
        if run.history.epochs > self._drawn:
            self._draw(run.history)

    def _draw(self, history: Any) -> None:
        figure = plot.curves(history, log=self.log, path=self.path)
        self._drawn = history.epochs
        if not in_notebook():
            return
        if self._cell is None:
            display = require("IPython.display", "extras", "a picture in a notebook").display
            self._cell = display(figure, display_id=True)
        else:
            self._cell.update(figure)
