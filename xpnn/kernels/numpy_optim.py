"""The optimizers' element-wise rules in NumPy: in blocks that stay in the cache, on all threads.

A rule makes a dozen passes over each array. Made block by block, all but the first find their data
in the cache, and a block's temporaries too. So large arrays are shared out, block by block, to
whichever thread is free, and a rule is run as the instructions it consists of (see ``rules``),
which write into the arrays themselves and into scratch. Small arrays are packed: they lie side by
side in flat ones, so that the passes are made once for all of them.

Whatever the way, each element is computed by the same operations in the same order as by the rule
itself, and comes out the same, bit for bit.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from xpnn import parallel
from xpnn.kernels import fast
from xpnn.kernels.fast import sweep
from xpnn.kernels.numpy_indexing import written_rows
from xpnn.kernels.numpy_memory import empty, scratch
from xpnn.kernels.rules import Program, Refused, Rule, State, rests, trace

__all__ = ["elementwise_update", "gradient_norm", "run_program"]

Array = Any
Arrays = Sequence[Array]

_BLOCK = 2**17  # elements a pass: of a quarter, two threads hand the GIL over more than they work
_SMALL = 2**15  # elements up to which an array is packed with others
_SHARED = 2**19  # elements from which a second thread pays
_LONG, _LONG_SHARED = 2**20, 2**18  # the same for compiled code, which reads on without a lock


def elementwise_update(
    rule: Rule,
    xp: Any,
    params: Arrays,
    grads: Arrays,
    states: list[State],
    reuse: Sequence[bool],
    scalars: Sequence[str],
    workspace: dict[Any, Any],
) -> list[Array]:
    """Return new parameters by an element-wise rule, ``rule(xp, p, g, state) -> (p, state)``.

    Parameters
    ----------
    rule : callable
        What it does to one element depends on the elements at the same place and on scalar states.
    xp : namespace
    params, grads : sequence of array
        Of one dtype, pairwise of one shape.
    states : list of dict
        Arrays for each parameter; they are written in place, or others put there.
    reuse : sequence of bool
        Nobody else can see the parameter, so that it may be written in place.
    scalars : sequence of str
        Names of the states that are one number a parameter.
    workspace : dict
        The optimizer's, for what is kept from step to step.
    """
    numbers = {name: states[0][name] for name in scalars}
    if any(state[name] != x for name, x in numbers.items() for state in states[1:]):
        return [
            elementwise_update(rule, xp, [p], [g], [state], [own], scalars, workspace)[0]
            for p, g, state, own in zip(params, grads, states, reuse, strict=True)
        ]
    names = [name for name in states[0] if name not in numbers] if numbers else list(states[0])
    small = [i for i, p in enumerate(params) if p.size <= _SMALL]
    if len(small) == len(params) and sum([p.size for p in params]) <= _BLOCK // 4:
        return _packed(rule, xp, params, grads, states, names, numbers, workspace)
    work = _Work(rule, xp, names, numbers, params[0].dtype)
    new: list[Array] = list(params)
    tasks: list[Any] = []
    views: list[Array] = []
    if small:
        ps, gs, few = ([xs[i] for i in small] for xs in (params, grads, states))
        pack = _filled(names, ps, gs, few, workspace)
        views = pack.params
        tasks.append(_Flat(work, pack.arrays))
    for i, p in enumerate(params):
        if p.size > _SMALL:
            new[i], task = _task(work, p, grads[i], states[i], reuse[i])
            tasks.append(task)
    _run(tasks)
    for state in states:
        state.update(work.numbers)
    for i, view in zip(small, views, strict=True):
        new[i] = view.copy()
    return new


def _packed(
    rule: Rule,
    xp: Any,
    params: Arrays,
    grads: Arrays,
    states: list[State],
    names: list[str],
    numbers: State,
    workspace: dict[Any, Any],
) -> list[Array]:
    """Make the step for few small arrays, for which a rule need not become a program."""
    pack = _filled(names, params, grads, states, workspace)
    p, new = rule(xp, pack.param, pack.grad, {**pack.state, **numbers})
    _write(pack.outputs, pack.ids, [p, *(new[name] for name in names)])
    if numbers:
        numbers = {name: np.asarray(new[name]) for name in numbers}
        for state in states:
            state.update(numbers)
    return [view.copy() for view in pack.params]


def _filled(
    names: list[str], params: Arrays, grads: Arrays, states: list[State], workspace: Any
) -> _Pack:
    """Return the pack of parameters and gradients, the one of the last step if it still fits."""
    pack: _Pack | None = workspace.get(id(states[0]))
    if pack is None or not pack.fits(names, params, states):
        pack = workspace[id(states[0])] = _Pack(names, params, states)
    for view, p in zip(pack.params, params, strict=True):
        view[...] = p
    for view, g in zip(pack.grads, grads, strict=True):
        view[...] = g
    return pack


def _task(work: _Work, p: Array, g: Array, state: State, reuse: bool) -> tuple[Array, Any]:
    """Return the new parameter, and the task that writes it."""
    p, arrays, source = _flat(work.names, p, g, state, reuse)
    rows = written_rows(g) if source is None else None
    if rows is None or not work.rests:
        return p, _Flat(work, arrays, source)
    return p, _Rows(work, arrays, rows, p.shape[0])


def _flat(
    names: list[str], p: Array, g: Array, state: State, reuse: bool
) -> tuple[Array, list[Array], Array]:
    """Return the new parameter; flat arrays to write into, it first; and what is in it at first."""
    source = None
    if not p.flags.c_contiguous:
        p = np.array(p, order="C")
    elif not (reuse and p.flags.writeable):
        source, p = p.reshape(-1), empty(p.shape, p.dtype)
    for name in names:
        if not state[name].flags.c_contiguous:
            state[name] = np.array(state[name], order="C")
    arrays = (p, np.ascontiguousarray(g), *[state[name] for name in names])
    return p, [x.reshape(-1) for x in arrays], source


def _run(tasks: list[Any]) -> None:
    """Do tasks in parts, on all threads if that pays."""
    least = _LONG_SHARED if fast.is_on() else _SHARED
    threads = parallel.get_num_threads() if sum([task.elements for task in tasks]) >= least else 1
    parts = [(task, *edges) for task in tasks for edges in task.cut(threads)]
    parallel.share(lambda part: part[0].do(*part[1:]), parts, threads > 1)


def _cut(length: int, elements: int, block: int, threads: int) -> Any:
    """Return the edges of the parts of a length: blocks, as many for each thread."""
    threads = max(1, min(threads, elements // (_BLOCK // 4)))
    parts = max(min(threads * -(-elements // (threads * block)), length), 1)
    return pairwise([length * j // parts for j in range(parts + 1)])


class _Work:
    """What is done to a block: the instructions of a rule, or where it has others, the rule."""

    def __init__(self, rule: Rule, xp: Any, names: list[str], numbers: State, dtype: Any) -> None:
        self.rule, self.xp, self.names, self.given = rule, xp, names, numbers
        self.program: Program | None = None
        try:
            self.program, self.constants, new = trace(rule, names, numbers, dtype)
        except Refused:
            one = np.ones(1, dtype)
            _, new = rule(xp, one, one, {**dict.fromkeys(names, one), **numbers})
        self.numbers = {name: np.asarray(new[name]) for name in numbers}  # after the step

    @functools.cached_property
    def rests(self) -> bool:
        """Whether nothing changes where the gradient is 0."""
        return self.program is not None and rests(self.program, self.constants)

    def __call__(self, arrays: list[Array]) -> None:
        if self.program is not None:
            run_program(self.program, self.constants, arrays)
            return
        p, g, *states = arrays
        given = {**dict(zip(self.names, states, strict=True)), **self.given}
        new_p, new = self.rule(self.xp, p, g, given)
        ids = frozenset(map(id, arrays))
        _write([p, *states], ids, [new_p, *(new[name] for name in self.names)])


def _write(arrays: list[Array], ids: frozenset[int], new: list[Array]) -> None:
    """Write results into arrays; what the rule was given, by id, or a view, is copied before."""
    new = [x if x.base is None and id(x) not in ids else x.copy() for x in new]
    for array, x in zip(arrays, new, strict=True):
        array[...] = x


class _Flat:
    """Work to be done to flat arrays: all of their elements."""

    def __init__(self, work: _Work, arrays: list[Array], source: Array = None) -> None:
        self.work, self.arrays, self.source = work, arrays, source
        self.elements = arrays[0].size

    def cut(self, threads: int) -> Any:
        block = _LONG if fast.is_on() else _BLOCK
        return _cut(self.elements, self.elements, block, threads)

    def do(self, low: int, high: int) -> None:
        arrays = [x[low:high] for x in self.arrays]
        if self.source is not None:
            np.copyto(arrays[0], self.source[low:high])
        self.work(arrays)


class _Rows:
    """Work to be done to some rows of tables, of which the others stay as they are."""

    def __init__(self, work: _Work, arrays: list[Array], rows: Array, length: int) -> None:
        self.work, self.rows = work, rows
        self.tables = [x.reshape(length, -1) for x in arrays]
        self.elements = rows.size * self.tables[0].shape[1]

    def cut(self, threads: int) -> Any:
        return _cut(self.rows.size, self.elements, _BLOCK, threads)

    def do(self, low: int, high: int) -> None:
        rows = self.rows[low:high]
        few = [np.take(x, rows, axis=0) for x in self.tables]
        self.work([x.reshape(-1) for x in few])
        for table, x in zip((self.tables[0], *self.tables[2:]), (few[0], *few[2:]), strict=True):
            table[rows] = x


@sweep
def run_program(program: Program, constants: list[Any], arrays: list[Array]) -> None:
    """Run the instructions of a rule on a block; the outputs are written into ``arrays``."""
    calls, rows = _plan(program)
    row = scratch("rule", (rows, arrays[0].size), arrays[0].dtype)
    places = [*arrays, *row, *map(np.asarray, reversed(constants))]  # ~i is constant i
    for function, out, x, *y in calls:  # in few words: other threads wait for the GIL
        if y:
            function(places[x], places[y[0]], out=places[out])
        else:
            function(places[x], out=places[out])


@functools.lru_cache(maxsize=256)
def _plan(program: Program) -> tuple[list[tuple[Any, ...]], int]:
    """Return what to call, where it puts its result and finds its values; and the rows of scratch.

    A place is an array or, numbered behind those, a row. An output goes into its array at once, if
    what was there is used no more; else into a row, and from there at the end. Other results go
    where an operand was that is used no more: fewer places are more likely in the cache.
    """
    arrays, last = program.arrays, program.last_uses()
    goal = {value: array for array, value in program.outputs}
    made = {array: value - arrays for array, value in program.outputs}
    place = {i: i for i in range(arrays)}
    there = dict(place)  # the value that is in an array now
    free: list[int] = []
    calls: list[tuple[Any, ...]] = []
    at_last: list[tuple[Any, ...]] = []
    rows = 0
    for i, (name, *used) in enumerate(program.code):
        value = arrays + i
        sources = [place[x] if x >= 0 else x for x in used]
        over = {place[x] for x in used if x >= 0 and last[x] == i and x not in goal}
        until = last.get(value, i)
        spare = [x for x in over if x < arrays and made.get(x, -1) > i and made[x] >= until]
        done = [x for x in over if x >= arrays]
        in_place = name != "sign"  # which NumPy makes ten times as slow in place
        if in_place:
            free += done
        else:
            spare = []
        if value in goal and last.get(there[goal[value]], -1) <= i:
            out = goal[value]
        elif value not in goal and spare:
            out = spare[0]
        else:
            if not free:
                free.append(arrays + rows)
                rows += 1
            out = free.pop()
            if value in goal:
                at_last.append((np.positive, goal[value], out))
        place[value] = out
        if out < arrays:
            there[out] = value
        if not in_place:
            free += done
        calls.append((getattr(np, name), out, *sources))
    return calls + at_last, rows


def gradient_norm(x: Array) -> Array:
    """Return the root of the sum of all squares, added up in fixed blocks: one pass, no squares."""
    flat = np.ascontiguousarray(x).reshape(-1)
    starts = range(0, flat.size, _BLOCK)
    sums = np.empty(len(starts), x.dtype)

    def add(start: int) -> None:
        few = flat[start : start + _BLOCK]
        # Rows, so that small numbers are not added to the large sum of all before.
        rows = few[: few.size // 512 * 512].reshape(-1, 512)
        rest = few[rows.size :]
        sums[start // _BLOCK] = np.sum(np.vecdot(rows, rows)) + np.vecdot(rest, rest)

    parallel.share(add, starts, flat.size >= _SHARED)
    return np.sqrt(np.sum(sums))


class _Pack:
    """Small arrays side by side in flat ones, and the views that are theirs."""

    def __init__(self, names: list[str], params: Arrays, states: list[State]) -> None:
        self.shapes = [p.shape for p in params]
        self.edges = np.cumsum([0, *(p.size for p in params)]).tolist()
        self.param, self.params = self._flat(params[0].dtype)
        self.grad, self.grads = self._flat(params[0].dtype)
        self.state: State = {}
        self.views: list[Array] = []
        for name in names:
            self.state[name], views = self._flat(params[0].dtype)
            for view, state in zip(views, states, strict=True):
                view[...] = state[name]
                state[name] = view
            self.views = self.views or views
        self.outputs = [self.param, *self.state.values()]
        self.arrays = [self.param, self.grad, *self.state.values()]
        self.ids = frozenset(map(id, self.arrays))

    def _flat(self, dtype: Any) -> tuple[Array, list[Array]]:
        flat = np.empty(self.edges[-1], dtype)
        spans = zip(pairwise(self.edges), self.shapes, strict=True)
        return flat, [flat[low:high].reshape(shape) for (low, high), shape in spans]

    def fits(self, names: list[str], params: Arrays, states: list[State]) -> bool:
        """Return whether these are the arrays it was made for; others may have been loaded."""
        if names != list(self.state) or self.grad.dtype != params[0].dtype:
            return False
        if not names:
            return self.shapes == [p.shape for p in params]
        now = [state.get(names[0]) for state in states]
        return len(now) == len(self.views) and all(map(operator.is_, now, self.views))
