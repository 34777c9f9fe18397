"""Optimizers by name, and their hyperparameters checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from xpnn.errors import ConfigError

__all__ = ["build", "flag", "lookup", "number", "registry"]

registry: dict[str, Any] = {}  # every optimizer class, by its name in lower case


def number(
    owner: Any, name: str, value: Any, *, below: float = math.inf, upto: float | None = None
) -> float:
    """Return a hyperparameter as a float, if it lies in [0, below), or in [0, upto].

    Raises
    ------
    ConfigError
        If it does not.
    """
    try:
        x = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError):
        x = math.nan
    if 0 <= x < below if upto is None else 0 <= x <= upto:
        return x
    bounds = f"[0, {below:g})" if upto is None else f"[0, {upto:g}]"
    msg = f"{type(owner).__name__}: {name!r} must be in {bounds}, got {value!r}."
    raise ConfigError(msg)


def flag(owner: Any, name: str, value: Any) -> bool:
    """Return a hyperparameter that is True or False.

    Raises
    ------
    ConfigError
        If it is something else.
    """
    if isinstance(value, bool):
        return value
    msg = f"{type(owner).__name__}: {name!r} must be True or False, got {value!r}."
    raise ConfigError(msg)


def lookup(name: Any) -> Any:
    """Return the optimizer class of a name.

    Raises
    ------
    ConfigError
        If there is none; the message lists those there are.
    """
    cls = registry.get(name.lower()) if isinstance(name, str) else None
    if cls is None:
        known = ", ".join(sorted(cls.__name__ for cls in registry.values()))
        msg = f"unknown optimizer {name!r}; known are {known}."
        raise ConfigError(msg)
    return cls


def build(cls: Any, options: Mapping[str, Any]) -> Any:
    """Return an optimizer of a class with hyperparameters by name.

    Raises
    ------
    ConfigError
        If a name is not one of its hyperparameters, or a value is out of range.
    """
    if unknown := [name for name in options if name not in cls.hyperparameter_names]:
        msg = (
            f"{cls.__name__} has no hyperparameter {', '.join(map(repr, unknown))};"
            f" it has {', '.join(cls.hyperparameter_names)}."
        )
        raise ConfigError(msg)
    return cls(**options)
