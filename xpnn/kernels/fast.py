"""Whether compiled code stands in for the inner loops of NumPy kernels: the extra ``fast``.

A kernel marks the loops that compiled code may take over::

    @sweep
    def run_program(program, constants, arrays): ...      # in numpy_optim.py

and numba_optim.py holds the stand-in, a function of the same name that numba compiles at its first
call. It is used where numba is installed, unless the environment says ``XPNN_FAST=0``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["compiled", "is_on", "sweep", "use"]

_forced: bool | None = None


@functools.cache
def _found() -> bool:
    if os.environ.get("XPNN_FAST", "") == "0" or importlib.util.find_spec("numba") is None:
        return False
    try:
        importlib.import_module("numba")
    except ImportError as error:  # numba is made for some versions of NumPy, and says so
        warnings.warn(
            f"numba is installed and does not work, so kernels are those of NumPy: {error}."
            " XPNN_FAST=0 does not look for it.",
            RuntimeWarning,
            stacklevel=4,
        )
        return False
    return True


def is_on() -> bool:
    """Return whether compiled code is used."""
    return _found() if _forced is None else _forced


@contextmanager
def use(on: bool) -> Iterator[None]:
    """Use compiled code, or not, inside the block: for tests, which compare both."""
    global _forced
    before, _forced = _forced, on
    try:
        yield
    finally:
        _forced = before


def compiled(module: str) -> Any:
    """Return a module of compiled code, imported now."""
    return importlib.import_module(module)


class sweep:
    """A loop in NumPy, and the compiled one of the same name that may stand in for it."""

    def __init__(self, plain: Callable[..., Any]) -> None:
        self.plain = plain
        self.fast: Callable[..., Any] | None = None
        functools.update_wrapper(self, plain)

    def __call__(self, *args: Any) -> Any:
        if not (_found() if _forced is None else _forced):
            return self.plain(*args)
        if self.fast is None:
            module = self.plain.__module__.replace(".numpy_", ".numba_")
            self.fast = getattr(importlib.import_module(module), self.plain.__name__)
        return self.fast(*args)
