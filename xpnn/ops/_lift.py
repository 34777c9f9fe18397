"""From a primitive to the public function of the namespace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnn._dtypes import as_dtype
from xpnn.autograd.record import apply
from xpnn.backend import array_namespace, native_dtype, unwrap
from xpnn.primitives.base import Primitive

__all__ = ["lift", "native"]


def lift(primitive: Primitive) -> Callable[..., Any]:
    """Return the public function of a primitive, with the standard's signature."""
    count = len(primitive.arrays)
    names = [*primitive.defaults, *primitive.required]
    required = primitive.required
    parameters = primitive.signature.parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]

    def with_parameters(*args: Any, **params: Any) -> Any:
        if len(args) != count or (required and not required <= params.keys()):
            args, params = _bind(args, params)
        if "dtype" in params and params["dtype"] is not None:
            params["dtype"] = native(args[0], params["dtype"])
        return apply(primitive, args, params)

    def _bind(args: Any, params: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        named = dict(zip(positional, args[count:], strict=False))
        complete = len(args) == count + len(named) and required <= {*named, *params}
        if complete and named.keys().isdisjoint(params):
            return args[:count], {**named, **params}
        bound = primitive.signature.bind(*args, **params).arguments
        arrays = tuple(bound.pop(name) for name in primitive.arrays)
        return arrays, bound

    def without_parameters(*args: Any) -> Any:
        if len(args) != count:
            primitive.signature.bind(*args)
        return apply(primitive, args)

    function = with_parameters if names else without_parameters
    function.__name__ = function.__qualname__ = primitive.name
    function.__doc__ = primitive.__doc__
    function.__module__ = "xpnn.ops"
    function.__signature__ = primitive.signature  # type: ignore[attr-defined]
    return function


def native(x: Any, dtype: Any) -> Any:
    """Return the dtype object that the library of ``x`` takes."""
    return native_dtype(array_namespace(unwrap(x)), as_dtype(dtype))
