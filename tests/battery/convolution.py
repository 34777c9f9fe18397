"""Convolution and its transpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from battery.row import Row
from xpnn import layers

__all__ = ["ROWS", "conv", "padded"]

Pairs = tuple[tuple[int, int], ...]


def padded(torch: Any, x: Any, pairs: Pairs, value: float = 0.0) -> Any:
    """Pad the last axes of ``x``; negative numbers take away."""
    sides = [q for pair in reversed(pairs) for q in pair]
    return torch.nn.functional.pad(x, sides, value=value)


def conv(
    torch: Any, x: Any, weight: Any, bias: Any, pairs: Pairs | None = None, **options: Any
) -> Any:
    """Convolve channels last in PyTorch."""
    f = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d}[x.ndim - 2]
    x = padded(torch, x.movedim(-1, 1), pairs or ((0, 0),) * (x.ndim - 2))
    return f(x, weight.movedim((-1, -2), (0, 1)), bias, **options).movedim(1, -1)


def _conv(pairs: Pairs | None = None, then: str = "", **options: Any) -> Callable[..., Any]:
    def formula(torch: Any, p: Any, x: Any) -> Any:
        y = conv(torch, x, p["weight"], p.get("bias"), pairs, **options)
        return getattr(torch, then)(y) if then else y

    return formula


def _transpose(pairs: Pairs, **options: Any) -> Callable[..., Any]:
    """Transposed convolution of which ``pairs`` are taken away; less than none are zeros."""

    def formula(torch: Any, p: Any, x: Any) -> Any:
        n = x.ndim - 2
        f = getattr(torch.nn.functional, f"conv_transpose{n}d")
        y = f(x.movedim(-1, 1), p["weight"].movedim((-1, -2), (0, 1)), None, **options)
        y = padded(torch, y, tuple((-a, -b) for a, b in pairs)).movedim(1, -1)
        return y + p["bias"] if "bias" in p else y

    return formula


def _first(formula: Callable[..., Any]) -> Callable[..., Any]:
    """Return a formula for channels first."""
    return lambda torch, p, x: formula(torch, p, x.movedim(1, -1)).movedim(-1, 1)


ROWS = [
    Row(
        "conv2d",
        lambda: layers.Conv2D(3, 2),
        (2, 4, 5, 2),
        (2, 3, 4, 3),
        torch=_conv(),
        wrong={
            r"Conv2D: expected x of shape \(N, H, W, C\) with 2 channels": (2, 4, 5, 3),
            r"Conv2D: .* of shape \(N, H, W, C\), got \(4, 5, 2\)": (4, 5, 2),
            "Conv2D: .* larger than the": (2, 1, 5, 2),
        },
    ),
    Row(
        "conv2d same stride",
        lambda: layers.Conv2D(4, (3, 2), stride=2, padding="same", activation="tanh"),
        (2, 5, 4, 3),
        (2, 3, 2, 4),
        torch=_conv(((1, 1), (0, 0)), "tanh", stride=2),
    ),
    Row(
        "conv2d all options",
        lambda: layers.Conv2D(
            4, 2, stride=(1, 2), padding=((1, 0), (2, 1)), dilation=(2, 1), groups=2, bias=False
        ),
        (2, 4, 4, 2),
        (2, 3, 3, 4),
        torch=_conv(((1, 0), (2, 1)), stride=(1, 2), dilation=(2, 1), groups=2),
    ),
    Row(
        "conv2d a rest is left",
        lambda: layers.Conv2D(2, (2, 1), stride=(3, 2), l1=0.1, l2=0.2),
        (2, 7, 4, 3),
        (2, 2, 2, 2),
        torch=_conv(stride=(3, 2)),
    ),
    Row(
        "conv2d full",
        lambda: layers.Conv2D(2, (2, 3), padding="full", dilation=(1, 2), weight_init="he_normal"),
        (1, 2, 3, 2),
        (1, 3, 7, 2),
        torch=_conv(((1, 1), (4, 4)), dilation=(1, 2)),
    ),
    Row(
        "conv2d depthwise channels first",
        lambda: layers.Conv2D(6, 3, 3, padding=1, groups=3, data_format="channels_first"),
        (2, 3, 4, 5),
        (2, 6, 4, 5),
        torch=_first(_conv(((1, 1), (1, 1)), groups=3)),
        wrong={
            r"Conv2D: expected x of shape \(N, C, H, W\) with 3 channels.*'channels_last'": (
                (2, 4, 5, 3)
            )
        },
    ),
    Row(
        "conv1d",
        lambda: layers.Conv1D(3, 2, stride=2),
        (2, 6, 4),
        (2, 3, 3),
        torch=_conv(stride=2),
        wrong={
            r"Conv1D: expected x of shape \(N, T, C\) with 4 channels": (2, 6, 3),
            r"Conv1D: expected x of shape \(N, T, C\), got \(2, 6, 6, 4\)": (2, 6, 6, 4),
            r"Conv1D: .* window of \(2,\) at least once, got \(1,\)": (2, 1, 4),
        },
    ),
    Row(
        "conv1d causal",
        lambda: layers.Conv1D(2, 3, padding="causal", dilation=2, activation="sigmoid"),
        (2, 5, 3),
        (2, 5, 2),
        torch=_conv(((4, 0),), "sigmoid", dilation=2),
    ),
    Row(
        "conv1d same",
        lambda: layers.Conv1D(2, 4, padding="same", bias=False),
        (2, 5, 2),
        (2, 5, 2),
        torch=_conv(((1, 2),)),
    ),
    Row(
        "conv1d depthwise channels first",
        lambda: layers.Conv1D(4, 3, padding=(2, 1), groups=2, data_format="channels_first"),
        (2, 2, 4),
        (2, 4, 5),
        torch=_first(_conv(((2, 1),), groups=2)),
    ),
    Row(
        "conv transpose2d",
        lambda: layers.ConvTranspose2D(3, (3, 2), stride=(2, 3), padding=1, output_padding=(1, 2)),
        (2, 3, 2, 2),
        (2, 6, 5, 3),
        torch=_transpose(((0, 0), (0, 0)), stride=(2, 3), padding=1, output_padding=(1, 2)),
        wrong={
            r"ConvTranspose2D: expected x of shape \(N, H, W, C\) with 2 channels": (2, 3, 2, 3),
            r"ConvTranspose2D: nothing is left: axes of \(3, 0\)": (2, 3, 0, 2),
        },
    ),
    Row(
        "conv transpose2d same",
        lambda: layers.ConvTranspose2D(2, (3, 1), stride=2, padding="same"),
        (2, 2, 3, 3),
        (2, 4, 6, 2),
        torch=_transpose(((0, 1), (0, -1)), stride=2),
    ),
    Row(
        "conv transpose2d groups channels first",
        lambda: layers.ConvTranspose2D(
            4,
            2,
            dilation=(1, 2),
            padding=((1, 0), (0, 1)),
            groups=2,
            activation="tanh",
            data_format="channels_first",
        ),
        (1, 2, 3, 2),
        (1, 4, 3, 3),
        torch=_first(
            lambda t, p, x: t.tanh(_transpose(((1, 0), (0, 1)), dilation=(1, 2), groups=2)(t, p, x))
        ),
    ),
    Row(
        "conv transpose1d",
        lambda: layers.ConvTranspose1D(3, 3, stride=2, bias=False),
        (2, 3, 2),
        (2, 7, 3),
        torch=_transpose(((0, 0),), stride=2),
        wrong={r"ConvTranspose1D: expected x of shape \(N, T, C\)": (3, 2)},
    ),
    Row(
        "conv transpose1d depthwise full",
        lambda: layers.ConvTranspose1D(2, 2, padding="full", groups=2),
        (2, 4, 2),
        (2, 3, 2),
        torch=_transpose(((0, 0),), padding=1, groups=2),
    ),
]
