"""What a search found: trials, the best first, as a table."""

from __future__ import annotations

import csv
import html
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import StringIO
from typing import Any, overload

from xpnn import io
from xpnn.errors import ConfigError
from xpnn.search.space import Setting

__all__ = ["Results", "Trial"]


@dataclass(frozen=True)
class Trial:
    """One setting, and what came of it.

    Attributes
    ----------
    number : int
        Its place in the grid, or in the order of random settings.
    setting : Setting
    seed : int
        That of its random stream: ``xpnn.set_seed(trial.seed)`` and the function on the setting
        give the same values again.
    values : dict of floats
        What was measured, by name; empty if it failed.
    score : float or None
        The one of them by which trials are compared; None if it failed.
    error : str or None
        Why it failed.
    """

    number: int
    setting: Setting
    seed: int
    values: dict[str, float] = field(default_factory=dict)
    score: float | None = None
    error: str | None = None


class Results(Sequence[Trial]):
    """The trials of a search, best first; those that failed come last.

    Prints as a table, in a notebook as one of HTML. ``pandas.DataFrame(results.rows())`` makes a
    data frame of it.

    Attributes
    ----------
    monitor : str
        The name of the value by which they are ordered.
    mode : {"min", "max"}
        Which way is better.
    total : int
        How many trials the search has.
    interrupted : bool
        Whether it was ended by Ctrl-C.
    """

    def __init__(
        self,
        trials: Iterable[Trial],
        *,
        monitor: str,
        mode: str,
        total: int,
        interrupted: bool = False,
        make_best: Callable[[int], Any] | None = None,
    ) -> None:
        self.monitor, self.mode, self.total = monitor, mode, total
        self.interrupted = interrupted
        sign = -1 if mode == "max" else 1
        self._trials = sorted(
            trials, key=lambda t: (math.inf if t.score is None else sign * t.score, t.number)
        )
        self._make_best = make_best

    @property
    def best(self) -> Trial:
        """The best trial.

        Raises
        ------
        ConfigError
            If there is none, because all failed.
        """
        if self._trials and self._trials[0].error is None:
            return self._trials[0]
        why = f" The first: {self._trials[0].error}" if self._trials else ""
        msg = f"none of {len(self._trials)} trials came to an end.{why}"
        raise ConfigError(msg)

    @cached_property
    def best_model(self) -> Any:
        """The model of the best trial with the weights of its best epoch, compiled.

        Raises
        ------
        ConfigError
            If the models were not kept.
        """
        if self._make_best is None:
            msg = (
                "no model was kept. Say keep_model=True and search with fit(x, y), or train the"
                " best setting again: xpnn.set_seed(best.seed) makes it the same."
            )
            raise ConfigError(msg)
        return self._make_best(self.best.number)

    def columns(self) -> list[str]:
        """Return the names of the columns: trial, hyperparameters, values, error.

        A hyperparameter that is called as a value is, ``loss`` for example, is headed ``hp.loss``.
        """
        return [*self._columns()]

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as a dict a trial; what was not measured is None."""
        columns = self._columns()
        return [{name: cell(trial) for name, cell in columns.items()} for trial in self._trials]

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table to a file, a line a trial, numbers in full."""
        text = StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns())
        for row in self.rows():
            writer.writerow(["" if v is None else _word(v, repr) for v in row.values()])
        io.write_text(path, text.getvalue())

    def _columns(self) -> dict[str, Callable[[Trial], Any]]:
        names = list(dict.fromkeys(name for trial in self._trials for name in trial.values))
        taken = {"trial", "error", *names}
        columns: dict[str, Callable[[Trial], Any]] = {"trial": lambda t: t.number}
        for name in self._trials[0].setting if self._trials else ():
            head = f"hp.{name}" if name in taken else name
            columns[head] = lambda t, name=name: t.setting[name]  # type: ignore[misc]
        for name in names:
            columns[name] = lambda t, name=name: t.values.get(name)  # type: ignore[misc]
        if any(t.error is not None for t in self._trials):
            columns["error"] = lambda t: t.error
        return columns

    def _cells(self) -> list[list[str]]:
        return [
            ["" if v is None else _word(v, lambda x: f"{x:.6g}") for v in row.values()]
            for row in self.rows()
        ]

    def _foot(self) -> str:
        failed = sum(t.error is not None for t in self._trials)
        parts = [f"{len(self._trials)} of {self.total} trials"]
        parts += [f"{failed} failed"] if failed else []
        parts += ["interrupted"] if self.interrupted else []
        way = "largest" if self.mode == "max" else "smallest"
        return f"{', '.join(parts)}; {way} {self.monitor} first"

    def __str__(self) -> str:
        lines = [self.columns(), *(self._short(row) for row in self._cells())]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = ["  ".join(f"{c:>{w}}" for c, w in zip(r, widths, strict=True)) for r in lines]
        return "\n".join([*(row.rstrip() for row in rows), self._foot()])

    def _short(self, row: list[str]) -> list[str]:
        # An error has a line in a file; here its beginning has to do.
        return [cell if len(cell) <= 60 else cell[:57] + "..." for cell in row]

    def _repr_html_(self) -> str:
        def line(kind: str, cells: Iterable[str]) -> str:
            return "<tr>" + "".join(f"<{kind}>{html.escape(c)}</{kind}>" for c in cells) + "</tr>"

        head, body = line("th", self.columns()), "\n".join(line("td", r) for r in self._cells())
        return (
            f"<table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n"
            f"<p>{html.escape(self._foot())}</p>"
        )

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> list[Trial]: ...
    def __getitem__(self, index: int | slice) -> Trial | list[Trial]:
        return self._trials[index]

    def __len__(self) -> int:
        return len(self._trials)

    def __repr__(self) -> str:
        score = self[0].score if self else None
        found = "" if score is None else f", best {self.monitor}={score:.6g}"
        return f"Results({len(self)} of {self.total} trials{found})"


def _word(value: Any, number: Callable[[float], str]) -> str:
    """Return a cell: numbers in the given form, functions and classes by their name."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, str):
        return " ".join(value.split())
    return str(getattr(value, "__name__", value))
