"""Loggers, progress, learning rates by epoch, a quiet end: one by one, and after a resume."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import select
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import make

import xpnn
from xpnn import callbacks, layers, optim
from xpnn.callbacks import (
    Callback,
    CSVLogger,
    EpochLines,
    JSONLogger,
    LearningRateSchedule,
    ProgressBar,
    TensorBoard,
    TerminateOnNaN,
)
from xpnn.errors import ConfigError, DataError, NonFiniteError
from xpnn.optim.schedules import Exponential, ReduceOnPlateau
from xpnn.training import History


def problem(n: int = 40) -> tuple[Any, Any]:
    x = make((n, 2), seed=1)
    return x, (x[:, 0] * x[:, 1] > 0).astype("int64")


def network(lr: Any = 0.02) -> xpnn.Sequential:
    xpnn.set_seed(0)
    model = xpnn.Sequential([layers.Dense(8, activation="tanh"), layers.Dense(2)])
    model.compile("cross_entropy", optim.Adam(lr), metrics=["accuracy"])
    return model


def fit(*watching: Callback, **options: Any) -> History:
    """Train for three epochs of four steps."""
    x, y = problem()
    options = {"batch_size": 10, "epochs": 3, "verbose": 0} | options
    return network().fit(x, y, callbacks=list(watching), **options)


def table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


class Late(Callback):
    """Reports a value from the second epoch on, and NaN in the last of three."""

    rank = -1

    def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
        if run.epoch:
            run.history.report("late, or never", math.nan if run.epoch == 2 else 1.5)


class Power(Callback):
    """Fails at a step, as a machine that goes down."""

    rank = 1000

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, run: Any, values: Any) -> None:
        if run.step == self.step:
            raise RuntimeError("the power is gone")


# ------------------------------------------------------------------------------- CSV and JSON


def test_a_csv_file_has_a_row_an_epoch_with_all_digits(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    history = fit(CSVLogger(path), validation_split=0.25)
    head, *rows = table(path)
    assert head == ["epoch", "step", *history]
    assert [row[:2] for row in rows] == [["1", "3"], ["2", "6"], ["3", "9"]]
    for i, name in enumerate(history, 2):
        assert [float(row[i]) for row in rows] == history[name]
    assert path.read_bytes().endswith(b"\n")


def test_equal_runs_give_equal_files(tmp_path: Path) -> None:
    for i in (1, 2):
        fit(CSVLogger(tmp_path / f"{i}.csv"), JSONLogger(tmp_path / f"{i}.json"))
    for kind in ("csv", "json"):
        assert (tmp_path / f"1.{kind}").read_bytes() == (tmp_path / f"2.{kind}").read_bytes()


def test_values_that_appear_late_get_a_column_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    fit(CSVLogger(path), Late())
    rows = table(path)
    assert rows[0] == ["epoch", "step", "loss", "accuracy", "late, or never"]
    assert [row[-1] for row in rows[1:]] == ["nan", "1.5", "nan"]
    assert {len(row) for row in rows} == {5}


def test_a_new_run_begins_its_files_anew(tmp_path: Path) -> None:
    logs = [CSVLogger(tmp_path / "a.csv"), JSONLogger(tmp_path / "a.json")]
    fit(*logs, Late())
    fit(*logs, epochs=1)
    rows = table(tmp_path / "a.csv")
    assert rows[0] == ["epoch", "step", "loss", "accuracy"]
    assert len(rows) == 2
    assert History.from_json(tmp_path / "a.json").epochs == 1


def test_epochs_are_counted_from_the_initial_one(tmp_path: Path) -> None:
    fit(CSVLogger(tmp_path / "a.csv"), initial_epoch=1)
    rows = table(tmp_path / "a.csv")
    assert [row[0] for row in rows] == ["epoch", "2", "3"]


def test_a_json_file_is_strict_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    history = fit(JSONLogger(path), Late())

    def refuse(name: str) -> Any:
        raise AssertionError(name)

    content = json.loads(path.read_text(), parse_constant=refuse)
    assert list(content) == ["epochs", "steps", "history", "validations"]
    assert content["epochs"] == 3
    assert content["steps"] == [4, 8, 12]
    assert content["history"]["loss"] == history["loss"]
    assert content["history"]["late, or never"] == [None, 1.5, None]
    back = History.from_json(path)
    assert (back.epochs, back.steps, back["loss"]) == (3, history.steps, history["loss"])
    assert back["late, or never"] == pytest.approx([math.nan, 1.5, math.nan], nan_ok=True)


def test_json_has_the_validations_within_epochs(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    history = fit(JSONLogger(path), validation_split=0.25, validate_every=2)
    assert [values["step"] for values in history.validations] == [2, 4, 6, 8]
    assert History.from_json(path).validations == history.validations


def test_json_is_written_every_so_many_epochs_and_at_the_end(tmp_path: Path) -> None:
    path, seen = tmp_path / "run.json", []

    class Look(Callback):
        rank = 1

        def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
            seen.append(json.loads(path.read_text())["epochs"])

    fit(JSONLogger(path, every=2), Look())
    assert seen == [0, 2, 2]
    assert History.from_json(path).epochs == 3


def test_an_epoch_that_was_interrupted_is_in_the_files_as_in_the_history(tmp_path: Path) -> None:
    class Interrupt(Callback):
        def on_step_end(self, run: Any, values: Any) -> None:
            run.stop = run.interrupted = run.step == 6

    history = fit(CSVLogger(tmp_path / "a.csv"), JSONLogger(tmp_path / "a.json"), Interrupt())
    assert history.epochs == 2
    rows = table(tmp_path / "a.csv")
    assert [row[:2] for row in rows] == [["epoch", "step"], ["1", "4"], ["2", "6"]]
    assert float(rows[-1][2]) == history["loss"][-1]
    assert History.from_json(tmp_path / "a.json")["loss"] == history["loss"]


@pytest.mark.parametrize("logger", [CSVLogger, JSONLogger])
def test_a_folder_that_is_missing_is_an_error_before_training(logger: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        fit(logger(tmp_path / "nowhere" / "log"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "no history that to_json wrote"),
        ("[1, 2]", "no history that to_json wrote"),
        ('{"epochs": 1}', "no history that to_json wrote .KeyError"),
        (
            '{"epochs": 2, "steps": [1, 2], "history": {"loss": [1.0]}, "validations": []}',
            "2 epochs, but values of",
        ),
    ],
)
def test_other_files_are_no_history(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        History.from_json(path)


def test_values_are_reported_of_epochs() -> None:
    with pytest.raises(ConfigError, match="'norm' has no epoch to belong to yet"):
        History().report("norm", 1.0)


@pytest.mark.parametrize("value", ["1.5", None, [1.0, 2.0]])
def test_values_are_numbers(value: Any) -> None:
    history = History()
    history.append({"loss": 1.0})
    with pytest.raises(ConfigError, match="expected a number as 'norm', got"):
        history.report("norm", value)


@pytest.mark.parametrize("value", [np.float32(1.5), np.asarray(1.5), xpnn.Tensor(1.5)])
def test_numbers_of_libraries_are_stored_as_pythons(value: Any, tmp_path: Path) -> None:
    history = History()
    history.append({"loss": value})
    history.report("norm", value)
    history.to_json(tmp_path / "x.json")
    assert dict(History.from_json(tmp_path / "x.json")) == {"loss": [1.5], "norm": [1.5]}


@pytest.mark.parametrize("names", [("loss",), ("late",), ("late", "later")])
@pytest.mark.parametrize("rank", [0, 1000])
def test_values_that_are_reported_after_a_row_was_written_are_in_it(
    names: tuple[str, ...], rank: int, tmp_path: Path
) -> None:
    path = tmp_path / "log.csv"

    class After(Callback):
        def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
            for name in names[: 1 + run.epoch]:
                run.history.report(name, 10.0 + run.epoch)

    after = After()
    after.rank = rank  # type: ignore[misc]
    history = fit(CSVLogger(path), after)
    head, *rows = table(path)
    assert head == ["epoch", "step", *history]
    for i, name in enumerate(history, 2):
        assert [float(row[i]) for row in rows] == pytest.approx(history[name], nan_ok=True)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("on_batch_end", "on_step_end"),
        ("on_train_batch_end", "on_step_end"),
        ("on_test_end", "on_validation_end"),
        ("on_epoch_ends", "on_epoch_end"),
    ],
)
def test_a_hook_that_does_not_exist_is_refused(name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"Mine: '{name}' would never .* Did you mean '{meant}'"):
        type("Mine", (Callback,), {name: lambda self, run: None})


def test_patience_counts_from_the_first_epoch_of_a_run() -> None:
    class Scripted(Callback):
        def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
            values["val_loss"] = math.nan

    stop = callbacks.EarlyStopping(patience=2)
    history = fit(Scripted(), stop, initial_epoch=10, epochs=15)
    assert history.epochs == 2
    assert (stop.best_epoch, stop.waited) == (-1, 2)


def test_a_history_of_nothing_has_a_file(tmp_path: Path) -> None:
    History().to_json(tmp_path / "x.json")
    assert History.from_json(tmp_path / "x.json").epochs == 0


@pytest.mark.parametrize("every", [None, 3])
def test_a_run_that_was_killed_ends_with_the_files_of_one_that_was_not(
    every: int | None, tmp_path: Path
) -> None:
    def run(where: str, *more: Callback) -> None:
        folder = tmp_path / where
        watching = [
            callbacks.Checkpoint(folder / "checkpoints", every=every),
            CSVLogger(folder / "log.csv"),
            JSONLogger(folder / "log.json"),
            LearningRateSchedule(lambda epoch, lr: lr * 0.5),
            Late(),
        ]
        folder.mkdir(exist_ok=True)
        fit(*watching, *more, validation_split=0.25, resume=folder / "checkpoints")

    run("whole")
    with pytest.raises(RuntimeError, match="the power is gone"):
        run("killed", Power(8))  # in the third epoch of three steps
    assert len((tmp_path / "killed" / "log.csv").read_text().splitlines()) == 3
    with (tmp_path / "killed" / "log.csv").open("a") as file:
        file.write("3,9,0.5")  # half a row, of an epoch that is done once more
    run("killed")
    for name in ("log.csv", "log.json"):
        whole, killed = ((tmp_path / where / name).read_bytes() for where in ("whole", "killed"))
        assert whole == killed


# --------------------------------------------------------------------------- learning rates


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (lambda epoch: 0.1 / (epoch + 1), [0.1, 0.05, 0.1 / 3]),
        (lambda epoch, lr: lr / 2, [0.01, 0.005, 0.0025]),
        (lambda epoch, scale=0.25: scale * epoch, [0.0, 0.25, 0.5]),
        ({0: 0.5, 2: 0.25}, [0.5, 0.5, 0.25]),
        ([0.5, 0.25], [0.5, 0.25, 0.25]),
        (Exponential(1.0, stage_length=1, decay=0.5), [0.5, 0.25, 0.125]),
        (np.exp2, [1.0, 2.0, 4.0]),
    ],
)
def test_every_epoch_has_the_rate_of_the_schedule(schedule: Any, expected: list[float]) -> None:
    seen = []

    class Look(Callback):
        def on_step_end(self, run: Any, values: Any) -> None:
            seen.append(run.model.optimizer.lr)

    history = fit(LearningRateSchedule(schedule), Look())
    assert history["lr"] == pytest.approx(expected)
    assert seen == pytest.approx([lr for lr in expected for _ in range(4)])


def test_a_rate_by_the_step() -> None:
    x, y = problem()
    schedule = Exponential(0.05, stage_length=3)
    follow = LearningRateSchedule(schedule, per="step")
    one = network()
    history = one.fit(x, y, batch_size=10, epochs=3, callbacks=[follow])
    other = network(schedule)
    other.fit(x, y, batch_size=10, epochs=3)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(xpnn.to_numpy(p), xpnn.to_numpy(q))
    assert history["lr"] == pytest.approx([schedule(step) for step in (4, 8, 12)])


def test_rates_are_set_once_in_an_epoch_that_is_gone_on_with(tmp_path: Path) -> None:
    def run(*more: Callback) -> History:
        checkpoint = callbacks.Checkpoint(tmp_path, every=1, best=False)
        halve = LearningRateSchedule(lambda epoch, lr: lr / 2)
        return fit(checkpoint, halve, *more, resume=tmp_path)

    with pytest.raises(RuntimeError, match="the power is gone"):
        run(Power(6))
    assert run()["lr"] == [0.01, 0.005, 0.0025]


def test_the_rate_is_in_what_is_shown_and_logged(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "log.csv"
    fit(EpochLines(), CSVLogger(path), LearningRateSchedule([1e-5]))
    assert "  lr 1e-05" in capsys.readouterr().out.splitlines()[2]
    assert path.read_text().splitlines()[0] == "epoch,step,loss,accuracy,lr"


class TwoRates(xpnn.Model):
    """Has two optimizers, each for a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = layers.Dense(2), layers.Dense(2)
        self.of_a, self.of_b = optim.SGD(0.5), optim.SGD(0.25)

    @property
    def optimizers(self) -> dict[str, Any]:
        return {"a": self.of_a, "b": self.of_b}

    def forward(self, x: Any) -> Any:
        return self.b(self.a(x))

    def train_step(self, batch: Any) -> dict[str, Any]:
        loss, _ = self.objective(batch)
        loss.backward()
        self.of_a.step(self.a)
        self.of_b.step(self.b)
        return {"loss": loss.data}


