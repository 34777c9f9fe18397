"""Calling a layer as a pure function of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpnn import backend
from xpnn.backend import unwrap
from xpnn.errors import ConfigError
from xpnn.layers.base import Layer, Parameter

__all__ = ["functional_call"]


def functional_call(layer: Layer, params: Mapping[str, Any], *inputs: Any, **options: Any) -> Any:
    """Run a layer with other arrays in place of its parameters.

    The layer itself is left as it is. With raw arrays for all parameters and inputs the result is a
    raw array, of torch for example, through which torch can differentiate.

    Parameters
    ----------
    layer : Layer
        Built: its parameters have names.
    params : dict
        Arrays or Tensors by name, for some or all of ``layer.named_parameters()``.
    *inputs, **options
        What the layer is called with.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> layer = xpnn.layers.Dense(2, in_features=3)
    >>> w, b = np.ones((3, 2)), np.zeros(2)
    >>> xpnn.functional_call(layer, {"weight": w, "bias": b}, np.ones((1, 3)))
    array([[3., 3.]])
    """
    if unknown := [name for name in params if name not in layer.named_parameters()]:
        known = ", ".join(layer.named_parameters())
        msg = f"functional_call: no parameter is named {', '.join(unknown)}; there are {known}."
        raise ConfigError(msg)
    given = [unwrap(x) for x in (*params.values(), *inputs)]
    home = next((backend.device_of(x) for x in given if hasattr(x, "shape")), None)
    owners = {id(p): params[name] for name, p in layer.named_parameters().items() if name in params}
    return _substituted(layer, owners, home, {})(*inputs, **options)


def _substituted(part: Any, values: dict[int, Any], home: Any, done: dict[int, Any]) -> Any:
    """Return a shallow copy of a layer or list with other parameters, and buffers at home."""
    if isinstance(part, Parameter):
        return values.get(id(part), part)
    if isinstance(part, (list, tuple)) and any(isinstance(x, (Layer, Parameter)) for x in part):
        return type(part)(_substituted(x, values, home, done) for x in part)
    if not isinstance(part, Layer):
        return part
    if id(part) not in done:
        copy = done[id(part)] = object.__new__(type(part))
        for name, value in vars(part).items():
            new = _substituted(value, values, home, done)
            if name in part.buffers and home is not None and new is not None:
                new = backend.to_device(new, home)
            vars(copy)[name] = new
        copy._tracks = False
    return done[id(part)]
