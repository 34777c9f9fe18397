"""Networks whose hidden layers are trained one by one on their input, and then all on labels."""

from __future__ import annotations

from typing import Any

from xpnn import layers, optim
from xpnn.training import Sequential
from xpnn.zoo.parts import check_classes, rate
from xpnn.zoo.recipe import recipe

__all__ = [
    "autoencoder",
    "contractive_autoencoder",
    "deep_belief_network",
    "denoising_autoencoder",
    "gaussian_denoising_autoencoder",
    "rbm",
    "stacked_denoising_autoencoder",
]

_GREEDY = {"epochs": 15, "lr": 0.01, "batch_size": 20}  # yadll's
# Four times Glorot's bounds, as the slope of the sigmoid is 1/4 at most: the Theano tutorials'.
_WEIGHTS = ("glorot_uniform", {"gain": 4.0})


def _network(
    name: str, hidden: list[layers.Layer], classes: int, lr: float, steps: int | None
) -> Sequential:
    """Return a classifier with a logistic regression on top."""
    check_classes(name, classes)
    model = Sequential([layers.Flatten(), *hidden, layers.Dense(classes, weight_init="zeros")])
    optimizer = optim.SGD(rate(lr, steps), momentum=0.9, nesterov=True)
    model.compile("cross_entropy", optimizer, metrics=["accuracy"])
    return model


def _autoencoder(hidden: int, **options: Any) -> layers.Layer:
    return layers.AutoEncoder(hidden, weight_init=_WEIGHTS, **options)


@recipe(epochs=40, batch_size=50, pretrain=_GREEDY)
def autoencoder(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 0.1,
    hidden: int = 500,
    steps: int | None = None,
) -> Sequential:
    """500 units pre-trained as an autoencoder.

    Parameters
    ----------
    shape : tuple of int
        Of one example; it is flattened, here and in all networks of this module. The values are in
        [0, 1].
    classes : int
    lr : float
        Of SGD with Nesterov momentum 0.9, for the training on labels.
    hidden : int
        Units.
    steps : int, optional
        In how many steps the learning rate falls to zero; it stays if not given.

    Returns
    -------
    Sequential
        Compiled, not pre-trained: give it to :func:`xpnn.pretrain`, as ``xpnn train`` does. Without
        (``--set pretrain_epochs=0``) it is a network of sigmoids.

    Notes
    -----
    Of all networks of this module: sizes, noise and pre-training (15 epochs in batches of 20 at a
    rate of 0.01) are yadll's. On labels it trains its networks of Boltzmann machines by SGD at 0.1
    in batches of 10, for 1000 epochs at most with early stopping. Batches of 50 with momentum 0.9
    at 0.1, where an example moves the weights twice as far, take a fifth of the steps, and a rate
    that falls to zero needs 40 epochs; that is better on the digits with pre-training and without.
    """
    return _network("autoencoder", [_autoencoder(hidden)], classes, lr, steps)


@recipe(epochs=40, batch_size=50, pretrain=_GREEDY)
def denoising_autoencoder(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 0.1,
    hidden: int = 500,
    corruption: float = 0.3,
    steps: int | None = None,
) -> Sequential:
    """500 units pre-trained as an autoencoder of images of which 30 % are blotted out.

    Parameters
    ----------
    shape, classes, lr, hidden, steps
        As for :func:`autoencoder`.
    corruption : float
        The fraction of the inputs that is set to zero in pre-training.

    Returns
    -------
    Sequential
        Compiled, not pre-trained.
    """
    hidden_layer = _autoencoder(hidden, corruption=corruption)
    return _network("denoising_autoencoder", [hidden_layer], classes, lr, steps)


@recipe(epochs=40, batch_size=50, pretrain=_GREEDY)
def gaussian_denoising_autoencoder(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 0.1,
    hidden: int = 500,
    noise_std: float = 0.3,
    steps: int | None = None,
) -> Sequential:
    """500 units pre-trained as an autoencoder of images with normal noise.

    Parameters
    ----------
    shape, classes, lr, hidden, steps
        As for :func:`autoencoder`.
    noise_std : float
        The standard deviation of the noise in pre-training.

    Returns
    -------
    Sequential
        Compiled, not pre-trained.
    """
    hidden_layer = _autoencoder(hidden, noise_std=noise_std)
    return _network("gaussian_denoising_autoencoder", [hidden_layer], classes, lr, steps)


