"""Convolutional networks."""

from __future__ import annotations

from xpnn import layers, optim
from xpnn.training import Sequential
from xpnn.zoo.parts import check_classes, image, rate
from xpnn.zoo.recipe import recipe

__all__ = ["conv_pool", "convnet", "lenet5"]


def _padding(shape: tuple[int, ...]) -> str:
    """Return "valid", as LeNet's, where two 5x5 convolutions and poolings leave something."""
    return "valid" if min(shape[:2]) >= 16 else "same"


@recipe(epochs=10, batch_size=100, least_steps=1500)
def conv_pool(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 2e-3,
    filters: int = 20,
    weight_decay: float = 0.05,
    steps: int | None = None,
) -> Sequential:
    """One convolution with pooling, and logits on top.

    Parameters
    ----------
    shape : tuple of int
        (H, W) or (H, W, C), from 2x2 pixels on.
    classes : int
    lr, weight_decay : float
        Of AdamW.
    filters : int
        Of 5x5 pixels.
    steps : int, optional
        In how many steps the learning rate falls to zero; those of the whole run by default.

    Returns
    -------
    Sequential
        Compiled.

    Notes
    -----
    yadll's: 20 filters of 5x5, 2x2 pooling, and bias and tanh after it; SGD with momentum at 0.01
    in batches of 500, 200 epochs. Images with a side below 16 pixels are padded with zeros, in
    place of losing their border.
    """
    check_classes("conv_pool", classes)
    model = Sequential(
        [
            image("conv_pool", shape, least=2),
            layers.ConvPool2D(filters, 5, 2, padding=_padding(shape), activation="tanh"),
            layers.Flatten(),
            layers.Dense(classes, weight_init="zeros"),
        ]
    )
    optimizer = optim.AdamW(rate(lr, steps), weight_decay=weight_decay)
    model.compile("cross_entropy", optimizer, metrics=["accuracy"])
    return model


@recipe(epochs=10, batch_size=100, least_steps=1500)
def lenet5(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 1e-3,
    filters: tuple[int, ...] = (20, 50),
    hidden: int = 500,
    activation: str = "relu",
    dropout: float = 0.5,
    weight_decay: float = 0.05,
    steps: int | None = None,
) -> Sequential:
    """LeNet-5: two convolutions with pooling, a dense layer, logits.

    Parameters
    ----------
    shape : tuple of int
        (H, W) or (H, W, C), from 4x4 pixels on.
    classes : int
    lr, weight_decay : float
        Of AdamW.
    filters : tuple of int
        Of 5x5 pixels, in the first and in the second convolution.
    hidden : int
        Units of the dense layer.
    activation : str
    dropout : float
        The fraction of the dense layer's units dropped.
    steps : int, optional
        In how many steps the learning rate falls to zero; those of the whole run by default.

    Returns
    -------
    Sequential
        Compiled.

    Notes
    -----
    The simplified LeNet-5 of the Theano tutorials and of yadll: 20 and 50 filters, 2x2 maxima, 500
    units; tanh, and 200 epochs of SGD at 0.1 in batches of 500, for 0.92 % test error on MNIST.
    LeCun et al. 1998 have 6 and 16 filters. ReLUs, dropout and a falling rate do better in ten
    epochs. Images with a side below 16 pixels are padded with zeros, in place of losing their
    border.
    """
    check_classes("lenet5", classes)
    padding = _padding(shape)
    model = Sequential(
        [
            image("lenet5", shape, least=4),
            *(layers.ConvPool2D(n, 5, 2, padding=padding, activation=activation) for n in filters),
            layers.Flatten(),
            layers.Dense(hidden, activation=activation, weight_init="he_uniform"),
            layers.Dropout(dropout),
            layers.Dense(classes, weight_init="zeros"),
        ]
    )
    optimizer = optim.AdamW(rate(lr, steps), weight_decay=weight_decay)
    model.compile("cross_entropy", optimizer, metrics=["accuracy"])
    return model


@recipe(epochs=10, batch_size=64, least_steps=630)
def convnet(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 2e-3,
    weight_decay: float = 0.05,
    dropout: float = 0.5,
) -> Sequential:
    """Two 3x3 convolutions with batch normalization, for small images.

    Parameters
    ----------
    shape : tuple of int
        (H, W) or (H, W, C), from 2x2 pixels on.
    classes : int
    lr, weight_decay : float
        Of AdamW.
    dropout : float
        The fraction dropped before and after the dense layer.

    Returns
    -------
    Sequential
        Compiled.
    """
    check_classes("convnet", classes)
    model = Sequential(
        [
            image("convnet", shape, least=2),
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
