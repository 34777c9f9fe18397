"""The scale of a loss: what becomes of a step whose gradients overflow, and of the scale."""

from __future__ import annotations

import copy
import os
import pickle
from typing import Any

import numpy as np
import pytest
from helpers import make, on
from optim_table import SHAPES, create, every_optimizer, variables

import xpnn
from xpnn import layers, losses, optim
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, DataError, GraphError, NonFiniteError
from xpnn.optim import scaling

# NumPy says when numbers become infinite, or NaN, which here they are meant to.
pytestmark = [
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
]


@pytest.fixture(params=["at once", "late"])
def known(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """When it is known whether a step is skipped: late, as on a GPU, on any device."""
    if request.param == "late":
        monkeypatch.setattr(scaling, "on_host", lambda x: False)
    return request.param


def take(scaler: Any, optimizer: Any, params: Any, seed: int, device: str, bad: Any = None) -> None:
    """Take a step by random gradients, scaled; with an infinity or NaN in the last, if ``bad``."""
    scaler.scale(xpnn.Tensor(on(device, np.float32(1.0))))
    used = float(scaler._used)
    for i, p in enumerate(params):
        p.grad = make(p.shape, device, seed=100 * seed + i) * used
    if bad is not None:
        params[-1].grad = on(device, np.full(params[-1].shape, bad, "float32"))
    scaler.step(optimizer, params)
    assert all(p.grad is None for p in params)


def states(optimizer: Any) -> list[Any]:
    return [
        {name: to_numpy(x) for name, x in state.items()}
        for state in optimizer.state_dict()["state"]
    ]


def assert_equal(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    """Assert that parameters and all that the optimizer remembers are the same, bit for bit."""
    for (params, optimizer), (twins, twin) in [(one, other)]:
        a, b = optimizer.state_dict(), twin.state_dict()
        assert (a["steps"], a["updates"]) == (b["steps"], b["updates"])
        for x, y in zip(params, twins, strict=True):
            np.testing.assert_array_equal(to_numpy(x), to_numpy(y))
        for x, y in zip(states(optimizer), states(twin), strict=True):
            assert x.keys() == y.keys()
            for name in x:
                np.testing.assert_array_equal(x[name], y[name], err_msg=name)


@every_optimizer
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_skipped_step_leaves_no_trace(name: str, bad: float, device: Any, known: str) -> None:
    if device.read_only:
        pytest.skip("the arrays are the optimizer's")
    one, other = (
        (variables(SHAPES, device), create(name), optim.LossScaler(2.0**10, growth_interval=3))
        for _ in range(2)
    )
    for seed, overflows in enumerate([False, True, False, True, True, False, False]):
        take(one[2], one[1], one[0], seed, device, bad if overflows else None)
        if not overflows:
            take(other[2], other[1], other[0], seed, device)
    assert_equal(one[:2], other[:2])
    assert one[2].state_dict() == {
        "scale": 2.0**7,
        "good": 2,
        "skipped": 3,
        "on_end": 0,
        "steps": 7,
    }
    assert other[2].state_dict()["scale"] == 2.0**11


@every_optimizer
def test_a_step_is_that_of_the_unscaled_gradients(name: str, device: Any, known: str) -> None:
    if device.read_only:
        pytest.skip("the arrays are the optimizer's")
    params, twins = variables(SHAPES, device), variables(SHAPES, device)
    optimizer, twin, scaler = create(name), create(name), optim.LossScaler()
    for seed in range(3):
        take(scaler, optimizer, params, seed, device)
        for i, p in enumerate(twins):
            p.grad = make(p.shape, device, seed=100 * seed + i)
        twin.step(twins)
    for x, y in zip(params, twins, strict=True):
        np.testing.assert_allclose(to_numpy(x), to_numpy(y), rtol=2e-6, atol=1e-7)
    assert optimizer.state_dict()["updates"] == twin.state_dict()["updates"] == [3] * len(SHAPES)


def test_groups_and_schedules_count_the_steps_that_were_made(known: str) -> None:
    def run(skips: list[bool]) -> Any:
        params = variables([(3,), (2,)])
        optimizer = optim.Adam(optim.schedules.Exponential(0.1, 1, 0.5), clip_norm=1.0)
        optimizer.add_group(params[1:], lr=0.3, weight_decay=0.1)
        scaler, seed = optim.LossScaler(8.0), 0
        for skip in skips:
            take(scaler, optimizer, params, seed, "cpu", np.nan if skip else None)
            seed += not skip
        return params, optimizer

    one, other = run([True, False, True, False]), run([False, False])
    assert_equal(one, other)
    assert one[1].lr == other[1].lr


@pytest.mark.gpu
def test_nobody_waits_for_a_gpu_in_a_step() -> None:
    if not os.environ.get("XPNN_EMULATE_CUDA"):
        pytest.skip("counts the waits of an emulated GPU")
    from emulation.arrays import waits

    params = variables([(3,), (2, 2)], "cuda:0")
    optimizer, scaler = optim.Adam(clip_global_norm=1.0), optim.LossScaler(4.0, growth_interval=2)
    loss = xpnn.Tensor(on("cuda:0", np.float32(1.0)))
    seen = []
    for step in range(6):
        for i, p in enumerate(params):
            p.grad = make(p.shape, "cuda:0", seed=i)
        if step == 3:
            params[0].grad = on("cuda:0", np.full(3, np.inf, "float32"))
        before = waits.count
        scaler.scale(loss)
        scaler.step(optimizer, params)
        seen.append(waits.count - before)
    assert seen == [0] * 6
    assert scaler.state_dict() == {"scale": 8.0, "good": 0, "skipped": 1, "on_end": 0, "steps": 6}


# ----------------------------------------------------------------------------------- the scale


def test_the_scale_grows_and_shrinks(known: str) -> None:
    params, optimizer = variables([(2,)]), optim.SGD(0.1)
    scaler = optim.LossScaler(16.0, growth_factor=4.0, backoff_factor=0.25, growth_interval=2)
    found = []
    for step in range(7):
        take(scaler, optimizer, params, step, "cpu", np.inf if step in (2, 5) else None)
        found.append(scaler.state_dict()["scale"])
    assert found == [16.0, 64.0, 16.0, 16.0, 64.0, 16.0, 16.0]


def test_the_scale_does_not_grow_beyond_what_float32_holds() -> None:
    params, optimizer = variables([(2,)]), optim.SGD(0.1)
    scaler = optim.LossScaler(2.0**31, growth_interval=1)
    for step in range(3):
        take(scaler, optimizer, params, step, "cpu")
    assert scaler.state_dict()["scale"] == 2.0**32


def test_a_scale_that_never_helps_is_an_error(known: str) -> None:
    params, optimizer, scaler = variables([(2,)]), optim.SGD(0.1), optim.LossScaler()

    def train() -> None:
        for step in range(42):
            take(scaler, optimizer, params, step, "cpu", np.nan)

    with pytest.raises(NonFiniteError, match="the gradients of 40 steps on end were infinite"):
        train()
    assert scaler.skipped == 40
    assert optimizer.state_dict()["steps"] == 0


def test_one_loss_may_serve_several_optimizers(known: str) -> None:
    a, b = variables([(2,), (2,)])
    scaler = optim.LossScaler(4.0, growth_interval=1)
    scaler.scale(xpnn.ops.sum(a * b)).backward()
    grads = to_numpy(b.data).copy(), to_numpy(a.data).copy()
    before = to_numpy(a).copy(), to_numpy(b).copy()
    scaler.step(optim.SGD(1.0), [a])  # after which the scale is another one
    scaler.step(optim.SGD(1.0), [b])
    for p, old, g in zip((a, b), before, grads, strict=True):
        np.testing.assert_allclose(to_numpy(p), old - g, rtol=1e-6)


# -------------------------------------------------------------------------------- a whole loop


def test_small_gradients_arrive_and_large_ones_are_found_out(device: Any) -> None:
    if device.startswith("strict"):
        pytest.skip("the standard has no float16")
    w = xpnn.Tensor(on(device, np.full((2, 2), 1e-3, "float32")), requires_grad=True)
    x = on(device, np.full((1, 2), 1e-3, "float32"))

    def gradient(scaler: Any) -> Any:
        with xpnn.autocast("float16"):
            loss = xpnn.ops.sum(xpnn.functional.linear(x, w, None)) * 1e-7
        (loss if scaler is None else scaler.scale(loss)).backward()
        g, w.grad = to_numpy(w.grad), None
        return g

    assert not gradient(None).any()
    np.testing.assert_allclose(gradient(optim.LossScaler()) / 2**16, 1e-10, rtol=2e-3)


def test_a_loop_recovers_from_a_scale_that_is_too_large(known: str) -> None:
    xpnn.set_seed(0)
    x = make((64, 3))
    y = x @ make((3, 1), seed=1)
    net = xpnn.Sequential([layers.Dense(16, activation="tanh"), layers.Dense(1)])
    optimizer, scaler = optim.Adam(0.02), optim.LossScaler(2.0**24)
    net(x)
    before = [to_numpy(p).copy() for p in net.parameters()]
    for step in range(200):
        with xpnn.autocast("float16"):
            loss = losses.mean_squared_error(net(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer, net)
        if step == 0:
            for p, old in zip(net.parameters(), before, strict=True):
                np.testing.assert_array_equal(to_numpy(p), old)
    assert scaler.state_dict()["skipped"] > 1
    assert optimizer.state_dict()["steps"] == 200 - scaler.skipped
    assert float(loss) < 0.01


# -------------------------------------------------------------------------------------- errors


def test_a_step_needs_a_scaled_loss() -> None:
    with pytest.raises(GraphError, match=r"no loss was scaled. Call scaler\.scale\(loss\)"):
        optim.LossScaler().step(optim.SGD(0.1), variables([(2,)]))
    scaler = optim.LossScaler()
    scaler.scale(xpnn.Tensor(1.0))
    with pytest.raises(GraphError, match="none of 1 parameters has a gradient"):
        scaler.step(optim.SGD(0.1), variables([(2,)]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init_scale": 0}, "'init_scale' must be"),
        ({"growth_factor": 1.0}, "'growth_factor' must be"),
        ({"backoff_factor": 1.0}, "'backoff_factor' must be"),
        ({"growth_interval": 0}, "'growth_interval' must be at least 1, got 0"),
        ({"growth_interval": 2.5}, r"'growth_interval' must be at least 1, got 2\.5"),
    ],
)
def test_bad_arguments_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"LossScaler: {message}"):
        optim.LossScaler(**options)


def test_state_comes_back() -> None:
    params, optimizer = variables([(2,)]), optim.SGD(0.1)
    scaler = optim.LossScaler(64.0, growth_interval=5)
    for step in range(4):
        take(scaler, optimizer, params, step, "cpu", np.inf if step == 1 else None)
    state = scaler.state_dict()
    assert state == {"scale": 32.0, "good": 2, "skipped": 1, "on_end": 0, "steps": 4}
    other = optim.LossScaler(growth_interval=5)
    other.load_state_dict(state)
    for twin in (other, copy.deepcopy(scaler), pickle.loads(pickle.dumps(scaler))):
        assert twin.state_dict() == state
        for step in range(3):
            take(twin, optimizer, params, step, "cpu")
        assert twin.state_dict()["scale"] == 64.0
    assert repr(scaler).startswith("LossScaler(init_scale=64.0, growth_factor=2.0,")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 0.0}, r"0\.0 is no scale"),
        ({"scale": 3}, "3 is no scale"),
        ({"good": -1}, "-1 is no count of steps"),
        ({"more": 1}, "expected scale, good, skipped, on_end, steps, got"),
    ],
)
def test_bad_state_is_refused(change: Any, message: str) -> None:
    scaler = optim.LossScaler()
    before = scaler.state_dict()
    with pytest.raises(DataError, match=message):
        scaler.load_state_dict({**before, **change})
    assert scaler.state_dict() == before


def test_an_optimizer_that_is_copied_knows_what_was_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scaling, "on_host", lambda x: False)
    params, optimizer, scaler = variables([(2,)]), optim.Adam(), optim.LossScaler()
    take(scaler, optimizer, params, 0, "cpu", np.inf)
    assert optimizer.steps == 1
    assert copy.deepcopy(optimizer).steps == optimizer.steps == 0
