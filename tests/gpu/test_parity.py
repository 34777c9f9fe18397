"""One seed, the same run on CPU and GPU; files and checkpoints go from one to the other."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from xpnn import layers
from xpnn.callbacks import Checkpoint
from xpnn.errors import NonFiniteError

pytestmark = [pytest.mark.gpu, pytest.mark.parity]
BENCH = Path(__file__).parents[2] / "bench" / "gpu_parity.py"


def _bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_parity", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


parity = _bench()


@pytest.fixture(autouse=True)
def _both() -> None:
    usable("cuda")


def emulated() -> bool:
    return "emulated" in sys.modules["cupy"].__version__


def steps() -> int:
    return 4 if emulated() else 100


@pytest.mark.parametrize("name", parity.NETWORKS)
def test_losses_agree(name: str) -> None:
    host = parity.losses_on(name, "cpu", steps())
    there = parity.losses_on(name, "cuda", steps())
    assert len(host) == len(there) == steps()
    assert parity.apart(there, host) < parity.BOUND


def test_other_weights_would_be_seen() -> None:
    host = parity.losses_on("LSTM", "cpu", 3)
    model, losses = parity.compiled("LSTM", "cpu", lr=2e-3), parity.Losses()
    x, y = parity.data(3)
    model.fit(x, y, batch_size=parity.BATCH, callbacks=[losses], verbose=0)
    assert parity.apart(losses.seen, host) > parity.BOUND


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_masks_are_the_same_bits(p: float) -> None:
    masks = []
    for place in ("cpu", "cuda"):
        xpnn.set_seed(7)
        layer, found = layers.Dropout(p).train(), []
        for shape in ((5, 7), (1000,), (3, 4, 5)):
            x = xpnn.to_device(np.ones(shape, "float32"), place)
            found.append(xpnn.to_numpy(layer(x)) != 0)
        masks.append(found)
    for host, there in zip(*masks, strict=True):
        np.testing.assert_array_equal(host, there)


@pytest.mark.parametrize(("there", "back"), [("cpu", "cuda"), ("cuda", "cpu")])
@pytest.mark.parametrize("name", parity.NETWORKS)
def test_files_go_from_one_to_the_other(name: str, there: str, back: str, tmp_path: Path) -> None:
    x, y = parity.data(1)
    model = parity.compiled(name, there)
    model.fit(x, y, batch_size=parity.BATCH, verbose=0)
    model.save(tmp_path / "model.safetensors")
    other = xpnn.load(tmp_path / "model.safetensors", device=back)
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(
            xpnn.to_numpy(value), xpnn.to_numpy(other.state_dict()[key]), err_msg=key
        )
    np.testing.assert_allclose(other.predict(x), model.predict(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("first", "second"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_goes_on_on_the_other_device(first: str, second: str, tmp_path: Path) -> None:
    x, y = parity.data(4)

    def fit(place: str, epochs: int, **options: Any) -> list[float]:
        model = parity.compiled("MLP with dropout", place)
        return model.fit(x, y, batch_size=parity.BATCH, epochs=epochs, verbose=0, **options)["loss"]

    whole = fit("cpu", 3)
    fit(first, 1, callbacks=[Checkpoint(tmp_path)])
    resumed = fit(second, 3, callbacks=[Checkpoint(tmp_path)], resume=tmp_path)
    assert parity.apart(resumed, whole) < parity.BOUND


def test_a_nan_is_caught_and_the_weights_are_put_back() -> None:
    x, y = parity.data(8)
    x = x.copy()
    x[-3] = np.nan
    model = parity.compiled("MLP with dropout", "cuda")
    with pytest.raises(NonFiniteError, match="the loss became nan at step"):
        model.fit(x, y, batch_size=parity.BATCH, shuffle=False, verbose=0)
    for value in model.state_dict().values():
        assert np.all(np.isfinite(xpnn.to_numpy(value)))


def test_two_models_in_two_threads_do_not_disturb_each_other() -> None:
    alone = [parity.losses_on("MLP with dropout", "cuda", steps())]
    together: list[list[float]] = []

    def work() -> None:
        together.append(parity.losses_on("MLP with dropout", "cuda", steps()))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone * 2
