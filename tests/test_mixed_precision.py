"""Models in mixed precision: fit, evaluate, predict, files, runs that go on."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make, on, usable
from test_resume import Kill, Stop

import xpnn
from xpnn import Model, Sequential, Tensor, cli, datasets, layers, losses, ops, optim, zoo
from xpnn import functional as F
from xpnn.backend import to_numpy, unwrap
from xpnn.callbacks import Checkpoint
from xpnn.data import Batch, split
from xpnn.errors import ConfigError, DataError, DTypeError

MIXED = [pytest.param("mixed_bfloat16", marks=pytest.mark.libraries), "mixed_float16"]
LOW = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


@pytest.fixture(params=MIXED)
def precision(request: pytest.FixtureRequest) -> str:
    if request.param == "mixed_bfloat16":
        pytest.importorskip("ml_dtypes")
    return request.param


def mlp() -> Any:
    return [layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(10)]


def convnet() -> Any:
    return [
        layers.Lambda(lambda x: ops.expand_dims(x, axis=-1)),
        layers.Conv2D(8, 3, padding="same"),
        layers.BatchNorm(activation="relu"),
        layers.MaxPool2D(2),
        layers.Conv2D(16, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(10),
    ]


def trained(make_it: Any, precision: str | None, epochs: int = 6) -> tuple[Any, Any]:
    xpnn.set_seed(1)  # before the split: every precision learns from the same examples
    x, y = datasets.load_digits()
    x, x_test, y, y_test = split(x, y, fraction=0.2)
    model = Sequential(make_it())
    model.compile("cross_entropy", optim.Adam(3e-3), metrics=["accuracy"], precision=precision)
    history = model.fit(
        x, y, batch_size=64, epochs=epochs, validation_data=(x_test, y_test), verbose=0
    )
    return model, history


EXPECTED: dict[Any, Any] = {}


@pytest.mark.parametrize("make_it", [mlp, convnet])
def test_training_gets_where_float32_gets(make_it: Any, precision: str) -> None:
    if make_it not in EXPECTED:
        EXPECTED[make_it] = trained(make_it, None)[1]
    expected = EXPECTED[make_it]
    model, history = trained(make_it, precision)
    np.testing.assert_allclose(history["loss"][-1], expected["loss"][-1], rtol=0.1)
    np.testing.assert_allclose(history["val_loss"][-1], expected["val_loss"][-1], atol=0.03)
    assert history["val_accuracy"][-1] > 0.9
    assert history["val_accuracy"][-1] > expected["val_accuracy"][-1] - 0.02
    arrays = [*model.state_dict().values()]
    arrays += [x for state in model.optimizer.state_dict()["state"] for x in state.values()]
    assert {str(x.dtype) for x in arrays} == {"float32"}
    assert (model.scaler is None) == (precision == "mixed_bfloat16")


class Watched(layers.Layer):
    """Notes in which dtype it is called."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def forward(self, x: Any) -> Any:
        self.seen.append(str(x.dtype))
        return x


def small(precision: str | None = None, device: str = "cpu", **given: Any) -> Any:
    """Return a compiled model, and what its hidden layer saw."""
    xpnn.set_seed(0)
    watched = Watched()
    hidden = layers.Dense(8, in_features=4, activation="tanh")
    model = Sequential([hidden, watched, layers.Dense(2, in_features=8)]).to(device)
    options = {"loss": "cross_entropy", "optimizer": "adam", "metrics": ["accuracy"]} | given
    model.compile(**options, precision=precision)
    return model, watched.seen


def data(device: str = "cpu") -> Any:
    x = make((40, 4), seed=1)
    return on(device, x), on(device, (x[:, 0] * x[:, 1] > 0).astype("int64"))


