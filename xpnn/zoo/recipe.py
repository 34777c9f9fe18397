"""A recipe: a network, its data, and how it is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xpnn.errors import ConfigError

__all__ = ["RECIPES", "Recipe", "get", "recipe"]


@dataclass(frozen=True)
class Recipe:
    """What ``xpnn train NAME`` needs to know.

    Attributes
    ----------
    name, about : str
    build : callable
        Returns a compiled model; takes ``lr``.
    data : callable
        Returns ``(x_train, y_train), (x_test, y_test)``.
    epochs, batch_size : int
    lr : float
    """

    name: str
    about: str
    build: Callable[..., Any]
    data: Callable[[], Any]
    epochs: int
    batch_size: int
    lr: float


RECIPES: dict[str, Recipe] = {}


def recipe(**fields: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated builder under its own name, with its first docstring line."""

    def register(build: Callable[..., Any]) -> Callable[..., Any]:
        about = (build.__doc__ or "").strip().splitlines()[0]
        RECIPES[build.__name__] = Recipe(build.__name__, about, build, **fields)
        return build

    return register


def get(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises
    ------
    ConfigError
        If there is none; the message lists all.
    """
    if name not in RECIPES:
        msg = f"no network is called {name!r}; there are {', '.join(sorted(RECIPES))}."
        raise ConfigError(msg)
    return RECIPES[name]
