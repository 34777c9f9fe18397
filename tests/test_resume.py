"""Runs that are killed and gone on with end like those that were not, bit for bit."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make

import xpnn
from xpnn import io, layers, optim
from xpnn.backend import to_numpy
from xpnn.callbacks import Callback, Checkpoint, EarlyStopping, IterationPatience
from xpnn.errors import ConfigError, DataError, NonFiniteError


class Stop(Exception):
    """What ends a process, in a test within one."""


class Kill(Callback):
    """Ends everything after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, run: Any, values: Any) -> None:
        if run.step == self.step:
            raise Stop


def problem() -> tuple[Any, Any]:
    x = make((80, 4), seed=1)
    return x, (x[:, 0] * x[:, 1] > 0).astype("int64")


def network(optimizer: Any = None, width: int = 8) -> xpnn.Sequential:
    xpnn.set_seed(3)
    model = xpnn.Sequential(
        [
            layers.Dense(width, activation="tanh"),
            layers.BatchNorm(),
            layers.Dropout(0.3),
            layers.Dense(2),
        ]
    )
    schedule = optim.schedules.Exponential(0.05, 20, 0.5)
    model.compile("cross_entropy", optimizer or optim.Adam(schedule), metrics=["accuracy"])
    return model


def run(
    folder: Path | None = None,
    kill: int = 0,
    every: int | None = 3,
    model: Any = None,
    **given: Any,
) -> Any:
    """Train; return model and history, or None if the run was killed."""
    x, y = problem()
    options: dict[str, Any] = {
        "batch_size": 10, "epochs": 5, "validation_split": 0.2, "verbose": 0
    } | given  # fmt: skip
    callbacks: list[Callback] = [EarlyStopping("val_accuracy", patience=2)]
    callbacks += [Checkpoint(folder, every=every)] if folder else []
    callbacks += [Kill(kill)] if kill else []
    model = model or network()
    data = (options.pop("x"), None) if "x" in options else (x, y)
    try:
        history = model.fit(*data, callbacks=callbacks, resume=folder, **options)
    except Stop:
        return None
    return model, history


def assert_equal_runs(found: Any, expected: Any) -> None:
    (a, h), (b, g) = found, expected
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        np.testing.assert_array_equal(to_numpy(x), to_numpy(y), err_msg=name)
    assert dict(h) == dict(g)
    assert h.validations == g.validations


def noisy() -> Any:
    """Yield batches with noise from the stream of xpnn."""
    x, y = problem()
    for i in range(0, 60, 10):
        yield x[i : i + 10] + xpnn.get_rng().normal((10, 4)), y[i : i + 10]


STREAM = {"x": noisy, "validation_split": 0.0, "validation_data": problem()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"every": None},
        {"shuffle": False, "every": 1},
        {"accumulate": 3, "every": 2},
        {"prefetch": 2},
        {"steps_per_epoch": 4},
        {"validate_every": 2},
        {"sample_weight": np.linspace(0, 1, 80, dtype="float32")},
        {"class_weight": "balanced"},
        STREAM,
        {**STREAM, "prefetch": 2, "steps_per_epoch": 5},
    ],
    ids=lambda options: ",".join(options) or "plain",
)
@pytest.mark.parametrize("kill", [1, 2, 4, 7, 8, 13, 21])
def test_a_run_that_was_cut_off_goes_on_exactly(tmp_path: Path, options: Any, kill: int) -> None:
    expected = run(**options)
    found = run(tmp_path, kill, **options)
    if found is None:
        found = run(tmp_path, **options)
    assert_equal_runs(found, expected)


def optimizer_names() -> list[str]:
    classes = {name: getattr(optim, name) for name in optim.__all__}
    return [
        n
        for n, c in classes.items()
        if isinstance(c, type) and issubclass(c, optim.Optimizer) and c is not optim.Optimizer
    ]


