"""Groups of parameters with hyperparameters of their own."""

from __future__ import annotations

import copy
import functools
import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import Place, assert_close, double
from optim_table import (
    assert_same,
    clip_like_torch,
    gradients,
    torch_default,  # noqa: F401
    torch_options,
    values,
    variables,
)

import xpnn
import xpnn.kernels.numpy
from xpnn import Tensor, layers, optim
from xpnn.errors import ConfigError, DTypeError, GraphError
from xpnn.kernels import numpy_optim
from xpnn.optim import schedules

SHAPES = [(3,), (2, 2), (), (4, 1, 2), (5,)]

# class, its hyperparameters, and for parameter numbers the hyperparameters of their group.
CASES: dict[str, tuple[Any, dict[str, Any], dict[tuple[int, ...], dict[str, Any]]]] = {
    "lr": (optim.SGD, {"momentum": 0.9}, {(1, 3): {"lr": 0.5}}),
    "decay": (optim.AdamW, {"weight_decay": 0.3}, {(0, 2): {"weight_decay": 0.0}}),
    "momentum": (optim.SGD, {}, {(1,): {"momentum": 0.9, "nesterov": True}, (2,): {"lr": 0.0}}),
    "amsgrad": (optim.Adam, {"beta2": 0.5}, {(0, 1): {"amsgrad": True}, (4,): {"beta1": 0.5}}),
    "rule": (optim.RMSprop, {"rho": 0.8}, {(3,): {"centered": True, "epsilon": 0.1}}),
    "all": (optim.NAdam, {}, {(0, 1, 2, 3, 4): {"weight_decay": 0.2, "momentum_decay": 0.1}}),
    "clip alone": (
        optim.SGD,
        {"clip_global_norm": 0.5},
        {(0, 3): {"clip_global_norm": 0.1}, (1,): {"lr": 0.01}},
    ),
    "clip otherwise": (
        optim.Adagrad,
        {"clip_norm": 0.5},
        {(2, 4): {"clip_value": 0.1}, (1,): {"clip_norm": None}},
    ),
}
every_case = pytest.mark.parametrize("case", CASES)


def create(case: str, params: list[Any], lr: float = 0.05) -> Any:
    cls, options, groups = CASES[case]
    optimizer = cls(lr, **options)
    for chosen, own in groups.items():
        optimizer.add_group([params[i] for i in chosen], **own)
    return optimizer


def train(optimizer: Any, params: list[Tensor], steps: range, late: int = 0) -> None:
    """Make updates; the first parameter starts late."""
    for step in steps:
        dtype = str(params[0].data.dtype)
        grads = gradients([p.shape for p in params], dtype=dtype, seed=100 * step)
        if step < late:
            grads[0] = None
        optimizer.update(params, grads)


@pytest.mark.oracle
@every_case
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-10), ("float32", 1e-5)])
@pytest.mark.parametrize("how", ["update", "step"])
@pytest.mark.usefixtures("torch_default")
def test_equals_torch(case: str, dtype: str, rtol: float, how: str) -> None:
    torch = pytest.importorskip("torch")
    cls, options, groups = CASES[case]
    ours = variables(SHAPES, dtype=dtype)
    theirs = [torch.tensor(value, requires_grad=True) for value in values(ours)]
    optimizer = create(case, ours)
    alone = [i for chosen in groups for i in chosen]
    rest = [p for i, p in enumerate(theirs) if i not in alone]
    torch_groups: list[dict[str, Any]] = [{"params": rest}] if rest else []
    torch_groups += [
        {"params": [theirs[i] for i in chosen], **torch_options(cls, {**options, **own})}
        for chosen, own in groups.items()
    ]
    oracle = getattr(torch.optim, cls.__name__)(
        torch_groups, lr=0.05, **torch_options(cls, options)
    )
    together = dict(enumerate(theirs))
    clips: list[tuple[dict[str, Any], list[Any]]] = []
    for chosen, own in groups.items():
        if any(name.startswith("clip") for name in own):
            apart = {key: x for key, x in own.items() if x is not None}
            clips.append((apart, [together.pop(i) for i in chosen]))
    clips.append((options, list(together.values())))
    for step in range(25):
        grads = gradients(SHAPES, dtype=dtype, seed=100 * step)
        if step < 3:
            grads[0] = None
        for p, g in zip(theirs, grads, strict=True):
            p.grad = None if g is None else torch.tensor(g)
        if how == "update":
            optimizer.update(ours, grads)
        else:
            for w, g in zip(ours, grads, strict=True):
                w.grad = None if g is None else Tensor(g)
            optimizer.step(ours)
        for own, params in clips:
            clip_like_torch(own, params)
        oracle.step()
    for w, expected in zip(ours, theirs, strict=True):
        assert_close(w.data, expected.detach().numpy(), rtol, rtol)


