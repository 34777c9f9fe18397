"""Networks by name: that they build for any shape, their settings, their data, and runs of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnn
from xpnn import Sequential, layers, random, zoo
from xpnn.errors import ConfigError, DataError
from xpnn.zoo import run
from xpnn.zoo.data import Splits, images, reconstruction, unlabelled
from xpnn.zoo.recipe import recipe
from xpnn.zoo.settings import parse

DENSE = [
    "batch_normalization",
    "logistic_regression",
    "mlp",
    "mlp_dropconnect",
    "mlp_dropout",
    "self_normalizing",
]
CONVOLUTIONAL = ["conv_pool", "convnet", "lenet5", "transformer"]
RECURRENT = ["gru", "lstm", "rnn"]
CLASSIFIERS = [*DENSE, *CONVOLUTIONAL, *RECURRENT]
SMALL = {"hidden": 8, "filters": 2, "embed_dim": 8, "num_heads": 2}


def small(name: str) -> dict[str, Any]:
    """Return settings that make a network small."""
    own = zoo.get(name).settings
    found = {key: value for key, value in SMALL.items() if key in own}
    if name == "lenet5":
        found["filters"] = (2, 3)
    return found


@pytest.fixture
def mine() -> Iterator[Any]:
    """Forget the recipes that a test registers."""
    before = dict(zoo.RECIPES)
    yield recipe
    zoo.RECIPES.clear()
    zoo.RECIPES.update(before)


@pytest.fixture
def unpictured(monkeypatch: Any) -> None:
    """Do not draw: it takes longer than the runs."""
    monkeypatch.setattr(run, "draw", lambda *args, **options: [])


# ------------------------------------------------------------------------------------- networks


def test_there_are_all_that_were_announced() -> None:
    assert set(CLASSIFIERS) <= set(zoo.RECIPES)
    for name, found in zoo.RECIPES.items():
        assert found.name == name
        assert found.about.endswith("."), name
        assert len(found.about) <= 90, f"{name}: one line"


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (12, 9, 3)], ids=str)
def test_a_classifier_builds_and_learns_for_any_image(name: str, shape: tuple[int, ...]) -> None:
    model = (
        zoo.get(name).build(shape, 4, **small(name), steps=6)
        if name != "convnet"
        else (zoo.get(name).build(shape, 4))
    )
    x = np.random.default_rng(0).random((12, *shape), dtype=np.float32)
    history = model.fit(x, np.arange(12) % 4, batch_size=5, epochs=2, verbose=0)
    assert model.predict(x).shape == (12, 4)
    assert all(math.isfinite(value) for value in history["loss"])


@pytest.mark.parametrize("name", DENSE)
def test_dense_networks_take_examples_of_any_shape(name: str) -> None:
    model = zoo.get(name).build((5,), 3, **small(name))
    assert model(np.ones((2, 5), np.float32)).shape == (2, 3)


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_networks_read_sequences_and_rows(name: str) -> None:
    model = zoo.get(name).build((7, 3), 2, **small(name))
    assert model(np.ones((4, 7, 3), np.float32)).shape == (4, 2)
    assert model[0].shape == (7, 3)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_refuses_data_without_classes(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: it tells classes apart, and the data has no"):
        zoo.get(name).build((8, 8), None)
    with pytest.raises(ConfigError, match=f"{name}: it tells classes apart, and all labels of the"):
        zoo.get(name).build((8, 8), 1)


@pytest.mark.parametrize("name", [*CONVOLUTIONAL, *RECURRENT])
def test_networks_for_images_refuse_other_examples(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: expected images .* got examples of \(64,\)"):
        zoo.get(name).build((64,), 10)


def test_lenet_keeps_its_border_where_the_image_is_small() -> None:
    with pytest.raises(ConfigError, match=r"lenet5: expected images of at least 4 x 4 pixels"):
        zoo.lenet5((3, 8), 10)
    large = zoo.lenet5((28, 28), 10)
    large(np.zeros((1, 28, 28), np.float32))
    assert large[4].weight.shape == (4 * 4 * 50, 500)  # as in the tutorials
    small_one = zoo.lenet5((4, 4), 10)
    assert small_one(np.zeros((1, 4, 4), np.float32)).shape == (1, 10)


@pytest.mark.parametrize(
    ("shape", "patches"), [((8, 8), 16), ((28, 28), 16), ((12, 20), 60), ((7, 5), 35)]
)
def test_patches_divide_the_image(shape: tuple[int, int], patches: int) -> None:
    model = zoo.transformer(shape, 10, **small("transformer"))
    assert model[2].shape[0] == patches
    with pytest.raises(ConfigError, match=r"transformer: patches of 11 x 11 pixels do not divide"):
        zoo.transformer(shape, 10, patch=11)


def test_the_rate_falls_to_zero_in_the_steps_that_are_given() -> None:
    optimizer = zoo.mlp((8, 8), 10, lr=0.5, steps=100).optimizer
    assert optimizer.schedule(1) > 0.49
    assert optimizer.schedule(100) == 0
    assert zoo.mlp((8, 8), 10, lr=0.5).optimizer.schedule is None


@pytest.mark.parametrize(
    ("name", "least"), [("logistic_regression", 0.94), ("mlp", 0.95), ("gru", 0.92)]
)
def test_networks_tell_digits_apart(name: str, least: float) -> None:
    own = {} if name == "logistic_regression" else {"hidden": 64, "lr": 0.005}
    found = zoo.train(name, epochs=20, settings=own, verbose=0)
    assert found.scores["accuracy"] > least
    assert found.scores["error"] == pytest.approx(1 - found.scores["accuracy"])
    assert found.files == []


def test_a_pixel_that_is_rarely_lit_does_not_decide_alone() -> None:
    model = zoo.get("batch_normalization").build((4,), 2)
    x = np.zeros((1000, 4), np.float32)
    x[0, 0] = 1.0
    model.fit(x, np.arange(1000) % 2, batch_size=100, epochs=10, verbose=0)
    normalized = model[1].eval()(x).data
    assert 1.0 < normalized.max() <= 10.0  # as in a batch of 100 where it is lit once


def test_small_data_is_gone_through_more_often() -> None:
    found = zoo.get("mlp")
    assert found.epochs_for(50_000, 100) == found.epochs
    assert found.epochs_for(1294, 100) == math.ceil(found.least_steps / 13) > found.epochs
    seen = []
    with pytest.raises(ZeroDivisionError):
        zoo.train("mlp", started=lambda splits, epochs, size: seen.append(epochs) or 1 / 0)
    assert seen == [found.epochs_for(1294, 100)]


# ------------------------------------------------------------------------------------- settings


def test_settings_are_read_by_their_annotations(mine: Any) -> None:
    @mine(pretrain={"epochs": 3, "lr": 0.1})
    def odd(
        shape: Any, classes: Any, *, on: bool = True, n: int | None = None, word: str = "a",
        sizes: tuple[int, ...] = (3,), x: float = 1, plain=2.5,
    ) -> None:  # fmt: skip
        """Nothing."""

    texts = ["on=False", "n=3", "word=none", "sizes=4,5", "x=1e-3", "plain=2", "pretrain_epochs=7"]
    assert parse(zoo.get("odd"), texts) == {
        "on": False, "n": 3, "word": "none", "sizes": (4, 5), "x": 1e-3, "plain": 2.0,
        "pretrain_epochs": 7,
    }  # fmt: skip
    assert parse(zoo.get("odd"), ["n=none", "patience=None", " sizes = 4 "]) == {
        "n": None, "patience": None, "sizes": (4,),
    }  # fmt: skip
    wrong = {
        "on=1": "'on' must be true or false, got '1'. Its default is true",
        "n=1.5": "'n' must be none or a whole number, got '1.5'. Its default is none",
        "sizes=a": "'sizes' must be whole numbers with commas between, got 'a'. Its default is 3",
        "x=": "'x' must be a number, got ''",
        "patience=soon": "'patience' must be none or a whole number",
        "n": "expected a setting as name=value, got 'n'",
        "m=1": "odd has no setting 'm'; there are on=true, n=none, word=a, sizes=3, x=1, plain=2.5",
        "wrod=b": "patience=none. Did you mean 'word'?",
    }
    for text, message in wrong.items():
        with pytest.raises(ConfigError) as caught:
            parse(zoo.get("odd"), [text])
        assert message in str(caught.value)


def test_settings_of_a_call_are_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"mlp has no setting 'depth'; there are lr=0\.001"):
        zoo.train("mlp", settings={"depth": 3})


# ----------------------------------------------------------------------------------------- data


def test_the_digits_are_split_by_the_seed() -> None:
    def split(seed: int) -> Splits:
        random.set_seed(seed)
        return images("digits")

    a, b, c = split(1), split(1), split(2)
    assert [len(x) for x, _ in a] == [1294, 144, 359]
    assert (a.shape, a.classes, a.examples) == ((8, 8), 10, 1294)
    for (x, y), (same, labels) in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, same)
        np.testing.assert_array_equal(y, labels)
    assert not np.array_equal(a.test[1], c.test[1])
    together = np.concatenate([x for x, _ in a]).sum(dtype=np.float64)
    assert together == pytest.approx(xpnn.datasets.load_digits()[0].sum(dtype=np.float64))


@pytest.mark.parametrize("name", ["mnist", "fashion"])
def test_the_last_images_of_the_training_set_validate(name: str, monkeypatch: Any) -> None:
    x = np.arange(12_000, dtype=np.float32)[:, None, None]
    y = np.arange(12_000) % 10
    loader = "load_mnist" if name == "mnist" else "load_fashion_mnist"
    monkeypatch.setattr(xpnn.datasets, loader, lambda: ((x, y), (x[:5], y[:5])))
    splits = images(name)
    assert [len(x) for x, _ in splits] == [2000, 10_000, 5]
    assert splits.validation[0][0] == 2000


def test_images_without_labels_and_as_their_own_targets() -> None:
    splits = unlabelled("digits")
    assert splits.train[1] is None
    assert splits.classes is None
    splits = reconstruction("digits")
    assert splits.test[0] is splits.test[1]
    assert splits.classes is None


def test_data_of_ones_own(tmp_path: Path) -> None:
    path = str(tmp_path / "a.npz")
    x = np.full((40, 3, 2), 255, np.uint8)
    np.savez(path, x=x, y=np.arange(40) % 3)
    splits = images(path)
    assert [len(x) for x, _ in splits] == [29, 3, 8]
    assert (splits.shape, splits.classes, splits.train[0].dtype) == ((3, 2), 3, np.float32)
    assert splits.train[0].max() == 1
    np.savez(path, x_train=np.full((20, 4), 7), y_train=np.arange(20) % 2,
             x_test=np.ones((5, 4)), y_test=np.arange(5))  # fmt: skip
    splits = images(path)
    assert [len(x) for x, _ in splits] == [18, 2, 5]
    assert (splits.classes, splits.train[0].max(), splits.test[0].dtype) == (5, 7, np.float64)
    np.savez(path, x=x)
    assert [y for _, y in images(path)] == [None, None, None]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.ones(3)}, "expected arrays x_train, y_train, .* got a"),
        ({"x_train": np.ones((9, 2)), "y_train": np.ones(9, int)}, "expected arrays"),
        ({"x_train": np.ones((9, 2)), "x_test": np.ones((9, 2)), "y_test": np.ones(9, int)}, "exp"),
        ({"x": np.ones((9, 2)), "z": np.ones(9)}, "expected arrays x_train.* got x, z"),
        ({"x": np.ones(9), "y": np.ones(9, int)}, r"expected x of shape \(N, ...\)"),
        ({"x": np.ones((0, 3)), "y": np.ones(0, int)}, r"with N examples, got \(0, 3\)"),
        ({"x": np.full((9, 2), np.nan), "y": np.ones(9, int)}, "x holds NaN or infinite values"),
        ({"x": np.ones((9, 2)), "y": np.ones(8, int)}, r"expected y of shape \(9,\)"),
        ({"x": np.ones((9, 2)), "y": np.ones(9)}, r"whole numbers; got \(9,\), float64"),
        ({"x": np.ones((9, 2)), "y": np.full(9, -1)}, "must number the classes from 0 on"),
        ({"x": np.ones((9, 2)), "y": np.full(9, 10**6)}, r"numpy\.unique\(y, return_inverse=Tr"),
        (
            {
                "x_train": np.ones((9, 2)), "y_train": np.ones(9, int),
                "x_test": np.ones((9, 3)), "y_test": np.ones(9, int),
            },
            r"examples have different shapes, \(2,\) and \(3,\)",
        ),
    ],
)  # fmt: skip
def test_data_of_ones_own_that_does_not_fit(
    arrays: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "a.npz")
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=f"a.npz: .*{message}"):
        images(path)


def test_data_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="no data is called 'cifar'; there are digits, mnist, fa"):
        zoo.train("mlp", data="cifar")


# ----------------------------------------------------------------------------------------- runs


def same_files(a: Path, b: Path) -> None:
    for name in ("model.safetensors", "history.json", "history.csv"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


@pytest.mark.usefixtures("unpictured")
def test_a_run_leaves_files(tmp_path: Path) -> None:
    found = zoo.train(
        "mlp", epochs=2, batch_size=50, settings={"hidden": 8}, out=tmp_path / "new" / "run",
        verbose=0,
        checkpoint_every=20,
    )  # fmt: skip
    names = {path.name for path in found.files}
    assert {"model.safetensors", "history.json", "history.csv"} <= names
    assert {"checkpoint-00000020.safetensors", "checkpoint-00000040.safetensors"} <= names
    assert names == {path.name for path in (tmp_path / "new" / "run").iterdir()}
    model = xpnn.load(found.files[0])
    x, _ = found.splits.test
    np.testing.assert_array_equal(model.predict(x), found.model.predict(x))
    assert found.history.epochs == 2
    assert (found.steps, found.interrupted) == (52, False)
    assert found.best_epoch == 1 + found.history["val_loss"].index(min(found.history["val_loss"]))


@pytest.mark.extras
def test_a_run_leaves_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name, more in (("conv_pool", {"filters.png"}), ("rnn", set())):
        found = zoo.train(name, epochs=1, settings=small(name), out=tmp_path / name, verbose=0)
        pictures = {path.name for path in found.files if path.suffix == ".png"}
        assert pictures == {"curves.png", "confusion.png"} | more
        assert found.note == ""


def test_a_run_without_matplotlib_says_so(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    found = zoo.train("logistic_regression", epochs=1, out=tmp_path, verbose=0)
    assert "without pictures: a picture needs matplotlib" in found.note
    assert "pip install 'xpnn[plot]'" in found.note
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("settings", [{}, {"patience": 90}], ids=["all epochs", "patience"])
@pytest.mark.usefixtures("unpictured")
def test_a_run_that_broke_off_ends_as_if_it_had_not(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    def train(name: str, resume: bool = False) -> Any:
        return zoo.train(
            "mlp_dropout", epochs=4, batch_size=50, seed=3, settings={"hidden": 8, **settings},
            out=tmp_path / name, checkpoint_every=25, resume=resume, verbose=0,
        )  # fmt: skip

    def crashing(step: int) -> Any:
        def crash(self: Any, run: Any, values: Any) -> None:
            if run.step == step:
                msg = "the power failed"
                raise OSError(msg)

        return crash

    whole = train("a")
    for step in (4, 76, 78):  # before the first checkpoint, and twice after the same
        monkeypatch.setattr(run._Asked, "on_step_end", crashing(step))
        with pytest.raises(OSError, match="the power failed"):
            train("b", resume=True)
    monkeypatch.undo()
    for torn in ("curves.png.0a1b2c3d.part", "model.safetensors.ff00ff00.part"):
        (tmp_path / "b" / torn).write_text("killed while it wrote")
    found = train("b", resume=True)
    assert not list((tmp_path / "b").glob("*.part"))
    same_files(tmp_path / "a", tmp_path / "b")
    assert found.scores == whole.scores
    assert found.best_epoch == whole.best_epoch
    train("b", resume=True)  # once more, from the last checkpoint
    same_files(tmp_path / "a", tmp_path / "b")


@pytest.mark.usefixtures("unpictured")
def test_checkpoints_of_another_run_are_safe(tmp_path: Path) -> None:
    def train(**options: Any) -> Any:
        return zoo.train(
            "logistic_regression", epochs=1, verbose=0, out=tmp_path, checkpoint_every=5, **options
        )

    train()
    with pytest.raises(ConfigError, match=r"holds checkpoints of another run.*--resume.*--overwri"):
        train()
    with pytest.raises(ConfigError, match="'resume' goes on with the checkpoints that 'overwrite'"):
        train(resume=True, overwrite=True)
    train(overwrite=True, seed=1)
    with pytest.raises(ConfigError, match="is of another run"):
        zoo.train(
            "logistic_regression", epochs=1, verbose=0, out=tmp_path, checkpoint_every=5,
            resume=True, batch_size=10,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "mlp: 'epochs' must be a whole number >= 0, got -1"),
        ({"batch_size": 0}, "mlp: 'batch_size' must be a whole number >= 1, got 0"),
        ({"checkpoint_every": 0, "out": "x"}, "mlp: 'checkpoint_every' must be a whole number"),
        ({"checkpoint_every": 5}, "mlp: checkpoints need a folder, 'out'"),
        ({"resume": True}, "mlp: checkpoints need a folder, 'out'"),
        ({"settings": {"patience": -1}}, "IterationPatience: 'patience' must be a whole number"),
    ],
)
def test_runs_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        zoo.train("mlp", **options)


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_folder_that_cannot_be_made(out: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="'out' must be a folder, or one that can be made: "):
        zoo.train("mlp", out=tmp_path / out)


@pytest.mark.usefixtures("unpictured")
def test_no_epochs_leave_the_weights_as_they_were_drawn(tmp_path: Path) -> None:
    found = zoo.train("mlp", epochs=0, settings={"hidden": 8}, out=tmp_path, verbose=0)
    assert (found.history.epochs, found.best_epoch) == (0, None)
    assert found.scores["accuracy"] < 0.5
    assert xpnn.load(tmp_path / "model.safetensors").parameters()


# --------------------------------------------------------------- recipes of other kinds of models


@pytest.mark.usefixtures("unpictured")
def test_pretraining_comes_first_and_not_again_after_a_crash(
    mine: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    @mine(epochs=3, batch_size=50, pretrain={"epochs": 2, "lr": 0.1, "batch_size": 40})
    def pretrained(shape: Any, classes: int, *, hidden: int = 6) -> Sequential:
        """A Boltzmann machine under a classifier."""
        parts = [layers.Flatten(), layers.RBM(hidden), layers.Dense(classes)]
        model = Sequential(parts)
        model.compile("cross_entropy", "adam", metrics=["accuracy"])
        return model

    calls: list[dict[str, Any]] = []
    real = run.pretrain

    def noted(model: Any, x: Any, **options: Any) -> Any:
        calls.append({**options, "callbacks": None})
        return real(model, x, **options)

    monkeypatch.setattr(run, "pretrain", noted)
    options = {"verbose": 0, "checkpoint_every": 10, "settings": {"pretrain_epochs": 1}}
    zoo.train("pretrained", out=tmp_path / "a", **options)
    expected = {"epochs": 1, "lr": 0.1, "batch_size": 40, "callbacks": None, "verbose": 0}
    assert calls == [expected]

    def crash(self: Any, run: Any, values: Any) -> None:
        if run.step == 40:  # pre-training has fewer
            raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(run._Asked, "on_step_end", crash)
        with pytest.raises(OSError):  # noqa: PT011
            zoo.train("pretrained", out=tmp_path / "b", **options)
    zoo.train("pretrained", out=tmp_path / "b", resume=True, **options)
    assert len(calls) == 2
    same_files(tmp_path / "a", tmp_path / "b")


class Line(xpnn.Model):
    """x is to be 3; it has an objective of its own and needs no targets."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = layers.Dense(1, weight_init="zeros")

    def forward(self, x: Any) -> Any:
        return self.shift(x)

    def objective(self, batch: Any) -> Any:
        xp = xpnn.array_namespace(self(batch.x))
        distance = xp.mean((self(batch.x) - 3.0) ** 2)
        return distance, {"distance": distance}