@pytest.mark.parametrize("name", optimizer_names())
def test_every_optimizer_goes_on_exactly(tmp_path: Path, name: str) -> None:
    def made() -> Any:
        return network(getattr(optim, name)())

    expected = run(model=made(), epochs=2)
    assert run(tmp_path, 8, model=made(), epochs=2) is None
    assert_equal_runs(run(tmp_path, model=made(), epochs=2), expected)


def test_patience_is_remembered(tmp_path: Path) -> None:
    x, y = problem()

    def go(kill: int = 0, resume: Path | None = None) -> Any:
        callbacks: list[Callback] = [IterationPatience("val_loss", patience=20, factor=1.2)]
        callbacks += [Checkpoint(tmp_path, every=1)] if resume else []
        callbacks += [Kill(kill)] if kill else []
        model = network()
        try:
            return model, model.fit(
                x, y, batch_size=10, epochs=30, validation_data=(x[:20], y[:20]),
                validate_every=3, callbacks=callbacks, resume=resume,
            )  # fmt: skip
        except Stop:
            return None

    expected = go()
    assert expected[1].epochs < 30
    for kill in (5, 11, 14):
        assert go(kill, tmp_path) is None
    assert_equal_runs(go(resume=tmp_path), expected)


def test_a_finished_run_is_finished_and_more_epochs_go_on(tmp_path: Path) -> None:
    first = run(tmp_path, every=None, epochs=3)
    assert_equal_runs(run(tmp_path, every=None, epochs=3), first)
    assert_equal_runs(run(tmp_path, every=None, epochs=5), run(epochs=5))


def test_a_checkpoint_may_be_named_and_the_newest_is_taken(tmp_path: Path) -> None:
    run(tmp_path, 14, every=3)
    names = sorted(p.name for p in tmp_path.glob("checkpoint-*"))
    assert names == ["checkpoint-00000009.safetensors", "checkpoint-00000012.safetensors"]
    x, y = problem()
    steps: list[int] = []

    class Watch(Callback):
        def on_train_begin(self, run: Any) -> None:
            steps.append(run.step)
            assert run.resumed

    for place in (tmp_path, tmp_path / names[0]):
        network().fit(
            x, y, batch_size=10, epochs=5, validation_split=0.2, resume=place,
            callbacks=[EarlyStopping("val_accuracy"), Checkpoint(tmp_path / "new"), Watch()],
        )  # fmt: skip
        for path in (tmp_path / "new").iterdir():
            path.unlink()
    assert steps == [12, 9]


def test_the_best_model_is_a_file_of_its_own(tmp_path: Path) -> None:
    _, history = run(tmp_path, every=None, epochs=4)
    best = xpnn.load(tmp_path / "best.safetensors")
    best.compile("cross_entropy")
    x, y = problem()
    found = best.evaluate(x[64:], y[64:])["loss"]
    assert found == pytest.approx(min(history["val_loss"]), rel=1e-6)


def test_an_interrupt_is_written_down(tmp_path: Path) -> None:
    class Interrupt(Callback):
        def on_step_end(self, run: Any, values: Any) -> None:
            if run.step == 10 and not run.resumed:
                run.stop = run.interrupted = True

    x, y = problem()

    def go(interrupt: bool, resume: Path | None) -> Any:
        callbacks: list[Callback] = [Checkpoint(tmp_path, every=7)] if resume else []
        callbacks += [Interrupt()] if interrupt else []
        model = network()
        return model, model.fit(
            x, y, batch_size=10, epochs=3, callbacks=callbacks, resume=resume
        )  # fmt: skip

    _, history = go(True, tmp_path)
    assert history.epochs == 2
    assert (tmp_path / "checkpoint-00000010.safetensors").exists()
    assert_equal_runs(go(False, tmp_path), go(False, None))


# ------------------------------------------------------------------------------------ mistakes