@pytest.mark.parametrize(
    "place", ["cpu", "torch:cpu", "jax:cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
)
def test_what_is_low_and_what_is_not(precision: str, place: str) -> None:
    device = usable(place)
    model, seen = small(precision, device)
    x, y = data(device)
    model(x)
    assert seen == ["float32"]  # a call of one's own is as it is
    seen.clear()
    reported: list[Any] = []
    model.criterion.parts[0].metrics["dtype"] = lambda p, t: reported.append(p.dtype) or ops.sum(p)
    history = model.fit(x, y, batch_size=20, epochs=2, verbose=0)
    assert set(seen) == {"float32", LOW[precision]}  # it is built in float32
    assert seen.count("float32") == 1
    assert set(map(str, reported)) == {"float32"}
    seen.clear()
    scores = model.evaluate(x, y)
    predicted = model.predict(x)
    assert set(seen) == {LOW[precision]}
    assert type(predicted) is type(x)
    assert ops.isdtype(predicted.dtype, ops.float32)
    assert all(np.isfinite([*history["loss"], *scores.values()]))
    model.precision = None
    seen.clear()
    np.testing.assert_allclose(to_numpy(model.predict(x)), to_numpy(predicted), atol=0.05)
    assert set(seen) == {"float32"}


def test_a_precision_is_named() -> None:
    model, _ = small()
    assert model.precision == "float32"
    model.compile("mse", precision="mixed_float16")
    assert (model.precision, type(model.scaler)) == ("mixed_float16", optim.LossScaler)
    model.compile("mse")
    assert (model.precision, model.scaler) == ("float32", None)
    with pytest.raises(ConfigError, match="'precision' must be one of float32, mixed_bfloat16"):
        model.compile("mse", precision="mixed_bfloat32")
    with pytest.raises(ConfigError, match="got 'float16'"):
        model.precision = "float16"


def test_the_summary_says_it() -> None:
    model, _ = small("mixed_float16")
    assert "precision: mixed_float16; products in float16, parameters in float32" in str(
        model.summary(input_shape=(4,))
    )
    model.precision = "float32"
    assert "precision" not in str(model.summary(input_shape=(4,)))


def test_a_library_without_float16_says_so() -> None:
    model, _ = small("mixed_float16", "strict:device1")
    message = "autocast: array_api_strict has no dtype float16.*without autocast or 'precision'"
    with pytest.raises(DTypeError, match=message):
        model.fit(*data("strict:device1"), verbose=0)


def test_parameters_are_of_float32(precision: str) -> None:
    xpnn.set_dtype("float64")
    model, _ = small(precision)
    with pytest.raises(ConfigError, match=r"for parameters of float32, and .* of float64"):
        model.fit(*data(), verbose=0)


def test_gathered_gradients_are_those_of_all(precision: str) -> None:
    x, y = data()
    one, other = (small(precision, optimizer=optim.SGD(0.5))[0] for _ in range(2))
    one.fit(x, y, batch_size=40, epochs=3, shuffle=False, verbose=0)
    other.fit(x, y, batch_size=10, accumulate=4, epochs=3, shuffle=False, verbose=0)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(to_numpy(p), to_numpy(q), rtol=0, atol=0.02)


def test_an_overflow_costs_a_step_and_no_warning() -> None:
    model, _ = small("mixed_float16")
    model.scaler = optim.LossScaler(2.0**26)
    history = model.fit(*data(), batch_size=10, epochs=8, verbose=0)
    assert model.scaler.skipped > 2
    assert model.optimizer.state_dict()["steps"] == 32 - model.scaler.skipped
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]


class Pair(Model):
    """A model of two outputs, in a tuple or a dict."""

    def __init__(self, named: bool) -> None:
        super().__init__()
        self.named = named
        self.a, self.b = layers.Dense(2), layers.Dense(1)

    def forward(self, x: Any) -> Any:
        found = self.a(x), self.b(x)
        return dict(zip("ab", found, strict=True)) if self.named else found


@pytest.mark.parametrize("named", [False, True])
def test_several_outputs(named: bool) -> None:
    x, y = data()
    model = Pair(named)
    both = ["cross_entropy", "mse"]
    model.compile(dict(zip("ab", both, strict=True)) if named else both, precision="mixed_float16")
    model.fit(x, (y, x[:, :1]), verbose=0)
    found = model.predict(x)
    assert {v.dtype for v in (found.values() if named else found)} == {np.dtype("float32")}