def test_one_of_several_optimizers_is_named() -> None:
    x, y = problem()
    model = TwoRates()
    model.compile("cross_entropy")
    history = model.fit(x, y, epochs=2, callbacks=[LearningRateSchedule([0.1], optimizer="b")])
    assert history["lr_b"] == [0.1, 0.1]
    assert (model.of_a.lr, model.of_b.lr) == (0.5, 0.1)
    with pytest.raises(ConfigError, match="'optimizer' must be one of 'a', 'b', got None"):
        model.fit(x, y, callbacks=[LearningRateSchedule([0.1])])


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: LearningRateSchedule("noam"), "must be a function of the epoch.*got 'noam'"),
        (lambda: LearningRateSchedule(0.1), "must be a function of the epoch.*got 0.1"),
        (lambda: LearningRateSchedule([]), r"must be a function of the epoch.*got \[\]"),
        (lambda: LearningRateSchedule([0.1, -1]), r"'lr at 1' must be in \[0, inf\), got -1"),
        (lambda: LearningRateSchedule({1: 0.1}), "the rate from 0 on is missing"),
        (lambda: LearningRateSchedule({0: 0.1, 0.5: 1}), "'start of a rate' .* got 0.5"),
        (lambda: LearningRateSchedule([0.1], per="day"), "'per' must be 'epoch' or 'step'"),
        (lambda: LearningRateSchedule(ReduceOnPlateau()), "ReduceOnPlateau watches the loss"),
        (lambda: fit(LearningRateSchedule(lambda epoch: math.nan)), "'lr at 0' .*got nan"),
        (lambda: TensorBoard("x", every=0), "'every' must be a whole number >= 1, got 0"),
        (lambda: TensorBoard("x", histograms=1), "'histograms' must be True or False, got 1"),
        (lambda: JSONLogger("x", every=0.5), "'every' must be a whole number >= 1, got 0.5"),
        (lambda: CSVLogger(None), "CSVLogger: 'path' must be a path, got None"),  # type: ignore[arg-type]
        (lambda: JSONLogger(3), "JSONLogger: 'path' must be a path, got 3"),  # type: ignore[arg-type]
        (lambda: TensorBoard(None), "TensorBoard: 'folder' must be a path"),  # type: ignore[arg-type]
        (lambda: callbacks.PlotHistory(3), "PlotHistory: 'path' must be a path"),  # type: ignore[arg-type]
        (lambda: ProgressBar(every=-1), r"'every' must be in \[0, inf\), got -1"),
    ],
)
def test_bad_arguments(make_it: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_it()


def test_a_rate_is_set_in_one_place() -> None:
    x, y = problem()
    with pytest.raises(ConfigError, match=r"already follows a schedule, Exponential\(lr=0.1"):
        network(Exponential(0.1)).fit(x, y, callbacks=[LearningRateSchedule([0.1])])


# ------------------------------------------------------------------------------- a quiet end


def test_a_loss_that_is_no_number_ends_training_quietly(tmp_path: Path) -> None:
    x, y = problem()
    model, watch, path = network(), TerminateOnNaN(), tmp_path / "log.csv"

    class Spoil(Callback):
        def on_epoch_begin(self, run: Any) -> None:
            if run.epoch == 1:
                run.model[0].weight.data = run.model[0].weight.data * np.nan

    history = model.fit(x, y, epochs=3, callbacks=[watch, Spoil(), CSVLogger(path)])
    assert history.epochs == 1
    assert isinstance(watch.error, NonFiniteError)
    assert "became nan at step 3 (epoch 2)" in str(watch.error)
    assert all(np.isfinite(xpnn.to_numpy(p)).all() for p in model.parameters())
    assert len(path.read_text().splitlines()) == 2
    fit(watch)
    assert watch.error is None


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="the power is gone"):
        fit(TerminateOnNaN(), Power(2))


