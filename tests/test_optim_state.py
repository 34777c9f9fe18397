"""Optimizers that are saved, loaded and copied go on as if nothing had happened."""

from __future__ import annotations

import copy
import functools
import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import Place, assert_close, on
from optim_table import (
    SHAPES,
    Line,
    assert_same,
    create,
    every_optimizer,
    gradients,
    values,
    variables,
)

from xpnn import Tensor, ops, optim
from xpnn.errors import ConfigError, DataError


def train(optimizer: Any, params: list[Tensor], steps: range) -> None:
    for step in steps:
        optimizer.update(params, gradients([p.shape for p in params], seed=1000 * step))


CHECKPOINT_SHAPES = [(5,), (), (190, 190), (3, 4)]


def through_state_dict(optimizer: Any, params: list[Tensor], how: str) -> tuple[Any, list[Tensor]]:
    """Return optimizer and parameters of a run that was saved and taken up again."""
    state = optimizer.state_dict()
    meta = {key: value for key, value in state.items() if key != "state"}
    state = {**json.loads(json.dumps(meta)), "state": state["state"]}
    fresh = type(optimizer)()
    copies = [Tensor(value) for value in values(params)]
    if how == "given":
        fresh.load_state_dict(state, copies)
    elif how == "next":
        fresh.load_state_dict(state)
        assert fresh.state_dict()["updates"] == state["updates"]
    else:
        train(fresh, copies, range(2))
        for p, value in zip(copies, values(params), strict=True):
            p.data = value
        fresh.load_state_dict(state)
    return fresh, copies


def through_deepcopy(optimizer: Any, params: list[Tensor]) -> tuple[Any, list[Tensor]]:
    return copy.deepcopy((optimizer, params))


def through_pickle(optimizer: Any, params: list[Tensor]) -> tuple[Any, list[Tensor]]:
    return pickle.loads(pickle.dumps((optimizer, params)))


RESUMES: dict[str, Callable[..., Any]] = {
    how: functools.partial(through_state_dict, how=how) for how in ("given", "next", "seen")
}
RESUMES |= {"deepcopy": through_deepcopy, "pickle": through_pickle}


@every_optimizer
@pytest.mark.parametrize("resume", RESUMES)
def test_a_resumed_run_goes_on_bit_for_bit(name: str, resume: str) -> None:
    params = variables(CHECKPOINT_SHAPES)
    optimizer = create(name)
    train(optimizer, params, range(3))
    fresh, copies = RESUMES[resume](optimizer, params)
    train(optimizer, params, range(3, 6))  # does not disturb what was saved
    train(fresh, copies, range(3, 6))
    assert_same(values(copies), values(params))
    assert fresh.to_config() == optimizer.to_config()
    assert fresh.steps == optimizer.steps == 6


def test_the_order_is_that_of_the_model_also_for_frozen_parameters() -> None:
    line = Line()
    line.slope.requires_grad = False
    optimizer = optim.Adam()
    ops.sum(line(np.ones((1, 2), np.float32))).backward()
    optimizer.step(line)
    state = optimizer.state_dict()
    assert state["updates"] == [0, 1]
    assert [sorted(kept) for kept in state["state"]] == [[], ["m", "v"]]
    fresh = optim.Adam()
    fresh.load_state_dict(state, line)
    line.slope.requires_grad = True
    ops.sum(line(np.ones((1, 2), np.float32))).backward()
    fresh.step(line)
    assert fresh.state_dict()["updates"] == [1, 2]


@every_optimizer
def test_state_can_be_loaded_on_another_device(name: str, device: Place) -> None:
    params = variables(SHAPES)
    optimizer = create(name)
    train(optimizer, params, range(2))
    moved = [Tensor(on(device, value)) for value in values(params)]
    fresh = type(optimizer)()
    fresh.load_state_dict(optimizer.state_dict(), moved)
    fresh.update(moved, gradients(SHAPES, device))
    optimizer.update(params, gradients(SHAPES))
    for p, expected in zip(moved, params, strict=True):
        assert p.device == device
        assert_close(p, expected.data, 1e-5, 1e-6, check_dtype=False)


