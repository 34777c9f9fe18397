"""Estimators of scikit-learn: its own checks, and what they do not look at."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.base import clone
from sklearn.datasets import load_iris, make_regression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import xpnn
from xpnn import datasets, layers, optim
from xpnn.callbacks import Callback
from xpnn.errors import ConfigError, DataError
from xpnn.sklearn import Classifier, Regressor

pytestmark = pytest.mark.extras

Array = Any


@parametrize_with_checks([Classifier(epochs=25, lr=0.01), Regressor(epochs=25, lr=0.01)])
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def iris() -> tuple[Array, Array]:
    x, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(x), y


def small(**options: Any) -> Classifier:
    return Classifier(**{"hidden": (8,), "epochs": 15, "lr": 0.03, "random_state": 0} | options)


# --------------------------------------------------------------------------- in its company


def test_pipelines_scores_and_words_as_labels() -> None:
    x, y = load_iris(return_X_y=True)
    names = np.asarray(["setosa", "versicolor", "virginica"])[y]
    pipeline = make_pipeline(StandardScaler(), small(epochs=30))
    assert cross_val_score(pipeline, x, names, cv=3).min() > 0.85
    pipeline.fit(x, names)
    assert set(pipeline.predict(x)) == set(names)
    assert list(pipeline.classes_) == ["setosa", "versicolor", "virginica"]


def test_grid_search_in_two_processes() -> None:
    x, y = iris()
    grid = {"lr": [1e-5, 0.03], "hidden": [(4,), (8, 8)]}
    found = [
        GridSearchCV(small(epochs=5), grid, cv=2, n_jobs=n, error_score="raise").fit(x, y)
        for n in (1, 2)
    ]
    one, two = (f.cv_results_["mean_test_score"] for f in found)
    assert np.array_equal(one, two)
    assert found[1].best_params_["lr"] == 0.03


def test_a_clone_is_unfitted_with_the_same_parameters() -> None:
    x, y = iris()
    estimator = small(model=[layers.Dense(4, activation="tanh"), layers.Dense(3)], hidden=(100,))
    estimator.fit(x, y)
    copy = clone(estimator)
    assert not hasattr(copy, "model_")
    assert np.array_equal(copy.fit(x, y).predict_proba(x), estimator.predict_proba(x))


def test_data_frames_give_the_names_of_features() -> None:
    pandas = pytest.importorskip("pandas")
    x, y = iris()
    frame = pandas.DataFrame(x, columns=list("abcd"))
    estimator = small(epochs=2).fit(frame, y)
    assert list(estimator.feature_names_in_) == list("abcd")
    assert estimator.n_features_in_ == 4
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(frame[["b", "a", "c", "d"]])


class Net(xpnn.Model):
    """A model of one's own, with a layer that JSON finds by its class."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.hidden = layers.Dense(6, activation="tanh")
        self.norm = layers.BatchNorm()
        self.out = layers.Dense(outputs)

    def forward(self, x: Array) -> Array:
        return self.out(self.norm(self.hidden(x)))


def build_net(shape: tuple[int, ...], outputs: int) -> Net:
    assert shape == (4,)
    return Net(outputs)


def test_joblib_and_pickle_keep_all_that_a_fit_goes_on_with(tmp_path: Path) -> None:
    x, y = iris()
    estimator = Classifier(build_net, epochs=3, random_state=0, warm_start=True).fit(x, y)
    joblib.dump(estimator, tmp_path / "model.joblib")
    assert b"Tensor" not in (tmp_path / "model.joblib").read_bytes()  # arrays, no tape
    state = xpnn.get_rng().state
    loaded = [joblib.load(tmp_path / "model.joblib"), pickle.loads(pickle.dumps(estimator))]
    assert xpnn.get_rng().state == state
    for other in loaded:
        assert np.array_equal(other.predict_proba(x), estimator.predict_proba(x))
        assert other.history_["loss"] == estimator.history_["loss"]
    estimator.fit(x, y)
    for other in loaded:  # the state of Adam, and the random stream
        other.fit(x, y)
        assert np.array_equal(other.predict_proba(x), estimator.predict_proba(x))
        assert other.n_iter_ == 6


