"""An update that is made only if all gradients are numbers, and nobody waits to know whether.

A GPU leaves parameters and state as they are if it finds an overflow. The host is sent that flag,
and reads it when it has arrived, at the latest :data:`LATE` updates later. Until then it counts
the update as made, and a kernel that can (:class:`xpnn.kernels.cupy_optim.Foreseen`) chooses among
the constants of all the counts that there may be. Where there is no such kernel, the flag is read
before the next update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from xpnn import backend, kernels
from xpnn.backend import array_namespace, on_device_of
from xpnn.kernels.rules import ROWS
from xpnn.optim.clipping import is_beside, moved_to
from xpnn.optim.slots import Slot, State, as_array
from xpnn.primitives.shape import stack

__all__ = ["LATE", "Trial", "Trials", "overflow"]

Array = Any

LATE = ROWS - 1  # updates on end of which it need not be known whether they were made


class Trial:
    """What an optimizer is told of an update on trial, and notes of it.

    Parameters
    ----------
    factor : array
        What the gradients are to be multiplied with, before anything else: a 0-d array.
    flag : array or None
        Whether parameters and state shall stay as they are: a 0-d array of a boolean, which is
        looked at on the device; in Python only later. None if it is known that they shall not.
    skips : pair of arrays or None
        How many updates of the optimizer were skipped before this one, and after it: 0-d arrays of
        int32. None if the device does not count.
    """

    def __init__(self, factor: Array, flag: Array = None, skips: Any = None) -> None:
        self.factor, self.flag, self.skips = factor, flag, skips
        self.again: Trial = self  # of a recorded one, that of the replay
        self.numbers: dict[int, State] = {}  # by slot, its states that were one number before
        self.slots: list[Slot] = []
        self._sent: Callable[[], Any] | None = None
        self._skipped: bool | None = False if flag is None else None

    def anew(self) -> Trial:
        """Return the same for a replay, which writes into the same arrays."""
        self.again = Trial(self.factor, self.flag, self.skips)
        return self.again

    def send(self) -> None:
        """Send the flag to the host."""
        self._sent = backend.on_its_way(self.flag)

    def note(self, slots: Iterable[Slot], scalars: Iterable[str]) -> None:
        """Note slots that are going to be updated, and their states that are one number."""
        for slot in slots:
            self.slots.append(slot)
            self.numbers[id(slot)] = {name: slot.state[name] for name in scalars}

    def skips_beside(self, g: Array) -> Array:
        """Return the count of skipped updates before this one on the device of a gradient."""
        return moved_to(g, self.skips[0])

    def flag_beside(self, g: Array) -> Array:
        """Return the flag on the device of a gradient; None if there is none."""
        return None if self.flag is None else moved_to(g, self.flag)

    def is_known(self) -> bool:
        """Return whether nobody has to wait to know if the update was made."""
        return self._skipped is not None or getattr(self._sent, "arrived", False)

    def skipped(self) -> bool:
        """Return whether the update was not made: wait for it, if that is not known."""
        if self._skipped is None:
            flag = backend.to_numpy(self.flag) if self._sent is None else self._sent()
            self._skipped = bool(flag)
        return self._skipped


class Trials:
    """The updates of an optimizer of which it is not known whether they were made.

    Attributes
    ----------
    late : list of Trial
        Those, the oldest first. If there are several, they are of the same parameters, and states
        that are one number depend on nothing but the count of updates.
    skips : array or None
        How many were skipped of all that there were, on the device that knows.
    known : int
        How many of those the host knows of.
    """

    def __init__(self) -> None:
        self.late: list[Trial] = []
        self.skips: Array = None
        self.known = 0

    def place(self, flag: Array) -> Array:
        """Return the count of skipped updates on the device of a flag, where it stays."""
        if self.skips is None or not is_beside(flag, self.skips):
            home = backend.device_of(flag)
            self.skips = backend.asarray(self.known, device=home, dtype="int32")
        return self.skips

    def settle(self, late: int) -> int:
        """Take back the updates that were skipped; return how many.

        Of the last ``late`` only those are looked at that nobody has to wait for.
        """
        found = 0
        while self.late and (len(self.late) > late or self.late[0].is_known()):
            trial = self.late.pop(0)
            if not trial.skipped():
                continue
            found += 1
            self.known += trial.skips is not None
            numbers = trial.numbers
            for later in self.late:  # each began where the one before it did
                numbers, later.numbers = later.numbers, numbers
            for slot in trial.slots:
                slot.updates -= 1
                slot.state.update(numbers[id(slot)])
        return found

    def are_of(self, slots: Iterable[Slot]) -> bool:
        """Return whether all were of these slots."""
        if not self.late:
            return True
        ids = {id(slot) for slot in slots}
        return all(trial.numbers.keys() == ids for trial in self.late)

    def numbers(self, slots: list[Slot], scalars: Iterable[str]) -> list[list[State]]:
        """Return the states that are one number if 0, 1, ... of the updates were skipped."""
        now = [[{name: slot.state[name] for name in scalars} for slot in slots]]
        return now + [[trial.numbers[id(slot)] for slot in slots] for trial in self.late[::-1]]


def overflow(grads: list[Array], workspace: dict[Any, Any]) -> Array:
    """Return whether a gradient holds infinity or NaN: a 0-d array on the device of the first.

    ``workspace`` is where a kernel keeps things for the next call.
    """
    first, good = grads[0], []
    native = getattr(kernels.load(array_namespace(first).__name__), "any_overflow", None)
    if native is not None and all(is_beside(first, g) for g in grads):
        with on_device_of(first):
            return native(grads, workspace)
    for g in grads:
        xp = array_namespace(g)
        with on_device_of(g):
            good.append(as_array(xp.all(xp.isfinite(g))))
    xp, moved = array_namespace(good[0]), [moved_to(good[0], x) for x in good]
    with on_device_of(good[0]):
        return as_array(~xp.all(stack(xp, *moved)))
