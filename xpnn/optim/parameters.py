"""What an optimizer is given: a list of parameters, and gradients side by side with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpnn.backend import ArrayWrapper, array_namespace, unwrap
from xpnn.errors import ConfigError, DeviceError, DTypeError, ShapeError

__all__ = ["check_gradient", "check_tensor", "listed", "paired"]


def listed(who: str, xs: Any) -> list[Any]:
    """Return the parameters of a layer, or the items of a dict or an iterable.

    Raises
    ------
    DTypeError
        If it is one array.
    """
    if type(xs) is list:
        return xs
    if hasattr(xs, "parameters"):
        return list(xs.parameters())
    if isinstance(xs, Mapping):
        return list(xs.values())
    if isinstance(xs, ArrayWrapper) or hasattr(xs, "shape"):
        msg = f"{who}: expected a list of Tensors, got one array: write [w]."
        raise DTypeError(msg)
    return list(xs)


def check_tensor(label: str, param: Any) -> None:
    """Raise an error for what is not a Tensor."""
    tensor = isinstance(param, ArrayWrapper) or not hasattr(param, "__dlpack__")
    if not (tensor and hasattr(param, "data")):
        cls = type(param)
        msg = (
            f"{label} is a {cls.__module__}.{cls.__qualname__}; an optimizer updates Tensors."
            " Write w = xpnn.Tensor(w) before."
        )
        raise DTypeError(msg)


def check_gradient(label: str, data: Any, g: Any) -> None:
    """Raise an error for a gradient that is none of the array of a parameter."""
    if not hasattr(g, "shape"):
        msg = f"{label} has a {type(g).__name__} for a gradient; expected an array or a Tensor."
        raise DTypeError(msg)
    array_namespace(data, g)  # one library
    if g.device != data.device:
        msg = f"{label} is on {data.device}, but its gradient is on {g.device}. Move one."
        raise DeviceError(msg)
    if tuple(g.shape) != tuple(data.shape):
        msg = f"{label} has shape {tuple(data.shape)}, but its gradient has {tuple(g.shape)}."
        raise ShapeError(msg)


def paired(who: str, params: Any, grads: Any) -> tuple[Any, list[Any], list[Any]]:
    """Return names or numbers of the pairs, parameters and gradients; no parameter twice.

    Raises
    ------
    ShapeError
        If there are not as many of the one as of the other.
    ConfigError
        If names differ, or a parameter is given twice with two gradients.
    """
    keys: Any = None
    if isinstance(grads, Mapping) and isinstance(params, Mapping):
        if odd := params.keys() ^ grads.keys():
            msg = (
                f"{who}: only the parameters or only the gradients have"
                f" {', '.join(sorted(map(repr, odd)))}."
            )
            raise ConfigError(msg)
        keys = list(params)
        grads = [grads[key] for key in keys]
    params, grads = listed(who, params), listed(who, grads)
    if len(params) != len(grads):
        msg = (
            f"{who}: got {len(params)} parameters and {len(grads)} gradients."
            " Give None for a parameter that has none."
        )
        raise ShapeError(msg)
    keys = keys or range(len(params))
    if len(set(map(id, params))) < len(params):
        return _once(who, keys, params, grads)
    return keys, params, grads


def _once(
    who: str, keys: Any, params: list[Any], grads: list[Any]
) -> tuple[list[Any], list[Any], list[Any]]:
    """Return every parameter once; it must have been given the same gradient everywhere."""
    triples: dict[int, tuple[Any, Any, Any]] = {}
    for key, param, grad in zip(keys, params, grads, strict=True):
        _, _, first = triples.setdefault(id(param), (key, param, grad))
        if unwrap(grad) is not unwrap(first):
            msg = f"{who}: params[{key!r}] is given twice, with two gradients. Add them first."
            raise ConfigError(msg)
    once = zip(*triples.values(), strict=True)
    return tuple(map(list, once))  # type: ignore[return-value]
