"""Convolutional networks."""

from __future__ import annotations

from xpnn import layers, optim
from xpnn.errors import ConfigError
from xpnn.training import Sequential
from xpnn.zoo.recipe import recipe

__all__ = ["convnet"]


def _image(name: str, shape: tuple[int, ...]) -> layers.Layer:
    """Return the layer that gives images (N, H, W) or (N, H, W, C) their axis of channels."""
    if len(shape) not in (2, 3):
        msg = f"{name}: expected images of shape (H, W) or (H, W, C), got examples of {shape}."
        raise ConfigError(msg)
    return layers.Reshape((*shape, 1) if len(shape) == 2 else shape)


@recipe(epochs=30, batch_size=64)
def convnet(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 2e-3,
    weight_decay: float = 0.05,
    dropout: float = 0.5,
) -> Sequential:
    """Two 3x3 convolutions with batch normalization, for small images such as the digits.

    Parameters
    ----------
    shape : tuple of int
        (H, W) or (H, W, C).
    classes : int
    lr, weight_decay : float
        Of AdamW.
    dropout : float
        The fraction dropped before the dense layers.

    Returns
    -------
    Sequential
        Compiled.
    """
    model = Sequential(
        [
            _image("convnet", shape),
            layers.Conv2D(32, 3, padding="same"),
            layers.BatchNorm(),
            layers.Activation("relu"),
            layers.Conv2D(64, 3, padding="same"),
            layers.BatchNorm(),
            layers.Activation("relu"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dropout(dropout),
            layers.Dense(128, activation="relu", weight_init="he_uniform"),
            layers.Dropout(dropout),
            layers.Dense(classes),
        ]
    )
    model.compile("cross_entropy", optim.AdamW(lr, weight_decay=weight_decay), metrics=["accuracy"])
    return model
