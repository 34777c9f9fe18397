"""Memory of the host that a GPU copies: held until it has, as CuPy gives it to the next at once."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from xpnn import _cuda, _libraries, optim
from xpnn.backend import as_device
from xpnn.kernels import cupy_tables, cupy_upload

pytestmark = pytest.mark.gpu


class Event:
    done = False


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Return weak references to all memory asked for; no copy is done before the test ends."""
    usable("cuda")
    import cupy

    if "emulated" not in cupy.__version__:
        pytest.skip("only the emulated GPU can be made to wait")
    found: list[Any] = []

    def pinned(shape: Any, dtype: Any) -> Any:
        found.append(weakref.ref(memory := np.empty(shape, dtype)))
        return memory

    for module in (_libraries, cupy_tables, cupy_upload):
        monkeypatch.setattr(module, "pinned", pinned)
    monkeypatch.setattr(cupy.cuda.Event, "done", False)
    yield found
    monkeypatch.undo()
    last = Event()
    _cuda.keep_until(last, None)
    assert [event for event, _ in _cuda._on_their_way] == [last]
    last.done = True


def test_it_is_kept_until_the_event_and_no_longer() -> None:
    first, second = Event(), Event()
    memory = np.zeros(3)
    seen = weakref.ref(memory)
    _cuda.keep_until(first, memory)
    del memory
    _cuda.keep_until(second, None)
    assert seen() is not None
    first.done = True
    _cuda.keep_until(second, None)
    assert seen() is None
    second.done = True


def a_table_of_another_length() -> None:
    table = cupy_tables.Mirror()
    table.put(np.arange(3))
    table.put(np.arange(4))


def clipping_whose_tables_are_let_go() -> None:
    optim.clip_by_global_norm([xpnn.to_device(np.ones(3, "float32"), "cuda")] * 2, 1.0)


def batches_after_which_the_pass_ends() -> None:
    send = cupy_upload.Upload(as_device("cuda").native)
    send(np.ones((2, 3), "float32"))
    send(np.arange(2))
    send.sent()
    send(np.ones((2, 3), "float32"))  # and the next array is wrong: it is never sent


def a_loss_that_nobody_waits_for() -> None:
    _libraries.LIBRARIES["cuda"].on_its_way(xpnn.to_device(np.ones(3, "float32"), "cuda"))


@pytest.mark.parametrize(
    ("use", "count"),
    [
        (a_table_of_another_length, 2),
        (clipping_whose_tables_are_let_go, 2),
        (batches_after_which_the_pass_ends, 3),
        (a_loss_that_nobody_waits_for, 1),
    ],
)
def test_it_outlives_who_asked_for_it(use: Callable[[], None], count: int, asked: Any) -> None:
    use()
    gc.collect()
    assert [ref() is not None for ref in asked] == [True] * count


def test_it_is_not_written_again_before_it_was_copied(asked: Any) -> None:
    table = cupy_tables.Mirror()
    for i in range(3):
        table.put(np.full(4, i))
    assert [ref()[0] for ref in asked] == [0, 1, 2]
    np.testing.assert_array_equal(table.array.get(), [2] * 4)


def test_a_batch_waits_for_what_was_computed_when_its_memory_was_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usable("cuda")
    import cupy

    if "emulated" not in cupy.__version__:
        pytest.skip("only the emulated GPU can be listened to")
    send, heard = cupy_upload.Upload(as_device("cuda").native), []

    def heard_of(owner: Any, name: str) -> None:
        plain = getattr(owner, name)

        def told(*args: Any, **options: Any) -> Any:
            heard.append(name)
            return plain(*args, **options)

        monkeypatch.setattr(owner, name, told)

    heard_of(cupy, "empty")
    heard_of(send._compute, "record")
    heard_of(send._stream, "wait_event")
    send(np.ones((2, 3), "float32"))
    send(np.arange(2))
    assert heard == ["empty", "record", "wait_event"] * 2
