"""Metrics: what one wants to read, not to differentiate. Results stay on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnn._dtypes import as_dtype
from xpnn._names import by_name
from xpnn.backend import array_namespace, unwrap
from xpnn.errors import ShapeError

__all__ = ["accuracy", "get", "name_of"]

Array = Any


def accuracy(predictions: Array, targets: Array) -> Array:
    """Fraction of examples whose largest prediction is at the target class.

    Parameters
    ----------
    predictions : array of shape (..., classes)
        Logits or probabilities.
    targets : array
        Integer labels of shape (...), or one-hot rows of shape (..., classes).

    Returns
    -------
    array
        One floating-point number, on the device of the predictions.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import metrics
    >>> float(metrics.accuracy(np.asarray([[0.1, 0.9], [0.8, 0.2]]), np.asarray([1, 1])))
    0.5
    """
    predictions, targets = unwrap(predictions), unwrap(targets)
    xp = array_namespace(predictions, targets)
    if targets.ndim == predictions.ndim:
        targets = xp.argmax(targets, axis=-1)
    guesses = xp.argmax(predictions, axis=-1)
    if tuple(guesses.shape) != tuple(targets.shape):
        msg = (
            f"accuracy: predictions of shape {tuple(predictions.shape)} need targets of shape"
            f" {tuple(guesses.shape)}, got {tuple(targets.shape)}."
        )
        raise ShapeError(msg)
    dtype = predictions.dtype if as_dtype(predictions.dtype).kind == "f" else xp.float32
    return xp.mean(xp.astype(guesses == targets, dtype))


_BY_NAME: dict[str, Callable[..., Array]] = {"accuracy": accuracy}


def get(metric: Any) -> Callable[..., Array]:
    """Return the metric of a name; what can be called is one already."""
    return by_name("metric", metric, _BY_NAME)


def name_of(metric: Any) -> str:
    """Return the name under which a metric is reported."""
    if isinstance(metric, str):
        return metric
    return str(getattr(metric, "__name__", type(metric).__name__))
