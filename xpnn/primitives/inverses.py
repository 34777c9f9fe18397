"""Inverses of matrices, and solutions of equations: what rules of other factors need as well."""

from __future__ import annotations

from typing import Any

from xpnn.primitives.base import Primitive, cast, primitive, unbroadcast
from xpnn.primitives.products import _h

Array = Any
Shape = tuple[int, ...]


@primitive()
def inv(xp: Any, x: Array, /) -> Array:
    """Inverse of square matrices."""
    return xp.linalg.inv(x)


def _inv_vjp(xp: Any, g: Array, y: Array) -> Array:
    adjoint = _h(xp, y)  # gA = -A^-H g A^-H
    return -(adjoint @ g @ adjoint)


inv.d(_inv_vjp)


@primitive()
def solve(xp: Any, x1: Array, x2: Array, /) -> Array:
    """Solution of ``x1 @ y = x2``; ``x2`` is one vector, or matrices if it has more axes."""
    return xp.linalg.solve(x1, x2)


@solve.vjp
def _solve_vjp(
    xp: Any, g: Array, needs: list[bool], y: Array, x1: Array, x2_shape: Shape, x2_dtype: Any
) -> tuple[Array | None, Array | None]:
    # gB = A^-H g, gA = -gB Y^H
    vector = len(x2_shape) == 1
    if vector:
        g, y = g[..., None], y[..., None]
    g1, g2 = None, solve(xp, _h(xp, x1), g)
    if needs[0]:
        g1 = cast(xp, -unbroadcast(xp, g2 @ _h(xp, y), x1.shape), x1.dtype)
    if needs[1]:
        g2 = cast(xp, unbroadcast(xp, g2[..., 0] if vector else g2, x2_shape), x2_dtype)
    return g1, g2


__all__ = [name for name, value in globals().items() if isinstance(value, Primitive)]