@recipe(epochs=40, batch_size=50, pretrain=_GREEDY)
def contractive_autoencoder(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 0.1,
    hidden: int = 500,
    contraction: float = 0.3,
    steps: int | None = None,
) -> Sequential:
    """500 units pre-trained as a contractive autoencoder.

    Parameters
    ----------
    shape, classes, lr, hidden, steps
        As for :func:`autoencoder`.
    contraction : float
        The factor of the squared norm of the Jacobian in the loss of pre-training.

    Returns
    -------
    Sequential
        Compiled, not pre-trained.
    """
    hidden_layer = _autoencoder(hidden, contraction=contraction)
    return _network("contractive_autoencoder", [hidden_layer], classes, lr, steps)


@recipe(epochs=40, batch_size=50, pretrain=_GREEDY)
def stacked_denoising_autoencoder(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 0.1,
    hidden: int = 500,
    corruption: float = 0.2,
    corruption_above: float = 0.4,
    steps: int | None = None,
) -> Sequential:
    """Two layers of 500 units, pre-trained one after the other as denoising autoencoders.

    Parameters
    ----------
    shape, classes, lr, steps
        As for :func:`autoencoder`.
    hidden : int
        Units in each layer.
    corruption, corruption_above : float
        The fraction of its inputs that is set to zero in the pre-training of the first and of the
        second layer.

    Returns
    -------
    Sequential
        Compiled, not pre-trained.

    Notes
    -----
    Test errors on MNIST after 10 epochs at 0.05, with 5 epochs of pre-training and with none, one
    run each: 5.2 % and 6.9 % on 10,000 of the images, 2.28 % and 2.71 % on 50,000.
    """
    stack = [_autoencoder(hidden, corruption=c) for c in (corruption, corruption_above)]
    return _network("stacked_denoising_autoencoder", stack, classes, lr, steps)


@recipe(epochs=40, batch_size=50, pretrain=_GREEDY)
def rbm(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 0.1,
    hidden: int = 500,
    k: int = 1,
    persistent: bool = False,
    steps: int | None = None,
) -> Sequential:
    """500 units pre-trained as a restricted Boltzmann machine.

    Parameters
    ----------
    shape, classes, lr, hidden, steps
        As for :func:`autoencoder`.
    k : int
        Steps of Gibbs sampling (CD-k).
    persistent : bool
        Whether the chains go on from where they stood (PCD).

    Returns
    -------
    Sequential
        Compiled, not pre-trained.
    """
    machine = layers.RBM(hidden, k=k, persistent=persistent, weight_init=_WEIGHTS)
    return _network("rbm", [machine], classes, lr, steps)


@recipe(epochs=40, batch_size=50, pretrain=_GREEDY)
def deep_belief_network(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 0.1,
    hidden: int = 500,
    k: int = 1,
    steps: int | None = None,
) -> Sequential:
    """Two layers of 500 units, pre-trained as restricted Boltzmann machines: a DBN.

    Parameters
    ----------
    shape, classes, lr, steps
        As for :func:`autoencoder`.
    hidden : int
        Units in each layer.
    k : int
        Steps of Gibbs sampling (CD-k).

    Returns
    -------
    Sequential
        Compiled, not pre-trained.

    Notes
    -----
    Test errors on MNIST after 10 epochs at 0.05, with 5 epochs of pre-training and with none, one
    run each: 5.7 % and 6.9 % on 10,000 of the images, 2.64 % and 2.71 % on 50,000.
    """
    stack: list[layers.Layer] = [layers.RBM(hidden, k=k, weight_init=_WEIGHTS) for _ in range(2)]
    return _network("deep_belief_network", stack, classes, lr, steps)
