"""The rule of an optimizer as CUDA: one kernel for many parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn.kernels.cupy_codegen import instructions, used
from xpnn.kernels.cupy_launch import DTYPES, prelude, wide
from xpnn.kernels.rules import ROWS, Program, State, trace

__all__ = ["NAME", "sources", "update_source"]

Array = Any

NAME = "xpnn_update"
_KERNEL = """
typedef {gradient} G;

// Four elements, in loads of at most 16 bytes.
template <typename X> struct alignas(sizeof(X) < 4 ? 4 * sizeof(X) : 16) Four {{ X at[4]; }};

__device__ __forceinline__ void rule({values}) {{
    {lines}
}}

extern "C" __global__ void xpnn_update(
    const u64* pointers, const i64* chunks, const A* constants{scalars}{skips}) {{
    {row}
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


def update_source(
    program: Program,
    constants: int,
    scalars: tuple[tuple[int, str], ...],
    rows: int,
    dtype: str,
    gradient: str,
) -> str:
    """Return the kernel of a rule as CUDA.

    Parameters
    ----------
    program : Program
    constants : int
        How many there are.
    scalars : tuple of (int, str)
        The numbers of those that are arrays of the device, further arguments of the kernel; and
        their types, ``A`` or ``bool``.
    rows : int
        How many times there are constants, to choose from by how many updates were skipped before;
        that is the last argument. With 1 there is no choice, and no such argument.
    dtype, gradient : str
        Of parameters and of gradients.
    """
    needed, goal = used(program), {0: 0, **dict(program.outputs)}
    inputs = [i for i in range(program.arrays) if i in needed or goal.get(i) == i]
    known = [i for i in range(constants) if ~i in needed]
    kinds = ["T", "G", *["A"] * (program.arrays - 2)]
    kind = {i: "A" for i in known} | dict(scalars)
    given = [*(f"A v{i}" for i in inputs), *(f"{kind[i]} c{i}" for i in known)]
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
        scalars="".join(f", const {kind} * s{i}" for i, kind in scalars),
        skips=", const int* skips" if rows > 1 else "",
        row=f"constants += {constants} * (*skips % {rows});" if rows > 1 else "",
        columns=program.arrays + 1,
        pointers=f"{each(inputs, source)}\n    {tos}",
        constants="\n    ".join(
            f"const {kind[i]} c{i} = {f'*s{i}' if i in dict(scalars) else f'constants[{i}]'};"
            for i in known
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
            for rows in (1, ROWS):
                name = f"update {dtype}, {gradient}, {rows}"
                key = program, len(constants), ((0, "A"),), rows, dtype, gradient
                listed[name] = update_source(*key)
    return listed
