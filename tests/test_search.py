"""Searches for hyperparameters: spaces, trials, results, folders, processes."""

from __future__ import annotations

import csv
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnn
from xpnn import datasets, layers, optim
from xpnn.errors import ConfigError, DataError, MissingLibraryError, NonFiniteError
from xpnn.random import Stream
from xpnn.search import (
    Choices,
    GridSearch,
    Hyperparameters,
    Integers,
    LogUniform,
    RandomSearch,
    Range,
    Setting,
    Uniform,
    identity,
)
from xpnn.search.identity import looks
from xpnn.training import History

SPACE = {"a": [1, 2, 3], "b": [0.0, 0.5]}


def bowl(hp: Setting) -> float:
    return float((hp.a - 2) ** 2 + hp.b)


def noisy(hp: Setting) -> dict[str, float]:
    """What depends on the trial's random stream, device and dtype."""
    noise = xpnn.get_rng().normal((3,))
    assert xpnn.get_device() == "cpu"
    return {"noise": float(noise.sum()), "size": float(noise.itemsize)}


def build(hp: Setting) -> Any:
    model = xpnn.Sequential(
        [layers.Flatten(), layers.Dense(hp.hidden, activation="relu"), layers.Dense(10)]
    )
    model.compile("cross_entropy", optim.Adam(hp.lr), metrics=["accuracy"])
    return model


def digits(n: int = 300) -> tuple[Any, Any]:
    x, y = datasets.load_digits()
    return x[:n], y[:n]


# -------------------------------------------------------------------------------- the space


def test_a_grid_is_the_product_and_its_last_name_changes_fastest() -> None:
    hps = Hyperparameters(a=[1, 2], b="x", c=[True, False])
    settings = list(hps)
    assert [(hp.a, hp.b, hp.c) for hp in settings] == [
        (1, "x", True),
        (1, "x", False),
        (2, "x", True),
        (2, "x", False),
    ]
    assert list(hps) == settings  # again, and settings of their own
    assert len(hps) == 4
    assert hps.a == 1
    assert hps["b"] == "x"
    assert "c" in hps
    assert "d" not in hps


def test_the_call_form_of_yadll_works() -> None:
    hp = Hyperparameters()
    hp("batch_size", 500)
    hp("n_epochs", 1000, [500, 1000])
    hp("hidden", [64, 64])  # a value that is a list
    assert hp.n_epochs == 1000
    assert hp.defaults == {"batch_size": 500, "n_epochs": 1000, "hidden": [64, 64]}
    assert [s.n_epochs for s in hp] == [500, 1000]
    assert all(s.hidden == [64, 64] and s.batch_size == 500 for s in hp)


def test_the_grid_of_yadlls_documentation_has_as_many_settings() -> None:
    hp = Hyperparameters()
    for i, n in enumerate((2, 2, 2, 2, 4, 4, 6)):
        hp(f"h{i}", 0, range(n))
    assert len(hp) == len(list(hp)) == 1536


def test_settings_are_mappings_that_cannot_be_changed() -> None:
    hp = Setting({"lr": 0.1, "units": 3})
    assert {**hp} == {"lr": 0.1, "units": 3} == hp
    assert pickle.loads(pickle.dumps(hp)) == hp
    with pytest.raises(AttributeError, match=r"a setting is not changed.*'lr': 1"):
        hp.lr = 1
    with pytest.raises(AttributeError, match=r"no hyperparameter 'unit'.*Did you mean 'units'"):
        hp.unit  # noqa: B018
    with pytest.raises(AttributeError, match="there are lr"):
        Hyperparameters(lr=1).rate  # noqa: B018


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hyperparameters(a=[]), "the range of 'a' is empty"),
        (lambda: Hyperparameters()("a", 1, []), "the range of 'a' is empty"),
        (lambda: Hyperparameters(a=1)("a", 2), "a hyperparameter 'a' already"),
        (lambda: Hyperparameters()("a b", 2), "expected a name such as 'lr', got 'a b'"),
        (lambda: Hyperparameters(_a=2), "got '_a'"),
        (lambda: Hyperparameters(values=2), "'values' is a method's name"),
        (lambda: Hyperparameters(sample=2), "'sample' is a method's name"),
        (lambda: Hyperparameters()("a", 1, "xyz"), r"range of 'a' must be a list.*got 'xyz'"),
        (lambda: Hyperparameters()("a", 1, 3), r"range of 'a' must be a list.*got 3"),
        (lambda: Choices("abc"), "expected a list of values, got 'abc'"),
        (lambda: Choices([]), "got none"),
        (lambda: Uniform(1, 1), "finite low < high, got 1 and 1"),
        (lambda: Uniform(0, math.inf), "finite low < high"),
        (lambda: Uniform("a", "b"), "finite low < high, got 'a'"),
        (lambda: LogUniform(0, 1), "above 0, got 0"),
        (lambda: Integers(0, 5, log=True), "above 0, got 0"),
        (lambda: Integers(3, 2), "low <= high, got 3 and 2"),
        (lambda: Integers(0.5, 2), "whole numbers, got 0.5"),
        (lambda: Integers(0, 2, log="yes"), "'log' must be True or False"),
        (lambda: len(Hyperparameters(a=Uniform(0, 1))), r"Uniform\(low=0.0, high=1.0\) is contin"),
        (lambda: Hyperparameters(f=[len, lambda x: x]).to_config(), "'f' has a value that cannot"),
    ],
)
def test_what_is_no_space_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


