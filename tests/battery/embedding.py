"""Embeddings of ids, and of positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from battery.row import Ints, Row
from xpnn import layers

__all__ = ["ROWS"]


def _embedding(torch: Any, p: Any, ids: Any) -> Any:
    return torch.nn.functional.embedding(ids, p["weight"])


def _without_row(torch: Any, weight: Any, row: int) -> Any:
    """Return a table whose row reads as zeros: PyTorch's padding, as it is unless overwritten."""
    return weight * (torch.arange(len(weight)) != row)[:, None]


def _padded(torch: Any, p: Any, ids: Any) -> Any:
    weight = _without_row(torch, p["weight"], 1)
    return torch.nn.functional.embedding(ids, weight, padding_idx=1)


def _bag(mode: str, padding_idx: int | None = None) -> Any:
    def formula(torch: Any, p: Any, ids: Any, offsets: Any = None) -> Any:
        return torch.nn.functional.embedding_bag(
            ids, p["weight"], offsets, mode=mode, padding_idx=padding_idx
        )

    return formula


def _tied() -> Any:
    first = layers.Embedding(5, 3)
    return layers.Chain([first, layers.Dense(5, weight=first.weight, transposed=True)])


def _positions(torch: Any, p: Any, x: Any) -> Any:
    _, length, size = x.shape
    table = np.zeros((length, size + 1))
    for t in range(length):
        for i in range(0, size, 2):
            table[t, i] = np.sin(t / 10000 ** (i / size))
            table[t, i + 1] = np.cos(t / 10000 ** (i / size))
    return x + torch.tensor(table[:, :size]).to(x.dtype)


ROWS = [
    Row("embedding", lambda: layers.Embedding(6, 3), Ints((4, 5), 6), (4, 5, 3), torch=_embedding),
    Row(
        "embedding of one id, int32",
        lambda: layers.Embedding(4, 2, weight_init="ones"),
        Ints((7,), 4, "int32"),
        (7, 2),
        torch=lambda t, p, ids: _embedding(t, p, ids.long()),
    ),
    Row(
        "embedding padded",
        lambda: layers.Embedding(5, 3, padding_idx=1),
        Ints((3, 2, 4), 5),
        (3, 2, 4, 3),
        torch=_padded,
    ),
    Row(
        "embedding from values",
        lambda: layers.Embedding(3, 2, weight=np.arange(6.0).reshape(3, 2)),
        Ints((2, 3), 3),
        (2, 3, 2),
        torch=_embedding,
    ),
    Row(
        "embedding sum",
        lambda: layers.Embedding(6, 3, pool="sum"),
        Ints((4, 5), 6),
        (4, 3),
        torch=_bag("sum"),
        wrong={r"ids of shape \(bags, length\)": Ints((4,), 6)},
    ),
    Row(
        "embedding mean padded",
        lambda: layers.Embedding(4, 3, pool="mean", padding_idx=2),
        Ints((5, 4), 4, "uint8"),
        (5, 3),
        torch=lambda t, p, ids: _bag("mean", 2)(t, p, ids.long()),
    ),
    Row(
        "embedding tied to the decoder",
        _tied,
        Ints((3, 4), 5),
        (3, 4, 5),
        torch=lambda t, p, ids: t.nn.functional.linear(
            t.nn.functional.embedding(ids, p["0.weight"]), p["0.weight"], p["1.bias"]
        ),
    ),
    Row(
        "positional encoding",
        layers.PositionalEncoding,
        (2, 5, 4),
        (2, 5, 4),
        torch=_positions,
        wrong={r"x of shape \(N, T, D\)": (2, 5)},
    ),
    Row(
        "positional encoding odd",
        lambda: layers.PositionalEncoding(max_length=6, dropout=0.0),
        (2, 4, 3),
        (2, 4, 3),
        torch=_positions,
        wrong={r"max_length=6\): got a sequence of 7 places": (1, 7, 3)},
    ),
    Row(
        "positional encoding with dropout",
        lambda: layers.PositionalEncoding(dropout=0.3),
        (3, 4, 4),
        (3, 4, 4),
        random=True,
    ),
]
