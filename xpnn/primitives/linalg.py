"""The linear algebra of the standard; its factorisations are in ``decompositions``."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpnn import backend
from xpnn._dtypes import as_dtype
from xpnn.primitives import indexing, products
from xpnn.primitives.base import Primitive, cast, primitive
from xpnn.primitives.decompositions import (  # noqa: F401
    cholesky,
    eig,
    eigh,
    eigvals,
    eigvalsh,
    qr,
    svd,
    svdvals,
)
from xpnn.primitives.elementwise import _c
from xpnn.primitives.inverses import _inv_vjp, inv, solve  # noqa: F401
from xpnn.primitives.products import _h
from xpnn.primitives.reductions import _extremum_vjp, _spread

Array = Any
Axis = int | tuple[int, ...] | None
Shape = tuple[int, ...]


class SlogdetResult(NamedTuple):
    """Sign of a determinant, and the logarithm of its absolute value."""

    sign: Array
    logabsdet: Array


# -------------------------------------------------------------------------- inverses and powers


@primitive()
def pinv(xp: Any, x: Array, /, *, rtol: float | Array | None = None) -> Array:
    """Pseudo-inverse; singular values below ``rtol`` times the largest count as zero."""
    return xp.linalg.pinv(x, rtol=backend.unwrap(rtol))


def _pinv_vjp(xp: Any, g: Array, y: Array, x: Array) -> Array:
    # gA = -P^H g P^H + (1 - A P) g^H P P^H + P^H P g^H (1 - P A), where the rank is constant
    # (Golub and Pereyra 1973, eq. 4.12).
    adjoint, g_adjoint = _h(xp, y), _h(xp, g)
    left = g_adjoint @ y @ adjoint
    right = adjoint @ (y @ g_adjoint)
    return left - x @ (y @ left) + right - (right @ y) @ x - adjoint @ g @ adjoint


pinv.d(_pinv_vjp)


@primitive()
def matrix_power(xp: Any, x: Array, /, n: int) -> Array:
    """Square matrices to the integer power ``n``, which may be negative."""
    return xp.linalg.matrix_power(x, n)


def _matrix_power_vjp(xp: Any, g: Array, x: Array, n: int) -> Array:
    if n == 0:
        return xp.zeros_like(x)
    if n > 0:
        return _positive_power_vjp(xp, g, x, n)
    inverse = inv(xp, x)
    return _inv_vjp(xp, _positive_power_vjp(xp, g, inverse, -n), inverse)


def _positive_power_vjp(xp: Any, g: Array, x: Array, n: int) -> Array:
    """Sum of ``A^i^H g A^(n-1-i)^H`` over i < n, by halving: A^2m = A^m A^m, A^(m+1) = A^m A."""
    total = None
    while n > 1:
        if n % 2:
            part = _h(xp, xp.linalg.matrix_power(x, n - 1)) @ g
            total = part if total is None else total + part
            g, n = g @ _h(xp, x), n - 1
        half = _h(xp, xp.linalg.matrix_power(x, n // 2))
        g, n = half @ g + g @ half, n // 2
    return g if total is None else total + g


matrix_power.d(_matrix_power_vjp)

# -------------------------------------------------------------------------------- determinants


@primitive()
def det(xp: Any, x: Array, /) -> Array:
    """Return the determinant of square matrices; its gradient needs them to be invertible."""
    return xp.linalg.det(x)


det.d(  # gA = g conj(det A) A^-H
    lambda xp, g, y, x: (g * _c(xp, y))[..., None, None] * _h(xp, inv(xp, x))
)


@primitive()
def slogdet(xp: Any, x: Array, /) -> SlogdetResult:
    """Sign of the determinant and logarithm of its absolute value."""
    return SlogdetResult(*xp.linalg.slogdet(x))


def _slogdet_vjp(xp: Any, g: tuple[Array | None, ...], y: tuple[Array, Array], x: Array) -> Array:
    # d log det = tr(A^-1 dA): its real part moves the logarithm, its imaginary part turns the sign.
    (g_sign, total), sign = g, y[0]
    if g_sign is not None and as_dtype(x.dtype).kind == "c":
        turn = g_sign * xp.conj(sign)
        turn = (turn - xp.conj(turn)) / 2
        total = turn if total is None else total + turn
    if total is None:
        return xp.zeros_like(x)
    return total[..., None, None] * _h(xp, inv(xp, x))


slogdet.d(_slogdet_vjp)

# ------------------------------------------------------------------------------------ products


@primitive()
def outer(xp: Any, x1: Array, x2: Array, /) -> Array:
    """All products of the elements of two vectors."""
    return xp.linalg.outer(x1, x2)


outer.d(  # by the primitive, which has kernels
    lambda xp, g, x2: products.matmul(xp, g, _c(xp, x2)),
    lambda xp, g, x1: products.matmul(xp, _c(xp, x1), g),
)


@primitive(broadcasts=True)
def cross(xp: Any, x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Cross product of vectors of three elements along an axis, counted from the end."""
    return xp.linalg.cross(x1, x2, axis=axis)


cross.d(
    lambda xp, g, x2, axis: xp.linalg.cross(_c(xp, x2), g, axis=axis),
    lambda xp, g, x1, axis: xp.linalg.cross(g, _c(xp, x1), axis=axis),
)

