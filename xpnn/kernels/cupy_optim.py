"""The optimizers' element-wise rules on a GPU: one launch for all parameters of a kind.

A rule is traced (:mod:`xpnn.kernels.rules`) and becomes one kernel, which reads each element of a
parameter, of its gradient and of its state once, and writes it once. A table of addresses and one
of chunks tell its blocks where; both stay on the device, and are written anew when an address
changes. Half precision is computed in float32, in which its state is.

The constants of a step, such as the learning rate, are an array of the device, so that a recorded
launch finds those of its turn: :func:`refresh` writes them. States that are one number stay on the
host, where constants are computed from them.

Whether an update on trial was made, the host learns some steps late. Until then it does not know
the count of the next one, on which constants depend: it writes those of all counts that there may
be, and the kernel chooses by the number of updates that were skipped (:class:`Foreseen`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from xpnn import replay
from xpnn.errors import GraphError
from xpnn.kernels.cupy_launch import contiguous, cupy, kernel, wide
from xpnn.kernels.cupy_tables import Chunks, Mirror, mirror
from xpnn.kernels.cupy_update import NAME, update_source
from xpnn.kernels.rules import ROWS, Program, Refused, Rule, State, trace

__all__ = ["Foreseen", "Step", "elementwise_update", "follows", "foresee", "refresh"]

Array = Any
Arrays = Sequence[Array]

_THREADS = 256
_SEEN = (
    "a parameter is seen by somebody else (a graph that was kept, a view, a variable), so that it"
    " gets a new array in each step, which cannot be recorded. Let go of what holds it."
)


class Step(NamedTuple):
    """What a rule does in a step."""

    program: Program
    constants: list[Any]
    numbers: State  # after it


class Foreseen(NamedTuple):
    """An update before which some may have been skipped.

    Attributes
    ----------
    steps : list of Step
        What it is if 0, 1, ... of those were skipped, of which it is not known.
    skips : array
        How many were skipped in all: a 0-d array of int32.
    known : int
        How many of those the host knows of.
    """

    steps: list[Step]
    skips: Array
    known: int

    def rows(self) -> list[Step]:
        """Return the steps so that a kernel finds its own at ``skips`` modulo their number."""
        last = len(self.steps) - 1
        return [self.steps[min((row - self.known) % ROWS, last)] for row in range(ROWS)]


def foresee(
    rules: Sequence[Rule],
    numbers: Sequence[Sequence[State]],
    names: Sequence[str],
    dtype: Any,
    skips: Array,
    known: int,
) -> Foreseen | None:
    """Return an update that is the same computation, with other constants, whatever was skipped.

    Parameters
    ----------
    rules : sequence of callable
        That of the update if 0, 1, ... of those before were skipped.
    numbers : sequence of sequence of dict
        For each of those the scalar states of each parameter.
    names : sequence of str
        Of the states that are arrays.
    dtype : numpy.dtype
        Of the parameters.
    skips, known
        See :class:`Foreseen`.

    Returns
    -------
    Foreseen or None
        None if it has to be known what was skipped.
    """
    if any(state != few[0] for few in numbers for state in few):
        return None
    try:
        steps = [
            _traced(rule, names, few[0], dtype) for rule, few in zip(rules, numbers, strict=True)
        ]
    except Refused:
        return None
    alike = all(step.program == steps[0].program for step in steps)
    # After the update, too, the numbers have to depend on nothing but the count.
    if not alike or any(s.numbers != few[0] for s, few in zip(steps[1:], numbers, strict=False)):
        return None
    return Foreseen(steps, skips, known)


@lru_cache(maxsize=256)
def _function(*key: Any) -> Any:
    return kernel(update_source(*key), NAME)


def elementwise_update(
    rule: Rule,
    xp: Any,
    params: Arrays,
    grads: Arrays,
    states: list[State],
    reuse: Sequence[bool],
    scalars: Sequence[str],
    workspace: dict[Any, Any],
    foreseen: Foreseen | None = None,
) -> list[Array]:
    """Return new parameters by an element-wise rule, ``rule(xp, p, g, state) -> (p, state)``.

    Parameters
    ----------
    rule : callable
        What it does to one element depends on the elements at the same place and on scalar states.
    xp : namespace
    params, grads : sequence of array
        Of one dtype each, pairwise of one shape. For parameters of half precision, gradients may be
        of float32.
    states : list of dict
        Arrays for each parameter, of float32 for half precision; they are written in place, or
        others put there.
    reuse : sequence of bool
        Nobody else can see the parameter, so that it may be written in place.
    scalars : sequence of str
        Names of the states that are one number a parameter; they lie on the host.
    workspace : dict
        The optimizer's, for what is kept from step to step.
    foreseen : Foreseen, optional
        What the rule was found to do.
    """
    if not _one_number(states, scalars):
        return [
            elementwise_update(rule, xp, [p], [g], [state], [own], scalars, workspace)[0]
            for p, g, state, own in zip(params, grads, states, reuse, strict=True)
        ]
    names = [name for name in states[0] if name not in scalars]
    try:
        plan = foreseen or _alone(rule, names, states[0], scalars, params[0].dtype)
    except Refused:
        return [
            _by_the_rule(rule, xp, *each, scalars)
            for each in zip(params, grads, states, strict=True)
        ]
    key = id(states[0]), params[0].device.id
    batch = workspace.get(key)
    if batch is None or replay.current() is not None:
        batch = workspace[key] = _Batch()
    new = batch.launch(plan, names, params, grads, states, reuse)
    for state in states:
        state.update(plan.steps[0].numbers)
    return new


def follows(
    rule: Rule,
    states: list[State],
    scalars: Sequence[str],
    workspace: dict[Any, Any],
    foreseen: Foreseen | None = None,
) -> bool:
    """Return whether a launch that was recorded is also that of a step with this rule.

    Parameters are as for :func:`elementwise_update`; the workspace is that of the recording.
    """
    found = [_batch_of(few, workspace) for few in _launches(states, scalars)]
    return all(batch is not None and batch.follows(rule, scalars, foreseen) for batch in found)


def refresh(
    rule: Rule,
    states: list[State],
    scalars: Sequence[str],
    workspace: dict[Any, Any],
    foreseen: Foreseen | None = None,
) -> None:
    """Write the constants of a step for a launch that was recorded, and that it follows."""
    for few in _launches(states, scalars):
        numbers = _batch_of(few, workspace).refresh(rule, scalars, foreseen)
        for state in few:
            state.update(numbers)


# What an optimizer has to know of this kernel.
elementwise_update.half_precision = True  # type: ignore[attr-defined]
elementwise_update.host_scalars = True  # type: ignore[attr-defined]
elementwise_update.foresee = foresee  # type: ignore[attr-defined]
elementwise_update.follows = follows  # type: ignore[attr-defined]
elementwise_update.refresh = refresh  # type: ignore[attr-defined]


def _one_number(states: list[State], scalars: Sequence[str]) -> bool:
    first = states[0]
    return all(state[name] == first[name] for name in scalars for state in states[1:])


def _launches(states: list[State], scalars: Sequence[str]) -> list[list[State]]:
    return [states] if _one_number(states, scalars) else [[state] for state in states]


def _batch_of(states: list[State], workspace: dict[Any, Any]) -> Any:
    found = [batch for batch in workspace.values() if batch.states[0] is states[0]]
    return found[0] if found and len(found[0].states) == len(states) else None


def _traced(rule: Rule, names: Sequence[str], numbers: State, dtype: Any) -> Step:
    program, constants, new = trace(rule, names, numbers, np.dtype(wide(dtype)), cupy().ndarray)
    return Step(program, constants, {name: np.asarray(x) for name, x in new.items()})


def _alone(
    rule: Rule, names: Sequence[str], state: State, scalars: Sequence[str], dtype: Any
) -> Foreseen:
    """Return an update before which nothing was skipped."""
    return Foreseen([_traced(rule, names, {name: state[name] for name in scalars}, dtype)], None, 0)


def _by_the_rule(
    rule: Rule, xp: Any, p: Array, g: Array, state: State, scalars: Sequence[str]
) -> Array:
    """Return a parameter after a step in which the rule itself gets the arrays."""
    if replay.current() is not None:
        msg = (
            "the rule of this optimizer does more than to compute element by element: a step of it"
            " cannot be recorded."
        )
        raise GraphError(msg)
    work = wide(p.dtype)
    given = {name: x[()] if name in scalars else x for name, x in state.items()}
    new_p, new = rule(xp, p.astype(work, copy=False), g.astype(work, copy=False), given)
    state.update({name: np.asarray(x) if name in scalars else x for name, x in new.items()})
    return xp.asarray(new_p).astype(p.dtype, copy=False)


class _Batch:
    """One launch, and what it reads on the device."""

    def __init__(self) -> None:
        self._tables: dict[Any, Any] = {}
        self._constants = Mirror()
        self._program: Program | None = None
        self._dtype: Any = None
        self._names: Sequence[str] = ()
        self._chooses = False  # among constants
        self._next: Foreseen | None = None
        self.states: list[State] = []

    def launch(
        self,
        plan: Foreseen,
        names: list[str],
        params: Arrays,
        grads: Arrays,
        states: list[State],
        reuse: Sequence[bool],
    ) -> list[Array]:
        """Return the new parameters; those of ``reuse`` and all states are written in place."""
        step = plan.steps[0]
        self._program, self._dtype, self._names = step.program, params[0].dtype, names
        self._chooses, self.states = plan.skips is not None, states
        new, addresses, held = [], [], []
        for p, g, state, own in zip(params, grads, states, reuse, strict=True):
            source: Array = contiguous(p)
            to = source if own or source is not p else cupy().empty(p.shape, p.dtype)
            arrays = [to, source, contiguous(g)]
            for name in names:
                state[name] = contiguous(state[name])
                arrays.append(state[name])
            if replay.current() is not None and to is not p:
                raise GraphError(_SEEN)
            new.append(to)
            held.append(arrays[2])  # not the parameter, which would then be seen
            addresses += [x.data.ptr for x in arrays]
        chunks = Chunks.of(self._tables, "chunks", [p.size for p in params])
        if not chunks.count:
            return new
        pointers = mirror(self._tables, "pointers")
        pointers.put(np.asarray(addresses, np.uint64))
        values = self._values(plan)
        self._constants.place(values)
        if replay.current() is None:  # else a renewal puts those of its turn
            self._constants.put(values)
        scalars = [(i, x) for i, x in enumerate(step.constants) if isinstance(x, cupy().ndarray)]
        kinds = tuple((i, "bool" if x.dtype.kind == "b" else "A") for i, x in scalars)
        function = _function(
            step.program, len(step.constants), kinds, ROWS if self._chooses else 1,
            params[0].dtype.name, grads[0].dtype.name,
        )  # fmt: skip
        tables = (pointers.array, chunks.table.array, self._constants.array)
        given = [x for _, x in scalars] + ([plan.skips] if self._chooses else [])
        function((chunks.count,), (_THREADS,), (*tables, *given))
        if replay.current() is not None:  # what it reads stays, as long as it may be replayed
            self._tables["held"] = held, tables, given
        return new

    def _values(self, plan: Foreseen) -> Array:
        rows = [step.constants for step in (plan.rows() if self._chooses else plan.steps)]
        values = [0.0 if isinstance(x, cupy().ndarray) else x for row in rows for x in row]
        return np.asarray(values or [0.0], wide(self._dtype))

    def follows(self, rule: Rule, scalars: Sequence[str], foreseen: Foreseen | None) -> bool:
        try:
            plan = self._planned(rule, scalars, foreseen)
        except Refused:
            return False
        same = plan.steps[0].program == self._program
        self._next = None if foreseen is not None else plan
        return same and (plan.skips is not None) == self._chooses

    def refresh(self, rule: Rule, scalars: Sequence[str], foreseen: Foreseen | None) -> State:
        plan = foreseen or self._next or self._planned(rule, scalars, None)
        self._next = None
        self._constants.put(self._values(plan))
        return plan.steps[0].numbers

    def _planned(self, rule: Rule, scalars: Sequence[str], foreseen: Foreseen | None) -> Foreseen:
        return foreseen or _alone(rule, self._names, self.states[0], scalars, self._dtype)