def test_a_folder_with_another_run_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path, 4)
    x, y = problem()
    with pytest.raises(ConfigError, match=r"checkpoints of another run.* resume=.* overwrite=True"):
        network().fit(x, y, callbacks=[Checkpoint(tmp_path)])
    network().fit(x, y, callbacks=[Checkpoint(tmp_path, overwrite=True)])
    assert [p.name for p in tmp_path.glob("checkpoint-*")] == ["checkpoint-00000003.safetensors"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 20}, "batch_size was 10 and is 20"),
        ({"shuffle": False}, "shuffle was True and is False"),
        ({"accumulate": 2}, "accumulate was 1 and is 2"),
        ({"validation_split": 0.5}, "examples was 64 and is 40"),
        ({"steps_per_epoch": 3}, "steps_per_epoch was None and is 3"),
        ({"sample_weight": np.ones(80)}, "weights was False and is True"),
        ({"model": "sgd"}, "the optimizer was Adam and is SGD"),
        ({"initial_epoch": 1}, "begins at the epoch of its checkpoint, not 'initial_epoch'"),
    ],
)
def test_a_run_with_other_settings_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    run(tmp_path, 4)
    if change.get("model") == "sgd":
        change = {"model": network(optim.SGD(0.1))}
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, **change)


def test_other_callbacks_or_another_model_are_refused(tmp_path: Path) -> None:
    run(tmp_path, 4)
    x, y = problem()
    options: dict[str, Any] = {"batch_size": 10, "epochs": 5, "validation_split": 0.2}
    with pytest.raises(ConfigError, match="callbacks were Checkpoint, EarlyStopping and are none"):
        network().fit(x, y, resume=tmp_path, **options)
    with pytest.raises(DataError, match=r"0\.weight: expected shape \(4, 9\), got \(4, 8\)"):
        run(tmp_path, model=network(width=9))


@pytest.mark.parametrize("damage", ["cut", "flip", "foreign", "model", "format", "part", "rng"])
def test_a_damaged_checkpoint_is_refused_and_nothing_is_loaded(tmp_path: Path, damage: str) -> None:
    run(tmp_path, 7)
    path = tmp_path / "checkpoint-00000006.safetensors"
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-7])
    elif damage == "flip":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif damage == "foreign":
        path.write_bytes(b"PK\x03\x04 no such thing")
    elif damage == "model":
        network_model, _ = run()
        network_model.save(path)
    else:
        arrays, config = io.read(path)
        if damage == "format":
            config["checkpoint"]["format"] = 99
        elif damage == "rng":
            config["checkpoint"]["rng"] = 3  # refused by the stream, which knows no file
        else:
            del config["checkpoint"]["rng"]
        io.write(path, arrays, config)
    model = network()
    model(np.ones((2, 4), "float32"))
    before = {k: to_numpy(v).copy() for k, v in model.state_dict().items()}
    with pytest.raises(DataError, match="checkpoint-00000006"):
        run(tmp_path, model=model)
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(to_numpy(v), before[k])


def test_no_checkpoint_holds_a_loss_that_is_no_number(tmp_path: Path) -> None:
    x, y = problem()
    x[35] = np.nan
    with pytest.raises(NonFiniteError):
        network().fit(x, y, batch_size=10, shuffle=False, callbacks=[Checkpoint(tmp_path, every=1)])
    arrays, _ = io.read(max(tmp_path.glob("checkpoint-*")))
    assert all(np.isfinite(a).all() for a in arrays.values())