# The mean of floor(exp(u)), u uniform on [0, log 9).
FLOOR_OF_LOG_UNIFORM = sum(k * math.log1p(1 / k) for k in range(1, 9)) / math.log(9)


@pytest.mark.parametrize(
    ("one", "low", "high", "mean"),
    [
        (Uniform(-1.0, 3.0), -1.0, 3.0, 1.0),
        (LogUniform(1e-4, 1e-2), 1e-4, 1e-2, 0.0099 / math.log(100)),
        (Integers(2, 6), 2, 6, 4.0),
        # Mean of floor(exp(u)), u uniform on [0, log 9): sum of k log((k + 1) / k) / log 9.
        (
            Integers(1, 8, log=True),
            1,
            8,
            sum(k * math.log1p(1 / k) for k in range(1, 9)) / math.log(9),
        ),
        (Choices([0.0, 1.0, 5.0]), 0.0, 5.0, 2.0),
    ],
)
def test_draws_are_in_range_with_the_mean_of_the_distribution(
    one: Range, low: float, high: float, mean: float
) -> None:
    stream = Stream(3)
    drawn = np.asarray([one.draw(stream) for _ in range(1500)])
    assert low <= drawn.min()
    assert drawn.max() <= high
    assert abs(drawn.mean() - mean) < 4 * drawn.std() / math.sqrt(len(drawn))
    if isinstance(one, (Integers, Choices)):
        assert set(drawn) == set(map(float, one.values()))


def test_defaults_of_ranges_are_the_first_or_the_middle() -> None:
    hps = Hyperparameters(
        a=Uniform(0, 1), b=LogUniform(0.01, 1), c=Integers(1, 4), d=Integers(1, 100, log=True)
    )
    assert hps.a == 0.5
    assert hps.b == pytest.approx(0.1)
    assert hps.c == 2
    assert hps.d == 10
    assert Uniform(0, 1) == Uniform(0, 1) != Uniform(0, 2)
    assert hps.ranges["c"] == Integers(1, 4)


def test_the_configuration_of_a_space_is_json() -> None:
    config = Hyperparameters(lr=LogUniform(0.1, 1), f=[len, None], n=np.int64(3)).to_config()
    assert json.loads(json.dumps(config)) == {
        "lr": {"default": pytest.approx(0.1**0.5), "range": "LogUniform", "low": 0.1, "high": 1.0},
        "f": {"default": "builtins.len", "range": "Choices", "choices": ["builtins.len", None]},
        "n": {"default": 3, "range": "Choices", "choices": [3]},
    }


def test_random_settings_depend_on_seed_and_number_alone() -> None:
    hps = Hyperparameters(a=Uniform(0, 1), b=Integers(0, 9), c=["x", "y"])
    few = hps.sample(4, seed=1)
    xpnn.set_seed(5)
    assert hps.sample(9, seed=1)[:4] == few
    assert hps.sample(4, seed=2) != few
    assert len({s.a for s in hps.sample(50)}) == 50


# ----------------------------------------------------------------------------------- results


