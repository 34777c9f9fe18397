"""Drawing ahead: what an iterator yields next is made by a thread while this one computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from contextvars import copy_context
from typing import Any

from xpnn.backend import device, get_device
from xpnn.errors import ConfigError

__all__ = ["prefetched"]

_LOOK = 0.05  # seconds after which a thread that waits sees whether anybody still wants its work


class _Error:
    """What went wrong in the thread, on its way to the one that asked."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def prefetched(items: Iterator[Any], depth: int = 2) -> Iterator[Any]:
    """Yield what an iterator yields; a thread draws up to ``depth`` items ahead.

    The items come in their order, and an error comes where its item would have been. The thread
    ends with the iterator, or when this generator is closed. It runs in a copy of the context:
    device and dtype are those of here; random numbers should be drawn from a stream of its own.

    Parameters
    ----------
    items : iterator
    depth : int
        At least 1. So many items are held in memory beside the one in use.

    Examples
    --------
    >>> from xpnn.data import prefetched
    >>> list(prefetched(iter("abc")))
    ['a', 'b', 'c']
    """
    if depth < 1:
        msg = f"prefetched: 'depth' must be at least 1, got {depth}."
        raise ConfigError(msg)
    return _drawn(items, depth)


def _drawn(items: Iterator[Any], depth: int) -> Iterator[Any]:
    ahead: queue.Queue[Any] = queue.Queue(depth)
    closed = threading.Event()
    end = object()

    def put(item: Any) -> bool:
        while not closed.is_set():
            with suppress(queue.Full):
                ahead.put(item, timeout=_LOOK)
                return True
        return False

    def draw() -> None:
        try:
            with device(get_device()):  # CuPy's current device is of a thread, not of a context
                for item in items:
                    if not put(item):
                        return
        except BaseException as error:
            put(_Error(error))
        else:
            put(end)

    thread = threading.Thread(
        target=copy_context().run, args=(draw,), name="xpnn-prefetch", daemon=True
    )
    thread.start()
    try:
        while (item := ahead.get()) is not end:
            if isinstance(item, _Error):
                raise item.error
            yield item
    finally:
        closed.set()
        thread.join(timeout=1)  # not for ever: it may wait for a disk or a net
