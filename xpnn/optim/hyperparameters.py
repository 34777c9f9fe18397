"""The hyperparameters of an optimizer: their names, the learning rate, the groups."""

from __future__ import annotations

import copy
import inspect
from typing import Any, ClassVar

from xpnn.errors import ConfigError
from xpnn.optim import schedules
from xpnn.optim.config import choice, number
from xpnn.optim.groups import Group, members
from xpnn.optim.schedules import Schedule

__all__ = ["Tuned", "encoded", "registry"]

registry: dict[str, Any] = {}  # every optimizer class, by its name in lower case


class Tuned:
    """The part of :class:`xpnn.optim.Optimizer` that knows its hyperparameters."""

    hyperparameter_names: ClassVar[tuple[str, ...]] = ()
    elementwise: bool = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.hyperparameter_names = tuple(inspect.signature(cls).parameters)
        if "rule" in vars(cls):
            cls.elementwise = vars(cls).get("elementwise", False)

    def __init__(self, lr: Any) -> None:
        self.steps = 0
        self._lr: float | Schedule
        self.lr = lr
        self._groups: list[Group] = []

    # ---------------------------------------------------------------------------- learning rate

    @property
    def lr(self) -> Any:
        """The learning rate of the next update; a number or a schedule may be set at any time."""
        return self._lr_without(0)

    @lr.setter
    def lr(self, lr: Any) -> None:
        first = lr[0] if isinstance(lr, (tuple, list)) and lr else lr
        if hasattr(first, "requires_grad") or hasattr(first, "parameters"):
            who = type(self).__name__
            msg = (
                f"{who}: 'lr' must be a number or a schedule, got parameters. They are what is"
                f" given to a step, optimizer.step(model), not to {who}."
            )
            raise ConfigError(msg)
        by_name = isinstance(lr, (str, tuple, list, dict))
        if isinstance(lr, Schedule) or by_name:
            self._lr = copy.deepcopy(schedules.get(lr))
        else:
            self._lr = number(self, "lr", lr)

    def _lr_without(self, skipped: int) -> Any:
        """Return the learning rate of the next update, if so many of those counted were skipped."""
        lr = self._lr
        return lr(self.steps + 1 - skipped) if isinstance(lr, Schedule) else lr

    @property
    def schedule(self) -> Schedule | None:
        """The schedule of the learning rate, or None if it is a number."""
        return self._lr if isinstance(self._lr, Schedule) else None

    def observe(self, loss: Any, when: str | None = None) -> None:
        """Show a loss to the schedules that look at losses; without such, nothing happens.

        ``fit`` calls it, after every step and after every epoch. A loop of one's own calls it
        where its schedule shall see a loss.

        Parameters
        ----------
        loss : float, or Tensor or array of one element
            It stays on its device until a schedule reads it: :class:`~xpnn.optim.schedules.King`
            reads several together, now and then.
        when : {None, "step", "epoch"}
            Show it only to the schedules that watch steps, or epochs.

        Examples
        --------
        >>> from xpnn import optim
        >>> from xpnn.optim.schedules import ReduceOnPlateau
        >>> optimizer = optim.SGD(ReduceOnPlateau(0.5, factor=0.5, patience=0))
        >>> for loss in (1.0, 2.0):
        ...     optimizer.observe(loss)
        >>> optimizer.lr
        0.25
        """
        if when is not None:
            choice(self, "when", when, ("step", "epoch"))
        for lr in self._rates():
            if isinstance(lr, Schedule) and lr.watches and when in (None, lr.watches):
                lr.observe(loss)

    def _rates(self) -> list[Any]:
        """Return the learning rates or schedules of the optimizer and of each group, or None."""
        return [self._lr, *(group.hyperparameters.get("lr") for group in self._groups)]

    # ----------------------------------------------------------------------------------- groups

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups of parameters that have hyperparameters of their own."""
        return tuple(self._groups)

    def add_group(self, params: Any, **hyperparameters: Any) -> None:
        """Give some parameters hyperparameters of their own.

        What is not given for the group stays that of the optimizer, also when it is changed later.
        Parameters that are in no group have all from the optimizer. A group of the same
        hyperparameters is joined.

        Parameters
        ----------
        params : Layer or iterable of Parameter
            The parameters that a layer has now, or the parameters themselves.
        **hyperparameters
            Any of the arguments of the optimizer, such as ``lr`` (a number or a schedule) and
            ``weight_decay``. With a clipping of its own, which takes the place of the optimizer's,
            a group is clipped by itself, also for ``clip_global_norm``.

        Raises
        ------
        ConfigError
            If there is no such hyperparameter, or its value is out of range; if there are no
            parameters, or one is in a group already.
        GraphError
            If the layer is not built yet.

        Examples
        --------
        >>> from xpnn import layers, optim
        >>> layer = layers.Dense(10, in_features=784)
        >>> optimizer = optim.AdamW(1e-3, weight_decay=0.1)
        >>> optimizer.add_group([layer.bias], weight_decay=0.0)
        >>> optimizer.groups
        (Group(1 parameters: weight_decay=0.0),)
        """
        who = f"{type(self).__name__}.add_group"
        if not hyperparameters:
            msg = f"{who}: give the hyperparameters of the group, such as weight_decay=0.0."
            raise ConfigError(msg)
        added, group = members(who, params), Group(self, hyperparameters)
        taken = {id(p) for other in self._groups for p in other.params}
        if twice := [i for i, p in enumerate(added) if id(p) in taken]:
            msg = f"{who}: params[{twice[0]}] is in a group already."
            raise ConfigError(msg)
        self._join(group, added)

    def _join(self, group: Group, params: list[Any]) -> Group:
        """Add parameters to the group that there is of these hyperparameters, or to this one."""
        for other in self._groups:
            if other.hyperparameters == group.hyperparameters:
                group = other
                break
        else:
            self._groups.append(group)
        group.params += params
        return group

    # ---------------------------------------------------------------------------- configuration

    def hyperparameters(self) -> dict[str, Any]:
        """Return the hyperparameters by name, as they are now; a schedule for a scheduled lr."""
        found = {name: getattr(self, name) for name in self.hyperparameter_names}
        if "lr" in found:
            found["lr"] = self._lr
        return found

    def to_config(self) -> dict[str, Any]:
        """Return class and hyperparameters as a JSON dict, from which it can be rebuilt.

        Groups are not part of it, because parameters are not; :meth:`state_dict` has them.
        """
        return {"class": type(self).__name__, **encoded(self.hyperparameters())}

    def __repr__(self) -> str:
        given = self.hyperparameters().items()
        # No clipping: nothing to say.
        shown = ", ".join(f"{name}={value!r}" for name, value in given if value is not None)
        return f"{type(self).__name__}({shown})"


def encoded(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """Return hyperparameters as JSON."""
    return {
        name: value.to_config() if isinstance(value, Schedule) else value
        for name, value in hyperparameters.items()
    }
