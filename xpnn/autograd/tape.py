"""The tape: what was computed from what, and the walk back along it.

The tape knows no operation. A :class:`Node` holds a primitive's rule and the values the rule asked
for; :func:`backward` walks the nodes from the newest to the oldest, each once, on a heap and not by
recursion, and frees what a node kept as soon as it is done. Node numbers grow with time, so "newest
first" is a topological order, and nodes that appear on the way (``checkpoint``) fall into place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any

from xpnn.errors import GraphError
from xpnn.kernels import sums
from xpnn.primitives.base import Primitive, Rule, cast, unbroadcast

__all__ = ["JointNode", "Leaf", "Node", "Slot", "Vertex", "backward", "is_recording", "recording"]

Array = Any
next_id = count().__next__
_recording: ContextVar[bool] = ContextVar("xpnn_recording", default=True)


def is_recording() -> bool:
    """Return whether operations are being recorded (False inside ``no_grad``)."""
    return _recording.get()


@contextmanager
def recording(on: bool) -> Iterator[None]:
    """Record operations, or not, inside the block."""
    token = _recording.set(on)
    try:
        yield
    finally:
        _recording.reset(token)


class Vertex:
    """A place on the tape at which a gradient can arrive.

    ``wanted`` says whether a variable lies behind it that collects gradients by itself; the way to
    what does not (the input of a model) is only walked when somebody asks for its gradient.
    """

    __slots__ = ("id", "wanted")
    id: int
    wanted: bool

    def pullback(self, g: Any, lift: Any, only: set[int] | None) -> Iterable[tuple[Vertex, Any]]:
        """Return pairs of a parent and its gradient, given the gradient ``g`` that arrived here.

        ``lift`` is None for raw arrays; for a recorded backward pass it turns what was kept into
        Tensors. ``only`` holds the ids of the leaves that are wanted, or is None for all.
        """
        raise NotImplementedError

    def behind(self) -> Iterable[Vertex]:
        """Return the parents."""
        return ()

    def free(self) -> None:
        """Let go of what was kept for the pullback."""


class Leaf(Vertex):
    """Where the tape ends: a variable, with the gradient that has arrived so far."""

    __slots__ = ("grad",)

    def __init__(self, wanted: bool = True) -> None:
        self.id = next_id()
        self.wanted = wanted
        self.grad: Any = None

    def pullback(self, g: Any, lift: Any, only: set[int] | None) -> Iterable[tuple[Vertex, Any]]:
        return ()


class Node(Vertex):
    """A recorded operation with a rule for each argument.

    Each edge is a parent, its rule, what the rule asked to keep, and the shape and dtype of the
    argument if it was broadcast or promoted.
    """

    __slots__ = ("edges", "primitive", "static", "xp")
    primitive: Primitive
    xp: Any
    edges: Any
    static: dict[str, Any]

    def free(self) -> None:
        self.edges = None

    def behind(self) -> Iterable[Vertex]:
        return [edge[0] for edge in self.edges or ()]

    def pullback(self, g: Any, lift: Any, only: set[int] | None) -> Iterable[tuple[Vertex, Any]]:
        if self.edges is None:
            raise GraphError(_freed(self.primitive))
        xp, parents = self.xp, {}
        if lift is not None:
            xp = lift.namespace
            parents = {rule.place: parent for parent, rule, *_ in self.edges}
        pairs = []
        for parent, rule, values, like in self.edges:
            if not _needed(parent, only):
                continue
            if lift is not None:
                values = lift.values(rule, values, self, parents)
            if rule.params:
                grad = rule(xp, g, *values, **self.static)
            else:
                grad = rule.function(xp, g, *values)
            pairs.append((parent, grad if like is None else _fit(xp, grad, *like)))
        return pairs


class JointNode(Vertex):
    """A recorded operation with one rule for all arguments."""

    __slots__ = ("args", "count", "dtypes", "kept", "parents", "primitive", "rule", "static", "xp")
    primitive: Primitive
    rule: Rule
    xp: Any
    count: int  # of the arguments
    parents: list[tuple[int, Vertex]]  # of those on the tape, with their numbers
    kept: Any
    static: dict[str, Any]
    args: list[Any] | None
    dtypes: dict[int, Any] | None  # of arguments on the tape, if not all have that of the output

    def free(self) -> None:
        self.kept = self.args = None

    def behind(self) -> Iterable[Vertex]:
        return [parent for _, parent in self.parents]

    def pullback(self, g: Any, lift: Any, only: set[int] | None) -> Iterable[tuple[Vertex, Any]]:
        if self.kept is None:
            raise GraphError(_freed(self.primitive))
        rule, kept, xp = self.rule, self.kept, self.xp
        if lift is not None:
            xp = lift.namespace
            rule, kept = lift.joint(self)
        needs = [False] * self.count
        for i, parent in self.parents:
            needs[i] = parent.wanted if only is None else _needed(parent, only)
        if lift is None and not self.static:
            grads = rule.function(xp, g, needs, *kept)
        else:
            grads = rule(xp, g, needs, *kept, **self.static)
        if self.dtypes is not None:
            grads = list(grads)
            for i, dtype in self.dtypes.items():
                grads[i] = None if grads[i] is None else cast(xp, grads[i], dtype)
        return [(parent, grads[i]) for i, parent in self.parents if needs[i]]


class _Outputs(dict[int, Any]):
    """The gradients that have arrived at the outputs of one operation, by their numbers.

    A tuple for each output, added up, would cost the square of their number: a sequence taken apart
    into steps has as many outputs as steps.
    """

    __slots__ = ("of",)
    of: int


class Slot(Vertex):
    """One output of an operation that has several: it hands its gradient on by its number."""

    __slots__ = ("index", "node", "of")

    def __init__(self, node: Vertex, index: int, of: int) -> None:
        self.id = next_id()
        self.wanted = node.wanted
        self.node = node
        self.index = index
        self.of = of

    def behind(self) -> Iterable[Vertex]:
        return (self.node,)

    def pullback(self, g: Any, lift: Any, only: set[int] | None) -> Iterable[tuple[Vertex, Any]]:
        gradients = _Outputs({self.index: g})
        gradients.of = self.of
        return ((self.node, gradients),)


def _needed(parent: Vertex, only: set[int] | None) -> bool:
    if only is None:
        return parent.wanted
    return type(parent) is not Leaf or parent.id in only


def _freed(primitive: Primitive) -> str:
    return (
        f"backward() a second time through {primitive.name!r}, whose values were freed by the"
        " first. Pass retain_graph=True to the first, or compute the output again."
    )


def _fit(xp: Any, g: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Sum a gradient over the axes that its argument was broadcast along, and cast it back."""
    return cast(xp, unbroadcast(xp, g, shape), dtype)


