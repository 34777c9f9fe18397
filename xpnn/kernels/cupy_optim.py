"""The optimizers' element-wise rules on a GPU: one launch for all parameters of a kind.

A rule is traced (:mod:`xpnn.kernels.rules`) and becomes one kernel, which reads each element of a
parameter, of its gradient and of its state once, and writes it once. A table of addresses and one
of chunks tell its blocks where; both stay on the device, and are written anew when an address
changes. Half precision is computed in float32, in which its state is.

The constants of a step, such as the learning rate, are an array of the device, so that a recorded
launch finds those of its turn: :func:`refresh` writes them. States that are one number stay on the
host, where constants are computed from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from xpnn import replay
from xpnn.errors import GraphError
from xpnn.kernels.cupy_codegen import instructions, used
from xpnn.kernels.cupy_launch import DTYPES, contiguous, cupy, kernel, prelude, wide
from xpnn.kernels.cupy_tables import Chunks, Mirror, mirror
from xpnn.kernels.rules import Program, Refused, Rule, State, trace

__all__ = ["elementwise_update", "follows", "refresh", "sources", "update_source"]

Array = Any
Arrays = Sequence[Array]

_THREADS = 256
_NAME = "xpnn_update"
_SEEN = (
    "a parameter is seen by somebody else (a graph that was kept, a view, a variable), so that it"
    " gets a new array in each step, which cannot be recorded. Let go of what holds it."
)
_KERNEL = """
typedef {gradient} G;

// Four elements, in loads of at most 16 bytes.
template <typename X> struct alignas(sizeof(X) < 4 ? 4 * sizeof(X) : 16) Four {{ X at[4]; }};

__device__ __forceinline__ void rule({values}) {{
    {lines}
}}

extern "C" __global__ void xpnn_update(
    const u64* pointers, const i64* chunks, const A* constants{scalars}) {{
    const i64* chunk = chunks + 3 * (i64)blockIdx.x;
    const u64* at = pointers + chunk[0] * {columns};
    const i64 start = chunk[1], n = chunk[2];
    {pointers}
    {constants}
    const i64 fours = ({addresses}) % 16 ? 0 : n / 4;
    for (i64 i = threadIdx.x; i < fours; i += blockDim.x) {{
        {loads}
        #pragma unroll
        for (int k = 0; k < 4; ++k) {{
            A {results};
            rule({packed});
            {gathered}
        }}
        {stores}
    }}
    for (i64 i = 4 * fours + threadIdx.x; i < n; i += blockDim.x) {{
        A {results};
        rule({single});
        {written}
    }}
}}
"""


class _Step(NamedTuple):
    """What a rule does in a step."""

    program: Program
    constants: list[Any]
    numbers: State  # after it


def update_source(
    program: Program, constants: int, scalars: frozenset[int], dtype: str, gradient: str
) -> str:
    """Return the kernel of a rule as CUDA.

    Parameters
    ----------
    program : Program
    constants : int
        How many there are.
    scalars : frozenset of int
        The numbers of those that are arrays of the device, further arguments of the kernel.
    dtype, gradient : str
        Of parameters and of gradients.
    """
    needed, goal = used(program), {0: 0, **dict(program.outputs)}
    inputs = [i for i in range(program.arrays) if i in needed or goal.get(i) == i]
    known = [i for i in range(constants) if ~i in needed]
    kinds = ["T", "G", *["A"] * (program.arrays - 2)]
    given = [*(f"A v{i}" for i in inputs), *(f"A c{i}" for i in known)]
    outputs = [f"A& y{i}" for i in goal]
    lines = instructions(program, lambda i: f"c{i}")
    lines += [f"y{i} = v{value};" for i, value in goal.items()]
    touched = sorted({*inputs, *goal})

    def column(i: int, to: bool = False) -> int:
        return 0 if to and i == 0 else i + 1

    def call(term: str) -> str:
        terms = [f"A({term.format(i)})" for i in inputs]
        return ", ".join([*terms, *(f"c{i}" for i in known), *(f"y{i}" for i in goal)])

    def each(numbers: Any, text: str) -> str:
        return "\n        ".join(
            text.format(i=i, kind=kinds[i], to=f"z{i}", column=column(i)) for i in numbers
        )

    source = "const {kind}* x{i} = reinterpret_cast<const {kind}*>(at[{column}]) + start;"
    tos = "\n    ".join(
        f"{kinds[i]}* z{i} = reinterpret_cast<{kinds[i]}*>(at[{column(i, True)}]) + start;"
        for i in goal
    )
    return prelude(dtype) + _KERNEL.format(
        gradient="T" if gradient == dtype else "A",
        values=", ".join([*given, *outputs]),
        lines="\n    ".join(lines),
        scalars="".join(f", const A* s{i}" for i in sorted(scalars)),
        columns=program.arrays + 1,
        pointers=f"{each(inputs, source)}\n    {tos}",
        constants="\n    ".join(
            f"const A c{i} = {f'*s{i}' if i in scalars else f'constants[{i}]'};" for i in known
        ),
        addresses=" | ".join(["at[0]", *(f"at[{column(i)}]" for i in touched)]),
        loads=each(
            inputs, "const Four<{kind}> p{i} = reinterpret_cast<const Four<{kind}>*>(x{i})[i];"
        )
        + "\n        "
        + each(goal, "Four<{kind}> q{i};"),
        results=", ".join(f"y{i}" for i in goal),
        packed=call("p{0}.at[k]"),
        gathered=each(goal, "q{i}.at[k] = {kind}(y{i});"),
        stores=each(goal, "reinterpret_cast<Four<{kind}>*>({to})[i] = q{i};"),
        single=call("x{0}[i]"),
        written=each(goal, "{to}[i] = {kind}(y{i});"),
    )


@lru_cache(maxsize=256)
def _function(*key: Any) -> Any:
    return kernel(update_source(*key), _NAME)


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
    """
    if not _one_number(states, scalars):
        return [
            elementwise_update(rule, xp, [p], [g], [state], [own], scalars, workspace)[0]
            for p, g, state, own in zip(params, grads, states, reuse, strict=True)
        ]
    names = [name for name in states[0] if name not in scalars]
    try:
        step = _traced(rule, names, states[0], scalars, params[0].dtype)
    except Refused:
        return [
            _by_the_rule(rule, xp, *each, scalars)
            for each in zip(params, grads, states, strict=True)
        ]
    key = id(states[0]), params[0].device.id
    batch = workspace.get(key)
    if batch is None or replay.current() is not None:
        batch = workspace[key] = _Batch()
    new = batch.launch(step, names, params, grads, states, reuse)
    for state in states:
        state.update(step.numbers)
    return new


