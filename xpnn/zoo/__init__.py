"""Networks by name, each with the data and the settings it is trained with."""

from __future__ import annotations

from xpnn.zoo.data import Splits
from xpnn.zoo.dense import mlp
from xpnn.zoo.images import convnet
from xpnn.zoo.recipe import RECIPES, Recipe, get

__all__ = ["RECIPES", "Recipe", "Splits", "convnet", "get", "mlp"]
