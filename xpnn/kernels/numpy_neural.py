"""NumPy kernels of the affine map and of dropout: no temporary that need not be.

Each mutates only what it has just made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.kernels.numpy_activations import relu_in_place, relu_vjp
from xpnn.kernels.numpy_parts import elementwise, keep
from xpnn.kernels.numpy_products import column_sums, product

__all__ = [
    "dropout",
    "dropout_accepts",
    "dropout_vjp",
    "linear",
    "linear_relu",
    "linear_relu_vjp",
    "linear_vjp",
]

Array = Any

_FEW = 64  # rows
_TINY = 1 << 11  # elements of a weight for which turning the product around takes longer


def linear(xp: Any, x: Array, weight: Array, bias: Array | None) -> Array:
    return _linear(x, weight, bias)


def linear_relu(xp: Any, x: Array, weight: Array, bias: Array | None) -> Array:
    return _linear(x, weight, bias, relu_in_place)


def _linear(
    x: Array, weight: Array, bias: Array | None, last: Callable[[Array], None] | None = None
) -> Array:
    rows = x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    if len(rows) <= _FEW and _lies_across(weight):
        y = _times_transposed(rows, weight.T)
    elif bias is None or bias.dtype == np.result_type(x, weight):
        y, bias, last = product(rows, weight, plus=bias, last=last), None, None
    else:
        y = product(rows, weight)
    if bias is not None:
        y = np.add(y, bias, out=y if y.dtype == np.result_type(y, bias) else None)
    if last is not None:
        last(y)
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], weight.shape[1])


def linear_vjp(
    xp: Any, g: Array, needs: list[bool], x: Array, weight: Array
) -> tuple[Array | None, ...]:
    rows, g_rows = x, g
    if x.ndim != 2:
        n = math.prod(x.shape[:-1])
        rows, g_rows = x.reshape(n, x.shape[-1]), g.reshape(n, g.shape[-1])
    across = _lies_across(weight)
    dx = dw = None
    if needs[0]:
        dx = product(g_rows, weight.T) if across else _times_transposed(g_rows, weight)
        dx = dx.reshape(x.shape)
    if needs[1]:  # in the order of the weight's elements, as it is added to what lies like that
        dw = product(g_rows.T, rows).T if across else product(rows.T, g_rows)
    return dx, dw, column_sums(g_rows) if needs[2] else None


def linear_relu_vjp(
    xp: Any, g: Array, needs: list[bool], y: Array, x: Array, weight: Array
) -> tuple[Array | None, ...]:
    return linear_vjp(xp, relu_vjp(xp, g, [True], y)[0], needs, x, weight)


def _lies_across(weight: Array) -> bool:
    """Tell the transpose of a matrix, such as the weight of a decoder that is the encoder's."""
    return bool(weight.flags.f_contiguous and not weight.flags.c_contiguous)


def _times_transposed(rows: Array, weight: Array) -> Array:
    """Return ``rows @ weight.T``, for which BLAS needs up to twice the time if rows are few."""
    if len(rows) > _FEW or weight.size <= _TINY:
        return product(rows, weight.T)
    return np.ascontiguousarray(product(weight, rows.T).T)


def dropout_accepts(x: Array, mask: Array, *, scale: float) -> bool:
    return x.dtype.char in "efd" and mask.dtype == np.bool_ and mask.shape == x.shape


def dropout(xp: Any, x: Array, mask: Array, *, scale: float) -> Array:
    def drop(x: Array, mask: Array, y: Array) -> None:
        np.multiply(x, scale, out=y)
        keep(y, mask, y)

    return elementwise(drop, x, mask)


def dropout_vjp(
    xp: Any, g: Array, needs: list[bool], mask: Array, scale: float
) -> tuple[Array, None]:
    return dropout(xp, g, mask, scale=scale), None
