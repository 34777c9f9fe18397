"""Stopping before the last epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from xpnn import backend
from xpnn._names import hint
from xpnn.callbacks.base import Callback, grows
from xpnn.errors import ConfigError
from xpnn.optim.config import number, whole

__all__ = ["EarlyStopping", "IterationPatience", "direction", "monitored", "snapshot"]


class _Best(Callback):
    """What remembers the best value of a run, and the weights that went with it."""

    def __init__(self, monitor: str, mode: str, restore_best: bool) -> None:
        self.monitor, self.restore_best = monitor, restore_best
        self.sign = direction(self, monitor, mode)
        self._forget()

    def _forget(self) -> None:
        self.best, self.best_epoch, self.best_step = -math.inf, -1, 0
        self.best_state: dict[str, Any] | None = None

    def on_train_begin(self, run: Any) -> None:
        if not run.resumed:
            self._forget()

    def on_train_end(self, run: Any) -> None:
        if self.best_state is not None:
            run.model.load_state_dict(self.best_state)

    def _keep(self, run: Any, score: float) -> None:
        self.best, self.best_epoch, self.best_step = score, run.epoch, run.step
        if self.restore_best:
            self.best_state = snapshot(run.model)

    def state_dict(self) -> dict[str, Any]:
        best = None if math.isinf(self.best) else self.best
        numbers = {"best": best, "best_epoch": self.best_epoch, "best_step": self.best_step}
        return numbers | {f"weights/{name}": x for name, x in (self.best_state or {}).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best = -math.inf if state["best"] is None else float(state["best"])
        self.best_epoch, self.best_step = int(state["best_epoch"]), int(state["best_step"])
        weights = {
            name.removeprefix("weights/"): x
            for name, x in state.items()
            if name.startswith("weights/")
        }
        self.best_state = weights or None


class EarlyStopping(_Best):
    """Stop when a value has not improved for some epochs.

    Parameters
    ----------
    monitor : str
        The name of the value, such as ``"val_loss"`` or ``"val_accuracy"``.
    patience : int
        How many epochs without improvement are waited for.
    min_delta : float
        By how much a value must be better.
    mode : {"auto", "min", "max"}
        Which way is better; "auto" takes "max" for accuracies, precision, recall, F1 and R2.
    restore_best : bool
        Whether the weights of the best epoch are put back at the end.

    Attributes
    ----------
    best_epoch, best_step : int
        When the value was best; the epoch is counted from 0, the steps are those done by then. -1
        and 0 if it never was a number.
    waited : int
        Epochs since then.

    Examples
    --------
    >>> from xpnn.callbacks import EarlyStopping
    >>> stop = EarlyStopping("val_accuracy", patience=5)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 3,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
    ) -> None:
        super().__init__(monitor, mode, restore_best)
        self.patience = whole(self, "patience", patience)
        self.min_delta = number(self, "min_delta", min_delta)

    def _forget(self) -> None:
        super()._forget()
        self.waited = 0

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        score = self.sign * monitored(self, self.monitor, values)
        if score > self.best + self.min_delta:
            self._keep(run, score)
            self.waited = 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            run.stop = True

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.waited = int(state["waited"])


class IterationPatience(_Best):
    r"""Stop when a value has not improved for some steps: patience that grows with success.

    A value is looked at after every validation (of one without ``val_``, after every epoch). One
    that is better than the best so far by the factor ``threshold`` raises the patience:

    .. math:: v_k < \theta\, v_\text{best} \;\Rightarrow\; p \leftarrow \max(p, a\, k), \qquad
              k \ge p \;\Rightarrow\; \text{stop}

    with k the steps done. So a run that improves late goes on for long, one that never does ends
    after the first patience. For values that grow, the error :math:`1 - v` is what has to fall:
    they must be fractions, as accuracies are.

    Parameters
    ----------
    monitor : str
    patience : int
        Steps that are done in any case.
    factor : float
        The a: how much longer to wait, in multiples of the steps done at an improvement.
    threshold : float
        The theta, in (0, 1].
    mode : {"auto", "min", "max"}
    restore_best : bool
        Whether the weights of the best value (any better one, not only those by the factor) are put
        back at the end.

    Notes
    -----
    The rule of yadll, and of the deeplearning.net tutorials before it.

    Examples
    --------
    >>> from xpnn.callbacks import IterationPatience
    >>> stop = IterationPatience("val_error", patience=5000)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5000,
        factor: float = 2.0,
        threshold: float = 0.995,
        mode: str = "auto",
        restore_best: bool = True,
    ) -> None:
        super().__init__(monitor, mode, restore_best)
        self.patience: float = whole(self, "patience", patience)
        self.start = self.patience
        self.threshold = number(self, "threshold", threshold, above=0, upto=1)
        self.factor = number(self, "factor", factor)
        if self.factor < 1:
            msg = f"IterationPatience: 'factor' must be at least 1, got {factor}."
            raise ConfigError(msg)

    def on_train_begin(self, run: Any) -> None:
        super().on_train_begin(run)
        if not run.resumed:
            self.patience = self.start

    def on_validation_end(self, run: Any, values: dict[str, float]) -> None:
        if self.monitor.startswith("val_"):
            self._look(run, values)

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        if not self.monitor.startswith("val_"):
            self._look(run, values)
        else:
            monitored(self, self.monitor, values)  # there may be no validation
        if run.step >= self.patience:
            run.stop = True

    def on_step_end(self, run: Any, values: dict[str, Any]) -> None:
        if run.step > self.patience:  # at the step itself there may be a validation to come
            run.stop = True

    def _look(self, run: Any, values: dict[str, float]) -> None:
        value = monitored(self, self.monitor, values)
        error, best = (value, -self.best) if self.sign < 0 else (1 - value, 1 - self.best)
        if error < self.threshold * best:
            self.patience = max(self.patience, self.factor * run.step)
        if self.sign * value > self.best:
            self._keep(run, self.sign * value)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "patience": self.patience}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.patience = max(0, state["patience"])


def direction(owner: Any, monitor: str, mode: str) -> int:
    """Return 1 if a value of this name is better when it is larger, and -1 if when smaller."""
    who = type(owner).__name__
    if not isinstance(monitor, str):
        msg = f"{who}: 'monitor' must be the name of a value, such as 'val_loss', got {monitor!r}."
        raise ConfigError(msg)
    return 1 if grows(monitor, mode, who) else -1


def monitored(owner: Any, monitor: str, values: Mapping[str, float]) -> float:
    """Return a value by its name."""
    if monitor not in values:
        validated = any(name.startswith("val_") for name in values)
        cure = hint(monitor, values) if validated else " Is validation data missing?"
        msg = (
            f"{type(owner).__name__}: there is no value {monitor!r}; there are"
            f" {', '.join(values)}.{cure}"
        )
        raise ConfigError(msg)
    return values[monitor]


def snapshot(model: Any) -> dict[str, Any]:
    """Return copies of a model's parameters and buffers."""
    return {
        name: backend.array_namespace(x).asarray(x, copy=True)
        for name, x in model.state_dict().items()
        if x is not None
    }