def test_what_a_kill_left_half_written_is_swept_away(tmp_path: Path) -> None:
    torn = tmp_path / "checkpoint-00000003.safetensors.0a1b2c3d.part"
    torn.write_bytes(b"half")
    other = tmp_path / "mine.part"
    other.write_bytes(b"mine")
    run(tmp_path, 4)
    assert not torn.exists()
    assert other.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "'every' must be a whole number, at least 1, got 0"),
        ({"keep": 0}, "'keep' must be a whole number"),
        ({"keep": None}, "'keep' must be a whole number"),
        ({"mode": "up"}, "Checkpoint: 'mode' must be"),
        ({"monitor": 3}, "Checkpoint: 'monitor' must be the name of a value"),
    ],
)
def test_bad_arguments(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Checkpoint("folder", **options)
    with pytest.raises(ConfigError, match="Checkpoint: 'folder' must be a path, got None"):
        Checkpoint(None)  # type: ignore[arg-type]


def test_the_best_model_of_another_run_is_deleted_with_its_checkpoints(tmp_path: Path) -> None:
    run(tmp_path, 10)
    assert (tmp_path / "best.safetensors").exists()
    x, y = problem()
    network().fit(x, y, callbacks=[Checkpoint(tmp_path, overwrite=True)])
    assert not (tmp_path / "best.safetensors").exists()


def test_a_value_that_never_comes_says_which_are_there(tmp_path: Path) -> None:
    x, y = problem()
    keep = Checkpoint(tmp_path, monitor="val_los")
    message = "Checkpoint: there is no value 'val_los'; there are .* Did you mean 'val_loss'"
    with pytest.raises(ConfigError, match=message):
        network().fit(x, y, validation_split=0.2, callbacks=[keep])
    keep = Checkpoint(tmp_path / "unused", monitor="val_los", best=False)
    network().fit(x, y, validation_split=0.2, callbacks=[keep])


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("x")
    x, y = problem()
    with pytest.raises(ConfigError, match="expected a folder of checkpoints, this is a file"):
        network().fit(x, y, callbacks=[Checkpoint(place)])


# --------------------------------------------------------------------------- processes, killed

KILLS = 20

SCRIPT = textwrap.dedent(
    """
    import sys
    import numpy as np
    import xpnn
    from xpnn import layers, optim
    from xpnn.callbacks import Checkpoint, EarlyStopping

    folder, resume = sys.argv[1], len(sys.argv) > 2
    xpnn.set_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 10)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype("int64")
    model = xpnn.Sequential(
        [layers.Dense(64, activation="relu"), layers.BatchNorm(), layers.Dropout(0.2),
         layers.Dense(2)]
    )
    model.compile("cross_entropy", optim.Adam(1e-3), metrics=["accuracy"])
    print("ready", flush=True)
    history = model.fit(
        x, y, batch_size=8, epochs=12, validation_split=0.2, validate_every=15, verbose=0,
        callbacks=[EarlyStopping(patience=50), Checkpoint(folder, every=7)],
        resume=folder if resume else None,
    )
    model.save(folder + "/model.safetensors")
    """
)


def start(script: Path, folder: Path, cache: Path, *more: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(xpnn.__file__).parents[1]),
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(cache / "pycache"),
    }
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), *more],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for_training(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_a_process_killed_at_random_moments_ends_with_the_same_file(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with start(script, whole, tmp_path) as process:
        wait_for_training(process)
        began = time.monotonic()
        assert process.wait() == 0
        seconds = time.monotonic() - began

    moments = random.Random(0)
    kills, steps, running = 0, set(), True
    while running:
        with start(script, killed, tmp_path, "resume") as process:
            wait_for_training(process)
            if kills < KILLS:
                time.sleep(moments.uniform(0, seconds / 3))
                process.send_signal(signal.SIGKILL)
            status = process.wait()
        steps |= {p.name for p in killed.glob("checkpoint-*")} if killed.exists() else set()
        if status == 0:  # it came to its end, this time or in spite of the signal
            found = (killed / "model.safetensors").read_bytes()
            assert found == (whole / "model.safetensors").read_bytes()
            shutil.rmtree(killed)
            running = kills < KILLS
        else:
            assert status == -signal.SIGKILL
            kills += 1
    assert kills == KILLS
    assert len(steps) > 5  # they were spread over the run
