"""The perceptron in thinc."""

from __future__ import annotations

from typing import Any

import numpy as np
from thinc.api import Adam, CategoricalCrossentropy, Relu, Softmax, chain

from networks.problems import Problem

__all__ = ["mlp"]


def mlp(problem: Problem) -> Any:
    """Prepare a step of the perceptron; the plain Adam, without clipping and averages."""
    w, rows = problem.weights, np.arange(len(problem.y))
    parts: list[Any] = [Relu(*weight.shape[::-1]) for weight in w[:-2:2]]
    parts.append(Softmax(*w[-2].shape[::-1]))
    for part, weight, bias in zip(parts, w[::2], w[1::2], strict=True):
        part.set_param("W", np.ascontiguousarray(weight.T))
        part.set_param("b", bias.copy())
    model = chain(*parts)
    optimizer = Adam(1e-3, grad_clip=0.0, use_averages=False)
    gradient = CategoricalCrossentropy().get_grad

    def step() -> Any:
        p, backward = model.begin_update(problem.x)
        backward(gradient(p, problem.y))
        model.finish_update(optimizer)
        return -np.mean(np.log(p[rows, problem.y]))

    return step