def test_trials_are_sorted_and_those_that_failed_come_last() -> None:
    def f(hp: Setting) -> dict[str, float]:
        if hp.a == 2:
            msg = "two is\nbad"
            raise ValueError(msg)
        return {"val_accuracy": hp.a / 10 - hp.b, "other": 1.0}

    results = GridSearch(f, SPACE, monitor="val_accuracy").run()
    assert results.mode == "max"
    assert [t.number for t in results] == [4, 0, 5, 1, 2, 3]
    assert results.best.setting == {"a": 3, "b": 0.0}
    assert results.best.score == results.best.values["val_accuracy"] == 0.3
    assert results[-1].error == "ValueError: two is\nbad"
    assert results[-1].score is None
    assert results[-1].values == {}
    assert [t.number for t in results[:2]] == [4, 0]
    lines = str(results).splitlines()
    assert lines[0].split() == ["trial", "a", "b", "val_accuracy", "other", "error"]
    assert lines[1].split() == ["4", "3", "0", "0.3", "1"]
    assert lines[5].split() == ["2", "2", "0", "ValueError:", "two", "is", "bad"]
    assert lines[-1] == "6 of 6 trials, 2 failed; largest val_accuracy first"
    assert repr(results) == "Results(6 of 6 trials, best val_accuracy=0.3)"


def test_the_table_is_aligned() -> None:
    lines = str(GridSearch(bowl, {"a": [1, 200], "b": 0.25}, mode="min").run()).splitlines()
    assert lines[:3] == [
        "trial    a     b    score",
        "    0    1  0.25     1.25",
        "    1  200  0.25  39204.2",
    ]


def test_csv_has_all_digits(tmp_path: Path) -> None:
    def f(hp: Setting) -> dict[str, float]:
        if hp.loss == "mae":
            msg = 'a "quoted", word'
            raise RuntimeError(msg)
        return {"loss": 1 / 3}

    space = Hyperparameters(loss=["mse", "mae"], activation=[math.tanh], hidden=[[8, 8]])
    results = GridSearch(f, space).run()
    results.to_csv(tmp_path / "t.csv")
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["trial", "hp.loss", "activation", "hidden", "loss", "error"],
        ["0", "mse", "tanh", "[8, 8]", "0.3333333333333333", ""],
        ["1", "mae", "tanh", "[8, 8]", "", 'RuntimeError: a "quoted", word'],
    ]
    assert results.rows()[1]["loss"] is None
    assert results.columns() == rows[0]


def test_html_is_escaped() -> None:
    html = GridSearch(lambda hp: 1.0, {"a": ["<b>"]}, mode="max").run()._repr_html_()
    assert "<td>&lt;b&gt;</td>" in html
    assert "<b>" not in html
    assert html.count("<tr>") == 2


def test_no_trial_that_succeeded_is_an_error_with_the_first_reason() -> None:
    def f(hp: Setting) -> float:
        return 1 / 0

    results = GridSearch(f, SPACE).run()
    with pytest.raises(ConfigError, match=r"none of 6 trials .* ZeroDivisionError: division"):
        results.best  # noqa: B018
    assert "6 failed" in str(results)
    assert repr(results) == "Results(6 of 6 trials)"
    assert repr(GridSearch(lambda hp: 0, {"a": 1}, mode="min").run()).endswith("best score=0)")


# ------------------------------------------------------------------------ what is returned


def history() -> History:
    h = History()
    for loss, val in ((3.0, 2.0), (2.0, 1.0), (1.0, 1.5), (math.nan, math.nan)):
        h.append({"loss": loss, "val_loss": val})
    return h


def test_of_a_history_the_best_epoch_counts() -> None:
    best = GridSearch(lambda hp: history(), {"a": [1]}).run().best
    assert best.values == {"epoch": 2.0, "loss": 2.0, "val_loss": 1.0}
    best = GridSearch(lambda hp: history(), {"a": [1]}, monitor="val_loss", mode="max").run().best
    assert best.values["epoch"] == 1.0


