"""Small networks for the embedded 8x8 digits."""

from __future__ import annotations

from typing import Any

from xpnn import datasets, layers, optim
from xpnn.data import split
from xpnn.training import Sequential
from xpnn.zoo.recipe import recipe

__all__ = ["convnet", "digits", "mlp"]


def digits() -> Any:
    """Return the digits, a random fifth of them held out for testing."""
    x, y = datasets.load_digits()
    x_train, x_test, y_train, y_test = split(x, y, fraction=0.2)
    return (x_train, y_train), (x_test, y_test)


@recipe(data=digits, epochs=40, batch_size=32, lr=1e-3)
def mlp(lr: float = 1e-3) -> Any:
    """Two hidden layers of 128 with dropout, on the 8x8 digits (seconds).

    Parameters
    ----------
    lr : float
        Of Adam.

    Returns
    -------
    Sequential
        Compiled; takes images of shape (N, 8, 8).
    """
    model = Sequential(
        [
            layers.Flatten(),
            layers.Dense(128, activation="relu", weight_init="he_uniform"),
            layers.Dropout(0.2),
            layers.Dense(128, activation="relu", weight_init="he_uniform"),
            layers.Dropout(0.2),
            layers.Dense(10),
        ]
    )
    model.compile("cross_entropy", optim.Adam(lr), metrics=["accuracy"])
    return model


@recipe(data=digits, epochs=30, batch_size=64, lr=2e-3)
def convnet(lr: float = 2e-3) -> Any:
    """Two 3x3 convolutions with batch normalization, on the 8x8 digits (ten seconds).

    Parameters
    ----------
    lr : float
        Of AdamW.

    Returns
    -------
    Sequential
        Compiled; takes images of shape (N, 8, 8).
    """
    model = Sequential(
        [
            layers.Reshape((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same"),
            layers.BatchNorm(),
            layers.Activation("relu"),
            layers.Conv2D(64, 3, padding="same"),
            layers.BatchNorm(),
            layers.Activation("relu"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(128, activation="relu", weight_init="he_uniform"),
            layers.Dropout(0.5),
            layers.Dense(10),
        ]
    )
    model.compile("cross_entropy", optim.AdamW(lr, weight_decay=0.05), metrics=["accuracy"])
    return model
