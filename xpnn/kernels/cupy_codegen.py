"""The instructions of an element-wise rule as CUDA.

Every value is a variable, computed in the arithmetic type ``A``. The compiler may join a product
and a sum into one fused multiply-add, and does nothing else to the equations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xpnn.kernels.rules import Program, Refused

__all__ = ["EXPRESSIONS", "instructions", "literal", "used"]

_TRUTHS = {
    "equal": "{0} == {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "isfinite": "isfinite({0})",
    "isinf": "isinf({0})",
    "isnan": "{0} != {0}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "logical_and": "{0} && {1}",
    "logical_not": "!{0}",
    "logical_or": "{0} || {1}",
    "logical_xor": "{0} != {1}",
    "not_equal": "{0} != {1}",
    "signbit": "signbit({0})",
}
_SAME = "acos acosh asin asinh atan atanh ceil cos cosh exp expm1 floor log log10 log1p log2 sin"
# In CUDA, by NumPy's names. A NaN goes through maximum and minimum, and sign(0) is 0.
EXPRESSIONS = {
    **_TRUTHS,
    **{name: f"{name}({{0}})" for name in f"{_SAME} sinh sqrt tan tanh trunc".split()},
    "abs": "fabs({0})",
    "add": "{0} + {1}",
    "divide": "{0} / {1}",
    "maximum": "({0} >= {1} || {0} != {0}) ? {0} : {1}",
    "minimum": "({0} <= {1} || {0} != {0}) ? {0} : {1}",
    "multiply": "{0} * {1}",
    "negative": "-{0}",
    "positive": "{0}",
    "reciprocal": "A(1) / {0}",
    "round": "rint({0})",
    "sign": "{0} != {0} ? {0} : A(({0} > 0) - ({0} < 0))",
    "square": "{0} * {0}",
    "subtract": "{0} - {1}",
    "where": "{0} ? {1} : {2}",
}


def used(program: Program) -> set[int]:
    """Return the numbers of all values and constants that the outputs of a program come from."""
    found = {value for _, value in program.outputs}
    for value in range(program.arrays + len(program.code) - 1, program.arrays - 1, -1):
        if value in found:
            found |= set(program.code[value - program.arrays][1:])
    return found


def instructions(program: Program, constant: Callable[[int], str]) -> list[str]:
    """Return lines of CUDA that compute the values of a program from ``v0``, ``v1``, ....

    ``constant`` gives the expression of a constant by its number.

    Raises
    ------
    Refused
        If the program has a function that is not known here.
    """

    def term(value: int) -> str:
        return f"v{value}" if value >= 0 else constant(~value)

    lines, wanted = [], used(program)
    for value, (name, *operands) in enumerate(program.code, program.arrays):
        if value not in wanted:
            continue
        if name not in EXPRESSIONS:
            raise Refused
        kind = "bool" if name in _TRUTHS else "A"
        lines.append(f"const {kind} v{value} = {EXPRESSIONS[name].format(*map(term, operands))};")
    return lines


def literal(x: Any) -> str:
    """Return a number as an expression of type ``A`` that has its value exactly."""
    x = float(x)
    if math.isnan(x):
        return "A(NAN)"
    if math.isinf(x):
        return "A(INFINITY)" if x > 0 else "A(-INFINITY)"
    return f"A({x.hex()})"
