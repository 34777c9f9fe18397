"""Pictures of a run: curves, confusions, filters, reconstructions, samples."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from xpnn import backend, plot
from xpnn._extras import require
from xpnn.autograd.transforms import no_grad
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers import Unsupervised
from xpnn.training import History
from xpnn.zoo.data import Splits
from xpnn.zoo.recipe import Recipe

__all__ = ["draw"]

_SHOWN = 10  # reconstructions


def draw(
    recipe: Recipe,
    model: Any,
    splits: Splits,
    history: History,
    folder: Path,
    classifies: bool,
) -> list[Path]:
    """Write the pictures that make sense for a network, and return their paths.

    ``curves.png``; ``confusion.png`` (of the test data) for classifiers. Of images also
    ``filters.png`` where the first weights look at pixels; ``reconstructions.png`` where something
    reconstructs examples; ``samples.png`` where the recipe says how to sample.

    Raises
    ------
    MissingLibraryError
        If matplotlib is not installed.
    """
    require("matplotlib", "plot", "a picture")
    files: list[Path] = []

    def path(name: str) -> Path:
        files.append(folder / f"{name}.png")
        return files[-1]

    if history.epochs:
        plot.curves(history, path=path("curves"))
    x, y = splits.test
    if classifies:
        plot.confusion_matrix(model.predict(x), y, path=path("confusion"))
    if _is_image(splits.shape):
        try:
            plot.filters(model, path=folder / "filters.png")
            files.append(folder / "filters.png")
        except (ConfigError, ShapeError):
            pass  # the first weights look at something else than pixels
        made = _reconstructed(recipe, model, x[:_SHOWN], splits.shape)
        if made is not None:
            plot.reconstructions(x[:_SHOWN], made, path=path("reconstructions"))
        if recipe.samples is not None:
            plot.images(recipe.samples(model), path=path("samples"))
    return files


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3))


def _reconstructed(recipe: Recipe, model: Any, x: Any, shape: tuple[int, ...]) -> Any:
    """Return what is made of examples, in their shape; None if nothing makes anything of them."""
    if recipe.reconstruct is not None:
        return recipe.reconstruct(model, x)
    pixels = math.prod(shape)
    for layer in model.layers():
        if isinstance(layer, Unsupervised) and layer.visible == pixels:
            flat = backend.asarray(x.reshape((len(x), pixels)), **model._place())
            with no_grad():
                return layer.eval().reconstruct(flat)
    return None
