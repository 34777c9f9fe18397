"""Activation functions that stay between bounds, and softmax."""

from __future__ import annotations

from typing import Any

from xpnn import backend
from xpnn.autograd.record import apply
from xpnn.errors import ShapeError
from xpnn.functional._options import positive
from xpnn.primitives import activations

__all__ = [
    "elliot",
    "hard_sigmoid",
    "log_softmax",
    "sigmoid",
    "softmax",
    "softsign",
    "symmetric_elliot",
    "tanh",
    "ultra_fast_sigmoid",
]

Array = Any


def sigmoid(x: Array) -> Array:
    r"""Return :math:`1 / (1 + e^{-x})`, which does not overflow for large negative ``x``.

    Parameters
    ----------
    x : array

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.sigmoid(np.asarray([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    return apply(activations.sigmoid, (x,))


def hard_sigmoid(x: Array, slope: float = 0.2) -> Array:
    r"""Return :math:`s x + \frac12`, held in [0, 1].

    Parameters
    ----------
    x : array
    slope : float
        :math:`s`, positive. 0.2 is that of Theano, of Keras before 3 and of numpy-ml; PyTorch and
        Keras 3 take ``slope=1/6``.

    Notes
    -----
    The derivative is zero at the two corners and beyond, as in PyTorch. Source: Courbariaux, Bengio
    and David, "BinaryConnect", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.hard_sigmoid(np.asarray([-3.0, 0.0, 1.0]))
    array([0. , 0.5, 0.7])
    """
    options = {"slope": positive("hard_sigmoid", "slope", slope)}
    return apply(activations.hard_sigmoid, (x,), options)


def ultra_fast_sigmoid(x: Array) -> Array:
    r"""Return Theano's piecewise approximation of the sigmoid, :math:`(1 + z(x / 2)) / 2`.

    .. math::
        z(u) = \frac{1.5 u}{1 + u}\ (0 \le u < 1.7), \qquad
        0.9354 + 0.0459 (u - 1.7)\ (u < 3), \qquad 0.9951\ (u \ge 3), \qquad z(-u) = -z(u)

    It is up to 0.028 off, is never below 0.0024 or above 0.9976, and jumps by 0.0045 where the
    first two pieces meet.

    Parameters
    ----------
    x : array

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.ultra_fast_sigmoid(np.asarray([-1000.0, 0.0, 2.0])).round(4)
    array([0.0025, 0.5   , 0.875 ])
    """
    return apply(activations.ultra_fast_sigmoid, (x,))


def tanh(x: Array) -> Array:
    """Return the hyperbolic tangent.

    Parameters
    ----------
    x : array

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.tanh(np.asarray([0.0, 1000.0]))
    array([0., 1.])
    """
    return backend.array_namespace(x).tanh(x)


def softsign(x: Array) -> Array:
    r"""Return :math:`x / (1 + |x|)`, whose slope falls off as a power and not exponentially.

    Parameters
    ----------
    x : array

    Notes
    -----
    Source: Bergstra, Desjardins, Lamblin and Bengio, "Quadratic polynomials learn better image
    features", 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.softsign(np.asarray([-3.0, 0.0, 1.0]))
    array([-0.75,  0.  ,  0.5 ])
    """
    return apply(activations.symmetric_elliot, (x,), {"steepness": 1.0})


def symmetric_elliot(x: Array, steepness: float = 1.0) -> Array:
    r"""Return :math:`s x / (1 + |s x|)`, in (-1, 1): a tanh without an exponential.

    Parameters
    ----------
    x : array
    steepness : float
        :math:`s`, the slope at 0; positive.

    Notes
    -----
    Source: Elliott, "A better activation function for artificial neural networks", 1993.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.symmetric_elliot(np.asarray([-1.0, 0.0, 1.5]), steepness=2.0).round(4)
    array([-0.6667,  0.    ,  0.75  ])
    """
    options = {"steepness": positive("symmetric_elliot", "steepness", steepness)}
    return apply(activations.symmetric_elliot, (x,), options)


def elliot(x: Array, steepness: float = 1.0) -> Array:
    r"""Return :math:`\frac12 s x / (1 + |s x|) + \frac12`, in (0, 1): a cheap sigmoid.

    Parameters
    ----------
    x : array
    steepness : float
        :math:`s`, twice the slope at 0; positive.

    Notes
    -----
    Source: Elliott, "A better activation function for artificial neural networks", 1993.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.elliot(np.asarray([-1.0, 0.0, 3.0]))
    array([0.25 , 0.5  , 0.875])
    """
    options = {"steepness": positive("elliot", "steepness", steepness)}
    return 0.5 * apply(activations.symmetric_elliot, (x,), options) + 0.5


def softmax(x: Array, axis: int = -1) -> Array:
    r"""Return :math:`e^{x_i} / \sum_j e^{x_j}` along an axis: positive numbers that add up to 1.

    Parameters
    ----------
    x : array
        Minus infinity gives zero.
    axis : int

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.softmax(np.asarray([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    _require_axis("softmax", x, axis)
    return apply(activations.softmax, (x,), {"axis": axis})


def log_softmax(x: Array, axis: int = -1) -> Array:
    r"""Return the logarithm of softmax, :math:`x_i - \log \sum_j e^{x_j}`, without underflow.

    Parameters
    ----------
    x : array
        Minus infinity stays so. A difference of finite numbers that would overflow is the lowest
        finite number.
    axis : int

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.log_softmax(np.asarray([0.0, -1000.0]))
    array([    0., -1000.])
    """
    _require_axis("log_softmax", x, axis)
    return apply(activations.log_softmax, (x,), {"axis": axis})


def _require_axis(who: str, x: Array, axis: int) -> None:
    if not -x.ndim <= axis < x.ndim:
        msg = f"{who}: expected x with axis {axis}, got shape {tuple(x.shape)}."
        raise ShapeError(msg)
