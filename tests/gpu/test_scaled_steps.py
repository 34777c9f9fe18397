"""Steps of a scaled loss on a GPU: as few launches as others, no waits, and the same run."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from helpers import usable
from optim_table import create, every_optimizer

import xpnn
from gpu.runs import FALLING, assert_same_run
from gpu.twins import DTYPES, counted, draw, on_cuda
from xpnn import Tensor, optim
from xpnn.backend import to_numpy
from xpnn.kernels import cupy_tables
from xpnn.kernels.rules import Refused, trace
from xpnn.optim.trial import overflow

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
]
SHAPES: list[Any] = [(3,), (), (4, 5), (0, 2), (33,), (300,)]


@pytest.fixture(autouse=True)
def _on_cuda(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(cupy_tables, "_SHORT", 64)
    with xpnn.device(usable("cuda")):
        yield


# ----------------------------------------------------------------------------- whether it overflows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_an_overflow_is_found_wherever_it_is(dtype: str, bad: float) -> None:
    rng, workspace = np.random.default_rng(0), {}
    host = [draw(rng, *shape, dtype=dtype) for shape in SHAPES]
    assert not overflow([on_cuda(x) for x in host], workspace)
    for i, x in enumerate(host):
        for at in {0, x.size // 2, x.size - 1} if x.size else ():
            grads = [y.copy() for y in host]
            grads[i].reshape(-1)[at] = bad
            found = overflow([on_cuda(y) for y in grads], workspace)
            assert (found.shape, found.dtype) == ((), bool)
            assert found, (i, at)
            assert not overflow([on_cuda(y) for y in host], workspace)


def test_large_numbers_are_no_overflow_and_layouts_do_not_matter() -> None:
    x = np.full((40, 30), 3.4e38, np.float32)
    x[7, 3] = -1e-45
    there = on_cuda(x)
    assert not overflow([there.T, there[::2, 1:], there.reshape(-1)[1:]], {})
    x[8, 3] = np.nan
    there = on_cuda(x)
    assert overflow([there.T], {})
    assert not overflow([there[1::2]], {})
    assert overflow([there[::2]], {})


@counted
def test_an_overflow_is_looked_for_in_one_launch_a_dtype() -> None:
    from emulation.arrays import launches, waits

    rng, workspace = np.random.default_rng(0), {}
    grads = [on_cuda(draw(rng, n, dtype=d)) for n in range(1, 9) for d in ("float16", "float32")]
    overflow(grads, workspace)
    before = launches.count, waits.count
    overflow(grads, workspace)
    assert (launches.count, waits.count) == (before[0] + 2, before[1])


# ------------------------------------------------------------------------------------ the rule


def test_a_choice_by_a_flag_of_the_device_is_traced_and_no_other() -> None:
    import cupy

    flag = cupy.asarray(np.asarray(True))

    def rule(xp: Any, p: Any, g: Any, state: Any) -> Any:
        return xp.where(flag, p, p - g), {"m": xp.where(flag, state["m"], g)}

    kind, names = np.dtype("float32"), ("m",)
    program, constants, _ = trace(rule, names, {}, kind, cupy.ndarray)
    assert [name for name, *_ in program.code] == ["subtract", "where", "where"]
    assert len(constants) == 1
    assert constants[0] is flag
    for wrong in (np.asarray(True), True, cupy.zeros(2, bool), cupy.zeros((), np.float32)):

        def other(xp: Any, p: Any, g: Any, state: Any, wrong: Any = wrong) -> Any:
            return xp.where(wrong, p, p - g), state

        with pytest.raises(Refused):
            trace(other, names, {}, kind, cupy.ndarray)
    with pytest.raises(Refused):  # a rule of NumPy chooses by arrays of its own
        trace(rule, names, {}, kind)


# ------------------------------------------------------------------------------- a step at a time


def scaled(scaler: Any, optimizer: Any, params: Any, seed: int, bad: bool, device: str) -> None:
    """Take a step by gradients of a scale, of which the last number is infinite if ``bad``."""
    factor = float(to_numpy(scaler._scale)) if hasattr(scaler._scale, "shape") else scaler._scale
    scaler.scale(Tensor(xpnn.asarray(np.float32(1), device=device)))
    rng = np.random.default_rng(seed)
    for p in params:
        g = (rng.standard_normal(p.shape) * factor).astype(np.float32)
        if bad and p is params[-1]:
            g.reshape(-1)[-1] = np.inf
        p.grad = xpnn.asarray(g, device=device)
    scaler.step(optimizer, params)


def variables(device: str) -> list[Any]:
    rng = np.random.default_rng(7)
    host = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]
    return [Tensor(xpnn.asarray(x, device=device), requires_grad=True) for x in host]


OVERFLOWS = [False, True, False, False, True, True, False, True, False, False, False, False]


@every_optimizer
def test_a_run_with_overflows_is_that_of_the_cpu(name: str, known: str) -> None:
    runs = []
    for device in ("cuda:0", "cpu"):
        params, scaler = variables(device), optim.LossScaler(2.0**10, growth_interval=3)
        optimizer = create(name)
        optimizer.lr = FALLING
        for seed, bad in enumerate(OVERFLOWS):
            scaled(scaler, optimizer, params, seed, bad, device)
        assert scaler.skipped == 4
        runs.append((params, optimizer, scaler))
    assert_same_run(*runs, 3e-5)


def test_counts_follow_the_choice_of_the_gpu(known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is that of its count to the last bit, also while the host does not know the count."""
    for overflows in ([True], [True, True], [False, True], [True, False, True, True, False]):
        runs = []
        for bad in (overflows, [False] * overflows.count(False)):
            params, scaler = variables("cuda:0"), optim.LossScaler(1.0, backoff_factor=0.5)
            optimizer = optim.NAdam(FALLING)
            seeds = [i for i, b in enumerate(overflows) if not b or len(bad) == len(overflows)]
            for seed, b in zip(seeds, bad, strict=True):
                scaled(scaler, optimizer, params, seed, b, "cuda:0")
            for seed in range(100, 103):
                scaled(scaler, optimizer, params, seed, False, "cuda:0")
            runs.append((params, optimizer.state_dict()))
        (params, state), (twins, other) = runs
        assert state["updates"] == other["updates"]
        for x, y in zip(params, twins, strict=True):
            np.testing.assert_array_equal(to_numpy(x), to_numpy(y))