@pytest.mark.usefixtures("unpictured")
def test_models_without_targets_with_data_and_score_of_their_own(mine: Any, tmp_path: Path) -> None:
    def data(name: str) -> Splits:
        assert name == "ones"
        return Splits(*((np.ones((n, 4), np.float32), None) for n in (20, 4, 5)))

    def score(model: Any, splits: Splits) -> dict[str, float]:
        return {"examples": float(len(splits.test[0]))}

    @mine(epochs=30, batch_size=5, data=data, dataset="ones", score=score, monitor="val_distance")
    def line(shape: Any, classes: Any, *, lr: float = 0.1) -> Line:
        """A line."""
        assert (shape, classes) == ((4,), None)
        model = Line()
        model.compile(optimizer=("adam", {"lr": lr}))
        return model

    found = zoo.train("line", out=tmp_path, verbose=0)
    assert found.scores == {"examples": 5.0}
    assert found.history["val_distance"][-1] < 0.1
    assert found.best_epoch is not None


@pytest.mark.extras
def test_reconstructions_and_samples_are_drawn(mine: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    @mine(
        epochs=1, data=reconstruction, reconstruct=lambda model, x: model.predict(x),
        samples=lambda model: np.zeros((5, 8, 8)),
    )  # fmt: skip
    def same(shape: Any, classes: Any) -> Sequential:
        """An autoencoder."""
        model = Sequential([layers.Flatten(), layers.Dense(64), layers.Reshape((8, 8))])
        model.compile("mse")
        return model

    @mine(epochs=1)
    def boltzmann(shape: Any, classes: int) -> Sequential:
        """A machine that knows how to reconstruct."""
        model = Sequential([layers.Flatten(), layers.RBM(3), layers.Dense(classes)])
        model.compile("cross_entropy")
        return model

    for name, names in (
        ("same", {"curves", "filters", "reconstructions", "samples"}),
        ("boltzmann", {"curves", "filters", "reconstructions"}),
    ):
        found = zoo.train(name, out=tmp_path / name, verbose=0)
        assert {path.stem for path in found.files if path.suffix == ".png"} == names
