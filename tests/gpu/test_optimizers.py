"""Every optimizer on a GPU, one launch for all parameters, against the same run on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import usable
from optim_table import TABLE, create, every_optimizer

import xpnn
from gpu.twins import DTYPES, on_cuda
from xpnn import Tensor, optim
from xpnn.errors import GraphError
from xpnn.kernels import cupy_tables
from xpnn.optim.hyperparameters import registry
from xpnn.training import capture

pytestmark = pytest.mark.gpu

SHAPES: list[Any] = [(3,), (), (4, 5), (0, 2), (1, 7, 3), (33,), (2, 64), (5000,)]
BOUND = {"float64": 1e-11, "float32": 3e-5}


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    usable("cuda")
    monkeypatch.setattr(cupy_tables, "_SHORT", 64)


@pytest.fixture
def counts() -> Any:
    """Counts launches and waits, in the emulated CUDA."""
    arrays = pytest.importorskip("emulation.arrays")
    if "emulated" not in pytest.importorskip("cupy").__version__:
        pytest.skip("only the emulated CUDA counts")
    return arrays


def draws(dtype: str, seed: int, shapes: list[Any] = SHAPES) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def both(dtype: str, shapes: list[Any] = SHAPES) -> tuple[list[Tensor], list[Tensor]]:
    host = draws(dtype, 0, shapes)
    return [Tensor(on_cuda(np.array(x))) for x in host], [Tensor(np.array(x)) for x in host]


def assert_close(ours: list[Tensor], theirs: list[Tensor], bound: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        x, y = xpnn.to_numpy(a), xpnn.to_numpy(b)
        assert x.dtype == y.dtype
        wide = np.float64 if x.dtype == np.float64 else np.float32
        np.testing.assert_allclose(x.astype(wide), y.astype(wide), rtol=bound, atol=bound)


def assert_same_state(fast: Any, plain: Any, bound: float) -> None:
    for a, b in zip(fast.state_dict()["state"], plain.state_dict()["state"], strict=True):
        assert a.keys() == b.keys()
        for name, x in a.items():
            found, expected = xpnn.to_numpy(x), xpnn.to_numpy(b[name])
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=bound, atol=bound, err_msg=name)


@every_optimizer
@pytest.mark.parametrize("dtype", BOUND)
def test_the_same_run_as_on_the_cpu(name: str, dtype: str) -> None:
    ours, theirs = both(dtype)
    fast, plain = create(name), create(name)
    for step in range(7):
        grads = draws(dtype, 10 + step)
        fast.update(ours, [on_cuda(g) for g in grads])
        plain.update(theirs, grads)
    assert_close(ours, theirs, BOUND[dtype])
    assert_same_state(fast, plain, BOUND[dtype])


@pytest.mark.parametrize("name", ["sgd", "adamw", "nadam", "lion", "clip-norm", "clip-global-norm"])
@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.endswith("16")])
@pytest.mark.parametrize("gradient", ["own", "float32"])
def test_half_precision_is_computed_in_float32(name: str, dtype: str, gradient: str) -> None:
    ours, theirs = both(dtype)
    fast, plain = create(name, 0.01), create(name, 0.01)
    for step in range(4):
        grads = draws(dtype if gradient == "own" else "float32", 10 + step)
        fast.update(ours, [on_cuda(g) for g in grads])
        plain.update(theirs, grads)
    for slot in fast._slots.values():
        assert {x.dtype.name for x in slot.state.values()} <= {"float32"}
    assert_same_state(fast, plain, 2e-2 if dtype == "bfloat16" else 4e-3)
    assert_close(ours, theirs, 2e-2 if dtype == "bfloat16" else 2e-3)


def test_a_step_is_a_handful_of_launches_and_no_wait(counts: Any) -> None:
    shapes = [(n, 3) for n in range(1, 21)]
    ours, _ = both("float32", shapes)
    clipped = [{"clip_value": 0.5}, {"clip_global_norm": 0.5}]
    for options in ({}, *clipped, {"clip_global_norm": 0.5, "weight_decay": 0.1}):
        optimizer = optim.Adam(**options)
        grads = [on_cuda(g) for g in draws("float32", 1, shapes)]
        for step in range(4):
            counts.launches.reset(), counts.waits.reset()
            optimizer.update(ours, grads)
            assert counts.waits.count == 0
            # The update and its constants, the norm in two; tables only when addresses change.
            assert counts.launches.count <= (4 if step else 8)


@pytest.mark.parametrize("bound", [1, np.float32(0.5), np.float64(0.5), np.int32(1)])
def test_a_bound_of_the_norm_is_any_number(bound: Any) -> None:
    found = []
    for number in (bound, float(bound)):
        ours, _ = both("float32", [(4, 3), (5,)])
        optimizer = optim.SGD(0.5, clip_global_norm=2.0)
        optimizer.clip_global_norm = number
        optimizer.update(ours, [on_cuda(g) for g in draws("float32", 1, [(4, 3), (5,)])])
        found.append([xpnn.to_numpy(x) for x in ours])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["adam", "nadam", "amsgrad"])
def test_one_launch_for_all_parameters(name: str, counts: Any) -> None:
    shapes = [(n,) for n in range(1, 12)]
    ours, _ = both("float32", shapes)
    optimizer = create(name)
    grads = [on_cuda(g) for g in draws("float32", 1, shapes)]
    for step in range(4):
        before = counts.launches.count
        optimizer.update(ours, grads)
        if step > 1:
            assert counts.launches.count == before + 2  # and its constants


def test_arrays_that_others_see_are_not_changed() -> None:
    ours, theirs = both("float32")
    fast, plain = create("adam"), create("adam")
    for step in range(4):
        held = [w.data for w in ours[::2]]
        before = [xpnn.to_numpy(x).copy() for x in held]
        addresses = [w.data.data.ptr for w in ours]
        grads = draws("float32", step)
        fast.update(ours, [on_cuda(g) for g in grads])
        plain.update(theirs, grads)
        for x, old in zip(held, before, strict=True):
            np.testing.assert_array_equal(xpnn.to_numpy(x), old)
        for i, w in enumerate(ours):
            assert (w.data.data.ptr == addresses[i]) == (i % 2 == 1) or not w.data.size
        del held, x
    assert_close(ours, theirs, 3e-5)


def test_layouts_and_misaligned_views() -> None:
    shapes: list[Any] = [(6, 5), (40,)]
    ours, theirs = both("float32", shapes)
    fast, plain = create("adam"), create("adam")
    for step in range(3):
        grads = draws("float32", step, shapes)
        ours[0].data = ours[0].data.T.copy().T
        base = on_cuda(np.concatenate([[0], xpnn.to_numpy(ours[1])]).astype("float32"))
        ours[1].data = base[1:]
        given = [on_cuda(grads[0].T.copy()).T, on_cuda(np.repeat(grads[1], 2))[::2]]
        fast.update(ours, given)
        plain.update(theirs, grads)
    assert_close(ours, theirs, 3e-5)


def test_parameters_without_a_gradient_now_and_then() -> None:
    ours, theirs = both("float32")
    fast, plain = create("nadam"), create("nadam")
    for step in range(6):
        grads: list[Any] = draws("float32", step)
        grads[step % 3] = None
        fast.update(ours, [g if g is None else on_cuda(g) for g in grads])
        plain.update(theirs, grads)
    assert_close(ours, theirs, 3e-5)
    assert_same_state(fast, plain, 3e-5)


def test_groups_have_their_own_hyperparameters() -> None:
    ours, theirs = both("float32")
    runs = []
    for params, move in ((ours, on_cuda), (theirs, lambda x: x)):
        optimizer = optim.AdamW(0.05, clip_global_norm=1.0)
        optimizer.add_group(params[:2], weight_decay=0.0, lr=0.01)
        optimizer.add_group(params[4:5], clip_global_norm=0.1)
        for step in range(4):
            optimizer.update(params, [move(g) for g in draws("float32", step)])
        runs.append(optimizer)
    assert_close(ours, theirs, 3e-5)
    assert_same_state(*runs, 3e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["adam", "adamax", "lion", "rmsprop-centered", "clip-global-norm"])
def test_numbers_that_are_none_and_huge_ones_too(name: str) -> None:
    strange = np.resize([np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -1e-45, 1.0], 90)
    strange = strange.astype(np.float32)
    ours, theirs = [Tensor(on_cuda(strange[::-1].copy()))], [Tensor(strange[::-1].copy())]
    fast, plain = create(name), create(name)
    for shift in range(4):
        g = np.roll(strange, shift)
        fast.update(ours, [on_cuda(g)])
        plain.update(theirs, [g])
    np.testing.assert_allclose(*(xpnn.to_numpy(x[0]) for x in (ours, theirs)), rtol=1e-4)


def test_a_rule_that_cannot_be_followed_runs_as_it_is_written() -> None:
    class Own(optim.Optimizer):
        elementwise = True
        scalar_state = ("n",)

        def state_names(self) -> tuple[str, ...]:
            return ("a", "n")

        def rule(self, xp: Any, lr: float, step: int, p: Any, g: Any, state: Any) -> Any:
            n = state["n"] + 1
            a = xp.where(g > 0, state["a"] + g, state["a"])
            return p - lr * a / n, {"a": a, "n": n}

    ours, theirs = both("float32")
    fast, plain = Own(0.1), Own(0.1)
    for step in range(3):
        fast.update(ours, [on_cuda(g) for g in draws("float32", step)])
        plain.update(theirs, draws("float32", step))
    assert_close(ours, theirs, 3e-5)
    assert_same_state(fast, plain, 3e-5)
    del registry["own"]


def test_a_run_goes_on_from_its_state_on_either_side() -> None:
    for there, back in (("cuda:0", "cpu"), ("cpu", "cuda:0")):
        params = [Tensor(xpnn.asarray(x, device=there)) for x in draws("float32", 0)]
        same = [Tensor(xpnn.asarray(x, device=there)) for x in draws("float32", 0)]
        optimizer, other = create("nadam"), create("nadam")
        for step in range(4):
            device = there if step < 2 else back
            if step == 2:
                moved = create("nadam")
                params = [Tensor(xpnn.asarray(xpnn.to_numpy(p), device=back)) for p in params]
                moved.load_state_dict(optimizer.state_dict(), params)
                optimizer = moved
            grads = draws("float32", step)
            optimizer.update(params, [xpnn.asarray(g, device=device) for g in grads])
            other.update(same, [xpnn.asarray(g, device=there) for g in grads])
        assert_close(params, same, 3e-5)


# ---------------------------------------------------------------------------- recorded steps


@pytest.mark.parametrize("name", TABLE)
def test_a_recorded_step_takes_its_turn(name: str) -> None:
    """The constants, and the states that are one number, are those of each replay."""
    runs = []
    for captured in (False, True):
        params, _ = both("float32", SHAPES[:4])
        optimizer = create(name)
        optimizer.lr = ("exponential", {"lr": 0.05, "decay": 0.5, "stage_length": 2})

        def step(*grads: Any, params: Any = params, optimizer: Any = optimizer) -> None:
            optimizer.update(params, list(grads))

        run = capture(step) if captured else step
        for i in range(8):
            run(*(on_cuda(g) for g in draws("float32", i, SHAPES[:4])))
        assert optimizer.steps == 8
        runs.append((params, optimizer))
        if captured:
            assert run.recordings == (2 if "radam" in name else 1)  # which becomes adaptive
    (theirs, plain), (ours, fast) = runs
    assert_close(ours, theirs, 1e-6)
    assert_same_state(fast, plain, 1e-6)


def test_a_recorded_step_with_groups_and_a_model() -> None:
    losses = []
    for captured in (False, True):
        xpnn.set_seed(0)
        with xpnn.device("cuda"):
            model = xpnn.Sequential([xpnn.layers.Dense(5, activation="tanh"), xpnn.layers.Dense(3)])
            x, y = (
                on_cuda(np.asarray(a)) for a in (draws("float32", 0, [(6, 4)])[0], [0, 1, 2] * 2)
            )
            model(x)
            optimizer = optim.AdamW(0.05, clip_global_norm=0.1)
            optimizer.add_group([p for p in model.parameters() if p.ndim < 2], weight_decay=0.0)

            def step(x: Any, y: Any, model: Any = model, optimizer: Any = optimizer) -> Any:
                loss = xpnn.losses.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step(model)
                return loss

            run = capture(step) if captured else step
            losses.append([float(run(x, y)) for _ in range(8)])
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_a_parameter_that_somebody_else_sees_is_not_recorded() -> None:
    w = Tensor(on_cuda(np.ones(3, np.float32)))
    held = [w.data]
    optimizer = optim.Adam()

    def step(g: Any) -> None:
        held[0] = w.data
        optimizer.update([w], [g])

    run, g = capture(step, warmup=1), on_cuda(np.ones(3, np.float32))
    run(g)
    with pytest.raises(GraphError, match="is seen by somebody else"):
        run(g)
    assert optimizer.steps == 1


# ---------------------------------------------------------------------------------- clipping


@pytest.mark.parametrize("dtype", DTYPES)
def test_global_norm(dtype: str, counts: Any) -> None:
    grads = draws(dtype, 3)
    found, norm = optim.clip_by_global_norm([on_cuda(g) for g in grads], 0.5)
    expected, theirs = optim.clip_by_global_norm(grads, 0.5)
    bound = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-12}[dtype]
    assert norm.dtype == theirs.dtype
    np.testing.assert_allclose(xpnn.to_numpy(norm), theirs, rtol=bound)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            xpnn.to_numpy(a).astype("float64"), b.astype("float64"), rtol=bound, atol=bound
        )


def test_norm_of_one_gradient_and_of_none() -> None:
    for g in (np.arange(5000, dtype="float32"), np.zeros((0, 3), "float32")):
        found = optim.clip_by_norm([on_cuda(g)], 2.0)[0]
        np.testing.assert_allclose(xpnn.to_numpy(found), optim.clip_by_norm([g], 2.0)[0], rtol=1e-5)
    nothing, norm = optim.clip_by_global_norm([on_cuda(np.zeros((0, 3), "float32"))], 2.0)
    assert float(norm) == 0.0
    assert nothing[0].shape == (0, 3)
    _, norm = optim.clip_by_global_norm([on_cuda(np.asarray([1, np.nan], "float32"))], 2.0)
    assert np.isnan(float(norm))