def test_one_element_of_any_array_is_a_number() -> None:
    for value in (xpnn.Tensor([2.0]), np.float32(2), np.asarray(2), 2):
        assert GridSearch(lambda hp, v=value: v, {"a": 1}, mode="min").run().best.score == 2.0


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "must return a number, numbers by name, or the history of a fit; got NoneType"),
        ("0.5", "got str"),
        (True, "got bool"),
        (np.ones(2), r"got ndarray of shape \(2,\)"),
        ({"loss": None}, "got NoneType for 'loss'"),
        ({"loss": 1.0, "accuracy": 1.0}, r"no value 'val_loss' .* are loss, accuracy.*validation"),
        ({}, "there are none"),
        (0.5, r"returned a number, 0.5. Say mode='min' or mode='max'"),
        (History(), "no value 'val_loss'"),
    ],
)
def test_a_wrong_return_ends_a_search_that_has_nothing_yet(found: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GridSearch(lambda hp: found, SPACE).run()


def test_later_a_wrong_return_is_a_failed_trial() -> None:
    def f(hp: Setting) -> Any:
        return {1: {"x": 1.0}, 2: None, 3: {"y": 1.0}}[hp.a]

    results = GridSearch(f, {"a": [1, 2, 3]}).run()
    assert [t.number for t in results] == [0, 1, 2]
    assert "got NoneType" in str(results[1].error)
    assert "no value 'x', by which the others are compared" in str(results[2].error)


def test_a_score_that_is_no_number_is_a_failed_trial() -> None:
    results = GridSearch(lambda hp: {"loss": math.nan if hp.a < 3 else 1.0}, SPACE).run()
    assert results.best.setting.a == 3
    assert results[-1].error == "loss is nan"


def test_errors_can_end_the_search() -> None:
    def f(hp: Setting) -> float:
        msg = "the loss became nan"
        raise NonFiniteError(msg)

    assert GridSearch(f, SPACE).run()[0].error == "NonFiniteError: the loss became nan"
    with pytest.raises(NonFiniteError, match="the loss became nan"):
        GridSearch(f, SPACE, on_error="raise").run()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GridSearch(bowl, {}), "GridSearch: the space has no hyperparameters"),
        (lambda: GridSearch(bowl, [1, 2]), r"Hyperparameters or a dict of ranges, got \[1, 2\]"),
        (lambda: GridSearch(3, SPACE), "expected a function of a setting.*got int"),
        (lambda: GridSearch(bowl, SPACE, mode="best"), "'mode' must be 'auto' or 'min' or 'max'"),
        (lambda: GridSearch(bowl, SPACE, on_error="stop"), "'on_error' must be"),
        (lambda: GridSearch(bowl, SPACE, n_jobs=0), "'n_jobs' must be a number of processes"),
        (lambda: GridSearch(bowl, SPACE, n_jobs=1.5), "'n_jobs' must be"),
        (lambda: GridSearch(bowl, SPACE, verbose=-1), "'verbose' must be"),
        (lambda: GridSearch(bowl, SPACE, keep_model=1), "'keep_model' must be True or False"),
        (lambda: GridSearch(bowl, SPACE, keep_model=True).run(), "run has no models"),
        (lambda: GridSearch(bowl, {"a": Uniform(0, 1)}).run(), "continuous.*take RandomSearch"),
        (lambda: RandomSearch(bowl, SPACE, n=0), "RandomSearch: 'n' must be a whole number >= 1"),
        (lambda: RandomSearch(bowl, SPACE, seed=-1), "expected an integer seed"),
        (lambda: GridSearch(bowl, SPACE, mode="min").run().best_model, "no model was kept"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


# ------------------------------------------------------------------------------ the context


def test_a_trial_has_its_own_stream_and_leaves_the_context_as_it_is() -> None:
    def f(hp: Setting) -> dict[str, float]:
        xpnn.set_dtype("float64")
        return noisy(hp)

    before = xpnn.get_rng().state
    results = GridSearch(f, SPACE, monitor="noise", seed=4).run()
    assert xpnn.get_rng().state == before
    assert xpnn.get_dtype() == "float32"
    assert len({t.score for t in results}) == 6
    xpnn.set_seed(results.best.seed)
    assert f(results.best.setting) == results.best.values
    xpnn.set_dtype("float32")
    again = GridSearch(f, SPACE, monitor="noise", seed=4).run()
    assert again.rows() == results.rows()
    assert GridSearch(f, SPACE, monitor="noise", seed=5).run().rows() != results.rows()


def test_trials_are_on_the_device_of_the_search(device: Any) -> None:
    found: list[str] = []

    def f(hp: Setting) -> float:
        found.append(str(xpnn.get_device()))
        return float(xpnn.ops.sum(xpnn.asarray([hp.a, 1.0])))

    with xpnn.device(str(device)):
        best = GridSearch(f, {"a": [1, 2]}, mode="max").run().best
    assert found == [str(device)] * 2
    assert best.score == 3.0


def test_what_a_trial_changes_is_not_given_to_the_next() -> None:
    def f(hp: Setting) -> float:
        hp.memory.append(1)
        return len(hp.memory)

    space = Hyperparameters(a=[1, 2, 3])
    space("memory", [])
    assert [t.score for t in GridSearch(f, space, mode="min").run()] == [1.0, 1.0, 1.0]


# ---------------------------------------------------------------------------------- models


def test_models_are_fitted_and_the_best_one_is_kept() -> None:
    x, y = digits()
    space = {"lr": [1e-4, 1e-2], "hidden": [8], "batch_size": [50, 100]}
    search = GridSearch(build, space, monitor="val_accuracy", keep_model=True)
    results = search.fit(x, y, validation_split=0.3, epochs=4)
    assert results.best.setting.lr == 1e-2
    assert set(results.best.values) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}
    found = results.best_model.evaluate(x[210:], y[210:])
    assert found["accuracy"] == pytest.approx(results.best.score)  # of its best epoch
    assert found["loss"] == pytest.approx(results.best.values["val_loss"])
    assert results.best_model is results.best_model
    # By hand: the seed of the trial, and its setting.
    hp = results.best.setting
    xpnn.set_seed(results.best.seed)
    fit = {"validation_split": 0.3, "epochs": 4, "batch_size": hp.batch_size, "verbose": 0}
    by_hand = build(hp).fit(x, y, **fit)
    assert max(by_hand["val_accuracy"]) == results.best.score


