"""What an optimizer remembers: its hyperparameters, and what it keeps for each parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from xpnn.backend import ArrayWrapper
from xpnn.errors import DataError, DTypeError
from xpnn.optim.config import build
from xpnn.optim.slots import Slot, State

__all__ = ["Saveable"]

_KEYS = ("class", "hyperparameters", "steps", "updates", "state")


class Saveable:
    """The part of :class:`xpnn.optim.Optimizer` that is saved and loaded."""

    hyperparameter_names: ClassVar[tuple[str, ...]] = ()
    kernel: ClassVar[str | None] = None

    def __init__(self) -> None:
        self.steps = 0
        self._slots: dict[int, Slot] = {}  # by id of the parameter, in order of appearance
        self._loaded: list[tuple[State, int]] | None = None  # until an update shows whose it is
        self._workspace: dict[Any, Any] = {}  # what kernels keep between steps

    def state_names(self) -> tuple[str, ...]:
        """Return the names of the arrays that are kept for each parameter; they start as zeros."""
        return ()

    def hyperparameters(self) -> dict[str, Any]:
        """Return the hyperparameters by name, as they are now."""
        return {name: getattr(self, name) for name in self.hyperparameter_names}

    def to_config(self) -> dict[str, Any]:
        """Return class and hyperparameters as a JSON dict, from which it can be rebuilt."""
        return {"class": type(self).__name__, **self.hyperparameters()}

    def state_dict(self) -> dict[str, Any]:
        """Return all that a run needs to go on: JSON values, and copies of the state arrays.

        Returns
        -------
        dict
            ``class``, ``hyperparameters``, ``steps``; ``updates``, the count of every parameter in
            the order in which they were first given; ``state``, their arrays by name.
        """
        kept = [(slot.copied(), slot.updates) for slot in self._slots.values()]
        kept = self._loaded or kept
        return {
            "class": type(self).__name__,
            "hyperparameters": self.hyperparameters(),
            "steps": self.steps,
            "updates": [updates for _, updates in kept],
            "state": [dict(state) for state, _ in kept],
        }

    def load_state_dict(self, state: Mapping[str, Any], params: Any = None) -> None:
        """Go on where :meth:`state_dict` was taken: hyperparameters, counts and arrays.

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
        """
        kept, probe = self._read(state)
        if params is not None:
            params = self._listed(params)
        elif self._slots:
            params = [slot.param for slot in self._slots.values()]
        if params is None:
            self._loaded = kept
        else:
            self._match(kept, params)
        vars(self).update(probe.hyperparameters(), steps=state["steps"])

    def _read(self, state: Mapping[str, Any]) -> tuple[list[tuple[State, int]], Any]:
        """Return what a state dict keeps, and an optimizer of its hyperparameters."""
        wrong = [f"missing {key!r}" for key in _KEYS if key not in state]
        wrong += [f"unexpected {key!r}" for key in state if key not in _KEYS]
        self._refuse(wrong)
        if state["class"] != type(self).__name__:
            self._refuse([f"it is the state of {state['class']}"])
        probe = build(type(self), state["hyperparameters"])
        names = probe.state_names()
        if len(state["updates"]) != len(state["state"]):
            wrong.append(f"{len(state['updates'])} counts of {len(state['state'])} parameters")
        for i, arrays in enumerate(state["state"]):
            if arrays or (wrong == [] and state["updates"][i]):
                wrong += [f"missing state[{i}][{name!r}]" for name in names if name not in arrays]
                odd = [name for name in arrays if name not in names]
                wrong += [f"unexpected state[{i}][{name!r}]" for name in odd]
        self._refuse(wrong)
        return list(zip(map(dict, state["state"]), state["updates"], strict=True)), probe

    def _match(self, kept: list[tuple[State, int]], params: list[Any]) -> None:
        """Give every parameter, in this order, its state."""
        distinct = {id(p): p for p in params}
        wrong = []
        if len(kept) != len(distinct):
            wrong.append(f"it holds {len(kept)} parameters, here are {len(distinct)}")
        for i, ((state, _), p) in enumerate(zip(kept, distinct.values(), strict=False)):
            for name, x in state.items():
                if tuple(x.shape) != tuple(p.data.shape):
                    shapes = f"expected shape {tuple(p.data.shape)}, got {tuple(x.shape)}"
                    wrong.append(f"state[{i}][{name!r}]: {shapes}")
        self._refuse(wrong)
        pairs = zip(distinct.values(), kept, strict=True)
        self._slots = {id(p): Slot(p, state, updates) for p, (state, updates) in pairs}
        for slot in self._slots.values():
            if slot.state:
                slot.settle(tuple(slot.state), self.kernel, "state")
        self._loaded = None

    def _listed(self, xs: Any) -> list[Any]:
        """Return the parameters of a layer, or the items of a dict or an iterable."""
        if type(xs) is list:
            return xs
        if hasattr(xs, "parameters"):
            return list(xs.parameters())
        if isinstance(xs, Mapping):
            return list(xs.values())
        if isinstance(xs, ArrayWrapper) or hasattr(xs, "shape"):
            msg = f"{type(self).__name__}: expected a list of Tensors, got one array: write [w]."
            raise DTypeError(msg)
        return list(xs)

    def _refuse(self, wrong: list[str]) -> None:
        if wrong:
            msg = f"{type(self).__name__}.load_state_dict: {'; '.join(wrong)}."
            raise DataError(msg)

    def __getstate__(self) -> dict[str, Any]:
        kept = [(slot.param, slot.state, slot.updates) for slot in self._slots.values()]
        return {**vars(self), "_slots": kept, "_workspace": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # The parameters were copied too, so they have other ids.
        vars(self).update(state, _slots={id(kept[0]): Slot(*kept) for kept in state["_slots"]})

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.hyperparameters().items())
        return f"{type(self).__name__}({given})"
