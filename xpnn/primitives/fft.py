"""Fourier transforms, each with its adjoint as derivative.

A transform is linear, so its vjp is its adjoint: the opposite transform with the scale swapped
(``norm="backward"`` and ``"forward"`` change places), then padding and truncation undone. A real
transform keeps the frequencies 0..n//2, and those between the ends stand for two: ``irfft`` adds
each and its conjugate, so they count twice in its adjoint and half in that of ``rfft``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from xpnn.primitives import indexing
from xpnn.primitives.base import Primitive, cast, primitive
from xpnn.primitives.elementwise import _c

Array = Any
Shape = tuple[int, ...]

_SWAPPED = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


def _axes(s: Sequence[int] | None, axes: Sequence[int] | None, ndim: int) -> Shape:
    """Return the transformed axes, counted from the front: all, or the last of them, by default."""
    if axes is not None:
        return tuple(a % ndim for a in axes)
    return tuple(range(0 if s is None else ndim - len(s), ndim))


def _lengths(x: Array, axes: Shape) -> Shape:
    return tuple(x.shape[a] for a in axes)


def _back(xp: Any, g: Array, shape: Shape, dtype: Any) -> Array:
    """Undo padding (by a cut) and truncation (by zeros), and what made a real array complex."""
    if g.shape != shape:
        kept = tuple(slice(0, min(pair)) for pair in zip(g.shape, shape, strict=True))
        g = g[kept]
        if g.shape != shape:
            g = indexing.unslice(xp, g, shape=shape, key=kept)
    return cast(xp, g, dtype)


def _scale_inner(xp: Any, g: Array, n: int, axis: int, factor: float) -> Array:
    """Scale a half spectrum of ``n`` points, but for frequency 0 and, if n is even, n/2."""
    before, stop = (slice(None),) * (axis % g.ndim), (n + 1) // 2
    inner = g[(*before, slice(1, stop), ...)] * factor
    ends = g[(*before, slice(0, 1), ...)], g[(*before, slice(stop, g.shape[axis]), ...)]
    return xp.concat([ends[0], inner, ends[1]], axis=axis)


# --------------------------------------------------------------------------------- one axis


def _along_axis(name: str, doc: str, rule: Callable[..., Any]) -> Primitive:
    """Make a primitive of the transform ``name`` along one axis."""

    def forward(
        xp: Any, x: Array, /, *, n: int | None = None, axis: int = -1, norm: str = "backward"
    ) -> Array:
        return getattr(xp.fft, name)(x, n=n, axis=axis, norm=norm)

    forward.__name__, forward.__doc__ = name, doc
    return Primitive(forward).d(rule)


def _fft_vjp(xp: Any, g: Array, x_shape: Shape, x_dtype: Any, axis: int, norm: str) -> Array:
    return _back(xp, xp.fft.ifft(g, axis=axis, norm=_SWAPPED[norm]), x_shape, x_dtype)


def _ifft_vjp(xp: Any, g: Array, x_shape: Shape, x_dtype: Any, axis: int, norm: str) -> Array:
    return _back(xp, xp.fft.fft(g, axis=axis, norm=_SWAPPED[norm]), x_shape, x_dtype)


def _rfft_vjp(
    xp: Any, g: Array, x_shape: Shape, x_dtype: Any, n: int | None, axis: int, norm: str
) -> Array:
    n = x_shape[axis] if n is None else n
    g = _scale_inner(xp, g, n, axis, 0.5)
    return _back(xp, xp.fft.irfft(g, n=n, axis=axis, norm=_SWAPPED[norm]), x_shape, x_dtype)


def _irfft_vjp(xp: Any, g: Array, x_shape: Shape, x_dtype: Any, axis: int, norm: str) -> Array:
    spectrum = xp.fft.rfft(g, axis=axis, norm=_SWAPPED[norm])
    return _back(xp, _scale_inner(xp, spectrum, g.shape[axis], axis, 2.0), x_shape, x_dtype)


# hfft(x) = irfft(conj(x)) and ihfft(x) = conj(rfft(x)), both with the scales swapped.
def _hfft_vjp(xp: Any, g: Array, x_shape: Shape, x_dtype: Any, axis: int, norm: str) -> Array:
    return _c(xp, _irfft_vjp(xp, g, x_shape, x_dtype, axis, _SWAPPED[norm]))


def _ihfft_vjp(
    xp: Any, g: Array, x_shape: Shape, x_dtype: Any, n: int | None, axis: int, norm: str
) -> Array:
    return _rfft_vjp(xp, _c(xp, g), x_shape, x_dtype, n, axis, _SWAPPED[norm])


fft = _along_axis(
    "fft", "Discrete Fourier transform, ``y_k = sum_j x_j exp(-2i pi j k / n)``.", _fft_vjp
)
ifft = _along_axis("ifft", "Inverse of ``fft``.", _ifft_vjp)
rfft = _along_axis("rfft", "``fft`` of a real array: its frequencies 0..n//2.", _rfft_vjp)
irfft = _along_axis("irfft", "Inverse of ``rfft``.", _irfft_vjp)
hfft = _along_axis("hfft", "``fft`` of a Hermitian signal, which is real.", _hfft_vjp)
ihfft = _along_axis("ihfft", "Inverse of ``hfft``.", _ihfft_vjp)

# ------------------------------------------------------------------------------- several axes


def _along_axes(name: str, doc: str, rule: Callable[..., Any]) -> Primitive:
    """Make a primitive of the transform ``name`` along several axes."""

    def forward(
        xp: Any,
        x: Array,
        /,
        *,
        s: Sequence[int] | None = None,
        axes: Sequence[int] | None = None,
        norm: str = "backward",
    ) -> Array:
        axes = axes if s is None else _axes(s, axes, x.ndim)
        return getattr(xp.fft, name)(x, s=s, axes=axes, norm=norm)

    forward.__name__, forward.__doc__ = name, doc
    return Primitive(forward).d(rule)


def _fftn_vjp(
    xp: Any, g: Array, x_shape: Shape, x_dtype: Any, s: Any, axes: Any, norm: str
) -> Array:
    axes = _axes(s, axes, g.ndim)
    out = xp.fft.ifftn(g, s=_lengths(g, axes), axes=axes, norm=_SWAPPED[norm])
    return _back(xp, out, x_shape, x_dtype)


def _ifftn_vjp(
    xp: Any, g: Array, x_shape: Shape, x_dtype: Any, s: Any, axes: Any, norm: str
) -> Array:
    axes = _axes(s, axes, g.ndim)
    out = xp.fft.fftn(g, s=_lengths(g, axes), axes=axes, norm=_SWAPPED[norm])
    return _back(xp, out, x_shape, x_dtype)


def _rfftn_vjp(
    xp: Any, g: Array, x_shape: Shape, x_dtype: Any, s: Any, axes: Any, norm: str
) -> Array:
    # Not irfftn: it may take for granted that its input is Hermitian, and a gradient is not.
    *others, last = _axes(s, axes, g.ndim)
    if others:
        g = xp.fft.ifftn(g, s=_lengths(g, tuple(others)), axes=tuple(others), norm=_SWAPPED[norm])
    return _rfft_vjp(xp, g, x_shape, x_dtype, None if s is None else s[-1], last, norm)


def _irfftn_vjp(
    xp: Any, g: Array, x_shape: Shape, x_dtype: Any, s: Any, axes: Any, norm: str
) -> Array:
    axes = _axes(s, axes, g.ndim)
    spectrum = xp.fft.rfftn(g, s=_lengths(g, axes), axes=axes, norm=_SWAPPED[norm])
    n = g.shape[axes[-1]]
    return _back(xp, _scale_inner(xp, spectrum, n, axes[-1], 2.0), x_shape, x_dtype)


fftn = _along_axes("fftn", "``fft`` along several axes, one after the other.", _fftn_vjp)
ifftn = _along_axes("ifftn", "Inverse of ``fftn``.", _ifftn_vjp)
rfftn = _along_axes(
    "rfftn", "``rfft`` along the last of several axes, then ``fft`` along the others.", _rfftn_vjp
)
irfftn = _along_axes("irfftn", "Inverse of ``rfftn``.", _irfftn_vjp)

# ------------------------------------------------------------------------------------ shifts


@primitive()
def fftshift(xp: Any, x: Array, /, *, axes: int | Sequence[int] | None = None) -> Array:
    """Move frequency zero to the middle of the axes."""
    return xp.fft.fftshift(x, axes=axes)


@primitive()
def ifftshift(xp: Any, x: Array, /, *, axes: int | Sequence[int] | None = None) -> Array:
    """Inverse of ``fftshift``."""
    return xp.fft.ifftshift(x, axes=axes)


fftshift.d(lambda xp, g, axes: xp.fft.ifftshift(g, axes=axes))
ifftshift.d(lambda xp, g, axes: xp.fft.fftshift(g, axes=axes))


__all__ = [name for name, value in globals().items() if isinstance(value, Primitive)]
