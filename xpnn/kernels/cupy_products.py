"""Products of matrices on CuPy, by cuBLASLt: affine maps, their ReLU, ``matmul``.

:func:`product`, and what comes before and after one, are there for other kernels too.
"""

from __future__ import annotations

import math
from typing import Any

from xpnn.kernels.cublaslt import lies, multiply
from xpnn.kernels.cupy_launch import Source, contiguous, cupy, threads_for, wide

__all__ = [
    "column_sums",
    "finish",
    "linear",
    "linear_accepts",
    "linear_relu",
    "linear_relu_accepts",
    "linear_relu_vjp",
    "linear_vjp",
    "matmul",
    "matmul_accepts",
    "matmul_vjp",
    "product",
    "relu_gradient",
    "relu_in_place",
    "sigmoid_in_place",
    "sources",
    "tanh_in_place",
]

Array = Any

_products = Source("products")
_IDENTITY, _RELU, _SIGMOID, _TANH = range(4)
_PACK = 16  # bytes
_BLOCK = 256
_BLOCKS = 512  # about how many keep a GPU busy
_MOST_ROWS = 65535  # of a grid
_FEWEST = 8  # rows that a thread adds up


def sources() -> dict[str, str]:
    """Return every CUDA source of this module by name, for the compile check."""
    return _products.codes()


def _is_real(x: Array) -> bool:
    return x.dtype.name in ("float16", "bfloat16", "float32", "float64")


def product(
    a: Array,
    b: Array,
    *,
    out: Array | None = None,
    scale: float = 1.0,
    plus: float = 0.0,
    bias: Array | None = None,
    relu: bool = False,
) -> Array:
    """Return ``relu(scale * a @ b + plus * out + bias)`` of matrices or stacks of them.

    Parameters
    ----------
    a, b : array
        (m, k) and (k, n), or stacks (N, m, k) and (N, k, n), or a matrix and a stack; of one dtype,
        nothing of them empty. They may lie transposed; what lies otherwise is copied.
    out : array, optional
        Where the result is written, (m, n) or (N, m, n), row by row; for factors of 16 bits also of
        float32.
    scale, plus : float
        Factors of the product, and of what is in ``out``.
    bias : array, optional
        (n,), of the dtype of the result.
    relu : bool
    """
    a, b = _readable(a), _readable(b)
    if out is None:
        stack = a.shape[:-2] or b.shape[:-2]
        out = cupy().empty((*stack, a.shape[-2], b.shape[-1]), a.dtype)
    bias = contiguous(bias)
    if not multiply(a, b, out, scale=scale, plus=plus, bias=bias, relu=relu):
        finish(out, bias, relu)
    return out


def _readable(x: Array) -> Array:
    """Return a matrix or a stack that cuBLASLt can read: the same, if it lies so."""
    if x.flags.c_contiguous:
        return x
    apart = x.ndim == 2 or (x.strides[0] >= 0 and x.strides[0] % x.itemsize == 0)
    return x if apart and lies(x) is not None else contiguous(x)


def _turned(x: Array) -> Array:
    return x.swapaxes(-1, -2)


# ------------------------------------------------------------------------ after a product


def finish(y: Array, bias: Array | None, relu: bool) -> None:
    """Add a bias to the last axis of a contiguous array, and take its ReLU, in place."""
    _finish(y, bias, _RELU if relu else _IDENTITY)


