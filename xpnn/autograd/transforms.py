"""Derivatives of functions: grad, value_and_grad, vjp, no_grad and checkpoint.

What goes in comes out: of raw arrays the gradients are raw arrays, of Tensors they are Tensors. A
gradient of something that depends on other variables, of an outer derivative or of a model, is
recorded and comes back as a Tensor, so ``grad(grad(f))`` is the second derivative; not so under
``no_grad``.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from xpnn import backend, random
from xpnn.autograd import tape
from xpnn.autograd.casting import resumed
from xpnn.autograd.record import apply, backward, wrap
from xpnn.autograd.tape import Slot, Vertex, next_id
from xpnn.autograd.tensor import Tensor, seed
from xpnn.errors import DTypeError, GraphError, ShapeError
from xpnn.primitives import elementwise

__all__ = ["checkpoint", "grad", "no_grad", "value_and_grad", "vjp"]


class no_grad:
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

    def __call__(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a function, a coroutine function or a generator function."""
        if inspect.iscoroutinefunction(f):

            @functools.wraps(f)
            async def coroutine(*args: Any, **kw: Any) -> Any:
                with no_grad():
                    return await f(*args, **kw)

            return coroutine
        if inspect.isgeneratorfunction(f):

            @functools.wraps(f)
            def generator(*args: Any, **kw: Any) -> Any:
                items = f(*args, **kw)
                while True:  # between two items the caller records as it likes
                    with no_grad():
                        try:
                            item = next(items)
                        except StopIteration:
                            return
                    yield item

            return generator

        @functools.wraps(f)
        def function(*args: Any, **kw: Any) -> Any:
            with no_grad():
                return f(*args, **kw)

        return function

    def __enter__(self) -> None:
        self._entered.append(tape._recording.set(False))

    def __exit__(self, *exception: object) -> None:
        tape._recording.reset(self._entered.pop())


