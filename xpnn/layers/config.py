"""Layers as JSON, and back.

What is shared stays shared: a layer or a parameter that was met before is written as a reference to
it. Layers are counted in the order in which they are finished, which is the same in writing and in
reading: those among a layer's arguments come before the layer itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, fields, is_dataclass
from numbers import Integral, Real
from typing import Any

from xpnn import activations, initializers
from xpnn._dtypes import DType
from xpnn.errors import ConfigError, XpnnError
from xpnn.layers.parts import Parameter, Parts

__all__ = ["decode", "decode_layer", "encode", "encode_layer", "register", "registry"]

_STARS: dict[Any, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}
registry: dict[str, Any] = {}  # every layer class, by the name it has in configurations
_finished: ContextVar[list[Any] | None] = ContextVar("xpnn_finished_layers", default=None)


def register(cls: Any) -> None:
    """Make a layer class known to configurations, by its name.

    The names of xpnn's own classes are theirs: another class of such a name bears that of its
    module before it. Of two classes of the user's the later one takes the name.
    """
    name, old = cls.__name__, registry.get(cls.__name__)
    if old is not None and _ours(old) != _ours(cls):
        guest = old if _ours(cls) else cls
        guest._known_as = f"{guest.__module__}.{name}"
        registry[guest._known_as] = guest
        if guest is cls:
            return
    cls._known_as = name
    registry[name] = cls


def _ours(cls: Any) -> bool:
    return str(cls.__module__).startswith("xpnn.")


@contextmanager
def _counting() -> Iterator[list[Any]]:
    """Yield the layers finished so far; a new list for the outermost one."""
    done = _finished.get()
    if done is not None:
        yield done
        return
    done = []
    token = _finished.set(done)
    try:
        yield done
    finally:
        _finished.reset(token)


def encode_layer(layer: Any) -> dict[str, Any]:
    """Return class, arguments and input shapes of a layer as JSON."""
    with _counting() as done:
        for i, other in enumerate(done):
            if other is layer:
                return {"same": i}
        name = type(layer).__name__
        for p in inspect.signature(type(layer).__init__).parameters.values():
            stars = _STARS.get(p.kind)
            if stars and layer._config.get(p.name):
                msg = (
                    f"{name}: what its __init__ takes as {stars}{p.name} cannot be saved: in a"
                    " configuration every argument has a name. Write out the arguments."
                )
                raise ConfigError(msg)
        arguments = {k: encode(v, name, k) for k, v in layer._config.items()}
        config: dict[str, Any] = {"class": type(layer)._known_as, "config": arguments}
        if layer._shapes is not None:
            config["shapes"] = [list(shape) for shape in layer._shapes]
            config["dtypes"] = list(layer._dtypes)
        done.append(layer)
        return config


def decode_layer(config: Any) -> Any:
    """Return the layer that :func:`encode_layer` wrote, built if it was.

    Raises
    ------
    ConfigError
        If its class is not defined, or does not take these arguments.
    """
    with _counting() as done:
        if not isinstance(config, Mapping):
            raise _unknown(config)
        if "same" in config:
            if type(i := config["same"]) is not int or i not in range(len(done)):
                raise _unknown(config)
            return done[i]
        name, arguments = config.get("class"), config.get("config")
        cls = registry.get(name) if isinstance(name, str) else None
        if cls is None:
            msg = f"no layer class {name!r} is defined; import its module first."
            raise ConfigError(msg)
        if not isinstance(arguments, Mapping):
            raise _unknown(config)
        given = {key: decode(value) for key, value in arguments.items()}
        try:
            layer = cls(**given)
        except TypeError as error:
            if isinstance(error, XpnnError):
                raise
            msg = (
                f"{name} cannot be made of its configuration ({error}). If its __init__ was changed"
                " since, let it take the arguments of then, or give new ones a default."
            )
            raise ConfigError(msg) from error
        if "shapes" in config:
            layer._rebuild(config["shapes"], config.get("dtypes", ()))
        done.append(layer)
        return layer


def _unknown(value: Any) -> ConfigError:
    msg = f"a configuration holds {str(value)[:80]}, which xpnn did not write."
    return ConfigError(msg)


def encode(value: Any, owner: str, name: str) -> Any:
    """Return an argument as JSON.

    Raises
    ------
    ConfigError
        If it is an array or a function of one's own, which JSON cannot hold.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Real):  # of NumPy
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, (list, tuple)):
        return [encode(v, owner, name) for v in value]
    if isinstance(value, dict):
        return {"dict": {k: encode(v, owner, name) for k, v in value.items()}}
    if isinstance(value, DType):
        return value.name
    if isinstance(value, Parts):
        return {"layer": encode_layer(value)}
    if isinstance(value, Parameter):
        return {"parameter": _reference(value, owner, name)}
    if isinstance(value, initializers.Initializer) and is_dataclass(value):
        return {"initializer": type(value).__name__, **asdict(value)}
    if callable(value) and (known := activations.name_of(value)) is not None:
        return encode(known, owner, name)
    msg = (
        f"{owner}: the argument {name!r} is a {type(value).__name__}, which a JSON configuration"
        " cannot hold. Name it by a string, or write a Layer class of your own."
    )
    raise ConfigError(msg)


def _reference(parameter: Parameter, owner: str, name: str) -> list[Any]:
    """Return the number of the layer that owns a parameter, and the name it has there."""
    for i, layer in enumerate(_finished.get() or []):
        for part, value in layer._parts():
            if value is parameter:
                return [i, part]
    msg = (
        f"{owner}: {name!r} is the parameter of a layer that is not part of this configuration, or"
        " comes later in it. Save the model that holds both."
    )
    raise ConfigError(msg)


def decode(value: Any) -> Any:
    """Return the argument that :func:`encode` wrote."""
    if isinstance(value, list):
        return [decode(v) for v in value]
    if not isinstance(value, dict):
        return value
    if isinstance(inner := value.get("dict"), dict):
        return {k: decode(v) for k, v in inner.items()}
    if "layer" in value:
        return decode_layer(value["layer"])
    if "parameter" in value:
        match value["parameter"], _finished.get() or []:
            case [int(i), str(part)], done if i in range(len(done)):
                found = dict(done[i]._parts()).get(part)
                if isinstance(found, Parameter):
                    return found
    if value.get("initializer") in initializers.__all__:
        values = dict(value)
        cls = getattr(initializers, values.pop("initializer"))
        if is_dataclass(cls) and values.keys() == {field.name for field in fields(cls)}:
            return cls(**values)  # type: ignore[operator]
    raise _unknown(value)
