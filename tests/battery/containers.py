"""Layers made of layers."""

from __future__ import annotations

from typing import Any

from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]


def _dense(p: Any, name: str, x: Any) -> Any:
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def _pre_norm(torch: Any, p: Any, x: Any) -> Any:
    y = torch.nn.functional.layer_norm(x, x.shape[-1:], p["body.0.scale"], p["body.0.shift"])
    return x + _dense(p, "body.2", torch.tanh(_dense(p, "body.1", y)))


def _shared() -> Any:
    dense = layers.Dense(3, activation="tanh")
    branches = [layers.Residual(dense), layers.Chain([dense, layers.Dense(2)])]
    return layers.Chain([layers.Dense(3), layers.Parallel(branches)])


def _of_shared(torch: Any, p: Any, x: Any) -> Any:
    x = _dense(p, "0", x)
    y = torch.tanh(_dense(p, "1.0.body.0", x))
    return torch.cat([x + y, _dense(p, "1.1.1", y)], -1)


ROWS = [
    Row(
        "chain",
        lambda: layers.Chain(
            [layers.Flatten(), layers.Dense(4, activation="tanh"), layers.Dense(2)]
        ),
        (5, 2, 3),
        (5, 2),
        torch=lambda t, p, x: _dense(p, "2", t.tanh(_dense(p, "1", t.flatten(x, 1)))),
    ),
    Row(
        "chain in chain with dropout",
        lambda: layers.Chain(
            [layers.Chain([layers.Dense(4), layers.Dropout(0.5)]), layers.Activation("sigmoid")]
        ),
        (5, 3),
        (5, 4),
        random=True,
    ),
    Row(
        "chain of two inputs",
        lambda: layers.Chain([layers.Multiply(), layers.Dense(2)]),
        [(3, 4), (3, 4)],
        (3, 2),
        torch=lambda t, p, a, b: _dense(p, "1", a * b),
    ),
    Row(
        "chain with two arrays in between",
        lambda: layers.Chain(
            [layers.Parallel([layers.Dense(3), layers.Dense(3)], merge=None), layers.Dot()]
        ),
        (2, 4),
        (2, 1),
        torch=lambda t, p, x: (_dense(p, "0.0", x) * _dense(p, "0.1", x)).sum(1, keepdim=True),
    ),
    Row(
        "residual",
        lambda: layers.Residual(
            [layers.LayerNorm(), layers.Dense(5, activation="tanh"), layers.Dense(4)]
        ),
        (2, 3, 4),
        (2, 3, 4),
        torch=_pre_norm,
        wrong={"LayerNorm: built for x": (2, 3, 5)},
    ),
    Row(
        "residual with a shortcut",
        lambda: layers.Residual(
            layers.Dense(3), shortcut=layers.Dense(3, bias=False), activation="tanh"
        ),
        (2, 4),
        (2, 3),
        torch=lambda t, p, x: t.tanh(_dense(p, "body.0", x) + x @ p["shortcut.0.weight"]),
    ),
    Row(
        "residual of nothing",
        lambda: layers.Residual([], shortcut=[layers.Dense(2), layers.Activation("tanh")]),
        (3, 2),
        (3, 2),
        torch=lambda t, p, x: x + t.tanh(_dense(p, "shortcut.0", x)),
    ),
    Row(
        "parallel",
        lambda: layers.Parallel([layers.Dense(3), layers.Dense(1, activation="sigmoid")]),
        (2, 4),
        (2, 4),
        torch=lambda t, p, x: t.cat([_dense(p, "0", x), t.sigmoid(_dense(p, "1", x))], -1),
    ),
    Row(
        "parallel places",
        lambda: layers.Parallel([layers.Dense(3), layers.Dense(3)], axis=1),
        (2, 2, 4),
        (2, 4, 3),
        torch=lambda t, p, x: t.cat([_dense(p, "0", x), _dense(p, "1", x)], 1),
    ),
    *(
        Row(
            f"parallel {merge}",
            lambda merge=merge: layers.Parallel([layers.Dense(3), layers.Dense(3)], merge),
            (2, 4),
            (2, 3),
            torch=lambda t, p, x, f=f: f(t, t.stack([_dense(p, "0", x), _dense(p, "1", x)])),
        )
        for merge, f in {
            "add": lambda t, y: y.sum(0),
            "multiply": lambda t, y: y.prod(0),
            "average": lambda t, y: y.mean(0),
            "maximum": lambda t, y: y.amax(0),
        }.items()
    ),
    Row(
        "parallel with all outputs",
        lambda: layers.Parallel(
            [layers.Dense(3), layers.Parallel([layers.Dense(2), layers.Activation("tanh")], None)],
            merge=None,
        ),
        (2, 4),
        [(2, 3), (2, 2), (2, 4)],
        torch=lambda t, p, x: (_dense(p, "0", x), _dense(p, "1.0", x), t.tanh(x)),
    ),
    Row(
        "parallel of two inputs",
        lambda: layers.Parallel([layers.Add(), layers.Dot()]),
        [(2, 3), (2, 3)],
        (2, 4),
        torch=lambda t, p, a, b: t.cat([a + b, (a * b).sum(1, keepdim=True)], 1),
    ),
    Row("nest with a shared layer", _shared, (2, 4), (2, 5), torch=_of_shared),
]
