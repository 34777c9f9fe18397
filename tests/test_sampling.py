"""Random classes, and the losses that look at a few classes instead of all."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from helpers import assert_close, make, on

import xpnn
from xpnn import layers, losses, ops
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, DataError, DeviceError, ShapeError
from xpnn.kernels import numpy_random
from xpnn.losses.sampling import mean_over_noise
from xpnn.random import Discrete, Stream

WEIGHTS = [0.0, 3.0, 0.5, 0.0, 4.0, 2.5, 0.0]


# ------------------------------------------------------------------------ random classes


def test_classes_have_their_frequencies() -> None:
    n = 200_000
    sampler = Discrete(WEIGHTS)
    counts = np.bincount(sampler.draw(n, rng=Stream(1)), minlength=7)
    expected = n * np.asarray(WEIGHTS) / 10
    drawn = expected > 0
    assert not counts[~drawn].any()
    chi = ((counts - expected)[drawn] ** 2 / expected[drawn]).sum()
    assert chi < 16.3  # 3 degrees of freedom, 0.001
    np.testing.assert_allclose(sampler.probabilities, np.asarray(WEIGHTS) / 10)
    assert len(sampler) == 7
    assert repr(sampler) == "Discrete(7 classes)"


def test_a_class_is_the_place_of_a_word_among_the_exact_cumulative_probabilities() -> None:
    weights = np.random.default_rng(0).integers(1, 100, 1000)
    words = Stream(3).bits(500)
    ends = np.cumsum(weights).tolist()
    expected = [next(i for i, c in enumerate(ends) if int(w) * ends[-1] < c * 2**64) for w in words]
    np.testing.assert_array_equal(Discrete(weights).draw(500, rng=Stream(3)), expected)


@pytest.mark.parametrize("shape", [(), 3, (0, 2), (2, 3)])
def test_every_device_draws_the_same_classes(shape: Any, device: Any) -> None:
    here = Discrete(WEIGHTS).draw(shape, rng=Stream(2), device="cpu")
    sampler = Discrete(on(device, np.asarray(WEIGHTS)))
    for stream in (Stream(2), Stream(2)):
        there = sampler.draw(shape, rng=stream, device=device)
        assert xpnn.backend.device_of(there) == device
        assert tuple(there.shape) == here.shape == np.empty(shape).shape
        np.testing.assert_array_equal(to_numpy(there), here)
    assert here.dtype == np.int64
    xpnn.set_seed(2)
    with xpnn.device(device):
        np.testing.assert_array_equal(to_numpy(sampler.draw(shape)), here)


def test_extreme_weights() -> None:
    assert Discrete([5]).draw(9, rng=Stream(0)).tolist() == [0] * 9
    assert Discrete([0, 0, 1e-300, 0]).draw(9, rng=Stream(0)).tolist() == [2] * 9
    assert set(Discrete([1e308, 1e308]).draw(99, rng=Stream(0)).tolist()) == {0, 1}
    assert set(Discrete([1, 1e-300]).draw(999, rng=Stream(0)).tolist()) == {0}
    assert set(Discrete([1e-300, 1]).draw(999, rng=Stream(0)).tolist()) == {1}


def test_a_word_on_an_end_belongs_to_the_next_class() -> None:
    words = numpy_random.words(0, 0, 3)
    ends = np.sort(words)
    expected = [int(np.flatnonzero(ends == w)[0]) + 1 for w in words]
    assert numpy_random.discrete(0, 0, 3, ends).tolist() == expected
    assert len(Discrete([1, 0, 2, 0, 0])._ends) == 2  # beyond the last there is nothing to draw


def test_copies_draw_the_same() -> None:
    sampler = Discrete(np.random.default_rng(0).random(50))
    for twin in (copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        np.testing.assert_array_equal(twin._ends, sampler._ends)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([], r"expected weights of shape \(n,\), one a class, got \(0,\)"),
        ([[1.0]], r"got \(1, 1\)"),
        ([1.0, -1.0], "at least 0, and not all 0; got -1.0"),
        ([1.0, math.nan], "got nan"),
        ([math.inf, 1.0], "got inf"),
        ([0.0, 0.0], "got zeros only"),
    ],
)
def test_weights_that_are_none_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Discrete(weights)


def test_a_shape_that_is_none_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"Stream.discrete: .* got \(-1,\)"):
        Discrete([1, 2]).draw((-1,))


# --------------------------------------------------------------------------------- losses


def given(dtype: str = "float64") -> list[Any]:
    return [make((4, 3), dtype=dtype), make((3, 7), dtype=dtype, seed=1), make((7,), dtype=dtype)]


TARGETS = np.asarray([2, 0, 6, 2])
NOISE = {"shared": np.asarray([1, 2, 2, 5]), "each": np.asarray([[1, 2], [0, 0], [6, 5], [3, 3]])}
LOG_Q = np.log(np.asarray([1, 2, 3, 4, 5, 6, 7]) / 28)


def pair_of(noise: str) -> Any:
    """The two losses as functions of hidden, weight, bias and a reduction."""
    ids = NOISE[noise]
    return {
        "negative_sampling": lambda h, w, b, r: losses.negative_sampling(
            h, w, b, TARGETS, ids, reduction=r
        ),
        "nce": lambda h, w, b, r: losses.nce(h, w, b, TARGETS, ids, LOG_Q, reduction=r),
    }


def in_torch(torch: Any, name: str, h: Any, w: Any, b: Any, ids: Any, reduction: str) -> Any:
    scores = h @ w + b
    if name == "nce":
        scores = scores - torch.tensor(ids.shape[-1] * np.exp(LOG_Q), dtype=h.dtype).log()
    ids = torch.tensor(np.broadcast_to(ids, (4, ids.shape[-1])).copy())
    log_sigmoid = torch.nn.functional.logsigmoid
    values = -log_sigmoid(scores.gather(1, torch.tensor(TARGETS)[:, None]))[:, 0]
    values = values - log_sigmoid(-scores.gather(1, ids)).sum(1)
    return values if reduction == "none" else getattr(torch, reduction)(values)


@pytest.mark.oracle
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("name", ["negative_sampling", "nce"])
def test_sampled_losses_are_those_of_the_papers(
    name: str, noise: str, reduction: str, dtype: str, tolerance: float
) -> None:
    torch = pytest.importorskip("torch")
    values = given(dtype)
    loss = pair_of(noise)[name]
    y, pullback = xpnn.vjp(lambda *x: loss(*x, reduction), *values)
    leaves = [torch.tensor(v, requires_grad=True) for v in values]
    theirs = in_torch(torch, name, *leaves, NOISE[noise], reduction)
    assert_close(y, theirs.detach().numpy(), rtol=tolerance, atol=tolerance)
    g = make(tuple(y.shape), dtype=dtype, seed=9)
    theirs.backward(torch.from_numpy(np.asarray(g)))
    for a, leaf in zip(pullback(g), leaves, strict=True):
        assert_close(a, leaf.grad.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("name", ["negative_sampling", "nce"])
def test_sampled_losses_have_second_derivatives_and_do_not_overflow(name: str, noise: str) -> None:
    loss = pair_of(noise)[name]
    xpnn.check_grad(lambda *x: loss(*x, "none"), *given(), order=2)
    huge = [np.asarray(v * 1e4, "f") for v in given()]
    y, pullback = xpnn.vjp(lambda *x: loss(*x, "sum"), *huge)
    assert all(np.isfinite(to_numpy(v)).all() for v in (y, *pullback(np.asarray(1, "f"))))


def test_where_a_look_would_wait_a_bad_target_has_a_loss_of_nan(monkeypatch: Any) -> None:
    from xpnn.losses import _common

    monkeypatch.setattr(_common, "on_host", lambda x: False)
    targets = np.asarray([0, 7, -1, 2])
    for values in (
        losses.negative_sampling(*given(), targets, NOISE["shared"], reduction="none"),
        losses.nce(*given(), targets, NOISE["shared"], LOG_Q, reduction="none"),
        mean_over_noise("nce", *given(), targets, 4, LOG_Q),
    ):
        assert np.isnan(values).tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"hidden": np.ones((4, 2))}, ShapeError, r"got \(4, 2\) and \(3, 7\)"),
        ({"weight": np.ones(3)}, ShapeError, r"weight of shape \(features, classes\), got"),
        ({"bias": np.ones(3)}, ShapeError, r"expected a bias of shape \(7,\), got \(3,\)"),
        ({"targets": np.ones(4)}, DataError, "expected integer targets, got float64"),
        ({"noise": np.ones(4)}, DataError, "expected integer noise, got float64"),
        ({"targets": np.asarray([[0]])}, ShapeError, r"targets of shape \(4,\), got \(1, 1\)"),
        ({"targets": TARGETS + 1}, DataError, r"labels must be in \[0, 6\]; got 7"),
        ({"noise": np.ones((3, 2), int)}, ShapeError, r"\(4, 'K'\) for each .* got \(3, 2\)"),
        ({"noise": np.asarray(1)}, ShapeError, r"noise of shape \(K,\), or"),
        ({"log_noise": LOG_Q[:3]}, ShapeError, r"'log_noise' of shape \(7,\), got \(3,\)"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    names = ["hidden", "weight", "bias", "targets", "noise", "log_noise"]
    values = [*given(), TARGETS, NOISE["shared"], LOG_Q]
    arguments = {**dict(zip(names, values, strict=True)), **change}
    with pytest.raises(error, match=message):
        losses.nce(**arguments)


@pytest.mark.libraries
def test_noise_of_another_library_does_not_mix() -> None:
    pytest.importorskip("torch")
    log_q = xpnn.asarray(LOG_Q, device="torch:cpu")
    with pytest.raises(DeviceError, match="two libraries meet"):
        losses.nce(*given(), TARGETS, NOISE["shared"], log_q)


# ---------------------------------------------------------------------------------- layer


@pytest.mark.parametrize("noise", ["uniform", [1.0, 2.0, 3.0, 4.0, 5.0]])
@pytest.mark.parametrize("objective", ["negative_sampling", "nce"])
@pytest.mark.parametrize("shared", [True, False])
def test_the_loss_in_prediction_mode_is_the_mean_over_all_noise(
    objective: str, noise: Any, shared: bool
) -> None:
    layer = layers.NegativeSampling(5, 3, noise=noise, objective=objective, shared=shared)
    h, y = make((2, 4)), np.asarray([1, 4])
    drawn = np.stack([to_numpy(layer(h, y)) for _ in range(3000)])
    expected = to_numpy(layer.eval()(h, y))
    error = drawn.std(0) / 3000**0.5
    assert (drawn.std(0) > 0.01).all()
    assert (abs(drawn.mean(0) - expected) < 4.5 * error).all()
    counter = xpnn.get_rng().counter
    layer(h, y)
    assert xpnn.get_rng().counter == counter


def test_gradients_flow_in_prediction_mode_too() -> None:
    xpnn.set_dtype("float64")
    for objective in ("negative_sampling", "nce"):
        layer = layers.NegativeSampling(5, 3, objective=objective, in_features=4).eval()
        params = {name: p.data for name, p in layer.named_parameters().items()}
        y = np.asarray([1, 4])

        def f(h: Any, w: Any, b: Any, layer: Any = layer, y: Any = y) -> Any:
            return xpnn.functional_call(layer, {"weight": w, "bias": b}, h, y)

        xpnn.check_grad(f, make((2, 4)), *params.values(), order=2)


def test_noise_of_zero_probability_never_counts_as_noise() -> None:
    layer = layers.NegativeSampling(3, 4, noise=[1.0, 0.0, 1.0], in_features=2)
    layer.bias.data = np.asarray([0, 50, 0], "f")  # as noise it would cost 50
    for training in (True, False):
        loss = to_numpy(layer.train(training)(np.ones((1, 2), "f"), np.asarray([0])))
        assert (loss < 40).all()
        assert np.isfinite(loss).all()


def test_contrastive_estimation_learns_probabilities_without_normalizing() -> None:
    p = np.asarray([0.4, 0.3, 0.2, 0.1])
    y = np.repeat(np.arange(4), (p * 60).round().astype(int))
    h = np.ones((60, 1), "f")
    layer = layers.NegativeSampling(
        4, 20, objective="nce", shared=False, in_features=1, weight_init="zeros"
    )
    optimizer = xpnn.optim.Adam(0.05)
    for _ in range(150):
        ops.mean(layer(h, y)).backward()
        optimizer.step(layer)
    scores = to_numpy(layer.logits(h[:1]))[0]
    np.testing.assert_allclose(np.exp(scores), p, atol=0.03)


def test_logits_build_the_layer_and_are_scores_of_all_classes() -> None:
    layer = layers.NegativeSampling(5)
    h = make((2, 3))
    scores = to_numpy(layer.logits(h))
    np.testing.assert_allclose(scores, h @ to_numpy(layer.weight) + to_numpy(layer.bias), rtol=1e-5)
    with pytest.raises(ShapeError, match="last axis 3, got shape"):
        layer.logits(make((2, 4)))


def test_the_layer_comes_back_with_its_noise() -> None:
    layer = layers.NegativeSampling(3, 2, noise=(1, 0, 2), shared=False)
    layer(make((2, 4)), np.asarray([0, 1]))
    again = layers.Layer.from_config(json.loads(json.dumps(layer.to_config())))
    again.load_state_dict(layer.state_dict())
    for twin in (again, copy.deepcopy(layer)):
        xpnn.set_seed(1)
        a = to_numpy(layer(make((2, 4)), np.asarray([0, 1])))
        xpnn.set_seed(1)
        np.testing.assert_array_equal(to_numpy(twin(make((2, 4)), np.asarray([0, 1]))), a)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "'num_classes' must be at least 1, got 0"),
        ({"num_samples": 0}, "'num_samples' must be at least 1, got 0"),
        ({"in_features": 0}, "'in_features' must be at least 1, got 0"),
        ({"objective": "softmax"}, "must be 'negative_sampling' or 'nce', got 'softmax'"),
        ({"noise": "unigram"}, "'noise' must be 'uniform' or one number a class, got 'unigram'"),
        ({"noise": [1, 2]}, r"\(num_classes=3\): 'noise' has 2 numbers; it needs one a class"),
        ({"noise": [1, 2, -1]}, "weights must be finite, at least 0, and not all 0; got -1"),
        ({"noise": [1, 0, 1], "objective": "nce"}, "able to be every class, but it has zeros"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        layers.NegativeSampling(**{"num_classes": 3, **arguments})


def test_a_scalar_is_refused() -> None:
    with pytest.raises(ShapeError, match="at least one axis, got a scalar"):
        layers.NegativeSampling(3)(np.asarray(1.0), np.asarray(1))