@every_case
def test_same_on_every_device(case: str, device: Place) -> None:
    dtype = double(device)
    params, reference = variables(SHAPES, device, dtype), variables(SHAPES, dtype=dtype)
    ours, theirs = create(case, params), create(case, reference)
    for step in range(3):
        ours.update(params, gradients(SHAPES, device, dtype, seed=step))
        theirs.update(reference, gradients(SHAPES, dtype=dtype, seed=step))
    for p, expected in zip(params, reference, strict=True):
        assert p.device == device
        assert_close(p, expected.data, 1e-5, 1e-6, check_dtype=False)


# ----------------------------------------------------------------------------------- resuming


def through_state_dict(optimizer: Any, params: Any, how: str) -> Any:
    state = optimizer.state_dict()
    meta = {key: value for key, value in state.items() if key != "state"}
    state = {**json.loads(json.dumps(meta)), "state": state["state"]}
    copies = [Tensor(value) for value in values(params)]
    fresh = type(optimizer)()
    if how == "groups added before":  # as a program does that is started again
        for group in optimizer.groups:
            chosen = [i for i, p in enumerate(params) if any(p is q for q in group.params)]
            fresh.add_group([copies[i] for i in chosen], **group.hyperparameters)
    if how == "other groups before":
        fresh.add_group(copies, weight_decay=7.0)
    if how == "seen":
        train(fresh, copies, range(2))
        for p, value in zip(copies, values(params), strict=True):
            p.data = value
    fresh.load_state_dict(state, copies if how == "given" else None)
    if how != "other groups before":  # which go when it is known which parameters there are
        assert {k: v for k, v in fresh.state_dict().items() if k != "state"} == meta
    return fresh, copies


RESUMES: dict[str, Callable[..., Any]] = {
    how: functools.partial(through_state_dict, how=how)
    for how in ("given", "next", "seen", "groups added before", "other groups before")
}
RESUMES["deepcopy"] = lambda optimizer, params: copy.deepcopy((optimizer, params))
RESUMES["pickle"] = lambda optimizer, params: pickle.loads(pickle.dumps((optimizer, params)))


@every_case
@pytest.mark.parametrize("resume", RESUMES)
def test_a_resumed_run_goes_on_bit_for_bit(case: str, resume: str) -> None:
    params = variables(SHAPES)
    optimizer = create(case, params)
    train(optimizer, params, range(4), late=2)
    fresh, copies = RESUMES[resume](optimizer, params)
    train(optimizer, params, range(4, 7))
    train(fresh, copies, range(4, 7))
    assert_same(values(copies), values(params))
    ours, theirs = fresh.state_dict(), optimizer.state_dict()
    for key in ("hyperparameters", "groups", "updates", "group_of", "schedules", "steps"):
        assert ours[key] == theirs[key]
    for group, other in zip(fresh.groups, optimizer.groups, strict=True):
        assert [p.shape for p in group.params] == [p.shape for p in other.params]


def test_a_run_that_was_saved_before_its_first_update() -> None:
    """No order of the parameters is known then: the groups that were added here stay."""
    state = create("decay", variables(SHAPES)).state_dict()
    assert state["group_of"] == []
    params, others = variables(SHAPES), variables(SHAPES)
    fresh, plain = create("decay", params), create("decay", others)
    fresh.load_state_dict(state, params)
    assert [len(group.params) for group in fresh.groups] == [2]
    train(fresh, params, range(3))
    train(plain, others, range(3))
    assert_same(values(params), values(others))
    without = optim.AdamW()
    without.load_state_dict(state)
    assert without.groups == ()


