"""How many threads: one number for the BLAS library of NumPy and for xpnn's own pool.

Kernels divide their work into blocks and share them out (:func:`share`); every thread calls BLAS
for itself, which keeps to one thread meanwhile (:data:`blas_alone`). For when OpenBLAS has used
several threads, they wait for the next product spinning, for some 30 ms, and take a core each from
whoever wants to compute there.

So products either come from BLAS with all its threads, as long as nothing else wants threads, or
from the pool: once a kernel has shared work out, until the step ends (:func:`begin_step`). It is
the step that decides, and not the time: the same step gives the same bits. What a kernel multiplies
on its way, before it shares work out or after, is for one thread. What runs without the user in
between, backward and the update, keeps BLAS to one thread from then on: :data:`stretch`.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, NamedTuple

from xpnn.errors import ConfigError
from xpnn.workers import here, workers

__all__ = [
    "alone",
    "begin_step",
    "blas_alone",
    "get_num_threads",
    "heed_environment",
    "num_threads",
    "pool_in_use",
    "set_num_threads",
    "share",
    "stretch",
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


class _Library(NamedTuple):
    """What tells and what sets the number of threads of a BLAS library."""

    get: Callable[[], int]
    set: Callable[[int], Any]


def _library(found: Any) -> _Library:
    """Return the functions of a library that threadpoolctl found.

    OpenBLAS's own ones: of the threads of a process threadpoolctl lets but one set the number, and
    takes three times as long.
    """
    if found.internal_api == "openblas" and found.threading_layer != "openmp":
        functions = ctypes.PyDLL(found.filepath)
        for before, after in product(("", "scipy_"), ("", "64_", "_64")):
            names = (f"{before}openblas_{verb}_num_threads{after}" for verb in ("get", "set"))
            own: list[Any] = [getattr(functions, name, None) for name in names]
            if all(own):
                return _Library(*own)
    return _Library(found.get_num_threads, found.set_num_threads)


class _BlasAlone:
    """A context in which the BLAS libraries of the process keep to one thread.

    Contexts of several threads may overlap; the last one to leave gives back what was before.
    """

    def __init__(self) -> None:
        self._entered = 0
        self._before: list[int] = []
        self._first: list[int] | None = None  # before set_num_threads was ever called

    @functools.cached_property
    def libraries(self) -> list[_Library]:
        """The BLAS libraries that are loaded, at the first time that somebody asks."""
        from threadpoolctl import ThreadpoolController

        found = ThreadpoolController().select(user_api="blas").lib_controllers
        return [_library(x) for x in found]

    def __enter__(self) -> None:
        with _lock:
            self._entered += 1
            if self._entered == 1:
                self._before = [library.get() for library in self.libraries]
                self._set([1] * len(self._before))

    def __exit__(self, *error: object) -> None:
        with _lock:
            self._entered -= 1
            if not self._entered:
                self._set(self._before)

    def limit(self, n: int | None) -> None:
        """Set how many threads BLAS has outside of such contexts; None: what it had at first."""
        now = self._before if self._entered else [library.get() for library in self.libraries]
        if self._first is None:
            self._first = now
        wanted = self._first if n is None else [n] * len(now)
        if self._entered:
            self._before = wanted
        else:
            self._set(wanted)

    def _set(self, numbers: list[int]) -> None:
        for library, n in zip(self.libraries, numbers, strict=True):
            library.set(n)


blas_alone = _BlasAlone()


# ------------------------------------------------------------------------------------ the pool


class _Here(threading.local):
    """What a thread knows: whether its step has shared work out, and whether BLAS is kept alone."""

    shared = False
    stretches = 0
    holding = False


_here = _Here()


def begin_step() -> None:
    """Forget that kernels have used the pool: products may come from BLAS with all its threads."""
    _here.shared = False


def pool_in_use() -> bool:
    """Return whether a kernel of this step has shared work out, in this thread."""
    return _here.shared


class _Stretch:
    """A context in which BLAS keeps to one thread while the pool is in use, to the end.

    To tell BLAS so at each kernel takes 25 us, as a rule with nothing of it in the caches.
    """

    def __enter__(self) -> None:
        _here.stretches += 1
        if _here.shared:
            self.hold()

    def __exit__(self, *error: object) -> None:
        _here.stretches -= 1
        if _here.holding and not _here.stretches:
            _here.holding = False
            blas_alone.__exit__(*error)

    def hold(self) -> None:
        """Keep BLAS to one thread from now on, if this is within such a context."""
        if _here.stretches and not _here.holding:
            blas_alone.__enter__()
            _here.holding = True


stretch = _Stretch()


def alone(work: Callable[..., Any], *args: Any) -> Any:
    """Return ``work(*args)``, for which BLAS keeps to one thread."""
    if _here.holding or here.busy:
        return work(*args)
    with blas_alone:
        return work(*args)


def share(work: Callable[[Any], Any], items: Sequence[Any], worth: bool = True) -> None:
    """Call ``work`` on every item, on all threads if it is worth it; a free one takes the next.

    If it is not, this thread works alone, and BLAS for it; of a single item BLAS decides, unless
    the pool is in use.

    What the calls write must not overlap. The caller works too; work that is shared out within
    shared work stays in its thread. Each thread sees a copy of the caller's context, so NumPy's
    ``errstate`` counts there too, and the first error is raised when all have stopped.
    """
    threads = get_num_threads()
    if worth and threads > 1 and len(items) > 1 and not here.busy:
        _here.shared = True
        stretch.hold()
        alone(workers(threads - 1).run, work, items, min(threads, len(items)) - 1)
    elif worth and not _here.shared:
        _in_turn(work, items)
    else:
        alone(_in_turn, work, items)


def _in_turn(work: Callable[[Any], Any], items: Sequence[Any]) -> None:
    for item in items:
        work(item)