def follows(
    rule: Rule, states: list[State], scalars: Sequence[str], workspace: dict[Any, Any]
) -> bool:
    """Return whether a launch that was recorded is also that of a step with this rule.

    Parameters are as for :func:`elementwise_update`; the workspace is that of the recording.
    """
    found = [_batch_of(few, workspace) for few in _launches(states, scalars)]
    return all(batch is not None and batch.follows(rule, scalars) for batch in found)


def refresh(
    rule: Rule, states: list[State], scalars: Sequence[str], workspace: dict[Any, Any]
) -> None:
    """Write the constants of a step for a launch that was recorded, and that it follows."""
    for few in _launches(states, scalars):
        numbers = _batch_of(few, workspace).refresh(rule, scalars)
        for state in few:
            state.update(numbers)


# What an optimizer has to know of this kernel.
elementwise_update.half_precision = True  # type: ignore[attr-defined]
elementwise_update.host_scalars = True  # type: ignore[attr-defined]
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


def _traced(
    rule: Rule, names: Sequence[str], state: State, scalars: Sequence[str], dtype: Any
) -> _Step:
    numbers = {name: state[name] for name in scalars}
    program, constants, new = trace(rule, names, numbers, np.dtype(wide(dtype)), cupy().ndarray)
    return _Step(program, constants, {name: np.asarray(x) for name, x in new.items()})


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
        self._next: _Step | None = None
        self.states: list[State] = []

    def launch(
        self,
        step: _Step,
        names: list[str],
        params: Arrays,
        grads: Arrays,
        states: list[State],
        reuse: Sequence[bool],
    ) -> list[Array]:
        """Return the new parameters; those of ``reuse`` and all states are written in place."""
        self._program, self._dtype, self._names = step.program, params[0].dtype, names
        self.states = states
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
        self._constants.place(self._values(step.constants))
        if replay.current() is None:
            self._constants.put(self._values(step.constants))
        scalars = {i: x for i, x in enumerate(step.constants) if isinstance(x, cupy().ndarray)}
        function = _function(
            step.program, len(step.constants), frozenset(scalars),
            params[0].dtype.name, grads[0].dtype.name,
        )  # fmt: skip
        tables = (pointers.array, chunks.table.array, self._constants.array)
        function((chunks.count,), (_THREADS,), (*tables, *(scalars[i] for i in sorted(scalars))))
        if replay.current() is not None:  # what it reads stays, as long as it may be replayed
            self._tables["held"] = held, tables, scalars
        return new

    def _values(self, constants: list[Any]) -> Array:
        values = [0.0 if isinstance(x, cupy().ndarray) else x for x in constants]
        return np.asarray(values or [0.0], wide(self._dtype))

    def follows(self, rule: Rule, scalars: Sequence[str]) -> bool:
        self._next = None
        try:
            step = _traced(rule, self._names, self.states[0], scalars, self._dtype)
        except Refused:
            return False
        self._next = step
        return step.program == self._program

    def refresh(self, rule: Rule, scalars: Sequence[str]) -> State:
        step = self._next or _traced(rule, self._names, self.states[0], scalars, self._dtype)
        self._next = None
        self._constants.put(self._values(step.constants))
        return step.numbers


def sources() -> dict[str, str]:
    """Return the kernel of one rule, by dtype of parameters and gradients, for the compile check.

    All functions of rules are in the kernel that ``cupy_elementwise`` lists.
    """

    def rule(xp: Any, p: Array, g: Array, state: State) -> tuple[Array, State]:
        m = 0.9 * state["m"] + 0.1 * g
        return p - 1e-3 * m / (xp.sqrt(state["v"]) + 1e-8), {"m": m, "v": xp.maximum(m, g * g)}

    listed = {}
    for dtype in DTYPES:
        for gradient in sorted({dtype, wide(dtype)}):
            work = np.dtype(wide(dtype))
            program, constants, _ = trace(rule, ("m", "v"), {}, work)
            key = program, len(constants), frozenset({0}), dtype, gradient
            listed[f"update {dtype}, {gradient}"] = update_source(*key)
    return listed
