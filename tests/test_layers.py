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
    """Return the layer of a row with random values in every parameter; the same at every call."""
    xpnn.set_dtype(dtype)
    xpnn.set_seed(0)
    with xpnn.device(device):
        layer = row.make()
        row.call(layer, row.inputs(device, dtype))
    for i, p in enumerate(layer.parameters()):
        p.data = make(p.shape, device, dtype, seed=i + 1) * 0.5
    return layer


def arguments(layer: Any) -> dict[str, Any]:
    return {name: p.data for name, p in layer.named_parameters().items()}


def reached(row: Row, layer: Any) -> list[Any]:
    """Return the parameters that get a gradient from the output; the others must have none."""
    named = layer.named_parameters()
    assert all(named[name].grad is None for name in row.unused)
    return [p for name, p in named.items() if name not in row.unused]


def called(row: Row, layer: Any, inputs: list[Any]) -> Any:
    """Return a layer as a function of its floating-point inputs and of its parameters.

    Every call starts with the same random stream.
    """
    names = list(arguments(layer))

    def f(*values: Any) -> Any:
        xpnn.set_seed(7)
        given = list(inputs)
        for i, x in zip(row.floats, values, strict=False):
            given[i] = x
        params = dict(zip(names, values[len(row.floats) :], strict=True))
        return row.call(lambda *x, **kw: xpnn.functional_call(layer, params, *x, **kw), given)

    return f


def differentiable(row: Row, layer: Any, inputs: list[Any]) -> list[Any]:
    """Return what a function of :func:`called` takes."""
    return [*(inputs[i] for i in row.floats), *arguments(layer).values()]


def outputs_of(y: Any) -> tuple[Any, ...]:
    return y if isinstance(y, tuple) else (y,)


def one_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)


def gradients(row: Row, layer: Any, dtype: str) -> tuple[list[Any], list[Any]]:
    """Return outputs, and the gradients of floating-point inputs and parameters, by our tape."""
    inputs = row.inputs(dtype=dtype)
    values = differentiable(row, layer, inputs)
    y, pullback = xpnn.vjp(called(row, layer, inputs), *values)
    found = pullback(one_or_all(row.upstream(dtype=dtype)))
    return list(outputs_of(y)), list(found) if len(values) > 1 else [found]


def test_gradients_equal_finite_differences_to_second_order(row: Row) -> None:
    layer = built(row)
    inputs = row.inputs(dtype="float64")
    f = called(row, layer, inputs)
    xpnn.check_grad(f, *differentiable(row, layer, inputs), order=row.order)


def test_gives_the_shape_and_keeps_the_dtype(row: Row, device: Any) -> None:
    for dtype in {"float32", double(device)}:
        layer = built(row, dtype, device)
        ys = outputs_of(row.call(layer, row.inputs(device, dtype)))
        assert [y.shape for y in ys] == row.outputs
        for y in ys:
            assert isinstance(y, xpnn.Tensor)
            assert y.dtype == dtype
            assert y.device == device
        dxs = outputs_of(layer.backward(*row.upstream(device, dtype)))
        for i in row.positional:
            assert tuple(dxs[i].shape) == row.specs[i]
        for p in reached(row, layer):
            assert p.grad is not None
            assert p.grad.dtype == dtype
            assert p.grad.device == device


def test_is_the_same_on_every_device(row: Row, device: Any) -> None:
    here, there = (built(row, "float32", d) for d in ("cpu", device))
    results = []
    for layer, d in ((here, "cpu"), (there, device)):
        xpnn.set_seed(5)
        ys = outputs_of(row.call(layer, row.inputs(d)))
        dxs = outputs_of(layer.backward(*row.upstream(d)))
        grads = [p.grad for p in reached(row, layer)]
        found = (*ys, *(dxs[i] for i in row.positional), *grads)
        results.append([to_numpy(v) for v in found])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_backward_gives_what_vjp_gives_and_adds_up(row: Row) -> None:
    layer = built(row)
    _, expected = gradients(row, layer, "float64")
    of_inputs = [expected[row.floats.index(i)] for i in row.positional]
    by_name = zip(layer.named_parameters(), expected[len(row.floats) :], strict=True)
    of_parameters = [g for name, g in by_name if name not in row.unused]
    for times in (1, 2):
        xpnn.set_seed(7)
        row.call(layer, row.inputs(dtype="float64"))
        dxs = outputs_of(layer.backward(*row.upstream(dtype="float64")))
        for i, wanted in zip(row.positional, of_inputs, strict=True):
            assert type(dxs[i]) is np.ndarray
            assert_close(dxs[i], wanted, rtol=1e-10, atol=1e-13)
        for p, wanted in zip(reached(row, layer), of_parameters, strict=True):
            assert_close(p.grad, wanted * times, rtol=1e-10, atol=1e-13)


