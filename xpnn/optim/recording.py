"""Updates by a kernel: many parameters at once, also in a step that is recorded for replay."""

from __future__ import annotations

import functools
from typing import Any

from xpnn import replay
from xpnn.backend import on_device_of
from xpnn.errors import GraphError
from xpnn.optim.slots import Slot

__all__ = ["apply_kernel", "count_step", "refuse"]

Array = Any
Near = tuple[Array, Array]  # what gradients are multiplied with, whether nothing is to change


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

        made.undone.append(lambda: count(-1))
        made.renewals.append(lambda: count(1))


def apply_kernel(
    optimizer: Any,
    group: Any,
    rules: tuple[Any, float],
    near: Near,
    slots: list[Slot],
    grads: list[Array],
) -> None:
    """Update the parameters of slots that are of one kind and as many updates old.

    ``rules`` are those of the group, and the learning rate; ``near`` lies beside the gradients.
    """
    recorded = replay.current()
    workspace: dict[Any, Any] = optimizer._workspace if recorded is None else {}
    if recorded is not None:
        _record(optimizer, recorded, group, rules[0], near, slots, workspace)
    reuse = [slot.owns_data() for slot in slots]
    params = [slot.param.data for slot in slots]
    states = [slot.state for slot in slots]
    rule, first = _next_rule(*rules, near, slots), slots[0]
    scalars = rules[0].scalar_state
    new = first.kernel(rule, first.xp, params, grads, states, reuse, scalars, workspace)
    for slot, data in zip(slots, new, strict=True):
        slot.updates += 1
        slot.data = slot.param.data = data


def _next_rule(rules: Any, lr: float, near: Near, slots: list[Slot]) -> Any:
    return functools.partial(rules._whole_rule, lr, slots[0].updates + 1, near)


def _record(
    optimizer: Any,
    made: replay.Recording,
    group: Any,
    rules: Any,
    near: Near,
    slots: list[Slot],
    workspace: dict[Any, Any],
) -> None:
    """Leave what has to be done for each replay: constants of its turn, one update more."""
    kernel, scalars, states = slots[0].kernel, rules.scalar_state, [slot.state for slot in slots]
    if not hasattr(kernel, "refresh"):
        refuse(optimizer)
    before = [(slot, slot.updates, dict(slot.state)) for slot in slots]
    arrays = [(slot, slot.param) for slot in slots]

    def rule() -> Any:
        now = optimizer if group is None else group.rules(optimizer)
        return _next_rule(now, now.lr, near, slots)

    def undo() -> None:
        for slot, updates, state in before:
            slot.updates = updates
            slot.state.update({name: state[name] for name in scalars})

    def renew() -> None:
        with on_device_of(slots[0].data):
            kernel.refresh(rule(), states, scalars, workspace)
        for slot in slots:
            slot.updates += 1

    def holds() -> bool:
        mine = optimizer._slots
        same = all(mine.get(id(p)) is slot and slot.data is p.data for slot, p in arrays)
        same = same and all(slot.owns_data() for slot in slots)  # or it is written unseen
        same = same and all(slot.state is state for slot, state in zip(slots, states, strict=True))
        together = len({slot.updates for slot in slots}) == 1
        return same and together and kernel.follows(rule(), states, scalars, workspace)

    made.undone.append(undo)
    made.renewals.append(renew)
    made.guards.append(holds)
