"""Initial values: their statistics, their fans, the same bits everywhere."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import xpnn
from xpnn import functional as F
from xpnn import initializers, layers
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, ShapeError
from xpnn.initializers import gain_of

ROOT2, ROOT3 = 2**0.5, 3**0.5

# What a layer is given, the standard deviation of a weight (100, 200), and in units of it the
# largest value, where there is one.
STATISTICS: dict[str, tuple[Any, float, float | None]] = {
    "uniform": ("uniform", 0.05 / ROOT3, ROOT3),
    "uniform wide": (("uniform", {"low": -3, "high": 3}), ROOT3, ROOT3),
    "normal": ("normal", 0.01, None),
    "normal 2": (("normal", {"std": 2}), 2, None),
    "truncated_normal": (("truncated_normal", {"std": 1}), 0.8796256610, 2 / 0.8796256610),
    "truncated_normal corrected": (
        ("truncated_normal", {"std": 0.3, "corrected": True}), 0.3, 2 / 0.8796256610,
    ),
    "glorot_uniform": ("glorot_uniform", (2 / 300) ** 0.5, ROOT3),
    "glorot_normal": ("glorot_normal", (2 / 300) ** 0.5, None),
    "he_uniform": ("he_uniform", (2 / 100) ** 0.5, ROOT3),
    "he_normal": ("he_normal", (2 / 100) ** 0.5, None),
    "lecun_uniform": ("lecun_uniform", (1 / 100) ** 0.5, ROOT3),
    "lecun_normal": ("lecun_normal", (1 / 100) ** 0.5, None),
    "gain": (("glorot_normal", {"gain": 4.0}), 4 * (2 / 300) ** 0.5, None),
    "gain by name": (("lecun_uniform", {"gain": "tanh"}), 5 / 3 * 0.1, ROOT3),
    "fan": (("he_normal", {"fan": 8}), 0.5, None),
    "fans": (("glorot_uniform", {"fan": [10, 22]}), 0.25, ROOT3),
    "fan_out truncated": (
        initializers.VarianceScaling(1.0, "fan_out", "truncated_normal"), 200**-0.5,
        2 / 0.8796256610,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STATISTICS)
def test_mean_and_variance_are_those_of_the_paper(name: str) -> None:
    spec, std, most = STATISTICS[name]
    w = initializers.get(spec)((100, 200))
    assert w.shape == (100, 200)
    assert w.dtype == np.float32
    assert abs(w.mean()) < 4 * std / 20000**0.5
    assert w.std() == pytest.approx(std, rel=0.025)  # four standard deviations of a normal's
    if most is not None:
        assert most * 0.99 < abs(w).max() / std < most * 1.001
    else:
        assert 3.5 < abs(w).max() / std < 5.5


@pytest.mark.parametrize("name", ["he_normal", "glorot_uniform", "lecun_normal"])
def test_kernels_have_the_fans_of_all_their_elements(name: str) -> None:
    matrix = initializers.get(name)((100, 200))
    kernel = initializers.get(name)((2, 5, 10, 20))
    assert kernel.std() == pytest.approx(matrix.std(), rel=0.07)


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(3, 5), (3, 4, 6), (3, 2, 5, 7), (2, 3, 4, 5, 6)])
def test_fans_are_those_of_torch(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.empty(*shape).permute(-1, -2, *range(len(shape) - 2))
    assert F.fans(shape) == torch.nn.init._calculate_fan_in_and_fan_out(theirs)
    assert initializers.fans is F.fans


def test_a_truncated_normal_has_the_distribution_of_what_lies_within() -> None:
    before = xpnn.get_rng().counter
    x = initializers.TruncatedNormal(mean=5.0, std=2.0)((40, 100), dtype="float64")
    assert xpnn.get_rng().counter - before == 4000 // 4  # a word a value, however many lie outside
    z = np.sort((x.ravel() - 5) / 2)
    phi = np.asarray([(1 + math.erf(v / ROOT2)) / 2 for v in z])
    cdf = (phi - phi_of(-2)) / (phi_of(2) - phi_of(-2))
    assert abs(cdf - np.arange(4000) / 4000).max() < 1.63 / 4000**0.5  # Kolmogorov, 1 %
    # the inversion is exact: Phi takes every value back to the uniform number it came from
    xpnn.set_seed(0)
    u = xpnn.random.Stream(0).uniform((40, 100), low=-1, high=1, dtype="float64")
    x = initializers.TruncatedNormal(std=1.0)((40, 100), dtype="float64")
    back = [math.erf(v / ROOT2) / math.erf(ROOT2) for v in x.ravel()]
    np.testing.assert_allclose(back, u.ravel(), rtol=1e-13, atol=1e-15)


def phi_of(z: float) -> float:
    return (1 + math.erf(z / ROOT2)) / 2


@pytest.mark.parametrize("shape", [(7, 7), (9, 4), (4, 9), (3, 2, 5, 6), (1, 2, 2, 11), (6, 1)])
def test_orthogonal_is(shape: tuple[int, ...]) -> None:
    w = initializers.Orthogonal(gain=1.5)(shape, dtype="float64")
    assert w.shape == shape
    w = w.reshape(-1, shape[-1])
    product = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    np.testing.assert_allclose(product, 2.25 * np.eye(len(product)), atol=1e-12)
    single = initializers.orthogonal(shape).reshape(-1, shape[-1])
    product = single.T @ single if w.shape[0] >= w.shape[1] else single @ single.T
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-6)


def test_orthogonal_matrices_are_uniform() -> None:
    """Without the signs of R the trace of an orthogonal matrix has a mean below zero."""
    traces = np.asarray([np.trace(initializers.orthogonal((3, 3))) for _ in range(1000)])
    assert abs(traces.mean()) < 4 / 1000**0.5
    assert traces.var() == pytest.approx(1, abs=0.2)


def test_identity_passes_on_what_comes_also_through_a_convolution() -> None:
    x = np.asarray(np.random.default_rng(0).standard_normal((2, 5, 4, 3)), np.float32)
    dense = layers.Dense(3, weight_init=("identity", {"gain": 2.0}))
    np.testing.assert_array_equal(to_numpy(dense(x)), 2 * x)
    conv = layers.Conv2D(3, (3, 5), padding="same", weight_init="identity")
    np.testing.assert_array_equal(to_numpy(conv(x)), x)
    assert initializers.identity((0, 3)).shape == (0, 3)


@pytest.mark.parametrize(
    "spec",
    ["zeros", "ones", "normal", "uniform", "truncated_normal", "glorot_normal", "orthogonal",
     ("identity", {"gain": "relu"}), ("constant", {"value": -0.25})],
)  # fmt: skip
def test_values_are_the_same_bits_on_every_device(spec: Any, device: Any) -> None:
    for dtype in ("float32", "float64") if not device.startswith("jax") else ("float32",):
        xpnn.set_seed(3)
        expected = initializers.get(spec)((5, 4), device="cpu", dtype=dtype)
        xpnn.set_seed(3)
        found = initializers.get(spec)((5, 4), device=device, dtype=dtype)
        assert xpnn.backend.device_of(found) == device
        assert found.dtype == xpnn.asarray(expected, device=device).dtype
        np.testing.assert_array_equal(to_numpy(found), expected)


# ----------------------------------------------------------------------------------- gains


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("spec", "theirs"),
    [
        ("linear", ("linear",)),
        (None, ("linear",)),
        ("sigmoid", ("sigmoid",)),
        ("tanh", ("tanh",)),
        (xpnn.activations.tanh, ("tanh",)),
        ("relu", ("relu",)),
        ("leaky_relu", ("leaky_relu",)),
        (("leaky_relu", {"alpha": 0.5}), ("leaky_relu", 0.5)),
        (["leaky_relu", {"alpha": 0.2}], ("leaky_relu", 0.2)),
        (("relu", {"alpha": 0.3}), ("leaky_relu", 0.3)),
    ],
)
def test_gains_are_those_of_torch(spec: Any, theirs: tuple[Any, ...]) -> None:
    torch = pytest.importorskip("torch")
    assert gain_of(spec) == pytest.approx(torch.nn.init.calculate_gain(*theirs), rel=1e-15)


def test_other_gains() -> None:
    assert gain_of("selu") == 1
    assert gain_of(1.41) == 1.41
    assert gain_of(("leaky_relu", {"alpha": 0.5})) == pytest.approx(1.2649110640673518, rel=1e-15)
    w = initializers.get(("orthogonal", {"gain": ("leaky_relu", {"alpha": 1.0})}))((4, 4))
    np.testing.assert_allclose(w @ w.T, np.eye(4), atol=1e-6)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_selu_keeps_mean_and_variance_through_twenty_layers(dropout: float) -> None:
    """With the weights and the dropout made for it; Klambauer et al. 2017, theorem 1."""
    x = xpnn.get_rng().normal((400, 256))
    for _ in range(20):
        x = layers.Dense(256, activation="selu", weight_init="lecun_normal")(x).data
        x = F.alpha_dropout(x, dropout)
        assert abs(x.mean()) < 0.15
        assert 0.75 < x.var() < 1.3


def test_he_keeps_the_size_through_leaky_rectifiers_and_lecun_with_their_gain_too() -> None:
    leak = ("leaky_relu", {"alpha": 0.4})
    x = xpnn.get_rng().normal((300, 200))
    before = (x * x).mean()
    for _ in range(10):
        init = ("lecun_normal", {"gain": leak})
        x = layers.Dense(200, activation=leak, weight_init=init)(x).data
    assert (x * x).mean() / before == pytest.approx(1, rel=0.35)


# ---------------------------------------------------------------------- names and arguments


@pytest.mark.parametrize(
    "spec",
    [
        "lecun_uniform",
        ("glorot_normal", {"gain": ("leaky_relu", {"alpha": 0.2}), "fan": (3, 4)}),
        ("truncated_normal", {"std": 0.2, "corrected": True}),
        initializers.VarianceScaling(1.5, "fan_out", "truncated_normal", gain="relu", fan=7),
        initializers.Orthogonal("tanh"),
        initializers.Identity(0.5),
        initializers.Uniform(-1.0, 0.5),
        initializers.zeros,
    ],
)
def test_a_layer_with_it_comes_back_from_json(spec: Any) -> None:
    layer = layers.Dense(3, in_features=4, weight_init=spec)
    again = layers.Layer.from_config(json.loads(json.dumps(layer.to_config())))
    assert again.weight_init == layer.weight_init
    assert json.loads(json.dumps(again.to_config())) == json.loads(json.dumps(layer.to_config()))
    xpnn.set_seed(1)
    expected = layer.weight_init((4, 3))
    xpnn.set_seed(1)
    np.testing.assert_array_equal(again.weight_init((4, 3)), expected)


def test_names_are_those_of_the_module() -> None:
    for name in initializers.__all__:
        if name.islower() and name not in ("fans", "gain_of", "get"):
            assert initializers.get(name) is getattr(initializers, name)
    assert initializers.get(initializers.ones) is initializers.ones


@pytest.mark.parametrize(
    ("make_it", "error", "message"),
    [
        (lambda: initializers.get("he"), ConfigError, "unknown initializer 'he'; known are zeros"),
        (
            lambda: initializers.get(("he_normal", {"gian": 2})), ConfigError,
            r"initializer 'he_normal' with \{'gian': 2\}: .*unexpected keyword argument 'gian'",
        ),
        (lambda: initializers.he_normal((3,)), ShapeError, r"got \(3,\): it has no fans.*fan="),
        (lambda: initializers.orthogonal((3,)), ShapeError, r"Orthogonal: .* got \(3,\): that is"),
        (lambda: initializers.zeros((2, -1)), ShapeError, r"Constant: expected .* got \(2, -1\)"),
        (lambda: initializers.identity((2.0, 3)), ShapeError, r"Identity: .* got \(2.0, 3\)"),
        (lambda: initializers.he_normal("ab"), ShapeError, "expected a shape .* got 'ab'"),
        (lambda: initializers.identity(()), ShapeError, r"Identity: .*got \(\): that is no matrix"),
        (lambda: gain_of("gelu"), ConfigError, "no gain is known for the activation 'gelu'; known"),
        (lambda: gain_of("rellu"), ConfigError, "unknown activation 'rellu'"),
        (lambda: gain_of(0), ConfigError, "'gain' must be positive and finite, got 0"),
        (lambda: gain_of(math.inf), ConfigError, "'gain' must be positive and finite, got inf"),
        (
            lambda: initializers.get(("he_normal", {"fan": (1, 2, 3)})), ConfigError,
            r"'fan' must be a positive number or a pair \(in, out\) of them, got \(1, 2, 3\)",
        ),
        (lambda: initializers.get(("he_normal", {"fan": 0})), ConfigError, "'fan' must be a posi"),
        (
            lambda: initializers.VarianceScaling(1.0, "fan", "normal"), ConfigError,
            "VarianceScaling: 'mode' must be one of .*'fan_in', .*got 'fan'",
        ),
        (
            lambda: initializers.VarianceScaling(1.0, "fan_in", "gauss"), ConfigError,
            "'distribution' must be one of .*got 'gauss'",
        ),
        (
            lambda: initializers.VarianceScaling(0.0, "fan_in", "normal"), ConfigError,
            "'scale' must be positive and finite, got 0.0",
        ),
        (lambda: initializers.Uniform(1, -1), ConfigError, "'low' must not be above 'high', got 1"),
        (lambda: initializers.Uniform(0, math.inf), ConfigError, "'high' must be a finite number"),
        (lambda: initializers.Normal(std=-1), ConfigError, "Normal: 'std' must not be negative"),
        (
            lambda: initializers.get(("truncated_normal", {"std": -1})), ConfigError,
            "TruncatedNormal: 'std' must not be negative, got -1",
        ),
        (lambda: initializers.Constant(math.nan), ConfigError, "'value' must be a finite number"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(make_it: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_it()


def test_a_bias_takes_an_explicit_fan() -> None:
    b = initializers.get(("lecun_uniform", {"fan": 12}))((2000,))
    assert b.std() == pytest.approx(12**-0.5, rel=0.05)


def test_a_shape_may_be_a_number_or_a_list() -> None:
    assert initializers.ones(3).shape == (3,)
    assert initializers.normal([2, 3]).shape == (2, 3)
