"""The affine map, activations, cross-entropy and dropout."""

from __future__ import annotations

from typing import Any

from xpnn import backend, random
from xpnn.autograd.record import apply
from xpnn.errors import ConfigError, ShapeError
from xpnn.primitives import neural

__all__ = [
    "dropout",
    "linear",
    "log_softmax",
    "logsumexp",
    "relu",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "tanh",
]

Array = Any


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Return ``x @ weight + bias`` over the last axis.

    Parameters
    ----------
    x : array of shape (..., in)
    weight : array of shape (in, out)
    bias : array of shape (out,), optional

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
    return apply(neural.linear, (x, weight, bias))


def relu(x: Array) -> Array:
    """Return max(x, 0); the derivative at 0 is 0 (Nair & Hinton 2010).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.relu(np.asarray([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return apply(neural.relu, (x,))


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), which does not overflow for large negative ``x``.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.sigmoid(np.asarray([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    return apply(neural.sigmoid, (x,))


def tanh(x: Array) -> Array:
    """Return the hyperbolic tangent.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.tanh(np.asarray([0.0, 1000.0]))
    array([0., 1.])
    """
    return backend.array_namespace(x).tanh(x)


def softmax(x: Array, *, axis: int = -1) -> Array:
    """Return exp(x) over its sum along an axis: positive numbers that add up to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.softmax(np.asarray([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    return apply(neural.softmax, (x,), {"axis": axis})


def log_softmax(x: Array, *, axis: int = -1) -> Array:
    """Return the logarithm of softmax, without underflow.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.log_softmax(np.asarray([0.0, -1000.0]))
    array([    0., -1000.])
    """
    return apply(neural.log_softmax, (x,), {"axis": axis})


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

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.softmax_cross_entropy(np.asarray([[0.0, 0.0], [1000.0, 0.0]]), np.asarray([0, 0]))
    array([0.69314718, 0.        ])
    """
    return apply(neural.softmax_cross_entropy, (logits, labels))


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
