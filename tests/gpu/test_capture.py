"""Captured steps: recorded once, replayed as steps like any others."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from xpnn import _cuda, layers, losses, replay
from xpnn import functional as F
from xpnn.errors import ConfigError, GraphError
from xpnn.kernels import cupy_random, cupy_tables
from xpnn.training import capture

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _on_cuda() -> Any:
    with xpnn.device(usable("cuda")):
        yield


def array(*shape: int, seed: int = 0) -> Any:
    x = np.random.default_rng(seed).standard_normal(shape).astype("float32")
    return xpnn.asarray(x, device="cuda:0")


def test_what_is_computed_follows_the_inputs() -> None:
    f = capture(lambda x, y: x * 2 + y)
    for i in range(5):
        x, y = array(3, seed=i), array(3, seed=10 + i)
        np.testing.assert_array_equal(xpnn.to_numpy(f(x, y)), xpnn.to_numpy(x * 2 + y))
    assert f.recordings == 1


def test_other_shapes_get_a_recording_of_their_own() -> None:
    f = capture(lambda x: F.softmax(x), warmup=1)
    for _ in range(3):
        for n in (3, 4):
            x = array(2, n, seed=n)
            np.testing.assert_allclose(xpnn.to_numpy(f(x)), xpnn.to_numpy(F.softmax(x)), rtol=1e-6)
    assert f.recordings == 2


def test_recordings_of_a_step_share_their_memory_and_let_it_go() -> None:
    gc.collect()
    before = xpnn.memory_stats()["recordings"]
    pools = len(_cuda.recordings)
    f = capture(lambda x: F.softmax(x * 2), warmup=1)
    for _ in range(3):
        for n in (3, 4):
            f(array(2, n))
    assert f.recordings == 2
    assert len(_cuda.recordings) == pools + 1
    assert xpnn.memory_stats()["recordings"] > before
    xpnn.free_memory()
    assert xpnn.memory_stats()["recordings"] > before  # graphs point to it
    x = array(2, 3, seed=1)
    np.testing.assert_allclose(xpnn.to_numpy(f(x)), xpnn.to_numpy(F.softmax(x * 2)), rtol=1e-6)
    del f
    gc.collect()
    assert xpnn.memory_stats()["recordings"] == before


def test_memory_of_recordings_lasts_when_the_pool_gives_back_what_is_free() -> None:
    gc.collect()
    before = xpnn.memory_stats()["recordings"]
    f = capture(lambda x: F.softmax(x * 2) + 1, warmup=1)
    for n in (3, 4):
        f(array(2, n)), f(array(2, n))
    held = xpnn.memory_stats()["recordings"]
    f._room.pool.free_all_blocks()  # as CuPy does where the device has no more
    xpnn.free_memory("cuda")
    assert xpnn.memory_stats()["recordings"] == held > before
    for n in (3, 4):
        x = array(2, n, seed=1)
        expected = xpnn.to_numpy(F.softmax(x * 2) + 1)
        np.testing.assert_allclose(xpnn.to_numpy(f(x)), expected, rtol=1e-6)
    del f
    gc.collect()
    assert xpnn.memory_stats()["recordings"] == before


def test_recordings_on_several_streams_wait_for_one_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import cupy

    f = capture(lambda x: x @ xpnn.ops.matrix_transpose(x), warmup=1)
    inputs = [array(n, 3) for n in (2, 4)]
    expected = [xpnn.to_numpy(f(x)) for x in inputs]
    stream, seen = cupy.cuda.Stream(non_blocking=True), []
    wait = cupy.cuda.Stream.wait_event
    monkeypatch.setattr(
        cupy.cuda.Stream, "wait_event", lambda s, event: (seen.append(s.ptr), wait(s, event))[1]
    )
    for _ in range(2):
        f(inputs[0])
        with stream:
            got = f(inputs[1])
        stream.synchronize()
        np.testing.assert_allclose(xpnn.to_numpy(got), expected[1], rtol=1e-6)
    assert seen == [stream.ptr, cupy.cuda.Stream.null.ptr, stream.ptr]


def test_a_replay_on_another_stream_waits_before_it_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import cupy

    f = capture(lambda x: F.dropout(x, 0.5), warmup=1)
    for _ in range(3):
        f(array(4))
    (replayed,) = f._replays.values()
    given, written = replayed._inputs[0], []
    renew = [lambda r=r: (written.append("numbers"), r()) for r in replayed._renewals]
    assert renew
    monkeypatch.setattr(replayed, "_renewals", renew)
    stream, wait = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream.wait_event

    def look(s: Any, event: Any) -> None:
        same = np.array_equal(xpnn.to_numpy(given), xpnn.to_numpy(array(4)))
        written.append("waits" if same else "waits too late")
        wait(s, event)

    monkeypatch.setattr(cupy.cuda.Stream, "wait_event", look)
    x = array(4, seed=1)
    with stream:
        f(x)
    stream.synchronize()
    assert written == ["waits", *["numbers"] * len(renew)]
    np.testing.assert_array_equal(xpnn.to_numpy(given), xpnn.to_numpy(x))


def test_random_numbers_are_those_of_their_turn() -> None:
    def draws(f: Any) -> list[Any]:
        xpnn.set_seed(7)
        x = array(40)
        return [xpnn.to_numpy(f(x)) for _ in range(6)]

    plain = draws(lambda x: F.dropout(x, 0.5))
    f = capture(lambda x: F.dropout(x, 0.5))
    captured = draws(f)
    for a, b in zip(plain, captured, strict=True):
        np.testing.assert_array_equal(a, b)
    assert xpnn.get_rng().counter == 18  # three blocks a mask of 40
    again = draws(f)  # another seed and stream: recorded anew
    np.testing.assert_array_equal(again, captured)


def test_running_statistics_go_on() -> None:
    def statistics(captured: bool) -> Any:
        layer = layers.BatchNorm()
        step = layer if not captured else capture(lambda x: layer(x))
        for i in range(6):
            step(array(5, 3, seed=i))
        return xpnn.to_numpy(layer.running_mean), xpnn.to_numpy(layer.running_var)

    for a, b in zip(statistics(False), statistics(True), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_mode_or_weights_that_change_lead_to_a_new_recording() -> None:
    layer = layers.Dense(2, in_features=3)
    f = capture(lambda x: layer(x), warmup=1)
    x = array(4, 3)
    f(x), f(x)
    assert f.recordings == 1
    layer.weight.data = layer.weight.data * 2
    np.testing.assert_allclose(xpnn.to_numpy(f(x)), xpnn.to_numpy(layer(x)), rtol=1e-6)
    assert f.recordings == 2
    layer.eval()
    f(x)
    assert f.recordings == 3


def test_what_waits_for_the_device_is_an_error_that_says_where() -> None:
    def step(x: Any) -> Any:
        return x * float(x[0])  # waits

    f = capture(step, warmup=1)
    x = array(3)
    f(x)
    with pytest.raises(GraphError, match=r"test_capture\.py:\d+, in step"):
        f(x)
    assert xpnn.to_numpy(x * 2).shape == (3,)  # and the device goes on


def test_gradients_must_be_used_up() -> None:
    layer = layers.Dense(2, in_features=3)

    def step(x: Any) -> None:
        losses.mean_squared_error(layer(x), xpnn.ops.zeros((4, 2))).backward()

    f = capture(step, warmup=1)
    f(array(4, 3))
    layer.zero_grad()
    with pytest.raises(GraphError, match="leaves gradients in 2 parameters"):
        f(array(4, 3))


def test_what_is_in_force_around_a_step_leads_to_a_recording_of_its_own() -> None:
    layer = layers.Dense(2, in_features=3)
    f = capture(lambda x: layer(x), warmup=1)
    x = array(4, 3)
    for _ in range(3):
        with xpnn.autocast("float16"):
            assert f(x).dtype == "float16"
            layer.weight.data *= 2  # in place, which a cast from outside would not see
            np.testing.assert_allclose(
                xpnn.to_numpy(f(x)), xpnn.to_numpy(layer(x)), rtol=1e-2, atol=1e-2
            )
        assert f(x).dtype == "float32"
        with xpnn.no_grad():
            f(x)
    assert f.recordings == 3


def test_on_the_host_a_step_is_called_as_it_is() -> None:
    f = capture(lambda x: x + 1)
    for _ in range(4):
        np.testing.assert_array_equal(f(np.ones(2)), [2, 2])
    assert f.recordings == 0


@pytest.mark.parametrize("warmup", [0, -1, 1.5, True])
def test_warmup_is_checked(warmup: Any) -> None:
    with pytest.raises(ConfigError, match="capture: 'warmup' must be a whole number"):
        capture(lambda: None, warmup=warmup)


def test_what_the_host_writes_lies_outside_of_the_memory_of_a_recording() -> None:
    import cupy

    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc), replay.recording():
        mirror = cupy_tables.Mirror()
        mirror.place(np.zeros(4))
        kept = mirror.array, cupy_random.place()
        assert pool.total_bytes() == 0
        kept = *kept, cupy.empty(4)
        assert pool.total_bytes() > 0
