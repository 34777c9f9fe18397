"""Blocks of convolutional layers."""

from __future__ import annotations

from typing import Any

from battery.convolution import conv, padded
from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]


def _conv_pool(torch: Any, p: Any, x: Any) -> Any:
    y = conv(torch, x, p["weight"], None)
    y = torch.nn.functional.max_pool2d(y.movedim(-1, 1), 2).movedim(1, -1)
    return torch.tanh(y + p["bias"])


def _conv_pool_options(torch: Any, p: Any, x: Any) -> Any:
    y = conv(torch, x.movedim(1, -1), p["weight"], None, ((1, 1), (0, 0)), stride=(1, 2), groups=2)
    y = padded(torch, y.movedim(-1, 1), ((0, 0), (0, 1)))
    return torch.nn.functional.avg_pool2d(y, (2, 2), (1, 2))


def _norm(torch: Any, p: Any, i: int, x: Any) -> Any:
    scale, shift = p[f"norm{i}.scale"], p[f"norm{i}.shift"]
    y = torch.nn.functional.batch_norm(x.movedim(-1, 1), None, None, scale, shift, training=True)
    return y.movedim(1, -1)


def _residual(torch: Any, p: Any, x: Any) -> Any:
    pairs = ((1, 1), (1, 1))
    y = _norm(torch, p, 1, conv(torch, x, p["convolution1.weight"], None, pairs))
    y = _norm(torch, p, 2, conv(torch, torch.tanh(y), p["convolution2.weight"], None, pairs))
    return torch.tanh(y + x)


def _residual_down(torch: Any, p: Any, x: Any) -> Any:
    x, pairs = x.movedim(1, -1), ((0, 1), (1, 1))
    y = _norm(torch, p, 1, conv(torch, x, p["convolution1.weight"], None, pairs, stride=2))
    y = _norm(torch, p, 2, conv(torch, torch.sigmoid(y), p["convolution2.weight"], None, pairs))
    h = _norm(torch, p, 3, conv(torch, x, p["convolution3.weight"], None, stride=2))
    return torch.sigmoid(y + h).movedim(-1, 1)


def _wavenet(torch: Any, p: Any, x: Any, skip: Any = None, d: int = 1, k: int = 2) -> Any:
    def part(name: str, z: Any, **options: Any) -> Any:
        return conv(torch, z, p[f"{name}.weight"], p.get(f"{name}.bias"), **options)

    past: dict[str, Any] = {"pairs": ((d * (k - 1), 0),), "dilation": d}
    z = torch.tanh(part("filter", x, **past)) * torch.sigmoid(part("gate", x, **past))
    new = part("to_skip", z)
    return x + part("to_residual", z), new if skip is None else skip + new


ROWS = [
    Row(
        "conv pool",
        lambda: layers.ConvPool2D(3, 2, 2, activation="tanh"),
        (2, 5, 6, 2),
        (2, 2, 2, 3),
        torch=_conv_pool,
        wrong={
            r"ConvPool2D: expected x of shape \(N, H, W, C\), got \(5, 6, 2\)": (5, 6, 2),
            r"ConvPool2D: .* window of \(2, 2\) at least once, got \(1, 5\)": (2, 2, 6, 2),
        },
    ),
    Row(
        "conv pool options",
        lambda: layers.ConvPool2D(
            2,
            (3, 1),
            2,
            2,
            pool="average",
            pool_stride=(1, 2),
            pool_padding=((0, 0), (0, 1)),
            stride=(1, 2),
            padding=(1, 0),
            groups=2,
            bias=False,
            l2=0.1,
            data_format="channels_first",
        ),
        (2, 2, 3, 5),
        (2, 2, 2, 2),
        torch=_conv_pool_options,
    ),
    Row(
        "residual block",
        lambda: layers.ResidualBlock(2, activation="tanh"),
        (3, 3, 4, 2),
        (3, 3, 4, 2),
        torch=_residual,
        batch=True,
        wrong={r"ResidualBlock: expected x of shape \(N, H, W, C\) with 2 channels": (3, 3, 4, 1)},
    ),
    Row(
        "residual block smaller",
        lambda: layers.ResidualBlock(
            3, (2, 3), stride=2, activation="sigmoid", data_format="channels_first"
        ),
        (2, 2, 3, 4),
        (2, 3, 2, 2),
        torch=_residual_down,
        batch=True,
        wrong={r"ResidualBlock: expected x of shape \(N, C, H, W\)": (3, 4)},
    ),
    Row(
        "wavenet block",
        lambda: layers.WaveNetBlock(3, 2, bias=False),
        (2, 4, 2),
        [(2, 4, 2), (2, 4, 2)],
        torch=_wavenet,
        wrong={r"WaveNetBlock: expected x of shape \(N, T, C\) with 2 channels": (2, 4, 3)},
    ),
    Row(
        "wavenet block, skip so far",
        lambda: layers.WaveNetBlock(2, 3, 3, 2, in_channels=2),
        [(2, 6, 2), (2, 6, 3)],
        [(2, 6, 2), (2, 6, 3)],
        torch=lambda t, p, x, skip: _wavenet(t, p, x, skip, 2, 3),
        wrong={r"WaveNetBlock: expected skip of shape \(2, 6, 3\)": [(2, 6, 2), (2, 6, 1)]},
    ),
]
