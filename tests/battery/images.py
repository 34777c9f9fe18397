"""Padding and upsampling."""

from __future__ import annotations

from typing import Any

from battery.convolution import padded
from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]


def _resized(torch: Any, x: Any, factor: Any, **options: Any) -> Any:
    return torch.nn.functional.interpolate(x, scale_factor=factor, **options)


ROWS = [
    Row(
        "zero pad 1-d",
        lambda: layers.ZeroPad1D((1, 2)),
        (2, 3, 2),
        (2, 6, 2),
        torch=lambda t, p, x: padded(t, x, ((1, 2), (0, 0))),
        wrong={r"ZeroPad1D: expected x of shape \(N, T, C\), got \(3, 2\)": (3, 2)},
    ),
    Row(
        "zero pad",
        lambda: layers.ZeroPad2D((1, 2)),
        (2, 2, 1, 2),
        (2, 4, 5, 2),
        torch=lambda t, p, x: padded(t, x, ((1, 1), (2, 2), (0, 0))),
        wrong={r"ZeroPad2D: expected x of shape \(N, H, W, C\)": (2, 1, 2)},
    ),
    Row(
        "zero pad channels first",
        lambda: layers.ZeroPad2D(((1, 0), (0, 2)), data_format="channels_first"),
        (2, 3, 2, 1),
        (2, 3, 3, 3),
        torch=lambda t, p, x: padded(t, x, ((1, 0), (0, 2))),
    ),
    Row(
        "upsample nearest",
        lambda: layers.UpSample2D((2, 3)),
        (2, 2, 3, 2),
        (2, 4, 9, 2),
        torch=lambda t, p, x: _resized(t, x.movedim(-1, 1), (2, 3)).movedim(1, -1),
        wrong={r"UpSample2D: expected x of shape \(N, H, W, C\)": (2, 3, 2)},
    ),
    Row(
        "upsample bilinear",
        lambda: layers.UpSample2D((3, 2), "bilinear"),
        (2, 2, 3, 2),
        (2, 6, 6, 2),
        torch=lambda t, p, x: _resized(
            t, x.movedim(-1, 1), (3, 2), mode="bilinear", align_corners=False
        ).movedim(1, -1),
    ),
    Row(
        "upsample bilinear channels first",
        lambda: layers.UpSample2D((4, 1), "bilinear", data_format="channels_first"),
        (2, 2, 1, 3),
        (2, 2, 4, 3),
        torch=lambda t, p, x: _resized(t, x, (4, 1), mode="bilinear", align_corners=False),
    ),
]
