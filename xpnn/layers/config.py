"""Arguments of layers as JSON, and back."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

from xpnn import activations, initializers
from xpnn._dtypes import DType
from xpnn.errors import ConfigError

__all__ = ["decode", "encode", "registry"]

registry: dict[str, Any] = {}  # every layer class, by name


def encode(value: Any, owner: str, name: str) -> Any:
    """Return an argument as JSON.

    Raises
    ------
    ConfigError
        If it is an array or a function of one's own, which JSON cannot hold.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [encode(v, owner, name) for v in value]
    if isinstance(value, dict):
        return {"dict": {k: encode(v, owner, name) for k, v in value.items()}}
    if isinstance(value, DType):
        return value.name
    if hasattr(value, "to_config"):
        return {"layer": value.to_config()}
    if isinstance(value, initializers.Initializer) and is_dataclass(value):
        return {"initializer": type(value).__name__, **asdict(value)}
    if callable(value) and (known := activations.name_of(value)) is not None:
        return known
    msg = (
        f"{owner}: the argument {name!r} is a {type(value).__name__}, which a JSON configuration"
        " cannot hold. Name it by a string, or write a Layer class of your own."
    )
    raise ConfigError(msg)


def decode(value: Any) -> Any:
    """Return the argument that :func:`encode` wrote."""
    if isinstance(value, list):
        return [decode(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {k: decode(v) for k, v in value["dict"].items()}
    if "layer" in value:
        return registry["Layer"].from_config(value["layer"])
    if value.get("initializer") in initializers.__all__:
        values = dict(value)
        return getattr(initializers, values.pop("initializer"))(**values)
    msg = f"a configuration holds {value!r}, which xpnn did not write."
    raise ConfigError(msg)