def test_parameters_that_join_and_rates_that_are_set_in_between(known: str) -> None:
    runs = []
    for device in ("cuda:0", "cpu"):
        params, scaler = variables(device), optim.LossScaler(2.0**4, growth_interval=2)
        optimizer = optim.NAdam(0.05, weight_decay=0.1)
        optimizer.add_group(params[:2], weight_decay=0.0, lr=0.01)
        for seed, bad in enumerate(OVERFLOWS):
            few = params[seed % 4 // 2 :] if seed < 8 else params
            optimizer.momentum_decay = 4e-3 if seed < 5 else 1e-2
            scaled(scaler, optimizer, few, seed, bad, device)
        runs.append((params, optimizer, scaler))
    assert_same_run(*runs, 3e-5)


def test_a_constant_that_changes_after_a_skipped_step(known: str) -> None:
    """Then the product of the constants is none of the count alone."""
    runs = []
    for device in ("cuda:0", "cpu"):
        params, scaler = variables(device), optim.LossScaler(2.0**4)
        optimizer = optim.NAdam(0.05)
        for seed, bad in enumerate([False, True, False, False]):
            optimizer.beta1 = 0.9 if seed < 2 else 0.5
            scaled(scaler, optimizer, params, seed, bad, device)
        runs.append((params, optimizer, scaler))
    assert_same_run(*runs, 3e-5)


def test_a_saved_and_a_copied_optimizer_know_what_was_skipped(known: str) -> None:
    params, optimizer, scaler = variables("cuda:0"), optim.Adam(0.1), optim.LossScaler()
    for seed, bad in enumerate([False, True, True]):
        scaled(scaler, optimizer, params, seed, bad, "cuda:0")
    assert copy.deepcopy(optimizer).steps == 1
    assert optimizer.state_dict()["updates"] == [1] * len(SHAPES)
    twin, other = optim.Adam(), optim.LossScaler()
    twin.load_state_dict(optimizer.state_dict(), params)
    other.load_state_dict(scaler.state_dict())
    scaled(other, twin, params, 4, True, "cuda:0")
    scaled(other, twin, params, 5, False, "cuda:0")
    assert (twin.state_dict()["steps"], other.state_dict()["skipped"]) == (2, 3)


def test_an_optimizer_that_the_kernel_does_not_follow_leaves_no_trace_either(known: str) -> None:
    class Odd(optim.Optimizer):
        """A rule that cannot be traced."""

        elementwise = True

        def rule(self, xp: Any, lr: float, step: int, p: Any, g: Any, state: Any) -> Any:
            return p - lr / step * xp.where(g > 0, g, -g), {}

    runs = []
    for device in ("cuda:0", "cpu"):
        params, optimizer, scaler = variables(device), Odd(0.1), optim.LossScaler()
        for seed, bad in enumerate(OVERFLOWS):
            scaled(scaler, optimizer, params, seed, bad, device)
        runs.append((params, optimizer, scaler))
    assert_same_run(*runs, 3e-5)
    del optim.hyperparameters.registry["odd"]


@counted
@pytest.mark.parametrize("options", [{}, {"clip_global_norm": 0.5}])
def test_a_step_costs_three_small_launches_more(options: Any, known: str) -> None:
    from emulation.arrays import launches, waits

    counts = {}
    for scales in (False, True):
        params, optimizer = variables("cuda:0"), optim.Adam(1e-3, **options)
        scaler, loss = optim.LossScaler(), Tensor(on_cuda(np.asarray(1.0, np.float32)))
        grads = [on_cuda(np.ones(shape, np.float32)) for shape in SHAPES]
        for _ in range(5):
            for p, g in zip(params, grads, strict=True):
                p.grad = g
            launches.reset(), waits.reset()
            if scales:
                scaler.scale(loss)
                scaler.step(optimizer, params)
            else:
                optimizer.step(params)
        counts[scales] = launches.count
        assert waits.count == 0
    assert counts[True] == counts[False] + 3  # the scaled loss, the overflow, the scale
