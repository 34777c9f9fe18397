"""Schedules: their formulas, PyTorch's where it has them; in optimizers, and in fit."""

from __future__ import annotations

import importlib
import json
import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers import Place, make, on
from optim_table import assert_same, gradients, values, variables

import xpnn
from xpnn import Tensor, layers, optim
from xpnn.errors import ConfigError, DataError
from xpnn.optim import schedules
from xpnn.optim.schedules.by_loss import steps_without_decrease

EVERY: dict[str, schedules.Schedule] = {
    "constant": schedules.Constant(0.25),
    "step": schedules.Step(0.5, step_size=7, gamma=0.3),
    "exponential": schedules.Exponential(0.5, stage_length=7, decay=0.3),
    "staircase": schedules.Exponential(0.5, stage_length=7, decay=0.3, staircase=True),
    "noam": schedules.Noam(model_dim=64, warmup_steps=10, scale=0.5),
    "cosine": schedules.CosineWarmup(0.5, total_steps=30, warmup_steps=6, final=0.01),
    "one cycle": schedules.OneCycle(0.5, total_steps=30),
    "linear cycle": schedules.OneCycle(
        0.5, 31, pct_start=0.25, anneal_strategy="linear", div_factor=5, final_div_factor=10
    ),
    "three phases": schedules.OneCycle(0.5, 40, three_phase=True),
    "plateau": schedules.ReduceOnPlateau(0.5, patience=2, factor=0.3),
    "king": schedules.King(0.5, patience=4, decay=0.9, every=3),
}
every_schedule = pytest.mark.parametrize("name", EVERY)


def fresh(name: str) -> Any:
    return schedules.get(EVERY[name].to_config())


# ------------------------------------------------------------------------------- the formulas


