"""How runs end, and what they leave: to the next run, to a resumed one, in files after Ctrl-C."""

from __future__ import annotations

import _thread
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make

import xpnn
from xpnn import io, layers, losses, optim
from xpnn.backend import to_numpy
from xpnn.callbacks import Callback, Checkpoint, CSVLogger, EarlyStopping
from xpnn.errors import ConfigError, DataError, NonFiniteError
from xpnn.training import History
from xpnn.training.sources import Source


def problem(n: int = 40) -> tuple[Any, Any]:
    x = make((n, 3), seed=1)
    return x, (x[:, 0] * x[:, 1] > 0).astype("int64")


def network(optimizer: Any = None) -> xpnn.Sequential:
    xpnn.set_seed(5)
    model = xpnn.Sequential([layers.Dense(8, activation="tanh"), layers.Dense(2)])
    model.compile("cross_entropy", optimizer or optim.Adam(0.02), metrics=["accuracy"])
    return model


def weights(model: Any) -> dict[str, Any]:
    return {name: to_numpy(x).copy() for name, x in model.state_dict().items()}


def assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for name, x in a.items():
        np.testing.assert_array_equal(x, b[name], err_msg=name)


def endless() -> Any:
    x, y = problem()
    while True:
        for i in range(0, 40, 10):
            yield x[i : i + 10], y[i : i + 10]


# -------------------------------------------------------------------------------------- sources


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_iterator_is_gone_on_with_by_a_model_that_is_not_built(
    tmp_path: Path, prefetch: int
) -> None:
    def run(epochs: int, resume: Path | None = tmp_path) -> Any:
        keep = [Checkpoint(tmp_path, every=7)] if resume else []
        model = network()
        model.fit(
            endless(), steps_per_epoch=10, epochs=epochs, callbacks=keep, resume=resume,
            prefetch=prefetch,
        )  # fmt: skip
        return weights(model)

    run(2)
    assert_same(run(3), run(3, None))


def test_callbacks_clean_up_though_the_data_cannot_be_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[str] = []

    def close(source: Source) -> None:
        raise OSError("the file does not close")

    class Ended(Callback):
        def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
            monkeypatch.setattr(Source, "close", close)

        def on_train_end(self, run: Any) -> None:
            ended.append("yes")

    x, y = problem()
    with pytest.raises(OSError, match="the file does not close"):
        network().fit(x, y, callbacks=[Ended()])
    assert ended == ["yes"]


# ------------------------------------------------------------------------------------- gradients


def test_a_fit_that_failed_leaves_no_gradients_to_the_next() -> None:
    x, y = problem()

    def broken() -> Any:
        yield x[:10], y[:10]
        raise OSError("the disk is gone")

    model = network(optim.SGD(0.1))
    model(x)
    before = model.state_dict()
    with pytest.raises(OSError, match="the disk is gone"):
        model.fit(broken, accumulate=4)
    assert all(g is None for g in model.grads)
    losses.cross_entropy(model(x), y).backward()
    model.fit(x, y, batch_size=40, shuffle=False)
    assert all(g is None for g in model.grads)
    twin = network(optim.SGD(0.1))
    twin(x)
    twin.load_state_dict(before)
    twin.fit(x, y, batch_size=40, shuffle=False)
    assert_same(weights(model), weights(twin))


# --------------------------------------------------------------------------------------- resumed


def test_a_resumed_run_has_good_weights_to_put_back(tmp_path: Path) -> None:
    x, y = problem()

    def run(epochs: int, x: Any) -> Any:
        model = network()
        keep = Checkpoint(tmp_path, every=3)
        try:
            model.fit(x, y, batch_size=10, epochs=epochs, callbacks=[keep], resume=tmp_path)
        except NonFiniteError as error:
            return model, str(error)
        return model, ""

    good, _ = run(1, x)  # four steps, of which three are in the checkpoint
    spoilt, message = run(2, x * np.nan)
    assert "The weights of before step 4 were put back" in message
    assert all(np.isfinite(w).all() for w in weights(spoilt).values())
    assert weights(good).keys() == weights(spoilt).keys()


def test_another_dtype_is_another_run(tmp_path: Path) -> None:
    x, y = problem()
    network().fit(x, y, callbacks=[Checkpoint(tmp_path)])
    xpnn.set_dtype("float64")
    with pytest.raises(ConfigError, match="dtype was 'float32' and is 'float64'"):
        network().fit(x, y, epochs=2, callbacks=[Checkpoint(tmp_path)], resume=tmp_path)
    batches = [(x, y)]
    with pytest.raises(ConfigError, match="dtype was 'float32' and is 'float64'"):
        network().fit(batches, epochs=2, callbacks=[Checkpoint(tmp_path)], resume=tmp_path)


