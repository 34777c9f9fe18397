"""Precision, recall and F1, and the counts that they come from."""

from __future__ import annotations

from typing import Any

from xpnn.backend import device_of, index_dtype, on_host
from xpnn.errors import ConfigError, ShapeError
from xpnn.losses import check_labels
from xpnn.losses._checks import require_integers
from xpnn.metrics._common import labels_of, pair, ramp, raw_pair, real

__all__ = ["confusion_matrix", "f1", "precision", "recall"]

Array = Any


def _counts(
    who: str, predictions: Array, targets: Array, average: str, threshold: float
) -> tuple[Any, Array, Array, Array]:
    """Return hits, and how often a class was predicted and was the target: a number a class."""
    if average not in ("binary", "macro", "micro"):
        msg = f"{who}: 'average' must be 'binary', 'macro' or 'micro', got {average!r}."
        raise ConfigError(msg)
    xp, predictions, targets = raw_pair(who, predictions, targets)
    column = predictions.shape[-1:] == (1,)
    if average == "binary" and (column or tuple(predictions.shape) == tuple(targets.shape)):
        xp, predictions, targets = pair(who, predictions, targets)
        guess, truth = (xp.reshape(x, (-1, 1)) for x in (predictions > threshold, targets != 0))
    else:
        xp, predictions, labels = labels_of(who, predictions, targets)
        classes = predictions.shape[-1]
        if average == "binary" and classes != 2:
            msg = (
                f"{who}: predictions of shape {tuple(predictions.shape)} have {classes} classes;"
                " average='binary' is for two. Take 'macro' or 'micro'."
            )
            raise ConfigError(msg)
        guesses = xp.argmax(predictions, axis=-1)
        guess, truth = (
            xp.reshape(x[..., None] == ramp(xp, x, classes), (-1, classes))
            for x in (guesses, labels)
        )
        if average == "binary":
            guess, truth = guess[:, 1:], truth[:, 1:]
    axis = None if average == "micro" else 0
    found = (xp.count_nonzero(x, axis=axis) for x in (guess & truth, guess, truth))
    hits, guessed, true = (xp.reshape(x, (-1,)) for x in found)
    dtype = real(xp, predictions)
    return xp, *(xp.astype(x, dtype) for x in (hits, guessed, true))


def _mean_ratio(xp: Any, above: Array, below: Array, present: Array) -> Array:
    """Return the mean of ratios over the classes that are present; 0 / 0 is 0."""
    ratios = above / xp.where(below == 0, xp.ones_like(below), below)
    counted = xp.astype(present > 0, ratios.dtype)
    return xp.sum(ratios * counted) / xp.maximum(xp.sum(counted), 1.0)


def precision(
    predictions: Array, targets: Array, *, average: str = "binary", threshold: float = 0.5
) -> Array:
    r"""Fraction of hits among the examples that were predicted to be of a class.

    Parameters
    ----------
    predictions : array
        Logits or probabilities of shape (..., classes); or, with ``average="binary"``,
        probabilities of 1 of the shape of the targets.
    targets : array
        Integer labels of shape (...), or, but for "binary", one-hot rows of shape (..., classes).
    average : {"binary", "macro", "micro"}
        Of class 1 of two; the mean over the classes that are predicted or a target somewhere; or of
        all classes together, which is :func:`accuracy`.
    threshold : float
        Of "binary", for predictions of the shape of the targets: above it, one says 1.

    Returns
    -------
    array
        One floating-point number; 0 where nothing was predicted to be of the class.

    Notes
    -----
    As scikit-learn. In ``fit`` a mean over batches is reported, which is not the precision over all
    examples.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import metrics
    >>> float(metrics.precision(np.asarray([0.9, 0.7, 0.2, 0.1]), np.asarray([1, 0, 1, 1])))
    0.5
    """
    xp, hits, guessed, true = _counts("precision", predictions, targets, average, threshold)
    return _mean_ratio(xp, hits, guessed, guessed + true)


