"""The differentiable functions of neural networks: of Tensors Tensors, of raw arrays raw arrays.

Every function takes the arrays of one library. On torch or JAX arrays it is made of their functions
alone, so their own differentiation goes through it.
"""

from __future__ import annotations

from typing import Any

from xpnn import backend, random
from xpnn.autograd.record import apply
from xpnn.errors import ConfigError, ShapeError
from xpnn.primitives import convolution, neural, normalization, pooling
from xpnn.primitives.windows import as_tuple, resolve_padding

__all__ = [
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "dropout",
    "linear",
    "log_softmax",
    "logsumexp",
    "max_pool2d",
    "relu",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "tanh",
]

Array = Any
Sizes = int | tuple[int, ...]  # one for both axes, or one an axis


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


# ------------------------------------------------------------------------------------ images


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Array:
    r"""Return the cross-correlation of images with kernels, channels last.

    Parameters
    ----------
    x : array of shape (N, H, W, C)
    weight : array of shape (kh, kw, C / groups, O)
    bias : array of shape (O,), optional
    stride, dilation : int or pair
        ``dilation=1`` means none.
    padding : int, pair, pair of pairs, "valid" or "same"
        Zeros around the image. "same" gives :math:`\lceil H / s \rceil` rows, the odd one at the
        end, as TensorFlow and Keras have it.
    groups : int
        Into how many groups the channels fall; each sees only its own.

    Returns
    -------
    array of shape (N, H', W', O)

    Raises
    ------
    ShapeError, ConfigError
        If shapes or options do not fit each other.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.conv2d(np.ones((2, 8, 8, 3)), np.ones((3, 3, 3, 4)), stride=2, padding="same").shape
    (2, 4, 4, 4)
    """
    stride = as_tuple(stride, "stride")
    dilation = as_tuple(dilation, "dilation")
    sizes, kernel = tuple(x.shape[1:3]), tuple(weight.shape[:2])
    if x.ndim == weight.ndim == 4:  # else conv2d itself says what is wrong
        padding = resolve_padding(padding, sizes, kernel, stride, dilation)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return apply(convolution.conv2d, (x, weight, bias), options)


def _pool(who: str, x: Array, size: Any, stride: Any, padding: Any) -> dict[str, Any]:
    if x.ndim != 4:
        msg = (
            f"{who}: expected x of shape (N, H, W, C), got {tuple(x.shape)}. Grey images need a"
            " channel axis, x[..., None]."
        )
        raise ShapeError(msg)
    pool = as_tuple(size, "size", who=who)
    steps = pool if stride is None else as_tuple(stride, "stride", who=who)
    pairs = resolve_padding(padding, tuple(x.shape[1:3]), pool, steps, who=who)
    return {"pool": pool, "stride": steps, "padding": pairs}


def max_pool2d(
    x: Array,
    size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
) -> Array:
    """Return the largest element of each window; the first of equal ones gets the gradient.

    Parameters
    ----------
    x : array of shape (N, H, W, C)
    size : int or pair
        Of the window.
    stride : int or pair, optional
        The size of the window if not given.
    padding : int, pair, pair of pairs, "valid" or "same"
        What is around the image never is the largest.
    ceil_mode : bool
        Whether a window that begins inside and ends beyond the image counts.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.max_pool2d(np.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    options = _pool("max_pool2d", x, size, stride, padding)
    return apply(pooling.max_pool2d, (x,), options | {"ceil_mode": ceil_mode})


def avg_pool2d(
    x: Array,
    size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Return the mean of each window.

    Parameters
    ----------
    x, size, stride, padding, ceil_mode
        As for :func:`max_pool2d`.
    count_include_pad : bool
        Whether the zeros of the padding count as elements, as PyTorch has it by default.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.avg_pool2d(np.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    options = _pool("avg_pool2d", x, size, stride, padding)
    options |= {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    return apply(pooling.avg_pool2d, (x,), options)


def batch_norm(
    x: Array,
    scale: Array | None = None,
    shift: Array | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    statistics: tuple[Array, Array] | None = None,
) -> tuple[Array, Array, Array]:
    r"""Normalize each channel, :math:`\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta`.

    Parameters
    ----------
    x : array
    scale, shift : array of shape (channels,), optional
        :math:`\gamma` and :math:`\beta`.
    axis : int
        The axis of the channels; the statistics are over all others.
    epsilon : float
        Inside the root.
    statistics : (mean, variance), optional
        Of each channel, for prediction; taken from ``x`` if not given (the variance over n, not
        n - 1).

    Returns
    -------
    y, mean, variance : arrays

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> y, mean, variance = F.batch_norm(np.asarray([[1.0], [3.0]]), epsilon=0.0)
    >>> y[:, 0], mean, variance
    (array([-1.,  1.]), array([2.]), array([1.]))
    """
    axis %= x.ndim
    options: dict[str, Any] = {
        "axes": tuple(i for i in range(x.ndim) if i != axis), "epsilon": epsilon,
    }  # fmt: skip
    if statistics is None:
        return apply(normalization.batch_norm, (x, scale, shift), options)
    mean, variance = statistics
    xp = backend.array_namespace(x, mean, scale, shift)
    y = normalization.batch_norm_inference(xp, x, mean, variance, scale, shift, **options)
    return y, mean, variance