class Asked(Callback):
    """Compares what it remembers itself."""

    def __init__(self, width: int) -> None:
        self.width = width

    def state_dict(self) -> dict[str, Any]:
        return {"width": self.width}

    def load_state_dict(self, state: Any) -> None:
        if state["width"] != self.width:
            raise ConfigError(f"width was {state['width']} and is {self.width}")


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("refused", ["callback", "shape", "optimizer", "initial epoch", "means"])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_refused_resume_leaves_everything_as_it_was(
    tmp_path: Path, built: bool, refused: str, prefetch: int
) -> None:
    x, y = problem()

    def run(width: int, asked: int, every: int = 3, **options: Any) -> Any:
        model = network()
        if width != 2:
            model = xpnn.Sequential([layers.Dense(8), layers.Dense(width)])
            model.compile("cross_entropy", optim.Adam(0.02))
        if built:
            model(x)
        seen = weights(model), xpnn.get_rng().state, threading.active_count()
        keep = [Checkpoint(tmp_path, every=every), Asked(asked)]
        error = None
        try:
            model.fit(
                x, y, batch_size=10, steps_per_epoch=5, callbacks=keep, resume=tmp_path,
                prefetch=prefetch, **options,
            )  # fmt: skip
        except (ConfigError, DataError) as found:
            error = found
        after = weights(model), xpnn.get_rng().state, threading.active_count()
        return error, seen, after, model

    run(2, 2)
    path = max(tmp_path.glob("checkpoint-*"))
    arrays, config = io.read(path)
    saved = config["checkpoint"]["state"]
    if refused == "optimizer":
        saved["optimizers"]["optimizer"]["state"][0] = {"odd": {"array": "run/odd"}}
        arrays["run/odd"] = np.ones(3, "float32")
    elif refused == "means":
        del saved["means"]
    io.write(path, arrays, config)
    given: dict[str, Any] = {
        "callback": {"width": 3, "asked": 3},
        "shape": {"width": 3, "asked": 2},
        "initial epoch": {"width": 2, "asked": 2, "initial_epoch": 1, "epochs": 3},
    }.get(refused, {"width": 2, "asked": 2})
    error, before, after, model = run(**given)
    message = {
        "callback": "width was 2 and is 3",
        "shape": "expected shape",
        "optimizer": "unexpected state",
        "initial epoch": "not 'initial_epoch'",
        "means": "lacks or garbles a part",
    }[refused]
    assert message in str(error)
    assert_same(before[0], after[0])
    assert before[1:] == after[1:]
    assert (model[0]._shapes is None) is not built


def test_another_device_goes_on(tmp_path: Path, device: Any) -> None:
    x, y = problem()

    def run(epochs: int, where: str) -> History:
        with xpnn.device(where):
            keep = Checkpoint(tmp_path)
            return network().fit(x, y, epochs=epochs, callbacks=[keep], resume=tmp_path)

    first = run(1, "cpu")
    assert run(2, device)["loss"][:1] == first["loss"]


# ------------------------------------------------------------------------------------ interrupts


class Press(Callback):
    """Presses Ctrl-C in a hook at a step, the first time, after all others were called."""

    rank = 1000

    def __init__(self, hook: str, step: int) -> None:
        def press(run: Any, *values: Any) -> Any:
            if run.step == step and not run.resumed:
                _thread.interrupt_main()

        setattr(self, hook, press)


@pytest.mark.parametrize(
    ("hook", "step", "epochs"),
    [
        ("on_epoch_begin", 0, 0),
        ("on_epoch_begin", 4, 1),
        ("on_step_end", 3, 1),
        ("on_step_end", 6, 2),
        ("on_step_end", 8, 2),
        ("on_validation_end", 8, 2),
        ("on_epoch_end", 4, 1),
        ("on_epoch_end", 12, 3),
    ],
)
@pytest.mark.parametrize("every", [None, 5])
def test_an_interrupt_is_written_down_whenever_it_comes(
    tmp_path: Path, hook: str, step: int, epochs: int, every: int | None
) -> None:
    x, y = problem(50)
    log = tmp_path / "log.csv"

    def run(resume: Path | None, *more: Callback) -> tuple[Any, History]:
        keep = [Checkpoint(tmp_path, every=every)] if resume else []
        model = network()
        history = model.fit(
            x, y, batch_size=10, epochs=3, validation_split=0.2, resume=resume,
            callbacks=[*keep, EarlyStopping("val_loss", patience=9), CSVLogger(log), *more],
        )  # fmt: skip
        return model, history

    _, history = run(tmp_path, Press(hook, step))
    assert history.interrupted
    assert history.epochs == epochs
    assert not any(map(math.isnan, history["loss"] if epochs else []))
    assert len(log.read_text().splitlines()) == 1 + epochs
    assert (tmp_path / f"checkpoint-{step:08d}.safetensors").exists() or not step
    model, history = run(tmp_path)
    whole = log.read_bytes()
    twin, expected = run(None)
    assert_same(weights(model), weights(twin))
    assert dict(history) == dict(expected)
    assert not history.interrupted
    assert whole == log.read_bytes()


def test_a_run_may_be_stopped_before_a_step() -> None:
    class Enough(Callback):
        def on_epoch_begin(self, run: Any) -> None:
            run.stop = run.epoch == 1

    x, y = problem()
    history = network().fit(x, y, epochs=3, callbacks=[Enough()])
    assert history.epochs == 1
    assert not history.interrupted
