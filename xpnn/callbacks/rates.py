"""A learning rate that follows a function of the epoch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xpnn.callbacks.base import Callback
from xpnn.errors import ConfigError
from xpnn.optim.config import choice, number, whole
from xpnn.optim.schedules import Schedule

__all__ = ["LearningRateSchedule"]

_NAME = "LearningRateSchedule"


class LearningRateSchedule(Callback):
    r"""Set the learning rate of every epoch, and report it in the history as ``lr``.

    .. math::
        \alpha_t = f(t) \quad\text{or}\quad \alpha_t = f(t, \alpha_{t-1}), \qquad t = 0, 1, \dots

    An optimizer follows a :class:`~xpnn.optim.Schedule` by itself, step by step:
    ``optim.Adam(OneCycle(0.03, total_steps=1000))``. This is for what is thought of in epochs, or
    depends on the rate before.

    Parameters
    ----------
    schedule : function, Schedule, dict or sequence of float
        A function of the epoch, which counts from 0, or of the epoch and of the rate before it.
        A schedule, whose first step is then the first epoch. A dict ``{0: 0.1, 30: 0.01}``: the
        rate from an epoch on. A sequence: the rate of each epoch; the last one stays.
    per : {"epoch", "step"}
        What is counted: epochs, or optimizer steps over all epochs.
    optimizer : str, optional
        Which of a model's several optimizers, by its name in ``model.optimizers``; its rate is
        reported as ``lr_<name>``.

    Raises
    ------
    ConfigError
        If the schedule is none of these, or is one that watches losses, such as
        :class:`~xpnn.optim.schedules.ReduceOnPlateau`; when training begins, if the optimizer
        already follows a schedule; if a rate is negative or no number.

    Notes
    -----
    Keras's ``LearningRateScheduler``. Groups of parameters that have a rate of their own keep it.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> from xpnn.callbacks import LearningRateSchedule
    >>> model = xpnn.Sequential([xpnn.layers.Dense(1)])
    >>> model.compile("mse", xpnn.optim.SGD(0.5))
    >>> halve = LearningRateSchedule(lambda epoch, lr: lr / 2 if epoch else lr)
    >>> x = np.ones((8, 2), "float32")
    >>> model.fit(x, x[:, :1], epochs=3, callbacks=[halve])["lr"]
    [0.5, 0.25, 0.125]
    """

    rank = -1  # before those that show or write what it reports

    def __init__(self, schedule: Any, per: str = "epoch", optimizer: str | None = None) -> None:
        self.schedule = schedule
        self.per = choice(self, "per", per, ("epoch", "step"))
        self.optimizer = optimizer
        self._rate = _function(schedule)
        self._time = -1  # that of which the rate was set last
        self._used = 0.0  # the rate of the last step

    def on_train_begin(self, run: Any) -> None:
        optimizer = self._optimizer(run)
        if optimizer.schedule is not None:
            msg = (
                "LearningRateSchedule: the optimizer already follows a schedule,"
                f" {optimizer.schedule!r}. Give it a number as lr, or leave this callback out."
            )
            raise ConfigError(msg)
        if not run.resumed:
            self._time = -1
        if self.per == "step":
            self._set(run, run.step)

    def on_epoch_begin(self, run: Any) -> None:
        if self.per == "epoch":
            self._set(run, run.epoch)

    def on_step_end(self, run: Any, values: dict[str, Any]) -> None:
        if self.per == "step":
            self._set(run, run.step)

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        name = "lr" if self.optimizer is None else f"lr_{self.optimizer}"
        values[name] = self._used
        run.history.report(name, self._used)

    def state_dict(self) -> dict[str, Any]:
        return {"time": self._time, "used": self._used}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._time, self._used = int(state["time"]), float(state["used"])

    def _set(self, run: Any, time: int) -> None:
        """Set the rate of a time, once: a function of the rate before may not be applied twice."""
        optimizer = self._optimizer(run)
        if time != self._time:
            before = float(optimizer.lr)
            optimizer.lr = lr = _checked(time, self._rate(time, before))
            self._time, self._used = time, before if self.per == "step" else lr

    def _optimizer(self, run: Any) -> Any:
        known = run.model.optimizers
        if self.optimizer is None and len(known) == 1:
            return next(iter(known.values()))
        if self.optimizer in known:
            return known[self.optimizer]
        msg = (
            f"LearningRateSchedule: 'optimizer' must be one of {', '.join(map(repr, known))},"
            f" got {self.optimizer!r}."
        )
        raise ConfigError(msg)


def _function(schedule: Any) -> Callable[[int, float], Any]:
    """Return a schedule, in any of its forms, as a function of the time and of the rate before."""
    if isinstance(schedule, Schedule):
        if schedule.watches is not None:
            msg = (
                f"LearningRateSchedule: {type(schedule).__name__} watches the loss, which only an"
                " optimizer's own schedule is shown. Give it to the optimizer, as its lr."
            )
            raise ConfigError(msg)
        return lambda time, lr: schedule(time + 1)
    if isinstance(schedule, Mapping):
        if 0 not in schedule:
            msg = f"LearningRateSchedule: the rate from 0 on is missing in {schedule!r}."
            raise ConfigError(msg)
        rates = {whole(_NAME, "start of a rate", t): _checked(t, lr) for t, lr in schedule.items()}
        return lambda time, lr: rates[max(start for start in rates if start <= time)]
    if isinstance(schedule, Sequence) and not isinstance(schedule, str) and schedule:
        listed = [_checked(t, lr) for t, lr in enumerate(schedule)]
        return lambda time, lr: listed[min(time, len(listed) - 1)]
    if not callable(schedule):
        msg = (
            "LearningRateSchedule: 'schedule' must be a function of the epoch, a Schedule, a dict"
            f" or a sequence of rates, got {schedule!r}."
        )
        raise ConfigError(msg)
    return schedule if _arguments(schedule) == 2 else lambda time, lr: schedule(time)


def _checked(time: int, lr: Any) -> float:
    return number(_NAME, f"lr at {time}", lr)


def _arguments(f: Any) -> int:
    """Return how many arguments a function needs; 1 if it does not say."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(f).parameters.values()
    except ValueError:  # written in C
        return 1
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)
