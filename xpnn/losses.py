"""Losses: functions ``(predictions, targets)`` that refuse to broadcast."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xpnn import backend
from xpnn import functional as F
from xpnn._dtypes import as_dtype
from xpnn._names import by_name
from xpnn.backend import array_namespace
from xpnn.errors import ConfigError, DataError, ShapeError

__all__ = ["check_labels", "cross_entropy", "get", "mean_squared_error"]

Array = Any


def _reduced(values: Array, reduction: str) -> Array:
    if reduction == "none":
        return values
    if reduction not in ("mean", "sum"):
        msg = f"'reduction' must be 'mean', 'sum' or 'none', got {reduction!r}."
        raise ConfigError(msg)
    return getattr(array_namespace(values), reduction)(values)


def _same_shape(who: str, predictions: Array, targets: Array) -> None:
    if tuple(predictions.shape) != tuple(targets.shape):
        msg = (
            f"{who}: predictions have shape {tuple(predictions.shape)}, targets"
            f" {tuple(targets.shape)}; a loss does not broadcast. Reshape one of them."
        )
        raise ShapeError(msg)


def check_labels(who: str, labels: Array, classes: int) -> None:
    """Raise an error if integer labels are not all in [0, classes)."""
    raw = backend.unwrap(labels)
    if math.prod(raw.shape) == 0:
        return
    xp = array_namespace(raw)
    low, high = int(xp.min(raw)), int(xp.max(raw))
    if low < 0 or high >= classes:
        msg = (
            f"{who}: the predictions have {classes} classes, so labels must be in"
            f" [0, {classes - 1}]; got {low if low < 0 else high}."
        )
        raise DataError(msg)


def cross_entropy(predictions: Array, targets: Array, *, reduction: str = "mean") -> Array:
    r"""Cross-entropy between the softmax of logits and target classes.

    .. math:: \ell = \log \sum_j e^{x_j} - x_t \qquad\text{or}\qquad
              \ell = -\sum_j t_j \log \mathrm{softmax}(x)_j

    Parameters
    ----------
    predictions : array of shape (..., classes)
        Logits: what comes before the softmax.
    targets : array
        Integer labels of shape (...), or one-hot (or any) distributions of shape (..., classes).
    reduction : {"mean", "sum", "none"}
        Over the examples.

    Raises
    ------
    ShapeError
        If the shapes do not belong together.
    DataError
        If a label is out of range. On a GPU, where a look would stop the pipeline, the loss of such
        an example is NaN instead.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> round(float(losses.cross_entropy(np.zeros((2, 4)), np.asarray([0, 3]))), 6)  # log(4)
    1.386294
    """
    kind = as_dtype(targets.dtype).kind
    if kind in "iu" and targets.ndim == predictions.ndim - 1:
        if tuple(targets.shape) != tuple(predictions.shape[:-1]):
            msg = (
                f"cross_entropy: predictions of shape {tuple(predictions.shape)} need labels of"
                f" shape {tuple(predictions.shape[:-1])}, got {tuple(targets.shape)}."
            )
            raise ShapeError(msg)
        labels = backend.unwrap(targets)
        classes = predictions.shape[-1]
        if backend.device_of(labels).library.name != "cuda":
            check_labels("cross_entropy", labels, classes)
            return _reduced(F.softmax_cross_entropy(predictions, labels), reduction)
        xp = array_namespace(labels)
        valid = (labels >= 0) & (labels < classes)
        safe = xp.where(valid, labels, xp.zeros_like(labels))
        values = F.softmax_cross_entropy(predictions, safe)
        return _reduced(array_namespace(values).where(valid, values, math.nan), reduction)
    _same_shape("cross_entropy", predictions, targets)
    xp = array_namespace(predictions, targets)
    if kind not in "f":
        targets = xp.astype(targets, predictions.dtype)
    values = -xp.sum(F.log_softmax(predictions) * targets, axis=-1)
    return _reduced(values, reduction)


def mean_squared_error(predictions: Array, targets: Array, *, reduction: str = "mean") -> Array:
    r"""Squared difference, :math:`(p - t)^2`, averaged over all elements.

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
    _same_shape("mean_squared_error", predictions, targets)
    difference = predictions - targets
    return _reduced(difference * difference, reduction)


_BY_NAME: dict[str, Callable[..., Array]] = {
    "cross_entropy": cross_entropy,
    "mean_squared_error": mean_squared_error,
    "mse": mean_squared_error,
}


def get(loss: Any) -> Callable[..., Array]:
    """Return the loss of a name; what can be called is one already."""
    return by_name("loss", loss, _BY_NAME)
