"""Networks by name, each with the data and the settings it is trained with."""

from __future__ import annotations

from xpnn.zoo.digits import convnet, mlp
from xpnn.zoo.recipe import RECIPES, Recipe, get

__all__ = ["RECIPES", "Recipe", "convnet", "get", "mlp"]
