"""Layers of several inputs."""

from __future__ import annotations

from typing import Any

from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]


def _unit(torch: Any, x: Any, axis: int) -> Any:
    return torch.nn.functional.normalize(x, dim=axis)


ROWS = [
    Row(
        "add",
        layers.Add,
        [(3, 4), (3, 4), (3, 4)],
        (3, 4),
        torch=lambda t, p, *xs: t.stack(xs).sum(0),
        wrong={
            r"one shape, got \(3, 4\), \(3, 1\), \(3, 4\)\. Nothing is broadcast": [
                (3, 4),
                (3, 1),
                (3, 4),
            ]
        },
    ),
    Row(
        "add tanh",
        lambda: layers.Add("tanh"),
        [(2, 3, 1), (2, 3, 1)],
        (2, 3, 1),
        torch=lambda t, p, a, b: t.tanh(a + b),
    ),
    Row("add one", layers.Add, (3, 4), (3, 4), torch=lambda t, p, x: x),
    Row(
        "multiply",
        layers.Multiply,
        [(3, 4), (3, 4), (3, 4)],
        (3, 4),
        torch=lambda t, p, *xs: t.stack(xs).prod(0),
        wrong={"Multiply: expected inputs of one shape": [(3, 4), (3, 4), (4,)]},
    ),
    Row(
        "multiply sigmoid",
        lambda: layers.Multiply(activation="sigmoid"),
        [(2, 3), (2, 3)],
        (2, 3),
        torch=lambda t, p, a, b: t.sigmoid(a * b),
    ),
    Row(
        "average",
        layers.Average,
        [(3, 4), (3, 4), (3, 4)],
        (3, 4),
        torch=lambda t, p, *xs: t.stack(xs).mean(0),
    ),
    Row(
        "maximum of two",
        layers.Maximum,
        [(3, 4), (3, 4)],
        (3, 4),
        torch=lambda t, p, a, b: t.maximum(a, b),
    ),
    Row(
        "maximum of three",
        lambda: layers.Maximum("tanh"),
        [(3, 4), (3, 4), (3, 4)],
        (3, 4),
        torch=lambda t, p, *xs: t.tanh(t.stack(xs).amax(0)),
        wrong={"Maximum: expected inputs of one shape": [(3, 4), (3, 4), (2, 4)]},
    ),
    Row(
        "concatenate",
        layers.Concatenate,
        [(2, 3, 1), (2, 3, 4), (2, 3, 2)],
        (2, 3, 7),
        torch=lambda t, p, *xs: t.cat(xs, -1),
        any_dtype=True,
        wrong={
            r"but for their axis -1.*got \(2, 3, 1\), \(2, 2, 4\)": [(2, 3, 1), (2, 2, 4)],
            r"got \(2, 3, 1\), \(2, 3\)": [(2, 3, 1), (2, 3)],
            "not that of the examples": [(2,), (2,)],
        },
    ),
    Row(
        "concatenate places",
        lambda: layers.Concatenate(axis=1, activation="tanh"),
        [(2, 3, 4), (2, 1, 4)],
        (2, 4, 4),
        torch=lambda t, p, a, b: t.tanh(t.cat([a, b], 1)),
        any_dtype=True,
    ),
    Row(
        "dot",
        layers.Dot,
        [(3, 4), (3, 4)],
        (3, 1),
        torch=lambda t, p, a, b: t.einsum("nk,nk->n", a, b)[:, None],
        wrong={
            r"Dot\(axes=\(-1, -1\)\): expected two inputs of as many.*got \(3, 4\), \(3, 5\)": [
                (3, 4),
                (3, 5),
            ],
            r"got \(3, 4\), \(2, 4\)": [(3, 4), (2, 4)],
            r"got \(4,\), \(4,\)": [(4,), (4,)],
        },
    ),
    Row(
        "dot cosine",
        lambda: layers.Dot(normalize=True, activation="sigmoid"),
        [(3, 4), (3, 4)],
        (3, 1),
        torch=lambda t, p, a, b: t.sigmoid(t.cosine_similarity(a, b))[:, None],
    ),
    Row(
        "dot of matrices",
        lambda: layers.Dot(axes=(2, 1)),
        [(2, 3, 4), (2, 4, 5)],
        (2, 3, 5),
        torch=lambda t, p, a, b: t.bmm(a, b),
    ),
    Row(
        "dot of axes in the middle",
        lambda: layers.Dot(axes=(1, -2), normalize=True),
        [(2, 3, 4, 2), (2, 3, 5)],
        (2, 4, 2, 5),
        torch=lambda t, p, a, b: t.einsum("nkpq,nkr->npqr", _unit(t, a, 1), _unit(t, b, 1)),
    ),
    Row(
        "dot of matrix and vector",
        lambda: layers.Dot(1),
        [(2, 4, 3), (2, 4)],
        (2, 3),
        torch=lambda t, p, a, b: t.einsum("nkp,nk->np", a, b),
    ),
]
