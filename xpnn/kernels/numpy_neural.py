"""NumPy kernels of the affine map and of dropout: no temporary that need not be.

Each mutates only what it has just made.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpnn import parallel
from xpnn.kernels.fast import sweep
from xpnn.kernels.numpy_activations import keep_positive, relu_in_place, relu_vjp
from xpnn.kernels.numpy_memory import empty
from xpnn.kernels.numpy_parts import are_many, elementwise, is_large, keep, over_parts, parts
from xpnn.kernels.numpy_products import Last, column_sums, product, products
from xpnn.kernels.numpy_reductions import ones

__all__ = [
    "add_and_rectify",
    "dropout",
    "dropout_accepts",
    "dropout_vjp",
    "keep_positive_and_sum",
    "linear",
    "linear_relu",
    "linear_relu_vjp",
    "linear_vjp",
]

Array = Any

_FEW = 64  # rows
_PART = 1 << 17  # elements
_TINY = 1 << 11  # elements of a weight for which turning the product around takes longer


def linear(xp: Any, x: Array, weight: Array, bias: Array | None) -> Array:
    return _linear(x, weight, bias)


def linear_relu(xp: Any, x: Array, weight: Array, bias: Array | None) -> Array:
    return _linear(x, weight, bias, _add_and_rectify)


def _linear(x: Array, weight: Array, bias: Array | None, last: Last | None = None) -> Array:
    rows = x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    if _lies_across(weight) and _pays_to_turn(rows, weight.T):
        y = np.ascontiguousarray(product(weight.T, rows.T).T)
    elif bias is None or bias.dtype == np.result_type(x, weight):
        y, bias, last = product(rows, weight, plus=bias, last=last), None, None
    else:
        y = product(rows, weight)
    if bias is not None:
        y = np.add(y, bias, out=y if y.dtype == np.result_type(y, bias) else None)
    if last is not None:
        last(y, None)
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], weight.shape[1])


def linear_vjp(
    xp: Any, g: Array, needs: list[bool], x: Array, weight: Array
) -> tuple[Array | None, ...]:
    rows, g_rows = x, g
    if x.ndim != 2:
        n = math.prod(x.shape[:-1])
        rows, g_rows = x.reshape(n, x.shape[-1]), g.reshape(n, g.shape[-1])
    across, turned = _lies_across(weight), _pays_to_turn(g_rows, weight)
    back = (weight, g_rows.T) if turned else (g_rows, weight.T)
    # In the order of the weight's elements, as it is added to what lies like that.
    over = (g_rows.T, rows) if across else (rows.T, g_rows)
    dx, dw = products(back if needs[0] else None, over if needs[1] else None)
    if dx is not None:
        dx = (np.ascontiguousarray(dx.T) if turned else dx).reshape(x.shape)
    if dw is not None and across:
        dw = dw.T
    return dx, dw, column_sums(g_rows) if needs[2] else None


def linear_relu_vjp(
    xp: Any, g: Array, needs: list[bool], y: Array, x: Array, weight: Array
) -> tuple[Array | None, ...]:
    if not (needs[2] and is_large(y) and g.dtype == y.dtype and g.dtype.char in "fd"):
        return linear_vjp(xp, relu_vjp(xp, g, [True], y)[0], needs, x, weight)
    g, sums = _relu_vjp_and_sums(g, y)
    dx, dw, _ = linear_vjp(xp, g, [*needs[:2], False], x, weight)
    return dx, dw, sums


def _add_and_rectify(y: Array, bias: Array | None) -> None:
    """Write the ReLU of y + bias into y."""
    if bias is None:
        relu_in_place(y)
    elif is_large(y) and y.flags.c_contiguous and y.dtype.char in "fd" and y.dtype == bias.dtype:
        over_parts(lambda at: add_and_rectify(y[at], bias), len(y), y.shape[1], short=True)
    else:
        np.add(y, bias, out=y)
        relu_in_place(y)


@sweep
def add_and_rectify(y: Array, bias: Array) -> None:
    """Write the ReLU of the sums of rows and a vector into the rows."""
    np.add(y, bias, out=y)
    np.maximum(y, 0, out=y)


def _relu_vjp_and_sums(g: Array, y: Array) -> tuple[Array, Array]:
    """Return the gradient through a ReLU, and the sums of its columns."""
    dx = empty(g.shape, g.dtype)
    rows = [x.reshape(-1, x.shape[-1]) for x in (g, y, dx)]
    places = parts(len(rows[0]), g.shape[-1], _PART)
    sums = np.empty((len(places), g.shape[-1]), g.dtype)

    def part(i: int) -> None:
        keep_positive_and_sum(*(x[places[i]] for x in rows), sums[i])

    parallel.share(part, range(len(places)), worth=are_many(g.size))
    return dx, np.add.reduce(sums, axis=0)


@sweep
def keep_positive_and_sum(g: Array, y: Array, dx: Array, sums: Array) -> None:
    """Write g where y is positive, 0 elsewhere; and the sums of the columns of that."""
    keep_positive.plain(g, y, dx)
    np.matmul(ones(len(dx), dx.dtype), dx, out=sums)


def _lies_across(weight: Array) -> bool:
    """Tell the transpose of a matrix, such as the weight of a decoder that is the encoder's."""
    return bool(weight.flags.f_contiguous and not weight.flags.c_contiguous)


def _pays_to_turn(rows: Array, weight: Array) -> bool:
    """Tell whether BLAS, for ``rows @ weight.T``, needs up to twice the time of its transpose."""
    return len(rows) <= _FEW and weight.size > _TINY and not _lies_across(weight)


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
