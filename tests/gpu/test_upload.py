"""Batches on their way to a GPU: copied on the side, complete when they are computed with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from xpnn import layers
from xpnn.backend import as_device, device_of
from xpnn.callbacks import Callback
from xpnn.kernels import cupy_upload

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _on_a_gpu() -> None:
    usable("cuda")


def upload() -> cupy_upload.Upload:
    return cupy_upload.Upload(as_device("cuda").native)


def test_buffers_take_turns_and_are_not_written_before_they_were_copied() -> None:
    send, found = upload(), []
    given = [np.full((size, 3), i, "float32") for i, size in enumerate((4, 4, 6, 4, 2, 5))]
    for x in given:
        a, b = send(x), send(np.arange(len(x)))
        found.append((a, b, send.sent()))
    for x, (a, b, arrive) in zip(given, found, strict=True):
        arrive()
        np.testing.assert_array_equal(xpnn.to_numpy(a), x)
        np.testing.assert_array_equal(xpnn.to_numpy(b), np.arange(len(x)))


def test_numbers_are_cast_on_the_way() -> None:
    send = upload()
    x = send(np.asarray([[1.5, 2.5]]).T, "float32")
    empty = send(np.empty((2, 0)))
    send.sent()()
    assert (x.dtype.name, x.shape, empty.shape) == ("float32", (2, 1), (2, 0))
    assert xpnn.to_numpy(x)[:, 0].tolist() == [1.5, 2.5]


class Seen(Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_step_end(self, run: Any, values: dict[str, Any]) -> None:
        self.losses.append(float(values["loss"]))


def losses(prefetch: int, place: str = "cuda", batches: bool = False) -> list[float]:
    xpnn.set_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((22, 5)), np.arange(22) % 3
    weight = rng.uniform(0.5, 1.0, 22)
    model, seen = xpnn.Sequential([layers.Dense(3)]).to(place), Seen()
    model.compile("cross_entropy", "sgd")

    def several() -> Iterator[Any]:
        for i in range(0, 22, 4):
            yield x[i : i + 4], y[i : i + 4], weight[i : i + 4]

    options = {"batch_size": 4, "sample_weight": weight}
    given = (several,) if batches else (x, y)
    model.fit(
        *given, epochs=3, prefetch=prefetch, callbacks=[seen], verbose=0,
        **({} if batches else options),
    )  # fmt: skip
    return seen.losses


@pytest.mark.parametrize("batches", [False, True])
def test_fit_sees_the_same_batches(batches: bool) -> None:
    ahead = losses(2, batches=batches)
    assert len(ahead) == 18
    assert ahead == losses(0, batches=batches)
    np.testing.assert_allclose(ahead, losses(0, "cpu", batches), rtol=1e-5)


def test_it_is_used_by_fit_and_by_nobody_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    plain = cupy_upload.Upload.sent

    def counted(self: Any) -> Any:
        made.append(self)
        return plain(self)

    monkeypatch.setattr(cupy_upload.Upload, "sent", counted)
    losses(2)
    assert len(made) == 18
    losses(2, "cpu")
    losses(0)
    assert len(made) == 18


def test_what_lies_on_the_device_is_left_there() -> None:
    x = xpnn.to_device(np.ones((8, 5), "float32"), "cuda")
    model = xpnn.Sequential([layers.Dense(1)]).to("cuda")
    model.compile("mse", "sgd")
    model.fit(x, x[:, :1], batch_size=4, prefetch=2, verbose=0)
    assert device_of(model.parameters()[0]) == "cuda:0"
