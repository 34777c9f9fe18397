"""What a captured step has to do anew each time it is replayed.

A captured step is a recording of what a GPU was told to do. What Python did meanwhile is not in it,
and has to be seen to: parts of the library that keep a count (an optimizer, a stream of random
numbers) leave a *renewal* here, a function that counts on and brings the device the numbers of the
next step; those that put a new array in the place of an old one say so, for a replay reads where
the old one lies.

Nothing here knows a GPU; the recording itself is made by :mod:`xpnn.training.capture`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["Recording", "called", "current", "recording"]

Array = Any


class Recording:
    """What is left behind while a step is recorded.

    Attributes
    ----------
    renewals : list of callables
        To be called before each replay, in this order.
    afterwards : list of callables
        To be called when each replay has been launched.
    undone : list of callables
        To be called once, the last first, when the recording is made: what Python counted has not
        happened yet.
    looks : list of callables
        To be called before the guards are asked: who waits, or plans ahead, does it here.
    guards : list of callables
        Whether the recording still holds: each returns a bool.
    states : dict
        Owner, name and first array of each attribute that was given another array.
    counted : Counter
        How many updates each optimizer made so far in the step, and each of its parameters had, by
        id of what counts them.
    """

    def __init__(self) -> None:
        self.renewals: list[Callable[[], None]] = []
        self.afterwards: list[Callable[[], None]] = []
        self.undone: list[Callable[[], None]] = []
        self.looks: list[Callable[[], None]] = []
        self.guards: list[Callable[[], bool]] = []
        self.states: dict[tuple[int, str], tuple[Any, str, Array]] = {}
        self.counted: Counter[int] = Counter()
        self._moves: dict[int, tuple[Any, Array]] = {}

    def replaces(self, owner: Any, name: str, before: Array) -> None:
        """Note that an attribute which the next step reads is given another array."""
        self.states.setdefault((id(owner), name), (owner, name, before))

    def move(
        self, stream: Any, make: Callable[[], Array], put: Callable[[Array, int], None]
    ) -> Array:
        """Return the array of the number that kernels add to the counter of a stream.

        ``make()`` makes it, and ``put(array, n)`` sets it before a replay: to how far the stream
        has gone since the recording, which knows the counters of its own time.
        """
        if id(stream) in self._moves:
            return self._moves[id(stream)][1]
        seed, first, array = stream.seed, stream.counter, make()
        self._moves[id(stream)] = stream, array
        drawn = 0

        def undo() -> None:
            nonlocal drawn
            drawn = stream.counter - first
            stream.state = {**stream.state, "counter": first}

        def renew() -> None:
            put(array, stream.counter - first)
            stream.skip(drawn)

        self.undone.append(undo)
        self.renewals.append(renew)
        self.guards.append(lambda: stream.seed == seed)
        return array


# Where the layers that are called are noted, by their ids; None where nobody wants to know.
called: ContextVar[dict[int, Any] | None] = ContextVar("xpnn_layers_called", default=None)
_recording: ContextVar[Recording | None] = ContextVar("xpnn_recording_of_a_step", default=None)


def current() -> Recording | None:
    """Return the recording that is made in this context, or None."""
    return _recording.get()


@contextmanager
def recording() -> Iterator[Recording]:
    """Make a recording of what is done inside the block."""
    made = Recording()
    token = _recording.set(made)
    try:
        yield made
    finally:
        _recording.reset(token)
