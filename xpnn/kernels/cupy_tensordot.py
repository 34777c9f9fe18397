"""``tensordot`` on CuPy: the summed axes of both arrays beside each other, and one product."""

from __future__ import annotations

import math
from typing import Any

from xpnn.kernels.cupy_products import product

__all__ = ["tensordot", "tensordot_accepts", "tensordot_vjp"]

Array = Any
_REAL = ("float16", "bfloat16", "float32", "float64")


class _Axes:
    """Which axes of both arrays are summed, which are free, and their lengths."""

    def __init__(self, x1: Array, x2: Array, axes: Any) -> None:
        if isinstance(axes, int):
            axes = range(x1.ndim - axes, x1.ndim), range(axes)
        self.summed = [[a % x.ndim for a in part] for x, part in zip((x1, x2), axes, strict=True)]
        self.free = [
            [a for a in range(x.ndim) if a not in part]
            for x, part in zip((x1, x2), self.summed, strict=True)
        ]
        self.orders = self.free[0] + self.summed[0], self.summed[1] + self.free[1]
        self.shape = tuple(
            x.shape[a] for x, part in zip((x1, x2), self.free, strict=True) for a in part
        )
        self.lengths = [x1.shape[a] for a in self.summed[0]]

    def matrices(self, x1: Array, x2: Array) -> tuple[Array, Array]:
        """Return the arrays as matrices whose product is the result."""
        inner = math.prod(self.lengths)
        return (
            x1.transpose(self.orders[0]).reshape(-1, inner),
            x2.transpose(self.orders[1]).reshape(inner, -1),
        )


def tensordot_accepts(x1: Array, x2: Array, *, axes: Any) -> bool:
    """Whether both are of one dtype, not empty, and the axes fit: if not, CuPy says why."""
    if x1.dtype.name not in _REAL or x1.dtype != x2.dtype or not (x1.size and x2.size):
        return False
    if isinstance(axes, int):
        return 0 <= axes <= min(x1.ndim, x2.ndim) and (
            x1.shape[x1.ndim - axes :] == x2.shape[:axes]
        )
    first, second = axes
    fit = all(-x1.ndim <= a < x1.ndim and -x2.ndim <= b < x2.ndim
              for a, b in zip(first, second, strict=False))  # fmt: skip
    return (
        len(first) == len(second)
        and fit
        and all(x1.shape[a] == x2.shape[b] for a, b in zip(first, second, strict=True))
    )


def tensordot(xp: Any, x1: Array, x2: Array, *, axes: Any) -> Array:
    found = _Axes(x1, x2, axes)
    return product(*found.matrices(x1, x2)).reshape(found.shape)


def tensordot_vjp(
    xp: Any, g: Array, needs: list[bool], x1: Array, x2: Array, axes: Any
) -> tuple[Array | None, ...]:
    found = _Axes(x1, x2, axes)
    a, b = found.matrices(x1, x2)
    g = g.astype(x1.dtype, copy=False).reshape(len(a), b.shape[1])
    factors = ((g, b.T) if needs[0] else None, (a.T, g) if needs[1] else None)
    return tuple(
        None if pair is None else _in_order(product(*pair), x.shape, order)
        for pair, x, order in zip(factors, (x1, x2), found.orders, strict=True)
    )


def _in_order(d: Array, shape: tuple[int, ...], order: list[int]) -> Array:
    """Return a gradient, whose axes were put in an order, with the axes of its array."""
    whole = d.reshape([shape[a] for a in order])
    return whole.transpose([order.index(a) for a in range(len(shape))])
