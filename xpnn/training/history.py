"""What was measured, epoch by epoch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from xpnn import io
from xpnn.errors import ConfigError, DataError
from xpnn.training.precision import widened

__all__ = ["History", "Means"]


class History(Mapping[str, list[float]]):
    """Values by name, one an epoch: ``history["val_loss"][-1]``. A read-only mapping.

    Attributes
    ----------
    history : dict of lists
        The values, by name.
    epochs : int
        How many there are.
    steps : list of int
        The steps of the optimizer that were done at the end of every epoch.
    validations : list of dict
        What validation within epochs measured, with the ``step`` at which it did.
    interrupted : bool
        Whether Ctrl-C ended the run; its last epoch then may be one of fewer steps.

    Examples
    --------
    >>> from xpnn.training import History
    >>> h = History()
    >>> h.append({"loss": 0.5}); h.append({"loss": 0.25})
    >>> h["loss"], h
    ([0.5, 0.25], History(2 epochs: loss=0.25))
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epochs = 0
        self.steps: list[int | None] = []
        self.validations: list[dict[str, float]] = []
        self.interrupted = False

    def append(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Add the values of one epoch; a value that is missing, or was before, is NaN there."""
        self.epochs += 1
        self.steps.append(step)
        for column in self.history.values():
            column.append(math.nan)
        for name, value in values.items():
            self.report(name, value)

    def report(self, name: str, value: float) -> None:
        """Give the last epoch a value: for callbacks that measure something, in ``on_epoch_end``.

        What shows or checkpoints the history sees it if it is called later: the reporting callback
        has a lower ``rank``.

        Raises
        ------
        ConfigError
            If there is no epoch yet, or the value is no number.
        """
        if not self.epochs:
            msg = f"report: {name!r} has no epoch to belong to yet. Report in on_epoch_end."
            raise ConfigError(msg)
        try:
            number = float("" if isinstance(value, str) else value)
        except (TypeError, ValueError, RuntimeError):
            msg = f"report: expected a number as {name!r}, got {value!r}."
            raise ConfigError(msg) from None
        self.history.setdefault(name, [math.nan] * self.epochs)[-1] = number

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the history to a file, atomically: an object of what was measured by name.

        JSON has no numbers that are not finite: they become ``null``.

        Raises
        ------
        FileNotFoundError
            If the folder does not exist.
        """
        columns = {name: [_finite(x) for x in values] for name, values in self.history.items()}
        content = {
            "epochs": self.epochs,
            "steps": self.steps,
            "history": columns,
            "validations": [
                {name: _finite(x) for name, x in values.items()} for values in self.validations
            ],
        }
        io.write_text(path, json.dumps(content, allow_nan=False) + "\n")

    @staticmethod
    def from_json(path: str | os.PathLike[str]) -> History:
        """Read what :meth:`to_json` or a :class:`~xpnn.callbacks.JSONLogger` wrote.

        What was not finite is NaN.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        DataError
            If it holds something else.

        Examples
        --------
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from xpnn.training import History
        >>> h = History()
        >>> h.append({"loss": 0.5}, step=10)
        >>> with TemporaryDirectory() as folder:
        ...     h.to_json(Path(folder) / "run.json")
        ...     print((Path(folder) / "run.json").read_text().strip())
        ...     print(History.from_json(Path(folder) / "run.json"))
        {"epochs": 1, "steps": [10], "history": {"loss": [0.5]}, "validations": []}
        History(1 epochs: loss=0.5)
        """
        try:
            return History.of(json.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError, OverflowError, AttributeError) as error:
            msg = f"{path}: this is no history that to_json wrote ({error!r})."
            raise DataError(msg) from error

    @staticmethod
    def of(content: Mapping[str, Any]) -> History:
        """Return the history that JSON values describe.

        Raises
        ------
        ValueError, KeyError, TypeError, OverflowError, AttributeError
            If they describe none.
        """
        found = History()
        found.epochs = int(content["epochs"])
        found.steps = [None if x is None else int(x) for x in content["steps"]]
        for name, values in content["history"].items():
            found.history[name] = [_number(x) for x in values]
        for values in content["validations"]:
            found.validations.append({name: _number(x) for name, x in values.items()})
        lengths = {len(found.steps), *map(len, found.history.values())}
        if lengths != {found.epochs}:
            msg = f"{found.epochs} epochs, but values of {sorted(lengths)}: it was altered"
            raise ValueError(msg)
        return found

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.history)

    def __len__(self) -> int:
        return len(self.history)

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in self.history.items())
        return f"History({self.epochs} epochs: {last})"

    def _repr_html_(self) -> str:
        """Show the last ten epochs as a table, in a notebook."""
        lines = [["epoch", *map(escape, self.history)]]
        for epoch in range(max(self.epochs - 10, 0), self.epochs):
            values = (f"{column[epoch]:.4g}" for column in self.history.values())
            lines.append([str(epoch + 1), *values])
        rows = (
            f"<tr>{''.join(f'<{kind}>{cell}</{kind}>' for cell in line)}</tr>"
            for kind, line in zip(["th"] + ["td"] * len(lines), lines, strict=False)
        )
        return f"<table>{''.join(rows)}</table>"


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _number(x: float | None) -> float:
    return math.nan if x is None else float(x)


class Means:
    """Means over examples of values that stay on their device until they are read."""

    def __init__(self) -> None:
        self.sums: dict[str, Any] = {}
        self.examples = 0
        self.weight: Any = 0.0

    def add(self, values: dict[str, Any], examples: int, weight: Any = None) -> None:
        """Add values that are means over ``examples``; losses, of so much weight in all."""
        self.examples += examples
        weight = examples if weight is None else weight
        self.weight = self.weight + weight
        for name, value in values.items():
            part = widened(value) * (weight if _is_loss(name) else examples)
            self.sums[name] = part if name not in self.sums else self.sums[name] + part

    def count(self, name: str) -> Any:
        """Return by what the sum of a value is to be divided: weights or examples."""
        return self.weight if _is_loss(name) else self.examples

    def read(self) -> dict[str, float]:
        """Fetch the means to the host; 0 where nothing had a weight."""
        counts = {name: float(self.count(name)) for name in self.sums}
        return {
            name: float(total) / counts[name] if counts[name] else 0.0
            for name, total in self.sums.items()
        }


def _is_loss(name: str) -> bool:
    return name == "loss" or name.endswith("_loss")