# ----------------------------------------------------------------------------------- diagonals


@primitive()
def diagonal(xp: Any, x: Array, /, *, offset: int = 0) -> Array:
    """Diagonal of matrices, ``offset`` columns to the right of the main one."""
    return xp.linalg.diagonal(x, offset=offset)


@primitive()
def trace(xp: Any, x: Array, /, *, offset: int = 0, dtype: Any = None) -> Array:
    """Sum over a diagonal of matrices."""
    return xp.linalg.trace(x, offset=offset, dtype=dtype)


def _diagonal_length(shape: Shape, offset: int) -> int:
    return max(0, min(shape[-2] + min(offset, 0), shape[-1] - max(offset, 0)))


def _diagonal_vjp(xp: Any, g: Array, x_shape: Shape, offset: int) -> Array:
    # In row-major order a diagonal of a matrix of n columns is every (n + 1)-th element.
    *batch, rows, columns = x_shape
    length = _diagonal_length(x_shape, offset)
    if length == 0:
        start = stop = 0
    else:
        start = offset if offset >= 0 else -offset * columns
        stop = start + (length - 1) * (columns + 1) + 1
    key = (..., slice(start, stop, columns + 1))
    return xp.reshape(
        indexing.unslice(xp, g, shape=(*batch, rows * columns), key=key), tuple(x_shape)
    )


def _trace_vjp(xp: Any, g: Array, x_shape: Shape, x_dtype: Any, offset: int) -> Array:
    g = cast(xp, g, x_dtype)[..., None]
    spread = xp.broadcast_to(g, (*x_shape[:-2], _diagonal_length(x_shape, offset)))
    return _diagonal_vjp(xp, spread, x_shape, offset)


diagonal.d(_diagonal_vjp)
trace.d(_trace_vjp)

# --------------------------------------------------------------------------------------- norms


def _nonzero(xp: Any, x: Array) -> Array:
    """Return ``x`` with 1 in the place of 0, to divide by."""
    return xp.where(x == 0, xp.ones_like(x), x)


@primitive()
def vector_norm(
    xp: Any, x: Array, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2
) -> Array:
    """Norm over axes, ``sum(|x|^ord)^(1/ord)``; its gradient at zero is taken as zero."""
    return xp.linalg.vector_norm(x, axis=axis, keepdims=keepdims, ord=ord)


def _vector_norm_vjp(xp: Any, g: Array, y: Array, x: Array, axis: Axis, ord: float) -> Array:
    if ord == 0:  # a count
        return xp.zeros_like(x)
    if ord == 2:
        return x * _spread(xp, g / _nonzero(xp, y), x.shape, axis)
    size = xp.abs(x)
    safe = _nonzero(xp, size)
    direction = x / safe
    if ord == 1:
        return direction * _spread(xp, g, x.shape, axis)
    if abs(ord) == math.inf:
        extreme = (xp.max if ord > 0 else xp.min)(size, axis=axis)
        return direction * _extremum_vjp(xp, g, extreme, size, axis)
    ratio = safe / _spread(xp, _nonzero(xp, y), x.shape, axis)
    return direction * ratio ** (ord - 1) * _spread(xp, g, x.shape, axis)


vector_norm.d(_vector_norm_vjp)


@primitive()
def matrix_norm(
    xp: Any, x: Array, /, *, keepdims: bool = False, ord: float | str | None = "fro"
) -> Array:
    """Norm of matrices.

    "fro" is the root of the sum of squares and "nuc" the sum of the singular values; 2 and -2 are
    the largest and smallest singular value, 1 and -1 the largest and smallest sum ``|x|`` of a
    column, inf and -inf of a row.
    """
    return xp.linalg.matrix_norm(x, keepdims=keepdims, ord="fro" if ord is None else ord)


def _matrix_norm_vjp(
    xp: Any, g: Array, y: Array, x: Array, keepdims: bool, ord: float | str | None
) -> Array:
    if keepdims:
        g, y = g[..., 0, 0], y[..., 0, 0]
    if ord is None or ord == "fro":
        return x * (g / _nonzero(xp, y))[..., None, None]
    if ord == "nuc":
        u, _, vh = xp.linalg.svd(x, full_matrices=False)
        return (u @ vh) * g[..., None, None]
    assert not isinstance(ord, str)
    if abs(ord) == 2:
        u, sums, vh = xp.linalg.svd(x, full_matrices=False)
    else:
        size, over = xp.abs(x), -2 if abs(ord) == 1 else -1
        sums = xp.sum(size, axis=over)
    extreme = (xp.max if ord > 0 else xp.min)(sums, axis=-1)
    g = _extremum_vjp(xp, g, extreme, sums, -1)
    if abs(ord) == 2:
        return (u * g[..., None, :]) @ vh
    return x / _nonzero(xp, size) * xp.expand_dims(g, axis=over)


matrix_norm.d(_matrix_norm_vjp)

# ------------------------------------------------------------------------ without a derivative


@primitive()
def matrix_rank(xp: Any, x: Array, /, *, rtol: float | Array | None = None) -> Array:
    """Count the singular values above ``rtol`` times the largest."""
    return xp.linalg.matrix_rank(x, rtol=backend.unwrap(rtol))


__all__ = [name for name, value in globals().items() if isinstance(value, Primitive)]
__all__ += ["SlogdetResult"]
