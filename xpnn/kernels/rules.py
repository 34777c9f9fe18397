"""An element-wise rule as a list of instructions: written down by running it on symbols.

The equations of an optimizer are Python, ``rule(xp, p, g, state)``. Run on :class:`Symbol` they
leave behind what they would have computed, and a library can do it in its own way: without new
arrays, block by block, compiled.

A value is a number. The arrays that are given come first: the parameter 0, its gradient 1, the
states from 2; instruction i makes the value behind those and the instructions before it. The
numbers ~0, ~1, ... are constants, such as the learning rate. They change from step to step, the
instructions do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["ROWS", "Program", "Refused", "Rule", "State", "Symbol", "Tape", "rests", "trace"]

Array = Any
State = dict[str, Array]
Rule = Callable[[Any, Array, Array, State], tuple[Array, State]]

# For how many numbers of updates made there are constants on a device, while it alone knows which.
ROWS = 3

# Element-wise functions of the standard by their names, which are NumPy's.
_UNARY = frozenset(
    "abs exp expm1 log log1p negative positive reciprocal sign sqrt square tanh".split()
)
_BINARY = frozenset("add divide maximum minimum multiply subtract".split())


class Refused(Exception):
    """A rule does something else than to compute element by element."""


class Program(NamedTuple):
    """Instructions, and which values end up in the arrays.

    Attributes
    ----------
    arrays : int
        How many are given.
    code : tuple of tuples
        The name of a function, and the values it is computed from.
    outputs : tuple of (int, int)
        An array, and the value of an instruction that is written into it; each at most once.
    """

    arrays: int
    code: tuple[tuple[Any, ...], ...]
    outputs: tuple[tuple[int, int], ...]

    def last_uses(self) -> dict[int, int]:
        """Return the last instruction that uses each value."""
        return {value: i for i, (_, *used) in enumerate(self.code) for value in used}


_ZERO_OF_ZERO = frozenset(("abs", "negative", "positive", "sign", "sqrt", "square"))


def rests(program: Program, constants: Sequence[Any]) -> bool:
    """Return whether a rule changes nothing, neither parameter nor state, where a gradient is 0.

    So it is if what comes of the gradient is 0, and is subtracted. An infinity in an array would
    make NaN of a product with 0, so there are none but with constants.
    """
    zeros, same = {1}, {i: i for i in range(program.arrays)}
    finite = {~i for i, x in enumerate(constants) if np.isfinite(x)}
    clips = {
        "maximum": {i for i in finite if constants[~i] <= 0},
        "minimum": {i for i in finite if constants[~i] >= 0},
    }
    for value, (name, *used) in enumerate(program.code, program.arrays):
        if name == "multiply" and set(used) <= zeros | finite and set(used) & zeros:
            zeros.add(value)
        elif name in _ZERO_OF_ZERO and used[0] in zeros:
            zeros.add(value)
        elif name in clips and used[0] in zeros and used[1] in clips[name]:
            zeros.add(value)
        elif name == "subtract" and used[1] in zeros and used[0] in same:
            same[value] = same[used[0]]
    return all(same.get(value) == array for array, value in program.outputs)


class Tape:
    """What symbols write their instructions on.

    Attributes
    ----------
    arrays : int
        How many are given.
    dtype : numpy.dtype
        That of the arithmetic.
    scalars : type or None
        Of 0-d arrays that stay what they are, constants whose values the host does not know.
    code, constants : list
        What was written.
    """

    def __init__(self, arrays: int, dtype: Any, scalars: Any = None) -> None:
        self.arrays, self.dtype, self.scalars = arrays, dtype, scalars
        self.code: list[tuple[Any, ...]] = []
        self.constants: list[Any] = []

    def write(self, name: str, *operands: Any) -> Symbol:
        """Note an instruction, and return its value."""
        self.code.append((name, *map(self.number, operands)))
        return Symbol(self, self.arrays + len(self.code) - 1)

    def number(self, x: Any) -> int:
        """Return the number of a value, which a constant gets now."""
        if isinstance(x, Symbol):
            return x.number
        if self._is_unknown(x):
            return self._unknown(x, self.dtype)
        if type(x) in (int, float) or (_is_scalar(x) and x.dtype == self.dtype):
            self.constants.append(self.dtype.type(x))
        else:
            raise Refused  # it would make the result another dtype
        return -len(self.constants)

    def where(self, flag: Any, x: Any, y: Any) -> Symbol:
        """Note a choice by a truth value that the host does not know, one for all elements."""
        if not self._is_unknown(flag):
            raise Refused
        number = self._unknown(flag, np.dtype(bool))
        self.code.append(("where", number, self.number(x), self.number(y)))
        return Symbol(self, self.arrays + len(self.code) - 1)

    def _is_unknown(self, x: Any) -> bool:
        return self.scalars is not None and isinstance(x, self.scalars)

    def _unknown(self, x: Any, dtype: Any) -> int:
        """Return the number of a 0-d array, the same wherever it is used."""
        if x.ndim or x.dtype != dtype:
            raise Refused
        known = [i for i, c in enumerate(self.constants) if c is x]
        if not known:
            self.constants.append(x)
        return ~known[0] if known else -len(self.constants)


def _is_scalar(x: Any) -> bool:
    return isinstance(x, (np.ndarray, np.generic)) and x.ndim == 0


def _operator(name: str) -> tuple[Callable[..., Symbol], Callable[..., Symbol]]:
    def method(self: Symbol, other: Any) -> Symbol:
        return self.tape.write(name, self, other)

    def reflected(self: Symbol, other: Any) -> Symbol:
        return self.tape.write(name, other, self)

    return method, reflected


class Symbol:
    """A value of a rule, of which nothing is known but where it comes from."""

    __slots__ = ("number", "tape")
    __array_ufunc__ = None  # NumPy's scalars leave operators to this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tape: Tape, number: int) -> None:
        self.tape, self.number = tape, number

    __add__, __radd__ = _operator("add")
    __sub__, __rsub__ = _operator("subtract")
    __mul__, __rmul__ = _operator("multiply")
    __truediv__, __rtruediv__ = _operator("divide")

    def __pow__(self, power: Any) -> Symbol:
        if type(power) not in (int, float) or power != 2:
            raise Refused
        return self.tape.write("square", self)

    def __neg__(self) -> Symbol:
        return self.tape.write("negative", self)

    def __abs__(self) -> Symbol:
        return self.tape.write("abs", self)

    def _refuse(self, *args: Any) -> Any:
        raise Refused

    __getattr__ = __getitem__ = __bool__ = __len__ = __iter__ = __float__ = __array__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse


class _Functions:
    """The namespace that a rule sees: functions of symbols."""

    def __getattr__(self, name: str) -> Callable[..., Symbol]:
        arity = 1 if name in _UNARY else 2 if name in _BINARY else 0

        def function(*operands: Any) -> Symbol:
            symbols = [x for x in operands if isinstance(x, Symbol)]
            if not symbols:
                raise Refused
            if name == "where" and len(operands) == 3:
                return symbols[0].tape.where(*operands)
            if len(operands) != arity:
                raise Refused
            return symbols[0].tape.write(name, *operands)

        return function


_functions = _Functions()


def trace(
    rule: Rule,
    names: Sequence[str],
    scalars: State,
    dtype: Any,
    constants: Any = None,
) -> tuple[Program, list[Any], State]:
    """Return a rule as a program, the constants of this step, and the new scalar state.

    Parameters
    ----------
    rule : callable
        ``rule(xp, p, g, state) -> (p, state)``.
    names : sequence of str
        Of the states that are arrays, in the order of the program's.
    scalars : dict
        States that are one number, as 0-d arrays.
    dtype : numpy.dtype
        Of all arrays.
    constants : type, optional
        Of 0-d arrays, such as a clipping factor, that are constants as they are: to look at one,
        the host would have to wait for it. By one of a boolean ``where`` may choose.

    Raises
    ------
    Refused
        If the rule does anything else than to compute element by element, with the functions that
        are known here.
    """
    tape = Tape(2 + len(names), dtype, constants)
    p, g, *states = (Symbol(tape, i) for i in range(tape.arrays))
    try:
        p, new = rule(_functions, p, g, {**dict(zip(names, states, strict=True)), **scalars})
    except (TypeError, ValueError) as error:  # an operator that symbols have not
        raise Refused from error
    if new.keys() != {*names, *scalars} or any(isinstance(new[x], Symbol) for x in scalars):
        raise Refused
    outputs: list[tuple[int, int]] = []
    for array, x in [(0, p), *((2 + i, new[name]) for i, name in enumerate(names))]:
        if not isinstance(x, Symbol):
            raise Refused
        if x.number == array:
            continue
        if x.number < tape.arrays or any(x.number == value for _, value in outputs):
            x = tape.write("positive", x)  # what is written comes from an instruction of its own
        outputs.append((array, x.number))
    program = Program(tape.arrays, tuple(tape.code), tuple(outputs))
    return program, tape.constants, {name: new[name] for name in scalars}