def good_state() -> dict[str, Any]:
    optimizer = optim.Adam()
    optimizer.update(variables([(2,), (3,)]), gradients([(2,), (3,)]))
    return optimizer.state_dict()


def edited(**changes: Any) -> dict[str, Any]:
    return {**good_state(), **changes}


def _without_v() -> dict[str, Any]:
    state = good_state()
    state["state"][1] = {"m": np.zeros(3), "w": np.zeros(3)}
    return state


def _wrong_shape() -> dict[str, Any]:
    state = good_state()
    state["state"][1]["v"] = np.zeros(4)
    return state


BROKEN: dict[str, tuple[Callable[[], dict[str, Any]], type[Exception], str]] = {
    "missing key": (
        lambda: {k: v for k, v in good_state().items() if k != "updates"},
        DataError,
        r"Adam.load_state_dict: missing 'updates'\.",
    ),
    "unexpected key": (lambda: edited(junk=1), DataError, "unexpected 'junk'"),
    "class": (lambda: edited(**{"class": "SGD"}), DataError, "it is the state of SGD"),
    "hyperparameter": (
        lambda: edited(hyperparameters={"rho": 0.1}),
        ConfigError,
        "Adam has no hyperparameter 'rho'; it has lr, beta1, beta2, epsilon,",
    ),
    "names": (_without_v, DataError, r"missing state\[1\]\['v'\]; unexpected state\[1\]\['w'\]"),
    "shape": (_wrong_shape, DataError, r"state\[1\]\['v'\]: expected shape \(3,\), got \(4,\)"),
    "counts": (lambda: edited(updates=[1]), DataError, "1 counts and 2 groups of 2 parameters"),
    "groups": (lambda: edited(group_of=[0, 1]), DataError, "there is no group 1"),
    "schedules": (lambda: edited(schedules=[]), DataError, "0 schedules of 0 groups and one"),
    "no schedule": (
        lambda: edited(schedules=[{"best": 1.0}]),
        DataError,
        r"unexpected best of a learning rate 0\.001",
    ),
    "other schedule": (
        lambda: edited(
            hyperparameters={"lr": {"class": "King"}}, schedules=[{"current": 1.0, "bad": 0}]
        ),
        DataError,
        r"King\.load_state_dict: expected current, losses, waiting; missing or unexpected: bad,",
    ),
    "number": (
        lambda: edited(updates=[1], group_of=[0], state=good_state()["state"][:1]),
        DataError,
        "it holds 1 parameters, here are 2",
    ),
    "empty": (
        lambda: edited(state=[{}, {}]),
        DataError,
        r"missing state\[0\]\['m'\]; missing state\[0\]\['v'\]",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("seen", [True, False])
def test_a_state_that_does_not_fit_is_refused_whole(what: str, seen: bool) -> None:
    broken, error, message = BROKEN[what]
    params = variables([(2,), (3,)])
    optimizer = optim.Adam(0.5)
    if seen:
        train(optimizer, params, range(2))
    before = optimizer.state_dict()
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(broken(), None if seen else params)
    after = optimizer.state_dict()
    assert after["hyperparameters"] == before["hyperparameters"]
    assert after["updates"] == before["updates"]
    assert after["steps"] == before["steps"]


def test_a_state_that_does_not_fit_the_next_update_is_refused_then() -> None:
    optimizer = optim.Adam()
    optimizer.load_state_dict(good_state())
    with pytest.raises(DataError, match="it holds 2 parameters, here are 1"):
        optimizer.update(variables([(2,)]), gradients([(2,)]))
    params = variables([(2,), (3,)])
    optimizer.update(params, gradients([(2,), (3,)]))
    assert optimizer.state_dict()["updates"] == [2, 2]
