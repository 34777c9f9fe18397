"""Optimizers and schedules by name, and their arguments checked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from xpnn._names import hint
from xpnn.errors import ConfigError

__all__ = ["build", "choice", "flag", "lookup", "number", "resolve", "whole"]


def number(
    owner: Any,
    name: str,
    value: Any,
    *,
    above: float | None = None,
    below: float = math.inf,
    upto: float | None = None,
) -> float:
    """Return an argument as a float, if it lies in [0, below), or (above, below), or [0, upto].

    ``owner`` is the object whose argument it is, or the name of a function.

    Raises
    ------
    ConfigError
        If it does not.
    """
    try:
        x = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError):
        x = math.nan
    low = 0 <= x if above is None else above < x
    if low and (x < below if upto is None else x <= upto):
        return x
    start = "[0" if above is None else f"({above:g}"
    end = f"{below:g})" if upto is None else f"{upto:g}]"
    msg = f"{_name(owner)}: {name!r} must be in {start}, {end}, got {value!r}."
    raise ConfigError(msg)


def whole(owner: Any, name: str, value: Any, least: int = 0) -> int:
    """Return an argument that is a whole number, at least ``least``.

    Raises
    ------
    ConfigError
        If it is something else.
    """
    if hasattr(value, "__index__") and not isinstance(value, bool) and int(value) >= least:
        return int(value)
    msg = f"{_name(owner)}: {name!r} must be a whole number >= {least}, got {value!r}."
    raise ConfigError(msg)


def flag(owner: Any, name: str, value: Any) -> bool:
    """Return an argument that is True or False.

    Raises
    ------
    ConfigError
        If it is something else.
    """
    if isinstance(value, bool):
        return value
    msg = f"{_name(owner)}: {name!r} must be True or False, got {value!r}."
    raise ConfigError(msg)


def choice(owner: Any, name: str, value: Any, known: tuple[str, ...]) -> str:
    """Return an argument that is one of some words.

    Raises
    ------
    ConfigError
        If it is something else.
    """
    if isinstance(value, str) and value in known:
        return value
    msg = f"{_name(owner)}: {name!r} must be {' or '.join(map(repr, known))}, got {value!r}."
    raise ConfigError(msg)


def lookup(kind: str, registry: Mapping[str, Any], name: Any) -> Any:
    """Return the class of a name; case and underscores do not matter.

    Raises
    ------
    ConfigError
        If there is none; the message lists those there are.
    """
    plain = name.replace("_", "").lower() if isinstance(name, str) else ""
    if plain not in registry:
        known = sorted(cls.__name__ for cls in registry.values())
        msg = f"unknown {kind} {name!r}; known are {', '.join(known)}.{hint(name, known)}"
        raise ConfigError(msg)
    return registry[plain]


def build(cls: Any, options: Mapping[str, Any], noun: str = "hyperparameter") -> Any:
    """Return an object of a class with arguments by name.

    Raises
    ------
    ConfigError
        If a name is not one of its arguments, one is missing, or a value is out of range.
    """
    known = inspect.signature(cls).parameters
    if unknown := [name for name in options if name not in known]:
        msg = (
            f"{cls.__name__} has no {noun} {', '.join(map(repr, unknown))};"
            f" it has {', '.join(known)}."
        )
        raise ConfigError(msg)
    try:
        inspect.signature(cls).bind(**options)
    except TypeError as error:
        msg = f"{cls.__name__}: {error}."
        raise ConfigError(msg) from None
    return cls(**options)


def resolve(kind: str, registry: Mapping[str, Any], given: Any, noun: str) -> Any:
    """Return the object of a name, of a pair of a name and its arguments, or of a configuration.

    Raises
    ------
    ConfigError
        If no class has that name, or it takes no such arguments.
    """
    if isinstance(given, Mapping):
        options = dict(given)
        return build(lookup(kind, registry, options.pop("class", None)), options, noun)
    if isinstance(given, (tuple, list)) and len(given) == 2 and isinstance(given[1], Mapping):
        return build(lookup(kind, registry, given[0]), given[1], noun)
    return build(lookup(kind, registry, given), {}, noun)


def _name(owner: Any) -> str:
    return owner if isinstance(owner, str) else type(owner).__name__
