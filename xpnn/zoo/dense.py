"""Dense networks."""

from __future__ import annotations

from typing import Any

from xpnn import layers, optim
from xpnn.training import Sequential
from xpnn.zoo.parts import check_classes, rate
from xpnn.zoo.recipe import recipe

__all__ = [
    "batch_normalization",
    "logistic_regression",
    "mlp",
    "mlp_dropconnect",
    "mlp_dropout",
    "self_normalizing",
]


def _compiled(name: str, parts: list[layers.Layer], classes: int, optimizer: Any) -> Sequential:
    """Return a classifier of flattened examples: hidden layers, and logits on top."""
    check_classes(name, classes)
    model = Sequential([layers.Flatten(), *parts, layers.Dense(classes, weight_init="zeros")])
    model.compile("cross_entropy", optimizer, metrics=["accuracy"])
    return model


@recipe(epochs=20, batch_size=100, least_steps=1500)
def logistic_regression(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 0.1,
    momentum: float = 0.9,
    l2: float = 0.0,
    steps: int | None = None,
) -> Sequential:
    """Multinomial logistic regression: one dense layer.

    Parameters
    ----------
    shape : tuple of int
        Of one example; it is flattened, here and in all networks of this module.
    classes : int
    lr, momentum : float
        Of SGD with Nesterov momentum.
    l2 : float
        Adds ``l2 * sum(weight**2)`` to the loss.
    steps : int, optional
        In how many steps the learning rate falls to zero; those of the whole run by default.

    Returns
    -------
    Sequential
        Compiled.

    Notes
    -----
    The Theano tutorials and yadll take batches of 600, a learning rate of 0.1 and early stopping
    (patience 5000). Smaller batches and a rate that falls find the same optimum in fewer epochs.
    """
    check_classes("logistic_regression", classes)
    top = layers.Dense(classes, weight_init="zeros", l2=l2)
    model = Sequential([layers.Flatten(), top])
    optimizer = optim.SGD(rate(lr, steps), momentum=momentum, nesterov=momentum > 0)
    model.compile("cross_entropy", optimizer, metrics=["accuracy"])
    return model


@recipe(epochs=20, batch_size=100, least_steps=1000)
def mlp(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 1e-3,
    hidden: int = 500,
    weight_decay: float = 0.05,
    steps: int | None = None,
) -> Sequential:
    """Two hidden layers of 500 ReLUs.

    Parameters
    ----------
    shape, classes, steps
        As for :func:`logistic_regression`.
    lr, weight_decay : float
        Of AdamW.
    hidden : int
        Units in each hidden layer.

    Returns
    -------
    Sequential
        Compiled.

    Notes
    -----
    yadll's network. There: SGD with momentum at 0.01, an L2 penalty of 1e-4, 1000 epochs at most
    with early stopping. AdamW and a falling rate need twenty.
    """
    parts: list[layers.Layer] = [_relu(hidden), _relu(hidden)]
    return _compiled("mlp", parts, classes, optim.AdamW(rate(lr, steps), weight_decay=weight_decay))


def _relu(units: int) -> layers.Layer:
    return layers.Dense(units, activation="relu", weight_init="he_uniform")


@recipe(epochs=100, batch_size=100, least_steps=3000)
def mlp_dropout(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 1e-3,
    hidden: int = 500,
    p_input: float = 0.2,
    p_hidden: float = 0.4,
    weight_decay: float = 0.05,
    steps: int | None = None,
) -> Sequential:
    """Two hidden layers of 500 ReLUs, with dropout of the input and of both layers.

    Parameters
    ----------
    shape, classes, steps
        As for :func:`logistic_regression`.
    lr, weight_decay : float
        Of AdamW.
    hidden : int
        Units in each hidden layer.
    p_input, p_hidden : float
        The fraction dropped of the input and of either hidden layer.

    Returns
    -------
    Sequential
        Compiled.

    Notes
    -----
    Srivastava et al. 2014. yadll's drops 0.4 of the input and 0.2 of the first layer, and reports
    1.32 % test error on MNIST after 466 epochs of SGD with Nesterov momentum. Here 100 epochs end
    at 1.18 to 1.25 %, as rounding has it, and 50 at 1.31 %.
    """
    parts: list[layers.Layer] = [
        layers.Dropout(p_input),
        _relu(hidden),
        layers.Dropout(p_hidden),
        _relu(hidden),
        layers.Dropout(p_hidden),
    ]
    optimizer = optim.AdamW(rate(lr, steps), weight_decay=weight_decay)
    return _compiled("mlp_dropout", parts, classes, optimizer)


