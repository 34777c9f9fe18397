"""Inverses and solutions on CuPy, which are errors where they do not exist, as they are on NumPy.

Whether a matrix was singular, or not positive definite, the GPU knows: CuPy looks, and the host
waits for it, only if it is told to. While a step is recorded nobody may wait, and nobody looks.
"""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from typing import Any

from xpnn import replay
from xpnn.kernels.cupy_launch import cupy

__all__ = ["cholesky", "inv", "matrix_power", "solve"]

Array = Any


def _checked() -> Any:
    """Return the context in which CuPy raises ``numpy.linalg.LinAlgError`` for what has failed."""
    if replay.current() is not None:
        return nullcontext()
    return importlib.import_module("cupyx").errstate(linalg="raise")


def inv(xp: Any, x: Array) -> Array:
    with _checked():
        return xp.linalg.inv(x)


def solve(xp: Any, x1: Array, x2: Array) -> Array:
    first, second = x1.shape[:-2], x2.shape[:-2]
    if first != second and min(x1.ndim, x2.ndim) > 1:  # CuPy takes stacks that are alike
        lead = cupy().broadcast_shapes(first, second)
        x1, x2 = (cupy().broadcast_to(x, (*lead, *x.shape[-2:])) for x in (x1, x2))
    with _checked():
        return xp.linalg.solve(x1, x2)


def cholesky(xp: Any, x: Array, *, upper: bool) -> Array:
    with _checked():
        return xp.linalg.cholesky(x, upper=upper)


def matrix_power(xp: Any, x: Array, *, n: int) -> Array:
    with _checked():
        y = xp.linalg.matrix_power(x, n)
    return y.copy() if y is x else y  # CuPy's first power is the matrix itself
