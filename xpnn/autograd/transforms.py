"""Derivatives of functions: grad, value_and_grad, vjp, no_grad and checkpoint.

What goes in comes out: of raw arrays the gradients are raw arrays, of Tensors they are Tensors. A
gradient of something that is itself being differentiated is recorded, so ``grad(grad(f))`` is the
second derivative.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import ContextDecorator
from typing import Any

from xpnn import backend, random
from xpnn.autograd import tape
from xpnn.autograd.record import apply, backward, wrap
from xpnn.autograd.tape import Slot, Vertex, next_id
from xpnn.autograd.tensor import Tensor, seed
from xpnn.errors import DTypeError, GraphError, ShapeError
from xpnn.primitives import elementwise

__all__ = ["checkpoint", "grad", "no_grad", "value_and_grad", "vjp"]


class no_grad(ContextDecorator):
    """Do not record what is computed inside the block, or inside the decorated function.

    Examples
    --------
    >>> import xpnn
    >>> x = xpnn.Tensor([1.0], requires_grad=True)
    >>> with xpnn.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    def __init__(self) -> None:
        self._entered: list[Any] = []

    def _recreate_cm(self) -> no_grad:
        return no_grad()  # a decorated function may run in several threads at once

    def __enter__(self) -> None:
        self._entered.append(tape._recording.set(False))

    def __exit__(self, *exception: object) -> None:
        tape._recording.reset(self._entered.pop())


def _variable(x: Any) -> tuple[Tensor, bool]:
    """Return ``x`` as a fresh place on the tape, and whether the gradient has to be recorded.

    A Tensor that is on the tape already is passed through the identity: what ``f`` does with it is
    then told apart from what others do, and it stays connected for an outer derivative.
    """
    if isinstance(x, Tensor) and x.requires_grad and tape.is_recording():
        return apply(elementwise.positive, (x,)), True
    variable = Tensor(x)
    if not variable.dtype.is_inexact:
        msg = f"cannot differentiate with respect to an argument of dtype {variable.dtype}."
        raise DTypeError(msg)
    variable.requires_grad = True
    return variable, False


def _returned(gradient: Any, of: Any, variable: Tensor) -> Any:
    """Return a gradient as the caller's kind of array; zeros where none arrived."""
    if gradient is None:
        gradient = backend.array_namespace(variable.data).zeros_like(variable.data)
    if isinstance(of, Tensor):
        return gradient if isinstance(gradient, Tensor) else wrap(gradient)
    return backend.unwrap(gradient)


def _run(f: Callable[..., Any], xs: list[Any], rest: tuple[Any, ...], kw: Any) -> Any:
    with tape.recording(True):
        pairs = [_variable(x) for x in xs]
        variables = [v for v, _ in pairs]
        y = f(*variables, *rest, **kw)
    return variables, y, any(outer for _, outer in pairs)


