"""Memory that kernels use again: never while somebody looks at it."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest

import xpnn
from xpnn.errors import DeviceError
from xpnn.kernels import numpy_memory
from xpnn.kernels.numpy_memory import empty, scratch

pytestmark = pytest.mark.skipif(
    not numpy_memory._COUNTS, reason="references are not counted by this Python"
)
BIG = (1 << 19,)  # float32: 2 MB


@pytest.fixture(autouse=True)
def _clean() -> Any:
    gc.collect()
    xpnn.free_memory("cpu")
    yield
    xpnn.free_memory("cpu")


def address(x: Any) -> int:
    return int(x.__array_interface__["data"][0])


def test_memory_is_used_again_when_the_last_view_is_gone() -> None:
    x = empty(BIG, np.float32)
    where = address(x)
    view = x.reshape(2, -1)[1, ::3].T
    del x
    other = empty(BIG, np.float32)
    assert not np.shares_memory(view, other)
    del view
    again = empty((4, BIG[0] // 8), np.float64)
    assert address(again) == where
    assert (again.shape, again.dtype) == ((4, BIG[0] // 8), np.float64)


def test_memory_is_held_by_whoever_exports_it() -> None:
    x = empty(BIG, np.float32)
    held = memoryview(x)
    del x
    assert address(empty(BIG, np.float32)) != address(np.asarray(held))
    capsule = np.from_dlpack(empty(BIG, np.float32))
    assert address(empty(BIG, np.float32)) != address(capsule)
    tensor = xpnn.Tensor(empty(BIG, np.float32))
    assert not np.shares_memory(tensor.data, empty(BIG, np.float32))


def test_what_is_much_smaller_does_not_take_large_memory() -> None:
    large = empty((BIG[0] * 4,), np.float32)
    where = address(large)
    del large
    assert address(empty(BIG, np.float32)) != where
    assert address(empty((BIG[0] * 4 - 1000,), np.float32)) == where
    assert empty((3, 0), np.float32).shape == (3, 0)
    assert empty((5,), np.int8).base is None


def test_statistics_and_freeing() -> None:
    before = xpnn.memory_stats("cpu")
    assert before["in_use"] == 0
    x, y = empty(BIG, np.float32), empty(BIG, np.float32)
    scratch("a test of memory", (100,), np.float64)
    stats = xpnn.memory_stats("cpu")
    assert stats["in_use"] == x.nbytes + y.nbytes
    assert stats["held"] == stats["in_use"] + stats["scratch"]
    assert stats["scratch"] >= 800
    assert stats["requests"] == before["requests"] + 2
    del x
    assert xpnn.memory_stats("cpu")["in_use"] == y.nbytes
    xpnn.free_memory("cpu")
    stats = xpnn.memory_stats("cpu")
    assert stats["held"] == stats["in_use"] == y.nbytes
    assert stats["scratch"] == 0


def test_what_nobody_asks_for_any_more_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_memory, "_STALE", 5)
    del_me = [empty((BIG[0] + 1000 * i,), np.float32) for i in range(3)]
    held = xpnn.memory_stats("cpu")["held"]
    del_me.clear()
    for _ in range(8):
        empty((BIG[0] * 4,), np.float32)
    kept = empty((BIG[0] * 8,), np.float32)  # new memory: the time to look at the old
    stats = xpnn.memory_stats("cpu")
    assert stats["held"] < held + kept.nbytes + BIG[0] * 16


def test_threads_never_get_the_same_memory() -> None:
    wrong = []

    def work(k: int) -> None:
        for i in range(200):
            x = empty(BIG, np.float32)
            x[::4096] = k * 1000 + i
            if not np.all(x[::4096] == k * 1000 + i):
                wrong.append((k, i))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_memory_of_other_libraries_is_their_own() -> None:
    pytest.importorskip("array_api_strict")
    with pytest.raises(DeviceError, match="is managed by its own library"):
        xpnn.memory_stats("strict:device1")