class _Call:
    """A call of ``f`` at places of its own on the tape, and what it gave.

    An argument that is on the tape already is passed through the identity: what ``f`` does with it
    is told apart from what others do, and it stays connected for an outer derivative. ``outer``
    says whether there is one: then the gradient has to be recorded itself.
    """

    def __init__(self, f: Callable[..., Any], xs: Sequence[Any]) -> None:
        recording = tape.is_recording()
        self.xs = xs
        with tape.recording(True):
            self.first = next_id()
            self.variables = [_variable(x, recording) for x in xs]
            self.result = f(*self.variables)
        self.raw = not any(isinstance(x, Tensor) for x in xs)
        self.outer = recording and any(v.wanted for v in _older(self.result, self.first))

    def shown(self, value: Any) -> Any:
        """Return a result as the caller is to see it: off the tape of this call, raw for raw."""
        if isinstance(value, Tensor):
            if self.outer:
                return value
            return value.data if self.raw else value.detach()
        if isinstance(value, dict):
            return {k: self.shown(v) for k, v in value.items()}
        if isinstance(value, (tuple, list)):
            parts = [self.shown(v) for v in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        return value

    def pull(self, outputs: list[Any], gradients: list[Any], **options: Any) -> tuple[Any, ...]:
        """Return the gradients for the arguments; zeros where none arrived."""
        pairs = [
            (y, seed(y, g))
            for y, g in zip(outputs, gradients, strict=True)
            if isinstance(y, Tensor) and y.requires_grad and g is not None
        ]
        ys, gs = [y for y, _ in pairs], [g for _, g in pairs]
        arrived = backward(ys, gs, self.variables, **options)
        triples = zip(arrived, self.xs, self.variables, strict=True)
        return tuple(_returned(g, x, v) for g, x, v in triples)


def _older(result: Any, first: int) -> list[Vertex]:
    """Return the places on the tape, older than ``first``, from which results were computed."""
    found: dict[int, Vertex] = {}
    seen: set[int] = set()
    stack = [y.vertex for y in _tensors(result) if y.vertex is not None]
    while stack:
        vertex = stack.pop()
        if vertex.id < first:
            found[vertex.id] = vertex
        elif vertex.id not in seen:
            seen.add(vertex.id)
            stack.extend(vertex.behind())
    return list(found.values())


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [t for v in value for t in _tensors(v)] if isinstance(value, (tuple, list)) else []


def _variable(x: Any, recording: bool) -> Tensor:
    if isinstance(x, Tensor) and x.requires_grad and recording:
        return apply(elementwise.positive, (x,))
    variable = Tensor(x)
    if not variable.dtype.is_inexact:
        msg = f"cannot differentiate with respect to an argument of dtype {variable.dtype}."
        raise DTypeError(msg)
    variable.requires_grad = True
    return variable


def _returned(gradient: Any, of: Any, variable: Tensor) -> Any:
    """Return a gradient as the caller's kind of array, a Tensor if it is on the tape."""
    if gradient is None:
        with backend.on_device_of(variable):
            gradient = backend.array_namespace(variable.data).zeros_like(variable.data)
    if isinstance(of, Tensor) or (isinstance(gradient, Tensor) and gradient.requires_grad):
        return gradient if isinstance(gradient, Tensor) else wrap(gradient)
    return backend.unwrap(gradient)


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

        call = _Call(of_chosen, [args[place] for place in places])
        y = call.result
        if has_aux:
            if not (isinstance(y, tuple) and len(y) == 2):
                msg = "has_aux: the function must return a pair, a value and something else."
                raise TypeError(msg)
            y = y[0]
        if isinstance(y, Tensor) and y.size != 1:
            msg = f"grad: the function must return one element, got shape {y.shape}; see vjp."
            raise ShapeError(msg)
        one = seed(y, None) if isinstance(y, Tensor) else None
        gradients = call.pull([y], [one], create_graph=call.outer)
        return call.shown(call.result), gradients[0] if isinstance(argnums, int) else gradients

    return with_gradient


def grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """Return a function that computes the gradient of ``f``; see :func:`value_and_grad`.

    Examples
    --------
    >>> import numpy, xpnn
    >>> from xpnn import ops
    >>> slope = xpnn.grad(xpnn.grad(ops.sin))
    >>> float(slope(numpy.asarray(0.5))), float(-numpy.sin(0.5))
    (-0.479425538604203, -0.479425538604203)
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
    call = _Call(f, xs)
    y = call.result

    def pullback(gradient: Any) -> Any:
        several = isinstance(y, tuple)
        given = list(gradient) if several else [gradient]
        record = call.outer or any(isinstance(g, Tensor) and g.requires_grad for g in given)
        found = call.pull(
            list(y) if several else [y], given, create_graph=record, retain_graph=True
        )
        return found[0] if len(xs) == 1 else found

    return call.shown(y), pullback


class _Recompute(Vertex):
    """A call whose inside was forgotten: the pullback runs it again, and hands the gradient in."""

    __slots__ = ("args", "context", "f", "kw", "parents", "rng")

    def __init__(self, f: Any, args: Any, kw: Any, rng: Any, parents: list[Vertex]) -> None:
        self.id = next_id()
        self.wanted = any(parent.wanted for parent in parents)
        self.f, self.args, self.kw, self.rng = f, args, kw, rng
        self.context: Any = (
            contextvars.copy_context()
        )  # default device and dtype, autocast, of the first run
        self.parents = parents

    def free(self) -> None:
        self.f = self.kw = self.rng = self.context = None
        self.args, self.parents = (), []

    def behind(self) -> Iterable[Vertex]:
        return self.parents

    def _again(self) -> Any:
        random.set_rng(self.rng.copy())  # dropout draws the same masks again
        with tape.recording(True), resumed():
            return self.f(*self.args, **self.kw)

    def pullback(self, g: Any, lift: Any, only: set[int] | None) -> Iterable[tuple[Vertex, Any]]:
        if self.f is None:
            msg = "backward() a second time through a checkpoint; retain_graph=True keeps it."
            raise GraphError(msg)
        y = self.context.run(self._again)
        pairs = zip(y, g, strict=True) if isinstance(y, tuple) else [(y, g)]
        return [(out.vertex, gi) for out, gi in pairs if gi is not None]


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``f`` as a function that keeps only its arguments for backward, and computes again.

    Memory for time: nothing that ``f`` computes is kept once it has returned. The random stream is
    wound back for the second run, so that dropout repeats itself. Variables that ``f`` uses without
    taking them as arguments, such as a layer's parameters, get their gradients too.

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
        rng, first = random.get_rng().copy(), next_id()
        y = f(*args, **kw)  # recorded, to learn what depends on a variable; then let go
        outputs = y if isinstance(y, tuple) else (y,)
        if not any(isinstance(x, Tensor) and x.requires_grad for x in outputs):
            return y
        vertex = _Recompute(f, args, kw, rng, _older(y, first))
        n = len(outputs)
        if not isinstance(y, tuple):
            return wrap(y.data, vertex)
        return tuple(
            wrap(x.data, Slot(vertex, i, n)) if isinstance(x, Tensor) and x.requires_grad else x
            for i, x in enumerate(y)
        )

    return checkpointed
