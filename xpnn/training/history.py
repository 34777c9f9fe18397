"""What was measured, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["History", "Means"]


class History(Mapping[str, list[float]]):
    """Values by name, one an epoch: ``history["val_loss"][-1]``. A read-only mapping.

    Attributes
    ----------
    history : dict of lists
        The values, by name.
    epochs : int
        How many there are.
    validations : list of dict
        What validation within epochs measured, with the ``step`` at which it did.

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
        self.validations: list[dict[str, float]] = []

    def append(self, values: dict[str, float]) -> None:
        """Add the values of one epoch."""
        self.epochs += 1
        for name, value in values.items():
            self.history.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.history)

    def __len__(self) -> int:
        return len(self.history)

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in self.history.items())
        return f"History({self.epochs} epochs: {last})"


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
            part = value * (weight if _is_loss(name) else examples)
            self.sums[name] = part if name not in self.sums else self.sums[name] + part

    def read(self) -> dict[str, float]:
        """Fetch the means to the host; 0 where nothing had a weight."""
        weight = float(self.weight)
        counts = {True: weight, False: self.examples}
        return {
            name: float(total) / counts[_is_loss(name)] if counts[_is_loss(name)] else 0.0
            for name, total in self.sums.items()
        }


def _is_loss(name: str) -> bool:
    return name == "loss" or name.endswith("_loss")
