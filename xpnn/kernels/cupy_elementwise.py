"""Element-wise functions of CuPy's arrays, each one kernel: generated from its standard version.

The function is run on symbols once, for a dtype and its static parameters, and becomes CUDA
(:mod:`xpnn.kernels.cupy_codegen`). What cannot be followed so is not element-wise, and runs as it
is written; so does what is one operation, for which CuPy has a kernel of its own. Beside a Python
number that kernel widens bfloat16, and only there one operation becomes a kernel too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.kernels.cupy_codegen import EXPRESSIONS, instructions, literal, used
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
        for (int k = 0; k < WIDTH; ++k) {{
            out.at[k] = {name}_at({packed});{steps}
        }}
        reinterpret_cast<Pack*>(y)[i] = out;
    }}
    FOR_EACH(j, n - packs * WIDTH) {{
        const i64 i = packs * WIDTH + j;
        y[i] = {name}_at({single});
    }}
}}
"""


def elementwise_source(
    name: str, program: Program, constants: list[Any], repeated: frozenset[int] = frozenset()
) -> tuple[str, list[int]]:
    """Return a kernel as CUDA, and the numbers of the constants that are its last arguments.

    Those are what the caller gave; the other constants belong to the function, and stand in it.
    Before them come the sizes of the arrays that are ``repeated``, because they broadcast along
    leading axes.
    """
    given = [i for i, c in enumerate(constants) if type(c) is Given and ~i in used(program)]

    def constant(i: int) -> str:
        return f"c{i}" if i in given else literal(constants[i])

    arrays, scalars = range(program.arrays), [f"c{i}" for i in given]
    whole, again = [i for i in arrays if i not in repeated], sorted(repeated)
    ((_, result),) = program.outputs

    def call(term: str, of_repeated: str) -> str:
        terms = ((of_repeated if i in repeated else term).format(i) for i in arrays)
        return ", ".join([*(f"A({x})" for x in terms), *scalars])

    text = _KERNEL.format(
        name=name,
        values=", ".join([*(f"A v{i}" for i in arrays), *(f"A {c}" for c in scalars)]),
        lines="\n    ".join(instructions(program, constant)),
        result=result,
        pointers=", ".join(f"const T* x{i}" for i in arrays),
        parameters="".join([*(f", i64 m{i}" for i in again), *(f", double {c}" for c in scalars)]),
        loads="\n        ".join(
            [f"const Pack p{i} = reinterpret_cast<const Pack*>(x{i})[i];" for i in whole]
            + [f"i64 j{i} = i * WIDTH % m{i};" for i in again]
        ),
        packed=call("p{0}.at[k]", "x{0}[j{0}]"),
        steps="".join(f"\n            if (++j{i} == m{i}) j{i} = 0;" for i in again),
        single=call("x{0}[i]", "x{0}[i % m{0}]"),
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

    __slots__ = ("_constants", "_function", "_repeated")

    def __init__(
        self,
        name: str,
        program: Program,
        constants: list[Any],
        dtype: str,
        repeated: frozenset[int],
    ) -> None:
        name = f"xpnn_{name}"  # CUDA has an erf of its own
        text, given = elementwise_source(name, program, constants, repeated)
        self._function = kernel(prelude(dtype) + text, name)
        self._repeated = sorted(repeated)
        self._constants = tuple(np.float64(constants[i]) for i in given)

    def __call__(self, arrays: tuple[Array, ...]) -> Array:
        arrays = tuple(map(contiguous, arrays))
        y = cupy().empty(arrays[0].shape, arrays[0].dtype)
        if not y.size:  # a grid of no blocks is an error
            return y
        n, together = y.size, packs(y, *arrays)
        sizes = [arrays[i].size for i in self._repeated]
        args = (*arrays, y, n, together, *sizes, *self._constants)
        launch_flat(self._function, n, together, y.itemsize, *args)
        return y


def fused(name: str, f: Callable[..., Array]) -> Callable[..., Array]:
    """Return ``f(xp, *arrays, **static)`` as one kernel where it can be, else as it is.

    The first array has the shape of the result; others may repeat along its leading axes.
    """
    plans: dict[Any, _Plan | None] = {}

    def function(xp: Any, *arrays: Any, **static: Any) -> Array:
        first = arrays[0]
        if type(first) is not cupy().ndarray:
            return f(xp, *arrays, **static)
        shape, dtype, others = first.shape, first.dtype, []
        for x in arrays[1:]:
            if type(x) is not type(first) or x.dtype != dtype:
                return f(xp, *arrays, **static)
            others.append(x.shape == shape)
            if not others[-1] and not _repeats(x.shape, shape):
                return f(xp, *arrays, **static)
        key = (dtype, *others, *static.values())
        try:
            plan = plans[key]
        except KeyError:
            if len(plans) >= _PLANS:
                plans.clear()
            repeated = frozenset(i for i, whole in enumerate(others, 1) if not whole)
            plan = plans[key] = _plan(name, f, len(arrays), static, dtype, repeated)
        except TypeError:  # a static parameter is a list, say
            plan = None
        return f(xp, *arrays, **static) if plan is None else plan(arrays)

    return function


def _repeats(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Return whether an array broadcasts to a shape along its leading axes only."""
    if len(shape) > len(whole):  # the result has more axes too, of length 1
        return False
    shape = shape[next((i for i, n in enumerate(shape) if n != 1), len(shape)) :]
    return shape == whole[len(whole) - len(shape) :]


def _plan(
    name: str,
    f: Callable[..., Array],
    arrays: int,
    static: dict[str, Any],
    dtype: Any,
    repeated: frozenset[int],
) -> _Plan | None:
    if dtype.name not in DTYPES:
        return None
    try:
        program, constants = trace_function(f, arrays, static, dtype, np.dtype(wide(dtype.name)))
        widens = dtype.name == "bfloat16" and constants
        if len(program.code) < 2 and not widens:
            return None
        return _Plan(name, program, constants, dtype.name, repeated)
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
        for repeated in (frozenset[int](), frozenset({1})):
            text, _ = elementwise_source("everything", program, constants, repeated)
            listed[f"{name}, {len(repeated)} repeated"] = prelude(name) + text
    return listed
