"""What an optimizer remembers of a run, written down and read again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from xpnn.errors import DataError
from xpnn.optim.config import build
from xpnn.optim.groups import Group
from xpnn.optim.hyperparameters import Tuned, encoded
from xpnn.optim.parameters import check_tensor, listed
from xpnn.optim.schedules import Schedule
from xpnn.optim.slots import Slot, State
from xpnn.optim.trial import Trials

__all__ = ["Saveable"]

_KEYS = ("class", "hyperparameters", "groups", "schedules", "steps", "updates", "group_of", "state")


class _Kept(NamedTuple):
    """What is saved of one parameter."""

    state: State
    updates: int
    group: Group | None


class Saveable(Tuned):
    """The part of :class:`xpnn.optim.Optimizer` that is saved and loaded."""

    scalar_state: ClassVar[tuple[str, ...]] = ()

    def __init__(self, lr: Any) -> None:
        super().__init__(lr)
        self._slots: dict[int, Slot] = {}  # by id of the parameter, in order of appearance
        self._loaded: list[_Kept] | None = None  # until an update shows whose it is
        self._workspace: dict[Any, Any] = {}  # what kernels keep between steps
        self._trials = Trials()  # updates of which it is not known whether they were made

    def _settle(self, late: int = 0) -> None:
        """Take updates that were skipped out of the counts; wait for all but the last ``late``."""
        self.steps -= self._trials.settle(late)

    def state_names(self) -> tuple[str, ...]:
        """Return the names of the arrays that are kept for each parameter."""
        return ()

    def state_start(self, name: str) -> float:
        """Return the number with which the array of a name is filled at the start."""
        return 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return all that a run needs to go on: JSON values, and copies of the state arrays.

        Returns
        -------
        dict
            ``class``, ``hyperparameters``; ``groups``, the hyperparameters of each;
            ``schedules``, what those of the optimizer and of each group remember; ``steps``; and
            for the parameters, in the order in which they were first given, ``updates``, how many
            they had, ``group_of``, the number of their group from 1, or 0, and ``state``, their
            arrays by name.
        """
        self._settle()
        kept = self._loaded
        if kept is None:
            slots = self._slots.values()
            kept = [_Kept(slot.copied(), slot.updates, slot.group) for slot in slots]
        numbers = {id(group): i for i, group in enumerate(self._groups, 1)}
        return {
            "class": type(self).__name__,
            "hyperparameters": encoded(self.hyperparameters()),
            "groups": [encoded(group.hyperparameters) for group in self._groups],
            "schedules": [x.state_dict() if isinstance(x, Schedule) else {} for x in self._rates()],
            "steps": self.steps,
            "updates": [one.updates for one in kept],
            "group_of": [numbers.get(id(one.group), 0) for one in kept],
            "state": [dict(one.state) for one in kept],
        }

    def load_state_dict(self, state: Mapping[str, Any], params: Any = None) -> None:
        """Go on where :meth:`state_dict` was taken: hyperparameters, groups, counts and arrays.

        Parameters
        ----------
        state : dict
            Arrays may be of any library; they go where the parameters are.
        params : Layer or iterable of Parameter, optional
            Whose state it is, in the same order. If not given: those that this optimizer has seen,
            or if it has seen none, those of the next update.

        Raises
        ------
        DataError
            If the state is of another class, or anything is missing, unexpected or of another
            shape: all is listed, and nothing is loaded.

        Notes
        -----
        A parameter goes to the group in which it was when it was saved. One that had not been seen
        then, by any update, stays in the group to which it was added here.
        """
        kept, probe = self._read(state)
        self._settle()  # the device counts on
        if params is not None:
            params = listed(type(self).__name__, params)
        elif self._slots:
            params = [slot.param for slot in self._slots.values()]
        if params is not None and kept:
            self._check(kept, params)
        for name, value in probe.hyperparameters().items():
            setattr(self, name, value)
        self._lr, self.steps = probe._lr, state["steps"]
        self._slots, self._loaded = {}, kept
        old, self._groups = self._groups, probe._groups
        for group in old:
            added, group.params = group.params, []
            self._join(group, added)
        if not kept:  # it was saved before the first update
            self._match([], [])
        elif params is not None:
            self._match(kept, params)

    def _read(self, state: Mapping[str, Any]) -> tuple[list[_Kept], Any]:
        """Return what a state dict keeps, and an optimizer of its hyperparameters and groups."""
        wrong = [f"missing {key!r}" for key in _KEYS if key not in state]
        wrong += [f"unexpected {key!r}" for key in state if key not in _KEYS]
        self._refuse(wrong)
        if state["class"] != type(self).__name__:
            self._refuse([f"it is the state of {state['class']}"])
        probe = build(type(self), state["hyperparameters"])
        groups: list[Any] = [None, *(Group(probe, given) for given in state["groups"])]
        probe._groups = groups[1:]
        n = len(state["state"])
        if len(state["updates"]) != n or len(state["group_of"]) != n:
            counts = f"{len(state['updates'])} counts and {len(state['group_of'])} groups"
            wrong.append(f"{counts} of {n} parameters")
        if len(state["schedules"]) != len(groups):
            wrong.append(f"{len(state['schedules'])} schedules of {len(groups) - 1} groups and one")
        if odd := [k for k in (state["steps"], *state["updates"]) if type(k) is not int or k < 0]:
            wrong.append(f"{odd[0]!r} is no count of updates")
        if odd := [i for i in state["group_of"] if i not in range(len(groups))]:
            wrong.append(f"there is no group {odd[0]}")
        self._refuse(wrong)
        for lr, remembered in zip(probe._rates(), state["schedules"], strict=True):
            if isinstance(lr, Schedule):
                lr.load_state_dict(remembered)
            elif remembered:
                wrong.append(f"unexpected {', '.join(remembered)} of a learning rate {lr!r}")
        kept = []
        for i, arrays in enumerate(state["state"]):
            group = groups[state["group_of"][i]]
            names = (group.rules(probe) if group else probe).state_names()
            if arrays or state["updates"][i]:
                wrong += [f"missing state[{i}][{name!r}]" for name in names if name not in arrays]
                odd = [name for name in arrays if name not in names]
                wrong += [f"unexpected state[{i}][{name!r}]" for name in odd]
            kept.append(_Kept(dict(arrays), state["updates"][i], group))
        self._refuse(wrong)
        return kept, probe

    def _check(self, kept: list[_Kept], params: list[Any]) -> None:
        """Raise an error unless every parameter, in this order, can have its state."""
        distinct = {id(p): p for p in params}
        for i, p in enumerate(distinct.values()):
            check_tensor(f"{type(self).__name__}: params[{i}]", p)
        wrong = []
        if len(kept) != len(distinct):
            wrong.append(f"it holds {len(kept)} parameters, here are {len(distinct)}")
        for i, (one, p) in enumerate(zip(kept, distinct.values(), strict=False)):
            for name, x in one.state.items():
                expected = () if name in self.scalar_state else tuple(p.data.shape)
                if tuple(x.shape) != expected:
                    shapes = f"expected shape {expected}, got {tuple(x.shape)}"
                    wrong.append(f"state[{i}][{name!r}]: {shapes}")
        self._refuse(wrong)

    def _match(self, kept: list[_Kept], params: list[Any]) -> None:
        """Give every parameter, in this order, its state and its group."""
        distinct = {id(p): p for p in params}
        for group in self._groups:
            group.params = [p for p in group.params if id(p) not in distinct]
        self._slots = {}
        for p, one in zip(distinct.values(), kept, strict=True):
            slot = self._slots[id(p)] = Slot(p, one.state, one.updates, one.group)
            if one.group is not None:
                one.group.params.append(p)
            if slot.state:
                slot.settle(tuple(slot.state), self, "state")
        self._groups = [group for group in self._groups if group.params]
        self._loaded = None

    def _join(self, group: Group, params: list[Any]) -> Group:
        group = super()._join(group, params)
        for p in params:
            if (slot := self._slots.get(id(p))) is not None:
                slot.group = group
        return group

    def _refuse(self, wrong: list[str]) -> None:
        if wrong:
            msg = f"{type(self).__name__}.load_state_dict: {'; '.join(wrong)}."
            raise DataError(msg)

    def __getstate__(self) -> dict[str, Any]:
        self._settle()
        slots = self._slots.values()
        kept = [(slot.param, slot.state, slot.updates, slot.group) for slot in slots]
        return {**vars(self), "_slots": kept, "_workspace": {}, "_trials": Trials()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # The parameters were copied too, so they have other ids.
        vars(self).update(state, _slots={id(kept[0]): Slot(*kept) for kept in state["_slots"]})
