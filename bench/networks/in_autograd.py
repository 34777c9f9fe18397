"""The networks in HIPS autograd: NumPy's functions, and Adam by hand."""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import make_vjp, value_and_grad

from networks.problems import Problem

__all__ = ["lstm", "mlp"]


class Adam:
    """Adam, in place."""

    def __init__(self, weights: list[Any]) -> None:
        self.m, self.v = ([np.zeros_like(w) for w in weights] for _ in range(2))
        self.t = 0

    def step(self, weights: list[Any], gradients: list[Any]) -> None:
        """Update the weights."""
        self.t += 1
        first, second = 1 - 0.9**self.t, 1 - 0.999**self.t
        for w, g, m, v in zip(weights, gradients, self.m, self.v, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            w -= 1e-3 / first * m / (np.sqrt(v / second) + 1e-8)


def mlp(problem: Problem) -> Any:
    """Prepare a step of the perceptron."""
    weights, rows = [w.copy() for w in problem.weights], np.arange(len(problem.y))
    adam = Adam(weights)

    def loss(w: list[Any]) -> Any:
        x = problem.x
        for i in range(0, len(w) - 2, 2):
            x = anp.maximum(x @ w[i] + w[i + 1], 0)
        z = x @ w[-2] + w[-1]
        z = z - anp.max(z, axis=1, keepdims=True)
        return anp.mean(anp.log(anp.sum(anp.exp(z), axis=1)) - z[rows, problem.y])

    gradients = value_and_grad(loss)

    def step() -> Any:
        value, g = gradients(weights)
        adam.step(weights, g)
        return value

    return step


def lstm(problem: Problem) -> Any:
    """Prepare a step of an LSTM layer."""
    weights = [w.copy() for w in problem.weights]
    adam = Adam(weights)

    def sigmoid(x: Any) -> Any:
        return 0.5 * anp.tanh(0.5 * x) + 0.5

    def forward(arguments: Any) -> Any:
        w, u, b, x = arguments
        p = x @ w + b
        h = c = anp.zeros((x.shape[0], u.shape[0]), np.float32)
        states = []
        for t in range(x.shape[1]):
            i, f, g, o = anp.split(p[:, t] + h @ u, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * anp.tanh(g)
            h = sigmoid(o) * anp.tanh(c)
            states.append(h)
        return anp.stack(states, axis=1)

    def step() -> Any:
        pullback, y = make_vjp(forward)([*weights, problem.x])
        *g, dx = pullback(problem.y)
        adam.step(weights, g)
        return y, dx

    return step
