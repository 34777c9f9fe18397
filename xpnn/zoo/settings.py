"""Settings of a recipe from text: ``lr=0.1``, ``filters=6,16``, ``patience=none``."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from xpnn._names import hint
from xpnn.errors import ConfigError
from xpnn.zoo.recipe import Recipe

__all__ = ["check_settings", "listed", "parse"]

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    tuple: "whole numbers with commas between",
    str: "a word",
    type(None): "none",
}
_WORDS = {"none": None, "true": True, "false": False}


def parse(recipe: Recipe, pairs: Iterable[str]) -> dict[str, Any]:
    """Return settings by name from texts ``name=value``.

    A value is read by the annotation of the builder's argument, or by its default.

    Raises
    ------
    ConfigError
        If there is no such setting, or the value is of another kind.

    Examples
    --------
    >>> from xpnn import zoo
    >>> from xpnn.zoo.settings import parse
    >>> parse(zoo.get("lenet5"), ["lr=0.01", "filters=6,16", "steps=none"])
    {'lr': 0.01, 'filters': (6, 16), 'steps': None}
    """
    texts = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            msg = f"{recipe.name}: expected a setting as name=value, got {pair!r}."
            raise ConfigError(msg)
        texts[name.strip()] = text.strip()
    check_settings(recipe, texts)
    return {name: _read(recipe, name, text) for name, text in texts.items()}


def check_settings(recipe: Recipe, settings: Mapping[str, Any]) -> None:
    """Refuse settings that a recipe has not.

    Raises
    ------
    ConfigError
        The message lists those that it has, with their defaults.
    """
    for name in settings:
        if name not in recipe.settings:
            msg = (
                f"{recipe.name} has no setting {name!r}; there are {listed(recipe)}."
                f"{hint(name, recipe.settings)}"
            )
            raise ConfigError(msg)


def listed(recipe: Recipe) -> str:
    """Return the settings of a recipe with their defaults."""
    return ", ".join(f"{name}={_shown(value)}" for name, value in recipe.settings.items())


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _kinds(recipe: Recipe, name: str) -> tuple[type, ...]:
    """Return the types that a setting may have, the strictest first."""
    if name == "patience":
        return (type(None), int)
    parameter = inspect.signature(recipe.build).parameters.get(name)
    kinds: set[Any] = {type(recipe.settings[name])}
    if parameter is not None and parameter.annotation is not parameter.empty:
        annotation = typing.get_type_hints(recipe.build)[name]
        several = typing.get_origin(annotation) in (types.UnionType, typing.Union)
        parts = typing.get_args(annotation) if several else (annotation,)
        kinds = {typing.get_origin(part) or part for part in parts}
    order = (type(None), bool, int, float, tuple, str)
    return tuple(kind for kind in order if kind in kinds)


def _read(recipe: Recipe, name: str, text: str) -> Any:
    kinds = _kinds(recipe, name)
    for kind in kinds:
        try:
            return _converted(kind, text)
        except ValueError:
            continue
    wanted = " or ".join(_KINDS[kind] for kind in kinds)
    msg = (
        f"{recipe.name}: {name!r} must be {wanted}, got {text!r}. Its default is"
        f" {_shown(recipe.settings[name])}."
    )
    raise ConfigError(msg)


def _converted(kind: type, text: str) -> Any:
    """Return a text as a value of a kind, or raise ValueError."""
    if kind is type(None) or kind is bool:
        value = _WORDS.get(text.lower(), text)
        if isinstance(value, kind):
            return value
        raise ValueError(text)
    if kind is tuple:
        return tuple(int(part) for part in text.split(","))
    return kind(text)
