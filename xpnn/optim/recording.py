"""Updates of many parameters at once, by a kernel also in a step that is recorded for replay."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from xpnn import replay
from xpnn.backend import on_device_of
from xpnn.errors import GraphError
from xpnn.optim.clipping import beside
from xpnn.optim.slots import Slot
from xpnn.optim.trial import LATE, Trial

__all__ = ["apply_all", "carry", "count_step", "refuse"]

Array = Any
Near = tuple[Array, Array]  # what gradients are multiplied with, whether nothing is to change


class _Batch(NamedTuple):
    """Parameters of one kind that are as many updates old."""

    group: Any
    slots: list[Slot]
    grads: list[Array]
    near: Near  # beside the gradients


def refuse(optimizer: Any) -> None:
    """Raise an error in a step that is recorded: what follows cannot be."""
    if replay.current() is not None:
        msg = f"{type(optimizer).__name__}: its step counts in Python, and cannot be recorded."
        raise GraphError(msg)


def count_step(optimizer: Any) -> None:
    """Count an update; of one that is recorded, each replay."""
    optimizer.steps += 1
    if (made := replay.current()) is not None:

        def count(n: int) -> None:
            optimizer.steps += n

        made.counted[id(optimizer)] += 1
        made.undone.append(lambda: count(-1))
        made.renewals.append(lambda: count(1))


def carry(made: replay.Recording, owner: Any, name: str, new: Array) -> None:
    """Give an attribute a new array, in a recorded step; each replay reads the one of before it.

    A replay writes what is new into the array that it read, where the next one looks for it.
    """
    home = getattr(owner, name)
    if (id(owner), name) not in made.states:

        def renew() -> None:  # a step that was not recorded has put another one there
            now = getattr(owner, name)
            if now is not home:
                with on_device_of(home):
                    home[...] = now
                setattr(owner, name, home)

        made.renewals.append(renew)
    made.replaces(owner, name, home)
    setattr(owner, name, new)


def apply_all(
    optimizer: Any,
    alike: Mapping[Any, tuple[list[Slot], list[Array]]],
    rules: Mapping[Any, tuple[Any, float]],
    factors: Mapping[Any, Array],
    trial: Trial | None,
) -> None:
    """Update parameters, those together that are alike.

    Parameters
    ----------
    optimizer : Optimizer
    alike : dict
        Slots and gradients by group, kind and updates.
    rules : dict
        By group who has the hyperparameters, and the learning rate.
    factors : dict
        By group what gradients are multiplied with, if anything.
    trial : Trial, optional
        If the update is on trial.
    """
    batches = [
        _Batch(group, slots, grads, _near(slots[0], grads[0], factors.get(group), trial))
        for (group, *_), (slots, grads) in alike.items()
    ]
    turn = _Turn(optimizer, batches, trial)
    if turn.look():
        rules = optimizer._rules()
    turn.begin()
    for i, batch in enumerate(batches):
        own = rules[batch.group]
        with on_device_of(batch.grads[0]):
            if batch.slots[0].kernel is not None:
                _apply_kernel(optimizer, own, batch, turn, i)
                continue
            refuse(optimizer)
            for slot, g in zip(batch.slots, batch.grads, strict=True):
                optimizer._apply_rule(*own, batch.near, slot, g)


def _near(slot: Slot, g: Array, factor: Array, trial: Trial | None) -> Near:
    with on_device_of(g):
        factor = None if factor is None else beside(g, factor, slot.work)
        return factor, None if trial is None else trial.flag_beside(g)


class _Turn:
    """An update that is made now, or whenever it is replayed; what is known of the counts then.

    Attributes
    ----------
    plans : list
        For each batch what a kernel foresaw; None where all that came before has to be known, and
        is known.
    """

    def __init__(self, optimizer: Any, batches: list[_Batch], trial: Trial | None) -> None:
        self._optimizer, self._batches, self._trial = optimizer, batches, trial
        self.plans: list[Any] = [None] * len(batches)
        made = replay.current()
        self._before = [(0, 0)] * len(batches)
        if made is not None:
            before = made.counted[id(optimizer)]
            self._before = [(before, made.counted[id(b.slots[0])]) for b in batches]
        self.is_first = made is None or not before

    def look(self, ahead: bool = False) -> bool:
        """Plan the update; return whether that changed counts, as others were waited for.

        ``ahead`` of the other updates that the optimizer makes before, in the same step.
        """
        if self._trial is None or self._trial.skips is None:
            return False
        trials, changed = self._optimizer._trials, False
        self.plans = [self._foreseen(i, ahead) for i in range(len(self._batches))]
        if trials.late and None in self.plans:
            self._optimizer._settle()
            self.plans = [self._foreseen(i, ahead) for i in range(len(self._batches))]
            changed = True
        return changed

    def look_again(self) -> None:
        """Plan the update for a replay, before anything of it is counted."""
        optimizer, slots = self._optimizer, [slot for b in self._batches for slot in b.slots]
        optimizer._settle(LATE if self._trial is not None else 0)
        if not optimizer._trials.are_of(slots):
            optimizer._settle()
        self.look(ahead=True)

    def rule(self, place: int, ahead: bool, skipped: int = 0) -> Any:
        """Return the rule of a batch, if so many of the updates that were counted were skipped."""
        optimizer, batch = self._optimizer, self._batches[place]
        owner = optimizer if batch.group is None else batch.group.rules(optimizer)
        steps, updates = self._before[place] if ahead else (0, 0)
        return _next_rule(owner, owner._lr_without(skipped - steps), batch, skipped - updates)

    def _foreseen(self, place: int, ahead: bool) -> Any:
        batch = self._batches[place]
        foresee = getattr(batch.slots[0].kernel, "foresee", None)
        if foresee is None:
            return None
        optimizer, slots, trial = self._optimizer, batch.slots, self._trial
        trials, scalars = optimizer._trials, optimizer.scalar_state
        rules = [self.rule(place, ahead, n) for n in range(len(trials.late) + 1)]
        names = [name for name in slots[0].state if name not in scalars]
        with on_device_of(batch.grads[0]):
            skips = trial.skips_beside(batch.grads[0])  # type: ignore[union-attr]
            numbers = trials.numbers(slots, scalars)
            return foresee(rules, numbers, names, slots[0].dtype, skips, trials.known)

    def begin(self) -> None:
        """Note what may have to be taken back; in a step that is recorded, for each replay."""
        made, trial, trials = replay.current(), self._trial, self._optimizer._trials
        if made is not None and (id(trials), "skips") in made.states:
            who = type(self._optimizer).__name__
            msg = f"{who}: in a captured step it makes no update after one with a LossScaler."
            raise GraphError(msg)
        if trial is None or trial.flag is None:
            if made is not None:
                made.looks.append(self.look_again)
            return
        if made is None:
            self._note(trial)
            trials.skips = trial.skips and trial.skips[1]
            return

        def renew() -> None:
            if not self.is_first:  # of the states that are one number, too, there are others now
                self.look()
            self._note(trial.again)

        made.looks.append(self.look_again)
        made.renewals.append(renew)
        carry(made, trials, "skips", trial.skips[1])

    def _note(self, trial: Trial) -> None:
        for batch in self._batches:
            trial.note(batch.slots, self._optimizer.scalar_state)
        self._optimizer._trials.late.append(trial)


def _apply_kernel(
    optimizer: Any, rules: tuple[Any, float], batch: _Batch, turn: _Turn, place: int
) -> None:
    """Update the parameters of a batch, the one of this place in the turn."""
    recorded, slots = replay.current(), batch.slots
    workspace: dict[Any, Any] = optimizer._workspace if recorded is None else {}
    if recorded is not None:
        _record(optimizer, recorded, batch, turn, place, workspace)
    reuse = [slot.owns_data() for slot in slots]
    params = [slot.param.data for slot in slots]
    states = [slot.state for slot in slots]
    rule, first, plan = _next_rule(*rules, batch), slots[0], turn.plans[place]
    given = rules[0].scalar_state, workspace, *([] if plan is None else [plan])
    new = first.kernel(rule, first.xp, params, batch.grads, states, reuse, *given)
    for slot, data in zip(slots, new, strict=True):
        slot.updates += 1
        slot.data = slot.param.data = data


def _next_rule(rules: Any, lr: float, batch: _Batch, skipped: int = 0) -> Any:
    step = batch.slots[0].updates + 1 - skipped
    return functools.partial(rules._whole_rule, lr, step, batch.near)


def _record(
    optimizer: Any,
    made: replay.Recording,
    batch: _Batch,
    turn: _Turn,
    place: int,
    workspace: dict[Any, Any],
) -> None:
    """Leave what has to be done for each replay: constants of its turn, one update more."""
    slots, scalars = batch.slots, optimizer.scalar_state
    kernel, states = slots[0].kernel, [slot.state for slot in slots]
    if not hasattr(kernel, "refresh"):
        refuse(optimizer)
    before = [(slot, slot.updates, dict(slot.state)) for slot in slots]
    arrays = [(slot, slot.param) for slot in slots]

    def follows(ahead: bool) -> bool:
        rule = turn.rule(place, ahead)
        return bool(kernel.follows(rule, states, scalars, workspace, turn.plans[place]))

    def undo() -> None:
        for slot, updates, state in before:
            slot.updates = updates
            slot.state.update({name: state[name] for name in scalars})

    def renew() -> None:
        with on_device_of(slots[0].data):
            if not turn.is_first:
                follows(ahead=False)
            rule = turn.rule(place, ahead=False)
            kernel.refresh(rule, states, scalars, workspace, turn.plans[place])
        for slot in slots:
            slot.updates += 1

    def holds() -> bool:
        mine = optimizer._slots
        same = all(mine.get(id(p)) is slot and slot.data is p.data for slot, p in arrays)
        same = same and all(slot.owns_data() for slot in slots)  # or it is written unseen
        same = same and all(slot.state is state for slot, state in zip(slots, states, strict=True))
        together = len({slot.updates for slot in slots}) == 1
        return same and together and follows(ahead=True)

    made.counted.update(id(slot) for slot in slots)
    made.undone.append(undo)
    made.renewals.append(renew)
    made.guards.append(holds)