# -------------------------------------------------------------------------------- progress


class Terminal(io.StringIO):
    """What is drawn, as on a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    found = Terminal()  # in place of the module's own, because pytest changes sys.stderr
    shown = SimpleNamespace(stderr=found, modules=sys.modules)
    monkeypatch.setattr("xpnn.callbacks.progress.sys", shown)
    return found


def drawn(terminal: Terminal) -> list[str]:
    return [line.rpartition("\r")[2].rstrip() for line in terminal.getvalue().split("\n") if line]


def test_a_terminal_shows_a_bar_an_epoch(terminal: Terminal) -> None:
    history = fit(ProgressBar(every=0), validation_split=0.25)
    lines = drawn(terminal)
    assert [line[:15] for line in lines] == [f"epoch {i}/3: 100%" for i in (1, 2, 3)]
    assert lines[-1].endswith(f", val_accuracy={history['val_accuracy'][-1]:.4g}]")
    assert len(lines[-1]) > 80
    assert max(map(len, terminal.getvalue().split("\n")[-2].split("\r")[:-3])) <= 80
    assert "| 3/3 [" in lines[0]
    assert "| 2/3 [" in terminal.getvalue()


def test_the_bar_shows_how_far_validation_is(terminal: Terminal) -> None:
    x, y = problem(600)
    held_out = {"validation_data": (x, y), "validate_every": 2}
    fit(ProgressBar(every=0), epochs=1, **held_out)
    shown = terminal.getvalue().split("\r")
    assert sum("| 2/4 [" in line and "validation 2/3]" in line for line in shown) == 1
    assert sum("| 4/4 [" in line and "validation 2/3]" in line for line in shown) == 1

    def batches() -> Any:
        yield x, y

    network().fit(x, y, validation_data=batches, callbacks=[ProgressBar(every=0)], verbose=0)
    assert "validation 1]" in terminal.getvalue()


def test_a_terminal_that_does_not_know_its_size_shows_the_bar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, its = os.openpty()
    with os.fdopen(its, "w") as terminal:
        shown = SimpleNamespace(stderr=terminal, modules=sys.modules)
        monkeypatch.setattr("xpnn.callbacks.progress.sys", shown)
        assert os.get_terminal_size(its).columns == 0
        fit(ProgressBar(), epochs=1)
        text = ""
        while "100%|" not in text and select.select([ours], [], [], 5.0)[0]:
            text += os.read(ours, 10_000).decode()  # a part of what was written, as it comes
    os.close(ours)
    assert "epoch 1/1: 100%|" in text


def test_values_are_read_only_when_the_bar_is_drawn(terminal: Terminal) -> None:
    read = []

    class Value:
        def __float__(self) -> float:
            read.append(1)
            return 0.5

    class Wrap(Callback):
        rank = -1

        def on_step_end(self, run: Any, values: Any) -> None:
            values["slow"] = Value()

    fit(Wrap(), ProgressBar(every=1000.0))
    assert not read
    fit(Wrap(), ProgressBar(every=0))
    assert len(read) == 12


def test_the_bar_counts_steps_of_several_batches_and_of_unknown_number(terminal: Terminal) -> None:
    x, y = problem()

    def batches() -> Any:
        for i in range(0, 40, 10):
            yield x[i : i + 10], y[i : i + 10]

    network().fit(x, y, batch_size=10, accumulate=3, callbacks=[ProgressBar(every=0)], verbose=0)
    assert "| 2/2 [" in drawn(terminal)[0]
    network().fit(batches, epochs=2, callbacks=[ProgressBar(every=0)], verbose=0)
    assert "epoch 1/2: 4step [" in drawn(terminal)[1]


def test_the_bar_of_a_resumed_run_starts_where_it_goes_on(
    terminal: Terminal, tmp_path: Path
) -> None:
    def run(*more: Callback) -> None:
        checkpoint = callbacks.Checkpoint(tmp_path, every=1, best=False)
        fit(checkpoint, *more, epochs=1, resume=tmp_path, verbose=1)

    with pytest.raises(RuntimeError, match="the power is gone"):
        run(Power(2))
    terminal.truncate(0)
    run()
    assert "| 2/4 [" in terminal.getvalue().split("\r")[1]
    assert "| 4/4 [" in drawn(terminal)[0]


def test_the_bar_is_closed_after_an_error(terminal: Terminal) -> None:
    bar = ProgressBar()
    with pytest.raises(RuntimeError, match="the power is gone"):
        fit(bar, Power(2))
    assert terminal.getvalue().endswith("\n")
    x, y = problem()
    x[0] = np.nan
    with pytest.raises(NonFiniteError):
        network().fit(x, y)
    assert terminal.getvalue().endswith("\n")
    assert bar._bar is None


def test_a_log_has_a_line_now_and_then(capsys: Any) -> None:
    fit(ProgressBar(log_every=3600.0))
    assert capsys.readouterr() == ("", "")
    history = fit(ProgressBar(log_every=0.0))
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith(f"epoch 2/3  loss {history['loss'][1]:.4g}  accuracy 0.")


NOTEBOOK = """
import sys
sys.path[:0] = {paths}
import numpy as np, xpnn
from xpnn.callbacks import ProgressBar
model = xpnn.Sequential([xpnn.layers.Dense(1)])
model.compile("mse")
x = np.ones((320, 2), "float32")
history = model.fit(x, x[:, :1], epochs=14, callbacks=[ProgressBar(every=0)], verbose=0)
"""


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")  # those of the client and its loop
def test_a_notebook_shows_one_output_with_the_last_epochs() -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    code = NOTEBOOK.format(paths=[str(Path(xpnn.__file__).parent.parent)])
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    outputs = book.cells[0].outputs
    assert [output.output_type for output in outputs] == ["display_data"]
    lines = outputs[0].data["text/plain"].splitlines()
    assert [line.split(":")[0] for line in lines] == [f"epoch {i}/14" for i in range(5, 15)]
    assert "| 10/10 [" in lines[-1]
    assert "loss=" in lines[-1]


# ----------------------------------------------------------------------------- TensorBoard


def events(folder: Path) -> list[Any]:
    """Read the events of a folder, in the order in which TensorBoard reads its files."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            found.append(Event.FromString(content[at + 12 : at + 12 + length]))
            at += length + 16
    return found


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Return what TensorBoard shows: a restart hides what comes from its step on."""
    found: dict[str, dict[int, float]] = {}
    for event in events(folder):
        if event.HasField("session_log"):
            for values in found.values():
                for step in [step for step in values if step >= event.step]:
                    del values[step]
        for value in event.summary.value:
            if value.HasField("simple_value"):
                # An epoch that ends at the very step of a checkpoint may be written twice.
                values = found.setdefault(value.tag, {})
                assert values.setdefault(event.step, value.simple_value) == value.simple_value
    return found


@pytest.fixture
def _tensorboardx(monkeypatch: pytest.MonkeyPatch) -> None:
    if "torch" not in sys.modules:  # it is looked for, which takes seconds, and is not needed
        monkeypatch.setitem(sys.modules, "torch", None)
    pytest.importorskip("tensorboardX")


@pytest.mark.extras
@pytest.mark.usefixtures("_tensorboardx")
def test_tensorboard_has_epochs_steps_and_rates(tmp_path: Path) -> None:
    history = fit(TensorBoard(tmp_path, every=2), validation_split=0.25)
    found = scalars(tmp_path / "train")
    assert list(found) == ["step/loss", "step/accuracy", "lr", "loss", "accuracy"]
    assert found["loss"] == pytest.approx(dict(zip((3, 6, 9), history["loss"], strict=True)))
    assert list(found["step/loss"]) == [2, 4, 6, 8]
    assert found["lr"] == pytest.approx({3: 0.02, 6: 0.02, 9: 0.02})
    validation = scalars(tmp_path / "validation")
    assert list(validation) == ["loss", "accuracy"]
    assert list(validation["loss"].values()) == pytest.approx(history["val_loss"])
    start, session = events(tmp_path / "train")[:2]
    assert start.file_version == "brain.Event:2"
    assert session.session_log.status == session.session_log.START


@pytest.mark.extras
@pytest.mark.usefixtures("_tensorboardx")
def test_tensorboard_has_histograms_of_finite_values(tmp_path: Path) -> None:
    x, y = problem()
    model = network()

    class Spoil(Callback):
        rank = -1

        def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
            bias = run.model[0].bias
            bias.data = np.where(np.arange(8) < 3, np.inf, np.arange(8)).astype("float32")
            run.model[1].bias.data = run.model[1].bias.data * np.nan

    model.fit(x, y, callbacks=[TensorBoard(tmp_path, histograms=True), Spoil()])
    values = [value for event in events(tmp_path / "train") for value in event.summary.value]
    found = {value.tag: value.histo for value in values if value.HasField("histo")}
    assert list(found) == ["0/weight", "0/bias", "1/weight"]
    assert (found["0/weight"].num, sum(found["0/weight"].bucket)) == (16, 16)
    assert (found["0/bias"].num, found["0/bias"].min, found["0/bias"].max) == (5, 3.0, 7.0)


@pytest.mark.extras
@pytest.mark.usefixtures("_tensorboardx")
def test_tensorboard_goes_on_after_a_resume(tmp_path: Path) -> None:
    def run(where: str, *more: Callback) -> None:
        folder = tmp_path / where
        checkpoint = callbacks.Checkpoint(folder / "checkpoints", every=3)
        board = TensorBoard(folder / "board", every=1)
        options = {"validation_split": 0.25, "resume": folder / "checkpoints"}
        fit(checkpoint, board, *more, **options)

    run("whole")
    with pytest.raises(RuntimeError, match="the power is gone"):
        run("killed", Power(8))
    assert 8 in scalars(tmp_path / "killed" / "board" / "train")["step/loss"]
    run("killed")
    for part in ("train", "validation"):
        whole = scalars(tmp_path / "whole" / "board" / part)
        assert scalars(tmp_path / "killed" / "board" / part) == whole


@pytest.mark.extras
@pytest.mark.usefixtures("_tensorboardx")
def test_a_new_run_hides_an_older_one_in_its_folder(tmp_path: Path) -> None:
    fit(TensorBoard(tmp_path))
    fit(TensorBoard(tmp_path), epochs=1)
    assert list(scalars(tmp_path / "train")["loss"]) == [4]


@pytest.mark.extras
@pytest.mark.usefixtures("_tensorboardx")
def test_tensorboard_shows_the_rates_of_several_optimizers(tmp_path: Path) -> None:
    x, y = problem()
    model = TwoRates()
    model.compile("cross_entropy")
    model.fit(x, y, callbacks=[TensorBoard(tmp_path)])
    found = scalars(tmp_path / "train")
    assert (found["lr/a"], found["lr/b"]) == ({2: 0.5}, {2: 0.25})