def test_callbacks_are_copied_for_every_trial() -> None:
    class Count(xpnn.callbacks.Callback):
        epochs = 0

        def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
            self.epochs += 1
            assert self.epochs <= 2

    x, y = digits(60)
    space = {"lr": [0.01, 0.1], "hidden": 4}
    given = Count()
    search = GridSearch(build, space, on_error="raise")
    results = search.fit(x, y, validation_split=0.3, epochs=2, callbacks=[given])
    assert len(results) == 2
    assert given.epochs == 0


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        ({"lr": 0.1}, {}, r"compared by 'val_loss', which needs.*validation_split=0.2"),
        ({"lr": 0.1}, {"epoch": 2}, r"no argument 'epoch' is known; there are batch_size"),
        ({"lr": 0.1}, {"resume": "folder"}, r"no argument 'resume' is known"),
        ({"lr": 0.1}, {"validation_data": iter([])}, "an iterator can be gone through once"),
        ({"epochs": [1, 2]}, {"epochs": 2}, "'epochs' is a hyperparameter, and given as well"),
        *(
            ({"lr": 0.1}, {"validation_split": 0.5, "callbacks": given}, message)
            for given, message in [
                (xpnn.callbacks.EarlyStopping(), "'callbacks' must be a list of Callback objects"),
                ([xpnn.callbacks.EarlyStopping], "'callbacks' must be a list of Callback objects"),
                ([xpnn.callbacks.Checkpoint("a")], "write to 'a', by the same Checkpoint. Leave"),
                ([xpnn.callbacks.CSVLogger("a")], "would write to 'a', by the same CSVLogger"),
                ([xpnn.callbacks.PlotHistory("a")], "would write to 'a', by the same PlotHistory"),
            ]
        ),
    ],
)
def test_wrong_arguments_of_fit_are_refused(space: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GridSearch(build, space).fit(np.ones((4, 2)), np.zeros(4, int), **options)


def test_what_is_no_model_fails() -> None:
    results = GridSearch(bowl, SPACE, monitor="loss").fit(*digits(8))
    assert "must return a compiled model, got float" in str(results[0].error)


# ---------------------------------------------------------------------------------- folders


def test_a_folder_is_gone_on_with(tmp_path: Path) -> None:
    calls: list[int] = []

    def f(hp: Setting) -> float:
        calls.append(hp.a)
        if hp.a == 2 and len(calls) < 4:
            msg = "not now"
            raise OSError(msg)
        return float(hp.a)

    first = GridSearch(f, {"a": [1, 2, 3]}, mode="min", path=tmp_path / "new" / "s").run()
    assert [t.error for t in first] == [None, None, "OSError: not now"]
    again = GridSearch(f, {"a": [1, 2, 3]}, mode="min", path=tmp_path / "new" / "s").run()
    assert calls == [1, 2, 3, 2]  # what failed is tried again, what is done is not
    assert [t.score for t in again] == [1.0, 2.0, 3.0]
    third = GridSearch(f, {"a": [1, 2, 3]}, mode="min", path=tmp_path / "new" / "s").run()
    assert len(calls) == 4
    assert third.rows() == again.rows()
    lines = (tmp_path / "new" / "s" / "trials.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {
        "trial": 0,
        "setting": {"a": 1},
        "seed": first[0].seed,
        "monitor": "score",
        "mode": "min",
        "score": 1.0,
        "values": {"score": 1.0},
        "error": None,
    }


def test_more_random_trials_go_on_in_the_same_folder(tmp_path: Path) -> None:
    space = {"a": Uniform(0, 1), "b": [0.0]}
    few = RandomSearch(bowl, space, n=3, mode="min", path=tmp_path).run()
    more = RandomSearch(bowl, space, n=6, mode="min", path=tmp_path).run()
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 6
    assert {t.number: t for t in few}.items() <= {t.number: t for t in more}.items()
    assert more.rows() == RandomSearch(bowl, space, n=6, mode="min").run().rows()
    assert len(RandomSearch(bowl, space, n=2, mode="min", path=tmp_path).run()) == 2


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (lambda p: GridSearch(bowl, {"a": [1, 2]}, mode="min", path=p), "its 'space.a.choices' is"),
        (lambda p: GridSearch(bowl, SPACE, mode="max", path=p), "its 'mode' is 'min', here.*'max'"),
        (lambda p: GridSearch(noisy, SPACE, mode="min", path=p), "its 'function' is 'bowl'"),
        (lambda p: GridSearch(bowl, SPACE, mode="min", seed=1, path=p), "its 'seed' is 0"),
        (lambda p: RandomSearch(bowl, SPACE, mode="min", path=p), "its 'search' is 'GridSearch'"),
    ],
)
def test_the_folder_of_another_search_is_refused(search: Any, message: str, tmp_path: Path) -> None:
    GridSearch(bowl, SPACE, mode="min", path=tmp_path).run()
    with pytest.raises(DataError, match=f"belongs to another search: {message}"):
        search(tmp_path).run()