def value_and_grad(
    f: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """Return a function that computes ``f`` and its gradient.

    Parameters
    ----------
    f : callable
        Its first result is an array of one element.
    argnums : int or tuple of int
        The positional arguments to differentiate with respect to.
    has_aux : bool
        Whether ``f`` returns a pair, a value and something else that is handed through.

    Returns
    -------
    callable
        ``(value, gradient)``; for a tuple of ``argnums``, a tuple of gradients; with ``has_aux``
        ``((value, aux), gradient)``. An argument on which ``f`` does not depend has gradient zero.

    Examples
    --------
    >>> import numpy, xpnn
    >>> value, slope = xpnn.value_and_grad(lambda x: x * x)(numpy.asarray(3.0))
    >>> float(value), float(slope)
    (9.0, 6.0)
    """
    places = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @functools.wraps(f)
    def with_gradient(*args: Any, **kw: Any) -> Any:
        def of_chosen(*chosen: Any) -> Any:
            full = list(args)
            for place, x in zip(places, chosen, strict=True):
                full[place] = x
            return f(*full, **kw)

        chosen = [args[place] for place in places]
        variables, y, outer = _run(of_chosen, chosen, (), {})
        aux = None
        if has_aux:
            y, aux = y
        arrived = [None] * len(chosen)
        if isinstance(y, Tensor):
            if y.size != 1:
                msg = f"grad: the function must return one element, got shape {y.shape}; see vjp."
                raise ShapeError(msg)
            if y.requires_grad:
                arrived = backward([y], [seed(y, None)], variables, create_graph=outer)
        triples = zip(arrived, chosen, variables, strict=True)
        gradients = tuple(_returned(g, x, v) for g, x, v in triples)
        if not any(isinstance(x, Tensor) for x in chosen):
            y, aux = _plain(y), _plain(aux)
        value = (y, aux) if has_aux else y
        return value, gradients[0] if isinstance(argnums, int) else gradients

    return with_gradient


def grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """Return a function that computes the gradient of ``f``; see :func:`value_and_grad`.

    Examples
    --------
    >>> import numpy, xpnn
    >>> from xpnn import ops
    >>> slope = xpnn.grad(xpnn.grad(ops.sin))
    >>> float(slope(numpy.asarray(0.5))) == -numpy.sin(0.5)
    True
    """
    with_value = value_and_grad(f, argnums)

    @functools.wraps(f)
    def gradient(*args: Any, **kw: Any) -> Any:
        return with_value(*args, **kw)[1]

    return gradient


def vjp(f: Callable[..., Any], *xs: Any) -> tuple[Any, Callable[..., Any]]:
    """Compute ``y = f(*xs)`` and the function that pulls a gradient of ``y`` back to ``xs``.

    Parameters
    ----------
    f : callable
        Returns an array, or a tuple of arrays.
    *xs : array or Tensor

    Returns
    -------
    y : array or tuple
    pullback : callable
        Takes a gradient of the shape of ``y`` (or a tuple) and returns one, or a tuple, for ``xs``.
        It can be called any number of times.

    Examples
    --------
    >>> import numpy, xpnn
    >>> y, pullback = xpnn.vjp(lambda x: x * x, numpy.asarray([1.0, 2.0]))
    >>> pullback(numpy.asarray([1.0, 10.0]))
    array([ 2., 40.])
    """
    variables, y, outer = _run(f, list(xs), (), {})
    outputs = list(y) if isinstance(y, tuple) else [y]

    def pullback(gradient: Any) -> Any:
        given = list(gradient) if isinstance(y, tuple) else [gradient]
        pairs = [
            (out, g)
            for out, g in zip(outputs, given, strict=True)
            if isinstance(out, Tensor) and out.requires_grad and g is not None
        ]
        record = outer or any(isinstance(g, Tensor) and g.requires_grad for g in given)
        arrived = backward(
            [out for out, _ in pairs],
            [seed(out, g) for out, g in pairs],
            variables,
            create_graph=record,
            retain_graph=True,
        )
        found = tuple(_returned(g, x, v) for g, x, v in zip(arrived, xs, variables, strict=True))
        return found[0] if len(xs) == 1 else found

    if not any(isinstance(x, Tensor) for x in xs):
        y_out = tuple(_plain(out) for out in outputs) if isinstance(y, tuple) else _plain(y)
        return y_out, pullback
    return y, pullback


def _plain(x: Any) -> Any:
    return x.data if isinstance(x, Tensor) else x


class _Recompute(Vertex):
    """A call whose inside was forgotten: the pullback runs it again, and hands the gradient in."""

    __slots__ = ("args", "f", "kw", "rng")

    def __init__(self, f: Any, args: tuple[Any, ...], kw: dict[str, Any], rng: Any) -> None:
        self.id = next_id()
        self.wanted = True
        self.f, self.args, self.kw, self.rng = f, args, kw, rng

    def free(self) -> None:
        self.f = None

    def pullback(self, g: Any, lift: Any, only: set[int] | None) -> Iterable[tuple[Vertex, Any]]:
        if self.f is None:
            msg = "backward() a second time through a checkpoint; retain_graph=True keeps it."
            raise GraphError(msg)
        now = random.get_rng()
        random.set_rng(self.rng.copy())  # dropout draws the same masks again
        try:
            with tape.recording(True):
                y = self.f(*self.args, **self.kw)
        finally:
            random.set_rng(now)
        pairs = zip(y, g, strict=True) if isinstance(y, tuple) else [(y, g)]
        return [(out.vertex, gi) for out, gi in pairs if out.vertex is not None]


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``f`` as a function that keeps only its arguments for backward, and computes again.

    Memory for time: nothing that ``f`` computes is kept. The random stream is wound back for the
    second run, so that dropout repeats itself. Variables that ``f`` uses without taking them as
    arguments, such as a layer's parameters, get their gradients too.

    Examples
    --------
    >>> import xpnn
    >>> x = xpnn.Tensor([3.0], requires_grad=True)
    >>> xpnn.checkpoint(lambda x: x * x * x)(x).backward()
    >>> x.grad
    Tensor([27.], dtype=float32)
    """

    @functools.wraps(f)
    def checkpointed(*args: Any, **kw: Any) -> Any:
        if not tape.is_recording():
            return f(*args, **kw)
        rng = random.get_rng().copy()
        with tape.recording(False):
            y = f(*args, **kw)
        vertex = _Recompute(f, args, kw, rng)
        if isinstance(y, tuple):
            return tuple(wrap(x.data, Slot(vertex, i, len(y))) for i, x in enumerate(y))
        return wrap(y.data, vertex)

    return checkpointed
