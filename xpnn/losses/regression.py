"""Losses of numbers: squared, absolute, Huber; the angle between vectors."""

from __future__ import annotations

from typing import Any

from xpnn.autograd.record import apply
from xpnn.backend import array_namespace, unwrap
from xpnn.errors import ConfigError
from xpnn.losses._common import paired, reduced, rows_of
from xpnn.primitives.losses import bounded_sqrt

__all__ = [
    "cosine",
    "huber",
    "mean_absolute_error",
    "mean_squared_error",
    "root_mean_squared_error",
]

Array = Any


def mean_squared_error(predictions: Array, targets: Array, *, reduction: str = "mean") -> Array:
    r"""Squared difference, :math:`(p - t)^2`, averaged over all elements.

    Without the factor 1/2 that npdl and numpy-ml give it.

    Parameters
    ----------
    predictions, targets : arrays of one shape
    reduction : {"mean", "sum", "none"}
        Over the elements.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> float(losses.mean_squared_error(np.asarray([1.0, 2.0]), np.asarray([1.0, 4.0])))
    2.0
    """
    predictions, targets = paired("mean_squared_error", predictions, targets)
    difference = predictions - targets
    return reduced(difference * difference, reduction)


def root_mean_squared_error(
    predictions: Array, targets: Array, *, reduction: str = "mean"
) -> Array:
    r"""Square root of :func:`mean_squared_error`, :math:`\sqrt{\frac 1 n \sum (p - t)^2}`.

    The root is taken last, of what the reduction gives: over all elements, not a row each as in
    yadll, where rows of one number would have the mean absolute error. In ``fit`` a reported mean
    over batches of such roots is not the root over all examples.

    Parameters
    ----------
    predictions, targets : arrays of one shape
    reduction : {"mean", "sum", "none"}
        Over the elements, under the root.

    Notes
    -----
    Where all differences are 0 the function has no derivative; the gradient given is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> float(losses.root_mean_squared_error(np.asarray([1.0, 2.0]), np.asarray([2.0, 9.0])))
    5.0
    """
    predictions, targets = paired("root_mean_squared_error", predictions, targets)
    difference = predictions - targets
    return apply(bounded_sqrt, (reduced(difference * difference, reduction),))


def mean_absolute_error(predictions: Array, targets: Array, *, reduction: str = "mean") -> Array:
    r"""Absolute difference, :math:`|p - t|`, averaged over all elements; its derivative at 0 is 0.

    Parameters
    ----------
    predictions, targets : arrays of one shape
    reduction : {"mean", "sum", "none"}
        Over the elements.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> float(losses.mean_absolute_error(np.asarray([1.0, 2.0]), np.asarray([1.0, 4.0])))
    1.0
    """
    predictions, targets = paired("mean_absolute_error", predictions, targets)
    return reduced(array_namespace(predictions, targets).abs(predictions - targets), reduction)


def huber(
    predictions: Array, targets: Array, *, delta: float = 1.0, reduction: str = "mean"
) -> Array:
    r"""Squared near the target, linear away from it (Huber 1964).

    .. math:: \ell = \begin{cases} \frac 1 2 d^2 & d \le \delta \\
              \delta\, (d - \frac 1 2 \delta) & d > \delta \end{cases}, \qquad d = |p - t|

    As ``torch.nn.functional.huber_loss``; ``smooth_l1_loss`` is this over :math:`\delta`.

    Parameters
    ----------
    predictions, targets : arrays of one shape
    delta : float
        Where the line begins, in units of the targets; positive.
    reduction : {"mean", "sum", "none"}
        Over the elements.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> losses.huber(np.asarray([1.0, 9.0]), np.asarray([0.0, 0.0]), delta=2.0, reduction="none")
    array([ 0.5, 16. ])
    """
    if not delta > 0.0:
        msg = f"huber: 'delta' must be positive, got {delta}."
        raise ConfigError(msg)
    predictions, targets = paired("huber", predictions, targets)
    xp = array_namespace(predictions, targets)
    distance = xp.abs(predictions - targets)
    near = xp.minimum(distance, delta)
    return reduced(0.5 * near * near + delta * (distance - near), reduction)


def cosine(predictions: Array, targets: Array, *, reduction: str = "mean") -> Array:
    r"""One minus the cosine of the angle between two vectors, from 0 (one direction) to 2.

    .. math:: \ell = 1 - \frac{p \cdot t}{\|p\|\, \|t\|}

    ``torch.nn.functional.cosine_embedding_loss`` with label 1. Keras has the negative cosine,
    without the 1.

    Parameters
    ----------
    predictions, targets : arrays of shape (..., features)
    reduction : {"mean", "sum", "none"}
        Over the vectors.

    Notes
    -----
    Vectors are scaled before they are squared, so that no length over- or underflows. The cosine
    with a vector of zeros is 0, and its gradient has the length 1 at most; PyTorch divides by
    1e-8 there.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> float(losses.cosine(np.asarray([[3.0, 0.0]]), np.asarray([[0.0, 2.0]])))
    1.0
    """
    predictions, targets = rows_of("cosine", predictions, targets)
    xp = array_namespace(predictions, targets)
    cosines = xp.sum(_direction(predictions) * _direction(targets), axis=-1)
    return reduced(1.0 - cosines, reduction)


def _direction(x: Array) -> Array:
    """Return vectors over their lengths; zeros stay zeros."""
    raw = unwrap(x)
    plain = array_namespace(raw)
    # The size of the largest element, a constant: a direction does not depend on it.
    size = plain.max(plain.abs(raw), axis=-1, keepdims=True)
    x = x / plain.where(size == 0, plain.ones_like(size), size)
    xp = array_namespace(x)
    length = apply(bounded_sqrt, (xp.sum(x * x, axis=-1, keepdims=True),))
    return x / xp.where(length == 0, xp.ones_like(length), length)
