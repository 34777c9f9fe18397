"""Layers that are random in training: the same masks everywhere, the moments that they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import assert_close, double, make, on

import xpnn
from xpnn import functional as F
from xpnn import layers, ops
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError
from xpnn.random import Stream


def test_dropout_masks_are_the_same_on_every_device_and_keep_the_mean(device: Any) -> None:
    x = np.ones((200, 200), np.float32)
    xpnn.set_seed(1)
    here = F.dropout(x, 0.25)
    xpnn.set_seed(1)
    there = F.dropout(on(device, x), 0.25)
    np.testing.assert_array_equal(to_numpy(there), here)
    assert set(np.unique(here)) == {np.float32(0), np.float32(1 / 0.75)}
    assert here.mean() == pytest.approx(1, abs=0.02)
    assert F.dropout(x, 0.25, training=False) is x


# --------------------------------------------------------------- the formulas, with the same mask


def test_alpha_dropout_is_the_formula_of_the_paper(device: Any) -> None:
    p, low = 0.3, -1.7580993408473766
    x, g = make((7, 5), device, double(device)), make((7, 5), device, double(device), seed=1)
    a = ((1 - p) * (1 + p * low**2)) ** -0.5
    b = -a * p * low
    m = Stream(4).bernoulli(1 - p, (7, 5), device="cpu")
    expected = a * (to_numpy(x) * m + low * (1 - m)) + b
    y, pullback = xpnn.vjp(lambda x: F.alpha_dropout(x, p, rng=Stream(4)), x)
    assert 0 < m.sum() < m.size
    assert_close(to_numpy(y), expected.astype(to_numpy(x).dtype), rtol=1e-5)
    assert_close(to_numpy(pullback(g)), (a * m * to_numpy(g)).astype(to_numpy(x).dtype), rtol=1e-5)
    assert F.alpha_dropout(x, p, training=False) is x


@pytest.mark.oracle
def test_alpha_dropout_maps_what_is_kept_and_what_is_dropped_as_torch_does() -> None:
    torch = pytest.importorskip("torch")
    x = np.linspace(1, 2, 50, dtype="float32")
    theirs = torch.nn.functional.alpha_dropout(torch.tensor(x), 0.4, training=True).numpy()
    ours = F.alpha_dropout(x, 0.4)
    for a, b in ((ours, theirs), (theirs, ours)):
        dropped = np.isclose(a, a.min())
        assert 5 < dropped.sum() < 45
        assert a.min() == pytest.approx(b.min(), rel=1e-5)
        slope, shift = np.polyfit(x[~dropped], a[~dropped], 1)
        other = np.polyfit(x[~np.isclose(b, b.min())], b[~np.isclose(b, b.min())], 1)
        np.testing.assert_allclose([slope, shift], other, rtol=1e-4)


@pytest.mark.parametrize("p", [0.05, 0.2, 0.6])
def test_alpha_dropout_keeps_mean_and_variance(p: float) -> None:
    y = F.alpha_dropout(xpnn.get_rng().normal((400, 500)), p)
    assert abs(y.mean()) < 0.01
    assert y.var() == pytest.approx(1, abs=0.015)


def test_gaussian_noise_is_that_of_the_stream(device: Any) -> None:
    dtype = double(device)
    x = make((6, 7), device, dtype)
    y, pullback = xpnn.vjp(lambda x: F.gaussian_noise(x, 0.5, rng=Stream(2)), x)
    noise = Stream(2).normal((6, 7), std=0.5, dtype=dtype, device="cpu")
    assert_close(to_numpy(y), to_numpy(x) + noise, rtol=1e-6, atol=1e-6)
    assert str(y.dtype).rpartition(".")[2] == dtype
    g = make((6, 7), device, dtype, seed=1)
    np.testing.assert_array_equal(to_numpy(pullback(g)), to_numpy(g))
    assert F.gaussian_noise(x, 0.5, training=False) is x
    draws = F.gaussian_noise(np.zeros((200, 100), np.float32), 0.5)
    assert draws.std() == pytest.approx(0.5, rel=0.03)
    assert abs(draws.mean()) < 4 * 0.5 / 20000**0.5


def test_drop_connect_is_dense_with_the_mask_on_its_weight(device: Any) -> None:
    layer = layers.DropConnect(4, 0.3, in_features=6, activation="tanh")
    layer.to(device)
    x, g = make((5, 6), device), make((5, 4), device, seed=1)
    xpnn.set_seed(9)
    y = layer(x)
    dx = layer.backward(g)
    m = Stream(9).bernoulli(0.7, (6, 4), device="cpu") / np.float32(0.7)
    w, b = to_numpy(layer.weight), to_numpy(layer.bias)
    z = np.tanh(to_numpy(x) @ (m * w) + b)
    dz = to_numpy(g) * (1 - z * z)
    assert_close(to_numpy(y), z, rtol=1e-5, atol=1e-6)
    assert_close(to_numpy(dx), dz @ (m * w).T, rtol=1e-4, atol=1e-5)
    assert_close(to_numpy(layer.weight.grad), m * (to_numpy(x).T @ dz), rtol=1e-4, atol=1e-5)
    assert_close(to_numpy(layer.bias.grad), dz.sum(axis=0), rtol=1e-4, atol=1e-5)


def test_drop_connect_leaves_its_weight_alone_and_agrees_in_expectation() -> None:
    layer = layers.DropConnect(3, 0.4, in_features=5)
    before = to_numpy(layer.weight).copy()
    x = make((2, 5))
    draws = np.stack([to_numpy(layer(x)) for _ in range(2000)])
    np.testing.assert_array_equal(to_numpy(layer.weight), before)
    predicted = to_numpy(layer.eval()(x))
    np.testing.assert_array_equal(predicted, to_numpy(layer(x)))
    assert_close(predicted, x @ before + to_numpy(layer.bias), rtol=1e-5)
    error = draws.std(axis=0) / 2000**0.5
    assert (abs(draws.mean(axis=0) - predicted) < 4.5 * error).all()
    twice = layer.train()(np.concatenate([x, x]))
    np.testing.assert_array_equal(to_numpy(twice)[:2], to_numpy(twice)[2:])  # one mask a batch


def test_penalties_of_drop_connect_and_maxout_are_of_the_whole_weight() -> None:
    for make_it in (layers.DropConnect, layers.Maxout):
        layer = make_it(2, in_features=3, l1=0.5, l2=2.0)
        w = to_numpy(layer.weight).astype("float64")
        expected = 0.5 * abs(w).sum() + 2 * (w * w).sum()
        assert float(layer.penalties()) == pytest.approx(expected, rel=1e-5)


# --------------------------------------------------------------------- prelu and maxout


def test_pieces_of_maxout_begin_each_by_itself() -> None:
    layer = layers.Maxout(200, pieces=3, in_features=100, weight_init="orthogonal")
    w = to_numpy(layer.weight)
    assert w.shape == (100, 600)
    for piece in np.split(w, 3, axis=1):
        np.testing.assert_allclose(piece @ piece.T, np.eye(100), atol=1e-5)
    assert not np.allclose(w[:, :200], w[:, 200:400])
    wide = layers.Maxout(200, pieces=3, in_features=100).weight
    assert to_numpy(wide).std() == pytest.approx((2 / 300) ** 0.5, rel=0.03)
    assert layers.Maxout(2, pieces=4, in_features=3).bias.shape == (8,)


def test_maxout_can_be_the_absolute_value() -> None:
    layer = layers.Maxout(1, in_features=1)
    layer.load_state_dict({"weight": np.asarray([[1.0, -1.0]]), "bias": np.zeros(2)})
    x = np.asarray([[-2.0], [0.5]], np.float32)
    np.testing.assert_array_equal(to_numpy(layer(x)), abs(x))


def test_slopes_are_learnt_and_have_the_shapes_that_they_are_told() -> None:
    x = make((2, 3, 2, 4))
    for shared, shape in (
        (None, (4,)), ((1, 2), (1, 1, 4)), ((), (3, 2, 4)), ((1, 2, 3), (1, 1, 1)), (-2, (3, 1, 4)),
    ):  # fmt: skip
        layer = layers.PReLU(shared_axes=shared)
        y = layer(x)
        assert layer.alpha.shape == shape
        assert_close(to_numpy(y), np.where(x > 0, x, np.float32(0.25) * x), rtol=1e-6)
    layer = layers.PReLU(alpha_init=("uniform", {"low": 0.5, "high": 1.0}))
    optimizer = xpnn.optim.SGD(0.1)
    ops.sum(layer(x)).backward()
    before = to_numpy(layer.alpha).copy()
    optimizer.step(layer)
    expected = before - 0.1 * np.minimum(x, 0).sum(axis=(0, 1, 2))
    assert_close(to_numpy(layer.alpha), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: F.dropout(np.ones(3), 2.0), r"dropout: 'p' must be in \[0, 1\], got 2.0"),
        (lambda: F.alpha_dropout(np.ones(3), 1.0), r"alpha_dropout: 'p' must be in \[0, 1\), got"),
        (lambda: F.gaussian_noise(np.ones(3), -1), "'std' must be non-negative and finite, got -1"),
        (lambda: layers.Dropout(-0.1), r"Dropout: 'p' must be in \[0, 1\], got -0.1"),
        (lambda: layers.AlphaDropout(1.0), r"AlphaDropout: 'p' must be in \[0, 1\), got 1.0"),
        (lambda: layers.GaussianNoise(-0.5), "GaussianNoise: 'std' must be non-negative and fin"),
        (lambda: layers.DropConnect(3, 1.5), r"DropConnect: 'p' must be in \[0, 1\], got 1.5"),
        (lambda: layers.DropConnect(0), "DropConnect: 'out_features' must be at least 1, got 0"),
        (lambda: layers.Maxout(3, l1=-1), "Maxout: 'l1' must not be negative"),
        (lambda: layers.Maxout(3, pieces=1), "Maxout: 'pieces' must be at least 2, got 1. One pie"),
        (
            lambda: layers.PReLU(shared_axes=(0, 1)),
            "'shared_axes' must be axes other than 0",
        ),
        (lambda: layers.PReLU("a quarter"), "unknown initializer 'a quarter'"),
    ],
)
def test_bad_arguments_are_refused(make_it: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_it()


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (
            lambda: layers.PReLU(),
            np.ones(()),
            "PReLU: expected x with at least one axis",
        ),
        (lambda: layers.PReLU(shared_axes=2), np.ones((2, 3)), "does not have these axes behind"),
        (lambda: layers.PReLU(shared_axes=-2), np.ones((2, 3)), "does not have these axes behind"),
        (lambda: layers.PReLU(shared_axes=(1, -1)), np.ones((2, 3)), "each once"),
        (lambda: layers.DropConnect(2), np.ones(()), "DropConnect: expected x with at least one"),
        (
            lambda: layers.Softmax(),
            np.ones(()),
            r"Softmax\(axis=-1\): got x of shape \(\), ",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused_at_the_first_call(
    layer: Any, x: Any, message: str
) -> None:
    with pytest.raises(xpnn.errors.ShapeError, match=message):
        layer()(x)
