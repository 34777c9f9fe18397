"""Metrics of numbers."""

from __future__ import annotations

from typing import Any

from xpnn.errors import ShapeError
from xpnn.metrics._common import pair, real

__all__ = ["mean_absolute_error", "r2"]

Array = Any


def mean_absolute_error(predictions: Array, targets: Array) -> Array:
    r"""Mean of the absolute differences, :math:`|p - t|`.

    Parameters
    ----------
    predictions, targets : arrays of one shape

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import metrics
    >>> float(metrics.mean_absolute_error(np.asarray([1.0, 2.0]), np.asarray([1.0, 4.0])))
    1.0
    """
    xp, predictions, targets = pair("mean_absolute_error", predictions, targets)
    dtype = real(xp, predictions)
    return xp.mean(xp.abs(xp.astype(predictions, dtype) - xp.astype(targets, dtype)))


def r2(predictions: Array, targets: Array) -> Array:
    r"""Coefficient of determination: which part of the targets' variance is predicted.

    .. math:: R^2 = 1 - \frac{\sum (t - p)^2}{\sum (t - \bar t)^2}

    Parameters
    ----------
    predictions, targets : arrays of shape (examples, ...)
        The sums are over examples; of several numbers an example, the mean of their R2 is given.

    Returns
    -------
    array
        At most 1; 0 for predictions that are the mean of the targets. For targets that are all the
        same, 1 if they are met exactly, else 0.

    Notes
    -----
    As scikit-learn. In ``fit`` a mean over batches is reported, which is not the value over all
    examples; batches should not be small.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import metrics
    >>> float(metrics.r2(np.asarray([1.0, 2.0, 6.0]), np.asarray([1.0, 2.0, 3.0])))
    -3.5
    """
    xp, predictions, targets = pair("r2", predictions, targets)
    if not predictions.ndim:
        msg = "r2: expected arrays of shape (examples, ...), got two numbers."
        raise ShapeError(msg)
    dtype = real(xp, predictions)
    predictions, targets = xp.astype(predictions, dtype), xp.astype(targets, dtype)
    error = targets - predictions
    deviation = targets - xp.mean(targets, axis=0, keepdims=True)
    error, deviation = (xp.sum(x * x, axis=0) for x in (error, deviation))
    same = deviation == 0
    ratio = error / xp.where(same, xp.ones_like(deviation), deviation)
    ratio = xp.where(same, xp.astype(error != 0, dtype), ratio)
    return xp.mean(1.0 - ratio)