def test_the_order_of_what_is_saved_is_not_that_of_the_groups() -> None:
    params = variables(SHAPES)
    optimizer = create("lr", params)
    train(optimizer, params, range(1))
    assert optimizer.state_dict()["group_of"] == [0, 1, 0, 1, 0]
    assert optimizer.state_dict()["groups"] == [{"lr": 0.5}]


# ---------------------------------------------------------------------------------- behaviour


def test_what_a_group_does_not_say_follows_the_optimizer() -> None:
    a, b = Tensor(np.zeros(1)), Tensor(np.ones(1))
    optimizer = optim.SGD(1.0)
    optimizer.add_group([b], weight_decay=0.5)
    optimizer.lr = 0.25
    optimizer.update([a, b], [np.ones(1), np.ones(1)])
    assert a.data.tolist() == [-0.25]
    assert b.data.tolist() == [1 - 0.25 * 1.5]
    optimizer.lr = halving = schedules.Step(1.0, 2, gamma=0.5)
    optimizer.update([a, b], [np.ones(1), np.zeros(1)])
    assert a.data.tolist() == [-0.25 - halving(2)]
    assert b.data.tolist() == [(1 - 0.25 * 1.5) * 0.5]


def test_a_group_may_have_a_schedule() -> None:
    a, b = Tensor(np.zeros(1)), Tensor(np.zeros(1))
    optimizer = optim.SGD(1.0)
    optimizer.add_group([b], lr=("step", {"lr": 1.0, "step_size": 1, "gamma": 0.5}))
    for _ in range(3):
        optimizer.update([a, b], [np.ones(1), np.ones(1)])
    assert (a.data.tolist(), b.data.tolist()) == ([-3.0], [-1.75])


def test_a_layer_is_a_group_of_the_parameters_it_has() -> None:
    model = xpnn.Sequential([layers.Dense(3, in_features=2), layers.Dense(1, in_features=3)])
    optimizer = optim.SGD(0.5)
    optimizer.add_group(model[1], lr=0.0)
    before = values(model.parameters())
    x = np.ones((4, 2), np.float32)
    xpnn.ops.sum(model(x)).backward()
    optimizer.step(model)
    after = values(model.parameters())
    assert [bool(np.any(a != b)) for a, b in zip(after, before, strict=True)] == [
        *(True, True),
        *(False, False),
    ]


def test_a_container_that_was_not_called_may_hold_layers_that_are_built() -> None:
    model = xpnn.Sequential([layers.Dense(3, in_features=2), layers.Dropout(0.5)])
    optimizer = optim.SGD()
    optimizer.add_group(model, weight_decay=0.1)
    assert len(optimizer.groups[0].params) == 2


