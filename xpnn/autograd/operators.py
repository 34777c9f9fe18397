"""The operators of Tensors, ``x + y``, ``x @ y``, ``x < y``, ...: each is a primitive applied."""

from __future__ import annotations

from typing import Any

from xpnn.autograd.record import Tracked, apply
from xpnn.backend import NAMESPACE_OF, ArrayWrapper, array_namespace
from xpnn.errors import DTypeError
from xpnn.primitives import elementwise as e
from xpnn.primitives import products
from xpnn.primitives.base import Primitive

__all__ = ["Operators"]


def _operator(primitive: Primitive) -> Any:
    def method(self: Tracked, other: Any, /) -> Any:
        return apply(primitive, (self, other)) if _is_operand(other) else NotImplemented

    return method


def _reflected(primitive: Primitive) -> Any:
    def method(self: Tracked, other: Any, /) -> Any:
        return apply(primitive, (other, self)) if _is_operand(other) else NotImplemented

    return method


def _unary(primitive: Primitive) -> Any:
    def method(self: Tracked, /) -> Any:
        return apply(primitive, (self,))

    return method


def _is_operand(x: Any) -> bool:
    if isinstance(x, (ArrayWrapper, bool, int, float, complex)) or type(x) in NAMESPACE_OF:
        return True
    try:  # the first array of its kind
        array_namespace(x)
    except DTypeError:
        return False
    return True


class Operators(Tracked):
    """The operators of the standard, with scalars and raw arrays of the library on either side.

    There are no in-place operators: ``x += y`` makes a new Tensor and leaves the old to the tape.
    """

    __slots__ = ()

    __add__, __radd__ = _operator(e.add), _reflected(e.add)
    __sub__, __rsub__ = _operator(e.subtract), _reflected(e.subtract)
    __mul__, __rmul__ = _operator(e.multiply), _reflected(e.multiply)
    __truediv__, __rtruediv__ = _operator(e.divide), _reflected(e.divide)
    __pow__, __rpow__ = _operator(e.pow), _reflected(e.pow)
    __mod__, __rmod__ = _operator(e.remainder), _reflected(e.remainder)
    __matmul__, __rmatmul__ = _operator(products.matmul), _reflected(products.matmul)
    __floordiv__ = _operator(e.STEPS["floor_divide"])
    __rfloordiv__ = _reflected(e.STEPS["floor_divide"])
    __and__, __rand__ = _operator(e.STEPS["bitwise_and"]), _reflected(e.STEPS["bitwise_and"])
    __or__, __ror__ = _operator(e.STEPS["bitwise_or"]), _reflected(e.STEPS["bitwise_or"])
    __xor__, __rxor__ = _operator(e.STEPS["bitwise_xor"]), _reflected(e.STEPS["bitwise_xor"])
    __lshift__ = _operator(e.STEPS["bitwise_left_shift"])
    __rlshift__ = _reflected(e.STEPS["bitwise_left_shift"])
    __rshift__ = _operator(e.STEPS["bitwise_right_shift"])
    __rrshift__ = _reflected(e.STEPS["bitwise_right_shift"])
    __lt__, __gt__ = _operator(e.STEPS["less"]), _operator(e.STEPS["greater"])
    __le__, __ge__ = _operator(e.STEPS["less_equal"]), _operator(e.STEPS["greater_equal"])
    __eq__, __ne__ = _operator(e.STEPS["equal"]), _operator(e.STEPS["not_equal"])
    __neg__, __pos__ = _unary(e.negative), _unary(e.positive)
    __abs__, __invert__ = _unary(e.abs), _unary(e.STEPS["bitwise_invert"])
    __hash__ = object.__hash__  # a Tensor is one variable, whatever its values are
