"""Layers with a loss of their own; what they learn by it is in ``test_unsupervised.py``."""

from __future__ import annotations

from typing import Any

from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]


def _sigmoid(torch: Any, p: Any, x: Any) -> Any:
    return torch.sigmoid(torch.nn.functional.linear(x, p["weight"].T, p["bias"]))


ROWS = [
    Row(
        "rbm",
        lambda: layers.RBM(3),
        (5, 4),
        (5, 3),
        torch=_sigmoid,
        unused=("visible_bias",),
        wrong={r"RBM\(hidden=3, visible=4\): expected x with last axis 4": (5, 7)},
    ),
    Row(
        "rbm persistent",
        lambda: layers.RBM(3, visible=4, persistent=True, chains=2, weight_init="glorot_normal"),
        (2, 3, 4),
        (2, 3, 3),
        torch=_sigmoid,
        unused=("visible_bias",),
        wrong={"Flatten the images first": (5, 2, 3)},
    ),
    Row(
        "autoencoder",
        lambda: layers.AutoEncoder(3, corruption=0.5, noise_std=1.0),
        (5, 4),
        (5, 3),
        torch=_sigmoid,
        unused=("visible_bias",),
        wrong={r"AutoEncoder\(hidden=3, visible=4\): expected x with last axis 4": (5, 7)},
    ),
    Row(
        "autoencoder untied",
        lambda: layers.AutoEncoder(3, visible=4, tied=False, contraction=0.5, activation="tanh"),
        (5, 4),
        (5, 3),
        torch=lambda t, p, x: t.tanh(x @ p["weight"] + p["bias"]),
        unused=("decoder_weight", "visible_bias"),
    ),
]
