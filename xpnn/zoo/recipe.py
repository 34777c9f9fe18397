"""A recipe: a network, its data, and how it is trained."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xpnn._names import hint
from xpnn.errors import ConfigError
from xpnn.zoo.data import Splits, images

__all__ = ["RECIPES", "Recipe", "get", "recipe"]


@dataclass(frozen=True)
class Recipe:
    """What ``xpnn train NAME`` needs to know.

    Attributes
    ----------
    name, about : str
        The builder's name and the first line of its docstring.
    build : callable
        ``build(shape, classes, **settings)`` returns a compiled model for examples of a shape, such
        as ``(28, 28)``, and a number of classes (None where the data has no labels).
    epochs, batch_size : int
    least_steps : int
        Small data is gone through more often than ``epochs`` says, until there are so many steps.
    patience : int, optional
        In steps: training stops by :class:`~xpnn.callbacks.IterationPatience`, and the weights of
        the best validation are kept. None: all epochs, and the last weights.
    monitor : str
        The value that decides which weights are the best.
    pretrain : dict, optional
        Arguments of :func:`xpnn.training.pretrain`, for networks with unsupervised layers.
    data : callable
        ``data(name)`` returns :class:`~xpnn.zoo.data.Splits`; by default the image sets.
    dataset : str
        The name that ``data`` is given unless the user says another.
    score : callable, optional
        ``score(model, splits)`` returns floats by name, measured on ``splits.test``, once, at the
        end. By default what :meth:`Model.evaluate` returns there.
    reconstruct : callable, optional
        ``reconstruct(model, x)`` returns what the model makes of examples x, in their shape. By
        default the first unsupervised layer of a model is asked, where there is one.
    samples : callable, optional
        ``samples(model)`` returns images of shape (N, H, W) or (N, H, W, C) that the model made.
        It is asked where the examples are images.
    """

    name: str
    about: str
    build: Callable[..., Any]
    epochs: int = 40
    batch_size: int = 32
    least_steps: int = 0
    patience: int | None = None
    monitor: str = "val_loss"
    pretrain: Mapping[str, Any] | None = None
    data: Callable[[str], Splits] = images
    dataset: str = "digits"
    score: Callable[[Any, Splits], dict[str, float]] | None = None
    reconstruct: Callable[[Any, Any], Any] | None = None
    samples: Callable[[Any], Any] | None = None
    settings: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", _settings(self))

    def epochs_for(self, examples: int, batch_size: int) -> int:
        """Return how many epochs there are by default."""
        steps = -(-examples // batch_size)
        return max(self.epochs, -(-self.least_steps // steps))


def _settings(found: Recipe) -> dict[str, Any]:
    """Return the settable names with their defaults."""
    parameters = inspect.signature(found.build).parameters.values()
    own = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    pretrain = {f"pretrain_{name}": value for name, value in (found.pretrain or {}).items()}
    return {**own, **pretrain, "patience": found.patience}


RECIPES: dict[str, Recipe] = {}


def recipe(**fields: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated builder under its own name, with its first docstring line.

    Parameters
    ----------
    **fields
        Of :class:`Recipe`, but for ``name``, ``about`` and ``build``.

    Examples
    --------
    >>> from xpnn import Sequential, layers
    >>> from xpnn.zoo.recipe import RECIPES, get, recipe
    >>> @recipe(epochs=10, batch_size=64)
    ... def linear(shape, classes, *, lr=0.01):
    ...     "A linear classifier."
    ...     model = Sequential([layers.Flatten(), layers.Dense(classes)])
    ...     model.compile("cross_entropy", ("sgd", {"lr": lr}), metrics=["accuracy"])
    ...     return model
    >>> get("linear").about, get("linear").settings
    ('A linear classifier.', {'lr': 0.01, 'patience': None})
    >>> del RECIPES["linear"]
    """

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
        raise ConfigError(msg + hint(name, RECIPES))
    return RECIPES[name]
