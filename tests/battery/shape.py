"""Layers that change the shape, and functions as layers."""

from __future__ import annotations

from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]

ROWS = [
    Row(
        "flatten",
        layers.Flatten,
        (2, 3, 4),
        (2, 12),
        any_dtype=True,
        torch=lambda t, p, x: t.flatten(x, 1),
        wrong={r"Flatten\(start_axis=1\): expected x with at least 1": ()},
    ),
    Row(
        "flatten from 2",
        lambda: layers.Flatten(start_axis=2),
        (2, 3, 4, 2),
        (2, 3, 8),
        any_dtype=True,
        torch=lambda t, p, x: t.flatten(x, 2),
    ),
    Row(
        "reshape",
        lambda: layers.Reshape((2, -1)),
        (3, 6),
        (3, 2, 3),
        any_dtype=True,
        torch=lambda t, p, x: t.unflatten(x, 1, (2, 3)),
        wrong={"do not fill that shape": (3, 5)},
    ),
    Row(
        "permute",
        lambda: layers.Permute((3, 1, 2)),
        (2, 3, 4, 5),
        (2, 5, 3, 4),
        any_dtype=True,
        torch=lambda t, p, x: x.movedim(-1, 1),
        wrong={r"Permute\(\(3, 1, 2\)\): expected x with 4 axes, .* got shape \(2, 3\)": (2, 3)},
    ),
    Row(
        "permute from the end",
        lambda: layers.Permute((-1, 1)),
        (2, 3, 4),
        (2, 4, 3),
        any_dtype=True,
        torch=lambda t, p, x: x.mT,
    ),
    Row(
        "expand dims",
        lambda: layers.ExpandDims(1),
        (3, 4),
        (3, 1, 4),
        any_dtype=True,
        torch=lambda t, p, x: x.unsqueeze(1),
        wrong={"axis 1 cannot be put after the first axis": ()},
    ),
    Row(
        "expand dims at the end",
        lambda: layers.ExpandDims(-2),
        (3, 4),
        (3, 1, 4),
        any_dtype=True,
        torch=lambda t, p, x: x[:, None],
        wrong={r"axis -2 cannot be .* of shape \(\)": ()},
    ),
    Row(
        "squeeze",
        lambda: layers.Squeeze(-1),
        (3, 4, 1),
        (3, 4),
        any_dtype=True,
        torch=lambda t, p, x: x.squeeze(-1),
        wrong={
            r"length 1 on axis -1, .* got shape \(3, 4, 2\)": (3, 4, 2),
            r"after the first axis, got shape \(1,\)": (1,),
        },
    ),
    Row(
        "lambda",
        lambda: layers.Lambda("tanh"),
        (3, 4),
        (3, 4),
        any_dtype=True,
        torch=lambda t, p, x: t.tanh(x),
    ),
]
