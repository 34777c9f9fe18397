"""Factorisations of matrices, with the derivatives of their factors.

``X^H`` is the conjugate transpose; axes before the last two are a stack of matrices. The formulas
are those of Giles (2008), "An extended collection of matrix derivative results", and Townsend
(2016), "Differentiating the singular value decomposition", carried over to complex numbers.

- ``cholesky`` and ``eigh`` read one triangle; the gradient is that of the whole Hermitian matrix.
- Eigenvectors and singular vectors are defined up to a sign or a phase: the gradient is right for a
  loss that does not depend on it. Vectors of equal values are only defined by the space that they
  span: for a loss of that space alone, such a pair adds nothing to the gradient.
- The gradient of the values alone divides by no gap between them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnn._dtypes import as_dtype
from xpnn.errors import GraphError
from xpnn.primitives import inverses
from xpnn.primitives.base import Primitive, cast, primitive
from xpnn.primitives.elementwise import _c
from xpnn.primitives.products import _h

Array = Any
Grads = tuple[Array | None, ...]

# Named tuples of our own: torch's have no `_fields`, so their names would be lost on Tensors.


class EigResult(NamedTuple):
    """Eigenvalues and right eigenvectors."""

    eigenvalues: Array
    eigenvectors: Array


class EighResult(NamedTuple):
    """Eigenvalues in ascending order, and eigenvectors."""

    eigenvalues: Array
    eigenvectors: Array


class QRResult(NamedTuple):
    """Orthonormal columns and an upper triangle."""

    Q: Array
    R: Array


class SVDResult(NamedTuple):
    """Left vectors, singular values, and right vectors in rows."""

    U: Array
    S: Array
    Vh: Array


def _reciprocal(xp: Any, x: Array) -> Array:
    """Return 1 / x, and 0 where x is 0."""
    zero = x == 0
    return xp.where(zero, xp.zeros_like(x), 1 / xp.where(zero, xp.ones_like(x), x))


def _gaps(values: Array) -> Array:
    """Return the matrix of ``values[j] - values[i]``."""
    return values[..., None, :] - values[..., :, None]


def _copyltu(xp: Any, x: Array) -> Array:
    """Return the Hermitian matrix that has the lower triangle of ``x``."""
    double = xp.tril(x) + xp.tril(x, k=-1)
    return (double + _h(xp, double)) / 2


# ---------------------------------------------------------------------------------- Cholesky


@primitive()
def cholesky(xp: Any, x: Array, /, *, upper: bool = False) -> Array:
    """Triangular factor of positive definite matrices: ``A = L L^H``, or ``U^H U`` if ``upper``."""
    return xp.linalg.cholesky(x, upper=upper)


def _cholesky_vjp(xp: Any, g: Array, y: Array, upper: bool) -> Array:
    # gA = L^-H copyltu(L^H gL) / 2 L^-1
    # (Murray 2016, "Differentiation of the Cholesky decomposition", eq. 10).
    if upper:
        y, g = _h(xp, y), _h(xp, g)
    adjoint = _h(xp, y)
    inner = _copyltu(xp, adjoint @ g) / 2
    left = inverses.solve(xp, adjoint, inner)
    return _h(xp, inverses.solve(xp, adjoint, _h(xp, left)))


cholesky.d(_cholesky_vjp)

# ------------------------------------------------------------------------- Hermitian matrices


@primitive()
def eigh(xp: Any, x: Array, /) -> EighResult:
    """Eigenvalues, ascending, and eigenvectors of Hermitian matrices: ``A = V diag(w) V^H``."""
    return EighResult(*xp.linalg.eigh(x))


@primitive()
def eigvalsh(xp: Any, x: Array, /) -> Array:
    """Eigenvalues of Hermitian matrices, in ascending order."""
    return xp.linalg.eigvalsh(x)


def _eigh_vjp(xp: Any, g: Grads, y: tuple[Array, Array]) -> Array:
    # gA = V (diag(gw) + F o X) V^H with F_ij = 1 / (w_j - w_i) and X = V^H gV (Giles 2008, 3.1);
    # of X the anti-Hermitian part, which makes gA Hermitian.
    (w, v), (gw, gv) = y, g
    out = None
    if gv is not None:
        inner = _h(xp, v) @ gv
        out = v @ (_reciprocal(xp, _gaps(w)) * (inner - _h(xp, inner)) / 2)
    if gw is not None:
        scaled = v * gw[..., None, :]
        out = scaled if out is None else out + scaled
    return out @ _h(xp, v)


eigh.d(_eigh_vjp)
eigvalsh.d(lambda xp, g, x: _eigh_vjp(xp, (g, None), xp.linalg.eigh(x)))

# --------------------------------------------------------------------------- square matrices


@primitive()
def eig(xp: Any, x: Array, /) -> EigResult:
    """Eigenvalues and eigenvectors of square matrices, complex: ``A V = V diag(w)``."""
    return EigResult(*xp.linalg.eig(x))


@primitive()
def eigvals(xp: Any, x: Array, /) -> Array:
    """Eigenvalues of square matrices, complex."""
    return xp.linalg.eigvals(x)


def _eig_vjp(xp: Any, g: Grads, y: tuple[Array, Array], x_dtype: Any) -> Array:
    # gA = V^-H (diag(gw) + conj(F) o (X - V^H V Re diag X)) V^H with X = V^H gV: Giles (2008), 3.1,
    # and the projection of dV that keeps the length of the eigenvectors. Distinct eigenvalues only.
    (w, v), (gw, gv) = y, g
    adjoint = _h(xp, v)
    out = None
    if gv is not None:
        inner = adjoint @ gv
        lengths = xp.real(xp.linalg.diagonal(inner))[..., None, :]
        inner = inner - (adjoint @ v) * lengths
        out = (_c(xp, _reciprocal(xp, _gaps(w))) * inner) @ adjoint
    if gw is not None:
        scaled = gw[..., :, None] * adjoint
        out = scaled if out is None else out + scaled
    return cast(xp, inverses.solve(xp, adjoint, out), x_dtype)


def _eigvals_vjp(xp: Any, g: Array, y: Array, x: Array) -> Array:
    # `eig` may find the eigenvalues in another order than `eigvals` did: match each to its nearest.
    w, v = xp.linalg.eig(x)
    nearest = xp.argmin(xp.abs(w[..., :, None] - y[..., None, :]), axis=-1)
    return _eig_vjp(xp, (xp.take_along_axis(g, nearest, axis=-1), None), (w, v), x.dtype)


eig.d(_eig_vjp)
eigvals.d(_eigvals_vjp)

# ---------------------------------------------------------------------------------------- QR


@primitive()
def qr(xp: Any, x: Array, /, *, mode: str = "reduced") -> QRResult:
    """Orthonormal and triangular factors, ``A = Q R``; ``mode`` is "reduced" or "complete"."""
    return QRResult(*xp.linalg.qr(x, mode=mode))


def _qr_vjp(xp: Any, g: Grads, y: tuple[Array, Array]) -> Array:
    (q, r), (gq, gr) = y, g
    rows, columns = q.shape[-2], r.shape[-1]
    if q.shape[-1] > columns:  # mode="complete": the last columns of Q are any basis of the rest
        if gq is not None:
            msg = (
                f"qr(mode='complete') of matrices of shape ({rows}, {columns}) has no derivative"
                " through Q: its last columns are not unique. Use mode='reduced'."
            )
            raise GraphError(msg)
        assert gr is not None
        q, r, gr = q[..., :columns], r[..., :columns, :], gr[..., :columns, :]
    if columns <= rows:
        return _qr_tall_vjp(xp, q, r, gq, gr)
    # Wide: A = [A1 A2] with A1 = Q R1 square and R2 = Q^H A2.
    r1 = r[..., :rows]
    if gr is None:
        first = _qr_tall_vjp(xp, q, r1, gq, None)
        return xp.concat([first, xp.zeros_like(r[..., rows:])], axis=-1)
    gr1, gr2 = gr[..., :rows], gr[..., rows:]
    through_r2 = q @ (r[..., rows:] @ _h(xp, gr2))
    gq = through_r2 if gq is None else gq + through_r2
    return xp.concat([_qr_tall_vjp(xp, q, r1, gq, gr1), q @ gr2], axis=-1)


def _qr_tall_vjp(xp: Any, q: Array, r: Array, gq: Array | None, gr: Array | None) -> Array:
    # gA = (gQ + Q copyltu(M)) R^-H, M = R gR^H - gQ^H Q  (Seeger et al. 2017, eq. 3; the diagonal
    # of R is real, so the imaginary part of M's is dropped).
    inner = None
    if gr is not None:
        inner = r @ _h(xp, gr)
    if gq is not None:
        rest = _h(xp, gq) @ q
        inner = -rest if inner is None else inner - rest
    out = q @ _copyltu(xp, inner)
    if gq is not None:
        out = out + gq
    return _h(xp, inverses.solve(xp, r, _h(xp, out)))


qr.d(_qr_vjp)

# --------------------------------------------------------------------------------------- SVD


@primitive()
def svd(xp: Any, x: Array, /, *, full_matrices: bool = True) -> SVDResult:
    """Singular values in descending order and singular vectors: ``A = U diag(S) V^H``."""
    return SVDResult(*xp.linalg.svd(x, full_matrices=full_matrices))


@primitive()
def svdvals(xp: Any, x: Array, /) -> Array:
    """Singular values, in descending order."""
    return xp.linalg.svdvals(x)


def _svd_vjp(xp: Any, g: Grads, y: tuple[Array, Array, Array]) -> Array:
    # Townsend (2016), eqs. 20-23. With F_ij = 1 / (S_j^2 - S_i^2), X = U^H gU, Y = V^H gV and
    # skew(X) = X - X^H, gA = U [diag(gS) + F o skew(X) S + S F o skew(Y)] V^H
    #   + diagonal phases (complex) + (1 - U U^H) gU S^-1 V^H + U S^-1 gV^H (1 - V V^H).
    (u, s, vh), (gu, gs, gvh) = y, g
    rows, columns, rank = u.shape[-2], vh.shape[-1], s.shape[-1]
    if (gu is not None and u.shape[-1] > rank) or (gvh is not None and vh.shape[-2] > rank):
        msg = (
            f"svd(full_matrices=True) of matrices of shape ({rows}, {columns}) has no derivative"
            " through its singular vectors: those beyond the singular values are not unique."
            " Use full_matrices=False."
        )
        raise GraphError(msg)
    u, vh = u[..., :rank], vh[..., :rank, :]
    diagonal = gs
    right = None  # what U multiplies from the left
    outside = None  # what lies outside the span of U
    if gu is not None or gvh is not None:
        f = _reciprocal(xp, _gaps(s) * (s[..., None, :] + s[..., :, None]))
        over_s = _reciprocal(xp, s)
        phases = None
        if gu is not None:
            x = _h(xp, u) @ gu
            skew = x - _h(xp, x)
            right = (f * skew * s[..., None, :]) @ vh
            phases = xp.linalg.diagonal(skew)
            if rows > rank:
                outside = ((gu - u @ x) * over_s[..., None, :]) @ vh
        if gvh is not None:
            y_h = gvh @ _h(xp, vh)
            skew = _h(xp, y_h) - y_h
            part = (s[..., :, None] * f * skew) @ vh
            if columns > rank:
                part = part + over_s[..., :, None] * (gvh - y_h @ vh)
            right = part if right is None else right + part
            own = xp.linalg.diagonal(skew)
            phases = -own if phases is None else phases - own
        if as_dtype(u.dtype).kind == "c":  # U and V turn together: only their difference counts
            phases = phases * over_s / 4
            diagonal = phases if diagonal is None else diagonal + phases
    if diagonal is not None:
        part = diagonal[..., :, None] * vh
        right = part if right is None else right + part
    out = u @ right
    return out if outside is None else out + outside


svd.d(_svd_vjp)


def _svdvals_vjp(xp: Any, g: Array, x: Array) -> Array:
    return _svd_vjp(xp, (None, g, None), xp.linalg.svd(x, full_matrices=False))


svdvals.d(_svdvals_vjp)


__all__ = [name for name, value in globals().items() if isinstance(value, Primitive)]
__all__ += ["EigResult", "EighResult", "QRResult", "SVDResult"]
