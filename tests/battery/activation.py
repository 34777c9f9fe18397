"""Activations as layers."""

from __future__ import annotations

from typing import Any

from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]


def _prelu(torch: Any, p: Any, x: Any) -> Any:
    return torch.nn.functional.prelu(x, p["alpha"])


def _prelu_last(torch: Any, p: Any, x: Any) -> Any:
    return _prelu(torch, p, x.movedim(-1, 1)).movedim(1, -1)


def _maxout(pieces: int) -> Any:
    def formula(torch: Any, p: Any, x: Any) -> Any:
        y = torch.stack([x @ w for w in p["weight"].chunk(pieces, dim=1)])
        if "bias" in p:
            y = y + p["bias"].reshape(pieces, *[1] * (x.ndim - 1), -1)
        return y.amax(dim=0)

    return formula


ROWS = [
    Row("activation", lambda: layers.Activation("softmax"), (3, 4), (3, 4)),
    Row(
        "activation with an argument",
        lambda: layers.Activation(("elu", {"alpha": 0.5})),
        (3, 4),
        (3, 4),
        torch=lambda t, p, x: t.nn.functional.elu(x, alpha=0.5),
    ),
    Row(
        "dense gelu orthogonal",
        lambda: layers.Dense(
            3,
            activation=("gelu", {"approximate": "tanh"}),
            weight_init=("orthogonal", {"gain": ("leaky_relu", {"alpha": 0.1})}),
        ),
        (5, 4),
        (5, 3),
        torch=lambda t, p, x: t.nn.functional.gelu(x @ p["weight"] + p["bias"], approximate="tanh"),
    ),
    Row(
        "softmax",
        layers.Softmax,
        (3, 2, 4),
        (3, 2, 4),
        torch=lambda t, p, x: t.softmax(x, -1),
    ),
    Row(
        "softmax over axis 1",
        lambda: layers.Softmax(axis=1),
        (3, 4, 2),
        (3, 4, 2),
        torch=lambda t, p, x: t.softmax(x, 1),
        wrong={r"Softmax\(axis=1\): got x of shape \(3,\)": (3,)},
    ),
    Row(
        "prelu",
        layers.PReLU,
        (5, 4),
        (5, 4),
        torch=_prelu,
        wrong={"PReLU: expected x with last axis 4, got shape": (5, 3)},
    ),
    Row("prelu images", layers.PReLU, (2, 3, 2, 4), (2, 3, 2, 4), torch=_prelu_last),
    Row(
        "prelu shared axes",
        lambda: layers.PReLU("uniform", shared_axes=(1, -1)),
        (2, 3, 2, 4),
        (2, 3, 2, 4),
        torch=lambda t, p, x: t.where(x > 0, x, p["alpha"] * x),
        wrong={
            r"shared_axes=\(1, -1\)\): expected x of shape \(N, any, 2, any\), got": (2, 3, 1, 4),
            r"expected x of shape .*, got \(2, 3, 2\)": (2, 3, 2),
        },
    ),
    Row(
        "prelu one slope",
        lambda: layers.PReLU(0.1, shared_axes=1),
        (5, 4),
        (5, 4),
        torch=lambda t, p, x: t.nn.functional.prelu(x, p["alpha"]),
    ),
    Row("prelu a slope an element", lambda: layers.PReLU(shared_axes=()), (3, 2, 2), (3, 2, 2)),
    Row(
        "maxout",
        lambda: layers.Maxout(3),
        (5, 4),
        (5, 3),
        torch=_maxout(2),
        wrong={r"Maxout\(in_features=4\): expected x with last axis 4": (5, 3)},
    ),
    Row(
        "maxout three pieces no bias",
        lambda: layers.Maxout(2, pieces=3, bias=False, l2=0.1),
        (2, 3, 4),
        (2, 3, 2),
        torch=_maxout(3),
    ),
]
