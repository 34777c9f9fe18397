"""Element-wise functions of CuPy's arrays, each one kernel: generated from its standard version.

The function is run on symbols once, for a dtype and its static parameters, and becomes CUDA
(:mod:`xpnn.kernels.cupy_codegen`). What cannot be followed so is not element-wise, and runs as it
is written; so does what is one operation, for which CuPy has a kernel of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.kernels.cupy_codegen import EXPRESSIONS, instructions, literal, used_constants
from xpnn.kernels.cupy_launch import DTYPES, contiguous, cupy, kernel, prelude, wide
from xpnn.kernels.element_rules import FUNCTIONS, Given, trace_function
from xpnn.kernels.rules import Program, Refused

__all__ = ["elementwise_source", "fused", "launch_flat", "packs", "sources"]

Array = Any

_THREADS = 256
_BLOCKS = 4096  # at most; the kernels stride over what is left
_PLANS = 256  # of a function, one for each dtype and static parameters

_KERNEL = """
__device__ __forceinline__ T {name}_at({values}) {{
    {lines}
    return T(v{result});
}}

extern "C" __global__ void {name}({pointers}, T* y, i64 n, i64 packs{parameters}) {{
    FOR_EACH(i, packs) {{
        {loads}
        Pack out;
        #pragma unroll
        for (int k = 0; k < WIDTH; ++k) out.at[k] = {name}_at({packed});
        reinterpret_cast<Pack*>(y)[i] = out;
    }}
    FOR_EACH(j, n - packs * WIDTH) {{
        const i64 i = packs * WIDTH + j;
        y[i] = {name}_at({single});
    }}
}}
"""


def elementwise_source(name: str, program: Program, constants: list[Any]) -> tuple[str, list[int]]:
    """Return a kernel as CUDA, and the numbers of the constants that are its last arguments.

    Those are what the caller gave; the other constants belong to the function, and stand in it.
    """
    given = [i for i in used_constants(program) if type(constants[i]) is Given]

    def constant(i: int) -> str:
        return f"c{i}" if i in given else literal(constants[i])

    arrays, scalars = range(program.arrays), [f"c{i}" for i in given]
    ((_, result),) = program.outputs

    def call(term: str) -> str:
        return ", ".join([*(term.format(i) for i in arrays), *scalars])

    text = _KERNEL.format(
        name=name,
        values=", ".join([*(f"A v{i}" for i in arrays), *(f"A {c}" for c in scalars)]),
        lines="\n    ".join(instructions(program, constant)),
        result=result,
        pointers=", ".join(f"const T* x{i}" for i in arrays),
        parameters="".join(f", double c{i}" for i in given),
        loads="\n        ".join(
            f"const Pack p{i} = reinterpret_cast<const Pack*>(x{i})[i];" for i in arrays
        ),
        packed=call("A(p{0}.at[k])"),
        single=call("A(x{0}[i])"),
    )
    return text, given


def packs(*arrays: Array) -> int:
    """Return how many times 16 bytes can be read and written at once."""
    x = arrays[0]
    aligned = not any(a.data.ptr % 16 for a in arrays)
    return x.size * x.itemsize // 16 if aligned else 0


def launch_flat(function: Any, n: int, together: int, itemsize: int, *args: Any) -> None:
    """Run a kernel that strides over ``together`` packs, then over what is left of n elements."""
    threads = max(together, n - together * (16 // itemsize))
    function((min(-(-threads // _THREADS), _BLOCKS),), (_THREADS,), args)


class _Plan:
    """A function that became a kernel, for a dtype and its static parameters."""

    __slots__ = ("arguments", "function")

    def __init__(self, name: str, program: Program, constants: list[Any], dtype: str) -> None:
        name = f"xpnn_{name}"  # CUDA has an erf of its own
        text, given = elementwise_source(name, program, constants)
        self.function = kernel(prelude(dtype) + text, name)
        self.arguments = tuple(np.float64(constants[i]) for i in given)

    def __call__(self, arrays: tuple[Array, ...]) -> Array:
        arrays = tuple(map(contiguous, arrays))
        y = cupy().empty(arrays[0].shape, arrays[0].dtype)
        n, together = y.size, packs(*arrays, y)
        launch_flat(
            self.function, n, together, y.itemsize, *arrays, y, n, together, *self.arguments
        )
        return y


def fused(name: str, f: Callable[..., Array]) -> Callable[..., Array]:
    """Return ``f(xp, *arrays, **static)`` as one kernel where it can be, else as it is."""
    plans: dict[Any, _Plan | None] = {}

    def function(xp: Any, *arrays: Any, **static: Any) -> Array:
        first = arrays[0]
        if type(first) is not cupy().ndarray or not first.size:
            return f(xp, *arrays, **static)
        key = (first.dtype, len(arrays), *static.values())
        try:
            plan = plans[key]
        except KeyError:
            if len(plans) >= _PLANS:
                plans.clear()
            plan = plans[key] = _plan(name, f, len(arrays), static, first.dtype)
        except TypeError:  # a static parameter is a list, say
            plan = None
        if plan is None or not all(_alike(x, first) for x in arrays[1:]):
            return f(xp, *arrays, **static)
        return plan(arrays)

    return function


def _alike(x: Any, first: Array) -> bool:
    return type(x) is type(first) and x.shape == first.shape and x.dtype == first.dtype


def _plan(
    name: str, f: Callable[..., Array], arrays: int, static: dict[str, Any], dtype: Any
) -> _Plan | None:
    if dtype.name not in DTYPES:
        return None
    try:
        program, constants = trace_function(f, arrays, static, dtype, np.dtype(wide(dtype.name)))
        if len(program.code) < 2:
            return None
        return _Plan(name, program, constants, dtype.name)
    except Refused:
        return None


def sources() -> dict[str, str]:
    """Return a kernel of all functions that there are, by dtype, for the compile check."""

    def everything(xp: Any, x: Array, g: Array, alpha: float) -> Array:
        total = g
        for name, kinds in FUNCTIONS.items():
            *takes, gives = list(kinds)
            operands = {"f": (x, g, total), "b": (x > g, total < alpha)}
            found = getattr(xp, name)(*(operands[kind][i % 2] for i, kind in enumerate(takes)))
            total = total + (xp.where(found, x, 1 / alpha) if gives == "b" else found)
        return total

    assert EXPRESSIONS.keys() == FUNCTIONS.keys()
    listed = {}
    for name in DTYPES:
        given = {"alpha": 0.3}
        program, constants = trace_function(
            everything, 2, given, np.dtype("float32"), np.dtype(wide(name))
        )
        text, _ = elementwise_source("everything", program, constants)
        listed[name] = prelude(name) + text
    return listed
