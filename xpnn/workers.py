"""The threads of the pool: how they take work, and how they wait for it.

A kernel shares work out dozens of times a step, and most of it takes less than a millisecond, so
what counts is how soon a thread begins. Here the caller waits for the items, not for the threads:
one that wakes late finds nothing, and nobody notices.
"""

from __future__ import annotations

import contextvars
import functools
import os
import threading
from collections.abc import Callable, Sequence
from itertools import count
from queue import SimpleQueue
from typing import Any

__all__ = ["here", "workers"]


class _Here(threading.local):
    """Whether this thread does shared work: one of the pool always, another while it shares."""

    busy = False


here = _Here()


class _Job:
    """Items, on each of which ``work`` is called by whichever thread comes first."""

    __slots__ = ("_count", "_errors", "_finished", "_items", "_over", "_ticket", "_work")

    def __init__(self, work: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self._work: Any = work
        self._items: Any = items
        self._count = len(items)
        self._ticket = count().__next__  # atomic
        self._finished = count(1).__next__
        self._errors: list[BaseException] = []
        self._over = threading.Lock()
        self._over.acquire()

    def take(self) -> None:
        """Work on items until none is left; after an error, let the others be."""
        while (i := self._ticket()) < self._count:
            try:
                if not self._errors:
                    self._work(self._items[i])
            except BaseException as error:
                self._errors.append(error)
            if self._finished() == self._count:
                self._over.release()

    def wait(self) -> None:
        """Wait until all items are done; raise the first error."""
        self._over.acquire()
        # A thread that wakes later must not keep arrays alive, whose memory is used again.
        self._work = self._items = None
        if self._errors:
            error, self._errors = self._errors[0], []
            try:
                raise error
            finally:
                del error  # whose traceback would hold this frame, and it the error


class _Workers:
    """Some threads, which live as long as the process, and the queue of what they are to do."""

    def __init__(self, threads: int) -> None:
        self._inbox: SimpleQueue[tuple[contextvars.Context, _Job]] = SimpleQueue()
        for i in range(threads):
            threading.Thread(target=self._serve, name=f"xpnn_{i}", daemon=True).start()

    def run(self, work: Callable[[Any], Any], items: Sequence[Any], helpers: int) -> None:
        """Call ``work`` on every item, in this thread and some others, in copies of its context."""
        job = _Job(work, items)
        for _ in range(helpers):
            self._inbox.put((contextvars.copy_context(), job))
        here.busy = True
        try:
            job.take()
            job.wait()
        finally:
            here.busy = False

    def _serve(self) -> None:
        here.busy = True
        while True:
            self._next()

    def _next(self) -> None:
        # By itself, so that nothing of a job is held while the thread waits for the next one.
        context, job = self._inbox.get()
        context.run(job.take)


@functools.cache
def workers(threads: int) -> _Workers:
    """Return the pool of so many threads, made at the first call."""
    return _Workers(threads)


if hasattr(os, "register_at_fork"):  # threads do not live on in a child
    os.register_at_fork(after_in_child=workers.cache_clear)
