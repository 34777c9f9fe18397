"""Progress: a bar on a terminal or in a notebook, lines in a log."""

from __future__ import annotations

import math
import os
import sys
import time
from typing import Any

from xpnn.callbacks.base import Callback
from xpnn.optim.config import number

__all__ = ["EpochLines", "ProgressBar", "in_notebook"]


class ProgressBar(Callback):
    """Show how far training is; what ``fit(verbose=1)`` does.

    On a terminal, a bar an epoch with the time left, the loss and metrics of the step, how far
    validation is, and at the end the means of the epoch. In a notebook the same as text, in one
    output of the cell, which shows the last ten epochs; it needs no ipywidgets and is kept in the
    file. Elsewhere, as in a log, a line at the end of an epoch: at most one in ``log_every``
    seconds, so a run that is shorter than that leaves none. Bars and lines go to the stream of
    errors, not to the output of a program.

    Parameters
    ----------
    every : float
        Seconds between two drawings of the bar. Only then values are read, which waits for the
        device.
    log_every : float
        Seconds between two lines of a log.
    title : str
        What comes before ``epoch 1/5``, where several models are trained.

    Examples
    --------
    >>> from xpnn.callbacks import ProgressBar
    >>> slower = ProgressBar(every=1.0)  # for fit(callbacks=[slower], verbose=0)
    """

    def __init__(self, every: float = 0.1, log_every: float = 10.0, title: str = "") -> None:
        self.every = number(self, "every", every)
        self.log_every = number(self, "log_every", log_every)
        self.title = title
        self._out: Any = None  # where bars are drawn, or None in a log
        self._bar: Any = None
        self._due = math.inf  # when the bar is drawn, or the next line written

    def on_train_begin(self, run: Any) -> None:
        self._out = _Cell() if in_notebook() else sys.stderr if sys.stderr.isatty() else None
        self._due = time.perf_counter() + self.log_every if self._out is None else math.inf

    def on_epoch_begin(self, run: Any) -> None:
        if self._out is None:
            return
        from tqdm import tqdm

        self._bar = tqdm(
            desc=f"{self.title}epoch {run.epoch + 1}/{run.epochs}",
            total=run.steps_per_epoch,
            initial=_steps_done(run),
            unit="step",
            file=self._out,
            ncols=_columns(self._out),
            nrows=20,  # tqdm's own guess hides the bar where a terminal says 0
            mininterval=0,
            miniters=1,
        )
        self._due = time.perf_counter() + self.every

    def on_step_end(self, run: Any, values: dict[str, Any]) -> None:
        if self._bar is not None and time.perf_counter() >= self._due:
            self._show(run, _listed({k: float(v) for k, v in values.items()}, "=", ", "))

    def on_validation_step(self, run: Any, batches: int) -> None:
        if self._bar is not None and time.perf_counter() >= self._due:
            known = run.validation.batches
            of = "" if known is None else f"/{known}"
            self._show(run, f"validation {batches}{of}")

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        if self._bar is not None:
            self._bar.ncols = None  # nothing is cut off what stays
            self._show(run, _listed(values, "=", ", "))
            self._close()
        elif self._out is None and time.perf_counter() >= self._due:
            print(self.title + _line(run, values), file=sys.stderr, flush=True)
            self._due = time.perf_counter() + self.log_every

    def on_train_end(self, run: Any) -> None:
        self._close()

    def _show(self, run: Any, text: str) -> None:
        self._bar.set_postfix_str(text, refresh=False)
        if not self._bar.update(_steps_done(run) - self._bar.n):
            self._bar.refresh()
        self._due = time.perf_counter() + self.every

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class EpochLines(Callback):
    """A line an epoch, in the output; what ``fit(verbose=2)`` does.

    Parameters
    ----------
    title : str
        What the lines begin with.

    Examples
    --------
    >>> from xpnn.callbacks import EpochLines
    >>> lines = EpochLines()
    """

    def __init__(self, title: str = "") -> None:
        self.title = title

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        print(self.title + _line(run, values), flush=True)


def _steps_done(run: Any) -> int:
    """Return the steps of this epoch so far; its last one may have fewer batches."""
    return -(-run.batch // run.accumulate)


def _line(run: Any, values: dict[str, float]) -> str:
    return f"epoch {run.epoch + 1}/{run.epochs}  {_listed(values, ' ', '  ')}"


def _listed(values: dict[str, float], equals: str, comma: str) -> str:
    return comma.join(f"{name}{equals}{value:.4g}" for name, value in values.items())


def _columns(out: Any) -> int:
    """Return how wide a terminal is; a usual width if it does not say, or says 0."""
    try:
        return os.get_terminal_size(out.fileno()).columns or 80
    except OSError:
        return 80


def in_notebook() -> bool:
    """Return whether the code runs in a Jupyter kernel; importing nothing."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class _Cell:
    """One output of a notebook's cell as a file for bars, of which it shows the last ten."""

    encoding = "utf-8"

    def __init__(self) -> None:
        from IPython.display import display

        self._lines = [""]
        self._output = display({"text/plain": ""}, raw=True, display_id=True)

    def write(self, text: str) -> None:
        if text == "\n":
            self._lines = [*self._lines[-9:], ""]
        elif text.startswith("\r"):
            self._lines[-1] = text[1:].rstrip()
            self._output.update({"text/plain": "\n".join(self._lines)}, raw=True)

    def flush(self) -> None:
        """Do nothing: everything is shown at once."""

    def fileno(self) -> int:
        raise OSError
