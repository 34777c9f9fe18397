"""An element-wise function as a list of instructions: more than what optimizers may do.

Beside numbers there are truth values, of comparisons, which :func:`where <numpy.where>` takes.
What is not known here is refused, as in :mod:`xpnn.kernels.rules`: a function that can be followed
is element-wise.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from xpnn.kernels.rules import Program, Refused, Symbol, Tape

__all__ = ["FUNCTIONS", "Given", "trace_function"]

Array = Any

_NUMBERS = (
    "abs acos acosh asin asinh atan atanh ceil cos cosh exp expm1 floor log log10 log1p log2"
    " negative positive reciprocal round sign sin sinh sqrt square tan tanh trunc"
).split()
# By name: what a function takes, and what it gives: f a number, b a truth value.
FUNCTIONS: dict[str, str] = {
    **dict.fromkeys(_NUMBERS, "ff"),
    **dict.fromkeys("add divide maximum minimum multiply subtract".split(), "fff"),
    **dict.fromkeys("equal greater greater_equal less less_equal not_equal".split(), "ffb"),
    **dict.fromkeys("isfinite isinf isnan signbit".split(), "fb"),
    **dict.fromkeys("logical_and logical_or logical_xor".split(), "bbb"),
    "logical_not": "bb",
    "where": "bfff",
}
_EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


class Given(float):
    """A number that the caller chose, and what is computed from it: not part of a function."""

    __slots__ = ()


def _kept(f: Callable[..., Any], swapped: bool = False) -> Callable[..., Any]:
    def method(self: Given, *others: Any) -> Any:
        if not all(isinstance(x, (int, float)) for x in others):
            return NotImplemented
        operands = (float(self), *map(float, others))
        return Given(f(*(reversed(operands) if swapped else operands)))

    return method


for _name in ("add", "sub", "mul", "truediv"):
    setattr(Given, f"__{_name}__", _kept(getattr(operator, _name)))
    setattr(Given, f"__r{_name}__", _kept(getattr(operator, _name), swapped=True))
Given.__neg__ = _kept(operator.neg)  # type: ignore[method-assign]


class _ElementTape(Tape):
    """A tape for arrays of ``kind``, that are computed in ``dtype``."""

    def __init__(self, arrays: int, dtype: Any, kind: Any) -> None:
        super().__init__(arrays, dtype)
        self.kind = kind

    def write(self, name: str, *operands: Any) -> Symbol:
        *takes, gives = list(FUNCTIONS[name])
        if len(takes) != len(operands):
            raise Refused
        truths = [isinstance(x, _Truth) for x in operands]
        if truths != [kind == "b" for kind in takes]:
            raise Refused
        if not any(isinstance(x, _Number) for x in operands) and gives == "f":
            raise Refused  # of what dtype?
        found = super().write(name, *operands)
        return (_Truth if gives == "b" else _Number)(self, found.number)

    def number(self, x: Any) -> int:
        if type(x) is Given:
            self.constants.append(x)
            return -len(self.constants)
        return super().number(x)


def _operator(name: str) -> Callable[..., Any]:
    return lambda self, *others: self.tape.write(name, self, *others)


class _Number(Symbol):
    __slots__ = ()
    __hash__ = None

    @property
    def dtype(self) -> Any:
        return self.tape.kind  # type: ignore[attr-defined]

    __lt__, __le__ = _operator("less"), _operator("less_equal")
    __gt__, __ge__ = _operator("greater"), _operator("greater_equal")
    __eq__, __ne__ = _operator("equal"), _operator("not_equal")


class _Truth(Symbol):
    __slots__ = ()
    __hash__ = None
    __and__, __or__ = _operator("logical_and"), _operator("logical_or")
    __xor__, __invert__ = _operator("logical_xor"), _operator("logical_not")


class _Namespace:
    """The namespace that a function sees; one object, which primitives know by its name."""

    __name__ = __name__

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in FUNCTIONS:
            raise Refused

        def function(*operands: Any) -> Any:
            symbols = [x for x in operands if isinstance(x, Symbol)]
            if not symbols:
                raise Refused
            return symbols[0].tape.write(name, *operands)

        return function

    @staticmethod
    def zeros_like(x: Any) -> float:
        return _like(x, 0.0)

    @staticmethod
    def ones_like(x: Any) -> float:
        return _like(x, 1.0)

    @staticmethod
    def full_like(x: Any, value: float) -> float:
        return _like(x, value)

    @staticmethod
    def astype(x: Any, dtype: Any, *, copy: bool = True) -> Any:
        if not isinstance(x, _Number) or dtype != x.dtype:
            raise Refused
        return x

    @staticmethod
    def finfo(dtype: Any) -> Any:
        return SimpleNamespace(eps=_EPSILON[np.dtype(dtype).name])


def _like(x: Any, value: float) -> float:
    if not isinstance(x, _Number) or type(value) not in (int, float, Given):
        raise Refused
    return value


_namespace = _Namespace()


def trace_function(
    f: Callable[..., Any], arrays: int, static: dict[str, Any], kind: Any, dtype: Any
) -> tuple[Program, list[Any]]:
    """Return ``f(xp, *arrays, **static)`` as a program, and its constants.

    The program's output is a new array, numbered behind those that are given.

    Parameters
    ----------
    f : callable
    arrays : int
        How many it takes, all of one shape.
    static : dict
        Its other arguments. What a floating-point number among them becomes is a :class:`Given`
        among the constants; the others are numbers that belong to the function.
    kind, dtype : numpy.dtype
        Of the arrays, and of the arithmetic.

    Raises
    ------
    Refused
        If the function does anything else than to compute element by element, with the functions
        that are known here.
    """
    tape = _ElementTape(arrays, dtype, kind)
    given = {name: Given(x) if type(x) is float else x for name, x in static.items()}
    try:
        y = f(_namespace, *(_Number(tape, i) for i in range(arrays)), **given)
    except Refused:
        raise
    except Exception as error:  # the standard version says what is wrong, if it is
        raise Refused from error
    if not isinstance(y, _Number) or y.number < arrays:
        raise Refused
    return Program(arrays, tuple(tape.code), ((arrays, y.number),)), tape.constants
