"""Optimizers: the equations against PyTorch's, the steps, the configuration, the mistakes."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import Place, assert_close, double, make, on
from optim_table import (
    IN_TORCH,
    SHAPES,
    TABLE,
    Line,
    clip_like_torch,
    create,
    every_optimizer,
    gradients,
    torch_default,
    torch_twin,
    values,
    variables,
)

import xpnn
import xpnn.kernels.numpy
from xpnn import Tensor, ops, optim
from xpnn.errors import ConfigError, DeviceError, DTypeError, GraphError, ShapeError

# ------------------------------------------------------------------------------ the equations


def quadratic(params: Any) -> Any:
    """Weighted squares of the distances to 1, 2, ...; for Tensors and for torch."""
    terms = [(0.1 + i) * total((p - (i + 1.0)) ** 2) for i, p in enumerate(params)]
    return sum(terms[1:], terms[0])


def rosenbrock(params: Any) -> Any:
    """The banana valley, between the entries of the first two parameters."""
    x, y = params
    return total((1 - x) ** 2 + 100 * (y - x**2) ** 2)


def total(x: Any) -> Any:
    return x.sum() if type(x).__module__.startswith("torch") else ops.sum(x)


TARGETS = {
    "quadratic": (quadratic, SHAPES, 0.05),
    "rosenbrock": (rosenbrock, [(2, 3), (2, 3)], 2e-4),
}


WAYS = [(name, way) for name in IN_TORCH for way in ("packed", "rule")]


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "way"), WAYS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-10), ("float32", 1e-5)])
@pytest.mark.usefixtures(torch_default.__name__)
def test_equals_torch(name: str, way: str, target: str, dtype: str, rtol: float) -> None:
    torch = pytest.importorskip("torch")
    loss, shapes, lr = TARGETS[target]
    ours = variables(shapes, dtype=dtype)
    theirs = [torch.tensor(value, requires_grad=True) for value in values(ours)]
    start = float(loss(ours))
    optimizer = create(name, lr, elementwise=way == "packed")
    oracle = torch_twin(name, theirs, lr)
    for _ in range(50):
        loss(ours).backward()
        optimizer.step(ours)
        oracle.zero_grad()
        loss(theirs).backward()
        clip_like_torch(TABLE[name][1], theirs)
        oracle.step()
    for p, expected in zip(ours, theirs, strict=True):
        assert_close(p.data, expected.detach().numpy(), rtol, rtol)
    assert float(loss(ours)) < start


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-10), ("float32", 1e-5)])
def test_lion_equals_its_equations(decay: float, dtype: str, rtol: float) -> None:
    """Of which PyTorch has none: algorithm 2 of the paper, in float64."""
    lr, beta1, beta2 = 0.01, 0.8, 0.95
    params = variables(SHAPES, dtype=dtype)
    optimizer = optim.Lion(lr, beta1=beta1, beta2=beta2, weight_decay=decay)
    thetas = [p.astype(np.float64) for p in values(params)]
    ms = [np.zeros_like(theta) for theta in thetas]
    for step in range(30):
        grads = gradients(SHAPES, dtype=dtype, seed=100 * step)
        optimizer.update(params, grads)
        for i, g in enumerate(grads):
            c = np.sign(beta1 * ms[i] + (1 - beta1) * g.astype(np.float64))
            thetas[i] = thetas[i] - lr * (c + decay * thetas[i])
            ms[i] = beta2 * ms[i] + (1 - beta2) * g
    for p, theta in zip(params, thetas, strict=True):
        assert_close(p.data, theta.astype(dtype), rtol, rtol)


def test_centered_rmsprop_takes_a_variance_that_rounding_made_negative_as_zero() -> None:
    w = Tensor(np.ones(1000, np.float32))
    optimizer = optim.RMSprop(1e-3, rho=0.5, centered=True, epsilon=1.0)
    g = np.linspace(0.1, 10, 1000, dtype=np.float32)
    for _ in range(40):
        optimizer.update([w], [g])
    state = optimizer.state_dict()["state"][0]
    assert np.any(state["v"] - state["a"] ** 2 < 0)
    assert np.all(np.isfinite(values([w])[0]))


@every_optimizer
def test_same_on_every_device(name: str, device: Place) -> None:
    """With parameters and gradients that may be read-only or immutable; dtype and device stay."""
    dtype = double(device)
    params, reference = variables(SHAPES, device, dtype), variables(SHAPES, dtype="float64")
    ours, theirs = create(name), create(name, elementwise=False)
    for step in range(4):
        ours.update(params, gradients(SHAPES, device, dtype, seed=step))
        theirs.update(reference, gradients(SHAPES, dtype="float64", seed=step))
    for p, expected in zip(params, values(reference), strict=True):
        assert p.dtype == dtype
        assert p.device == device
        assert p.requires_grad
        assert_close(p, expected, *((1e-12, 1e-13) if dtype == "float64" else (1e-5, 1e-6)),
                     check_dtype=False)  # fmt: skip
    for state in ours.state_dict()["state"]:
        for x in state.values():
            assert xpnn.backend.device_of(x) == device


@every_optimizer
@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        *(("cpu", dtype) for dtype in ("float16", "float32", "float64")),
        ("torch:cpu", "bfloat16"),
        ("jax:cpu", "bfloat16"),
    ],
)
def test_dtype_is_kept(name: str, device: str, dtype: str) -> None:
    """Whatever the dtype of the gradient; half precision has float32 state."""
    pytest.importorskip({"cpu": "numpy"}.get(device, device.partition(":")[0]))
    host = "float32" if dtype == "bfloat16" else dtype
    arrays = [
        xpnn.asarray(make(shape, "cpu", host), device=device, dtype=dtype) for shape in SHAPES
    ]
    params = [Tensor(x) for x in arrays]
    optimizer = create(name)
    for grad_dtype in (dtype, "float32"):
        grads = [
            xpnn.asarray(g, device=device, dtype=grad_dtype) for g in gradients(SHAPES, dtype=host)
        ]
        optimizer.update(params, grads)
    assert all(p.dtype == dtype for p in params)
    state = [x.dtype for kept in optimizer.state_dict()["state"] for x in kept.values()]
    assert all(ops.isdtype(kind, "float64" if dtype == "float64" else "float32") for kind in state)


def test_half_precision_steps_that_a_half_precision_state_would_lose() -> None:
    w = Tensor(np.full(3, 0.5, np.float16))
    optimizer = optim.Adam(1e-2)
    for _ in range(10):
        optimizer.update([w], [np.full(3, 1e-5, np.float16)])  # its square underflows in float16
    assert_close(w.data, np.full(3, 0.4, np.float16), 2e-3)


# --------------------------------------------------------------------------------------- step


def test_step_uses_the_gradients_up() -> None:
    line = Line()
    ops.sum(line(np.ones((1, 2), np.float32))).backward()
    ops.sum(line(np.ones((1, 2), np.float32))).backward()  # adds to the first
    optim.SGD(0.5).step(line)
    assert values(line.parameters())[0].tolist() == [-1.0, -1.0]
    assert [p.grad for p in line.parameters()] == [None, None]


@every_optimizer
def test_minibatches_lower_the_loss(name: str) -> None:
    x = make((64, 2))
    y = x @ np.array([1.0, -2.0], np.float32) + 0.5
    larger = {
        "adadelta": 20.0,
        "adadelta-options": 2.0,
        "adagrad": 0.2,
        "adagrad-options": 0.5,
        "clip-value": 0.2,
    }
    line, optimizer = Line(), create(name, larger.get(name, 0.02))

    def loss(rows: slice = slice(None)) -> Any:
        return ops.mean((line(x[rows]) - y[rows]) ** 2)

    start = float(loss())
    for epoch in range(20):
        for batch in range(4):
            loss(slice(batch * 16, batch * 16 + 16)).backward()
            optimizer.step(line)
        assert optimizer.steps == 4 * (epoch + 1)
    assert float(loss()) < 0.7 * start


def test_frozen_parameters_stay() -> None:
    line = Line()
    line.offset.requires_grad = False
    ops.sum(line(np.ones((1, 2), np.float32))).backward()
    optim.SGD(0.5).step(line)
    assert values(line.parameters())[1] == 0.0
    assert values(line.parameters())[0].tolist() == [-0.5, -0.5]


@pytest.mark.oracle
@pytest.mark.parametrize("name", IN_TORCH)
@pytest.mark.parametrize("dtype", ["float64"])
def test_parameters_that_start_late_equal_torch(name: str, dtype: str, torch_default: Any) -> None:
    """Their bias correction, and their first velocity, start with their first gradient."""
    torch = torch_default
    ours = variables([(3,), (4,)], dtype="float64")
    theirs = [torch.tensor(value, requires_grad=True) for value in values(ours)]
    optimizer = create(name)
    oracle = torch_twin(name, theirs)
    for step in range(6):
        grads = gradients([(3,), (4,)], dtype="float64", seed=step)
        if step < 3:
            grads[1] = None
        optimizer.update(ours, grads)
        for p, g in zip(theirs, grads, strict=True):
            p.grad = None if g is None else torch.tensor(g)
        clip_like_torch(TABLE[name][1], theirs)
        oracle.step()
    for p, expected in zip(ours, theirs, strict=True):
        assert_close(p.data, expected.detach().numpy(), 1e-12)


def test_a_shared_parameter_is_updated_once() -> None:
    w, g = Tensor(np.ones(2), requires_grad=True), np.ones(2)
    ops.sum(w).backward()
    optim.SGD(0.5).step([w, w])
    assert values([w])[0].tolist() == [0.5, 0.5]
    optim.SGD(0.5).update([w, w], [g, g])
    assert values([w])[0].tolist() == [0.0, 0.0]
    with pytest.raises(ConfigError, match=r"SGD: params\[1\] is given twice, with two gradients"):
        optim.SGD(0.5).update([w, w], [g, g.copy()])


def test_lr_can_be_set() -> None:
    w = Tensor(np.ones(2))
    optimizer = optim.SGD(0.5)
    optimizer.update([w], [np.ones(2)])
    optimizer.lr = np.float64(0.25)
    optimizer.update([w], [np.ones(2)])
    assert values([w])[0].tolist() == [0.25, 0.25]


def test_dicts_are_matched_by_name() -> None:
    params = {"weight": Tensor(np.ones(2)), "bias": Tensor(np.ones(1))}
    optim.SGD(0.5).update(params, {"bias": np.ones(1), "weight": np.zeros(2)})
    assert [p.data.tolist() for p in params.values()] == [[1.0, 1.0], [0.5]]


def test_a_parameter_that_moves_takes_its_state_along(device: Place) -> None:
    w = Tensor(make((3,)), requires_grad=True)
    stay = Tensor(make((3,)), requires_grad=True)
    mover, other = optim.Adam(), optim.Adam()
    for step in range(4):
        if step == 2:
            w.data = on(device, w.data)
        mover.update([w], [xpnn.asarray(make((3,), seed=step), device=w.device)])
        other.update([stay], [make((3,), seed=step)])
    assert w.device == device
    assert_close(w, stay.data, 1e-6, check_dtype=False)


def test_momentum_that_is_switched_on_later_starts_from_zero() -> None:
    w = Tensor(np.zeros(2))
    optimizer = optim.SGD(1.0)
    optimizer.update([w], [np.ones(2)])
    optimizer.momentum = 0.5
    optimizer.update([w], [np.ones(2)])
    optimizer.update([w], [np.zeros(2)])
    assert values([w])[0].tolist() == [-2.5, -2.5]


# --------------------------------------------------------------------- configuration, mistakes


@every_optimizer
def test_config_round_trip(name: str) -> None:
    optimizer = create(name, 0.125)
    config = json.loads(json.dumps(optimizer.to_config()))
    for again in (optim.get(config), optim.Optimizer.from_config(config)):
        assert type(again) is type(optimizer)
        assert again.to_config() == config
    assert repr(optimizer).startswith(f"{type(optimizer).__name__}(lr=0.125, ")


def test_get() -> None:
    adam = optim.Adam()
    assert optim.get(adam) is adam
    assert type(optim.get("AdamW")) is optim.AdamW
    assert optim.get({"class": "sgd", "momentum": 0.5}).momentum == 0.5
    assert optim.get("adam").to_config() == optim.Adam().to_config()


def test_every_public_optimizer_is_in_the_table() -> None:
    module = importlib.import_module("xpnn.optim")
    public = {getattr(module, name) for name in module.__all__}
    public = {x for x in public if isinstance(x, type) and issubclass(x, optim.Optimizer)}
    public -= {optim.Optimizer}
    assert {cls for cls, _, _ in TABLE.values()} == public


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("adma", r"unknown optimizer 'adma'; known are AMSGrad, .*Adam, AdamW, .*SGD"),
        (None, r"unknown optimizer None; known are"),
        (optim.Adam, r"unknown optimizer <class .*>; known are .*Give an object, Adam\(\.\.\.\)"),
        ("Momentums", r"unknown optimizer 'Momentums'; known are .*SGD\.$"),
        ({"lr": 1.0}, r"unknown optimizer None"),
        (
            {"class": "SGD", "beta1": 1.0},
            r"SGD has no hyperparameter 'beta1'; it has lr",
        ),
        ({"class": "Adam", "beta1": 1.0}, r"Adam: 'beta1' must be in \[0, 1\), got 1\.0\."),
    ],
)
def test_get_refuses(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        optim.get(spec)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: optim.Adam(-1), r"Adam: 'lr' must be in \[0, inf\), got -1\."),
        (lambda: optim.Adam([xpnn.Tensor([1.0])]), "Adam: 'lr' must be .*, got parameters. They"),
        (lambda: optim.Adam(xpnn.layers.Dense(1)), r"given to a step, optimizer.step\(model\)"),
        (lambda: optim.Adam("0.1"), r"unknown schedule '0.1'; known are Constant, .*Noam, "),
        (lambda: optim.Adam([0.1, 0.2]), r"unknown schedule \[0.1, 0.2\]; known are Constant, "),
        (lambda: optim.Adam(float("nan")), r"'lr' must be in \[0, inf\), got nan\."),
        (lambda: optim.Adam(float("inf")), r"'lr' must be in \[0, inf\), got inf\."),
        (lambda: optim.Adam(None), r"'lr' must be in \[0, inf\), got None\."),
        (lambda: optim.Adam(True), r"'lr' must be in \[0, inf\), got True\."),
        (lambda: optim.Adam(beta1=1.0), r"Adam: 'beta1' must be in \[0, 1\), got 1\.0\."),
        (lambda: optim.AdamW(beta2=-0.1), r"AdamW: 'beta2' must be in \[0, 1\), got -0\.1\."),
        (lambda: optim.Adam(epsilon=-1e-8), r"'epsilon' must be in \[0, inf\), got -1e-08\."),
        (lambda: optim.Adam(weight_decay=-1), r"'weight_decay' must be in \[0, inf\), got -1\."),
        (lambda: optim.Adam(amsgrad=1), r"Adam: 'amsgrad' must be True or False, got 1\."),
        (lambda: optim.SGD(momentum=1), r"SGD: 'momentum' must be in \[0, 1\), got 1\."),
        (lambda: optim.SGD(dampening=2), r"SGD: 'dampening' must be in \[0, 1\], got 2\."),
        (lambda: optim.SGD(nesterov="no"), r"SGD: 'nesterov' must be True or False, got 'no'\."),
        (
            lambda: optim.SGD(nesterov=True),
            r"SGD: 'nesterov' needs momentum > 0 and dampening = 0, got momentum=0\.0 and",
        ),
        (
            lambda: optim.SGD(momentum=0.9, nesterov=True, dampening=0.1),
            r"got momentum=0\.9 and dampening=0\.1\.",
        ),
    ],
)
def test_hyperparameters_out_of_range(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


def test_a_stateless_parameter_may_change_its_shape() -> None:
    w, optimizer = Tensor(np.ones(3)), optim.SGD(0.5)
    for n in (3, 4, 4):
        w.data = np.ones(n)
        optimizer.update([w], [np.ones(n)])
        assert values([w])[0].tolist() == [0.5] * n


def test_a_rule_must_be_written() -> None:
    with pytest.raises(NotImplementedError, match="Optimizer has no rule"):
        optim.Optimizer(0.1).update([Tensor(np.ones(3))], [np.ones(3)])


def _reshaped() -> None:
    w = Tensor(np.ones(3))
    optimizer = optim.Adam()
    optimizer.update([w], [np.ones(3)])
    w.data = np.ones(4)
    optimizer.update([w], [np.ones(4)])


ONE = Tensor(np.ones((3, 4)))
MISTAKES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "shape": (
        lambda: optim.SGD().update([ONE, ONE.detach()], [None, np.ones((4, 3))]),
        ShapeError,
        r"SGD: params\[1\] has shape \(3, 4\), but its gradient has \(4, 3\)\.",
    ),
    "shape by name": (
        lambda: optim.SGD().update({"weight": ONE}, {"weight": np.ones(4)}),
        ShapeError,
        r"SGD: params\['weight'\] has shape \(3, 4\), but its gradient has \(4,\)\.",
    ),
    "numbers": (
        lambda: optim.SGD().update([ONE], []),
        ShapeError,
        r"SGD: got 1 parameters and 0 gradients\. Give None for a parameter that has none\.",
    ),
    "names": (
        lambda: optim.SGD().update({"w": ONE}, {"v": None}),
        ConfigError,
        r"SGD: only the parameters or only the gradients have 'v', 'w'\.",
    ),
    "one Tensor": (
        lambda: optim.SGD().update(ONE, ONE),
        DTypeError,
        r"SGD: expected a list of Tensors, got one array: write \[w\]\.",
    ),
    "raw parameter": (
        lambda: optim.SGD().update([np.ones(3)], [np.ones(3)]),
        DTypeError,
        r"SGD: params\[0\] is a numpy\.ndarray; an optimizer updates Tensors\.",
    ),
    "raw parameter in step": (
        lambda: optim.SGD().step([Tensor(1.0, requires_grad=True), np.ones(3)]),
        DTypeError,
        r"SGD: params\[1\] is a numpy\.ndarray",
    ),
    "no array": (
        lambda: optim.SGD().update([ONE], [1.0]),
        DTypeError,
        r"SGD: params\[0\] has a float for a gradient; expected an array or a Tensor\.",
    ),
    "integers": (
        lambda: optim.SGD().update([Tensor(np.ones(3, int))], [np.ones(3, int)]),
        DTypeError,
        r"SGD: params\[0\] is int64; an optimizer updates real floating-point numbers\.",
    ),
    "complex": (
        lambda: optim.SGD().update([Tensor(np.ones(3, complex))], [np.ones(3, complex)]),
        DTypeError,
        r"SGD: params\[0\] is complex128; an optimizer updates real floating-point",
    ),
    "new shape": (
        _reshaped,
        ShapeError,
        r"Adam: params\[0\] has shape \(4,\), but its state was made for shape \(3,\)\.",
    ),
    "no gradient": (
        lambda: optim.Adam().step([Tensor(1.0, requires_grad=True)]),
        GraphError,
        r"Adam\.step: none of 1 parameters has a gradient \(0 are frozen\)\. Call backward\(\)",
    ),
    "no parameters": (
        lambda: optim.Adam().step([]),
        GraphError,
        r"Adam\.step: there are no parameters\. Layers make theirs when they are first called",
    ),
    "all frozen": (
        lambda: optim.Adam().step([ONE]),
        GraphError,
        r"none of 1 parameters has a gradient \(1 are frozen\)",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_explained(what: str) -> None:
    mistake, error, message = MISTAKES[what]
    with pytest.raises(error, match=message):
        mistake()


def test_gradients_must_lie_where_the_parameters_are() -> None:
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(DeviceError, match="arrays of two libraries meet"):
        optim.SGD().update([Tensor(np.ones(2))], [strict.ones(2)])
    there = strict.ones(2, device=strict.Device("device1"))
    w, optimizer = Tensor(strict.ones(2)), optim.SGD()
    for _ in range(2):
        with pytest.raises(DeviceError, match=r"SGD: params\[0\] is on .*, but its gradient is on"):
            optimizer.update([w], [there])
        optimizer.update([w], [strict.ones(2)])