def test_a_new_process_finds_the_classes_of_a_pickled_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_networks.py").write_text(
        "import xpnn\n"
        "from xpnn import layers\n"
        "class Mine(xpnn.Sequential):\n"
        "    pass\n"
        "def build(shape, outputs):\n"
        "    return Mine([layers.Dense(outputs)])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    estimator = Classifier(importlib.import_module("my_networks").build, epochs=1)
    estimator.fit([[0.0], [1.0]], [0, 1]).model = None  # so that only the model leads there
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(estimator))
    root = str(Path(xpnn.__file__).parents[1])
    code = (
        f"import pickle, sys; sys.path.insert(0, {root!r})\n"
        "c = pickle.load(open('c.pkl', 'rb')); print(type(c.model_), c.predict([[1.0]]).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "<class 'my_networks.Mine'> (1,)", done.stderr
    monkeypatch.delitem(sys.modules, "my_networks")


# -------------------------------------------------------------------------------- weights


def test_weights_are_as_repeating_examples() -> None:
    x, y = iris()
    weights = np.random.default_rng(0).integers(0, 4, len(x))
    for estimator in (small(batch_size=1000), Regressor(epochs=15, lr=0.01, batch_size=1000)):
        estimator.set_params(random_state=1)
        weighted = clone(estimator).fit(x, y, sample_weight=weights).predict(x)
        repeated = clone(estimator).fit(x.repeat(weights, 0), y.repeat(weights)).predict(x)
        np.testing.assert_allclose(weighted, repeated, rtol=1e-6)
        assert not np.array_equal(weighted, clone(estimator).fit(x, y).predict(x))


def test_class_weights_multiply_those_of_examples() -> None:
    x, y = iris()
    heavy = small(class_weight={0: 0.001, 1: 0.001, 2: 1.0}).fit(x, y)
    assert (heavy.predict(x) == 2).mean() > 0.6
    own = np.ones(len(x))
    own[y == 2] = 1e-3
    level = small(class_weight={0: 0.001, 1: 0.001, 2: 1.0}).fit(x, y, sample_weight=own)
    assert (level.predict(x) == 2).mean() < 0.45
    few = np.r_[0:50, 50:55, 100:150]
    a = small(class_weight="balanced").fit(x[few], y[few])
    b = small(class_weight={0: 0.7, 1: 7.0, 2: 0.7}).fit(x[few], y[few])
    np.testing.assert_allclose(a.predict_proba(x), b.predict_proba(x), rtol=1e-6)


# ----------------------------------------------------------------------------- going on


def test_warm_start_goes_on_and_a_cold_one_begins_anew() -> None:
    x, y = iris()
    warm = small(epochs=4, warm_start=True).fit(x, y).fit(x, y)
    cold = small(epochs=4).fit(x, y).fit(x, y)
    whole = small(epochs=8).fit(x, y)
    assert warm.n_iter_ == 8
    assert cold.n_iter_ == 4
    np.testing.assert_allclose(warm.predict_proba(x), whole.predict_proba(x), rtol=1e-6)
    assert len(warm.history_["loss"]) == 4
    with pytest.raises(ValueError, match="previously unseen labels"):
        warm.fit(x, y + 1)


def test_partial_fit_is_an_epoch_at_a_time() -> None:
    x, y = iris()
    estimator = small()
    for _ in range(4):
        estimator.partial_fit(x, y, classes=[0, 1, 2])
    whole = small(epochs=4).fit(x, y)
    np.testing.assert_allclose(estimator.predict_proba(x), whole.predict_proba(x), rtol=1e-6)
    assert estimator.n_iter_ == 4
    first = small().partial_fit(x[:50], y[:50], classes=[0, 1, 2])  # of one class only
    assert first.partial_fit(x[50:], y[50:]).predict_proba(x).shape == (150, 3)
    with pytest.raises(DataError, match=r"the classes were \[0 1 2\], and are now \[0, 1\]"):
        estimator.partial_fit(x, y, classes=[0, 1])
    with pytest.raises(ConfigError, match="class_weight='balanced' needs all the data"):
        small(class_weight="balanced").partial_fit(x, y)


def test_training_ends_when_validation_data_say_so() -> None:
    x, y = iris()
    estimator = small(epochs=500, lr=0.1, validation_fraction=0.3, patience=3).fit(x, y)
    losses = estimator.history_["val_loss"]
    assert len(losses) == estimator.n_iter_ < 500
    assert losses.index(min(losses)) == len(losses) - 4
    assert estimator.score(x, y) > 0.9
    weighted = small(epochs=2, validation_fraction=0.2).fit(x, y, sample_weight=np.ones(len(x)))
    assert len(weighted.history_["val_loss"]) == 2
    regressor = Regressor(epochs=2, validation_fraction=0.2).fit(x, y)
    assert len(regressor.history_["val_loss"]) == 2


# ------------------------------------------------------------------------------- models


def test_a_function_makes_the_model_for_shape_and_outputs() -> None:
    x, y = iris()
    estimator = Classifier(build_net, epochs=20, lr=0.03, random_state=0).fit(x, y)
    assert isinstance(estimator.model_, Net)
    assert estimator.score(x, y) > 0.85


def compiled(shape: tuple[int, ...], outputs: int) -> xpnn.Sequential:
    model = xpnn.Sequential([layers.Dense(outputs)])
    model.compile("cross_entropy", optim.SGD(0.5), metrics=["accuracy"])
    return model


def test_a_compiled_one_keeps_what_is_not_given_here() -> None:
    x, y = iris()
    estimator = Classifier(compiled, epochs=2).fit(x, y)
    assert isinstance(estimator.model_.optimizer, optim.SGD)
    assert estimator.model_.optimizer.lr == 0.5
    assert "accuracy" in estimator.history_
    estimator = Classifier(compiled, epochs=2, lr=0.25).fit(x, y)
    assert estimator.model_.optimizer.lr == 0.25
    options: dict[str, Any] = {"loss": ("cross_entropy", {"label_smoothing": 0.1})}
    estimator = Classifier(compiled, epochs=2, **options).fit(x, y)
    assert estimator.model_.optimizer.lr == 0.5
    assert "accuracy" in estimator.history_
    assert estimator.predict_proba(x).shape == (150, 3)
    given = optim.Adam(0.1)
    estimator = Classifier(compiled, epochs=2, optimizer=given).fit(x, y)
    assert isinstance(estimator.model_.optimizer, optim.Adam)
    assert given.steps == 0
    assert estimator.model_.optimizer.steps == 6


def test_layers_and_models_are_taken_for_their_configuration() -> None:
    x, y = iris()
    model = compiled((4,), 3)
    model.predict(x)
    before = xpnn.to_numpy(model.parameters()[0]).copy()
    estimator = Classifier(model, epochs=2, random_state=0).fit(x, y)
    assert np.array_equal(xpnn.to_numpy(model.parameters()[0]), before)
    assert estimator.model_ is not model
    assert estimator.model_.optimizer.lr == 0.5
    for given in (layers.Dense(3), [layers.Dense(3)], xpnn.Sequential([layers.Dense(3)])):
        other = Classifier(given, optimizer=("sgd", {"lr": 0.5}), epochs=2, random_state=0)
        assert np.array_equal(other.fit(x, y).predict_proba(x), estimator.predict_proba(x))


def test_groups_of_parameters_are_not_lost_silently() -> None:
    model = compiled((4,), 3)
    model.predict(iris()[0])
    model.optimizer.add_group(model.parameters()[:1], lr=0.1)
    with pytest.raises(ConfigError, match=r"has groups of its parameters.*Give a function"):
        Classifier(model).fit(*iris())


def test_images_go_to_models_that_take_them() -> None:
    x, y = datasets.load_digits()
    net = [layers.Reshape((8, 8, 1)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten(),
           layers.Dense(10)]  # fmt: skip
    estimator = Classifier(net, epochs=3, lr=0.01, random_state=0).fit(x[:400], y[:400])
    assert estimator.score(x[400:800], y[400:800]) > 0.7
    plain = small(epochs=3).fit(x[:400], y[:400])  # flattens them itself
    assert plain.predict(x[:3]).shape == (3,)


# ------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("loss", ["binary_cross_entropy_with_logits", "binary_cross_entropy"])
def test_two_classes_may_have_one_output(loss: str) -> None:
    x, y = iris()
    x, y = x[50:], np.asarray(["no", "yes"])[y[50:] - 1]
    estimator = small(loss=loss, epochs=30).fit(x, y)
    assert estimator.score(x, y) > 0.85
    p = estimator.predict_proba(x)
    assert p.shape == (100, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert estimator.model_.predict(x).shape == (100, 1)
    with pytest.raises(ConfigError, match="this loss is of two classes, y has 3"):
        small(loss=loss).fit(*iris())


def test_other_losses_of_classes() -> None:
    x, y = iris()
    a = small(loss="categorical_cross_entropy", dtype="float64").fit(x, y)
    b = small(dtype="float64").fit(x, y)
    np.testing.assert_allclose(a.predict_proba(x), b.predict_proba(x), rtol=1e-6)
    hinge = small(loss="categorical_hinge").fit(x, y)
    assert hinge.score(x, y) > 0.85
    assert not hasattr(hinge, "predict_proba")


def test_regression_of_several_numbers() -> None:
    x, y = make_regression(200, 5, n_targets=2, random_state=0)
    y /= y.std(axis=0)
    estimator = Regressor(epochs=60, lr=0.02, random_state=0).fit(x, y)
    assert estimator.score(x, y) > 0.95
    assert estimator.predict(x).shape == (200, 2)
    assert estimator.n_outputs_ == 2
    flat = Regressor(epochs=2, loss=("huber", {"delta": 2.0})).fit(x, y[:, 0])
    assert flat.predict(x).shape == (200,)
    column = Regressor(epochs=2, warm_start=True).fit(x, y[:, :1])
    assert column.predict(x).shape == (200, 1)
    with pytest.raises(DataError, match="y had 1 numbers an example, and has 2 now"):
        column.fit(x, y)


# ------------------------------------------------------------------------ the context


def test_the_dtype_is_that_of_the_data_unless_one_is_given() -> None:
    x, y = iris()
    for given, dtype, expected in (
        (x, None, "float64"),
        (x.astype("float32"), None, "float32"),
        ((x * 10).astype(int), None, "float64"),
        (x, "float32", "float32"),
    ):
        estimator = small(dtype=dtype, epochs=1).fit(given, y)
        assert estimator.model_.parameters()[0].dtype == expected
        assert estimator.predict_proba(given).dtype == expected
        again = pickle.loads(pickle.dumps(estimator))
        assert again.model_.parameters()[0].dtype == expected
    assert xpnn.get_dtype() == "float32"


def test_other_devices_give_and_take_the_same_arrays(device: Any) -> None:
    x, y = iris()
    x = x.astype("float32")  # which every device has
    estimator = small(device=str(device), epochs=2, batch_size=50).fit(x, y)
    assert estimator.model_.parameters()[0].device == str(device)
    found = estimator.predict_proba(x)
    assert isinstance(found, np.ndarray)
    expected = small(epochs=2, batch_size=50).fit(x, y).predict_proba(x)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    loaded = pickle.loads(pickle.dumps(estimator))
    assert loaded.model_.parameters()[0].device == "cpu"
    np.testing.assert_allclose(loaded.predict_proba(x), found, rtol=1e-4)


def test_without_a_random_state_xpnns_seed_decides() -> None:
    x, y = iris()
    found = []
    for seed in (1, 1, 2):
        xpnn.set_seed(seed)
        found.append(small(random_state=None, epochs=2).fit(x, y).predict_proba(x))
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    state = xpnn.get_rng().state
    small(epochs=1).fit(x, y)
    assert xpnn.get_rng().state == state


def test_callbacks_are_copied() -> None:
    class Count(Callback):
        epochs = 0

        def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
            self.epochs += 1
            run.stop = self.epochs == 2

    x, y = iris()
    count = Count()
    estimator = small(callbacks=[count]).fit(x, y).fit(x, y)
    assert estimator.n_iter_ == 2
    assert count.epochs == 0


# ------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": layers.Dense(3), "activation": "tanh"}, "Give it or them"),
        ({"model": layers.Dense(2)}, r"gives shape \(1, 2\) for one example; expected \(1, 3\)"),
        ({"model": "mlp"}, "'model' must be None, a list of layers, .* got str"),
        ({"model": lambda shape, outputs: 3}, r"must return a xpnn.Model.* got int"),
        ({"patience": 3}, "Classifier: 'patience' waits .*validation_fraction=0.1"),
        ({"validation_fraction": 1.0}, r"'validation_fraction' must be in \[0, 1\), got 1.0"),
        ({"epochs": 0}, "Classifier: 'epochs' must be a whole number >= 1, got 0"),
        ({"batch_size": 0}, "'batch_size' must be"),
        ({"loss": "crossentropy"}, "Did you mean 'cross_entropy'"),
    ],
)
def test_parameters_that_cannot_be(options: dict[str, Any], message: str) -> None:
    x, y = iris()
    with pytest.raises(ConfigError, match=message):
        Classifier(**options).fit(x, y)


def test_one_class_is_none() -> None:
    with pytest.raises(DataError, match="expected two classes or more, got 1 class in y"):
        small().fit([[0.0], [1.0]], ["a", "a"])


def test_without_scikit_learn_the_import_says_what_brings_it() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import xpnn\n"
        "try:\n"
        "    import xpnn.sklearn\n"
        "except xpnn.errors.MissingLibraryError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "xpnn.sklearn needs sklearn" in done.stdout
    assert "pip install 'xpnn[sklearn]'" in done.stdout
