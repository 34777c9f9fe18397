"""Pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from battery.convolution import padded
from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]


def _pool(name: str, *args: Any, pairs: Any = None, first: bool = False, **options: Any) -> Any:
    """Pool in PyTorch, after padding that is not alike on both sides."""

    def formula(torch: Any, p: Any, x: Any) -> Any:
        x = x if first else x.movedim(-1, 1)
        if pairs is not None:
            x = padded(torch, x, pairs, value=float("-inf") if "max" in name else 0.0)
        y = getattr(torch.nn.functional, name)(x, *args, **options)
        return y if first else y.movedim(1, -1)

    return formula


def _all(name: str, keepdims: bool = False) -> Callable[..., Any]:
    return lambda torch, p, x: getattr(torch, name)(x, (1, 2), keepdim=keepdims)


ROWS = [
    Row(
        "max pool",
        lambda: layers.MaxPool2D(2),
        (2, 4, 7, 3),
        (2, 2, 3, 3),
        torch=_pool("max_pool2d", 2),
        wrong={
            r"MaxPool2D: expected x of shape \(N, H, W, C\), got \(4, 7, 3\)": (4, 7, 3),
            "MaxPool2D: .* larger than the": (2, 1, 7, 3),
        },
    ),
    Row(
        "max pool overlapping",
        lambda: layers.MaxPool2D(3, stride=2, padding=1, ceil_mode=True),
        (2, 6, 5, 2),
        (2, 4, 3, 2),
        torch=_pool("max_pool2d", 3, 2, 1, ceil_mode=True),
    ),
    Row(
        "max pool same channels first",
        lambda: layers.MaxPool2D((2, 3), 2, padding="same", data_format="channels_first"),
        (2, 2, 3, 4),
        (2, 2, 2, 2),
        torch=_pool("max_pool2d", (2, 3), 2, pairs=((0, 1), (0, 1)), first=True),
        wrong={r"MaxPool2D: expected x of shape \(N, C, H, W\), got \(2, 3\)": (2, 3)},
    ),
    Row(
        "max pool 1-d",
        lambda: layers.MaxPool1D(3, stride=2),
        (2, 6, 3),
        (2, 2, 3),
        torch=_pool("max_pool1d", 3, 2),
        wrong={
            r"MaxPool1D: expected x of shape \(N, T, C\), got \(6, 3\)": (6, 3),
            r"MaxPool1D: .* window of \(3,\)": (2, 2, 3),
        },
    ),
    Row(
        "max pool 1-d causal channels first",
        lambda: layers.MaxPool1D(2, 1, padding="causal", data_format="channels_first"),
        (2, 3, 4),
        (2, 3, 4),
        torch=_pool("max_pool1d", 2, 1, pairs=((1, 0),), first=True),
    ),
    Row(
        "average pool",
        lambda: layers.AvgPool2D((1, 2)),
        (2, 3, 4, 3),
        (2, 3, 2, 3),
        torch=_pool("avg_pool2d", (1, 2)),
        wrong={r"AvgPool2D: expected x of shape": (3, 4, 3)},
    ),
    Row(
        "average pool padded",
        lambda: layers.AvgPool2D(
            3, stride=2, padding=1, count_include_pad=False, data_format="channels_first"
        ),
        (2, 2, 5, 4),
        (2, 2, 3, 2),
        torch=_pool("avg_pool2d", 3, 2, 1, count_include_pad=False, first=True),
    ),
    Row(
        "sum pool",
        lambda: layers.AvgPool2D(2, (2, 1), padding=((0, 1), (1, 0)), mode="sum"),
        (2, 3, 3, 2),
        (2, 2, 3, 2),
        torch=_pool("avg_pool2d", 2, (2, 1), pairs=((0, 1), (1, 0)), divisor_override=1),
    ),
    Row(
        "average pool 1-d",
        lambda: layers.AvgPool1D(3, 2, padding=1, ceil_mode=True),
        (2, 6, 2),
        (2, 4, 2),
        torch=_pool("avg_pool1d", 3, 2, 1, ceil_mode=True),
    ),
    Row(
        "sum pool 1-d channels first",
        lambda: layers.AvgPool1D(2, 1, mode="sum", data_format="channels_first"),
        (2, 3, 4),
        (2, 3, 3),
        torch=lambda t, p, x: 2.0 * t.nn.functional.avg_pool1d(x, 2, 1),
    ),
    Row(
        "global average pool",
        layers.GlobalAvgPool,
        (3, 2, 5, 2),
        (3, 2),
        torch=_all("mean"),
        wrong={
            r"GlobalAvgPool: .* \(N, ..., C\) with at least one spatial axis.* got \(3, 2\)": (3, 2)
        },
    ),
    Row(
        "global average pool channels first",
        lambda: layers.GlobalAvgPool(keepdims=True, data_format="channels_first"),
        (3, 2, 5),
        (3, 2, 1),
        torch=lambda t, p, x: t.nn.functional.adaptive_avg_pool1d(x, 1),
    ),
    Row(
        "global max pool",
        lambda: layers.GlobalMaxPool(keepdims=True),
        (3, 2, 3, 2),
        (3, 1, 1, 2),
        torch=_all("amax", True),
        wrong={"GlobalMaxPool: .* none of length 0": (3, 0, 3, 2)},
    ),
    Row(
        "global max pool channels first",
        lambda: layers.GlobalMaxPool(data_format="channels_first"),
        (3, 2, 2, 2, 2),
        (3, 2),
        torch=lambda t, p, x: t.nn.functional.adaptive_max_pool3d(x, 1)[..., 0, 0, 0],
        wrong={r"GlobalMaxPool: expected x of shape \(N, C, ...\)": (3, 2)},
    ),
]
