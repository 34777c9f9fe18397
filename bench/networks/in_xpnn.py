"""The networks in xpnn, through its public layers, losses and optimizers."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import xpnn
from networks.problems import CLASSES, Problem
from xpnn import layers, losses, optim

__all__ = [
    *("conv3x3", "conv_stack", "dense", "embedding", "gpt", "gru", "lenet5", "lenet5_model"),
    *("lstm", "mlp", "mlp_model", "resnet", "rnn", "start", "transformer"),
]


def start(layer: Any, problem: Problem) -> Any:
    """Return a layer with the weights of a problem; it has parameters after a first call."""
    layer(problem.x[:1])
    for parameter, weight in zip(layer.parameters(), problem.weights, strict=True):
        parameter.data = xpnn.asarray(weight, device=parameter.device, copy=True)
    return layer


def _casts(low: str | None) -> Any:
    """Return the block in which products are computed in 16 bits, or one that changes nothing."""
    return nullcontext() if low is None else xpnn.autocast(low)


def _classifier(model: Any, problem: Problem, *, low: str | None = None) -> Any:
    """Return a training step of a classifier."""
    optimizer = optim.Adam(1e-3)

    def step() -> Any:
        with _casts(low):
            loss = losses.cross_entropy(model(problem.x), problem.y)
        loss.backward()
        optimizer.step(model)
        return loss

    return step


def _layer(layer: Any, problem: Problem, *, update: bool = True, low: str | None = None) -> Any:
    """Return a step of a layer: output, gradients of input and weights, and the update."""
    layer = start(layer, problem)
    x = xpnn.Tensor(problem.x, requires_grad=True)
    optimizer, dy = optim.Adam(1e-3), problem.y

    def step() -> Any:
        nonlocal dy
        x.grad = None
        with _casts(low):
            y = layer(x)
        if dy.dtype != y.dtype:  # in 16 bits, from the first step on
            dy = xpnn.ops.astype(dy, y.dtype)
        y.backward(dy)
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


def mlp(problem: Problem, **options: Any) -> Any:
    """Prepare a step of the perceptron."""
    return _classifier(mlp_model(problem), problem, **options)


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


def lenet5(problem: Problem, **options: Any) -> Any:
    """Prepare a step of LeNet-5."""
    return _classifier(lenet5_model(problem), problem, **options)


def conv_stack(problem: Problem, **options: Any) -> Any:
    """Prepare a step of the convolutions with normalization."""
    parts: list[Any] = []
    for i, kernel in enumerate(problem.weights[:9:3]):
        parts += [layers.Conv2D(kernel.shape[-1], 3, padding=1, bias=False)]
        parts += [layers.BatchNorm(activation="relu")]
        parts += [layers.MaxPool2D(2)] if i else []
    model = xpnn.Sequential([*parts, layers.Flatten(), layers.Dense(CLASSES)])
    return _classifier(start(model, problem), problem, **options)


def resnet(problem: Problem, **options: Any) -> Any:
    """Prepare a step of the residual network."""
    first, *kernels = (w for w in problem.weights if w.ndim == 4)
    parts: list[Any] = [layers.Conv2D(first.shape[-1], 3, padding=1, bias=False)]
    parts.append(layers.BatchNorm(activation="relu"))
    for kernel in [k for k in kernels if k.shape[0] == 3][::2]:  # the first of each block
        n_in, n_out = kernel.shape[2:]
        parts.append(layers.ResidualBlock(n_out, stride=1 if n_in == n_out else 2))
    model = xpnn.Sequential([*parts, layers.GlobalAvgPool(), layers.Dense(CLASSES)])
    return _classifier(start(model, problem), problem, **options)


def dense(problem: Problem, **options: Any) -> Any:
    """Prepare forward and backward of an affine map, whose input has as few bits as its product."""
    layer, low = layers.Dense(problem.weights[0].shape[-1]), options.get("low")
    if low is not None:
        start(layer, problem)
        x = xpnn.asarray(problem.x, device=layer.weight.device)
        problem = problem._replace(x=xpnn.ops.astype(x, low))
    return _layer(layer, problem, update=False, **options)


def conv3x3(problem: Problem, **options: Any) -> Any:
    """Prepare forward and backward of a convolution."""
    layer = layers.Conv2D(problem.weights[0].shape[-1], 3, padding=1)
    return _layer(layer, problem, update=False, **options)


def rnn(problem: Problem, **options: Any) -> Any:
    """Prepare a step of an RNN layer."""
    return _layer(layers.RNN(problem.weights[1].shape[0]), problem, **options)


def gru(problem: Problem, **options: Any) -> Any:
    """Prepare a step of a GRU layer."""
    return _layer(layers.GRU(problem.weights[1].shape[0]), problem, **options)


def lstm(problem: Problem, **options: Any) -> Any:
    """Prepare a step of an LSTM layer."""
    return _layer(layers.LSTM(problem.weights[1].shape[0]), problem, **options)


def transformer(problem: Problem, **options: Any) -> Any:
    """Prepare a step of an encoder layer."""
    hidden = problem.weights[8].shape[-1]
    layer = layers.TransformerEncoderLayer(problem.heads, hidden, dropout=0.0)
    return _layer(layer, problem, **options)


def gpt(problem: Problem, **options: Any) -> Any:
    """Prepare a step of a block of a language model."""
    hidden = problem.weights[8].shape[-1]
    layer = layers.TransformerEncoderLayer(
        problem.heads, hidden, dropout=0.0, activation="gelu", norm_first=True, causal=True
    )
    return _layer(layer, problem, **options)


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