def torch_rates(make: Callable[[Any, Any], Any], steps: int) -> Iterator[float]:
    """Yield the rates that PyTorch's optimizer has at its steps."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    for _ in range(steps):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()


IN_TORCH: dict[str, Callable[[Any, Any], Any]] = {
    "step": lambda torch, o: torch.StepLR(o, 7, gamma=0.3),
    "one cycle": lambda torch, o: torch.OneCycleLR(o, 0.5, total_steps=30, cycle_momentum=False),
    "linear cycle": lambda torch, o: torch.OneCycleLR(
        o, 0.5, total_steps=31, pct_start=0.25, anneal_strategy="linear", cycle_momentum=False,
        div_factor=5, final_div_factor=10,
    ),
    "three phases": lambda torch, o: torch.OneCycleLR(
        o, 0.5, total_steps=40, three_phase=True, cycle_momentum=False
    ),
}  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize("name", IN_TORCH)
def test_equals_torch(name: str) -> None:
    for step, rate in enumerate(torch_rates(IN_TORCH[name], 30), 1):
        assert EVERY[name](step) == pytest.approx(rate, rel=1e-10), f"step {step}"


@pytest.mark.oracle
@pytest.mark.parametrize("pct_start", [0.04, 0.1, 0.2, 0.499])
@pytest.mark.parametrize("three_phase", [False, True])
def test_one_cycle_equals_torch_where_a_phase_is_short(pct_start: float, three_phase: bool) -> None:
    """In 20 steps: shorter than a step, or between steps; PyTorch divides by zero at 0.05."""

    def oracle(torch: Any, o: Any) -> Any:
        return torch.OneCycleLR(
            o, 0.5, total_steps=20, pct_start=pct_start, three_phase=three_phase,
            cycle_momentum=False,
        )  # fmt: skip

    schedule = schedules.OneCycle(0.5, 20, pct_start=pct_start, three_phase=three_phase)
    for step, rate in enumerate(torch_rates(oracle, 20), 1):
        assert schedule(step) == pytest.approx(rate, rel=1e-10), f"step {step}"
    assert schedules.OneCycle(0.5, 20, pct_start=0.05)(1) == 0.5


@pytest.mark.oracle
def test_the_exponential_is_torchs_from_its_step_0() -> None:
    rates = torch_rates(lambda torch, o: torch.ExponentialLR(o, gamma=0.3 ** (1 / 7)), 20)
    for step, rate in enumerate(rates):
        assert EVERY["exponential"](step) == pytest.approx(rate, rel=1e-10)


@pytest.mark.oracle
def test_the_cosine_is_torchs_after_the_warmup() -> None:
    rates = torch_rates(lambda torch, o: torch.CosineAnnealingLR(o, T_max=24, eta_min=0.01), 25)
    for step, rate in enumerate(rates, 6):
        assert EVERY["cosine"](step) == pytest.approx(rate, rel=1e-10)


def test_noam_has_the_published_values() -> None:
    noam = schedules.Noam()
    assert [float(f"{noam(step):.6e}") for step in (1, 4000, 40000)] == [
        *(1.746928e-7, 6.987712e-4, 2.209709e-4),
    ]
    assert schedules.Noam(scale=3)(100) == pytest.approx(3 * noam(100), rel=1e-15)


def test_the_rest_have_their_formulas() -> None:
    for step in range(1, 100):
        assert EVERY["constant"](step) == 0.25
        assert EVERY["staircase"](step) == 0.5 * 0.3 ** (step // 7)
        warm, after = 0.5 * step / 6, step >= 30
        assert step > 6 or EVERY["cosine"](step) == pytest.approx(warm, rel=1e-15)
        assert not after or EVERY["cosine"](step) == 0.01
        assert not after or EVERY["one cycle"](step) == pytest.approx(2e-6, rel=1e-10)
    assert schedules.CosineWarmup(0.5, 10)(1) < 0.5  # no warm-up: on the cosine at once


# ------------------------------------------------------------------------------------- plateau

PLATEAUS: dict[str, dict[str, Any]] = {
    "default": {"patience": 2},
    "max": {"mode": "max", "patience": 1, "factor": 0.5},
    "abs": {"threshold_mode": "abs", "threshold": 0.3, "patience": 1, "factor": 0.7},
    "max abs": {"mode": "max", "threshold_mode": "abs", "threshold": 0.3, "patience": 0},
    "max rel": {"mode": "max", "threshold": 0.2, "patience": 1, "factor": 0.5},
    "cooldown": {"cooldown": 3, "patience": 1, "factor": 0.5},
    "floor": {"patience": 0, "factor": 0.1, "min_lr": 1e-3},
    "epsilon": {"patience": 0, "factor": 0.5, "epsilon": 0.05},
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", PLATEAUS)
@pytest.mark.parametrize("what", ["noise", "falling", "negative", "nan"])
def test_reduce_on_plateau_equals_torch(name: str, what: str) -> None:
    torch = pytest.importorskip("torch")
    options = PLATEAUS[name]
    noise = make((60,), dtype="float64")
    losses = {
        "noise": noise,
        "falling": 1 / np.arange(1, 61) + 0.01 * noise,
        "negative": -np.arange(60) + 10 * noise,
        "nan": np.where(noise > 1, np.nan, noise),
    }[what]
    oracle = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    theirs = {{"epsilon": "eps"}.get(key, key): value for key, value in options.items()}
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(oracle, **theirs)
    schedule = schedules.ReduceOnPlateau(0.5, **options)
    for step, loss in enumerate(losses):
        schedule.observe(float(loss))
        scheduler.step(float(loss))
        assert schedule(step) == oracle.param_groups[0]["lr"]
    assert schedule(1) < 0.5 or what == "falling"


# ---------------------------------------------------------------------------------------- King


def probability_of_decrease(times: Any, losses: Any) -> float:
    """Of the slope of the least-squares line: straight from the textbook."""
    design = np.stack([np.ones(len(times)), times], axis=1)
    coefficients, *_ = np.linalg.lstsq(design, losses, rcond=None)
    residuals = losses - design @ coefficients
    covariance = residuals @ residuals / (len(times) - 2) * np.linalg.inv(design.T @ design)
    return statistics.NormalDist(coefficients[1], math.sqrt(covariance[1, 1])).cdf(0.0)


def brute_force(losses: Any, without: float = 0.0) -> int:
    """``steps_without_decrease``, a fit for every length."""
    n = len(losses)
    times, kept = np.arange(n, dtype=float), np.asarray(losses)
    allowed = kept <= np.sort(kept)[int((1 - without) * (n - 1))]
    count = 0
    for j in range(1, n + 1):
        chosen = allowed[n - j :]
        if chosen.sum() < 3:
            continue
        if probability_of_decrease(times[n - j :][chosen], kept[n - j :][chosen]) < 0.51:
            count = j
    return count


CURVES: dict[str, Any] = {
    "noise": make((60,), dtype="float64"),
    "falls and stays": np.concatenate([np.linspace(9, 1, 30), np.ones(30)])
    + 0.1 * make((60,), dtype="float64", seed=2),
    "falls": np.linspace(9, 1, 60) + 0.5 * make((60,), dtype="float64", seed=3),
    "rises": np.linspace(1, 2, 60) + 0.1 * make((60,), dtype="float64", seed=4),
    "outliers": 1 / np.arange(1, 61) + 50 * (np.arange(60) % 17 == 16),
    "far from zero": 1e6 + np.linspace(1, 0, 60) ** 2 + make((60,), dtype="float64", seed=5),
}


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("without", [0.0, 0.1, 0.5])
def test_steps_without_decrease_are_counted_as_by_single_fits(name: str, without: float) -> None:
    for n in (2, 3, 4, 11, 37, 60):
        losses = list(CURVES[name][:n])
        assert steps_without_decrease(losses, without) == brute_force(losses, without)


def test_steps_without_decrease_of_exact_lines() -> None:
    assert steps_without_decrease([0.1] * 20) == 20  # a slope of 0, without error
    assert steps_without_decrease([0.1] * 20, 0.1) == 20
    assert steps_without_decrease([0.3 * i for i in range(20)]) == 20
    assert steps_without_decrease([-0.3 * i for i in range(20)]) == 0
    assert steps_without_decrease([1.0, 2.0]) == 0
    assert steps_without_decrease([]) == 0
    assert steps_without_decrease([1.0, math.nan, 1.0, 1.0, math.inf]) == 0


@pytest.mark.parametrize("name", CURVES)
def test_king_follows_its_rule(name: str) -> None:
    patience, decay, rate, seen = 12, 0.8, 0.5, []
    king = schedules.King(0.5, patience=patience, decay=decay, every=1)
    for step, loss in enumerate(CURVES[name]):
        king.observe(float(loss))
        seen = [*seen, float(loss)][-15:]  # 1.1 * (12 + 1), rounded up
        if len(seen) > patience and all(brute_force(seen, w) > patience for w in (0.0, 0.1)):
            rate *= decay
        assert king(step) == rate
    assert (rate < 0.5) is (name not in ("falls", "outliers"))


def test_king_lowers_the_rate_of_a_flat_loss_and_not_of_a_falling_one() -> None:
    flat, falling = (schedules.King(0.1, patience=50, decay=0.99) for _ in range(2))
    for step in range(400):
        flat.observe(1.0)
        falling.observe(1 / (step + 1))
    assert falling(400) == 0.1
    assert flat(400) == pytest.approx(0.1 * 0.99 ** (400 - 50), rel=1e-12)


def test_an_outlier_does_not_lower_the_rate() -> None:
    """A high loss at the end makes the slope positive; without it the losses fall."""
    king = schedules.King(0.1, patience=20, decay=0.5, every=1)
    losses = [*np.linspace(2, 1, 24).tolist(), 100.0]
    assert steps_without_decrease(losses[-24:]) > 20
    for loss in losses:
        king.observe(loss)
    assert king(25) == 0.1


def test_king_reads_losses_together(device: Place) -> None:
    king = schedules.King(0.5, patience=2, decay=0.5, every=4)
    for i in range(8):
        king.observe(on(device, np.asarray(1.0, np.float32)))
        assert len(king.losses) == min(4 * ((i + 1) // 4), 4)
        assert king(i) == {0: 0.5, 1: 0.5**3, 2: 0.5**7}[(i + 1) // 4]
    assert king.losses == [1.0] * 4


def test_king_keeps_losses_on_the_device_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    strict = pytest.importorskip("array_api_strict")
    reads = []
    array = type(strict.ones(1))
    to_float = array.__float__
    monkeypatch.setattr(array, "__float__", lambda self: reads.append(1) or to_float(self))
    optimizer = optim.SGD(schedules.King(every=5))
    for _ in range(4):
        optimizer.observe(Tensor(strict.asarray(1.0)))
    assert reads == []
    optimizer.observe(Tensor(strict.asarray([[1.0]])))
    assert len(reads) == 5


# -------------------------------------------------------------------------------- by name


@every_schedule
def test_config_round_trip(name: str) -> None:
    config = json.loads(json.dumps(EVERY[name].to_config()))
    again = schedules.get(config)
    assert again == EVERY[name]
    assert again.to_config() == config
    assert [again(step) for step in range(1, 50)] == [EVERY[name](step) for step in range(1, 50)]
    assert repr(again).startswith(f"{type(again).__name__}(")
    assert schedules.get(again) is again
    assert again != schedules.Constant(0.125)


def test_get() -> None:
    assert schedules.get("noam") == schedules.Noam()
    assert schedules.get("reduce_on_plateau") == schedules.ReduceOnPlateau()
    assert schedules.get("King") == schedules.King()
    assert schedules.get(0.5) == schedules.Constant(0.5)
    assert schedules.get(("one_cycle", {"lr": 1, "total_steps": 9})) == schedules.OneCycle(1, 9)
    assert schedules.get(["exponential", {"stage_length": 10}])(10) == pytest.approx(1e-3)


def test_every_public_schedule_is_in_the_table() -> None:
    module = importlib.import_module("xpnn.optim.schedules")
    public = {getattr(module, name) for name in module.__all__}
    public -= {schedules.Schedule, schedules.get}
    assert {type(schedule) for schedule in EVERY.values()} == public


def test_optimizers_by_name_with_schedules() -> None:
    optimizer = optim.get(("sgd", {"lr": ("step", {"lr": 1.0, "step_size": 2}), "momentum": 0.5}))
    assert optimizer.schedule == schedules.Step(1.0, 2)
    assert optim.get(json.loads(json.dumps(optimizer.to_config()))).schedule == optimizer.schedule
    assert repr(optim.Lion("noam")).startswith("Lion(lr=Noam(model_dim=512, warmup_steps=4000, ")


def test_a_schedule_of_ones_own() -> None:
    class Sawtooth(schedules.Schedule):
        def __init__(self, lr: float, period: int = 3) -> None:
            self.lr, self.period = lr, period

        def __call__(self, step: int) -> float:
            return self.lr * (step % self.period)

    optimizer = optim.SGD(Sawtooth(1.0))
    config = json.loads(json.dumps(optimizer.to_config()))
    assert config["lr"] == {"class": "Sawtooth", "lr": 1.0, "period": 3}
    assert optim.get(config).schedule == Sawtooth(1.0)
    with pytest.raises(NotImplementedError, match=r"Bare has no __call__"):
        type("Bare", (schedules.Schedule,), {})()(1)


MISTAKES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "name": (
        lambda: schedules.get("cosin"),
        ConfigError,
        "unknown schedule 'cosin'; known are .*Constant, CosineWarmup, Exponential, ",
    ),
    "argument": (
        lambda: schedules.get(("noam", {"lr": 1.0})),
        ConfigError,
        "Noam has no argument 'lr'; it has model_dim, warmup_steps, scale",
    ),
    "missing": (
        lambda: optim.SGD("step"),
        ConfigError,
        "Step: missing a required argument: 'lr'",
    ),
    "lr": (
        lambda: schedules.Exponential(-1),
        ConfigError,
        r"Exponential: 'lr' must be in \[0, inf\), got -1\.",
    ),
    "whole": (
        lambda: schedules.Step(1.0, 2.5),  # type: ignore[arg-type]
        ConfigError,
        r"Step: 'step_size' must be a whole number >= 1, got 2\.5\.",
    ),
    "not one": (
        lambda: schedules.Noam(warmup_steps=0),
        ConfigError,
        r"Noam: 'warmup_steps' must be a whole number >= 1, got 0\.",
    ),
    "warm-up": (
        lambda: schedules.CosineWarmup(1.0, 10, warmup_steps=10),
        ConfigError,
        r"CosineWarmup: 'warmup_steps' must be below total_steps=10, got 10\.",
    ),
    "anneal": (
        lambda: schedules.OneCycle(1.0, 10, anneal_strategy="cosine"),
        ConfigError,
        r"OneCycle: 'anneal_strategy' must be 'cos' or 'linear', got 'cosine'\.",
    ),
    "pct_start": (
        lambda: schedules.OneCycle(1.0, 10, pct_start=0.5, three_phase=True),
        ConfigError,
        r"OneCycle: 'pct_start' must be in \(0, 0\.5\), got 0\.5\.",
    ),
    "mode": (
        lambda: schedules.ReduceOnPlateau(mode="auto"),
        ConfigError,
        "ReduceOnPlateau: 'mode' must be 'min' or 'max', got 'auto'",
    ),
    "factor": (
        lambda: schedules.ReduceOnPlateau(factor=1.0),
        ConfigError,
        r"ReduceOnPlateau: 'factor' must be in \[0, 1\), got 1\.0\.",
    ),
    "patience": (
        lambda: schedules.King(patience=1),
        ConfigError,
        r"King: 'patience' must be a whole number >= 2, got 1\.",
    ),
    "loss": (
        lambda: optim.SGD("king").observe(np.ones(3)),
        DataError,
        r"observe: expected a loss that is one number, got shape \(3,\)\.",
    ),
    "no loss": (
        lambda: optim.SGD("reduce_on_plateau").observe(None),
        DataError,
        "observe: expected a loss that is one number, got NoneType",
    ),
    "when": (
        lambda: optim.SGD().observe(1.0, when="batch"),
        ConfigError,
        "SGD: 'when' must be 'step' or 'epoch', got 'batch'",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_explained(what: str) -> None:
    mistake, error, message = MISTAKES[what]
    with pytest.raises(error, match=message):
        mistake()


# --------------------------------------------------------------------------- in an optimizer


@every_schedule
def test_every_step_has_its_rate(name: str) -> None:
    w, schedule = Tensor(np.zeros(1)), fresh(name)
    optimizer = optim.SGD(schedule)
    for step in range(1, 30):
        before = float(w.data[0])
        assert optimizer.lr == schedule(step)
        optimizer.update([w], [np.ones(1)])
        assert before - float(w.data[0]) == pytest.approx(schedule(step), rel=1e-10)


def test_a_number_takes_the_place_of_a_schedule() -> None:
    optimizer = optim.Adam("noam")
    optimizer.lr = 0.5
    assert (optimizer.lr, optimizer.schedule) == (0.5, None)
    optimizer.lr = schedules.Constant(0.25)
    assert (optimizer.lr, optimizer.schedule) == (0.25, schedules.Constant(0.25))
    with pytest.raises(ConfigError, match=r"Adam: 'lr' must be in \[0, inf\), got -1\."):
        optimizer.lr = -1
    assert optimizer.lr == 0.25


def test_a_schedule_may_be_given_to_several() -> None:
    plateau = schedules.ReduceOnPlateau(1.0, patience=0)
    a, b = optim.SGD(plateau), optim.SGD(plateau)
    for loss in (1.0, 2.0):
        a.observe(loss)
    assert (a.lr, b.lr) == (0.1, 1.0)


def test_observe_tells_steps_from_epochs() -> None:
    optimizer = optim.SGD(schedules.King(1.0, patience=2, every=1, decay=0.5))
    w = Tensor(np.zeros(1))
    optimizer.add_group([w], lr=schedules.ReduceOnPlateau(1.0, patience=0, factor=0.25))

    def rates() -> tuple[float, float]:
        before = float(w.data[0])
        optimizer.update([w], [np.ones(1)])
        return optimizer.lr, before - float(w.data[0])

    for _ in range(3):
        optimizer.observe(1.0, "step")
    assert rates() == (0.5, 1.0)
    optimizer.observe(1.0, "epoch")
    optimizer.observe(1.0, "epoch")
    assert rates() == (0.5, 0.25)
    optimizer.observe(1.0)  # to both
    assert rates() == (0.25, 0.0625)
    optim.SGD(0.5).observe("whatever")  # nobody looks


@every_schedule
@pytest.mark.parametrize("place", ["optimizer", "group"])
@pytest.mark.parametrize("how", ["given", "next"])
def test_a_resumed_run_goes_on_bit_for_bit(name: str, place: str, how: str) -> None:
    def create(params: list[Tensor]) -> Any:
        if place == "optimizer":
            return optim.Adam(fresh(name))
        optimizer = optim.Adam(0.01)
        optimizer.add_group(params[:1], lr=fresh(name))
        return optimizer

    def train(optimizer: Any, params: list[Tensor], steps: range) -> list[float]:
        rates = []
        for step in steps:
            optimizer.update(params, gradients([(3,), (2, 2)], seed=100 * step))
            optimizer.observe(losses[step : step + 1])
            rates.append(optimizer.lr)
        return rates

    losses = make((32,), dtype="float64")
    params = variables([(3,), (2, 2)])
    optimizer = create(params)
    train(optimizer, params, range(16))
    state = optimizer.state_dict()
    meta = json.loads(json.dumps({k: v for k, v in state.items() if k != "state"}, allow_nan=False))
    again, copies = optim.Adam(), [Tensor(value) for value in values(params)]
    again.load_state_dict({**meta, "state": state["state"]}, copies if how == "given" else None)
    assert train(again, copies, range(16, 32)) == train(optimizer, params, range(16, 32))
    assert_same(values(copies), values(params))
    assert again.state_dict()["schedules"] == optimizer.state_dict()["schedules"]
    if name in ("plateau", "king"):
        assert any(again.state_dict()["schedules"])


# --------------------------------------------------------------------------------------- fit


def model_of(optimizer: Any) -> Any:
    model = xpnn.Sequential([layers.Dense(1, in_features=2)])
    model.compile("mean_squared_error", optimizer)
    return model


def test_fit_shows_every_loss_to_king_and_every_epoch_to_the_plateau() -> None:
    seen: dict[str, list[float]] = {"step": [], "epoch": []}

    class Watcher(schedules.Schedule):
        watches = "step"

        def __init__(self) -> None:
            self.lr = 0.01

        def __call__(self, step: int) -> float:
            return self.lr

        def observe(self, loss: Any) -> None:
            seen[str(self.watches)].append(float(loss))

    class EpochWatcher(Watcher):
        watches = "epoch"

    x, y = make((24, 2)), make((24, 1), seed=1)
    model = model_of(optim.SGD(Watcher()))
    history = model.fit(x, y, batch_size=8, epochs=2)
    assert len(seen["step"]) == 6
    assert np.mean(seen["step"][:3]) == pytest.approx(history["loss"][0], rel=1e-6)

    model = model_of(optim.SGD(EpochWatcher()))
    history = model.fit(x, y, epochs=3, validation_split=0.25)
    assert seen["epoch"] == history["val_loss"]
    history = model.fit(x, y, epochs=2)
    assert seen["epoch"][3:] == history["loss"]


def test_fit_lowers_the_rate() -> None:
    x, y = np.zeros((8, 2), np.float32), np.ones((8, 1), np.float32)
    model = model_of(optim.SGD(schedules.ReduceOnPlateau(0.0, patience=0)))
    model.fit(x, y, epochs=3)
    assert model.optimizer.schedule.bad == 0  # the rate would change by less than epsilon
    model = model_of(optim.SGD(schedules.King(1e-9, patience=3, every=2, decay=0.5)))
    model.fit(x, y, batch_size=2, epochs=5)  # 20 steps, and nothing is learned
    assert model.optimizer.lr < 1e-9


def test_a_schedule_goes_on_in_the_next_fit() -> None:
    x, y = make((8, 2)), make((8, 1), seed=1)
    model = model_of(optim.SGD(schedules.Step(0.1, step_size=3, gamma=0.5)))
    model.fit(x, y, batch_size=4)
    assert (model.optimizer.steps, model.optimizer.lr) == (2, 0.1)
    model.fit(x, y, batch_size=4)
    assert (model.optimizer.steps, model.optimizer.lr) == (4, 0.05)


@every_schedule
@pytest.mark.parametrize("cls", [optim.SGD, optim.NAdam])
def test_fit_resumes_with_groups_schedules_and_clipping_bit_for_bit(name: str, cls: Any) -> None:
    x, y = make((10, 2)), make((10, 1), seed=1)

    def model() -> Any:
        xpnn.set_seed(0)
        made = model_of(cls(fresh(name), weight_decay=0.1, clip_global_norm=0.5))
        bias = made.parameters()[1]
        made.optimizer.add_group([bias], lr=fresh(name), weight_decay=0.0, clip_value=0.1)
        return made

    whole = model()
    whole.fit(x, y, batch_size=3, epochs=4, shuffle=False)
    half, again = model(), model()
    half.fit(x, y, batch_size=3, epochs=2, shuffle=False)
    again.load_state_dict(half.state_dict())
    again.optimizer.load_state_dict(half.optimizer.state_dict())
    again.fit(x, y, batch_size=3, epochs=2, shuffle=False)
    assert_same(values(again.parameters()), values(whole.parameters()))
    assert again.optimizer.steps == whole.optimizer.steps == 16