def _finish(y: Array, bias: Array | None, activation: int) -> None:
    """Add a bias to the last axis of a contiguous array, and take its activation, in place."""
    rows, columns = (1, y.size) if bias is None else (y.size // bias.size, bias.size)
    width = _PACK // y.itemsize
    places = y.data.ptr | (0 if bias is None else bias.data.ptr)
    name = "finish"
    if columns % width == 0 and places % _PACK == 0:
        name, columns = "finish_packs", columns // width
    threads = threads_for(columns, _BLOCK)
    grid = (-(-columns // threads), min(rows, _MOST_ROWS))
    _products.launch(name, y.dtype, grid, threads, y, bias, rows, columns, activation)


def relu_in_place(y: Array) -> None:
    """Write the ReLU of an array into it."""
    _in_place(y, _RELU)


def sigmoid_in_place(y: Array) -> None:
    """Write the sigmoid of an array into it."""
    _in_place(y, _SIGMOID)


def tanh_in_place(y: Array) -> None:
    """Write the hyperbolic tangent of an array into it."""
    _in_place(y, _TANH)


def _in_place(y: Array, activation: int) -> None:
    whole = contiguous(y)
    if y.size:
        _finish(whole, None, activation)
    if whole is not y:
        y[...] = whole


# -------------------------------------------------------------------------- sums of columns


def column_sums(x: Array) -> Array:
    """Return the sums over the rows of a matrix, which is not empty, in its dtype."""
    return _sums("column_sums", x, contiguous(x))


def _sums(kernel: str, x: Array, *arrays: Array) -> Array:
    rows, columns = x.shape
    across = min(64, 1 << (columns - 1).bit_length())  # columns of a block
    blocks = -(-columns // across)
    parts = min(-(-rows // (_BLOCK // across * _FEWEST)), max(1, _BLOCKS // blocks))
    sums = cupy().empty(columns, x.dtype)
    partial = cupy().empty((parts, columns), wide(x.dtype)) if parts > 1 else None
    grid = (blocks, parts)
    _products.launch(kernel, x.dtype, grid, _BLOCK, *arrays, sums, partial, rows, columns, across)
    if parts > 1:
        threads = threads_for(columns, 128)
        grid = (-(-columns // threads), 1)
        _products.launch("column_totals", x.dtype, grid, threads, partial, sums, parts, columns)
    return sums


# ----------------------------------------------------------------------------- affine maps


def linear_accepts(x: Array, weight: Array, bias: Array | None) -> bool:
    """Whether all are of one dtype, fit, and nothing is empty."""
    return (
        _is_real(x)
        and weight.ndim == 2
        and x.dtype == weight.dtype
        and x.shape[-1:] == weight.shape[:1]
        and bool(x.size and weight.size)
        and (bias is None or (bias.dtype == x.dtype and bias.shape == weight.shape[1:]))
    )


linear_relu_accepts = linear_accepts


def linear(xp: Any, x: Array, weight: Array, bias: Array | None) -> Array:
    return _linear(x, weight, bias)


def linear_relu(xp: Any, x: Array, weight: Array, bias: Array | None) -> Array:
    return _linear(x, weight, bias, relu=True)


def _linear(x: Array, weight: Array, bias: Array | None, relu: bool = False) -> Array:
    y = product(_rows(x), weight, bias=bias, relu=relu)
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], weight.shape[1])


def _rows(x: Array) -> Array:
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def linear_vjp(
    xp: Any, g: Array, needs: list[bool], x: Array, weight: Array
) -> tuple[Array | None, ...]:
    rows = _rows(g.astype(x.dtype, copy=False))
    return _linear_vjp(rows, needs, x, weight, column_sums(rows) if needs[2] else None)


def linear_relu_vjp(
    xp: Any, g: Array, needs: list[bool], y: Array, x: Array, weight: Array
) -> tuple[Array | None, ...]:
    d, db = relu_gradient(_rows(g), _rows(y), needs[2])
    return _linear_vjp(d, needs, x, weight, db)


def relu_gradient(g: Array, y: Array, sums: bool) -> tuple[Array, Array | None]:
    """Return g where ``y``, the ReLU of a matrix, is positive, and the sums over its rows."""
    g, y = contiguous(g), contiguous(y)
    d = cupy().empty_like(y)
    if sums:
        return d, _sums("relu_column_sums", y, g, y, d)
    blocks = min(-(-y.size // _BLOCK), _BLOCKS * 8)
    _products.launch("relu_slopes", y.dtype, blocks, _BLOCK, g, y, d, y.size)
    return d, None


def _linear_vjp(
    g: Array, needs: list[bool], x: Array, weight: Array, db: Array | None
) -> tuple[Array | None, ...]:
    dx = dw = None
    if needs[0]:
        dx = product(g, weight.T).reshape(x.shape)
    if needs[1]:  # in the order of the weight's elements, to which it is added
        across = weight.flags.f_contiguous and not weight.flags.c_contiguous
        dw = product(g.T, _rows(x)).T if across else product(_rows(x).T, g)
    return dx, dw, db


# ---------------------------------------------------------------------------------- matmul


def matmul_accepts(x1: Array, x2: Array) -> bool:
    """Whether both are of one dtype, not empty, and fit; their stacks may broadcast.

    CuPy's own product of stacks has no bfloat16, so other dtypes whose common one that is are taken
    as well.
    """
    if not (x1.size and x2.size and x1.ndim and x2.ndim):
        return False
    if x1.dtype != x2.dtype:
        if "bfloat16" not in (x1.dtype.name, x2.dtype.name) or _common(x1, x2).name != "bfloat16":
            return False
    elif not _is_real(x1):
        return False
    stacks = zip(reversed(x1.shape[:-2]), reversed(x2.shape[:-2]), strict=False)
    rows = x2.shape[-2 if x2.ndim > 1 else 0]
    return x1.shape[-1] == rows and all(m == n or 1 in (m, n) for m, n in stacks)


def _common(x1: Array, x2: Array) -> Any:
    return cupy().promote_types(x1.dtype, x2.dtype)


def matmul(xp: Any, x1: Array, x2: Array) -> Array:
    a, b = _matrices(x1, x2)
    y = _stacked(a, b)
    if x1.ndim == 1:
        y = y[..., 0, :]
    return y[..., 0] if x2.ndim == 1 else y


def matmul_vjp(
    xp: Any, g: Array, needs: list[bool], x1: Array, x2: Array
) -> tuple[Array | None, ...]:
    a, b = _matrices(x1, x2)
    g = g.astype(a.dtype, copy=False)
    if x2.ndim == 1:
        g = g[..., None]
    if x1.ndim == 1:
        g = g[..., None, :]
    d1 = d2 = None
    if needs[0]:
        d1 = _summed(_stacked(g, _turned(b)), a.shape).reshape(x1.shape)
        d1 = d1.astype(x1.dtype, copy=False)
    if needs[1] and math.prod(b.shape[:-2]) == 1:  # one product instead of a stack and its sum
        d2 = product(_rows(a).T, _rows(g)).reshape(x2.shape)
    elif needs[1]:
        d2 = _summed(_stacked(_turned(a), g), b.shape).reshape(x2.shape)
    return d1, None if d2 is None else d2.astype(x2.dtype, copy=False)


def _matrices(x1: Array, x2: Array) -> tuple[Array, Array]:
    """Return both as matrices of one dtype, or stacks of them."""
    if x1.dtype != x2.dtype:
        dtype = _common(x1, x2)
        x1, x2 = x1.astype(dtype, copy=False), x2.astype(dtype, copy=False)
    return x1[None, :] if x1.ndim == 1 else x1, x2[:, None] if x2.ndim == 1 else x2


def _stacked(a: Array, b: Array) -> Array:
    """Return the products of matrices (*, m, k) and (*, k, n), of stacks that broadcast.

    One that is single is read again and again; of stacks that differ, copies are made.
    """
    first, second = a.shape[:-2], b.shape[:-2]
    n, n2 = math.prod(first), math.prod(second)
    lead = first if first == second else cupy().broadcast_shapes(first, second)
    shape = (*lead, a.shape[-2], b.shape[-1])
    if first != second and 1 not in (n, n2):
        n = n2 = math.prod(lead)
        a, b = (cupy().broadcast_to(x, (*lead, *x.shape[-2:])) for x in (a, b))
    if n2 == 1 and a.flags.c_contiguous:  # the rows of all are those of one
        return product(_rows(a), b.reshape(b.shape[-2:])).reshape(shape)
    a, b = (x.reshape(*(() if k == 1 else (k,)), *x.shape[-2:]) for x, k in ((a, n), (b, n2)))
    return product(a, b).reshape(shape)


def _summed(d: Array, shape: tuple[int, ...]) -> Array:
    """Return the gradient of an array of ``shape`` that was broadcast to that of ``d``."""
    size = math.prod(shape)
    if d.size != size:
        more = d.ndim - len(shape)
        over = [i for i in range(d.ndim) if i < more or shape[i - more] != d.shape[i]]
        kept = [i for i in range(d.ndim) if i not in over]
        d = column_sums(d.transpose(*over, *kept).reshape(d.size // size, size))
    return d.reshape(shape)
