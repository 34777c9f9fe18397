"""Rules of optimizers compiled: each element is read once, and written once.

A rule's instructions become one loop, written here as source text. Compiling it takes longer than
NumPy takes for ``_ENOUGH`` elements, so NumPy has the first steps: little is lost on a short run.
Numba keeps what it compiled on the disk, for the next process. The loop rounds like NumPy,
operation by operation, so it makes no difference which of them makes a step, except to the time it
takes.
"""

# mypy: disable-error-code="no-untyped-call, no-untyped-def, untyped-decorator"
from __future__ import annotations

import hashlib
import threading
from collections import Counter
from typing import Any

import numpy as np
from numba import from_dtype, njit, types

from xpnn.kernels import numpy_optim
from xpnn.kernels.rules import Program

__all__ = ["run_program"]

Array = Any

_ENOUGH = 2**24  # elements: 50 ms or so

# What computes the same bits as the functions of NumPy of these names.
_EXPRESSIONS = {
    "abs": "abs({0})",
    "add": "{0} + {1}",
    "divide": "{0} / {1}",
    "maximum": "{0} if {0} >= {1} or {0} != {0} else {1}",
    "minimum": "{0} if {0} <= {1} or {0} != {0} else {1}",
    "multiply": "{0} * {1}",
    "negative": "-{0}",
    "positive": "{0}",
    "sign": "{0} if {0} != {0} else one if {0} > zero else -one if {0} < zero else zero",
    "sqrt": "sqrt({0})",
    "square": "{0} * {0}",
    "subtract": "{0} - {1}",
}
_lock = threading.Lock()
_done: Counter[Any] = Counter()
_loops: dict[Any, Any] = {}


def run_program(program: Program, constants: list[Any], arrays: list[Array]) -> None:
    """Run the instructions of a rule on a block; the outputs are written into ``arrays``."""
    key = program, arrays[0].dtype
    if (loop := _loops.get(key)) is None:
        _done[key] += arrays[0].size
        if _done[key] > _ENOUGH and _lock.acquire(blocking=False):  # other threads go on meanwhile
            try:
                loop = _loops[key] = _compiled(program, arrays[0].dtype)
            finally:
                _lock.release()
    if loop and arrays[1].flags.aligned:
        loop(*arrays, np.array(constants, arrays[0].dtype))
    else:
        step = numpy_optim._BLOCK
        for i in range(0, arrays[0].size, step):
            few = [x[i : i + step] for x in arrays]
            numpy_optim.run_program.plain(program, constants, few)


def _compiled(program: Program, dtype: Any) -> Any:
    """Return the loop for a program and a dtype, or False if it has functions not known here."""
    if not {name for name, *_ in program.code} <= _EXPRESSIONS.keys():
        return False
    # Numba finds what it compiled before by file, name, signature and bytecode, which says nothing
    # of the functions that are called: so the name is that of the text.
    body = _source(program)
    name = f"rule_{hashlib.sha256(body.encode()).hexdigest()[:32]}"
    scope = {"sqrt": np.sqrt, "zero": dtype.type(0), "one": dtype.type(1), "__name__": __name__}
    exec(compile(f"def {name}{body}", __file__, "exec"), scope)
    number = from_dtype(dtype)
    array = types.Array(number, 1, "C")
    given = types.Array(number, 1, "C", readonly=True)
    signature = types.void(array, given, *[array] * (program.arrays - 2), array)
    return njit(signature, nogil=True, cache=True, error_model="numpy")(scope[name])


def _source(program: Program) -> str:
    """Return the loop as text, from the parameters on."""

    def term(value: int) -> str:
        return f"v{value}" if value >= 0 else f"c{~value}"

    used = {~x for _, *operands in program.code for x in operands if x < 0}
    lines = [f"({', '.join(f'x{j}' for j in range(program.arrays))}, c):"]
    lines += [f"    c{j} = c[{j}]" for j in sorted(used)]
    lines += ["    for k in range(x0.size):"]
    lines += [f"        v{j} = x{j}[k]" for j in range(program.arrays)]
    for i, (name, *operands) in enumerate(program.code, program.arrays):
        lines.append(f"        v{i} = " + _EXPRESSIONS[name].format(*map(term, operands)))
    lines += [f"        x{array}[k] = v{value}" for array, value in program.outputs]
    return "\n".join(lines)