@recipe(epochs=50, batch_size=100, least_steps=3000)
def mlp_dropconnect(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 1e-3,
    hidden: int = 500,
    p_first: float = 0.2,
    p_second: float = 0.4,
    weight_decay: float = 0.05,
    steps: int | None = None,
) -> Sequential:
    """Two hidden layers of 500 ReLUs, with weights dropped at random in training.

    Parameters
    ----------
    shape, classes, steps
        As for :func:`logistic_regression`.
    lr, weight_decay : float
        Of AdamW.
    hidden : int
        Units in each hidden layer.
    p_first, p_second : float
        The fraction of the weights dropped in the first and in the second hidden layer.

    Returns
    -------
    Sequential
        Compiled.

    Notes
    -----
    Wan et al. 2013. One mask a batch, as in yadll, which drops 0.4 and 0.2; the paper draws one for
    every example. The test error on MNIST is 1.38 %.
    """
    parts: list[layers.Layer] = [
        layers.DropConnect(hidden, p_first, activation="relu", weight_init="he_uniform"),
        layers.DropConnect(hidden, p_second, activation="relu", weight_init="he_uniform"),
    ]
    optimizer = optim.AdamW(rate(lr, steps), weight_decay=weight_decay)
    return _compiled("mlp_dropconnect", parts, classes, optimizer)


@recipe(epochs=50, batch_size=100, least_steps=3000)
def self_normalizing(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 5e-4,
    hidden: int = 500,
    p_input: float = 0.2,
    p_hidden: float = 0.1,
    weight_decay: float = 0.05,
    steps: int | None = None,
) -> Sequential:
    """Two hidden layers of 500 SELUs, which keep their moments, with alpha dropout.

    Parameters
    ----------
    shape, classes, steps
        As for :func:`logistic_regression`.
    lr, weight_decay : float
        Of AdamW.
    hidden : int
        Units in each hidden layer.
    p_input, p_hidden : float
        The fraction dropped of the input and of either hidden layer.

    Returns
    -------
    Sequential
        Compiled.

    Notes
    -----
    Klambauer et al. 2017: weights of variance 1/in (their initialization, LeCun's), SELU, and alpha
    dropout of the hidden layers. The input is no SELU's output: plain dropout takes its pixels.
    """
    selu = {"activation": "selu", "weight_init": "lecun_normal"}
    parts: list[layers.Layer] = [
        layers.Dropout(p_input),
        layers.Dense(hidden, **selu),  # type: ignore[arg-type]
        layers.AlphaDropout(p_hidden),
        layers.Dense(hidden, **selu),  # type: ignore[arg-type]
        layers.AlphaDropout(p_hidden),
    ]
    optimizer = optim.AdamW(rate(lr, steps), weight_decay=weight_decay)
    return _compiled("self_normalizing", parts, classes, optimizer)


@recipe(epochs=20, batch_size=100, least_steps=1500)
def batch_normalization(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 1e-3,
    hidden: int = 500,
    epsilon: float = 0.01,
    weight_decay: float = 0.05,
    steps: int | None = None,
) -> Sequential:
    """Two hidden layers of 500 ReLUs, with batch normalization below every layer.

    Parameters
    ----------
    shape, classes, steps
        As for :func:`logistic_regression`.
    lr, weight_decay : float
        Of AdamW.
    hidden : int
        Units in each hidden layer.
    epsilon : float
        What is added to the variance of the inputs; that of the hidden layers is 1e-5.

    Returns
    -------
    Sequential
        Compiled.

    Notes
    -----
    Ioffe & Szegedy 2015, in the order of yadll: normalization, dense layer, ReLU, and again;
    normalization, logits. There: batches of 30, SGD with momentum at 0.01, 1000 epochs at most.
    Different, and better: the epsilon of the first. At 1e-5 a pixel of the border that is lit in
    one image of a batch is at most 10 in training, which the batch sees to, but 200 in prediction,
    and decides alone: of MNIST's validation images 1.76 % were wrong, and are 1.46 %.
    """
    parts: list[layers.Layer] = [
        layers.BatchNorm(epsilon=epsilon),
        _relu(hidden),
        layers.BatchNorm(),
        _relu(hidden),
        layers.BatchNorm(),
    ]
    optimizer = optim.AdamW(rate(lr, steps), weight_decay=weight_decay)
    return _compiled("batch_normalization", parts, classes, optimizer)
