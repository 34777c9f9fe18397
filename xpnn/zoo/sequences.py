"""Recurrent networks that read an image row by row."""

from __future__ import annotations

from typing import Any

from xpnn import layers, optim
from xpnn.training import Sequential
from xpnn.zoo.parts import check_classes, rate, rows
from xpnn.zoo.recipe import recipe

__all__ = ["gru", "lstm", "rnn"]


def _compiled(
    name: str, shape: tuple[int, ...], classes: int, layer: layers.Layer, lr: Any, clip: float
) -> Sequential:
    """Return a classifier of the last state of a recurrent layer."""
    check_classes(name, classes)
    model = Sequential([rows(name, shape), layer, layers.Dense(classes)])
    optimizer = optim.Adam(lr, clip_global_norm=clip)
    model.compile("cross_entropy", optimizer, metrics=["accuracy"])
    return model


@recipe(epochs=10, batch_size=100, least_steps=1500)
def rnn(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 1e-3,
    hidden: int = 128,
    clip: float = 1.0,
    steps: int | None = None,
) -> Sequential:
    """A recurrent layer of 128 tanh units that reads an image row by row.

    Parameters
    ----------
    shape : tuple of int
        (H, W) or (H, W, C): H steps; or a sequence, (T, D).
    classes : int
    lr : float
        Of Adam.
    hidden : int
        The size of the state.
    clip : float
        The largest norm of all gradients together; longer ones are shortened.
    steps : int, optional
        In how many steps the learning rate falls to zero; those of the whole run by default.

    Returns
    -------
    Sequential
        Compiled.

    Notes
    -----
    yadll announces recurrent networks and has none. The recurrent weight starts orthogonal, so that
    gradients reach the first row.
    """
    layer = layers.RNN(hidden, return_sequences=False)
    return _compiled("rnn", shape, classes, layer, rate(lr, steps, 0.05), clip)


@recipe(epochs=10, batch_size=100, least_steps=1500)
def lstm(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 2e-3,
    hidden: int = 128,
    clip: float = 1.0,
    steps: int | None = None,
) -> Sequential:
    """An LSTM with a state of 128 that reads an image row by row.

    Parameters
    ----------
    shape, classes, lr, hidden, clip, steps
        As for :func:`rnn`.

    Returns
    -------
    Sequential
        Compiled.

    Notes
    -----
    Hochreiter & Schmidhuber 1997, with forget gates.
    """
    layer = layers.LSTM(hidden, return_sequences=False)
    return _compiled("lstm", shape, classes, layer, rate(lr, steps, 0.05), clip)


@recipe(epochs=10, batch_size=100, least_steps=1500)
def gru(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 2e-3,
    hidden: int = 128,
    clip: float = 1.0,
    steps: int | None = None,
) -> Sequential:
    """A GRU with a state of 128 that reads an image row by row.

    Parameters
    ----------
    shape, classes, lr, hidden, clip, steps
        As for :func:`rnn`.

    Returns
    -------
    Sequential
        Compiled.

    Notes
    -----
    Cho et al. 2014, in the form of cuDNN and PyTorch.
    """
    layer = layers.GRU(hidden, return_sequences=False)
    return _compiled("gru", shape, classes, layer, rate(lr, steps, 0.05), clip)