def _add(a: Any, b: Any) -> Any:
    if type(a) is _Outputs:  # made by a Slot in this walk, and nobody else's
        for i, x in b.items():
            a[i] = a[i] + x if i in a else x
        return a
    add = sums.get(type(a))
    return a + b if add is None else add(a, b)


def _add_there(follow: Callable[[Any], None], a: Any, b: Any) -> Any:
    follow(tuple(b.values()) if type(b) is _Outputs else b)
    return _add(a, b)


def backward(
    roots: Sequence[tuple[Vertex, Any]],
    *,
    wanted: Sequence[Vertex] | None = None,
    retain: bool = False,
    lift: Any = None,
    follow: Callable[[Any], None] | None = None,
) -> list[Any]:
    """Carry gradients back from ``roots``.

    Parameters
    ----------
    roots : sequence of (vertex, gradient)
        Where to start.
    wanted : sequence of Vertex, optional
        Return the gradients that arrive at these, and go no further back than the oldest of them.
        None adds the gradients to the leaves' ``grad``.
    retain : bool
        Keep what the nodes hold, for another pass.
    lift : optional
        For a pass that is itself recorded; see :meth:`Vertex.pullback`.
    follow : callable, optional
        Called with a gradient before it is computed with, to go to its device.

    Returns
    -------
    list
        A gradient, or None where none arrived, for each of ``wanted``.
    """
    pending: dict[int, tuple[Vertex, Any]] = {}
    heap: list[int] = []
    only = None if wanted is None else {vertex.id for vertex in wanted}
    oldest = min(only, default=0) if only is not None else -1
    arrived: dict[int, Any] = {}
    leaves: dict[Leaf, Any] = {}  # they are in nobody's way, and are brought theirs at the end
    pairs: Iterable[tuple[Vertex, Any]] = roots
    add = _add if follow is None else partial(_add_there, follow)
    while True:
        for parent, grad in pairs:
            if grad is None:
                continue
            if type(parent) is Leaf and only is None:
                leaves[parent] = add(leaves[parent], grad) if parent in leaves else grad
                continue
            key = -parent.id
            if key in pending:
                pending[key] = (parent, add(pending[key][1], grad))
            else:
                pending[key] = (parent, grad)
                heappush(heap, key)
        if not heap:
            break
        vertex, g = pending.pop(heappop(heap))
        if only is not None:
            if vertex.id in only:
                arrived[vertex.id] = g
            if vertex.id <= oldest:
                break
        if type(g) is _Outputs:
            g = tuple(map(g.get, range(g.of)))
        if follow is not None:
            follow(g)
        pairs = vertex.pullback(g, lift, only)
        if not retain:
            vertex.free()
    for leaf, g in leaves.items():
        leaf.grad = g if leaf.grad is None else leaf.grad + g
    return [arrived.get(vertex.id) for vertex in wanted or ()]
