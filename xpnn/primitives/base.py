"""What a primitive is: a forward function and, beside it, its vector-Jacobian products (vjps).

Both are pure functions of a namespace and arrays. They know no tape, so the same rule runs on raw
arrays (a first-order backward pass) and on Tensors (``create_graph=True``: any order).

A forward function is written ``f(xp, x1, x2, /, axis=None, *, keepdims=False)``: what stands before
``/`` are arrays, what stands after are static parameters. Its derivative comes in one of two forms:

- *a rule an argument*: ``multiply.d(lambda xp, g, x2: g * x2, lambda xp, g, x1: g * x1)``;
- *one joint rule*, for functions whose gradients share work: ``vjp(xp, g, needs, ...)`` returns a
  gradient, or None, for every array; ``needs`` tells which are wanted.

**A rule's parameters name what the tape has to keep for it**, and nothing else is kept:

==================  ==================================================================
``xp``, ``g``        the namespace, and the gradient with respect to the output
``y``                the output
``x1``               an argument, by the name that the forward function gives it
``x1_shape``         its shape only, so that the array itself can be freed
``x1_dtype``         its dtype only
``res``              what a ``residual=True`` forward returned beside its output
``axis``             a static parameter
==================  ==================================================================
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from xpnn import backend, kernels
from xpnn._dtypes import as_dtype

__all__ = [
    *("Implementation", "Primitive", "Rule"),
    *("cast", "primitive", "summed", "unbroadcast", "wide"),
]


class Rule:
    """A vjp function and what its signature says it wants.

    ``take(y, res, args)`` picks the values to keep from a forward call. ``spec`` says for each what
    it is (``"y"``, ``"res"``, the index of an argument, a slice of them, or None for a shape or a
    dtype), so that a second-order backward pass can put Tensors in their places.
    """

    __slots__ = ("function", "params", "place", "spec", "take")

    def __init__(
        self, function: Callable[..., Any], arrays: list[str], variadic: bool, place: int = 0
    ) -> None:
        self.function = function
        self.place = place  # of the argument whose gradient it gives
        self.spec: list[Any] = []
        self.params: list[str] = []
        sources = []
        for name in inspect.signature(function).parameters:
            stem, _, facet = name.rpartition("_")
            if name in ("xp", "g", "needs"):
                continue
            if name in ("y", "res"):
                self.spec.append(name)
                sources.append(name)
            elif variadic and name == arrays[-1]:
                self.spec.append(slice(len(arrays) - 1, None))
                sources.append(f"args[{len(arrays) - 1}:]")
            elif name in arrays:
                self.spec.append(arrays.index(name))
                sources.append(f"args[{arrays.index(name)}]")
            elif variadic and name == arrays[-1] + "_shape":
                self.spec.append(None)
                sources.append(f"[x.shape for x in args[{len(arrays) - 1}:]]")
            elif stem in arrays and facet in ("shape", "dtype"):
                self.spec.append(None)
                sources.append(f"args[{arrays.index(stem)}].{facet}")
            else:
                self.params.append(name)
        # One compiled expression: a loop over names would cost as much as a small operation.
        picked = "".join(source + ", " for source in sources)
        self.take: Callable[..., tuple[Any, ...]] = eval(f"lambda y, res, args: ({picked})")

    def __call__(self, *args: Any, **params: Any) -> Any:
        return self.function(*args, **{name: params[name] for name in self.params})


class Implementation:
    """A forward function with its rules: the standard one, or a kernel that stands in for it."""

    __slots__ = ("accepts", "forward", "joint", "residual", "rules")

    def __init__(self, forward: Callable[..., Any], residual: bool = False) -> None:
        self.forward = forward
        self.residual = residual
        self.rules: tuple[Rule | None, ...] = ()
        self.joint: Rule | None = None
        self.accepts: Callable[..., bool] | None = None


class Primitive(Implementation):
    """A differentiable function of arrays.

    Attributes
    ----------
    name : str
    arrays : list of str
        Names of the array arguments, in order; ``variadic`` if the last takes any number.
    defaults : dict
        The static parameters and their defaults; ``required`` are those without one.
    broadcasts : bool
        Whether the arguments broadcast, so that a gradient has to be summed back to the shape of
        its argument. Set for element-wise functions of several arguments.
    casts : bool
        Whether there are several arguments, so that a gradient may have to be cast back.
    elementwise : bool
        Whether it is a function of the elements of its arrays, so that a library may compute it
        part by part, if it has one array and its rule keeps that, or as one kernel.
    differentiable : bool
        Whether there is a rule for any argument.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        *,
        broadcasts: bool = False,
        residual: bool = False,
        elementwise: bool = False,
    ) -> None:
        super().__init__(forward, residual)
        self.name = forward.__name__
        self.__doc__ = forward.__doc__
        self.broadcasts = broadcasts
        self.elementwise = elementwise
        self.differentiable = False
        self.overlays: dict[Any, Implementation] = {}
        signature = inspect.signature(forward)
        kinds = list(signature.parameters.values())[1:]
        self.signature = signature.replace(parameters=kinds)
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in kinds)
        self.arrays = [p.name for p in kinds if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)]
        self.casts = len(self.arrays) > 1 or self.variadic
        static = [p for p in kinds if p.name not in self.arrays]
        self.defaults = {p.name: p.default for p in static if p.default is not p.empty}
        self.required = {p.name for p in static if p.default is p.empty}

    def d(self, *rules: Callable[..., Any] | None) -> Primitive:
        """Give the vjp of each argument in turn; None where there is no derivative."""
        self.rules = tuple(
            None if f is None else Rule(f, self.arrays, self.variadic, i)
            for i, f in enumerate(rules)
        )
        self.differentiable = any(self.rules)
        return self

    def vjp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Give the joint vjp of all arguments; a decorator."""
        self.joint = Rule(rule, self.arrays, self.variadic)
        self.differentiable = True
        return rule

    def on(self, xp: Any) -> Implementation:
        """Return the implementation for a namespace: a kernel, or this standard one."""
        found = self.overlays.get(xp)
        if found is None:
            found = self.overlays[xp] = self._find_overlay(kernels.load(xp.__name__))
        return found

    def __call__(self, xp: Any, *arrays: Any, **params: Any) -> Any:
        """Compute in a namespace: recorded if it is the differentiable one, else raw.

        So a rule may call another primitive, and stays differentiable.
        """
        lifted = getattr(xp, "_apply_primitive", None)
        if lifted is not None:
            return lifted(self, arrays, params)
        implementation = self.on(xp)
        static = {**self.defaults, **params}
        if implementation.accepts is not None and not implementation.accepts(*arrays, **static):
            implementation = self
        out = implementation.forward(xp, *arrays, **static)
        return out[0] if implementation.residual else out

    def _find_overlay(self, module: Any) -> Implementation:
        # A kernel is a pair of functions by name: `linear` and `linear_vjp`; `linear_accepts` may
        # send a call back to the standard version, for example for a dtype it was not written for.
        forward = getattr(module, self.name, None)
        if forward is None:
            if self.name in getattr(module, "IN_FLOAT32", ()):
                return self._in_float32(module)
            one = len(self.arrays) == 1
            if one and self.elementwise and hasattr(module, "in_parts"):
                return self._in_parts(module, module.in_parts)
            if (one or self.elementwise) and any(self.rules) and hasattr(module, "fused"):
                return self._fused(module.fused)
            return self
        overlay = Implementation(forward, residual=hasattr(forward, "residual"))
        overlay.accepts = getattr(module, self.name + "_accepts", None)
        vjp = getattr(module, self.name + "_vjp", None)
        if vjp is None:  # a rule that calls primitives, which have kernels
            overlay.rules, overlay.joint = self.rules, self.joint
            if hasattr(module, "in_float32"):
                overlay.rules = self._rules_of(lambda name, rule: module.in_float32(rule))
        else:
            overlay.joint = Rule(vjp, self.arrays, self.variadic)
        return overlay

    def _in_float32(self, module: Any) -> Implementation:
        overlay = Implementation(module.in_float32(self.forward))
        overlay.accepts = module.in_float32_accepts
        overlay.rules = self._rules_of(lambda name, rule: module.in_float32(rule))
        return overlay

    def _in_parts(self, module: Any, divide: Callable[..., Any]) -> Implementation:
        (rule,) = self.rules
        overlay = Implementation(divide(self.name, self.forward))
        overlay.accepts = module.in_parts_accepts
        overlay.joint = Rule(rule.function, self.arrays, self.variadic)  # type: ignore[union-attr]
        vjp = divide(self.name + "_vjp", overlay.joint.function)
        overlay.joint.function = lambda xp, g, needs, *kept, **static: (
            vjp(xp, g, *kept, **static),
        )
        return overlay

    def _fused(self, fuse: Callable[..., Any]) -> Implementation:
        overlay = Implementation(fuse(self.name, self.forward))
        overlay.rules = self._rules_of(fuse)
        return overlay

    def _rules_of(self, change: Callable[..., Any]) -> tuple[Rule | None, ...]:
        # A rule is given Tensors too, in a recorded backward pass: `change` sees to what it takes.
        rules = []
        for i, rule in enumerate(self.rules):
            if rule is not None:
                function, name = rule.function, f"{self.name}_vjp_{self.arrays[i]}"
                rule = Rule(function, self.arrays, self.variadic, i)
                rule.function = change(name, function)
            rules.append(rule)
        return tuple(rules)

    def __repr__(self) -> str:
        return f"<primitive {self.name}{self.signature}>"


def primitive(**options: bool) -> Callable[..., Primitive]:
    """Make a :class:`Primitive` of a forward function; a decorator with its options."""
    return lambda forward: Primitive(forward, **options)


def unbroadcast(xp: Any, g: Any, shape: tuple[int, ...]) -> Any:
    """Sum ``g`` over the axes along which an array of ``shape`` was broadcast to its shape."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    axes = [i for i in range(g.ndim) if i < extra or (shape[i - extra] == 1 and g.shape[i] != 1)]
    return xp.reshape(summed(xp, g, tuple(axes)), shape)


def summed(xp: Any, g: Any, axis: Any) -> Any:
    """Return sums of gradients, in their dtype; those of half precision are added in float32.

    NumPy would add one to the other in half precision, where a sum of a thousand stands still.
    """
    if as_dtype(g.dtype).itemsize >= 4:
        return xp.sum(g, axis=axis, dtype=g.dtype)
    single = xp.sum(g, axis=axis, dtype=backend.native_dtype(xp, "float32"))
    return xp.astype(single, g.dtype)


def cast(xp: Any, g: Any, dtype: Any) -> Any:
    """Return ``g`` in the dtype of an argument that was promoted: the real part, if it was real."""
    if g.dtype == dtype:
        return g
    if as_dtype(g.dtype).kind == "c" and as_dtype(dtype).kind != "c":
        g = xp.real(g)
    return xp.astype(g, dtype)


def wide(xp: Any, x: Any) -> Any:
    """Return ``x`` in float32 if it is of half precision: for sums, and for exponentials."""
    if as_dtype(x.dtype).itemsize >= 4:
        return x
    return xp.astype(x, backend.native_dtype(xp, "float32"))
