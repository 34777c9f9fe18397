"""An activation that follows another function: as one operation, where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from xpnn.autograd.record import apply
from xpnn.functional import rectifiers, sigmoids
from xpnn.primitives import activations, elementwise
from xpnn.primitives.base import Primitive
from xpnn.primitives.fused import followed

__all__ = ["apply_then"]

Array = Any

# Those whose output tells their slope.
_PRIMITIVES: dict[Any, Primitive] = {
    rectifiers.relu: activations.relu,
    sigmoids.sigmoid: activations.sigmoid,
    sigmoids.tanh: elementwise.tanh,
}


def apply_then(
    primitive: Primitive,
    args: Any,
    params: dict[str, Any] | None,
    activation: Callable[[Array], Array] | None,
) -> Array:
    """Compute a primitive, and the activation of what it gives."""
    second = _PRIMITIVES.get(activation) if type(activation) is FunctionType else None
    if second is not None:
        return apply(followed(primitive, second), args, params)
    y = apply(primitive, args, params)
    return y if activation is None else activation(y)
