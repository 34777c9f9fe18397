"""Layers of several inputs: ties, zeros, what they refuse; the table has the rest."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from helpers import Place, assert_close, make

import xpnn
from xpnn import Tensor, layers, ops
from xpnn.errors import ConfigError, DTypeError, ShapeError
from xpnn.layers import Layer


@pytest.mark.parametrize("n", [2, 3, 4])
def test_inputs_that_tie_share_the_gradient_evenly(n: int, device: Place) -> None:
    xs = [make((2, 3), device, kind="ints") for _ in range(n)]
    y, pullback = xpnn.vjp(layers.Maximum(), *xs)
    g = make((2, 3), device, seed=1)
    assert_close(y, xs[0])
    for dx in pullback(g):
        assert_close(dx, g / n, 1e-6)


def test_the_largest_takes_the_gradient_and_nan_is_kept() -> None:
    a, b, c = np.asarray([[1.0, 5.0, 0.0]]), np.asarray([[2.0, 4.0, 0.0]]), np.zeros((1, 3))
    layer = layers.Maximum()
    assert_close(layer(a, b, c), np.asarray([[2.0, 5.0, 0.0]]))
    da, db, dc = layer.backward(np.asarray([[3.0, 3.0, 3.0]]))
    assert_close(da, np.asarray([[0.0, 3.0, 1.0]]))
    assert_close(db, np.asarray([[3.0, 0.0, 1.0]]))
    assert_close(dc, np.asarray([[0.0, 0.0, 1.0]]))
    assert np.isnan(layer(a, np.asarray([[np.nan, 0.0, 0.0]])).data[0, 0])


def test_products_with_zeros_have_the_gradient_of_the_others() -> None:
    a, b, c = np.asarray([[0.0, 2.0]]), np.asarray([[0.0, 3.0]]), np.asarray([[5.0, 0.0]])
    layer = layers.Multiply()
    layer(a, b, c)
    for dx, wanted in zip(
        layer.backward(np.ones((1, 2))), ([[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 6.0]]), strict=True
    ):
        assert_close(dx, np.asarray(wanted))


def test_one_array_several_times_collects_all_gradients() -> None:
    x = Tensor(make((2, 3)), requires_grad=True)
    ops.sum(layers.Multiply()(x, x, x)).backward()
    assert_close(x.grad, 3 * x.data**2, 1e-6)


def test_raw_arrays_and_tensors_meet_in_any_order(device: Place) -> None:
    a, b = make((2, 3), device), make((2, 3), device, seed=1)
    for layer in (layers.Add(), layers.Maximum(), layers.Concatenate(), layers.Dot()):
        leaf = Tensor(b, requires_grad=True)
        ops.sum(layer(a, leaf)).backward()
        assert leaf.grad is not None
        with xpnn.no_grad():
            assert_close(layer(a, b), layer(a, leaf))


def test_the_cosine_of_zeros_is_zero_with_finite_gradients() -> None:
    u, v = np.asarray([[0.0, 0.0], [3.0, 4.0]]), np.asarray([[1.0, 2.0], [6.0, 8.0]])
    layer = layers.Dot(normalize=True)
    assert_close(layer(u, v), np.asarray([[0.0], [1.0]]), 1e-12)
    du, dv = layer.backward(np.ones((2, 1)))
    assert np.isfinite(du).all()
    assert np.isfinite(dv).all()
    np.testing.assert_allclose(du[1], 0.0, atol=1e-15)  # the angle is zero already


@pytest.mark.parametrize("dtype", ["int64", "int8", "bool"])
def test_integers_and_booleans_are_joined(dtype: str, device: Place) -> None:
    a, b = make((2, 3), device, dtype, "bools"), make((2, 1), device, dtype, "bools", seed=1)
    y = layers.Concatenate()(a, b)
    assert_close(y, np.concatenate([xpnn.to_numpy(a), xpnn.to_numpy(b)], 1))


def test_an_activation_with_arguments_comes_back_from_json() -> None:
    layer = layers.Dot(axes=(2, 1), activation=("softmax", {"axis": 1}))
    inputs = make((2, 3, 4)), make((2, 4, 2), seed=1)
    wanted = layer(*inputs)
    again = Layer.from_config(json.loads(json.dumps(layer.to_config())))
    assert again.axes == (2, 1)
    assert_close(again(*inputs), wanted, rtol=0)
    np.testing.assert_allclose(wanted.data.sum(axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("cls", [layers.Add, layers.Multiply, layers.Average, layers.Maximum])
def test_inputs_are_arguments_and_not_a_list(cls: Any) -> None:
    x, name = make((2, 3)), cls.__name__
    with pytest.raises(DTypeError, match=rf"{name}: .* each input, {name}\(\)\(a, b\), got list"):
        cls()([x, x])
    with pytest.raises(DTypeError, match="got nothing"):
        cls()()
    with pytest.raises(DTypeError, match=rf"{name}: expected floating-point x, got int64"):
        cls()(x, make((2, 3), dtype="int64", kind="ints"))


def test_concatenate_and_dot_take_arguments_as_well() -> None:
    x = make((2, 3))
    with pytest.raises(DTypeError, match=r"Concatenate: expected an array .* got list"):
        layers.Concatenate()([x, x])
    with pytest.raises(DTypeError, match=r"Dot: expected an array .* got Tensor, float"):
        layers.Dot()(x, 1.0)
    with pytest.raises(DTypeError, match="Dot: expected floating-point x, got int64"):
        layers.Dot()(x, make((2, 3), dtype="int64", kind="ints"))


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: layers.Concatenate(axis=0), r"'axis' must not be 0.* use xpnn\.ops\.concat"),
        (lambda: layers.Dot(0), "'axes' must be an axis or a pair, not 0"),
        (lambda: layers.Dot((1, 0)), r"of the examples; got \(1, 0\)"),
        (lambda: layers.Dot((1, 2, 3)), "'axes' must be an axis or a pair"),
        (lambda: layers.Add("sum"), "unknown activation 'sum'"),
    ],
)
def test_bad_arguments(make_it: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_it()


def test_axes_that_are_not_there() -> None:
    with pytest.raises(ShapeError, match=r"their axis 2, which .* got \(2, 3\), \(2, 3\)"):
        layers.Concatenate(axis=2)(make((2, 3)), make((2, 3)))
    with pytest.raises(ShapeError, match=r"Dot\(axes=\(1, 2\)\): expected two inputs"):
        layers.Dot((1, 2))(make((2, 3)), make((2, 3)))
