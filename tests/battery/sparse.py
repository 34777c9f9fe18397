"""The sparse layer."""

from __future__ import annotations

from typing import Any

from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]


def _masked(torch: Any, p: Any, x: Any) -> Any:
    assert 0 < int(p["mask"].sum()) < p["mask"].numel()
    return torch.nn.functional.linear(x, (p["weight"] * p["mask"]).T, p.get("bias"))


ROWS = [
    Row(
        "sparse evolution",
        lambda: layers.SparseEvolution(4, epsilon=1.0, activation="sigmoid"),
        (3, 5),
        (3, 4),
        torch=lambda t, p, x: t.sigmoid(_masked(t, p, x)),
        wrong={r"SparseEvolution\(in_features=5\): expected x with last axis 5": (3, 4)},
    ),
    Row(
        "sparse evolution no bias",
        lambda: layers.SparseEvolution(4, in_features=5, epsilon=0.9, every=3, bias=False),
        (2, 3, 5),
        (2, 3, 4),
        torch=_masked,
        wrong={"Flatten the images first": (2, 5, 4)},
    ),
]
