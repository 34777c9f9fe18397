"""A GPU whose memory is used up: an error that says so, after which the process goes on."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from xpnn import _cuda, callbacks, layers, losses, ops, optim
from xpnn.errors import OutOfMemoryError, XpnnError

pytestmark = pytest.mark.gpu
MIB = 2**20
LARGE = 3000  # examples, of which a layer gives 0.75 MB


@pytest.fixture(autouse=True)
def _on_a_gpu() -> Iterator[None]:
    usable("cuda")
    xpnn.set_device("cuda")
    gc.collect()
    xpnn.free_memory()
    yield
    pool().set_limit(size=0)


def pool() -> Any:
    import cupy

    return cupy.get_default_memory_pool()


@contextmanager
def only(more: int) -> Iterator[None]:
    """Leave so many bytes besides those that arrays use."""
    gc.collect()
    xpnn.free_memory()
    pool().set_limit(size=pool().used_bytes() + more)
    try:
        yield
    finally:
        pool().set_limit(size=0)


def in_use() -> int:
    gc.collect()
    return xpnn.memory_stats()["in_use"]


# ------------------------------------------------------------------------- the error


MAKERS: dict[str, Callable[[], Any]] = {
    "a new array": lambda: ops.zeros((4, MIB)),
    "random numbers": lambda: xpnn.get_rng().uniform((4, MIB)),
    "a move": lambda: xpnn.to_device(np.zeros((4, MIB), "float32"), "cuda"),
    "asarray": lambda: xpnn.asarray(np.zeros((4, MIB), "float32"), device="cuda"),
    "an operation": lambda: ops.broadcast_to(ops.ones((1, 1)), (4, MIB)) + 1.0,
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_error_names_sizes_and_cures(name: str) -> None:
    expected = (
        r"out of memory on cuda:0: (16\.0 MiB|16,\d+ bytes|16\.\d MiB) wanted\. Arrays of this"
        r" process use .* of .* that it holds, limited to .*; the device has .* GiB of .* GiB free"
        r"\. Cures: a smaller batch .*'accumulate'.*xpnn\.checkpoint.*xpnn\.free_memory\('cuda'\)"
    )
    with only(MIB), pytest.raises(OutOfMemoryError, match=expected) as caught:
        MAKERS[name]()
    assert isinstance(caught.value, MemoryError)
    assert isinstance(caught.value, XpnnError)
    assert ops.sum(ops.ones(3)).item() == 3.0


@pytest.mark.parametrize(
    "text",
    [
        "cudaErrorMemoryAllocation: out of memory",
        "CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
    ],
)
def test_other_libraries_say_it_in_other_words(text: str) -> None:
    found = _cuda.out_of_memory(RuntimeError(text))
    assert isinstance(found, OutOfMemoryError)
    assert "more than there was wanted" in str(found)


def test_other_errors_are_left_alone() -> None:
    assert _cuda.out_of_memory(ValueError("of another kind")) is None
    host = MemoryError("of the host")
    with pytest.raises(MemoryError) as caught:
        _cuda.retell(host)
    assert caught.value is host


# ------------------------------------------------------------------------- what goes on


def net() -> xpnn.Sequential:
    xpnn.set_seed(0)
    return xpnn.Sequential([layers.Dense(64, activation="tanh"), layers.Dense(64), layers.Dense(2)])


def data(n: int) -> tuple[Any, Any]:
    x = np.random.default_rng(0).standard_normal((n, 16)).astype("float32")
    return x, np.arange(n) % 2


def test_fit_lets_go_of_the_step_that_failed_and_can_be_called_again() -> None:
    model = net()
    model.compile("cross_entropy", optim.SGD(0.01))
    x, y = data(LARGE)
    model.fit(x[:64], y[:64], batch_size=32, verbose=0)
    before = in_use()
    errors = []
    with only(MIB):
        try:
            model.fit(x, y, batch_size=LARGE, prefetch=0, verbose=0)
        except OutOfMemoryError as error:
            errors.append(error)  # as a notebook keeps the last one
        assert len(errors) == 1
        assert in_use() - before < MIB // 4
        history = model.fit(x, y, batch_size=64, prefetch=0, verbose=0)
    assert np.isfinite(history["loss"][0])
    assert {str(p.grad) for p in model.parameters()} == {"None"}


def test_a_callback_sees_the_error() -> None:
    seen = []

    class Look(callbacks.Callback):
        def on_error(self, run: Any, error: Exception) -> bool:
            seen.append(type(error))
            return False

    model = net()
    model.compile("cross_entropy", "sgd")
    x, y = data(LARGE)
    model.fit(x[:64], y[:64], verbose=0)
    with only(MIB), pytest.raises(OutOfMemoryError):
        model.fit(x, y, batch_size=LARGE, callbacks=[Look()], verbose=0)
    assert seen == [OutOfMemoryError]


def test_a_loop_of_ones_own_goes_on_with_smaller_batches() -> None:
    model, optimizer = net(), optim.Adam(1e-3)
    x, y = (xpnn.to_device(a, "cuda") for a in data(LARGE))

    def step(n: int) -> float:
        loss = losses.cross_entropy(model(x[:n]), y[:n])
        loss.backward()
        optimizer.step(model)
        return float(loss)

    step(16)
    before = in_use()
    kept = []
    with only(MIB):
        for n in (LARGE, 64):
            try:
                assert np.isfinite(step(n))
            except OutOfMemoryError as error:
                kept.append(error)
    kept[0].with_traceback(None)  # its frames are those of this function
    assert len(kept) == 1
    assert in_use() - before < MIB // 4


def test_predict_goes_on_after_it() -> None:
    model = net()
    x, _ = data(LARGE)
    model.predict(x[:16])
    with only(MIB):
        with pytest.raises(OutOfMemoryError):
            model.predict(x, batch_size=LARGE)
        assert model.training
        assert model.predict(x, batch_size=64).shape == (LARGE, 2)


# ------------------------------------------------------------------------- statistics


def test_statistics_of_memory() -> None:
    before = xpnn.memory_stats("cuda")
    assert set(before) == {"held", "in_use", "recordings", "limit", "free", "total"}
    x = ops.zeros((256, 1024))
    now = xpnn.memory_stats("cuda")
    assert now["in_use"] - before["in_use"] >= MIB
    assert now["held"] >= now["in_use"]
    del x
    gc.collect()
    assert xpnn.memory_stats("cuda")["held"] >= now["in_use"]
    xpnn.free_memory("cuda")
    assert xpnn.memory_stats("cuda")["held"] < now["held"]
