"""Initial values that are a matrix of a kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from xpnn import random
from xpnn.errors import ShapeError
from xpnn.initializers.base import Array, Initializer, Shape, host
from xpnn.initializers.scaling import gain_of

__all__ = ["Identity", "Orthogonal"]


def _is_matrix(who: str, shape: Shape) -> None:
    if len(shape) < 2:
        msg = f"{who}: expected a weight of shape (..., in, out), got {shape}: that is no matrix."
        raise ShapeError(msg)


@dataclass(frozen=True)
class Orthogonal(Initializer):
    r"""Orthonormal columns times the gain, :math:`W^\top W = \text{gain}^2\, I`.

    A kernel (kernel..., in, out) is taken as a matrix of :math:`\text{in} \prod k` rows. If it has
    more columns than rows, the rows are orthonormal, :math:`W W^\top = \text{gain}^2\, I`. All such
    matrices are equally likely (Haar measure).

    Parameters
    ----------
    gain : float, str or pair
        A number, or an activation by its name: see :func:`gain_of`.

    Notes
    -----
    The Q of the QR decomposition of a matrix of normal numbers, with the signs of R's diagonal
    (Mezzadri 2007), in float64 on the host. Source: Saxe, McClelland and Ganguli, "Exact solutions
    to the nonlinear dynamics of learning in deep linear neural networks", 2014.

    Examples
    --------
    >>> from xpnn import initializers
    >>> w = initializers.Orthogonal(gain=2.0)((5, 3))
    >>> bool(abs(w.T @ w - 4 * initializers.identity((3, 3))).max() < 1e-5)
    True
    """

    gain: Any = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "gain", gain_of(self.gain))

    def draw(self, shape: Shape, rng: random.Stream) -> Array:
        _is_matrix("Orthogonal", shape)
        xp = host()
        rows, columns = math.prod(shape[:-1]), shape[-1]
        tall = (max(rows, columns), min(rows, columns))
        q, r = xp.linalg.qr(rng.normal(tall, dtype="float64", device="cpu"))
        q = q * xp.where(xp.linalg.diagonal(r) < 0, -1.0, 1.0)
        return self.gain * xp.reshape(q if rows >= columns else q.T, shape)


@dataclass(frozen=True)
class Identity(Initializer):
    r"""The identity matrix times the gain: a layer that begins by passing on what it gets.

    Of a kernel (kernel..., in, out) it is the element in the middle, so that a convolution with an
    odd kernel and ``padding="same"`` passes its channels on; PyTorch calls that ``dirac_``. A
    matrix that is not square has ones on its diagonal.

    Parameters
    ----------
    gain : float, str or pair
        A number, or an activation by its name: see :func:`gain_of`.

    Notes
    -----
    Source: Le, Jaitly and Hinton, "A simple way to initialize recurrent networks of rectified
    linear units", 2015.

    Examples
    --------
    >>> from xpnn import initializers
    >>> initializers.identity((2, 3))
    array([[1., 0., 0.],
           [0., 1., 0.]], dtype=float32)
    """

    gain: Any = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "gain", gain_of(self.gain))

    def draw(self, shape: Shape, rng: random.Stream) -> Array:
        _is_matrix("Identity", shape)
        xp = host()
        values = xp.zeros(shape, dtype=xp.float64)
        middle = tuple(k // 2 for k in shape[:-2])
        if 0 not in shape:
            values[middle] = self.gain * xp.eye(*shape[-2:], dtype=xp.float64)
        return values
