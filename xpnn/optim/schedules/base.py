"""What a schedule of the learning rate is, and how it is found by its name."""

from __future__ import annotations

import copy
import inspect
import numbers
from collections.abc import Mapping
from typing import Any, ClassVar

from xpnn.errors import DataError
from xpnn.optim.config import resolve

__all__ = ["Schedule", "get"]

_registry: dict[str, Any] = {}  # every schedule class, by its name in lower case


class Schedule:
    """Base of all schedules: ``schedule(step)`` is the learning rate of a step.

    A subclass keeps each argument of ``__init__`` in the attribute of that name, and writes
    ``__call__``. One that looks at losses sets ``watches``, writes ``observe``, and lists in
    ``remembers`` the attributes that change with them.

    Attributes
    ----------
    watches : {None, "step", "epoch"}
        Whose losses ``fit`` gives to it; a class attribute.
    remembers : tuple of str
        Attributes that are saved with the state of an optimizer, as JSON; a class attribute.

    Examples
    --------
    >>> from xpnn import optim
    >>> class Halving(optim.Schedule):
    ...     def __init__(self, lr, every):
    ...         self.lr, self.every = lr, every
    ...     def __call__(self, step):
    ...         return self.lr * 0.5 ** (step // self.every)
    >>> optimizer = optim.Adam(Halving(0.1, every=1000))
    >>> optimizer.lr
    0.1
    """

    watches: ClassVar[str | None] = None
    remembers: ClassVar[tuple[str, ...]] = ()
    argument_names: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.argument_names = tuple(inspect.signature(cls).parameters)
        _registry[cls.__name__.lower()] = cls

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step; 1 is the first."""
        msg = f"{type(self).__name__} has no __call__."
        raise NotImplementedError(msg)

    def observe(self, loss: Any) -> None:
        """See the next loss; nothing happens unless the schedule watches losses."""

    def to_config(self) -> dict[str, Any]:
        """Return class and arguments as a JSON dict; :func:`xpnn.optim.schedules.get` reads it."""
        arguments = {name: getattr(self, name) for name in self.argument_names}
        return {"class": type(self).__name__, **arguments}

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers of the losses, as JSON."""
        return {name: copy.copy(getattr(self, name)) for name in self.remembers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken.

        Raises
        ------
        DataError
            If it is the state of another schedule.
        """
        if odd := state.keys() ^ set(self.remembers):
            msg = (
                f"{type(self).__name__}.load_state_dict: expected"
                f" {', '.join(self.remembers) or 'nothing'}; missing or unexpected:"
                f" {', '.join(sorted(odd))}."
            )
            raise DataError(msg)
        for name, value in state.items():
            setattr(self, name, copy.copy(value))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.to_config() == self.to_config()

    __hash__ = None  # type: ignore[assignment]  # one that watches losses changes

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.argument_names)
        return f"{type(self).__name__}({given})"


def get(schedule: Any) -> Schedule:
    """Return a schedule: as it is, by its name, or by its configuration.

    Parameters
    ----------
    schedule : Schedule, float, str, (str, dict) or dict
        A number is a constant rate. Names are those of the classes; case and underscores do not
        matter. The pair is a name and its arguments; :meth:`Schedule.to_config` makes the dict.

    Raises
    ------
    ConfigError
        If there is no schedule of that name, or it takes no such arguments.

    Examples
    --------
    >>> from xpnn.optim import schedules
    >>> schedules.get("noam")
    Noam(model_dim=512, warmup_steps=4000, scale=1.0)
    >>> schedules.get(("exponential", {"lr": 0.1, "stage_length": 10}))(10)
    0.010000000000000002
    """
    if isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, numbers.Real) and not isinstance(schedule, bool):
        schedule = ("constant", {"lr": schedule})
    return resolve("schedule", _registry, schedule, "argument")
