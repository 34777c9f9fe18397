"""Check of a gradient against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xpnn import backend
from xpnn._dtypes import as_dtype
from xpnn.autograd.tensor import Tensor
from xpnn.autograd.transforms import vjp
from xpnn.errors import XpnnError
from xpnn.random import Stream

__all__ = ["GradientError", "check_grad"]


class GradientError(XpnnError, AssertionError):
    """A gradient and the finite differences of its function disagree."""


def check_grad(
    f: Callable[..., Any],
    *xs: Any,
    order: int = 1,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    seed: int = 0,
) -> bool:
    r"""Check the gradient of ``f`` at ``xs`` against central differences in float64.

    With random directions :math:`g` and :math:`v_i`, the same for both sides,

    .. math:: \sum_i \langle \mathrm{vjp}(g)_i, v_i \rangle \approx
              \frac{\langle g, f(x + \epsilon v) - f(x - \epsilon v) \rangle}{2 \epsilon}

    for every argument on its own and for all together. The upstream gradient is random: ones would
    hide a wrong softmax or normalisation.

    Parameters
    ----------
    f : callable
        Takes Tensors; returns one or a tuple of them. Must be smooth around ``xs``.
    *xs : array
        Real or complex floating-point arrays; they are converted to double precision.
    order : int
        Highest derivative to check.
    eps : float
        Step of the differences.
    rtol, atol : float
        Tolerances of the comparison of the two numbers.
    seed : int
        Seed of the directions.

    Returns
    -------
    bool
        True, if they agree.

    Raises
    ------
    GradientError
        If they disagree; the message holds both numbers.

    Examples
    --------
    >>> import numpy, xpnn
    >>> xpnn.check_grad(lambda x: x * x, numpy.asarray([1.0, 2.0]), order=2)
    True
    """
    rng = Stream(seed)
    xs = tuple(_double(x) for x in xs)
    y, pullback = vjp(f, *xs)
    g = tuple(_random_like(rng, out) for out in y) if isinstance(y, tuple) else _random_like(rng, y)
    found = pullback(g)
    found = found if len(xs) > 1 else (found,)
    for i, (x, dx) in enumerate(zip(xs, found, strict=True)):
        if tuple(dx.shape) != tuple(x.shape) or dx.dtype != x.dtype:
            msg = (
                f"argument {i}: the gradient has shape {tuple(dx.shape)} and dtype {dx.dtype},"
                f" the argument {tuple(x.shape)} and {x.dtype}."
            )
            raise GradientError(msg)
        v = _random_like(rng, x)
        steps = [
            _dot(g, f(*(Tensor(z + v * (sign * eps) if j == i else z) for j, z in enumerate(xs))))
            for sign in (1, -1)
        ]
        expected = (steps[0] - steps[1]) / (2 * eps)
        actual = _dot(dx, v)
        if not math.isclose(actual, expected, rel_tol=rtol, abs_tol=atol):
            msg = (
                f"order {order} check, argument {i}: the gradient along a random direction is"
                f" {actual!r}, finite differences give {expected!r}."
            )
            raise GradientError(msg)
    if order > 1:
        check_grad(
            _pulled(f, g), *xs, order=order - 1, eps=eps, rtol=rtol, atol=atol, seed=seed + 1
        )
    return True


def _pulled(f: Callable[..., Any], g: Any) -> Callable[..., Any]:
    """Return the function that takes arguments to the gradients for a fixed upstream ``g``."""

    def gradient(*xs: Any) -> Any:
        return vjp(f, *xs)[1](g)

    return gradient


def _double(x: Any) -> Any:
    raw = backend.unwrap(x)
    kind = "complex128" if as_dtype(raw.dtype).kind == "c" else "float64"
    return backend.asarray(raw, dtype=kind)


def _random_like(rng: Stream, x: Any) -> Any:
    device, shape = backend.device_of(x), tuple(x.shape)
    values = rng.normal(shape, dtype="float64", device=device)
    if as_dtype(x.dtype).kind == "c":
        return values + 1j * rng.normal(shape, dtype="float64", device=device)
    return values


def _dot(a: Any, b: Any) -> float:
    if isinstance(a, tuple):
        return sum(_dot(x, y) for x, y in zip(a, b, strict=True))
    a, b = backend.unwrap(a), backend.unwrap(b)
    xp = backend.array_namespace(a, b)
    if as_dtype(a.dtype).kind == "c":
        return float(xp.sum(xp.real(xp.conj(a) * b)))
    return float(xp.sum(a * b))
