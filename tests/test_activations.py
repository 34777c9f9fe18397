"""Activations by one table: torch, finite differences, every device, every finite number."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import numpy as np
import pytest
from helpers import assert_close, double, make, on
from hypothesis import given
from hypothesis import strategies as st

import xpnn
from xpnn import activations, layers
from xpnn import functional as F
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, DTypeError
from xpnn.primitives import activations as primitives
from xpnn.primitives.base import Primitive

# --------------------------------------------------------------------- the formulas in PyTorch


def _affine(t: Any, x: Any) -> Any:
    return -0.5 * x + 2


def _symmetric_elliot(t: Any, x: Any, s: float = 1.0) -> Any:
    return s * x / (1 + t.abs(s * x))


def _ultra_fast_sigmoid(t: Any, x: Any) -> Any:
    u = t.abs(x) / 2
    chord = 0.935409070603099 + 0.0458812946797165 * (u - 1.7)
    z = t.where(u < 1.7, 1.5 * u / (1 + u), t.where(u < 3, chord, 0.99505475368673))
    return (t.copysign(z, x) + 1) / 2


def _f(name: str, **options: Any) -> Any:
    return lambda t, x: getattr(t.nn.functional, name)(x, **options)


# What a layer is given as its activation, and the formula.
TABLE: dict[str, tuple[Any, Any]] = {
    "linear": ("linear", lambda t, x: x),
    "affine": (("affine", {"slope": -0.5, "intercept": 2}), _affine),
    "sigmoid": ("sigmoid", _f("sigmoid")),
    "ultra_fast_sigmoid": ("ultra_fast_sigmoid", _ultra_fast_sigmoid),
    "hard_sigmoid": ("hard_sigmoid", lambda t, x: t.clamp(0.2 * x + 0.5, 0, 1)),
    # its own hardsigmoid has 1/6 in float32 in its gradient
    "hard_sigmoid of torch": (
        ("hard_sigmoid", {"slope": 1 / 6}), lambda t, x: t.nn.functional.relu6(x + 3) / 6,
    ),
    "hard_sigmoid steep": (
        ("hard_sigmoid", {"slope": 1.5}), lambda t, x: t.clamp(1.5 * x + 0.5, 0, 1),
    ),
    "tanh": ("tanh", _f("tanh")),
    "relu": ("relu", _f("relu")),
    "relu with a leak": (("relu", {"alpha": 0.3}), _f("leaky_relu", negative_slope=0.3)),
    "leaky_relu": ("leaky_relu", _f("leaky_relu")),
    "leaky_relu 0.3": (("leaky_relu", {"alpha": 0.3}), _f("leaky_relu", negative_slope=0.3)),
    "elu": ("elu", _f("elu")),
    "elu 0.5": (("elu", {"alpha": 0.5}), _f("elu", alpha=0.5)),
    "selu": ("selu", _f("selu")),
    "gelu": ("gelu", _f("gelu")),
    "gelu tanh": (("gelu", {"approximate": "tanh"}), _f("gelu", approximate="tanh")),
    "silu": ("silu", _f("silu")),
    "mish": ("mish", _f("mish")),
    "softplus": ("softplus", _f("softplus")),
    "softsign": ("softsign", _f("softsign")),
    "elliot": ("elliot", lambda t, x: 0.5 * _symmetric_elliot(t, x) + 0.5),
    "elliot 3": (
        ("elliot", {"steepness": 3}), lambda t, x: 0.5 * _symmetric_elliot(t, x, 3.0) + 0.5,
    ),
    "symmetric_elliot": ("symmetric_elliot", _symmetric_elliot),
    "symmetric_elliot 0.5": (
        ("symmetric_elliot", {"steepness": 0.5}), lambda t, x: _symmetric_elliot(t, x, 0.5),
    ),
    "exponential": ("exponential", lambda t, x: t.exp(x)),
    "softmax": ("softmax", _f("softmax", dim=-1)),
    "softmax axis 0": (("softmax", {"axis": 0}), _f("softmax", dim=0)),
    "log_softmax": ("log_softmax", _f("log_softmax", dim=-1)),
    "log_softmax axis 0": (("log_softmax", {"axis": 0}), _f("log_softmax", dim=0)),
}  # fmt: skip
NAMES = [name for name in activations.__all__ if name not in ("get", "name_of")]
every = pytest.mark.parametrize("name", TABLE)


def numbers(dtype: str, device: str = "cpu") -> Any:
    """Return numbers on every piece of every function, none near a corner."""
    return on(device, np.linspace(-7.3, 7.7, 35).reshape(7, 5).T.astype(dtype))


def test_the_table_holds_every_activation() -> None:
    assert {spec if isinstance(spec, str) else spec[0] for spec, _ in TABLE.values()} == set(NAMES)
    x = to_numpy(numbers("float64"))
    for corner in (0, 1 / 3, 2.5, 3, 3.4, 6):
        assert np.abs(np.abs(x) - corner).min() > 0.02
        assert (x > corner).any()
        assert (x < -corner).any()


@pytest.mark.oracle
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@every
def test_equals_torch_with_its_gradient(name: str, dtype: str, tolerance: float) -> None:
    torch = pytest.importorskip("torch")
    spec, formula = TABLE[name]
    x, g = numbers(dtype), make((5, 7), dtype=dtype, seed=1)
    mine, pullback = xpnn.vjp(activations.get(spec), x)
    t = torch.tensor(x, requires_grad=True)
    theirs = formula(torch, t)
    (slope,) = torch.autograd.grad(theirs, t, torch.tensor(g))
    assert_close(mine, theirs.detach().numpy(), rtol=tolerance, atol=tolerance)
    assert_close(pullback(g), slope.numpy(), rtol=tolerance, atol=tolerance)


@every
def test_gradients_equal_finite_differences_to_second_order(name: str) -> None:
    xpnn.check_grad(activations.get(TABLE[name][0]), numbers("float64"), order=2)


@every
def test_runs_on_every_device_and_keeps_the_dtype(name: str, device: Any) -> None:
    f = activations.get(TABLE[name][0])
    for dtype in {"float32", double(device)}:
        x, g = numbers(dtype, device), make((5, 7), device, dtype, seed=1)
        y, pullback = xpnn.vjp(f, x)
        for value in (f(x), y, pullback(g)):
            assert xpnn.backend.device_of(value) == device
            assert value.dtype == xpnn.asarray(g).dtype
        here, back = xpnn.vjp(f, numbers(dtype))
        tolerance = 1e-5 if dtype == "float32" else 1e-12
        assert_close(to_numpy(y), here, rtol=tolerance, atol=tolerance)
        assert_close(to_numpy(pullback(g)), back(to_numpy(g)), rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------------- every finite number

STEEP = {
    "hard_sigmoid 1e3": ("hard_sigmoid", {"slope": 1e3}),
    "elu 7": ("elu", {"alpha": 7.0}),
    "leaky_relu 1": ("leaky_relu", {"alpha": 1.0}),
    "elliot 1e3": ("elliot", {"steepness": 1e3}),
    "symmetric_elliot 1e-3": ("symmetric_elliot", {"steepness": 1e-3}),
}
EVERYWHERE = {name: spec for name, (spec, _) in TABLE.items()} | STEEP


def floats(width: int) -> Any:
    return st.floats(width=width, allow_nan=False, allow_infinity=False, allow_subnormal=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EVERYWHERE)
@given(data=st.data())
def test_finite_numbers_give_finite_values_and_gradients_without_a_warning(
    name: str, dtype: str, data: Any
) -> None:
    x = data.draw(st.lists(floats(int(dtype[-2:])), min_size=1, max_size=6), label="x")
    check_finite(activations.get(EVERYWHERE[name]), np.asarray(x, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EVERYWHERE)
def test_so_do_the_ends_of_the_dtype(name: str, dtype: str) -> None:
    info = np.finfo(dtype)
    sizes = [
        info.max,
        info.max / 2,
        info.max**0.5,
        1000,
        100,
        30,
        info.tiny,
        info.smallest_subnormal,
        0,
    ]
    f = activations.get(EVERYWHERE[name])
    check_finite(f, np.asarray([[s, -s] for s in sizes], dtype))
    check_finite(f, np.asarray([s * z for s in sizes for z in (1, -1)], dtype))


def check_finite(f: Any, x: Any) -> None:
    """Warnings are errors here, so this fails on an overflow in a branch not taken as well."""
    g = np.cos(np.arange(x.size, dtype=x.dtype)).reshape(x.shape)  # within [-1, 1]

    def slope(x: Any) -> Any:
        return xpnn.vjp(f, x)[1](g)

    y, dx = f(x), slope(x)
    assert y.dtype == dx.dtype == x.dtype
    assert np.isfinite(y).all(), y
    assert np.isfinite(dx).all(), dx
    curvature = xpnn.vjp(slope, x)[1](g)
    assert np.isfinite(curvature).all(), curvature


# Slopes far on the left and far on the right; where there are none, the value grows.
FAR = {
    "linear": (1, 1), "affine": (1, 1), "relu": (0, 1), "leaky_relu": (0.01, 1), "elu": (0, 1),
    "selu": (0, 1.0507009873554805), "gelu": (0, 1), "silu": (0, 1), "mish": (0, 1),
    "softplus": (0, 1), "exponential": (0, None), "softmax": None, "log_softmax": None,
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n in NAMES if FAR.get(n, ()) is not None])
def test_slopes_are_right_at_the_ends(name: str, device: Any) -> None:
    x = on(device, np.asarray([-3e38, -1e38, -1e30, 1e30, 1e38, 3e38], np.float32))
    _, pullback = xpnn.vjp(activations.get(name), x)
    dx = to_numpy(pullback(on(device, np.ones(6, np.float32))))
    left, right = FAR.get(name, (0, 0))
    np.testing.assert_allclose(dx[:3], left, rtol=1e-6, atol=1e-30)
    if right is not None:
        np.testing.assert_allclose(dx[3:], right, rtol=1e-6, atol=1e-30)


def test_values_are_right_at_the_ends() -> None:
    big = np.float32(3e38)
    x = np.asarray([-big, big])
    for name in ("relu", "gelu", "silu", "mish", "softplus"):
        np.testing.assert_allclose(getattr(activations, name)(x), [0, big], atol=1e-30)
    for name in ("sigmoid", "hard_sigmoid", "elliot"):
        np.testing.assert_array_equal(getattr(activations, name)(x), [0, 1])
    np.testing.assert_array_equal(activations.elu(x), [-1, big])
    np.testing.assert_array_equal(activations.softsign(x), [-1, 1])
    largest = np.finfo(np.float32).max
    y = activations.selu(np.asarray([-big, largest], np.float32))
    np.testing.assert_allclose(y, [-1.7580993, largest], rtol=1e-6)
    y = activations.exponential(np.asarray([-big, 88.0, 89.0, big], np.float32))
    np.testing.assert_allclose(y, [0, np.exp(88.0), largest, largest], rtol=1e-4)


def test_softmax_takes_differences_beyond_the_largest_number_and_masks() -> None:
    big = np.finfo(np.float32).max
    x = np.asarray([[-big, big, 0], [-np.inf, 2.0, 2.0], [-big, -big, -np.inf]], np.float32)
    p = [[0, 1, 0], [0, 0.5, 0.5], [0.5, 0.5, 0]]
    np.testing.assert_allclose(F.softmax(x), p, rtol=1e-6)
    log2 = math.log(2)
    logs = [[-big, 0, -big], [-np.inf, -log2, -log2], [-log2, -log2, -np.inf]]
    np.testing.assert_allclose(F.log_softmax(x), logs, rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_kernel_of_softmax_equals_its_standard_twin(axis: int, monkeypatch: Any) -> None:
    big = np.finfo(np.float32).max
    edges = np.asarray([[-big, big, 0], [-np.inf, 2.0, 2.0], [-big, -big, -np.inf]], np.float32)
    cases = [make((4, 3, 5)), make((5, 3, 4)).T, np.asfortranarray(make((3, 2))), edges.T]
    cases += [make((4, 3), dtype="float64"), make((4, 3)).astype("float16")]

    def results(x: Any) -> Any:
        y, pullback = xpnn.vjp(lambda x: F.softmax(x, axis=axis), x)
        return y, pullback(make(x.shape, seed=5).astype(x.dtype))

    cases = [edges] if axis == 1 else cases
    by_kernel = [results(x) for x in cases]
    xp = xpnn.array_namespace(edges)
    assert primitives.softmax.on(xp) is not primitives.softmax
    monkeypatch.setitem(primitives.softmax.overlays, xp, primitives.softmax)
    for x, kernel in zip(cases, by_kernel, strict=True):
        for a, b in zip(kernel, results(x), strict=True):
            assert a.dtype == b.dtype
            assert_close(a, b, rtol=2e-3 if x.dtype == np.float16 else 1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["selu", "silu", "exponential", "softmax", "log_softmax"])
def test_what_looks_at_the_dtype_refuses_integers(name: str, device: Any) -> None:
    with pytest.raises(DTypeError, match="expected real floating-point numbers for an activation"):
        getattr(F, name)(on(device, np.asarray([1, 2])))


def test_the_largest_numbers_are_those_of_the_dtypes(device: Any) -> None:
    for dtype in ("float32", "float64"):
        x = on(device, np.ones(1, dtype))
        xp = xpnn.array_namespace(x)
        assert primitives._largest(xp, x) == float(xp.finfo(x.dtype).max)


def test_softmax_and_its_relatives_do_not_overflow() -> None:
    x = np.asarray([-1e4, 0.0, 1e4], np.float32)
    np.testing.assert_array_equal(F.sigmoid(x), [0, 0.5, 1])
    np.testing.assert_allclose(F.softmax(x), [0, 0, 1])
    np.testing.assert_array_equal(F.log_softmax(x)[[0, 2]], [-2e4, 0])
    assert float(F.logsumexp(x)) == 1e4
    assert float(F.logsumexp(np.asarray([-np.inf, -np.inf]))) == -np.inf


# ------------------------------------------------------------------------- digits in the tails


def test_tails_keep_their_digits() -> None:
    x = np.linspace(-36, 3, 79)
    cases = {
        "gelu": [0.5 * v * math.erfc(-v / 2**0.5) for v in x],
        "silu": [v / (1 + math.exp(-v)) for v in x],
        "softplus": [math.log1p(math.exp(v)) for v in x],
        "mish": [v * math.tanh(math.log1p(math.exp(v))) for v in x],
    }
    for name, expected in cases.items():
        f = getattr(activations, name)
        np.testing.assert_allclose(f(x), expected, rtol=3e-13)
        single = np.asarray(expected)[x > -12]
        np.testing.assert_allclose(f(x[x > -12].astype("float32")), single, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 5e-7), ("float64", 1e-15)])
def test_erf_and_erfc_have_all_digits(dtype: str, tolerance: float) -> None:
    info = np.finfo(dtype)
    far = 9.1 if dtype == "float32" else 26.5  # beyond, erfc is subnormal
    x = np.concatenate([np.linspace(-7, far, 4001), np.geomspace(info.tiny, 1, 200)]).astype(dtype)
    erf, erfc = F.erf(x), F.erfc(x)
    assert erf.dtype == erfc.dtype == dtype
    np.testing.assert_allclose(erf, [math.erf(v) for v in x], rtol=tolerance)
    np.testing.assert_allclose(erfc, [math.erfc(v) for v in x], rtol=tolerance)
    ends = np.asarray([-np.inf, -info.max, 0, info.max, np.inf, np.nan], dtype)
    np.testing.assert_array_equal(F.erf(ends), [-1, -1, 0, 1, 1, np.nan])
    np.testing.assert_array_equal(F.erfc(ends), [2, 2, 1, 0, 0, np.nan])


@pytest.mark.parametrize("name", ["erf", "erfc"])
def test_the_gradients_of_erf(name: str, device: Any) -> None:
    f = getattr(F, name)
    xpnn.check_grad(f, numbers("float64"), order=2)
    x, g = make(9, device, "float32"), make(9, device, "float32", seed=1)
    y, pullback = xpnn.vjp(f, x)
    assert_close(to_numpy(y), f(to_numpy(x)), rtol=1e-6)
    slope = to_numpy(g) * 2 / math.sqrt(math.pi) * np.exp(-(to_numpy(x) ** 2))
    expected = slope if name == "erf" else -slope
    np.testing.assert_allclose(to_numpy(pullback(g)), expected, rtol=1e-5)
    check_finite(f, np.asarray([-3e38, -1e20, -1e-45, 0, 1e-45, 30, 1e20, 3e38], np.float32))


@pytest.mark.oracle
@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("name", ["erf", "gelu", "silu", "softplus", "log_softmax", "selu"])
def test_torch_and_jax_go_through_our_formulas_also_far_out(name: str, library: str) -> None:
    """The differentiation of another library, which meets the branches that are not taken."""
    pytest.importorskip(library)
    f = getattr(F, name)
    x = np.asarray([-200.0, -30.0, -1.0, -0.25, 0.5, 3.0, 40.0, 200.0], np.float32)
    ours = to_numpy(xpnn.vjp(f, x)[1](np.ones(8, np.float32)))
    if library == "torch":
        import torch

        t = torch.tensor(x, requires_grad=True)
        f(t).sum().backward()
        theirs = t.grad.numpy()
    else:
        import jax

        theirs = to_numpy(jax.grad(lambda x: f(x).sum())(jax.numpy.asarray(x)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------- names and arguments


@every
def test_a_layer_with_it_comes_back_from_json(name: str) -> None:
    layer = layers.Activation(TABLE[name][0])
    again = layers.Layer.from_config(json.loads(json.dumps(layer.to_config())))
    assert_close(again(numbers("float32")), layer(numbers("float32")), rtol=0)


def test_names_of_functions_and_of_functions_with_arguments() -> None:
    for name in NAMES:
        assert activations.name_of(activations.get(name)) == name
    elu = activations.get(("elu", {"alpha": 0.5}))
    assert activations.name_of(elu) == ("elu", {"alpha": 0.5})
    assert activations.get(activations.name_of(elu)).keywords == {"alpha": 0.5}
    assert activations.name_of(np.tanh) is None
    assert activations.name_of(functools.partial(np.clip, a_min=0)) is None
    assert activations.name_of(None) is None
    assert activations.get(None) is activations.linear
    layer = layers.Dense(2, in_features=2, activation=elu)
    again = layers.Layer.from_config(json.loads(json.dumps(layer.to_config())))
    assert activations.name_of(again.activation) == ("elu", {"alpha": 0.5})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gelu!", "unknown activation 'gelu!'; known are linear, affine"),
        (("gelu", {"approximate": "erf"}), "'approximate' must be 'none' or 'tanh', got 'erf'"),
        (("elu", {"alpha": 0}), "elu: 'alpha' must be positive and finite, got 0"),
        (("elu", {"alpha": math.inf}), "elu: 'alpha' must be positive and finite, got inf"),
        (("elu", {"beta": 1}), r"activation 'elu' with \{'beta': 1\}: got an unexpected keyword"),
        (("relu", {"alpha": -0.1}), r"relu: 'alpha' must be in \[0, 1\], got -0.1"),
        (("leaky_relu", {"alpha": 1.5}), r"leaky_relu: 'alpha' must be in \[0, 1\], got 1.5"),
        (("leaky_relu", {"alpha": "a"}), r"leaky_relu: 'alpha' must be in \[0, 1\], got 'a'"),
        (("hard_sigmoid", {"slope": -1}), "hard_sigmoid: 'slope' must be positive and finite"),
        (("elliot", {"steepness": 0}), "elliot: 'steepness' must be positive and finite"),
        (("symmetric_elliot", {"steepness": -2}), "symmetric_elliot: 'steepness' must be positive"),
        (("affine", {"slope": math.nan}), "affine: 'slope' must be a finite number, got nan"),
        (("affine", {"intercept": math.inf}), "affine: 'intercept' must be a finite number"),
        (("softmax", {"axis": "last"}), "activation 'softmax' with {'axis': 'last'}"),
        (
            ("softmax", {"axis": 9}),
            r"'softmax' with {'axis': 9}: softmax: expected x with axis 9",
        ),
    ],
)
def test_bad_arguments_are_refused_when_the_layer_is_made(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        layers.Activation(spec)


@pytest.mark.parametrize("name", [n for n in primitives.__all__ if n.islower()])
def test_each_keeps_one_array_for_its_derivative(name: str) -> None:
    primitive: Primitive = getattr(primitives, name)
    if name == "prelu":
        return  # of two arrays, and needs both
    (rule,) = primitive.rules
    assert rule is not None
    assert len(rule.spec) == 1
