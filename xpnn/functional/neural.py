"""The affine map, cross-entropy, dropout and noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnn import backend, random
from xpnn._dtypes import as_dtype
from xpnn.autograd.record import apply
from xpnn.errors import ConfigError, DTypeError, ShapeError
from xpnn.functional._options import non_negative
from xpnn.functional.fused import apply_then
from xpnn.primitives import losses, neural
from xpnn.primitives.activations import SELU_ALPHA, SELU_SCALE

__all__ = [
    "alpha_dropout",
    "dropout",
    "gaussian_noise",
    "linear",
    "logsumexp",
    "softmax_cross_entropy",
]

Array = Any


def linear(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    activation: Callable[[Array], Array] | None = None,
) -> Array:
    """Return ``x @ weight + bias`` over the last axis, or an activation of it.

    Parameters
    ----------
    x : array of shape (..., in)
    weight : array of shape (in, out)
    bias : array of shape (out,), optional
    activation : callable, optional
        A function of one array. ``relu``, ``sigmoid`` and ``tanh`` are computed with the map, as
        one operation that keeps only its output.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.linear(np.ones((2, 3)), np.ones((3, 1)), np.asarray([0.5]))
    array([[3.5],
           [3.5]])
    """
    if x.ndim < 1 or x.shape[-1] != weight.shape[0]:
        msg = (
            f"linear: expected x with last axis {weight.shape[0]}, as the weight has"
            f" {tuple(weight.shape)}, got x of shape {tuple(x.shape)}."
        )
        raise ShapeError(msg)
    return apply_then(neural.linear, (x, weight, bias), None, activation)


def logsumexp(
    x: Array, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False
) -> Array:
    """Return the logarithm of the sum of exponentials over axes, without overflow.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> float(F.logsumexp(np.asarray([1000.0, -1000.0])))
    1000.0
    """
    return apply(neural.logsumexp, (x,), {"axis": axis, "keepdims": keepdims})


def softmax_cross_entropy(logits: Array, labels: Array) -> Array:
    """Return the cross-entropy of integer labels, one value a row; see ``losses.cross_entropy``.

    Parameters
    ----------
    logits : array of shape (..., classes)
    labels : integer array of shape (...)
        From 0 to ``classes - 1``; unlike ``losses.cross_entropy``, this does not check them. On
        CUDA any other label makes the loss of its row and the gradient NaN. NumPy raises an
        IndexError, or counts negative labels from the end, as indices: do not rely on it.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.softmax_cross_entropy(np.asarray([[0.0, 0.0], [1000.0, 0.0]]), np.asarray([0, 0]))
    array([0.69314718, 0.        ])
    """
    return apply(losses.softmax_cross_entropy, (logits, labels))


def dropout(x: Array, p: float, *, training: bool = True, rng: Any = None) -> Array:
    r"""Set elements to zero with probability ``p`` and scale the others by :math:`1 / (1 - p)`.

    Inverted dropout (Srivastava et al. 2014): nothing has to be rescaled when it is off.

    Parameters
    ----------
    x : array
    p : float
        The fraction dropped, in [0, 1].
    training : bool
        False returns ``x`` as it is.
    rng : xpnn.random.Stream, optional
        Where the mask comes from; the default stream. The same seed gives the same mask on every
        device.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F, random
    >>> F.dropout(np.ones(6), 0.5, rng=random.Stream(0))
    array([0., 2., 0., 2., 0., 0.])
    """
    if not 0.0 <= p <= 1.0:
        msg = f"dropout: 'p' must be in [0, 1], got {p}."
        raise ConfigError(msg)
    if not training or p == 0.0:
        return x
    if p == 1.0:
        return x * 0.0
    stream = random.get_rng() if rng is None else rng
    mask = stream.bernoulli(1.0 - p, tuple(x.shape), device=backend.device_of(x))
    return apply(neural.dropout, (x, mask), {"scale": 1.0 / (1.0 - p)})


def alpha_dropout(x: Array, p: float, *, training: bool = True, rng: Any = None) -> Array:
    r"""Dropout that keeps the mean 0 and the variance 1 of what SELU gives.

    .. math:: y = a\,(m x + (1 - m)\,\alpha') + b, \qquad
              a = \bigl(q\,(1 + p\,\alpha'^2)\bigr)^{-1/2}, \quad b = -a\,p\,\alpha'

    with a mask :math:`m` that is 1 with probability :math:`q = 1 - p`: what is dropped becomes the
    value :math:`\alpha' = -1.7580993...` to which SELU falls on the left.

    Parameters
    ----------
    x : array
    p : float
        The fraction dropped, in [0, 1).
    training : bool
        False returns ``x`` as it is.
    rng : xpnn.random.Stream, optional
        Where the mask comes from; the default stream. The same seed gives the same mask on every
        device.

    Notes
    -----
    Source: Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks", 2017.
    PyTorch and Keras compute the same.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F, random
    >>> F.alpha_dropout(np.zeros(4), 0.5, rng=random.Stream(0)).round(3)
    array([-0.779,  0.779, -0.779,  0.779])
    """
    if not 0.0 <= p < 1.0:
        msg = f"alpha_dropout: 'p' must be in [0, 1), got {p}; nothing kept has no variance."
        raise ConfigError(msg)
    if not training or p == 0.0:
        return x
    stream = random.get_rng() if rng is None else rng
    mask = stream.bernoulli(1.0 - p, tuple(x.shape), device=backend.device_of(x))
    low = -SELU_SCALE * SELU_ALPHA
    scale = ((1.0 - p) * (1.0 + p * low * low)) ** -0.5
    shift = -scale * p * low
    options = {"scale": scale, "shift": shift, "dropped": scale * low + shift}
    return apply(neural.alpha_dropout, (x, mask), options)


def gaussian_noise(x: Array, std: float, *, training: bool = True, rng: Any = None) -> Array:
    r"""Add normal noise, :math:`y = x + \epsilon` with :math:`\epsilon \sim N(0, \sigma^2)`.

    Parameters
    ----------
    x : array
    std : float
        :math:`\sigma`, in the units of ``x``; not negative.
    training : bool
        False returns ``x`` as it is.
    rng : xpnn.random.Stream, optional
        Where the noise comes from; the default stream. CUDA makes it on the device, where the last
        bit of a number may differ from the host's; see :meth:`xpnn.random.Stream.normal`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F, random
    >>> F.gaussian_noise(np.zeros(3), 0.1, rng=random.Stream(0)).round(3)
    array([ 0.016,  0.298, -0.193])
    """
    non_negative("gaussian_noise", "std", std)
    if (dtype := as_dtype(x.dtype)).kind != "f":
        msg = f"gaussian_noise: expected real floating-point x, got {dtype}."
        raise DTypeError(msg)
    if not training or std == 0.0:
        return x
    stream = random.get_rng() if rng is None else rng
    device = backend.device_of(x)
    return x + stream.normal(tuple(x.shape), std=std, dtype=x.dtype, device=device)