def test_so_is_that_of_other_data_or_options(tmp_path: Path) -> None:
    x, y = digits(40)
    search = GridSearch(build, {"lr": 0.1, "hidden": 4}, path=tmp_path)
    search.fit(x, y, validation_split=0.3)
    search.fit(x, y, validation_split=0.3, verbose=0)
    with pytest.raises(DataError, match=r"its 'fit\.epochs' is None, here it is 2"):
        search.fit(x, y, validation_split=0.3, epochs=2)
    with pytest.raises(DataError, match=r"its 'fit\.x' is 'float32 \(40, .*'float32 \(30, "):
        search.fit(x[:30], y[:30], validation_split=0.3)
    with pytest.raises(DataError, match=r"its 'fit\.validation_data' is None, here it is \["):
        search.fit(x, y, validation_data=(x, y))


@pytest.mark.parametrize("change", [lambda x: x[::-1], np.zeros_like, lambda x: x + (x == x[7])])
def test_so_is_that_of_data_of_the_same_shape(change: Any, tmp_path: Path) -> None:
    x, y = digits(40)
    search = GridSearch(build, {"lr": 0.1, "hidden": 4}, path=tmp_path)
    search.fit(x, y, validation_data=(x, y))
    search.fit(x.copy(), y.copy(), validation_data=(x, y))
    with pytest.raises(DataError, match=r"its 'fit.x' is 'float32 \(40, 8, 8\), checksum"):
        search.fit(change(x), y, validation_data=(x, y))
    with pytest.raises(DataError, match=r"its 'fit\.validation_data' is \['float32 \(40, "):
        search.fit(x, y, validation_data=(change(x), y))


def test_large_arrays_are_looked_at_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).random((50, 3))
    whole = looks(x)
    monkeypatch.setattr(identity, "_PIECE", 10)
    assert looks(x) == whole
    assert looks(np.asfortranarray(x)) == whole
    assert looks(x[::-1]) != whole
    assert [looks(np.asarray(1.0)), looks(np.ones((0, 3)))] == [
        f"float64 (), checksum {zlib.crc32(np.ones(1).tobytes()):08x}",
        "float64 (0, 3), checksum 00000000",
    ]


def test_a_callback_of_other_arguments_makes_another_search(tmp_path: Path) -> None:
    x, y = digits(40)

    def fit(patience: int) -> Any:
        search = GridSearch(build, {"lr": 0.1, "hidden": 4}, path=tmp_path)
        stop = xpnn.callbacks.EarlyStopping(patience=patience)
        return search.fit(x, y, validation_split=0.3, callbacks=[stop])

    assert fit(2).rows() == fit(2).rows()
    with pytest.raises(DataError, match=r"its 'fit.callbacks' is .*EarlyStopping.*'patience': 2"):
        fit(3)


