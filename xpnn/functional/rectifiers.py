"""Activation functions that grow on one side: rectifiers and their smooth relatives."""

from __future__ import annotations

from typing import Any

from xpnn.autograd.record import apply
from xpnn.errors import ConfigError
from xpnn.functional._options import fraction, positive
from xpnn.primitives import activations

__all__ = [
    "elu",
    "exponential",
    "gelu",
    "leaky_relu",
    "mish",
    "prelu",
    "relu",
    "selu",
    "silu",
    "softplus",
]

Array = Any


def relu(x: Array, alpha: float = 0.0) -> Array:
    r"""Return :math:`\max(x, \alpha x)`: ``x`` where it is positive, else zero.

    Parameters
    ----------
    x : array
    alpha : float
        The slope where ``x`` is negative, in [0, 1]. With another than zero this is
        :func:`leaky_relu`; the derivative at 0 is ``alpha``.

    Notes
    -----
    Source: Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.relu(np.asarray([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    if alpha == 0.0:
        return apply(activations.relu, (x,))
    return apply(activations.leaky_relu, (x,), {"alpha": fraction("relu", "alpha", alpha)})


def leaky_relu(x: Array, alpha: float = 0.01) -> Array:
    r"""Return :math:`\max(x, \alpha x)`.

    Parameters
    ----------
    x : array
    alpha : float
        The slope where ``x`` is negative, in [0, 1]; 0.01 as in the paper and in PyTorch. Keras
        and numpy-ml begin with 0.3.

    Notes
    -----
    Source: Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models",
    2013.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.leaky_relu(np.asarray([-1.0, 2.0]), alpha=0.25)
    array([-0.25,  2.  ])
    """
    return apply(activations.leaky_relu, (x,), {"alpha": fraction("leaky_relu", "alpha", alpha)})


def prelu(x: Array, alpha: Array) -> Array:
    r"""Return ``x`` where it is positive and :math:`\alpha x` elsewhere, with slopes to learn.

    Parameters
    ----------
    x : array
    alpha : array
        Slopes that broadcast against ``x``: of shape (channels,) for one a channel.

    Notes
    -----
    Source: He, Zhang, Ren and Sun, "Delving deep into rectifiers", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.prelu(np.asarray([[-1.0, -1.0], [2.0, 2.0]]), np.asarray([0.25, 0.5]))
    array([[-0.25, -0.5 ],
           [ 2.  ,  2.  ]])
    """
    return apply(activations.prelu, (x, alpha))


def elu(x: Array, alpha: float = 1.0) -> Array:
    r"""Return ``x`` where it is positive, :math:`\alpha (e^x - 1)` elsewhere.

    Parameters
    ----------
    x : array
    alpha : float
        Minus the value on the far left; positive.

    Notes
    -----
    Source: Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by
    exponential linear units", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.elu(np.asarray([-1000.0, -1.0, 2.0])).round(4)
    array([-1.    , -0.6321,  2.    ])
    """
    return apply(activations.elu, (x,), {"alpha": positive("elu", "alpha", alpha)})


def selu(x: Array) -> Array:
    r"""Return :math:`\lambda` times :func:`elu` of :math:`\alpha`, which keeps mean 0, variance 1.

    :math:`\alpha = 1.6732632...`, :math:`\lambda = 1.0507009...`. Begin with ``lecun_normal``
    weights and drop with ``AlphaDropout``.

    Parameters
    ----------
    x : array
        What is so large that :math:`\lambda x` would overflow gives the largest finite number.

    Notes
    -----
    Source: Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.selu(np.asarray([-1000.0, 0.0, 1.0])).round(4)
    array([-1.7581,  0.    ,  1.0507])
    """
    return apply(activations.selu, (x,))


def gelu(x: Array, approximate: str = "none") -> Array:
    r"""Return :math:`x \Phi(x)`, the normal distribution function being :math:`\Phi`.

    Parameters
    ----------
    x : array
    approximate : {"none", "tanh"}
        "tanh" for :math:`\frac{x}{2} (1 + \tanh(\sqrt{2 / \pi} (x + 0.044715 x^3)))`, which is
        cheaper and up to 5e-4 off: the form of BERT and GPT-2. PyTorch has the same two names and
        default; numpy-ml mixes the two forms in its gradient.

    Raises
    ------
    ConfigError
        If ``approximate`` is another word.

    Notes
    -----
    Source: Hendrycks and Gimpel, "Gaussian error linear units", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> x = np.asarray([-1.0, 0.0, 1.0])
    >>> F.gelu(x).round(4), F.gelu(x, approximate="tanh").round(4)
    (array([-0.1587,  0.    ,  0.8413]), array([-0.1588,  0.    ,  0.8412]))
    """
    if approximate not in ("none", "tanh"):
        msg = f"gelu: 'approximate' must be 'none' or 'tanh', got {approximate!r}."
        raise ConfigError(msg)
    return apply(activations.gelu if approximate == "none" else activations.gelu_tanh, (x,))


def silu(x: Array) -> Array:
    r"""Return :math:`x \sigma(x)`, also called swish.

    Parameters
    ----------
    x : array

    Notes
    -----
    Source: Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units", 2018; Ramachandran, Zoph and
    Le, "Searching for activation functions", 2017, whose :math:`\beta` is 1 here.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.silu(np.asarray([-1000.0, 0.0, 1.0])).round(4)
    array([-0.    ,  0.    ,  0.7311])
    """
    return apply(activations.silu, (x,))


def mish(x: Array) -> Array:
    r"""Return :math:`x \tanh(\log(1 + e^x))`.

    Parameters
    ----------
    x : array

    Notes
    -----
    Source: Misra, "Mish: a self regularized non-monotonic activation function", 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.mish(np.asarray([-1000.0, 0.0, 1.0])).round(4)
    array([-0.    ,  0.    ,  0.8651])
    """
    return apply(activations.mish, (x,))


def softplus(x: Array) -> Array:
    r"""Return :math:`\log(1 + e^x)`, without overflow, and without underflow on the left.

    Parameters
    ----------
    x : array

    Notes
    -----
    Source: Dugas, Bengio, Bélisle, Nadeau and Garcia, "Incorporating second-order functional
    knowledge for better option pricing", 2001. PyTorch's ``beta`` is 1, and there is no threshold
    from which on it is ``x``.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.softplus(np.asarray([-100.0, 0.0, 1000.0]))
    array([3.72007598e-44, 6.93147181e-01, 1.00000000e+03])
    """
    return apply(activations.softplus, (x,))


def exponential(x: Array) -> Array:
    r"""Return :math:`e^x`, held just below the largest finite number of the dtype.

    ``xpnn.ops.exp`` overflows to infinity from x = 88.7 on in float32, 709.8 in float64, and an
    infinity in a layer makes NaNs of all that follows. Here such an element keeps the value and the
    derivative of the last argument that fits, so that a step of gradient descent leads back. Keras
    has the plain exponential under this name.

    Parameters
    ----------
    x : array

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.exponential(np.asarray([0.0, 1.0, 1e300]))
    array([1.00000000e+000, 2.71828183e+000, 1.79769313e+308])
    """
    return apply(activations.exponential, (x,))