def test_groups_of_equal_hyperparameters_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the kernel is called once for all of them."""
    calls = []

    def spy(rule: Any, xp: Any, params: Any, *args: Any) -> Any:
        calls.append((len(params), rule.func.__self__.weight_decay))
        return numpy_optim.elementwise_update(rule, xp, params, *args)

    monkeypatch.setattr(xpnn.kernels.numpy, "elementwise_update", spy)
    params = variables([(2,)] * 6)
    optimizer = optim.AdamW(weight_decay=0.5)
    for i in (1, 3, 4):
        optimizer.add_group([params[i]], weight_decay=0)
    assert len(optimizer.groups) == 1
    optimizer.update(params, gradients([(2,)] * 6))
    assert sorted(calls) == [(3, 0.0), (3, 0.5)]


def test_a_group_is_elementwise_if_the_optimizer_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: Any, **options: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(xpnn.kernels.numpy, "elementwise_update", forbidden)
    params = variables([(2,)])
    for elementwise in (False, True):
        optimizer = optim.Adam()
        optimizer.elementwise = elementwise
        optimizer.add_group(params, lr=0.5)
        if not elementwise:
            optimizer.update(params, gradients([(2,)]))
        else:
            with pytest.raises(AssertionError):
                optimizer.update(params, gradients([(2,)]))


def test_a_group_may_be_added_in_the_middle_of_a_run() -> None:
    params, others = variables(SHAPES), variables(SHAPES)
    optimizer, plain = optim.SGD(0.1, momentum=0.5), optim.SGD(0.1, momentum=0.5)
    train(optimizer, params, range(3))
    train(plain, others, range(3))
    optimizer.add_group(params[1:2], momentum=0.0)
    train(optimizer, params, range(3, 5))
    train(plain, others, range(3, 5))
    same = [np.array_equal(a, b) for a, b in zip(values(params), values(others), strict=True)]
    assert same == [True, False, True, True, True]
    kept = [sorted(state) for state in optimizer.state_dict()["state"]]
    assert kept == [["velocity"], [], ["velocity"], ["velocity"], ["velocity"]]


def test_groups_show_what_they_have() -> None:
    optimizer = optim.Adam()
    optimizer.add_group(variables([(2,), (3,)]), lr="noam", beta1=0.5)
    (group,) = optimizer.groups
    assert repr(group) == (
        "Group(2 parameters: lr=Noam(model_dim=512, warmup_steps=4000, scale=1.0), beta1=0.5)"
    )
    json.dumps(optimizer.state_dict()["groups"])
    assert optim.get(optimizer.to_config()).groups == ()


# ----------------------------------------------------------------------------------- mistakes

W = Tensor(np.ones(3))


def _twice() -> None:
    optimizer = optim.SGD()
    optimizer.add_group([W], lr=0.5)
    optimizer.add_group([Tensor(np.ones(2)), W], lr=0.25)


MISTAKES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "unknown": (
        lambda: optim.SGD().add_group([W], beta1=0.5),
        ConfigError,
        "SGD has no hyperparameter 'beta1'; it has lr, momentum,",
    ),
    "out of range": (
        lambda: optim.SGD().add_group([W], lr=-1),
        ConfigError,
        r"SGD: 'lr' must be in \[0, inf\), got -1\.",
    ),
    "do not go together": (
        lambda: optim.SGD().add_group([W], nesterov=True),
        ConfigError,
        "'nesterov' needs momentum > 0",
    ),
    "two ways to clip": (
        lambda: optim.SGD().add_group([W], clip_norm=1.0, clip_value=1.0),
        ConfigError,
        "SGD: give one of clip_value, clip_norm",
    ),
    "nothing given": (
        lambda: optim.SGD().add_group([W]),
        ConfigError,
        r"SGD\.add_group: give the hyperparameters of the group, such as weight_decay=0\.0",
    ),
    "no parameters": (
        lambda: optim.SGD().add_group([], lr=1.0),
        ConfigError,
        r"SGD\.add_group: got no parameters\.",
    ),
    "twice": (
        _twice,
        ConfigError,
        r"SGD\.add_group: params\[1\] is in a group already\.",
    ),
    "raw array": (
        lambda: optim.SGD().add_group([W, np.ones(3)], lr=1.0),
        DTypeError,
        r"SGD\.add_group: params\[1\] is a numpy\.ndarray; an optimizer updates Tensors\.",
    ),
    "one Tensor": (
        lambda: optim.SGD().add_group(W, lr=1.0),
        DTypeError,
        r"SGD\.add_group: expected a list of Tensors, got one array: write \[w\]\.",
    ),
    "unbuilt layer": (
        lambda: optim.SGD().add_group(layers.Dense(3), lr=1.0),
        GraphError,
        r"SGD\.add_group: Dense\(out_features=3\) has no parameters yet\. Call the model once",
    ),
    "layer that is built in part": (
        lambda: optim.SGD().add_group(
            xpnn.Sequential([layers.Dense(3, in_features=2), layers.Dense(4)]), lr=1.0
        ),
        GraphError,
        r"Dense\(out_features=4\) has no parameters yet",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_explained(what: str) -> None:
    mistake, error, message = MISTAKES[what]
    with pytest.raises(error, match=message):
        mistake()


def test_a_mistake_adds_nothing() -> None:
    optimizer = optim.SGD()
    with pytest.raises(DTypeError):
        optimizer.add_group([W, 3.0], lr=1.0)
    assert optimizer.groups == ()