class Own(Model):
    """A model with an objective of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.out = layers.Dense(4)

    def forward(self, x: Any) -> Any:
        return self.out(x)

    def objective(self, batch: Any) -> Any:
        y = self(batch.x)
        return losses.mean_squared_error(y, batch.x), {"low": ops.mean(y)}


def test_an_objective_of_ones_own_is_reached(precision: str) -> None:
    x, _ = data()
    model, plain = Own(), Own()
    for one, name in ((model, precision), (plain, None)):
        xpnn.set_seed(0)
        one.compile(optimizer=optim.Adam(0.05), precision=name)
        history = one.fit(x, epochs=20, verbose=0)
        assert history["loss"][-1] < 0.2
    a, b = (to_numpy(m.out.weight) for m in (model, plain))
    assert not np.array_equal(a, b)
    np.testing.assert_allclose(a, b, atol=0.05)


class OwnStep(Own):
    """A model with a step of its own, that knows of its precision, or does not."""

    def __init__(self, knows: bool) -> None:
        super().__init__()
        self.knows = knows

    def train_step(self, batch: Any) -> Any:
        if not self.knows:
            loss = self.objective(batch)[0]
            loss.backward()
            self.optimizer.step(self)
            return {"loss": unwrap(loss)}
        with self.autocast():
            loss = self.objective(batch)[0]
        self.backpropagate(loss)
        self.apply_gradients()
        return {"loss": unwrap(loss)}


def test_a_step_of_ones_own_has_to_know(precision: str) -> None:
    x, _ = data()
    model = OwnStep(knows=True)
    model.compile(precision=precision, optimizer=optim.Adam(0.05))
    assert model.fit(x, epochs=20, verbose=0)["loss"][-1] < 0.2
    model = OwnStep(knows=False)
    model.compile(precision=precision)
    with pytest.raises(ConfigError, match=r"OwnStep has a train_step of its own.*backpropagate"):
        model.fit(x, verbose=0)
    model.precision = None
    model.fit(x, verbose=0)


# ----------------------------------------------------------------------------- files and runs


def test_a_file_holds_the_masters(precision: str, tmp_path: Path) -> None:
    model, _ = small(precision)
    model = Sequential([layer for layer in model.layers() if isinstance(layer, layers.Dense)])
    model.compile("cross_entropy", precision=precision)
    x, y = data()
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.safetensors")
    again = xpnn.load(tmp_path / "model.safetensors")
    assert again.precision == "float32"
    assert {str(p.dtype) for p in again.parameters()} == {"float32"}
    again.compile("cross_entropy", precision=precision)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    twin = pickle.loads(pickle.dumps(model))
    assert twin.precision == precision
    np.testing.assert_array_equal(twin.predict(x), model.predict(x))
    assert set(model.to_config()) == set(again.to_config())


def run(folder: Path | None, kill: int = 0, precision: str = "mixed_float16", **given: Any) -> Any:
    """Train; return the model, its history, or None if the run was killed."""
    xpnn.set_seed(3)
    model = Sequential([layers.Dense(8, activation="tanh"), layers.BatchNorm(), layers.Dense(2)])
    model.compile("cross_entropy", optim.Adam(0.02), precision=precision)
    if model.scaler is not None:
        model.scaler = optim.LossScaler(2.0**24, growth_interval=4)
    callbacks = [Checkpoint(folder, every=3)] if folder else []
    callbacks += [Kill(kill)] if kill else []
    try:
        history = model.fit(
            *data(), batch_size=8, epochs=6, callbacks=callbacks, resume=folder, verbose=0, **given
        )
    except Stop:
        return None
    return model, history


@pytest.mark.parametrize("kill", [1, 5, 12, 20, 28])
def test_a_run_goes_on_bit_for_bit(kill: int, tmp_path: Path) -> None:
    model, history = run(None)
    assert model.scaler.skipped > 2
    assert run(tmp_path, kill) is None
    again, its = run(tmp_path)
    for name, x in model.state_dict().items():
        np.testing.assert_array_equal(to_numpy(x), to_numpy(again.state_dict()[name]))
    assert dict(history) == dict(its)
    assert model.scaler.state_dict() == again.scaler.state_dict()
    assert model.optimizer.state_dict()["updates"] == again.optimizer.state_dict()["updates"]


def test_a_run_of_another_precision_is_another_run(tmp_path: Path) -> None:
    assert run(tmp_path, 10) is None
    with pytest.raises(ConfigError, match="precision was 'mixed_float16' and is None"):
        run(tmp_path, precision="float32")


def test_a_scale_that_is_no_number_is_refused(tmp_path: Path) -> None:
    assert run(tmp_path, 10) is None
    scaler = optim.LossScaler(growth_interval=4)
    state = scaler.state_dict()
    with pytest.raises(DataError, match="nan is no scale"):
        scaler.load_state_dict({**state, "scale": float("nan")})


# --------------------------------------------------------------------------- networks by name


@pytest.mark.parametrize("name", ["logistic_regression", "wgan_gp"])
def test_networks_by_name_train_in_mixed_precision(name: str, precision: str) -> None:
    settings = {"hidden": 16} if name == "wgan_gp" else {}
    found = zoo.train(name, epochs=1, precision=precision, settings=settings, verbose=0)
    assert found.model.precision == precision
    assert np.isfinite([x for values in found.history.values() for x in values]).all()
    assert all(str(p.dtype) == "float32" for p in found.model.parameters())


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["train", "logistic_regression", "--epochs", "2", "--out", str(tmp_path), "-q"]
    assert cli.main([*line, "--precision", "mixed_float16"]) == 0
    assert "test accuracy" in capsys.readouterr().out
    assert cli.main([*line, "--overwrite", "--precision", "half"]) == 2
    assert "'precision' must be one of float32" in capsys.readouterr().err


def test_a_batch_at_a_time(precision: str) -> None:
    model, _ = small(precision)
    x, y = data()
    values = model.train_step(Batch(x, y))
    assert str(values["loss"].dtype) == "float32"


def test_the_page_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parent.parent / "docs" / "mixed_precision.md").read_text("utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    exec(compile(program, "mixed_precision.md", "exec"), {})
    accuracy, last = capsys.readouterr().out.splitlines()[-2:]
    assert float(accuracy) == pytest.approx(0.90, abs=0.03)
    assert last == "float32 65536.0"


SUMS: dict[str, Any] = {
    "a sum of arrays": lambda x, b: x + b,
    "an affine map": lambda x, b: F.linear(x, xpnn.asarray(np.zeros((3, 3)), dtype=x.dtype), b),
    "a repetition": lambda x, b: ops.tile(b, (4000, 1)),
    "a convolution": lambda x, b: F.conv2d(
        x[None, :, None], xpnn.asarray(np.zeros((1, 1, 3, 3)), dtype=x.dtype), b
    ),
    "a transposed convolution": lambda x, b: F.conv_transpose2d(
        x[None, :, None], xpnn.asarray(np.zeros((1, 1, 3, 3)), dtype=x.dtype), b
    ),
}


@pytest.mark.parametrize("rows", [4000, 40000])
@pytest.mark.parametrize("low", ["float16", pytest.param("bfloat16", marks=pytest.mark.libraries)])
@pytest.mark.parametrize("name", SUMS)
def test_gradients_of_many_examples_do_not_stand_still(name: str, low: str, rows: int) -> None:
    if low == "bfloat16":
        pytest.importorskip("ml_dtypes")
    rows = 4000 if name == "a repetition" else rows
    x = xpnn.asarray(np.zeros((rows, 3)), dtype=low)
    b = Tensor(xpnn.asarray(np.zeros(3), dtype=low), requires_grad=True)
    g = xpnn.asarray(np.random.default_rng(0).random((rows, 3)) / 10, dtype=low)
    y = SUMS[name](Tensor(x), b)
    y.backward(ops.reshape(g, y.shape))
    expected = to_numpy(g).astype(np.float64).sum(axis=0)
    found = to_numpy(b.grad).astype(np.float64)
    assert b.grad.dtype == low
    np.testing.assert_allclose(found, expected, rtol=1e-3 if low == "float16" else 8e-3)