def test_a_last_line_that_was_torn_runs_again(tmp_path: Path) -> None:
    whole = GridSearch(bowl, SPACE, mode="min", path=tmp_path).run()
    file = tmp_path / "trials.jsonl"
    content = file.read_bytes()
    for cut in (1, 20):
        file.write_bytes(content[:-cut])
        calls: list[Any] = []

        def counted(hp: Setting, calls: list[Any] = calls) -> float:
            calls.append(hp)
            return bowl(hp)

        counted.__qualname__ = "bowl"
        again = GridSearch(counted, SPACE, mode="min", path=tmp_path).run()
        assert calls == [{"a": 3, "b": 0.5}]
        assert again.rows() == whole.rows()
        assert file.read_bytes() == content


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: ["{", *lines[1:]], "line 1 is damaged.*Delete it to have its trial run"),
        (lambda lines: [lines[0], '{"trial": 1}'], "line 2 is damaged"),
        (lambda lines: [lines[0].replace('"a": 1', '"a": 7')], "trial 0 was of another setting"),
    ],
)
def test_a_damaged_line_is_an_error(damage: Any, message: str, tmp_path: Path) -> None:
    GridSearch(bowl, SPACE, mode="min", path=tmp_path).run()
    file = tmp_path / "trials.jsonl"
    file.write_text("\n".join(damage(file.read_text().splitlines())) + "\n")
    with pytest.raises(DataError, match=message):
        GridSearch(bowl, SPACE, mode="min", path=tmp_path).run()


def test_so_is_a_damaged_description(tmp_path: Path) -> None:
    GridSearch(bowl, SPACE, mode="min", path=tmp_path).run()
    for text, message in (
        ("{", r"is no JSON \(Expecting.*\)\. Give another folder"),
        ("", r"is empty\. Give another folder, or delete this one if"),
    ):
        (tmp_path / "search.json").write_text(text)
        expected = f"search.json: it should say which search the folder belongs to, and {message}"
        with pytest.raises(DataError, match=expected):
            GridSearch(bowl, SPACE, mode="min", path=tmp_path).run()
    (tmp_path / "search.json").write_text("[]")
    with pytest.raises(DataError, match="its 'search' is None, here it is 'GridSearch'"):
        GridSearch(bowl, SPACE, mode="min", path=tmp_path).run()
    (tmp_path / "search.json").unlink()
    with pytest.raises(DataError, match=r"trials and no search\.json"):
        GridSearch(bowl, SPACE, mode="min", path=tmp_path).run()


@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_is_no_folder(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="'path' must be a folder, or one that can be made: "):
        GridSearch(bowl, SPACE, mode="min", path=tmp_path / "file" / below).run()
    with pytest.raises(ConfigError, match="'path' must be a folder, got an empty name"):
        GridSearch(bowl, SPACE, mode="min", path="").run()


