"""Two primitives as one: an activation that follows another function, and reads only its output.

What stood between them is neither kept nor recorded: one operation on the tape instead of two, and
a kernel may finish each part of a result while a cache holds it.
"""

from __future__ import annotations

import functools
import inspect
from types import ModuleType
from typing import Any

from xpnn.primitives.base import Implementation, Primitive, Rule

__all__ = ["followed"]

Array = Any


class _Followed(Primitive):
    """``second(first(...))``; made by :func:`followed`."""

    def __init__(self, first: Primitive, second: Primitive) -> None:
        self.first, self.second = first, second
        forward = _forward(first, second.forward)
        forward.__name__ = f"{first.name}_{second.name}"
        super().__init__(forward, residual=first.residual)
        rule = second.rules[0].function  # type: ignore[union-attr]
        self.vjp(_joint(first.joint, rule))

    def _find_overlay(self, module: ModuleType | None) -> Implementation:
        # A kernel of that name, or the two kernels one after the other.
        if hasattr(module, self.name):
            return super()._find_overlay(module)
        first, second = (p._find_overlay(module) for p in (self.first, self.second))
        if (first, second) == (self.first, self.second) or first.joint is None:
            return self
        if "y" in first.joint.spec:  # which is gone
            return self
        last = getattr(module, f"{self.second.name}_in_place", None)
        finish = self.second if last is None else _in_place(last)
        overlay = Implementation(_forward(first, finish), residual=first.residual)
        overlay.accepts = first.accepts
        rule = (second.rules or self.second.rules)[0].function  # type: ignore[union-attr]
        if second.joint is not None:
            rule = _kernel_rule(second, rule)
        overlay.joint = Rule(_joint(first.joint, rule), self.arrays, self.variadic)
        return overlay


@functools.cache
def followed(first: Primitive, second: Primitive) -> Primitive:
    """Return the primitive ``second(first(...))``.

    Parameters
    ----------
    first : Primitive
        With a joint rule that does not ask for the output.
    second : Primitive
        Of one array, whose rule asks for the output alone, and has no static parameters.

    Examples
    --------
    >>> from xpnn.primitives.activations import relu
    >>> from xpnn.primitives.neural import linear
    >>> followed(linear, relu).name
    'linear_relu'
    """
    return _Followed(first, second)


def _forward(first: Implementation, second: Any) -> Any:
    """Return the forward function of both, with the signature of the first."""

    @functools.wraps(first.forward)
    def forward(xp: Any, *arrays: Array, **static: Any) -> Any:
        y = first.forward(xp, *arrays, **static)
        if first.residual:
            return second(xp, y[0]), y[1]
        return second(xp, y)

    return forward


def _in_place(last: Any) -> Any:
    """Return a function that changes its array, which is nobody else's, as one that returns it."""

    def finish(xp: Any, y: Array) -> Array:
        last(y)
        return y

    return finish


def _joint(first: Any, second: Any) -> Any:
    """Return the joint rule of both: that of the first, which is given what the second gives."""

    def vjp(xp: Any, g: Array, needs: list[bool], y: Array, *kept: Any, **static: Any) -> Any:
        return first(xp, second(xp, g, y), needs, *kept, **static)

    names = list(inspect.signature(first.function).parameters)
    names.insert(3, "y")
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    vjp.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind) for name in names]
    )
    return vjp


def _kernel_rule(kernel: Implementation, standard: Any) -> Any:
    """Return the rule of a kernel for its one array, or the standard one for what it refuses."""
    accepts, joint = kernel.accepts, kernel.joint

    def rule(xp: Any, g: Array, y: Array) -> Array:
        if accepts is not None and not accepts(y):
            return standard(xp, g, y)
        return joint.function(xp, g, [True], y)[0]  # type: ignore[union-attr]

    return rule
