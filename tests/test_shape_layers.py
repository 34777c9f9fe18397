"""Layers that change the shape, and functions as layers: the table has the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from battery import LAYERS, Row
from helpers import Place, assert_close, make

import xpnn
from xpnn import activations, layers
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers import Layer

MOVING = [row for row in LAYERS if row.any_dtype and row.name.split()[0] != "lambda"]
MOVING = [row for row in MOVING if "places" not in row.name]  # which computes tanh as well


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
@pytest.mark.parametrize("row", MOVING, ids=str)
def test_integers_and_booleans_are_moved(row: Row, dtype: str, device: Place) -> None:
    kind = "bools" if dtype == "bool" else "ints"
    xs = [make(s, device, dtype, kind, seed=i) for i, s in enumerate(row.specs)]
    y = row.make()(*xs)
    assert y.shape == row.output
    assert xpnn.ops.isdtype(y.dtype, xs[0].dtype)
    assert xpnn.backend.device_of(y) == device
    wanted = row.make()(*(xpnn.to_numpy(x).astype("float64") for x in xs))
    np.testing.assert_array_equal(xpnn.to_numpy(y), xpnn.to_numpy(wanted).astype(dtype))


def test_permute_counts_the_axes_as_numpy_and_keras_do() -> None:
    x = make((2, 3, 4, 5))
    assert_close(layers.Permute((2, 3, 1))(x), np.transpose(x, (0, 2, 3, 1)))
    assert layers.Permute(())(make((3,))).shape == (3,)


def test_squeeze_takes_back_expand_dims() -> None:
    x = make((2, 3, 4))
    for axis in (1, 2, 3, -1, -2, -3):
        chain = layers.Chain([layers.ExpandDims(axis), layers.Squeeze(axis)])
        assert_close(chain(x), x)


def test_lambda_of_several_arrays_with_gradients(device: Place) -> None:
    layer = layers.Lambda(lambda a, b: (a * b, xpnn.ops.exp(b)))
    a, b = make((2, 3), device), make((2, 3), device, seed=1)
    y, z = layer(a, b)
    assert_close(y, a * b)
    da, db = layer.backward(y * 0 + 1, z * 0 + 1)
    assert_close(da, b, 1e-6)
    assert_close(db, a + z.data, 1e-6)


def test_lambda_is_saved_with_a_named_function_only(tmp_path: Path) -> None:
    for f in ("relu", activations.relu):
        layer = layers.Lambda(f)
        layer(make((2, 3)))
        again = Layer.from_config(json.loads(json.dumps(layer.to_config())))
        assert_close(again(make((2, 3))), np.maximum(make((2, 3)), 0))
    net = xpnn.Sequential([layers.Dense(2), layers.Lambda(lambda x: x * x)])
    net(make((2, 3)))
    message = "Lambda: the argument 'f' is a function, which .* write a Layer class of your own"
    with pytest.raises(ConfigError, match=message):
        net.save(tmp_path / "net.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (
            lambda: layers.Permute((0, 2, 1)),
            r"from 1 to 3 once \(axis 0.* got \(0, 2, 1\)",
        ),
        (lambda: layers.Permute((1, 1)), "'axes' must name each axis from 1 to 2 once"),
        (lambda: layers.Permute((1, 3)), "'axes' must name each axis from 1 to 2 once"),
        (lambda: layers.Permute((-3, 1)), "'axes' must name each axis from 1 to 2 once"),
        (
            lambda: layers.ExpandDims(0),
            "ExpandDims: 'axis' must not be 0, the axis of",
        ),
        (lambda: layers.Squeeze(0), "Squeeze: 'axis' must not be 0"),
        (lambda: layers.Lambda(3), "'f' must be a function or the name of an activation, got 3"),
        (lambda: layers.Lambda("square"), "unknown activation 'square'"),
        (lambda: layers.Reshape((2, -2)), "else no negative length"),
    ],
)
def test_bad_arguments(make_it: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_it()


def test_the_first_axis_stays_the_first() -> None:
    with pytest.raises(ShapeError, match="axis -3 cannot be put after the first axis"):
        layers.ExpandDims(-3)(make((2, 3)))
    with pytest.raises(ShapeError, match="Squeeze: expected x with length 1 on axis -2"):
        layers.Squeeze(-2)(make((1, 3)))
    with pytest.raises(ShapeError, match="length 1 on axis 2, after the first axis"):
        layers.Squeeze(2)(make((1, 1)))
