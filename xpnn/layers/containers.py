"""Layers made of layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from xpnn.errors import ConfigError
from xpnn.layers.base import Layer

__all__ = ["Chain"]

Array = Any


class Chain(Layer):
    """Layers one after another: the output of each is the input of the next.

    :class:`xpnn.Sequential` is this as a model that can be trained.

    Parameters
    ----------
    layers : iterable of Layer

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> block = layers.Chain([layers.Dense(4, activation="relu"), layers.Dense(2)])
    >>> block(np.ones((3, 5), np.float32)).shape
    (3, 2)
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.members = list(layers)
        self._config["layers"] = self.members
        for i, layer in enumerate(self.members):
            if not isinstance(layer, Layer):
                msg = f"{type(self).__name__}: item {i} is not a layer but {type(layer).__name__}."
                raise ConfigError(msg)

    def forward(self, x: Array) -> Array:
        for layer in self.members:
            x = layer(x)
        return x

    def _parts(self) -> Iterator[tuple[str, Any]]:
        return ((str(i), layer) for i, layer in enumerate(self.members))

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, i: int) -> Layer:
        return self.members[i]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.members)
