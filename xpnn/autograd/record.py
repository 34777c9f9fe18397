"""Recording: :func:`apply` computes a primitive and notes it; :func:`backward` goes back.

This is the seam between raw arrays and Tensors. Every operation of xpnn, fused or elementary, on
Tensors or on raw arrays, goes through :func:`apply`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from xpnn import backend
from xpnn._cuda import retell
from xpnn.autograd import casting, tape
from xpnn.autograd.tape import JointNode, Node, Slot, Vertex, _recording, next_id
from xpnn.backend import (
    NAMESPACE_OF,
    SCALAR_TYPES,
    SEVERAL,
    ArrayWrapper,
    array_namespace,
    elsewhere,
)
from xpnn.parallel import stretch
from xpnn.primitives.base import Implementation, Primitive, Rule

__all__ = ["Tracked", "apply", "backward", "bind", "namespace", "wrap", "wrap_all"]

_new = object.__new__
_blocks = casting.blocks
_nothing = nullcontext()
_SCALARS = frozenset((bool, int, float, complex, type(None)))


class Tracked(ArrayWrapper):
    """A raw array and its place on the tape: what a Tensor is to this module."""

    __slots__ = ("vertex",)
    vertex: Vertex | None


class _Late:
    """What is made from this module and used by it: the class and the namespace of Tensors."""

    tensor: type[Any] = Tracked
    namespace: Any = None


def bind(*, tensor: type[Any] | None = None, namespace: Any = None) -> None:
    """Name the class of Tensors, and their namespace; called once each, on import."""
    _Late.tensor = tensor or _Late.tensor
    _Late.namespace = namespace or _Late.namespace


def namespace() -> Any:
    """Return the namespace of Tensors, ``xpnn.ops``."""
    return _Late.namespace


def wrap(data: Any, vertex: Vertex | None = None) -> Any:
    """Return a Tensor over a raw array."""
    tensor = _new(_Late.tensor)
    tensor.data = data[...] if type(data) in SCALAR_TYPES else data  # numpy.float32(3) -> 0-d array
    tensor.vertex = vertex
    return tensor


def apply(primitive: Primitive, args: Any, params: dict[str, Any] | None = None) -> Any:
    """Compute a primitive, and record it if an argument is on the tape.

    Parameters
    ----------
    primitive : Primitive
    args : sequence of Tensor, array, scalar or None
        Raw arrays of the same library are constants.
    params : dict, optional
        The static parameters that differ from their defaults.

    Returns
    -------
    Tensor or tuple of Tensor
        Raw arrays, if no argument is a Tensor.
    """
    given, low = args, None
    if _blocks:
        args, low = casting.arguments(primitive, args, _Late.tensor)
    raw: list[Any] = []
    parents: list[tuple[int, Vertex]] | None = None
    wrapped = False
    cls: Any = None
    for x in args:
        if isinstance(x, ArrayWrapper):
            wrapped = True
            if x.vertex is not None:  # type: ignore[attr-defined]
                if parents is None:
                    parents = []
                parents.append((len(raw), x.vertex))  # type: ignore[attr-defined]
            x = x.data
        raw.append(x)
        if type(x) is not cls and type(x) not in _SCALARS:
            if cls is not None:
                _one_library(raw)
            cls = type(x)
    xp = NAMESPACE_OF.get(cls)
    if xp is None:
        xp = array_namespace(*raw)
        if (there := elsewhere(primitive.name, raw)) is not None:
            with there:
                return apply(primitive, given, params)
    static = {**primitive.defaults, **params} if params else primitive.defaults
    implementation = primitive.overlays.get(xp) or primitive.on(xp)
    if implementation.accepts is not None and not implementation.accepts(*raw, **static):
        implementation = primitive
    try:
        forward = implementation.forward
        out = forward(xp, *raw, **static) if static else forward(xp, *raw)
    except MemoryError as error:
        retell(error)
    residual = None
    if implementation.residual:
        out, residual = out
    if low is not None:
        out = casting.rounded(xp, out, low)
    if not wrapped or (type(out) is tuple and not out):
        return out
    node: Node | JointNode | None = None
    if parents is not None and primitive.differentiable and _recording.get():
        if implementation.joint is None:
            node = _note_edges(primitive, implementation.rules, xp, parents, out, raw, static)
        else:
            node = _note_joint(primitive, implementation, xp, parents, out, residual, raw, static)
    if isinstance(out, tuple):
        return wrap_all(out, node)
    tensor = _new(_Late.tensor)  # wrap(out, node), written out for speed
    tensor.data = out[...] if type(out) in SCALAR_TYPES else out
    tensor.vertex = node
    return tensor


def _one_library(raw: list[Any]) -> None:
    array_namespace(*(x for x in raw if type(x) not in _SCALARS))


def _note_edges(
    primitive: Primitive,
    rules: tuple[Rule | None, ...],
    xp: Any,
    parents: list[tuple[int, Vertex]],
    out: Any,
    raw: list[Any],
    static: dict[str, Any],
) -> Node:
    edges = []
    like = None
    wanted = False
    if casts := primitive.casts:
        dtype = out.dtype
        shape = out.shape if primitive.broadcasts else None
    for i, parent in parents:
        rule = rules[i]
        if rule is None:
            continue
        if casts:
            x = raw[i]
            same = x.dtype == dtype and (shape is None or x.shape == shape)
            like = None if same else (x.shape, x.dtype)
        if parent.wanted:
            wanted = True
        edges.append((parent, rule, rule.take(out, None, raw), like))
    node: Node = _new(Node)  # no __init__: this runs once an operation
    node.id = next_id()
    node.wanted = wanted
    node.primitive = primitive
    node.xp = xp
    node.edges = edges
    node.static = static
    return node


def _note_joint(
    primitive: Primitive,
    implementation: Implementation,
    xp: Any,
    parents: list[tuple[int, Vertex]],
    out: Any,
    residual: Any,
    raw: list[Any],
    static: dict[str, Any],
) -> JointNode:
    node: JointNode = _new(JointNode)
    node.id = next_id()
    node.primitive = primitive
    node.xp = xp
    node.static = static
    node.rule = implementation.joint  # type: ignore[assignment]
    node.count = len(raw)
    node.parents = parents
    dtype = (out[0] if isinstance(out, tuple) else out).dtype
    alike, wanted = True, False
    for i, parent in parents:
        wanted = wanted or parent.wanted
        alike = alike and raw[i].dtype == dtype
    node.wanted = wanted
    node.dtypes = None if alike else {i: raw[i].dtype for i, _ in parents}
    node.kept = node.rule.take(out, residual, raw)
    # What a kernel, or a forward with residuals, set aside cannot be differentiated: a recorded
    # backward pass computes it again from the arguments.
    again = implementation is not primitive or implementation.residual
    node.args = raw if again else None
    return node


def wrap_all(outs: tuple[Any, ...], node: Vertex | None) -> Any:
    """Return Tensors over the outputs of one operation, as the kind of tuple that they came in."""
    n = len(outs)
    wrapped = [wrap(x, None if node is None else Slot(node, i, n)) for i, x in enumerate(outs)]
    # linalg.eigh and its like return named tuples
    return type(outs)(*wrapped) if hasattr(outs, "_fields") else tuple(wrapped)


def _lifted(x: Any, vertex: Vertex | None) -> Any:
    """Return an array as a Tensor, also one that is not on the tape: raw ones need not mix."""
    return x if type(x) in _SCALARS else wrap(x, vertex)


class _Lift:
    """What a recorded backward pass needs: the namespace of Tensors, and kept values as Tensors."""

    @property
    def namespace(self) -> Any:
        return _Late.namespace

    def values(
        self, rule: Rule, values: Any, node: Vertex, parents: dict[int, Vertex]
    ) -> list[Any]:
        """Return what a rule kept, arrays as Tensors: on the tape, if they were."""
        return [self._one(w, v, node, parents) for w, v in zip(rule.spec, values, strict=True)]

    @staticmethod
    def _one(what: Any, value: Any, node: Any, parents: dict[int, Vertex]) -> Any:
        if type(what) is int:
            return _lifted(value, parents.get(what))
        if what == "y":
            return wrap_all(value, node) if isinstance(value, tuple) else wrap(value, node)
        if type(what) is slice:
            return [wrap(x, parents.get(i)) for i, x in enumerate(value, what.start)]
        return value

    def joint(self, node: JointNode) -> tuple[Callable[..., Any], Any]:
        """Return the standard rule of a node for all its arguments, and its values as Tensors."""
        primitive, rule = node.primitive, node.primitive.joint
        parents = dict(node.parents)
        if node.args is None and rule is not None:
            return rule, self.values(rule, node.kept, node, parents)
        args = [_lifted(x, parents.get(i)) for i, x in enumerate(node.args or ())]
        rules = primitive.rules if rule is None else (rule,)
        y, res = None, None
        if any("y" in r.spec or "res" in r.spec for r in rules if r is not None):
            y = primitive.forward(self.namespace, *args, **node.static)
            if primitive.residual:
                y, res = y
        if rule is not None:
            return rule, rule.take(y, res, args)

        def each(xp: Any, g: Any, needs: list[bool], **static: Any) -> list[Any]:
            pairs = zip(rules, needs, strict=True)
            return [
                r(xp, g, *r.take(y, res, args), **static) if r and n else None for r, n in pairs
            ]

        return each, ()


_lift = _Lift()


def backward(
    outputs: list[Any],
    gradients: list[Any],
    inputs: list[Any] | None = None,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> list[Any]:
    """Carry ``gradients`` of ``outputs`` back, to the leaves or to ``inputs``.

    Returns raw gradients, or Tensors with ``create_graph``, of ``inputs``; None where none arrived.
    """
    if create_graph:
        gradients = [g if isinstance(g, ArrayWrapper) else wrap(g, None) for g in gradients]
    else:
        gradients = [backend.unwrap(g) for g in gradients]
    roots = [(y.vertex, g) for y, g in zip(outputs, gradients, strict=True) if y.vertex is not None]
    options = {
        "wanted": None if inputs is None else [x.vertex for x in inputs],
        "retain": create_graph if retain_graph is None else retain_graph,
        "lift": _lift if create_graph else None,
    }
    token = _recording.set(create_graph)  # as `recording` does, which takes longer
    try:
        with casting.suspended() if _blocks else _nothing, stretch:
            if not SEVERAL:
                return tape.backward(roots, **options)  # type: ignore[arg-type]
            with SEVERAL[0].restored():
                follow = SEVERAL[0].follow
                return tape.backward(roots, **options, follow=follow)  # type: ignore[arg-type]
    except MemoryError as error:
        retell(error)
    finally:
        _recording.reset(token)
