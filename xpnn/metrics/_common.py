"""What metrics share: raw arrays of shapes that belong together."""

from __future__ import annotations

from typing import Any

from xpnn import backend
from xpnn._dtypes import as_dtype
from xpnn.backend import array_namespace, device_of, unwrap
from xpnn.errors import ConfigError, DataError, DTypeError, ShapeError
from xpnn.losses._common import beside

__all__ = ["grows", "labels_of", "pair", "ramp", "raw_pair", "real"]

Array = Any

# Metrics that are better when larger.
_GROW = ("acc", "f1", "precision", "r2", "recall", "top_k")


def grows(monitor: str, mode: str, who: str) -> bool:
    """Return whether a value of this name is better when it is larger."""
    if mode not in ("auto", "min", "max"):
        msg = f"{who}: 'mode' must be 'auto', 'min' or 'max', got {mode!r}."
        raise ConfigError(msg)
    return mode == "max" or (mode == "auto" and any(name in monitor for name in _GROW))


def real(xp: Any, predictions: Array) -> Any:
    """Return the dtype of a result: that of the predictions, but float32 at least."""
    name = as_dtype(predictions.dtype).name
    return predictions.dtype if name in ("float32", "float64") else xp.float32


def raw_pair(who: str, predictions: Array, targets: Array) -> tuple[Any, Array, Array]:
    """Return the namespace, and raw arrays of real numbers: also of lists; booleans are 0 and 1."""
    predictions = unwrap(predictions)
    if not hasattr(predictions, "shape"):
        predictions = backend.asarray(predictions)
    targets = beside(unwrap(targets), predictions)
    xp = array_namespace(predictions, targets)
    backend.refuse_elsewhere(who, predictions)
    kinds = [as_dtype(x.dtype).kind for x in (predictions, targets)]
    if "c" in kinds:
        msg = f"{who}: expected real numbers, got {predictions.dtype} and {targets.dtype}."
        raise DTypeError(msg)
    if kinds[0] == "b":
        predictions = xp.astype(predictions, xp.float32)
    if kinds[1] == "b":
        targets = xp.astype(targets, xp.uint8)
    return xp, predictions, targets


def labels_of(who: str, predictions: Array, targets: Array) -> tuple[Any, Array, Array]:
    """Return the namespace, raw predictions, and raw labels: of shape (...) for (..., classes)."""
    xp, predictions, targets = raw_pair(who, predictions, targets)
    if predictions.ndim < 2 or predictions.shape[-1] == 1:
        msg = (
            f"{who}: expected predictions of shape (examples, ..., classes) with two classes or"
            f" more, got {tuple(predictions.shape)}. For probabilities of 1 take binary_accuracy,"
            " or average='binary'."
        )
        raise ShapeError(msg)
    wanted, shape = tuple(predictions.shape[:-1]), tuple(targets.shape)
    if shape == tuple(predictions.shape):
        targets = xp.argmax(targets, axis=-1)
    elif shape != wanted:
        msg = (
            f"{who}: predictions of shape {tuple(predictions.shape)} need targets of shape"
            f" {wanted}, labels, or one-hot rows; got {shape}."
        )
        raise ShapeError(msg)
    if as_dtype(targets.dtype).kind not in "iu":
        msg = f"{who}: expected integer labels or one-hot rows, got {targets.dtype} values."
        raise DataError(msg)
    return xp, predictions, targets


def pair(who: str, predictions: Array, targets: Array) -> tuple[Any, Array, Array]:
    """Return the namespace, and raw predictions and targets of one shape."""
    xp, predictions, targets = raw_pair(who, predictions, targets)
    if tuple(predictions.shape) != tuple(targets.shape):
        cure = "Reshape one of them."
        if tuple(predictions.shape) == (*targets.shape, 1):
            cure = "Write targets[..., None], or predictions[..., 0]."
        msg = (
            f"{who}: predictions have shape {tuple(predictions.shape)}, targets"
            f" {tuple(targets.shape)}; a metric does not broadcast. {cure}"
        )
        raise ShapeError(msg)
    return xp, predictions, targets


def ramp(xp: Any, labels: Array, classes: int) -> Array:
    """Return 0, ..., classes - 1 beside labels, in their dtype."""
    return xp.arange(classes, dtype=labels.dtype, device=device_of(labels).native)
