"""Fractions of examples that are right."""

from __future__ import annotations

from typing import Any

from xpnn.errors import ConfigError
from xpnn.losses._checks import not_ignored
from xpnn.metrics._common import labels_of, pair, ramp, real

__all__ = ["accuracy", "binary_accuracy", "error_rate", "top_k_accuracy"]

Array = Any


def accuracy(predictions: Array, targets: Array, *, ignore_index: int | None = None) -> Array:
    """Fraction of examples whose largest prediction is at the target class.

    Parameters
    ----------
    predictions : array of shape (..., classes)
        Logits or probabilities.
    targets : array
        Integer labels of shape (...), or one-hot rows of shape (..., classes).
    ignore_index : int, optional
        The label of examples that do not count, such as that of padding in sequences.

    Returns
    -------
    array
        One floating-point number, on the device of the predictions; 0 if no example counts.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import metrics
    >>> scores = np.asarray([[0.1, 0.9], [0.8, 0.2]])
    >>> float(metrics.accuracy(scores, np.asarray([1, 1])))
    0.5
    >>> float(metrics.accuracy(scores, np.asarray([1, -1]), ignore_index=-1))
    1.0
    """
    xp, predictions, labels = labels_of("accuracy", predictions, targets)
    hit = xp.argmax(predictions, axis=-1) == labels
    return _fraction(xp, predictions, labels, hit, ignore_index)


def error_rate(predictions: Array, targets: Array, *, ignore_index: int | None = None) -> Array:
    """Fraction of examples that are classified wrongly: one minus :func:`accuracy`.

    Parameters
    ----------
    predictions, targets, ignore_index
        As for :func:`accuracy`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import metrics
    >>> float(metrics.error_rate(np.asarray([[0.1, 0.9], [0.8, 0.2]]), np.asarray([1, 1])))
    0.5
    """
    xp, predictions, labels = labels_of("error_rate", predictions, targets)
    miss = xp.argmax(predictions, axis=-1) != labels
    return _fraction(xp, predictions, labels, miss, ignore_index)


def _fraction(xp: Any, predictions: Array, labels: Array, chosen: Array, ignored: Any) -> Array:
    """Return the fraction of examples that are chosen, of those whose label is not ignored."""
    chosen = xp.astype(chosen, real(xp, predictions))
    if ignored is None:
        return xp.mean(chosen)
    counted = xp.astype(not_ignored(labels, ignored), chosen.dtype)
    total = xp.sum(counted)
    return xp.sum(chosen * counted) / xp.where(total > 0, total, xp.ones_like(total))


def top_k_accuracy(predictions: Array, targets: Array, *, k: int = 5) -> Array:
    """Fraction of examples whose target class is among the ``k`` largest predictions.

    Of equal predictions the first are the largest, so that k = 1 is :func:`accuracy`, and a network
    that has one answer for all is not right by that. NaN is larger than any number. A label that
    is no class, such as one that the loss ignores, is never among them.

    Parameters
    ----------
    predictions, targets
        As for :func:`accuracy`.
    k : int
        At least 1.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import metrics
    >>> scores = np.asarray([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]])
    >>> float(metrics.top_k_accuracy(scores, np.asarray([1, 0]), k=2))
    0.5
    """
    if not (hasattr(k, "__index__") and k >= 1):
        msg = f"top_k_accuracy: 'k' must be a whole number, at least 1, got {k!r}."
        raise ConfigError(msg)
    xp, predictions, labels = labels_of("top_k_accuracy", predictions, targets)
    classes = ramp(xp, labels, predictions.shape[-1])
    column = labels[..., None]
    at_target = xp.where(classes == column, predictions, xp.zeros_like(predictions))
    score = xp.sum(at_target, axis=-1, keepdims=True, dtype=predictions.dtype)
    ahead = ~(predictions <= score) | ((predictions == score) & (classes < column))
    hit = (xp.count_nonzero(ahead, axis=-1) < k) & (labels >= 0) & (labels < classes.shape[0])
    return xp.mean(xp.astype(hit, real(xp, predictions)))


def binary_accuracy(predictions: Array, targets: Array, *, threshold: float = 0.5) -> Array:
    """Fraction of elements on the right side of a threshold.

    Parameters
    ----------
    predictions : array
        Probabilities of 1; logits, with ``threshold=0``.
    targets : array of the same shape
        0 or 1.
    threshold : float
        A prediction above it says 1.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import metrics
    >>> float(metrics.binary_accuracy(np.asarray([0.9, 0.2]), np.asarray([1, 1])))
    0.5
    """
    xp, predictions, targets = pair("binary_accuracy", predictions, targets)
    hit = (predictions > threshold) == (targets != 0)
    return xp.mean(xp.astype(hit, real(xp, predictions)))
