"""fit, evaluate, predict, save and load; what goes wrong in them; the same run on every device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_close, make, on

import xpnn
from xpnn import layers, losses, optim
from xpnn.backend import to_numpy
from xpnn.errors import (
    ConfigError,
    DataError,
    DTypeError,
    GraphError,
    NonFiniteError,
    ShapeError,
)
from xpnn.training import Callback, EarlyStopping, History


def problem(n: int = 60, dtype: str = "float32") -> tuple[Any, Any]:
    """Return points in a plane, labelled by the quadrant pair they are in."""
    x = make((n, 2), dtype=dtype, seed=1)
    return x, (x[:, 0] * x[:, 1] > 0).astype("int64")


class Forgetful(xpnn.Model):
    """Returns nothing."""

    def forward(self, x: Any) -> Any:
        layers.Dense(2)(x)


class Anew(xpnn.Model):
    """Makes its layer in every call."""

    def forward(self, x: Any) -> Any:
        return layers.Dense(2)(x)


def made(model: Any) -> Any:
    """Return a model compiled."""
    model.compile("cross_entropy")
    return model


def network(dropout: float = 0.0, lr: float = 0.02) -> xpnn.Sequential:
    model = xpnn.Sequential(
        [layers.Dense(16, activation="tanh"), layers.Dropout(dropout), layers.Dense(2)]
    )
    model.compile("cross_entropy", optim.Adam(lr), metrics=["accuracy"])
    return model


def test_fit_learns_and_reports_every_epoch() -> None:
    x, y = problem(200)
    model = network()
    history = model.fit(x, y, batch_size=16, epochs=30, validation_split=0.2)
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert all(len(values) == 30 for values in history.history.values())
    assert history["accuracy"][-1] > 0.95
    assert history["loss"][-1] < history["loss"][0] / 3
    found = model.evaluate(x, y)
    assert found["accuracy"] > 0.95
    assert found.keys() == {"loss", "accuracy"}
    assert model.history is history
    assert "History(30 epochs: loss=" in repr(history)


def test_reported_means_are_weighted_by_the_size_of_the_batches() -> None:
    x, y = problem(10)
    model = network(lr=1e-30)
    history = model.fit(x, y, batch_size=4, validation_data=(x, y))
    whole = float(losses.cross_entropy(model.eval()(x), y))
    assert history["loss"][0] == pytest.approx(whole, rel=1e-5)
    assert history["val_loss"][0] == pytest.approx(whole, rel=1e-5)
    assert model.evaluate(x, y, batch_size=3)["loss"] == pytest.approx(whole, rel=1e-5)


def test_one_seed_gives_one_run() -> None:
    x, y = problem()
    runs = []
    for _ in range(2):
        xpnn.set_seed(4)
        model = network(dropout=0.3)
        runs.append((model.fit(x, y, epochs=3)["loss"], to_numpy(model[0].weight)))
    assert runs[0][0] == runs[1][0]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])


@pytest.mark.parity
def test_twenty_steps_with_dropout_give_the_losses_of_numpy_on_every_device(device: Any) -> None:
    x, y = problem()

    def run(where: str) -> list[float]:
        xpnn.set_seed(0)
        with xpnn.device(where):
            model = network(dropout=0.4)
            seen: list[float] = []

            class Watch(Callback):
                def on_step_end(self, run: Any, values: Any) -> None:
                    seen.append(float(values["loss"]))

            model.fit(x, y, batch_size=12, epochs=4, callbacks=[Watch()])
        return seen

    here, there = run("cpu"), run(device)
    assert len(here) == 20
    np.testing.assert_allclose(there, here, rtol=1e-4)


def test_predict_answers_on_the_callers_side(device: Any) -> None:
    model = network()
    x = make((7, 2))
    expected = to_numpy(model.eval()(x))
    model.to(device)
    assert type(model.predict(x)) is np.ndarray
    np.testing.assert_allclose(model.predict(x, batch_size=3), expected, rtol=1e-5, atol=1e-6)
    there = on(device, x)
    result = model.predict(there)
    assert xpnn.backend.device_of(result) == device
    assert not isinstance(result, xpnn.Tensor)
    assert type(model.predict(x.tolist())) is np.ndarray


def test_predict_and_evaluate_leave_the_mode_as_it_was() -> None:
    x, y = problem()
    model = network(dropout=0.5)
    assert np.array_equal(model.predict(x), model.predict(x))
    assert model.training
    model.eval()
    model.evaluate(x, y)
    assert not model.training


def test_inputs_are_cast_to_the_dtype_of_the_model() -> None:
    x, y = problem(dtype="float64")
    model = network()
    model.fit(x, y)
    assert model[0].weight.dtype == "float32"
    assert model.predict(x).dtype == np.float32


def test_models_of_ones_own_train_on_several_inputs() -> None:
    class Sum(xpnn.Model):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = layers.Dense(1), layers.Dense(1)

        def forward(self, x: Any, z: Any) -> Any:
            return self.a(x) + self.b(z)

    x, z = make((50, 3)), make((50, 2), seed=1)
    y = x[:, :1] - 2 * z[:, 1:]
    model = Sum()
    model.compile("mse", optim.SGD(0.1, momentum=0.9))
    history = model.fit((x, z), y, epochs=60, batch_size=10, validation_split=0.2)
    assert history["val_loss"][-1] < 1e-3
    assert model.predict((x, z)).shape == (50, 1)


def test_a_loop_of_ones_own() -> None:
    x, y = problem(100)
    model, optimizer = network(), optim.Adam(0.05)
    first = None
    for _ in range(60):
        loss = losses.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step(model)
        first = first or float(loss)
    assert first is not None
    assert float(loss) < first / 4


def test_frozen_layers_stay(tmp_path: Path) -> None:
    x, y = problem()
    model = network()
    model[0].freeze()
    model(x)
    before = to_numpy(model[0].weight).copy()
    model.fit(x, y)
    np.testing.assert_array_equal(before, to_numpy(model[0].weight))


# ------------------------------------------------------------------------------- bad input


def test_a_loss_that_is_no_number_stops_and_puts_good_weights_back() -> None:
    x, y = problem(600)
    twin = network()
    twin.fit(x[:500], y[:500], batch_size=10, shuffle=False)  # the first 50 steps
    x[550] = np.nan
    xpnn.set_seed(0)
    model = network()
    with pytest.raises(NonFiniteError, match=r"became nan at step 56 \(epoch 1\).*before step 51"):
        model.fit(x, y, batch_size=10, shuffle=False, epochs=2)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(to_numpy(p), to_numpy(q))
    x[0] = np.nan
    fresh = network()
    with pytest.raises(NonFiniteError, match=r"at step 1 .*The weights of before the run were"):
        fresh.fit(x, y, batch_size=10, shuffle=False)
    assert all(np.isfinite(to_numpy(p)).all() for p in fresh.parameters())
    x[[0, 550]] = 0.0  # the moments of the optimizer are good again too
    assert np.isfinite(fresh.fit(x, y, batch_size=10, epochs=2)["loss"]).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda m, x, y: m.fit(x[:0], y[:0]), DataError, "there are no examples"),
        (lambda m, x, y: m.fit(x, y[:-1]), DataError, "as many examples in every array"),
        (lambda m, x, y: m.fit(x, y + 5), DataError, r"labels must be in \[0, 1\]; got 6"),
        (lambda m, x, y: m.fit(x, y - 1), DataError, "got -1"),
        (lambda m, x, y: m.fit(x, y * 1.0), DataError, "expected integer labels or one-hot"),
        (lambda m, x, y: m.fit(x.astype(int), y), DTypeError, "expected floating-point x"),
        (
            lambda m, x, y: m.fit(x, y, batch_size=0),
            ConfigError,
            "a whole number, at least 1, got 0",
        ),
        (lambda m, x, y: m.fit(x, y, epochs=-1), ConfigError, "'epochs' must not be negative"),
        (
            lambda m, x, y: m.fit(x, y, validation_split=1.0),
            ConfigError,
            r"'validation_split' must be in \[0, 1\), got 1.0",
        ),
        (
            lambda m, x, y: m.fit(x[:2], y[:2], validation_split=0.1),
            DataError,
            "2 examples cannot be split",
        ),
        (lambda m, x, y: (m.fit(x, y), m.fit(x[:, :1], y)), ShapeError, "last axis 2"),
        (lambda m, x, y: m.compile("entropy"), ConfigError, "unknown loss 'entropy'"),
        (lambda m, x, y: m.compile("mse", "adamm"), ConfigError, "unknown optimizer 'adamm'"),
        (
            lambda m, x, y: m.compile("mse", metrics=[lambda p, t: p, lambda p, t: t]),
            ConfigError,
            "compile: two values would be reported as '<lambda>'",
        ),
        (
            lambda m, x, y: m.fit(x, y, callbacks=[EarlyStopping()]),
            ConfigError,
            "no value 'val_loss'; there are loss, accuracy",
        ),
        (
            lambda m, x, y: m.fit(x, y, epochs=2.5),
            ConfigError,
            "'epochs' .* got 2.5. It is a whole",
        ),
        (lambda m, x, y: m.fit(x, y, batch_size="8"), ConfigError, "'batch_size' .* got '8'"),
        (lambda m, x, y: m.fit(x, y, callbacks=[print]), ConfigError, "a list of callbacks.Callb"),
        (
            lambda m, x, y: m.fit(x, y, callbacks=EarlyStopping("loss")),
            ConfigError,
            "'callbacks' must be a list",
        ),
        (
            lambda m, x, y: m.fit(x, y, validation_data=x),
            DataError,
            "the compiled loss needs targets",
        ),
        (
            lambda m, x, y: m.fit(x, y, validation_data=(x, y, y, y)),
            ConfigError,
            r"as \(x, y\) or \(x, y, weight\), got 4 parts",
        ),
        (
            lambda m, x, y: (m.compile(("cross_entropy", {"reduction": "none"})), m.fit(x, y)),
            ShapeError,
            r"the loss must be one number, got shape \(\d+,\)",
        ),
        (
            lambda m, x, y: m.fit([x, x[:, :1]], y),
            DataError,
            r"several shapes. Several inputs are given as a tuple, \(a, b\)",
        ),
        (
            lambda m, x, y: m.fit(x, y.astype(str)),
            DataError,
            "an array of numbers, got one of dtype <U",
        ),
        (
            lambda m, x, y: m.fit(x, None),
            DataError,
            r"the compiled loss needs targets.* fit\(x, y\)",
        ),
        (lambda m, x, y: m.fit(3), DataError, "or a function that returns one, got int"),
        (lambda m, x, y: m.predict("x"), DataError, r"an array of numbers, got a str\."),
        (lambda m, x, y: m.fit({"x": x}, y), DataError, r"an array of numbers, got a dict\."),
        (
            lambda m, x, y: (m.compile(lambda p, t: 1.0), m.fit(x, y)),
            GraphError,
            "the loss must be a Tensor, got float",
        ),
        (
            lambda m, x, y: made(Forgetful()).fit(x, y),
            ConfigError,
            "Forgetful.forward returned None",
        ),
        (lambda m, x, y: made(Anew()).fit(x, y), ConfigError, "Anew has no parameters to train"),
        (lambda m, x, y: network().save("x"), DataError, "no parameters yet"),
    ],
)
def test_bad_input_is_refused(change: Any, error: type[Exception], message: str) -> None:
    x, y = problem()
    with pytest.raises(error, match=message):
        change(network(), x, y)


def test_a_model_that_was_not_compiled_says_so() -> None:
    with pytest.raises(ConfigError, match=r"was not compiled\. Call model\.compile"):
        xpnn.Sequential([layers.Dense(1)]).fit(np.ones((2, 2)), np.ones((2, 1)))


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: EarlyStopping(mode="up"), "'mode' must be 'auto', 'min' or 'max', got 'up'"),
        (lambda: EarlyStopping(patience=-1), "'patience' must be a whole number >= 0"),
        (lambda: EarlyStopping(patience="3"), "EarlyStopping: 'patience' .* got '3'"),  # type: ignore[arg-type]
        (lambda: EarlyStopping(patience=2.5), "EarlyStopping: 'patience' .* got 2.5"),  # type: ignore[arg-type]
        (lambda: EarlyStopping(min_delta="a"), r"'min_delta' must be in \[0, inf\), got 'a'"),  # type: ignore[arg-type]
        (lambda: EarlyStopping(3), "'monitor' must be the name of a value, .* got 3"),  # type: ignore[arg-type]
    ],
)
def test_bad_callbacks(make_it: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_it()


# ------------------------------------------------------------------------------- callbacks


def test_early_stopping_stops_and_restores_the_best() -> None:
    class Scripted(Callback):
        """Pretends a validation loss, and makes the weights tell the epoch."""

        def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
            values["val_loss"] = [3.0, 1.0, 2.0, 2.0, 2.0, 0.0][run.epoch]
            weight = run.model[0].weight
            weight.data = np.full(weight.shape, run.epoch, np.float32)

    x, y = problem()
    model = network()
    history = model.fit(x, y, epochs=6, callbacks=[Scripted(), EarlyStopping(patience=2)])
    assert history.epochs == 4
    assert to_numpy(model[0].weight).max() == 1.0


def test_callbacks_are_called_in_order_and_cleaned_up_after_an_error() -> None:
    calls: list[str] = []

    class Log(Callback):
        def on_train_begin(self, run: Any) -> None:
            calls.append("train begins")

        def on_epoch_begin(self, run: Any) -> None:
            calls.append(f"epoch {run.epoch}")

        def on_step_end(self, run: Any, values: Any) -> None:
            calls.append(f"step {run.step}")
            if run.step == 4:
                raise RuntimeError("stop here")

        def on_epoch_end(self, run: Any, values: Any) -> None:
            calls.append("epoch ends")

        def on_train_end(self, run: Any) -> None:
            calls.append("train ends")

    x, y = problem(20)
    with pytest.raises(RuntimeError, match="stop here"):
        network().fit(x, y, batch_size=10, epochs=3, callbacks=[Log()])
    assert calls == [
        *("train begins", "epoch 0", "step 1", "step 2", "epoch ends"),
        *("epoch 1", "step 3", "step 4", "train ends"),
    ]


def test_output_is_quiet_without_a_terminal_and_a_line_an_epoch_on_request(capsys: Any) -> None:
    x, y = problem()
    network().fit(x, y, epochs=2)
    assert capsys.readouterr() == ("", "")
    network().fit(x, y, epochs=2, verbose=2, validation_split=0.5)
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2
    assert out[1].startswith("epoch 2/2  loss 0.")
    assert "val_accuracy" in out[1]


def test_a_terminal_shows_a_bar_with_loss_and_metrics(capsys: Any, monkeypatch: Any) -> None:
    import sys

    x, y = problem()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    network().fit(x, y, batch_size=10, epochs=2, validation_split=0.5)
    shown = capsys.readouterr().err
    assert "epoch 2/2: 100%" in shown
    assert "loss=" in shown
    assert "val_accuracy=" in shown


def test_history_is_indexed_by_name() -> None:
    history = History()
    history.append({"loss": 2.0})
    history.append({"loss": 1.0, "late": 5.0})
    assert history["loss"] == [2.0, 1.0]
    assert list(history) == list(history.keys()) == ["loss", "late"]
    assert history["late"] == pytest.approx([float("nan"), 5.0], nan_ok=True)
    assert dict(history).keys() == {"loss", "late"}
    assert "late" in history
    assert "never" not in history


# --------------------------------------------------------------------------------- saving


def test_saved_models_come_back_without_the_code_that_made_them(
    tmp_path: Path, device: Any
) -> None:
    x, y = problem()
    model = network(dropout=0.5)
    model.fit(x, y)
    path = tmp_path / "m.safetensors"
    model.save(path)
    loaded = xpnn.load(path, device=device)
    assert type(loaded) is xpnn.Sequential
    assert all(p.device == device for p in loaded.parameters())
    np.testing.assert_allclose(loaded.predict(x), model.predict(x), rtol=1e-5, atol=1e-6)
    for a, b in zip(loaded.parameters(), model.parameters(), strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
    loaded.compile("cross_entropy", "sgd")
    with xpnn.device(device):
        loaded.fit(x, y)


def test_models_of_ones_own_come_back_where_their_class_is_defined(tmp_path: Path) -> None:
    class Twice(xpnn.Model):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.hidden = layers.Dense(size, activation="relu")
            self.out = layers.Dense(2)

        def forward(self, x: Any) -> Any:
            return self.out(self.hidden(x))

    model = Twice(5)
    x = make((4, 3))
    model(x)
    path = tmp_path / "m.safetensors"
    model.save(path)
    assert_close(xpnn.load(path).predict(x), model.predict(x), rtol=0)
    from xpnn.layers.config import registry

    del registry["Twice"]
    with pytest.raises(ConfigError, match="no layer class 'Twice' is defined"):
        xpnn.load(path)


def test_a_file_without_a_model_is_refused(tmp_path: Path) -> None:
    xpnn.io.write(tmp_path / "m.safetensors", {"x": np.ones(2)}, [1])
    with pytest.raises(DataError, match="holds no model"):
        xpnn.load(tmp_path / "m.safetensors")


def test_summary_counts_parameters(capsys: Any) -> None:
    model = network()
    assert "not built yet" in model.summary()
    model(np.ones((1, 2), np.float32))
    model[0].freeze()
    text = model.summary()
    assert "0 Dense" in text
    assert "82 parameters (34 trainable, 48 frozen), on cpu" in text
    assert capsys.readouterr().out.endswith(text + "\n")


def test_lists_are_data_too() -> None:
    x, y = problem(20)
    model = network()
    history = model.fit(x.tolist(), y.tolist(), validation_split=0.5)
    assert "val_loss" in history
    with pytest.raises(DataError, match="there are no examples"):
        model.fit([], [])


def test_a_gpu_is_spared_the_look_at_every_batch_by_a_look_at_all_labels(monkeypatch: Any) -> None:
    x, y = problem(600)
    y[-1] = 2
    model = network()
    steps: list[int] = []
    monkeypatch.setattr(model, "train_step", lambda *a: steps.append(1))
    with pytest.raises(DataError, match=r"labels must be in \[0, 1\]; got 2"):
        model.fit(x, y, batch_size=10)
    assert not steps


@pytest.mark.parametrize("name", ["val_accuracy", "val_f1", "r2", "precision", "top_k(k=3)"])
def test_early_stopping_knows_which_metrics_grow(name: str) -> None:
    assert EarlyStopping(name).sign == 1


@pytest.mark.parametrize("name", ["val_loss", "error_rate", "mean_absolute_error", "mae"])
def test_early_stopping_knows_which_metrics_fall(name: str) -> None:
    assert EarlyStopping(name).sign == -1


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors: there is no such file\. Give"):
        xpnn.load(tmp_path / "none.safetensors")
    with pytest.raises(IsADirectoryError, match=r"this is a folder\. Give the path of the file"):
        xpnn.load(tmp_path)
    model = network()
    model(np.ones((1, 2), np.float32))
    with pytest.raises(FileNotFoundError, match=r"there is no folder '.*missing' to write to"):
        model.save(tmp_path / "missing" / "m.safetensors")
