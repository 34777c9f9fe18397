"""The table of optimizers that the tests go through, and what they share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers import make

import xpnn
from xpnn import Tensor, optim

__all__ = [
    "IN_TORCH",
    "SHAPES",
    "TABLE",
    "Line",
    "assert_same",
    "clip_like_torch",
    "create",
    "every_optimizer",
    "gradients",
    "torch_default",
    "torch_options",
    "torch_twin",
    "values",
    "variables",
]

# name: class, hyperparameters, PyTorch's class, if it has one.
TABLE: dict[str, tuple[Any, dict[str, Any], str | None]] = {
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
    "amsgrad-class": (optim.AMSGrad, {"beta2": 0.5, "weight_decay": 0.1}, "Adam"),
    "adagrad": (optim.Adagrad, {}, "Adagrad"),
    "adagrad-options": (
        optim.Adagrad,
        {"lr_decay": 0.1, "initial_accumulator_value": 0.5, "epsilon": 1e-3, "weight_decay": 0.1},
        "Adagrad",
    ),
    "rmsprop": (optim.RMSprop, {}, "RMSprop"),
    "rmsprop-options": (
        optim.RMSprop,
        {"rho": 0.8, "momentum": 0.7, "epsilon": 1e-3, "weight_decay": 0.1},
        "RMSprop",
    ),
    "rmsprop-centered": (optim.RMSprop, {"centered": True, "epsilon": 1e-2}, "RMSprop"),
    "rmsprop-centered-momentum": (
        optim.RMSprop,
        {"centered": True, "momentum": 0.5, "epsilon": 1e-2},
        "RMSprop",
    ),
    "adadelta": (optim.Adadelta, {}, "Adadelta"),
    "adadelta-options": (
        optim.Adadelta,
        {"rho": 0.7, "epsilon": 1e-3, "weight_decay": 0.1},
        "Adadelta",
    ),
    "adamax": (optim.Adamax, {}, "Adamax"),
    "adamax-options": (
        optim.Adamax,
        {"beta1": 0.7, "beta2": 0.8, "epsilon": 1e-2, "weight_decay": 0.1},
        "Adamax",
    ),
    "nadam": (optim.NAdam, {}, "NAdam"),
    "nadam-options": (
        optim.NAdam,
        {"beta1": 0.8, "beta2": 0.9, "epsilon": 1e-3, "momentum_decay": 0.1, "weight_decay": 0.1},
        "NAdam",
    ),
    "nadam-decoupled": (
        optim.NAdam,
        {"weight_decay": 0.3, "decoupled_weight_decay": True},
        "NAdam",
    ),
    "radam": (optim.RAdam, {}, "RAdam"),
    "radam-options": (
        optim.RAdam,
        {"beta1": 0.8, "beta2": 0.9, "epsilon": 1e-3, "weight_decay": 0.1},
        "RAdam",
    ),
    "radam-decoupled": (
        optim.RAdam,
        {"beta2": 0.9, "weight_decay": 0.3, "decoupled_weight_decay": True},
        "RAdam",
    ),
    "lion": (optim.Lion, {}, None),
    "lion-options": (optim.Lion, {"beta1": 0.7, "beta2": 0.8, "weight_decay": 0.3}, None),
    "clip-value": (optim.SGD, {"clip_value": 0.1, "weight_decay": 0.1}, "SGD"),
    "clip-norm": (optim.Adam, {"clip_norm": 0.1, "weight_decay": 0.1}, "Adam"),
    "clip-global-norm": (optim.RMSprop, {"clip_global_norm": 0.2, "weight_decay": 0.1}, "RMSprop"),
}
IN_TORCH = [name for name in TABLE if TABLE[name][2]]
every_optimizer = pytest.mark.parametrize("name", TABLE)
SHAPES = [(3,), (2, 2), (), (4, 1, 2)]


def create(name: str, lr: float = 0.05, *, elementwise: bool = True) -> Any:
    """Return an optimizer of the table; if it is not element-wise, its rule gets whole arrays."""
    cls, options, _ = TABLE[name]
    optimizer = cls(lr, **options)
    if not elementwise:
        optimizer.elementwise = False
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


def torch_twin(name: str, params: list[Any], lr: float = 0.05) -> Any:
    """Return PyTorch's optimizer with the hyperparameters of an entry; it does not clip."""
    torch = pytest.importorskip("torch")
    cls, ours, theirs = TABLE[name]
    return getattr(torch.optim, str(theirs))(params, lr=lr, **torch_options(cls, ours))


def torch_options(cls: Any, ours: dict[str, Any]) -> dict[str, Any]:
    """Return hyperparameters as PyTorch calls them."""
    other = {"epsilon": "eps", "rho": "alpha" if cls is optim.RMSprop else "rho"}
    options = {other.get(key, key): x for key, x in ours.items() if not key.startswith("clip_")}
    if {"beta1", "beta2"} & options.keys():
        options["betas"] = (options.pop("beta1", 0.9), options.pop("beta2", 0.999))
    if cls is optim.AMSGrad:
        options["amsgrad"] = True
    return options


def clip_like_torch(options: dict[str, Any], params: list[Any]) -> None:
    """Clip gradients with PyTorch's functions, as the hyperparameters of an entry say."""
    utils = pytest.importorskip("torch").nn.utils
    if "clip_value" in options:
        utils.clip_grad_value_(params, options["clip_value"])
    if "clip_norm" in options:
        for p in params:
            utils.clip_grad_norm_([p], options["clip_norm"])
    if "clip_global_norm" in options:
        utils.clip_grad_norm_(params, options["clip_global_norm"])


@pytest.fixture
def torch_default(dtype: str) -> Iterator[Any]:
    """PyTorch with a test's dtype as its default, in which it keeps NAdam's product."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    yield torch
    torch.set_default_dtype(before)


class Line:
    """What an optimizer needs of a layer."""

    def __init__(self) -> None:
        self.slope = Tensor(np.zeros(2, np.float32), requires_grad=True)
        self.offset = Tensor(np.zeros((), np.float32), requires_grad=True)

    def parameters(self) -> list[Tensor]:
        return [self.slope, self.offset]

    def __call__(self, x: Any) -> Any:
        return x @ self.slope + self.offset
