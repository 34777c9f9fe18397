"""One trial: a function on a setting, in a context of its own, here or in another process."""

from __future__ import annotations

import contextvars
import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

from xpnn import backend, random
from xpnn.callbacks import EarlyStopping
from xpnn.callbacks.base import grows
from xpnn.errors import ConfigError
from xpnn.search.space import Setting
from xpnn.training import History, Model

__all__ = ["Data", "Job", "Kept", "Outcome"]


class Data(NamedTuple):
    """What models are fitted to: the arguments of :meth:`xpnn.Model.fit`."""

    x: Any
    y: Any
    options: dict[str, Any]
    from_setting: tuple[str, ...]  # the arguments that are hyperparameters


class Kept(NamedTuple):
    """The weights of a trained model on the host, and for what inputs it was built."""

    arrays: dict[str, Any]
    about: dict[str, Any]


class Outcome(NamedTuple):
    """What came of a trial."""

    number: int
    monitor: str = ""
    mode: str = ""
    score: float | None = None
    values: dict[str, float] = {}  # noqa: RUF012 - never changed
    error: str | None = None
    wrong: bool = False  # whether the function returned what no search can use
    kept: Kept | None = None


@dataclass(frozen=True)
class Job:
    """What a worker is given to run trials: all that does not travel with the context."""

    who: str
    function: Callable[[Setting], Any]
    data: Data | None
    monitor: str | None
    mode: str
    keep_model: bool
    raises: bool
    device: str
    dtype: str

    def __call__(self, number: int, setting: Setting, seed: int) -> Outcome:
        """Run a trial; nothing of the context around it is changed."""
        return contextvars.copy_context().run(self._run, number, setting, seed)

    def _run(self, number: int, setting: Setting, seed: int) -> Outcome:
        backend.set_dtype(self.dtype)
        random.set_seed(seed)
        with backend.device(self.device):
            try:
                # A copy: what a trial changes, an optimizer for example, is not given to the next.
                found, kept = self._measure(copy.deepcopy(setting))
            except Exception as error:
                if self.raises:
                    raise
                return Outcome(number, error=f"{type(error).__name__}: {error}")
        try:
            monitor, mode, values = self._read(found)
        except ConfigError as error:
            return Outcome(number, error=str(error), wrong=True)
        score = values[monitor]
        if not math.isfinite(score):
            return Outcome(number, monitor, mode, error=f"{monitor} is {score}")
        return Outcome(number, monitor, mode, score, values, kept=kept)

    def _measure(self, setting: Setting) -> tuple[Any, Kept | None]:
        """Return what the function found, or what fitting its model gave."""
        if self.data is None:
            return self.function(setting), None
        model = self.function(setting)
        if not isinstance(model, Model):
            msg = (
                f"{self.who}: with fit, the function must return a compiled model, got"
                f" {type(model).__name__}."
            )
            raise ConfigError(msg)
        x, y, options, from_setting = self.data
        options = options | {name: setting[name] for name in from_setting}
        callbacks = copy.deepcopy(list(options.pop("callbacks", ())))
        if self.keep_model:
            monitor = self.monitor or "val_loss"
            callbacks.append(EarlyStopping(monitor, patience=2**62, mode=self.mode))
        history = model.fit(x, y, callbacks=callbacks, **options)
        return history, self._keep(model) if self.keep_model else None

    def _keep(self, model: Model) -> Kept:
        model._complete()
        arrays = {k: backend.to_numpy(v) for k, v in model.state_dict().items() if v is not None}
        shapes = [list(shape) for shape in model._shapes or ()]
        return Kept(arrays, {"shapes": shapes, "dtypes": list(model._dtypes)})

    def _read(self, found: Any) -> tuple[str, str, dict[str, float]]:
        """Return the name of the score, which way is better, and all values."""
        if isinstance(found, History):
            return self._read_history(found)
        if isinstance(found, Mapping):
            values = {str(name): self._number(value, str(name)) for name, value in found.items()}
            monitor = self._chosen(values)
            return monitor, self._way(monitor), values
        score = self._number(found, "")
        if self.mode == "auto":
            msg = (
                f"{self.who}: the function returned a number, {score:g}. Say mode='min' or"
                " mode='max', or return it by its name, {'val_accuracy': ...}."
            )
            raise ConfigError(msg)
        monitor = self.monitor or "score"
        return monitor, self.mode, {monitor: score}

    def _read_history(self, history: History) -> tuple[str, str, dict[str, float]]:
        """Return the values of the epoch that was best."""
        monitor = self._chosen(history)
        mode = self._way(monitor)
        sign = -1 if mode == "max" else 1
        finite = [i for i, v in enumerate(history[monitor]) if math.isfinite(v)]
        best = min(finite, key=lambda i: sign * history[monitor][i], default=-1)
        n = len(history[monitor])
        values = {name: float(v[best]) for name, v in history.items() if len(v) == n}
        return monitor, mode, {"epoch": float(best % n + 1), **values}

    def _chosen(self, values: Mapping[str, Any]) -> str:
        if self.monitor is None and len(values) == 1:
            return next(iter(values))
        name = self.monitor or "val_loss"
        if name in values:
            return name
        cure = "Is validation data missing?" if name.startswith("val_") else ""
        cure = cure or "Name one of them by monitor=."
        msg = (
            f"{self.who}: there is no value {name!r} to go by; there are"
            f" {', '.join(values) or 'none'}. {cure}"
        )
        raise ConfigError(msg)

    def _way(self, monitor: str) -> str:
        return "max" if grows(monitor, self.mode, self.who) else "min"

    def _number(self, value: Any, name: str) -> float:
        raw = backend.unwrap(value)
        if isinstance(raw, Real) and not isinstance(raw, bool):
            return float(raw)
        if hasattr(raw, "shape") and math.prod(raw.shape) == 1:
            return float(backend.to_numpy(raw).reshape(()))
        what = type(value).__name__
        what += f" of shape {tuple(raw.shape)}" if hasattr(raw, "shape") else ""
        of = f" for {name!r}" if name else ""
        msg = (
            f"{self.who}: the function must return a number, numbers by name, or the history of a"
            f" fit; got {what}{of}."
        )
        raise ConfigError(msg)
