"""How many threads: one number for the BLAS library of NumPy and for xpnn's own pool.

Kernels divide their work into blocks and share them out (:func:`share`); every thread calls BLAS
for itself, which keeps to one thread meanwhile (:data:`blas_alone`). For when OpenBLAS has used
several threads, they wait for the next product spinning, for some 30 ms, and take a core each from
whoever wants to compute there.

So products either come from BLAS with all its threads, as long as nothing else wants threads, or
from the pool: once a kernel has shared work out, until the step ends (:func:`begin_step`). It is
the step that decides, and not the time: the same step gives the same bits.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from xpnn.errors import ConfigError
from xpnn.workers import is_worker, workers

__all__ = [
    "begin_step",
    "blas_alone",
    "get_num_threads",
    "heed_environment",
    "num_threads",
    "pool_in_use",
    "set_num_threads",
    "share",
]

_VARIABLES = (*("XPNN_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),)
_lock = threading.RLock()
_chosen: int | None = None


# ---------------------------------------------------------------------------------- the number


def get_num_threads() -> int:
    """Return how many threads computations on the CPU may use.

    What :func:`set_num_threads` said; else what the environment says: ``XPNN_NUM_THREADS``,
    ``OMP_NUM_THREADS``, ``OPENBLAS_NUM_THREADS`` or ``MKL_NUM_THREADS``, the first that is set;
    else the number of CPUs that the process may use.

    Examples
    --------
    >>> import xpnn
    >>> with xpnn.num_threads(1):
    ...     xpnn.get_num_threads()
    1
    """
    return _default() if _chosen is None else _chosen


def set_num_threads(n: int | None) -> None:
    """Set how many threads computations on the CPU may use: xpnn's own, and those of BLAS.

    It holds for the whole process, as BLAS libraries know no other way; :func:`num_threads` gives
    back what was before. Until it is called, and after ``None``, BLAS is as the process set it up.

    Parameters
    ----------
    n : int or None
        None: what :func:`get_num_threads` finds in the environment.

    Raises
    ------
    ConfigError
        If ``n`` is not a whole number, at least 1.

    Examples
    --------
    >>> import xpnn
    >>> xpnn.set_num_threads(2)
    >>> xpnn.get_num_threads()
    2
    >>> xpnn.set_num_threads(None)
    """
    global _chosen
    if n is not None:
        if not hasattr(n, "__index__") or isinstance(n, bool) or n < 1:
            msg = f"set_num_threads: expected a whole number, at least 1, or None, got {n!r}."
            raise ConfigError(msg)
        n = n.__index__()
    with _lock:
        blas_alone.limit(n)
        _chosen = n


def heed_environment() -> None:
    """Let BLAS keep to ``XPNN_NUM_THREADS`` too; called when the first kernel is wanted."""
    if _chosen is None and os.environ.get(_VARIABLES[0], "").isdecimal():
        set_num_threads(_default())


@contextmanager
def num_threads(n: int | None) -> Iterator[None]:
    """Set the number of threads inside the block, as :func:`set_num_threads` does.

    Examples
    --------
    >>> import xpnn
    >>> with xpnn.num_threads(1):
    ...     y = xpnn.ops.matmul(xpnn.asarray([[1.0, 2.0]]), xpnn.asarray([[3.0], [4.0]]))
    """
    before = _chosen
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _default() -> int:
    for name in _VARIABLES:
        allowed = os.environ.get(name, "")
        if allowed.isdecimal():
            return max(1, int(allowed))
    return _cpus()


# ------------------------------------------------------------------------------------ BLAS


class _BlasAlone:
    """A context in which the BLAS libraries of the process keep to one thread.

    Contexts of several threads may overlap; the last one to leave gives back what was before.
    """

    def __init__(self) -> None:
        self._entered = 0
        self._before: list[int] = []
        self._first: list[int] | None = None  # before set_num_threads was ever called

    @functools.cached_property
    def libraries(self) -> list[Any]:
        """The BLAS libraries that are loaded, at the first time that somebody asks."""
        from threadpoolctl import ThreadpoolController

        return list(ThreadpoolController().select(user_api="blas").lib_controllers)

    def __enter__(self) -> None:
        with _lock:
            self._entered += 1
            if self._entered == 1:
                self._before = [library.get_num_threads() for library in self.libraries]
                self._set([1] * len(self._before))

    def __exit__(self, *error: object) -> None:
        with _lock:
            self._entered -= 1
            if not self._entered:
                self._set(self._before)

    def limit(self, n: int | None) -> None:
        """Set how many threads BLAS has outside of such contexts; None: what it had at first."""
        now = self._before if self._entered else [x.get_num_threads() for x in self.libraries]
        if self._first is None:
            self._first = now
        wanted = self._first if n is None else [n] * len(now)
        if self._entered:
            self._before = wanted
        else:
            self._set(wanted)

    def _set(self, numbers: list[int]) -> None:
        for library, n in zip(self.libraries, numbers, strict=True):
            library.set_num_threads(n)


blas_alone = _BlasAlone()


# ------------------------------------------------------------------------------------ the pool


class _Here(threading.local):
    """What a thread knows: whether it is sharing work out, and whether its step has."""

    sharing = False
    shared = False


_here = _Here()


def begin_step() -> None:
    """Forget that kernels have used the pool: products may come from BLAS with all its threads."""
    _here.shared = False


def pool_in_use() -> bool:
    """Return whether a kernel of this step has shared work out, in this thread."""
    return _here.shared


def share(work: Callable[[Any], Any], items: Sequence[Any], worth: bool = True) -> None:
    """Call ``work`` on every item, on all threads if it is worth it; a free one takes the next.

    What the calls write must not overlap. The caller works too; work that is shared out within
    shared work stays in its thread. Each thread sees a copy of the caller's context, so NumPy's
    ``errstate`` counts there too, and the first error is raised when all have stopped.
    """
    threads = min(get_num_threads(), len(items))
    if threads < 2 or not worth or _here.sharing or is_worker():
        for item in items:
            work(item)
        return
    _here.shared = _here.sharing = True
    try:
        with blas_alone:
            workers(get_num_threads() - 1).run(work, items, threads - 1)
    finally:
        _here.sharing = False
