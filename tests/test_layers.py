"""Every layer through the same checks, on every device."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from battery import LAYERS, Row
from helpers import assert_close, double, make

import xpnn
from xpnn import layers, ops
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, DataError, DTypeError, GraphError, ShapeError
from xpnn.layers import Layer


@pytest.fixture(params=LAYERS, ids=str)
def row(request: pytest.FixtureRequest) -> Row:
    return request.param


def built(row: Row, dtype: str = "float64", device: str = "cpu") -> Any:
    """Return the layer of a row with random values in every parameter."""
    xpnn.set_dtype(dtype)
    with xpnn.device(device):
        layer = row.make()
        layer.ensure_built(row.shape) if not row.shape else layer(make(row.shape, device, dtype))
    for i, p in enumerate(layer.parameters()):
        p.data = make(p.shape, device, dtype, seed=i + 1) * 0.5
    return layer


def arguments(layer: Any) -> dict[str, Any]:
    return {name: p.data for name, p in layer.named_parameters().items()}


def called(layer: Any, names: list[str]) -> Any:
    """Return the layer as a function of its input and its parameters, with one random stream."""

    def f(x: Any, *values: Any) -> Any:
        xpnn.set_seed(7)
        return xpnn.functional_call(layer, dict(zip(names, values, strict=True)), x)

    return f


def test_gradients_equal_finite_differences_to_second_order(row: Row) -> None:
    layer = built(row)
    values = arguments(layer)
    xpnn.check_grad(
        called(layer, list(values)), make(row.shape, dtype="float64"), *values.values(), order=2
    )


def test_gives_the_shape_and_keeps_the_dtype(row: Row, device: Any) -> None:
    for dtype in {"float32", double(device)}:
        layer = built(row, dtype, device)
        y = layer(make(row.shape, device, dtype))
        assert isinstance(y, xpnn.Tensor)
        assert y.shape == row.output
        assert y.dtype == dtype
        assert y.device == device
        dx = layer.backward(make(row.output, device, dtype, seed=3))
        assert tuple(dx.shape) == row.shape
        for p in layer.parameters():
            assert p.grad is not None
            assert p.grad.dtype == dtype
            assert p.grad.device == device


def test_is_the_same_on_every_device(row: Row, device: Any) -> None:
    here, there = (built(row, "float32", d) for d in ("cpu", device))
    results = []
    for layer, d in ((here, "cpu"), (there, device)):
        xpnn.set_seed(5)
        y = layer(make(row.shape, d))
        dx = layer.backward(make(row.output, d, seed=9))
        results.append([to_numpy(v) for v in (y, dx, *layer.grads)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_backward_gives_what_vjp_gives_and_adds_up(row: Row) -> None:
    layer = built(row)
    x, dy = make(row.shape, dtype="float64"), make(row.output, dtype="float64", seed=4)
    names = list(arguments(layer))
    _, pullback = xpnn.vjp(called(layer, names), x, *arguments(layer).values())
    expected = pullback(dy)
    expected = expected if names else (expected,)
    for times in (1, 2):
        xpnn.set_seed(7)
        layer(x)
        dx = layer.backward(dy)
        assert type(dx) is np.ndarray
        for actual, wanted in zip((dx, *layer.grads), expected, strict=True):
            assert_close(actual, wanted * (times if actual is not dx else 1), rtol=1e-10)


@pytest.mark.oracle
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_gradients_equal_those_of_torch_and_jax_through_the_same_formula(
    row: Row, library: str
) -> None:
    pytest.importorskip(library)
    device = f"{library}:cpu"
    dtype = double(device)
    layer = built(row, dtype)
    values = [make(row.shape, dtype=dtype), *arguments(layer).values()]
    dy = make(row.output, dtype=dtype, seed=2)
    f = called(layer, list(arguments(layer)))
    _, pullback = xpnn.vjp(f, *values)
    ours = pullback(dy) if len(values) > 1 else (pullback(dy),)
    theirs = [xpnn.asarray(v, device=device) for v in values]
    if library == "torch":
        import torch

        theirs = [t.requires_grad_() for t in theirs]
        y = f(*theirs)
        assert isinstance(y, torch.Tensor)
        grads = torch.autograd.grad(y, theirs, torch.from_numpy(dy), allow_unused=True)
    else:
        import jax

        grads = jax.vjp(f, *theirs)[1](xpnn.asarray(dy, device=device))
    tolerance = 1e-9 if dtype == "float64" else 2e-4
    for a, b in zip(ours, grads, strict=True):
        wanted = np.zeros_like(a) if b is None else to_numpy(b)
        np.testing.assert_allclose(a, wanted, rtol=tolerance, atol=tolerance)


def test_comes_back_from_json_and_state(row: Row) -> None:
    layer = built(row, "float32")
    rebuilt = Layer.from_config(json.loads(json.dumps(layer.to_config())))
    assert type(rebuilt) is type(layer)
    assert list(rebuilt.state_dict()) == list(layer.state_dict())
    rebuilt.load_state_dict(layer.state_dict())
    x = make(row.shape)
    assert_close(rebuilt.eval()(x), layer.eval()(x), rtol=0)


def test_evaluation_is_deterministic_and_training_is_as_the_row_says(row: Row) -> None:
    layer = built(row, "float32")
    x = make(row.shape)
    first, second = to_numpy(layer(x)), to_numpy(layer(x))
    assert np.array_equal(first, second) is not row.random
    layer.eval()
    assert np.array_equal(to_numpy(layer(x)), to_numpy(layer(x)))
    assert not any(part.training for part in layer.layers())


def test_takes_strided_input_and_a_second_batch_of_another_size(row: Row) -> None:
    layer = built(row).eval()
    x = make((2 * row.shape[0], *row.shape[1:]), dtype="float64")
    strided = x[::2] if len(row.shape) > 1 else np.repeat(x, 2)[: 2 * row.shape[0] : 2]
    assert_close(layer(strided), layer(np.ascontiguousarray(strided)), rtol=1e-12)
    if len(row.shape) > 1:
        assert layer(x[:1]).shape == (1, *row.output[1:])
        assert layer(x[:0]).shape == (0, *row.output[1:])


def test_frozen_parameters_stay_and_gradients_flow_through(row: Row) -> None:
    layer = built(row).freeze()
    layer(make(row.shape, dtype="float64"))
    dx = layer.backward(make(row.output, dtype="float64"))
    assert dx is not None
    assert all(p.grad is None for p in layer.parameters())
    layer.unfreeze()
    assert all(p.requires_grad for p in layer.parameters())


def test_refuses_what_does_not_fit(row: Row) -> None:
    layer = built(row, "float32")
    for message, shape in row.wrong.items():
        with pytest.raises(ShapeError, match=message):
            layer(make(shape))
    if not isinstance(layer, (layers.Flatten, layers.Reshape)) and row.name != "chain":
        with pytest.raises(DTypeError, match="expected floating-point x, got int64"):
            layer(make(row.shape, dtype="int64", kind="ints"))


def test_moves_to_a_device_and_back(row: Row, device: Any) -> None:
    layer = built(row, "float32").eval()
    before = to_numpy(layer(make(row.shape)))
    layer.to(device)
    after = layer(make(row.shape, device))
    assert after.device == device
    np.testing.assert_allclose(before, to_numpy(after), rtol=1e-5, atol=1e-6)
    layer.to("cpu")
    np.testing.assert_array_equal(before, to_numpy(layer(make(row.shape))))


# --------------------------------------------------------------------------- what a layer is


def test_dense_names_the_cure_for_images() -> None:
    layer = layers.Dense(3, in_features=784)
    with pytest.raises(ShapeError, match=r"Flatten the images first.*layers\.Flatten"):
        layer(np.ones((32, 28, 28), np.float32))


def test_parameters_and_inputs_of_two_libraries_do_not_mix() -> None:
    pytest.importorskip("torch")
    layer = layers.Dense(3, in_features=2)
    with pytest.raises(xpnn.errors.DeviceError, match=r"two libraries meet.*Move one"):
        layer(xpnn.asarray([[1.0, 2.0]], device="torch:cpu"))


def test_unknown_arguments_are_refused_with_the_name_of_the_layer() -> None:
    with pytest.raises(TypeError, match="Dense: got an unexpected keyword argument 'activaton'"):
        layers.Dense(3, activaton="relu")


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: layers.Dense(0), "'out_features' must be at least 1, got 0"),
        (lambda: layers.Dense(3, activation="rellu"), "unknown activation 'rellu'; known are"),
        (lambda: layers.Dense(3, weight_init="gloro"), "unknown initializer 'gloro'; known are"),
        (lambda: layers.Dropout(1.5), r"'p' must be in \[0, 1\], got 1.5"),
        (lambda: layers.Flatten(-1), "must not be negative"),
        (lambda: layers.Reshape((-1, -1)), "may hold one -1"),
        (lambda: layers.Chain([3]), "item 0 is not a layer but int"),
    ],
)
def test_bad_arguments(make_it: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_it()


def test_state_keeps_the_order_of_creation_and_refuses_what_is_wrong() -> None:
    net = layers.Chain([layers.Dense(3, in_features=2), layers.Dense(1, in_features=3)])
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    state = dict(net.state_dict())
    before = to_numpy(net[0].weight).copy()
    state["0.weight"] = np.ones((5, 5))
    state["2.weight"] = state.pop("1.weight")
    message = r"0\.weight: expected shape \(2, 3\), got \(5, 5\); missing 1\.weight; unexpected 2\."
    with pytest.raises(DataError, match=message):
        net.load_state_dict(state)
    np.testing.assert_array_equal(before, to_numpy(net[0].weight))
    with pytest.raises(DataError, match="no parameters yet: call it once"):
        layers.Dense(2).load_state_dict({"weight": np.ones((2, 2))})


def test_shared_layers_count_once_and_collect_both_gradients() -> None:
    shared = layers.Dense(4, in_features=4)
    net = layers.Chain([shared, layers.Activation("tanh"), shared])
    assert len(net.parameters()) == 2
    x = make((3, 4))
    net(x)
    net.backward(np.ones((3, 4), np.float32))
    w, b = (xpnn.Tensor(p.data, requires_grad=True) for p in net.parameters())
    ops.sum(ops.tanh(x @ w + b) @ w + b).backward()
    assert_close(shared.weight.grad, w.grad, rtol=1e-5)


def test_backward_needs_a_call_and_serves_once() -> None:
    layer = layers.Dense(2)
    with pytest.raises(GraphError, match="call the layer on a raw array first"):
        layer.backward(np.ones((1, 2), np.float32))
    layer(np.ones((1, 3), np.float32))
    layer.backward(np.ones((1, 2), np.float32))
    with pytest.raises(GraphError, match="one call serves one backward"):
        layer.backward(np.ones((1, 2), np.float32))


def test_an_ordinary_step_does_not_compute_the_gradient_of_the_input(monkeypatch: Any) -> None:
    asked: list[list[bool]] = []
    from xpnn.kernels import numpy as kernels

    vjp = kernels.linear_vjp
    layer = layers.Chain([layers.Flatten(), layers.Dense(2), layers.Dense(2)])
    layer(np.ones((3, 2, 2), np.float32))

    def spy(xp: Any, g: Any, needs: list[bool], x: Any, weight: Any) -> Any:
        asked.append(list(needs))
        return vjp(xp, g, needs, x, weight)

    from xpnn.primitives.base import Rule
    from xpnn.primitives.neural import linear

    overlay = linear.on(xpnn.array_namespace(np.ones(1)))
    monkeypatch.setattr(overlay, "joint", Rule(spy, linear.arrays, False))
    ops.sum(layer(np.ones((3, 2, 2), np.float32))).backward()
    assert asked == [[True, True, True], [False, True, True]]


def test_functional_call_leaves_the_layer_alone_and_names_the_unknown() -> None:
    layer = layers.Dense(2, in_features=3)
    before = layer.weight
    w = np.zeros((3, 2), np.float32)
    y = xpnn.functional_call(layer, {"weight": w}, np.ones((1, 3), np.float32))
    np.testing.assert_array_equal(to_numpy(y), to_numpy(layer.bias)[None])
    assert layer.weight is before
    with pytest.raises(ConfigError, match="no parameter is named weights; there are weight, bias"):
        xpnn.functional_call(layer, {"weights": w}, np.ones((1, 3), np.float32))


def test_a_function_of_ones_own_cannot_be_written_as_json() -> None:
    with pytest.raises(ConfigError, match="'activation' is a function, which a JSON"):
        layers.Dense(2, activation=lambda x: x * x).to_config()


def test_a_model_of_ones_own_is_a_layer_with_lists_and_nested_parts() -> None:
    class Two(Layer):
        buffers = ("count",)

        def __init__(self) -> None:
            self.hidden = [layers.Dense(3), layers.Dense(3)]
            self.out = layers.Dense(1)
            self.count = np.zeros(1)

        def forward(self, x: Any) -> Any:
            return self.out(self.hidden[1](self.hidden[0](x)))

    net = Two()
    assert net(np.ones((2, 4), np.float32)).shape == (2, 1)
    names = ["hidden.0.weight", "hidden.0.bias", "hidden.1.weight", "hidden.1.bias"]
    assert list(net.state_dict()) == [*names, "out.weight", "out.bias", "count"]
    assert list(net.named_parameters()) == [*names, "out.weight", "out.bias"]
    again = Layer.from_config(json.loads(json.dumps(net.to_config())))
    again.load_state_dict(net.state_dict())
    x = make((5, 4))
    assert_close(again(x), net(x))


def test_copies_and_pickles_keep_variables_variables() -> None:
    import copy
    import pickle

    layer = layers.Dense(2, in_features=3)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(twin.weight) is layers.Parameter
        assert twin.weight.requires_grad
        x = make((4, 3))
        assert_close(twin(x), layer(x), rtol=0)
        twin.backward(np.ones((4, 2), np.float32))
        assert layer.weight.grad is None