@pytest.mark.oracle
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_gradients_equal_those_of_torch_and_jax_through_the_same_formula(
    row: Row, library: str
) -> None:
    pytest.importorskip(library)
    device = f"{library}:cpu"
    dtype = double(device)
    layer = built(row, dtype)
    _, ours = gradients(row, layer, dtype)
    inputs = row.inputs(device, dtype)
    f = called(row, layer, inputs)
    values = differentiable(row, layer, inputs)
    values = [xpnn.asarray(v, device=device) for v in values]
    dys = row.upstream(device, dtype)
    if library == "torch":
        import torch

        values = [t.requires_grad_() for t in values]
        ys = outputs_of(f(*values))
        assert all(isinstance(y, torch.Tensor) for y in ys)
        theirs = torch.autograd.grad(ys, values, dys, allow_unused=True)
    else:
        import jax

        def pulled(xs: Any, gs: Any) -> Any:
            return jax.vjp(f, *xs)[1](gs)

        if all(x.dtype.kind == "f" for x in jax.tree.leaves(inputs)):
            pulled = jax.jit(pulled)  # at once; where there are integers layers look at them
        theirs = pulled(values, one_or_all(dys))
    tolerance = 1e-9 if dtype == "float64" else 2e-4
    for a, b in zip(ours, theirs, strict=True):
        wanted = np.zeros_like(a) if b is None else to_numpy(b)
        np.testing.assert_allclose(a, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.oracle
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("row", [r for r in LAYERS if r.torch is not None], ids=str)
def test_equals_the_formula_in_torch_with_all_gradients(
    row: Row, dtype: str, tolerance: float
) -> None:
    torch = pytest.importorskip("torch")
    layer = built(row, dtype)
    ys, ours = gradients(row, layer, dtype)
    inputs = [torch.tensor(x) for x in row.inputs(dtype=dtype)]
    p = {name: torch.tensor(x) for name, x in arguments(layer).items()}
    leaves = [*(inputs[i] for i in row.floats), *p.values()]
    p = {name: torch.tensor(to_numpy(x)) for name, x in layer.state_dict().items()} | p
    for leaf in leaves:
        leaf.requires_grad_()
    theirs = outputs_of(row.torch(torch, p, *inputs))
    dys = [torch.tensor(dy) for dy in row.upstream(dtype=dtype)]
    found = torch.autograd.grad(theirs, leaves, dys, allow_unused=True)
    for a, b in zip([*ys, *ours], [*theirs, *found], strict=True):
        wanted = np.zeros_like(a) if b is None else b.detach().numpy()
        size = max(1.0, float(np.max(np.abs(wanted), initial=0.0)))
        np.testing.assert_allclose(a, wanted, rtol=tolerance, atol=tolerance * size)


def test_comes_back_from_json_and_state(row: Row) -> None:
    layer = built(row, "float32")
    rebuilt = Layer.from_config(json.loads(json.dumps(layer.to_config())))
    assert type(rebuilt) is type(layer)
    assert list(rebuilt.state_dict()) == list(layer.state_dict())
    rebuilt.load_state_dict(layer.state_dict())
    inputs = row.inputs()
    again, before = row.call(rebuilt.eval(), inputs), row.call(layer.eval(), inputs)
    for a, b in zip(outputs_of(again), outputs_of(before), strict=True):
        assert_close(a, b, rtol=0)


def test_evaluation_is_deterministic_and_training_is_as_the_row_says(row: Row) -> None:
    layer = built(row, "float32")
    inputs = row.inputs()

    def value() -> Any:
        return to_numpy(outputs_of(row.call(layer, inputs))[0])

    assert np.array_equal(value(), value()) is not row.random
    layer.eval()
    assert np.array_equal(value(), value())
    assert not any(part.training for part in layer.layers())


def test_takes_strided_input_and_a_second_batch_of_another_size(row: Row) -> None:
    layer = built(row).eval()
    twice = [np.concatenate([x, x]) for x in row.inputs(dtype="float64")]
    strided = [x[::2] for x in twice]
    plain = [np.ascontiguousarray(x) for x in strided]
    pairs = zip(*(outputs_of(row.call(layer, x)) for x in (strided, plain)), strict=True)
    for a, b in pairs:
        assert_close(a, b, rtol=1e-12)
    if row.batched:
        for n in (1, 0):
            ys = outputs_of(row.call(layer, [x[:n] for x in twice]))
            assert [y.shape for y in ys] == [(n, *shape[1:]) for shape in row.outputs]


def test_frozen_parameters_stay_and_gradients_flow_through(row: Row) -> None:
    layer = built(row).freeze()
    row.call(layer, row.inputs(dtype="float64"))
    if row.positional:
        dxs = outputs_of(layer.backward(*row.upstream(dtype="float64")))
        assert all(dxs[i] is not None for i in row.positional)
    assert all(p.grad is None for p in layer.parameters())
    layer.unfreeze()
    assert all(p.requires_grad for p in layer.parameters())


def test_refuses_what_does_not_fit(row: Row) -> None:
    layer = built(row, "float32")
    for message, shape in row.wrong.items():
        with pytest.raises(ShapeError, match=message):
            row.call(layer, row.inputs(shape=shape))
    if row.floats and not row.any_dtype:
        inputs = row.inputs()
        inputs[row.floats[0]] = make(row.specs[row.floats[0]], dtype="int64", kind="ints")
        with pytest.raises(DTypeError, match=r"expected floating-point \w+, got int64"):
            row.call(layer, inputs)


def test_moves_to_a_device_and_back(row: Row, device: Any) -> None:
    layer = built(row, "float32").eval()

    def values(d: Any) -> list[Any]:
        ys = outputs_of(row.call(layer, row.inputs(d)))
        assert all(y.device == d for y in ys)
        return [to_numpy(y) for y in ys]

    before = values("cpu")
    layer.to(device)
    for a, b in zip(before, values(device), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    layer.to("cpu")
    for a, b in zip(before, values("cpu"), strict=True):
        np.testing.assert_array_equal(a, b)


# --------------------------------------------------------------------------- what a layer is


def test_dense_names_the_cure_for_images() -> None:
    layer = layers.Dense(3, in_features=784)
    with pytest.raises(ShapeError, match=r"Flatten the images first.*layers\.Flatten"):
        layer(np.ones((32, 28, 28), np.float32))


@pytest.mark.libraries
def test_parameters_and_inputs_of_two_libraries_do_not_mix() -> None:
    pytest.importorskip("torch")
    layer = layers.Dense(3, in_features=2)
    with pytest.raises(xpnn.errors.DeviceError, match=r"two libraries meet.*Move one"):
        layer(xpnn.asarray([[1.0, 2.0]], device="torch:cpu"))


def test_unknown_arguments_are_refused_with_the_name_of_the_layer() -> None:
    message = "Dense: got an unexpected keyword argument 'activaton'. It takes out_features, in_fea"
    with pytest.raises(TypeError, match=message):
        layers.Dense(3, activaton="relu")
    with pytest.raises(TypeError, match="unexpected keyword argument 'units'"):
        layers.Dense(units=3)
    with pytest.raises(TypeError, match=r"The layers go into a list, Sequential\(\[a, b\]\)"):
        xpnn.Sequential(layers.Dense(3), layers.Dense(2))  # type: ignore[call-arg]


@pytest.mark.parametrize("given", [[[1.0, 2.0]], "text", None])
def test_what_is_no_array_is_refused_before_and_after_building(given: Any) -> None:
    with pytest.raises(
        DTypeError, match=r"Dense: expected an array, got \w+. Make one with xpnn.as"
    ):
        layers.Dense(3)(given)
    if given is not None:
        with pytest.raises(DTypeError, match="Dense: expected an array, got"):
            layers.Chain([layers.Dense(3, in_features=2)])(given)


def test_an_error_of_the_code_of_a_layer_is_left_as_it_is() -> None:
    class Wrong(layers.Layer):
        def forward(self, x: Any) -> Any:
            return x.no_such_thing

    with pytest.raises(AttributeError, match="no_such_thing"):
        Wrong()(np.ones(2, np.float32))


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: layers.Dense(0), "'out_features' must be at least 1, got 0"),
        (lambda: layers.Dense(3, activation="rellu"), "unknown activation 'rellu'; known are"),
        (lambda: layers.Dense(3, weight_init="gloro"), "unknown initializer 'gloro'; known are"),
        (lambda: layers.Dropout(1.5), r"'p' must be in \[0, 1\], got 1.5"),
        (lambda: layers.Flatten(-1), "must not be negative"),
        (lambda: layers.Reshape((-1, -1)), "may hold one -1"),
        (lambda: layers.Dense(3, activation="Rellu"), r"log_softmax\. Did you mean 'relu'\?$"),
        (lambda: layers.Chain([3]), "item 0 is not a layer but int"),
        (lambda: layers.Chain([layers.Dense]), r"but type\. Write layers\.Dense\(\.\.\.\)"),
        (lambda: layers.Chain([np.tanh]), r"A function goes into layers\.Activation or layers\.La"),
    ],
)
def test_bad_arguments(make_it: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_it()


def test_arguments_without_names_are_no_configuration() -> None:
    class Stars(layers.Layer):
        def __init__(self, *sizes: int, **options: int) -> None:
            self.sizes, self.options = sizes, options

    assert Stars().to_config()["config"] == {}
    with pytest.raises(ConfigError, match=r"Stars: what its __init__ takes as \*sizes cannot"):
        Stars(1, 2).to_config()
    with pytest.raises(ConfigError, match=r"takes as \*\*options cannot be saved"):
        Stars(a=1).to_config()


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
    with pytest.raises(DataError, match=r"unexpected 2\.weight\.$"):  # all of it is built
        net.load_state_dict(state | {"0.weight": before, "1.weight": state["2.weight"]})
    with pytest.raises(DataError, match="Dense has no parameters yet: call it once"):
        layers.Dense(2).load_state_dict({"weight": np.ones((2, 2))})
    with pytest.raises(DataError, match="Dense has no parameters yet: call it once"):
        layers.Chain([layers.Dense(3, in_features=2), layers.Dense(1)]).load_state_dict(state)


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


def test_backward_takes_a_gradient_for_each_output() -> None:
    layer = layers.LSTM(3, return_state=True)
    y, h, c = layer(make((2, 4, 2)))
    with pytest.raises(GraphError, match=r"LSTM\.backward\(\): expected 3 gradients, .* got 1"):
        layer.backward(np.ones(y.shape, np.float32))
    dx = layer.backward(*(np.ones(v.shape, np.float32) for v in (y, h, c)))
    assert dx.shape == (2, 4, 2)


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


def test_penalties_are_sums_over_weights_of_all_layers_inside() -> None:
    net = xpnn.Sequential(
        [
            layers.Dense(3, in_features=2, l1=0.5, activation="tanh"),
            layers.Chain([layers.Dense(1, in_features=3, l1=0.25, l2=2.0)]),
            layers.Activation("tanh"),
        ]
    )
    a, b = (to_numpy(net.state_dict()[name]) for name in ("0.weight", "1.0.weight"))
    expected = 0.5 * np.abs(a).sum() + 0.25 * np.abs(b).sum() + 2.0 * (b * b).sum()
    assert float(net.penalties()) == pytest.approx(float(expected), rel=1e-6)
    assert layers.Dense(2, in_features=2).penalties() is None
    with pytest.raises(ConfigError, match=r"Dense: 'l2' must not be negative, got -1"):
        layers.Dense(2, l2=-1)


def test_penalties_are_part_of_the_loss_of_fit_and_evaluate() -> None:
    x, y = make((6, 2)), make((6, 1), seed=1)
    plain, held = (
        xpnn.Sequential([layers.Dense(1, in_features=2, weight_init="ones", l2=l2)])
        for l2 in (0.0, 0.5)
    )
    for net in (plain, held):
        net.compile("mean_squared_error", xpnn.optim.SGD(0.1))
    assert held.evaluate(x, y)["loss"] == pytest.approx(plain.evaluate(x, y)["loss"] + 1.0)
    first = [net.fit(x, y, batch_size=6, verbose=0)["loss"][0] for net in (plain, held)]
    assert first[1] == pytest.approx(first[0] + 1.0)
    difference = to_numpy(plain[0].weight) - to_numpy(held[0].weight)
    np.testing.assert_allclose(difference, 0.1 * 2 * 0.5, rtol=1e-5)  # lr times the slope of w^2/2


def test_what_is_shared_is_shared_after_saving() -> None:
    shared = layers.Dense(4, in_features=4)
    net = layers.Chain([shared, layers.Dense(4, weight=shared.weight), shared])
    again = Layer.from_config(json.loads(json.dumps(net.to_config())))
    assert again[0] is again[2]
    assert again[1].weight is again[0].weight
    assert len(again.parameters()) == 3
    assert [name for name in again.state_dict() if name[0] == "1"] == ["1.weight", "1.bias"]
    with pytest.raises(ConfigError, match="'weight' is the parameter of a layer that is not part"):
        layers.Dense(4, weight=shared.weight).to_config()


def test_a_shared_weight_must_fit() -> None:
    other = layers.Dense(3, in_features=4)
    with pytest.raises(ShapeError, match=r"shape \(out_features, in_features\), got \(4, 3\)"):
        layers.Dense(3, weight=other.weight, transposed=True)
    with pytest.raises(ConfigError, match=r"must be the Parameter of a layer.*say transposed=True"):
        layers.Dense(4, weight=other.weight.T)
    with pytest.raises(ConfigError, match="'transposed' says how a shared weight lies"):
        layers.Dense(4, transposed=True)


def test_an_activation_may_have_arguments() -> None:
    layer = layers.Activation(("softmax", {"axis": 0}))
    again = Layer.from_config(json.loads(json.dumps(layer.to_config())))
    assert_close(again(make((3, 2))), xpnn.activations.softmax(make((3, 2)), axis=0))
    with pytest.raises(ConfigError, match=r"activation 'softmax' with \{'axes': 0\}: got an unexp"):
        layers.Activation(("softmax", {"axes": 0}))


def test_layers_are_told_of_every_update() -> None:
    class Counting(layers.Dense):
        updates = 0

        def on_update(self) -> None:
            self.updates += 1

    net = layers.Chain([layers.Chain([Counting(2)]), layers.Activation("tanh")])
    optimizer = xpnn.optim.SGD(0.1)
    for _ in range(3):
        ops.sum(net(make((3, 2)))).backward()
        optimizer.step(net)
    assert net[0][0].updates == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layers", [layers.Dense(2)]),
        ("parameters", [layers.Parameter([1.0])]),
        ("build", layers.Dense(2)),
        ("forward", layers.Chain([layers.Dense(2)])),
        ("objective", "mse"),
        ("state_dict", {}),
        ("fit", 3),
        ("params", [1]),
        ("optimizers", {}),
        ("mine", 1),
        ("_parts", ()),
    ],
)
def test_an_attribute_does_not_take_the_place_of_a_method(name: str, value: Any) -> None:
    class Net(xpnn.Model):
        def __init__(self) -> None:
            super().__init__()
            setattr(self, name, value)

        def mine(self) -> None:
            """Do nothing."""

    with pytest.raises(ConfigError, match=f"Net: '{name}' is a method .*, such as 'my_{name}'"):
        Net()


def test_a_function_may_take_the_place_of_a_method() -> None:
    layer = layers.Dense(2)
    layer.penalty = lambda: 3.0
    assert layer.penalties() == 3.0
    layer.training, layer.name = False, "first"
    assert layer.name == "first"
