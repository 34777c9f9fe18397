"""Captured steps of a scaled loss: the scale grows and backs off within replays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from gpu.runs import FALLING, assert_same_run
from gpu.twins import counted
from xpnn import functional, layers, losses, optim
from xpnn.backend import to_numpy
from xpnn.errors import GraphError, NonFiniteError
from xpnn.training import capture

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def _on_cuda() -> Any:
    with xpnn.device(usable("cuda")):
        yield


def network() -> Any:
    xpnn.set_seed(1)
    return xpnn.Sequential([layers.Dense(8, activation="tanh", in_features=6),
                            layers.Dense(3, in_features=8)])  # fmt: skip


X = np.random.default_rng(0).standard_normal((14, 12, 6)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, (14, 12))
OPTIMIZERS = {
    "sgd": lambda: optim.SGD(FALLING, momentum=0.9),
    "adam": lambda: optim.Adam(FALLING),
    "nadam": lambda: optim.NAdam(FALLING),
    "radam": lambda: optim.RAdam(FALLING),
    "clipped": lambda: optim.AdamW(FALLING, clip_global_norm=0.1, weight_decay=0.1),
    "clipped values": lambda: optim.Adam(FALLING, clip_value=0.01),
    "groups": lambda: optim.Adam(FALLING, clip_global_norm=0.1),
}


def stepped(name: str, way: str, between: Any = None) -> tuple[Any, Any]:
    """Return a run of which batches 5, 6 and 10 overflow, and the function of its step.

    ``way`` is "cpu", "cuda" or "captured".
    """
    place = "cpu" if way == "cpu" else "cuda:0"
    with xpnn.device(place):
        model, optimizer = network(), OPTIMIZERS[name]()
        if name == "groups":
            biases = [p for p in model.parameters() if p.ndim < 2]
            optimizer.add_group(biases, lr=0.01, clip_value=0.1)
        scaler = optim.LossScaler(2.0**8, growth_interval=3)

        def step(x: Any, y: Any, bad: Any) -> Any:
            loss = losses.cross_entropy(model(x), y)
            scaler.scale(loss * bad).backward()
            scaler.step(optimizer, model)
            return loss

        f = capture(step) if way == "captured" else step
        for i, batch in enumerate(zip(X, Y, strict=True)):
            bad = np.float32(np.inf if i in (5, 6, 10) else 1)
            f(*(xpnn.asarray(a, device=place) for a in (*batch, bad)))
            if between is not None:
                between(i, model, optimizer, scaler, step)
    return (list(model.parameters()), optimizer, scaler), f


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_captured_steps_with_overflows_are_those_of_the_cpu(name: str, known: str) -> None:
    captured, f = stepped(name, "captured")
    plain, _ = stepped(name, "cuda")
    assert_same_run(captured, plain, 1e-6)
    assert_same_run(captured, stepped(name, "cpu")[0], 1e-4)
    assert captured[2].state_dict()["skipped"] == 3
    assert captured[2].state_dict()["scale"] == 2.0**8  # grown and halved three times
    assert f.recordings == (2 if name == "radam" else 1)


@counted
def test_a_replay_waits_for_nothing_and_launches_no_more(known: str) -> None:
    from emulation.arrays import launches, waits

    seen = []

    def look(i: int, *args: Any) -> None:
        seen.append((launches.count, waits.count))

    stepped("adam", "captured", between=look)
    replays = np.diff(seen, axis=0)[3:]
    assert not replays[:, 1].any()
    assert replays[:, 0].max() == 5  # copies: of three inputs, the constants, the result


def test_steps_that_are_not_captured_come_in_between(known: str) -> None:
    def run(way: str) -> Any:
        def between(i: int, model: Any, optimizer: Any, scaler: Any, step: Any) -> None:
            if i in (4, 5, 8):
                step(*(xpnn.asarray(a[i][:5], device=place) for a in (X, Y)), one)
            if i == 11:
                scaler.load_state_dict({**scaler.state_dict(), "scale": 64.0, "good": 1})

        place = "cpu" if way == "cpu" else "cuda:0"
        one = xpnn.asarray(np.float32(1), device=place)
        return stepped("adam", way, between=between)[0]

    assert_same_run(run("captured"), run("cpu"), 1e-4)


def test_fit_captures_steps_of_a_scaled_loss() -> None:
    x, y = X.reshape(-1, 6), Y.reshape(-1)
    runs = {}
    for captured in (False, True):
        model = network()
        model.compile("cross_entropy", optim.Adam(0.01), precision="mixed_float16")
        model.scaler = optim.LossScaler(2.0**20, growth_interval=4)
        history = model.fit(x, y, batch_size=20, epochs=4, verbose=0, capture=captured)
        runs[captured] = history["loss"], model.scaler.state_dict(), model.optimizer.state_dict()
    np.testing.assert_allclose(runs[True][0], runs[False][0], rtol=1e-4)
    assert runs[True][1] == runs[False][1]
    assert runs[True][1]["skipped"] > 0
    assert runs[True][2]["steps"] == 36 - runs[True][1]["skipped"]


def test_a_scale_that_never_helps_ends_a_captured_run(known: str) -> None:
    model, optimizer, scaler = network(), optim.SGD(0.1), optim.LossScaler()

    @capture
    def step(x: Any) -> None:
        scaler.scale(losses.mean_squared_error(model(x), model(x) * np.nan)).backward()
        scaler.step(optimizer, model)

    before = to_numpy(model.parameters()[0]).copy()
    x = xpnn.asarray(X[0], device="cuda:0")

    def train() -> None:
        for _ in range(50):
            step(x)

    with pytest.raises(NonFiniteError, match="the gradients of 40 steps on end were infinite"):
        train()
    assert (scaler.skipped, optimizer.state_dict()["steps"]) == (40, 0)
    np.testing.assert_array_equal(to_numpy(model.parameters()[0]), before)


def test_one_scaled_loss_for_two_optimizers_is_captured(known: str) -> None:
    runs = []
    for captured in (False, True):
        model, scaler = network(), optim.LossScaler(2.0**8, growth_interval=3)
        first, second = optim.Adam(0.01), optim.SGD(0.1, momentum=0.9)

        def step(x: Any, bad: Any, model: Any = model, scaler: Any = scaler,
                 first: Any = first, second: Any = second) -> None:  # fmt: skip
            scaler.scale(losses.mean_squared_error(model(x), model(x) * 0 + 1) * bad).backward()
            scaler.step(first, model[0])
            scaler.step(second, model[1])

        f = capture(step) if captured else step
        for i in range(10):
            bad = np.float32(np.nan if i == 6 else 1)
            f(*(xpnn.asarray(a, device="cuda:0") for a in (X[i], bad)))
        runs.append([(list(model.parameters()), o, scaler) for o in (first, second)])
    for ours, theirs in zip(*runs, strict=True):
        assert_same_run(ours, theirs, 1e-6)


def test_one_optimizer_takes_a_plain_and_a_scaled_step_in_a_captured_one(known: str) -> None:
    runs = []
    for captured in (False, True):
        model, optimizer = network(), optim.Adam(FALLING)
        scaler = optim.LossScaler(2.0**8, growth_interval=3)

        def step(x: Any, bad: Any, model: Any = model, optimizer: Any = optimizer,
                 scaler: Any = scaler) -> None:  # fmt: skip
            losses.mean_squared_error(model(x), x[:, 3:]).backward()
            model[0].zero_grad()
            optimizer.step(model[1])
            scaler.scale(losses.mean_squared_error(model(x), x[:, :3]) * bad).backward()
            model[1].zero_grad()
            scaler.step(optimizer, model[0])

        f = capture(step) if captured else step
        for i in range(8):
            bad = np.float32(np.inf if i == 5 else 1)
            f(*(xpnn.asarray(a, device="cuda:0") for a in (X[i], bad)))
        runs.append((list(model.parameters()), optimizer, scaler))
    assert_same_run(*runs, 1e-6)


def test_what_is_not_recorded_is_an_error_that_says_so() -> None:
    model, optimizer, scaler = network(), optim.SGD(0.1), optim.LossScaler()
    x = xpnn.asarray(X[0], device="cuda:0")

    def loss() -> Any:
        return losses.mean_squared_error(model(x), functional.tanh(model(x)))

    def twice(x: Any) -> None:
        for _ in range(2):
            scaler.scale(loss()).backward()
            scaler.step(optimizer, model)

    f = capture(twice, warmup=1)
    f(x)
    with pytest.raises(GraphError, match="SGD: in a captured step it makes no update after"):
        f(x)
    scalers = iter([optim.LossScaler(), optim.LossScaler()])

    def anew(x: Any) -> None:
        own = next(scalers)
        own.scale(loss()).backward()
        own.step(optimizer, model)

    f = capture(anew, warmup=1)
    f(x)
    with pytest.raises(GraphError, match=r"LossScaler: a captured step is its first one"):
        f(x)