def recall(
    predictions: Array, targets: Array, *, average: str = "binary", threshold: float = 0.5
) -> Array:
    r"""Fraction of hits among the examples whose target is a class.

    Parameters
    ----------
    predictions, targets, average, threshold
        As for :func:`precision`.

    Returns
    -------
    array
        One floating-point number; 0 where the class is no target.

    Notes
    -----
    As scikit-learn. In ``fit`` a mean over batches is reported, which is not the recall over all
    examples.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import metrics
    >>> float(metrics.recall(np.asarray([0.9, 0.7, 0.2, 0.1]), np.asarray([1, 0, 1, 0])))
    0.5
    """
    xp, hits, guessed, true = _counts("recall", predictions, targets, average, threshold)
    return _mean_ratio(xp, hits, true, guessed + true)


def f1(
    predictions: Array, targets: Array, *, average: str = "binary", threshold: float = 0.5
) -> Array:
    r"""Harmonic mean of precision P and recall R, :math:`2 P R / (P + R)`.

    Parameters
    ----------
    predictions, targets, average, threshold
        As for :func:`precision`; "macro" is the mean of the classes' own.

    Returns
    -------
    array
        One floating-point number; 0 where the class is neither predicted nor a target.

    Notes
    -----
    As scikit-learn. In ``fit`` a mean over batches is reported, which is not the value over all
    examples.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import metrics
    >>> float(metrics.f1(np.asarray([0.9, 0.7, 0.2, 0.1]), np.asarray([1, 0, 1, 0])))
    0.5
    """
    xp, hits, guessed, true = _counts("f1", predictions, targets, average, threshold)
    return _mean_ratio(xp, 2 * hits, guessed + true, guessed + true)


def confusion_matrix(
    predictions: Array, targets: Array, *, num_classes: int | None = None
) -> Array:
    """Count how often each class was taken for each class.

    Parameters
    ----------
    predictions : array
        Logits or probabilities of shape (..., classes), or predicted labels of shape (...).
    targets : integer array of shape (...)
        Labels.
    num_classes : int, optional
        Needed with predicted labels; the length of the last axis of the predictions otherwise.

    Returns
    -------
    integer array of shape (num_classes, num_classes)
        Targets in rows, predictions in columns, on the device of the predictions.

    Raises
    ------
    DataError
        If a label is out of range; on a GPU, where a look would wait, it is left out.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import metrics
    >>> metrics.confusion_matrix(np.asarray([0, 1, 1, 1]), np.asarray([0, 0, 1, 1]), num_classes=2)
    array([[1, 1],
           [0, 2]])
    """
    xp, predictions, targets = raw_pair("confusion_matrix", predictions, targets)
    who, shape = "confusion_matrix", tuple(targets.shape)
    require_integers(who, targets, "targets")
    if predictions.ndim == targets.ndim + 1:
        classes = predictions.shape[-1]
        if num_classes not in (None, classes):
            msg = f"{who}: the predictions have {classes} classes, 'num_classes' is {num_classes}."
            raise ConfigError(msg)
        num_classes = classes
        guesses = xp.argmax(predictions, axis=-1)
    else:
        require_integers(who, predictions, "predictions")
        guesses = predictions
    if num_classes is None:
        msg = f"{who}: predicted labels do not tell how many classes there are. Give 'num_classes'."
        raise ConfigError(msg)
    if tuple(guesses.shape) != shape:
        msg = (
            f"{who}: predictions of shape {tuple(predictions.shape)} and targets of shape {shape}"
            " do not belong together."
        )
        raise ShapeError(msg)
    for labels in (guesses, targets):
        if on_host(labels):
            check_labels(who, labels, num_classes)
    wide = index_dtype(device_of(guesses))
    pairs = xp.astype(targets, wide) * num_classes + xp.astype(guesses, wide)
    inside = (guesses >= 0) & (guesses < num_classes)
    pairs = xp.reshape(xp.where(inside, pairs, xp.full_like(pairs, -1)), (-1,))
    # In order, pairs of one kind are neighbours: their number is between the ends of their place.
    ends = xp.searchsorted(xp.sort(pairs), ramp(xp, pairs, num_classes**2 + 1))
    return xp.reshape(ends[1:] - ends[:-1], (num_classes, num_classes))
