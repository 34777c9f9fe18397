"""``inv``, ``solve``, ``cholesky`` and ``matrix_power`` as CuPy has them.

What cuSOLVER and cuBLAS say of a matrix is looked at only under ``cupyx.errstate(linalg="raise")``;
else numbers come of a matrix that has no inverse, or no factor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from emulation import arrays

__all__ = ["SOLVERS", "errstate"]


class _Config(threading.local):
    linalg = "ignore"


_config = _Config()


@contextmanager
def errstate(*, linalg: str | None = None) -> Iterator[None]:
    """Say whether what solvers report is looked at: "ignore" or "raise"."""
    if linalg not in ("ignore", "raise"):
        raise NotImplementedError
    before, _config.linalg = _config.linalg, linalg
    try:
        yield
    finally:
        _config.linalg = before


def _square(a: Any) -> bool:
    return a.ndim >= 2 and a.shape[-1] == a.shape[-2]


def _tried(function: Callable[..., Any], instead: Callable[[], Any], *args: Any) -> Any:
    """Compute it, or what comes ``instead`` where it fails and nobody looks."""
    try:
        return function(*args)
    except np.linalg.LinAlgError:
        if _config.linalg == "raise" or not _square(args[0]):
            raise
        return instead()


def inv(a: Any) -> Any:
    return _tried(np.linalg.inv, lambda: np.full_like(a, np.nan), a)


def solve(a: Any, b: Any) -> Any:
    if b.ndim > 1 and _square(a) and a.shape[:-1] != b.shape[:-1]:  # stacks do not broadcast
        msg = "a must have (..., M, M) shape and b must have (..., M, K) for multidimensional b"
        raise ValueError(msg)
    like = np.broadcast_to(b, a.shape[:-1]) if b.ndim == 1 else b
    return _tried(np.linalg.solve, lambda: np.full_like(like, np.nan), a, b)


def cholesky(a: Any) -> Any:
    return _tried(np.linalg.cholesky, lambda: np.tril(a), a)


SOLVERS = {f"linalg.{f.__name__}": arrays.waiting(f) for f in (inv, solve, cholesky)}


def matrix_power(M: Any, n: int) -> Any:
    if n < 0:
        M, n = SOLVERS["linalg.inv"](M), -n
    return M if n == 1 else arrays.lifted(np.linalg.matrix_power)(M, n)


SOLVERS["linalg.matrix_power"] = matrix_power
