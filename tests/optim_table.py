"""The table of optimizers that the tests go through, and what they share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import make

import xpnn
from xpnn import Tensor, optim

__all__ = [
    "SHAPES",
    "TABLE",
    "Line",
    "assert_same",
    "create",
    "every_optimizer",
    "gradients",
    "torch_twin",
    "values",
    "variables",
]

# name: class, hyperparameters, PyTorch's class and the hyperparameters that it calls otherwise.
TABLE: dict[str, tuple[Any, dict[str, Any], str]] = {
    "sgd": (optim.SGD, {}, "SGD"),
    "sgd-decay": (optim.SGD, {"weight_decay": 0.1}, "SGD"),
    "momentum": (optim.SGD, {"momentum": 0.9}, "SGD"),
    "momentum-decay": (optim.SGD, {"momentum": 0.5, "weight_decay": 0.1}, "SGD"),
    "dampening": (optim.SGD, {"momentum": 0.9, "dampening": 0.3}, "SGD"),
    "nesterov": (optim.SGD, {"momentum": 0.9, "nesterov": True}, "SGD"),
    "nesterov-decay": (
        optim.SGD,
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
        "SGD",
    ),
    "adam": (optim.Adam, {}, "Adam"),
    "adam-options": (optim.Adam, {"beta1": 0.8, "beta2": 0.9, "epsilon": 1e-3}, "Adam"),
    "adam-decay": (optim.Adam, {"weight_decay": 0.1}, "Adam"),
    "amsgrad": (optim.Adam, {"beta2": 0.5, "amsgrad": True}, "Adam"),
    "adamw": (optim.AdamW, {}, "AdamW"),
    "adamw-options": (optim.AdamW, {"weight_decay": 0.3, "amsgrad": True}, "AdamW"),
}
every_optimizer = pytest.mark.parametrize("name", TABLE)
SHAPES = [(3,), (2, 2), (), (4, 1, 2)]


def create(name: str, learning_rate: float = 0.05, *, kernel: bool = True) -> Any:
    """Return an optimizer of the table; without kernel it follows its rule."""
    cls, options, _ = TABLE[name]
    optimizer = cls(learning_rate, **options)
    if not kernel:
        optimizer.kernel = None
    return optimizer


def variables(shapes: list[Any], device: str = "cpu", dtype: str = "float32") -> list[Tensor]:
    return [
        Tensor(make(shape, device, dtype, seed=i), requires_grad=True)
        for i, shape in enumerate(shapes)
    ]


def gradients(
    shapes: list[Any], device: str = "cpu", dtype: str = "float32", seed: int = 100
) -> Any:
    return [make(shape, device, dtype, seed=seed + i) for i, shape in enumerate(shapes)]


def values(params: list[Tensor]) -> list[Any]:
    return [np.array(xpnn.to_numpy(p)) for p in params]


def assert_same(actual: list[Any], expected: list[Any]) -> None:
    """Assert equality bit for bit."""
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)


def torch_twin(name: str, params: list[Any], learning_rate: float = 0.05) -> Any:
    """Return PyTorch's optimizer with the hyperparameters of an entry."""
    torch = pytest.importorskip("torch")
    _, ours, theirs = TABLE[name]
    options = {{"epsilon": "eps"}.get(key, key): value for key, value in ours.items()}
    if "Adam" in theirs:
        options["betas"] = (options.pop("beta1", 0.9), options.pop("beta2", 0.999))
    return getattr(torch.optim, theirs)(params, lr=learning_rate, **options)


class Line:
    """What an optimizer needs of a layer."""

    def __init__(self) -> None:
        self.slope = Tensor(np.zeros(2, np.float32), requires_grad=True)
        self.offset = Tensor(np.zeros((), np.float32), requires_grad=True)

    def parameters(self) -> list[Tensor]:
        return [self.slope, self.offset]

    def __call__(self, x: Any) -> Any:
        return x @ self.slope + self.offset
