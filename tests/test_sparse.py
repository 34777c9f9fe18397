"""Sparse evolutionary layers: which connections go, which come, and when."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
from helpers import make

import xpnn
from xpnn import layers, ops, optim, random
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, ShapeError


def sparse(**options: Any) -> Any:
    """Return a layer of 12 x 9 with about half of its connections, and spread-out weights."""
    xpnn.set_seed(0)
    layer = layers.SparseEvolution(9, in_features=12, epsilon=2.5, **options)
    weight = np.where(to_numpy(layer.mask), make((12, 9), seed=3), np.float32(0))
    layer.weight.data = xpnn.asarray(weight, device=layer.weight.device)
    return layer


def stepped(layer: Any, times: int, optimizer: Any = None) -> Any:
    """Update a layer some times, with the same examples and gradients every time."""
    optimizer = optimizer or optim.SGD(0.1)
    for _ in range(times):
        y = layer(make((4, 12), str(layer.weight.device)))
        ops.sum(y * make(y.shape, str(layer.weight.device), seed=1)).backward()
        optimizer.step(layer)
    return layer


def weakest(weight: Any, mask: Any, zeta: float) -> set[tuple[int, int]]:
    """Return the connections that the rule of the paper drops, one after another."""
    there = [(weight[i, j], i, j) for i, j in zip(*np.nonzero(mask), strict=True)]
    positive = sorted(c for c in there if c[0] >= 0)
    negative = sorted((c for c in there if c[0] < 0), reverse=True)
    gone = positive[: int(zeta * len(positive))] + negative[: int(zeta * len(negative))]
    return {(i, j) for _, i, j in gone}


@pytest.mark.parametrize("zeta", [0.0, 0.3, 0.5, 1.0])
def test_the_weakest_go_and_as_many_grow_elsewhere(zeta: float) -> None:
    layer = sparse(zeta=zeta)
    for _ in range(3):
        weight, mask = to_numpy(layer.weight).copy(), to_numpy(layer.mask).copy()
        gone = weakest(weight, mask, zeta)
        assert len(gone) == pytest.approx(zeta * mask.sum(), abs=2)
        layer.evolve()
        new, now = to_numpy(layer.weight), to_numpy(layer.mask)
        assert now.sum() == mask.sum()
        kept = mask.copy()
        for i, j in gone:
            kept[i, j] = False
        assert (now | ~kept).all()  # what is kept is there
        np.testing.assert_array_equal(new[kept], weight[kept])
        grown = now & ~kept
        assert grown.sum() == len(gone)
        bound = np.sqrt(6 / (12 + 9))
        assert (np.abs(new[grown]) <= bound).all()
        assert not (new[grown] == weight[grown]).any()
        assert not new[~now].any()


def test_new_connections_are_spread_over_all_empty_places() -> None:
    layer = sparse(zeta=0.5)
    start = (to_numpy(layer.weight).copy(), to_numpy(layer.mask).copy())
    gone = np.zeros((12, 9), bool)
    for i, j in weakest(*start, 0.5):
        gone[i, j] = True
    empty = ~start[1] | gone
    hits = np.zeros((12, 9))
    for _ in range(400):
        layer.weight.data, layer.mask = start
        layer.evolve()
        hits += to_numpy(layer.mask) & empty
    expected = 400 * gone.sum() / empty.sum()
    assert hits[empty].sum() == pytest.approx(400 * gone.sum())
    deviation = np.sqrt(expected)
    assert np.abs(hits[empty] - expected).max() < 5 * deviation
    assert hits[gone].mean() == pytest.approx(expected, rel=0.05)  # also those just left


def test_equal_weights_go_in_the_order_of_the_matrix() -> None:
    layer = layers.SparseEvolution(2, in_features=5, epsilon=10, zeta=0.2, weight_init="ones")
    grown = []
    for _ in range(40):  # everything is there, so what goes grows again
        layer.weight.data = np.full((5, 2), 2.0, np.float32)
        layer.evolve()
        grown.append(np.argwhere(to_numpy(layer.weight) == 1.0).tolist())
    assert grown == [[[0, 0], [0, 1]]] * 40


def test_zeros_that_are_connected_are_the_first_to_go() -> None:
    layer = sparse(zeta=0.1)
    i, j = np.argwhere(to_numpy(layer.mask))[7]
    weight = to_numpy(layer.weight).copy()
    weight[i, j] = 0.0
    assert (i, j) in weakest(weight, layer.mask, 0.1)
    layer.weight.data = weight
    layer.evolve()
    assert to_numpy(layer.weight)[i, j] != 0.0 or not layer.mask[i, j]


def test_connections_at_first_have_the_probability_of_the_paper() -> None:
    layer = layers.SparseEvolution(300, in_features=200, epsilon=3)
    assert layer.p == pytest.approx(3 * 500 / 60000)
    n, p = 60000, layer.p
    assert abs(int(layer.mask.sum()) - n * p) < 4 * np.sqrt(n * p * (1 - p))
    assert not to_numpy(layer.weight)[~layer.mask].any()
    dense = layers.SparseEvolution(3, in_features=2, epsilon=20)  # 20 * 5 / 6 > 1
    assert dense.p == 1.0
    assert dense.mask.all()


def test_masked_weights_have_no_gradient_and_no_effect() -> None:
    layer = sparse()
    x = make((4, 12))
    before = to_numpy(layer(x))
    layer.weight.data = np.where(layer.mask, layer.weight.data, np.float32(7))
    y = layer(x)
    np.testing.assert_array_equal(to_numpy(y), before)
    ops.sum(y * make(y.shape, seed=1)).backward()
    grad = to_numpy(layer.weight.grad)
    assert not grad[~layer.mask].any()
    assert grad[layer.mask].all()


def test_it_evolves_after_so_many_updates_in_training_only() -> None:
    layer = sparse(every=3)
    masks = [layer.mask]
    for _ in range(7):
        masks.append(stepped(layer, 1).mask)
    changed = [bool((a != b).any()) for a, b in itertools.pairwise(masks)]
    assert changed == [False, False, True, False, False, True, False]
    assert int(layer.updates) == 1
    kept = layer.mask
    layer.eval()
    assert stepped(layer, 3).mask is kept
    layer.train().freeze()
    net = layers.Chain([layer, layers.Dense(1, in_features=9)])
    for _ in range(3):
        ops.sum(net(make((4, 12)))).backward()
        optim.SGD(0.1).step(net)
    assert layer.mask is kept
    layer.unfreeze()
    assert (stepped(layer, 2).mask != kept).any()
    optimizer = optim.SGD(0.1)
    kept = layer.mask
    ops.sum(layer(make((4, 12)))).backward()
    optimizer.step(layer.parameters())  # a list of parameters does not tell the layer
    assert layer.mask is kept


def test_momentum_of_what_went_has_no_effect_and_is_wiped_out() -> None:
    layer = sparse(every=2)
    optimizer = optim.SGD(0.1, momentum=0.9)
    stepped(layer, 3, optimizer)
    outside = to_numpy(layer.weight)[~to_numpy(layer.mask)]
    assert outside.any()  # moved on by its momentum
    stepped(layer, 1, optimizer)
    assert not to_numpy(layer.weight)[~to_numpy(layer.mask)].any()


@pytest.mark.parametrize("every", [1, 3])
def test_a_saved_model_goes_on_as_if_nothing_had_happened(tmp_path: Any, every: int) -> None:
    model = xpnn.Sequential([sparse(every=every), layers.Activation("tanh")])
    stepped(model[0], 2)
    model(make((4, 12)))
    model.save(tmp_path / "m.safetensors")
    state = xpnn.get_rng().state
    again = xpnn.load(tmp_path / "m.safetensors")
    twin = copy.deepcopy(model)
    results = []
    for net in (model, again, twin):
        xpnn.set_rng(random.Stream.from_state(state))
        masks = [to_numpy(stepped(net[0], 1).mask) for _ in range(4)]
        results.append((masks, to_numpy(net[0].weight)))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0][0], other[0])
        np.testing.assert_array_equal(results[0][1], other[1])
    assert again[0].mask.dtype == np.bool_


def test_the_connections_are_the_same_on_every_device(device: Any) -> None:
    results = []
    for place in ("cpu", device):
        with xpnn.device(place):
            layer = sparse(every=2)
            optimizer = optim.SGD(0.1, momentum=0.5)
            masks = []
            for _ in range(4):
                stepped(layer, 1, optimizer)
                assert xpnn.backend.device_of(layer.mask) == place
                assert xpnn.backend.device_of(layer.updates) == place
                assert layer.weight.device == place
                masks.append(to_numpy(layer.mask).copy())
            results.append((masks, to_numpy(layer.weight)))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5, atol=1e-6)


def test_fit_trains_it_and_keeps_the_number_of_connections() -> None:
    x, y = xpnn.datasets.load_digits()
    x, y = x[:500].reshape(500, 64), y[:500]
    model = xpnn.Sequential(
        [
            layers.SparseEvolution(64, epsilon=6, every=10, activation="relu"),
            layers.Dense(10),
        ]
    )
    model.compile("cross_entropy", optim.Adam(0.01), metrics=["accuracy"])
    model.predict(x[:1])
    first = to_numpy(model[0].mask).copy()
    history = model.fit(x, y, batch_size=50, epochs=8, verbose=0)
    assert history["accuracy"][-1] > 0.95
    now = to_numpy(model[0].mask)
    assert now.sum() == first.sum() < 0.25 * first.size
    assert (now & first).sum() < 0.6 * first.sum()


def test_half_precision_and_float64_are_kept() -> None:
    for dtype in ("float16", "float64"):
        xpnn.set_dtype(dtype)
        layer = layers.SparseEvolution(6, in_features=5, epsilon=1)
        layer.evolve()
        assert layer.weight.dtype == dtype
        assert layer(make((2, 5), dtype=dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out_features": 0}, "SparseEvolution: 'out_features' must be at least 1, got 0"),
        ({"in_features": 0}, "SparseEvolution: 'in_features' must be at least 1, got 0"),
        ({"every": 0}, "SparseEvolution: 'every' must be at least 1, got 0"),
        ({"epsilon": 0.0}, "SparseEvolution: 'epsilon' must be positive, got 0.0"),
        ({"zeta": 1.5}, r"SparseEvolution: 'zeta' must be in \[0, 1\], got 1.5"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        layers.SparseEvolution(**{"out_features": 3, **options})


def test_a_scalar_is_refused() -> None:
    with pytest.raises(ShapeError, match="SparseEvolution: expected x with at least one axis"):
        layers.SparseEvolution(3)(np.asarray(1.0))
