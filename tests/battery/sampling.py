"""Losses with weights, whose noise the formulas draw again from the stream that a call starts with.

The checks start every call with the seed 7.
"""

from __future__ import annotations

from typing import Any

from battery.row import Ints, Row
from xpnn import layers, random

__all__ = ["ROWS"]

COUNTS = [3.0, 0.5, 0.0, 4.0, 2.0, 1.5, 1.0]


def _uniform(torch: Any, shape: tuple[int, ...]) -> Any:
    return torch.tensor(random.Stream(7).integers(0, 7, shape))


def _counted(torch: Any, counts: list[float], shape: tuple[int, ...]) -> Any:
    return torch.tensor(random.Discrete(counts).draw(shape, rng=random.Stream(7)))


def _scores(p: Any, h: Any) -> Any:
    scores = h @ p["weight"]
    return scores + p["bias"] if "bias" in p else scores


def _loss(torch: Any, scores: Any, y: Any, noise: Any) -> Any:
    """Scores of all classes, of which the formula takes those of target and noise."""
    log_sigmoid = torch.nn.functional.logsigmoid
    noise = noise.expand(*y.shape, noise.shape[-1])
    hit = log_sigmoid(scores.gather(-1, y[..., None]))[..., 0]
    return -hit - log_sigmoid(-scores.gather(-1, noise)).sum(-1)


def _nce(torch: Any, p: Any, h: Any, y: Any) -> Any:
    counts = [c + 1 for c in COUNTS]
    q = torch.tensor(counts, dtype=torch.float64)
    log_kq = (5 * q / q.sum()).log().to(h.dtype)
    return _loss(torch, _scores(p, h) - log_kq, y, _counted(torch, counts, (5,)))


ROWS = [
    Row(
        "negative sampling",
        lambda: layers.NegativeSampling(7, num_samples=5),
        [(4, 3), Ints((4,), 7)],
        (4,),
        torch=lambda t, p, h, y: _loss(t, _scores(p, h), y, _uniform(t, (5,))),
        random=True,
        wrong={
            r"\(in_features=3\): expected hidden with last axis 3": [(4, 2), Ints((4,), 7)],
            r"hidden of shape \(4, 3\) needs targets of shape \(4,\), got \(5,\)": [
                (4, 3),
                Ints((5,), 7),
            ],
        },
    ),
    Row(
        "negative sampling each, from counts, of sequences",
        lambda: layers.NegativeSampling(7, 3, noise=COUNTS, shared=False, bias=False),
        [(4, 2, 3), Ints((4, 2), 7)],
        (4, 2),
        torch=lambda t, p, h, y: _loss(t, _scores(p, h), y, _counted(t, COUNTS, (4, 2, 3))),
        random=True,
    ),
    Row(
        "noise-contrastive estimation",
        lambda: layers.NegativeSampling(
            7, num_samples=5, noise=[c + 1 for c in COUNTS], objective="nce", in_features=3
        ),
        [(4, 2, 3), Ints((4, 2), 7)],
        (4, 2),
        torch=_nce,
        random=True,
    ),
]
