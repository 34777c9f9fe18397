"""An update that is made only if all gradients are numbers, and nobody waits to know whether."""

from __future__ import annotations

from typing import Any

from xpnn import backend
from xpnn.backend import array_namespace, on_device_of
from xpnn.optim.clipping import moved_to
from xpnn.optim.slots import Slot, as_array

__all__ = ["Trial", "overflow"]

Array = Any


class Trial:
    """What an optimizer is told of an update on trial, and notes of it.

    Parameters
    ----------
    factor : array
        What the gradients are to be multiplied with, before anything else: a 0-d array.
    flag : array or None
        Whether parameters and state shall stay as they are: a 0-d array of a boolean, which is
        looked at on the device; in Python only when the next update is made. None if it is known
        that they shall not.
    """

    def __init__(self, factor: Array, flag: Array = None) -> None:
        self.factor, self.flag = factor, flag
        self.slots: list[Slot] = []
        self._numbers: list[tuple[Slot, dict[str, Array]]] = []
        self._skipped: bool | None = False if flag is None else None

    def begin(self, alike: Any, rules: Any, at_last: bool) -> dict[Any, Array]:
        """Note the parameters; multiply, or return factors by group to do so ``at_last``."""
        for (group, *_), (slots, grads) in alike.items():
            self.slots += slots
            for name in rules[group][0].scalar_state:
                self._numbers += [(slot, {name: slot.state[name]}) for slot in slots]
            if not at_last:
                grads[:] = [self._times(g) for g in grads]
        return dict.fromkeys(rules, self.factor) if at_last else {}

    def _times(self, g: Array) -> Array:
        factor = moved_to(g, self.factor)
        with on_device_of(g):
            return as_array(g * factor)

    def flag_beside(self, g: Array) -> Array:
        """Return the flag on the device of a gradient; None if there is none."""
        return None if self.flag is None else moved_to(g, self.flag)

    def take_back(self) -> None:
        """Count the parameters' updates as before, and with them the states that are one number."""
        for slot in self.slots:
            slot.updates -= 1
        for slot, numbers in self._numbers:
            slot.state.update(numbers)

    def skipped(self) -> bool:
        """Return whether the update was not made: wait for it, if that is not known."""
        if self._skipped is None:
            self._skipped = bool(backend.to_numpy(self.flag))
        return self._skipped


def overflow(grads: list[Array]) -> Array:
    """Return whether a gradient holds infinity or NaN: a 0-d array on the device of the first."""
    good = []
    for g in grads:
        xp = array_namespace(g)
        with on_device_of(g):
            good.append(as_array(xp.all(xp.isfinite(g))))
    xp, moved = array_namespace(good[0]), [moved_to(good[0], x) for x in good]
    with on_device_of(good[0]):
        return as_array(~xp.all(xp.stack(moved)))
