"""What layers of sequences and images promise beyond the table of layers."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from helpers import assert_close, make

import xpnn
from xpnn import functional as F
from xpnn import layers
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, ShapeError


@pytest.mark.parametrize("padding", ["valid", "same", "full", 1, ((1, 0), (0, 2))])
@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 2)])
def test_a_transposed_layer_takes_the_weight_of_the_convolution(
    padding: Any, stride: int, groups: int
) -> None:
    """<conv(x), y> = <x, transpose(y)>, with one array as the weight of both."""
    options: dict[str, Any] = {"padding": padding, "stride": stride, "groups": groups}
    forward = layers.Conv2D(6, 3, 4, bias=False, **options)
    back = layers.ConvTranspose2D(4, 3, 6, bias=False, **options)
    assert back.weight.shape == forward.weight.shape
    back.load_state_dict(forward.state_dict())
    y = make((2, 4, 3, 6), seed=1)
    x = make(back(y).shape, seed=2)
    there, again = to_numpy(forward(x)), to_numpy(back(y))
    assert there.shape == y.shape
    assert np.sum(there * y) == pytest.approx(np.sum(x * again), rel=1e-4)


def test_a_transposed_layer_is_drawn_with_its_inputs_as_inputs() -> None:
    bound = math.sqrt(6 / (100 * 9))  # he_uniform: 100 channels in, windows of 9
    layer = layers.ConvTranspose2D(2, 3, 100, weight_init="he_uniform")
    largest = float(np.max(np.abs(to_numpy(layer.weight))))
    assert layer.weight.shape == (3, 3, 2, 100)
    assert 0.9 * bound < largest <= bound
    grouped = layers.ConvTranspose1D(4, 3, 100, groups=2, weight_init="he_uniform")
    bound = math.sqrt(6 / (50 * 3))
    assert grouped.weight.shape == (3, 2, 100)
    assert 0.9 * bound < float(np.max(np.abs(to_numpy(grouped.weight)))) <= bound


@pytest.mark.parametrize(
    ("make_it", "rows"),
    [
        (lambda: layers.Conv1D(2, 3, padding="causal", dilation=2), [slice(0, 4), slice(4, 7)]),
        (lambda: layers.MaxPool1D(3, 1, padding="causal"), [slice(0, 4), slice(4, 7)]),
        (lambda: layers.WaveNetBlock(2, 2, 2, 4), [slice(0, 4), slice(4, 7)]),
    ],
)
def test_causal_layers_do_not_see_what_comes_later(make_it: Any, rows: Any) -> None:
    before, after = rows
    layer = make_it()
    x = make((2, 7, 3))
    changed = x.copy()
    changed[:, after] += 1.0
    one, other = (layer(v) for v in (x, changed))
    pairs = zip(*((v if isinstance(v, tuple) else (v,)) for v in (one, other)), strict=True)
    for a, b in pairs:
        a, b = to_numpy(a), to_numpy(b)
        np.testing.assert_array_equal(a[:, before], b[:, before])
        assert (a[:, 4] != b[:, 4]).any()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.Conv1D(3, 2, 4, l1=0.5, l2=0.25), (2, 4, 3)),
        (layers.ConvTranspose2D(3, 2, 4, l1=0.5, l2=0.25), (2, 2, 3, 4)),
        (layers.ConvPool2D(3, 2, 2, 4, l1=0.5, l2=0.25), (2, 2, 4, 3)),
    ],
)
def test_penalties_hold_the_weight(layer: Any, shape: Any) -> None:
    w = to_numpy(layer.weight)
    assert w.shape == shape
    expected = 0.5 * np.abs(w).sum() + 0.25 * (w * w).sum()
    assert float(layer.penalties()) == pytest.approx(float(expected), rel=1e-6)


def test_activations_see_the_channels_in_both_formats() -> None:
    last = layers.Conv1D(3, 2, 2, activation="softmax")
    first = layers.Conv1D(3, 2, 2, activation="softmax", data_format="channels_first")
    first.load_state_dict(last.state_dict())
    x = make((2, 5, 2))
    y = last(x)
    np.testing.assert_allclose(to_numpy(y).sum(-1), 1.0, rtol=1e-6)
    assert_close(first(x.transpose(0, 2, 1)), to_numpy(y).transpose(0, 2, 1), 1e-6)


# ------------------------------------------------------------------------------- blocks


def test_conv_pool_is_convolution_activation_and_pooling_in_another_order() -> None:
    block = layers.ConvPool2D(3, 3, 2, 2, activation="tanh", padding="same", bias_init="ones")
    conv = layers.Conv2D(3, 3, 2, activation="tanh", padding="same")
    conv.load_state_dict(block.state_dict())
    x = make((2, 6, 5, 2))
    assert_close(block(x), F.max_pool2d(conv(x), 2), 1e-6, 1e-7)


def test_a_residual_block_chooses_its_shortcut() -> None:
    x = make((2, 4, 4, 3))
    names = ["convolution1.weight", "norm1.scale", "convolution2.weight", "norm2.scale"]
    for options, projects in (
        ({}, False),
        ({"shortcut": "identity"}, False),
        ({"shortcut": "convolution"}, True),
        ({"stride": (1, 2)}, True),
    ):
        block = layers.ResidualBlock(3, in_channels=3, **options)  # type: ignore[arg-type]
        built = [name for name in block.named_parameters() if not name.endswith("shift")]
        assert built == names + ["convolution3.weight", "norm3.scale"] * projects
        assert block(x).shape == (2, 4, 4 if options.get("stride") is None else 2, 3)
        again = xpnn.layers.Layer.from_config(json.loads(json.dumps(block.to_config())))
        again.load_state_dict(block.state_dict())
        assert_close(again.eval()(x), block.eval()(x), rtol=0)
    assert layers.ResidualBlock(4)(x).shape == (2, 4, 4, 4)


def test_an_identity_that_cannot_be_is_refused() -> None:
    message = r"shortcut='identity' needs stride 1 .* got stride \(2, 2\) and 3 channels to 3"
    with pytest.raises(ShapeError, match=message):
        layers.ResidualBlock(3, stride=2, shortcut="identity")(make((2, 4, 4, 3)))
    with pytest.raises(ShapeError, match=r"and 2 channels to 3\. Leave 'shortcut' out"):
        layers.ResidualBlock(3, in_channels=2, shortcut="identity")


def test_a_residual_block_without_its_convolutions_is_its_activation() -> None:
    block = layers.ResidualBlock(2, weight_init="zeros")
    x = make((2, 3, 3, 2))
    assert_close(block(x), np.maximum(x, 0), 1e-6)


@pytest.mark.parametrize("shortcut", [None, "convolution"])
def test_a_residual_block_uses_running_statistics_in_prediction(shortcut: Any) -> None:
    block = layers.ResidualBlock(2, shortcut=shortcut)
    x = make((4, 3, 3, 2))
    for _ in range(3):
        block(x + 3.0)
    together = to_numpy(block.eval()(x))
    alone = np.concatenate([to_numpy(block(x[i : i + 1])) for i in range(4)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_wavenet_blocks_sum_their_skip_connections() -> None:
    first, second = (layers.WaveNetBlock(3, 2, dilation=d) for d in (1, 2))
    x = make((2, 6, 4))
    y, skip = first(x)
    z, total = second(y, skip)
    z_alone, new = second(y)
    assert_close(total, skip + new, 1e-6)
    assert_close(z, z_alone, rtol=0)
    assert [name.partition(".")[0] for name in first.named_parameters()][::2] == [
        "filter", "gate", "to_skip", "to_residual",
    ]  # fmt: skip


def test_what_is_made_late_follows_what_was_said_before() -> None:
    block = layers.WaveNetBlock(3, 2).eval().freeze()
    block(make((2, 6, 4)))
    assert not any(part.training for part in block.layers())
    assert not any(p.requires_grad for p in block.parameters())


# ------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: layers.Conv1D(3, (2, 2)), "Conv1D: expected kernel_size to be a pos.* or 1 of"),
        (lambda: layers.Conv1D(3, 2, stride=0), "Conv1D: expected stride to be a positive"),
        (lambda: layers.Conv1D(3, 2, dilation=1.5), "Conv1D: expected dilation to be a positive"),
        (lambda: layers.Conv1D(3, 2, padding="some"), "Conv1D: expected padding .* or 'causal'"),
        (lambda: layers.Conv2D(3, 2, padding="causal"), "Conv2D: expected padding to be 'valid'"),
        (lambda: layers.Conv2D(3, 2, groups=2), "Conv2D: 'out_channels' must be a .* multiple of"),
        (lambda: layers.Conv2D(4, 2, 3, groups=2), "Conv2D: 'in_channels' must be a positive mult"),
        (lambda: layers.Conv2D(4, 2, groups=0), "Conv2D: 'groups' must be at least 1, got 0"),
        (lambda: layers.Conv2D(4, 2, l1=-1.0), "Conv2D: 'l1' must not be negative"),
        (
            lambda: layers.Conv2D(4, 2, data_format="NCHW"),
            "Conv2D: 'data_format' must be",
        ),
        (lambda: layers.Conv2D(4, 2, activation="rellu"), "unknown activation 'rellu'"),
        (
            lambda: layers.ConvTranspose1D(3, 2, padding="causal"),
            "ConvTranspose1D: a transposed convolution has no padding 'causal'",
        ),
        (
            lambda: layers.ConvTranspose2D(3, 2, stride=(1, 2), output_padding=1),
            r"ConvTranspose2D: expected output_padding smaller than the stride \(1, 2\)",
        ),
        (
            lambda: layers.ConvTranspose2D(3, 2, stride=2, padding="same", output_padding=1),
            "ConvTranspose2D: .* 0 with padding='same'",
        ),
        (lambda: layers.MaxPool1D((2, 2)), "MaxPool1D: expected pool_size to be a positive"),
        (lambda: layers.AvgPool1D(2, 0), "AvgPool1D: expected stride to be a positive"),
        (lambda: layers.AvgPool2D(2, mode="max"), "AvgPool2D: 'mode' must be 'average' or 'sum'"),
        (lambda: layers.GlobalMaxPool(data_format="NHWC"), "GlobalMaxPool: 'data_format' must be"),
        (lambda: layers.ZeroPad2D("same"), "ZeroPad2D: expected padding to be a number that"),
        (lambda: layers.ZeroPad1D((1, 2, 3)), r"ZeroPad1D: .* got \(1, 2, 3\)"),
        (lambda: layers.UpSample2D(0), "UpSample2D: expected factor to be a positive"),
        (lambda: layers.UpSample2D(2, "cubic"), "UpSample2D: 'interpolation' must be 'nearest'"),
        (lambda: layers.ConvPool2D(3, 2, pool="sum"), "ConvPool2D: 'pool' must be 'max' or 'av"),
        (lambda: layers.ConvPool2D(3, 2, 0), "ConvPool2D: expected pool_size to be a positive"),
        (lambda: layers.ConvPool2D(3, 2, pool_stride=-1), "ConvPool2D: expected pool_stride to be"),
        (lambda: layers.ConvPool2D(3, 2, pool_padding=-1), "ConvPool2D: expected padding to be"),
        (lambda: layers.ResidualBlock(3, shortcut="none"), "'shortcut' must be 'identity', 'conv"),
        (
            lambda: layers.ResidualBlock(0),
            "ResidualBlock: 'out_channels' must be at least 1",
        ),
        (lambda: layers.ResidualBlock(3, stride=0), "ResidualBlock: expected stride to be a pos"),
        (lambda: layers.WaveNetBlock(3, 0), "WaveNetBlock: 'skip_channels' must be at least 1"),
        (lambda: layers.WaveNetBlock(3, 1, 0), "WaveNetBlock: expected kernel_size to be a posit"),
        (lambda: layers.WaveNetBlock(3, 1, 2, 0), "WaveNetBlock: expected dilation to be a posit"),
    ],
)
def test_bad_arguments(make_it: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_it()


def test_groups_must_divide_what_comes_in() -> None:
    with pytest.raises(ShapeError, match=r"Conv1D\(groups=2\): expected x with a multiple of 2"):
        layers.Conv1D(4, 2, groups=2)(make((2, 5, 3)))


def test_a_pool_that_lies_in_the_padding_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match=r"^MaxPool1D: expected padding smaller than .* \(2,\)"):
        layers.MaxPool1D(2, padding=2)(make((2, 5, 3)))
    with pytest.raises(ConfigError, match=r"^ConvPool2D: expected padding smaller than the wind"):
        layers.ConvPool2D(3, 2, 2, pool_padding=2)(make((2, 5, 5, 3)))
