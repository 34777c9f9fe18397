"""The networks in xpnn, through its public layers, losses and optimizers."""

from __future__ import annotations

from typing import Any

import xpnn
from networks.problems import CLASSES, Problem
from xpnn import layers, losses, optim

__all__ = [
    *("conv3x3", "conv_stack", "embedding", "gru", "lenet5", "lenet5_model", "lstm", "mlp"),
    *("mlp_model", "rnn", "start", "transformer"),
]


def start(layer: Any, problem: Problem) -> Any:
    """Return a layer with the weights of a problem; it has parameters after a first call."""
    layer(problem.x[:1])
    for parameter, weight in zip(layer.parameters(), problem.weights, strict=True):
        parameter.data = xpnn.asarray(weight, device=parameter.device, copy=True)
    return layer


def _classifier(model: Any, problem: Problem) -> Any:
    """Return a training step of a classifier."""
    optimizer = optim.Adam(1e-3)

    def step() -> Any:
        loss = losses.cross_entropy(model(problem.x), problem.y)
        loss.backward()
        optimizer.step(model)
        return loss

    return step


def _layer(layer: Any, problem: Problem, *, update: bool = True) -> Any:
    """Return a step of a layer: output, gradients of input and weights, and the update."""
    layer = start(layer, problem)
    x = xpnn.Tensor(problem.x, requires_grad=True)
    optimizer = optim.Adam(1e-3)

    def step() -> Any:
        x.grad = None
        y = layer(x)
        y.backward(problem.y)
        if update:
            optimizer.step(layer)
        else:
            layer.zero_grad()
        return y, x.grad

    return step


def mlp_model(problem: Problem) -> Any:
    """Return the perceptron."""
    *hidden, out = (bias.shape[0] for bias in problem.weights[1::2])
    parts = [layers.Dense(n, activation="relu") for n in hidden]
    return start(xpnn.Sequential([*parts, layers.Dense(out)]), problem)


def mlp(problem: Problem) -> Any:
    """Prepare a step of the perceptron."""
    return _classifier(mlp_model(problem), problem)


def lenet5_model(problem: Problem) -> Any:
    """Return LeNet-5."""
    first, second, hidden = (problem.weights[i].shape[-1] for i in (0, 2, 4))
    model = xpnn.Sequential(
        [
            layers.Conv2D(first, 5, activation="relu"),
            layers.MaxPool2D(2),
            layers.Conv2D(second, 5, activation="relu"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(hidden, activation="relu"),
            layers.Dense(CLASSES),
        ]
    )
    return start(model, problem)


def lenet5(problem: Problem) -> Any:
    """Prepare a step of LeNet-5."""
    return _classifier(lenet5_model(problem), problem)


def conv_stack(problem: Problem) -> Any:
    """Prepare a step of the convolutions with normalization."""
    parts: list[Any] = []
    for i, kernel in enumerate(problem.weights[:9:3]):
        parts += [layers.Conv2D(kernel.shape[-1], 3, padding=1, bias=False)]
        parts += [layers.BatchNorm(activation="relu")]
        parts += [layers.MaxPool2D(2)] if i else []
    model = xpnn.Sequential([*parts, layers.Flatten(), layers.Dense(CLASSES)])
    return _classifier(start(model, problem), problem)


def conv3x3(problem: Problem) -> Any:
    """Prepare forward and backward of a convolution."""
    layer = layers.Conv2D(problem.weights[0].shape[-1], 3, padding=1)
    return _layer(layer, problem, update=False)


def rnn(problem: Problem) -> Any:
    """Prepare a step of an RNN layer."""
    return _layer(layers.RNN(problem.weights[1].shape[0]), problem)


def gru(problem: Problem) -> Any:
    """Prepare a step of a GRU layer."""
    return _layer(layers.GRU(problem.weights[1].shape[0]), problem)


def lstm(problem: Problem) -> Any:
    """Prepare a step of an LSTM layer."""
    return _layer(layers.LSTM(problem.weights[1].shape[0]), problem)


def transformer(problem: Problem) -> Any:
    """Prepare a step of an encoder layer."""
    hidden = problem.weights[8].shape[-1]
    layer = layers.TransformerEncoderLayer(problem.heads, hidden, dropout=0.0)
    return _layer(layer, problem)


def embedding(problem: Problem) -> Any:
    """Prepare a step of an embedding; ids have no gradient."""
    layer = start(layers.Embedding(*problem.weights[0].shape), problem)
    optimizer = optim.Adam(1e-3)

    def step() -> Any:
        y = layer(problem.x)
        y.backward(problem.y)
        optimizer.step(layer)
        return y

    return step
