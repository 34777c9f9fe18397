"""Dense networks."""

from __future__ import annotations

from xpnn import layers, optim
from xpnn.training import Sequential
from xpnn.zoo.recipe import recipe

__all__ = ["mlp"]


@recipe(epochs=40, batch_size=32)
def mlp(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 1e-3,
    hidden: int = 128,
    dropout: float = 0.2,
) -> Sequential:
    """Two hidden layers with dropout.

    Parameters
    ----------
    shape : tuple of int
        Of one example; it is flattened.
    classes : int
    lr : float
        Of Adam.
    hidden : int
        Units in each hidden layer.
    dropout : float
        The fraction of hidden units that is dropped.

    Returns
    -------
    Sequential
        Compiled.
    """
    model = Sequential(
        [
            layers.Flatten(),
            layers.Dense(hidden, activation="relu", weight_init="he_uniform"),
            layers.Dropout(dropout),
            layers.Dense(hidden, activation="relu", weight_init="he_uniform"),
            layers.Dropout(dropout),
            layers.Dense(classes),
        ]
    )
    model.compile("cross_entropy", optim.Adam(lr), metrics=["accuracy"])
    return model