def test_what_cannot_be_written_is_refused_before_the_first_trial(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'f' has a value that cannot be written to a file"):
        GridSearch(bowl, {"f": [lambda x: x]}, path=tmp_path).run()
    assert list(tmp_path.iterdir()) == []


def test_the_best_model_is_in_the_folder(tmp_path: Path) -> None:
    x, y = digits(100)
    search = GridSearch(build, {"lr": [0.05, 1e-5], "hidden": 8}, keep_model=True, path=tmp_path)
    first = search.fit(x, y, validation_split=0.3, epochs=2)
    again = search.fit(x, y, validation_split=0.3, epochs=2)
    assert np.array_equal(again.best_model.predict(x), first.best_model.predict(x))
    (tmp_path / "best.safetensors").unlink()
    with pytest.raises(ConfigError, match="the model of trial 0 was not kept"):
        search.fit(x, y, validation_split=0.3, epochs=2).best_model  # noqa: B018


KILLED = """
import sys, time
from xpnn.search import RandomSearch, Uniform

def f(hp):
    time.sleep(0.15)
    return hp.a

RandomSearch(f, {"a": Uniform(0, 1)}, n=12, mode="min", path=sys.argv[1]).run()
"""


def test_a_search_that_was_killed_goes_on(tmp_path: Path) -> None:
    lines = tmp_path / "s" / "trials.jsonl"
    code = [sys.executable, "-c", KILLED, str(tmp_path / "s")]
    process = subprocess.Popen(code)
    try:
        deadline = time.monotonic() + 60
        while not (lines.exists() and lines.read_bytes().count(b"\n") >= 2):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = lines.read_bytes().count(b"\n")
    assert 2 <= done < 12
    calls: list[Any] = []

    def f(hp: Setting) -> float:
        calls.append(hp)
        return hp.a

    f.__qualname__ = "f"
    options: dict[str, Any] = {"n": 12, "mode": "min"}
    found = RandomSearch(f, {"a": Uniform(0, 1)}, path=tmp_path / "s", **options).run()
    assert len(calls) == 12 - done
    whole = RandomSearch(f, {"a": Uniform(0, 1)}, path=tmp_path / "other", **options).run()
    assert found.rows() == whole.rows()
    assert lines.read_bytes() == (tmp_path / "other" / "trials.jsonl").read_bytes()


# ----------------------------------------------------------------------------- interruption


def test_ctrl_c_returns_what_there_is(tmp_path: Path) -> None:
    def f(hp: Setting) -> float:
        if hp.a == 3:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        return bowl(hp)

    results = GridSearch(f, SPACE, mode="min", path=tmp_path).run()
    assert results.interrupted
    assert len(results) == 4
    assert str(results).endswith("4 of 6 trials, interrupted; smallest score first")


def test_a_fit_that_ctrl_c_has_ended_is_no_trial() -> None:
    class Press(xpnn.callbacks.Callback):
        def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
            if run.epoch == 1:
                os.kill(os.getpid(), signal.SIGINT)

    x, y = digits(60)
    search = GridSearch(build, {"hidden": 4, "lr": [0.1, 0.2], "epochs": [1, 5]})
    results = search.fit(x, y, validation_split=0.3, callbacks=[Press()])
    assert results.interrupted
    assert [t.setting.epochs for t in results] == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# ---------------------------------------------------------------------------------- output


def test_lines_say_what_happens(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def f(hp: Setting) -> float:
        return 1 / hp.a

    GridSearch(f, {"a": [0, 2]}, mode="min", verbose=2, path=tmp_path).run()
    assert capsys.readouterr().out.splitlines() == [
        "trial 0 (1/2)  a=0  failed: ZeroDivisionError: division by zero",
        "trial 1 (2/2)  a=2  score 0.5",
    ]
    GridSearch(f, {"a": [0, 2]}, mode="min", verbose=2, path=tmp_path).run()
    assert capsys.readouterr().out.startswith("GridSearch: 1 of 2 trials were done before\n")
    GridSearch(f, {"a": [0, 2]}, mode="min").run()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    GridSearch(bowl, SPACE, mode="min").run()
    shown = capsys.readouterr().err
    assert "GridSearch" in shown
    assert "6/6" in shown
    assert "best score=0" in shown


# -------------------------------------------------------------------------- several processes


def test_several_processes_need_joblib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(MissingLibraryError, match=r"GridSearch\(n_jobs=2\) needs joblib.*xpnn\[se"):
        GridSearch(bowl, SPACE, mode="min", n_jobs=2).run()


@pytest.mark.extras
def test_the_number_of_processes_makes_no_difference(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    x, y = digits(200)
    space = Hyperparameters(lr=LogUniform(1e-3, 1e-1), hidden=Integers(4, 16), epochs=[1, 2])
    options: dict[str, Any] = {"n": 5, "keep_model": True, "seed": 3}
    one = RandomSearch(build, space, **options).fit(x, y, validation_split=0.3)
    two = RandomSearch(build, space, n_jobs=2, path=tmp_path, **options)
    found = two.fit(x, y, validation_split=0.3)
    assert found.rows() == one.rows()
    assert np.array_equal(found.best_model.predict(x), one.best_model.predict(x))
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 5
    assert two.fit(x, y, validation_split=0.3).rows() == one.rows()


@pytest.mark.extras
def test_workers_have_the_dtype_the_seed_and_the_errors() -> None:
    pytest.importorskip("joblib")

    def f(hp: Setting) -> dict[str, float]:
        if hp.a == 2:
            msg = "two"
            raise ValueError(msg)
        return noisy(hp)

    xpnn.set_dtype("float64")
    options: dict[str, Any] = {"monitor": "noise", "seed": 9}
    one = GridSearch(f, SPACE, **options).run()
    two = GridSearch(f, SPACE, n_jobs=2, **options).run()
    assert two.rows() == one.rows()
    assert len(two) == 6
    assert two.best.values["size"] == 8.0
    assert two[-1].error == "ValueError: two"
    with pytest.raises(ValueError, match="two"):
        GridSearch(f, SPACE, n_jobs=2, on_error="raise", **options).run()
