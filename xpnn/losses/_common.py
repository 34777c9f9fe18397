"""What losses share: shapes, dtypes and reductions."""

from __future__ import annotations

from typing import Any

from xpnn import backend
from xpnn._dtypes import as_dtype
from xpnn.autograd.casting import widened
from xpnn.backend import array_namespace, on_host, unwrap
from xpnn.errors import ConfigError, DTypeError, ShapeError
from xpnn.losses._checks import check_labels, not_ignored, require_integers

__all__ = [
    "beside",
    "constant",
    "hits",
    "labels_of",
    "paired",
    "reduced",
    "require_floats",
    "rows_of",
    "safe_labels",
]

Array = Any


def reduced(values: Array, reduction: str) -> Array:
    """Return the mean or the sum of the values, or the values as they are."""
    if reduction == "none":
        return values
    if reduction not in ("mean", "sum"):
        msg = f"'reduction' must be 'mean', 'sum' or 'none', got {reduction!r}."
        raise ConfigError(msg)
    return getattr(array_namespace(values), reduction)(values)


def beside(x: Array, like: Array, dtype: Any = None) -> Array:
    """Return an array as it is; a number or a list as an array on the device of ``like``."""
    if hasattr(x, "shape"):
        return x
    return backend.asarray(x, device=backend.device_of(like), dtype=dtype)


def _same_shape(who: str, predictions: Array, targets: Array) -> None:
    shape, found = tuple(predictions.shape), tuple(targets.shape)
    if shape != found:
        cure = "Reshape one of them."
        if shape == (*found, 1):
            cure = "Write targets[..., None], or predictions[..., 0]."
        elif shape[:-1] == found and as_dtype(targets.dtype).kind in "iu":
            cure = "Make rows of labels with data.one_hot."
        elif len(found) == len(shape) and found[-1:] == (1,):
            cure = "If the targets are labels of classes, write targets[..., 0]."
        msg = (
            f"{who}: predictions have shape {shape}, targets {found}; a loss does not broadcast."
            f" {cure}"
        )
        raise ShapeError(msg)


def require_floats(who: str, predictions: Array) -> None:
    """Raise an error if predictions are no array of real floating-point numbers."""
    array = hasattr(predictions, "shape")
    dtype = as_dtype(predictions.dtype) if array else type(predictions).__name__
    if not array or as_dtype(dtype).kind != "f":
        msg = (
            f"{who}: expected floating-point predictions, got {dtype}."
            " Convert them, for example with xpnn.asarray(x, dtype='float32')."
        )
        raise DTypeError(msg)


def paired(who: str, predictions: Array, targets: Array) -> tuple[Array, Array]:
    """Return predictions and targets of one shape, the targets in the dtype of the predictions.

    Inside of ``autocast`` that is float32 for those of half precision.
    """
    require_floats(who, predictions)
    predictions = widened(predictions)
    targets = beside(targets, predictions, as_dtype(predictions.dtype))
    _same_shape(who, predictions, targets)
    found = as_dtype(targets.dtype)
    if found.kind == "c":
        msg = f"{who}: expected real targets, got {found}."
        raise DTypeError(msg)
    if found is not as_dtype(predictions.dtype):
        xp = array_namespace(predictions, targets)
        targets = xp.astype(targets, predictions.dtype)
    return predictions, targets


def rows_of(who: str, predictions: Array, targets: Array) -> tuple[Array, Array]:
    """Return :func:`paired` arrays that have a last axis, of classes or features."""
    require_floats(who, predictions)
    if not predictions.ndim:
        msg = f"{who}: expected predictions of shape (..., classes or features), got a scalar."
        raise ShapeError(msg)
    return paired(who, predictions, targets)


def labels_of(who: str, predictions: Array, targets: Array) -> Array | None:
    """Return raw integer labels, one a row of the predictions, or None if the targets are rows."""
    require_floats(who, predictions)
    targets = beside(targets, predictions)
    wanted, shape = tuple(predictions.shape), tuple(targets.shape)
    if not wanted or wanted[-1] == 1:
        msg = (
            f"{who}: expected predictions of shape (..., classes) with two classes or more, got"
            f" {wanted}. For one number an example take binary_cross_entropy_with_logits."
        )
        raise ShapeError(msg)
    if len(shape) != len(wanted) - 1:
        return None
    require_integers(who, targets)
    if shape != wanted[:-1]:
        msg = (
            f"{who}: predictions of shape {wanted} need labels of shape {wanted[:-1]}, got {shape}."
        )
        raise ShapeError(msg)
    return unwrap(targets)


def constant(
    who: str, name: str, value: Any, like: Array, shape: tuple[int, ...] | None = None
) -> Any:
    """Return a weight as a raw array beside ``like``, of its dtype; a number as it is.

    An array has to be of the library of ``like``; a list goes to its device.
    """
    if isinstance(value, (int, float)):
        return float(value)
    if hasattr(value, "shape"):
        array_namespace(unwrap(value), unwrap(like))
    home = backend.device_of(like)
    raw = unwrap(backend.asarray(value, device=home, dtype=as_dtype(like.dtype)))
    found, room = tuple(raw.shape), tuple(like.shape)
    tail = room[len(room) - len(found) :]
    fits = len(found) <= len(room) and all(a in (1, b) for a, b in zip(found, tail, strict=True))
    if found != shape if shape is not None else not fits:
        msg = (
            f"{who}: predictions of shape {room} need {name!r} of shape"
            f" {room[-1:] if shape is None else shape}, got {found}."
        )
        raise ShapeError(msg)
    return raw


def safe_labels(
    who: str, labels: Array, classes: int, ignore_index: int | None = None
) -> tuple[Array, Array | None, Array | None]:
    """Return labels that are all in range, which of them were not, and which count.

    Where a look costs nothing a label out of range is an error, and the second is None. The third
    is None if no label is ignored.
    """
    with backend.on_device_of(labels):
        return _safe_labels(who, labels, classes, ignore_index)


def _safe_labels(who: str, labels: Array, classes: int, ignore_index: int | None) -> Any:
    xp = array_namespace(labels)
    counted = None if ignore_index is None else not_ignored(labels, ignore_index)
    wrong = None
    if on_host(labels):
        check_labels(who, labels, classes, ignore_index)
    else:
        wrong = (labels < 0) | (labels >= classes)
        labels = xp.where(wrong, xp.zeros_like(labels), labels)
    if counted is not None:
        labels = xp.where(counted, labels, xp.zeros_like(labels))
    return labels, wrong, counted


def hits(labels: Array, classes: int) -> Array:
    """Return which class each label is: (...) -> (..., classes), booleans."""
    xp = array_namespace(labels)
    home = backend.device_of(labels)
    with backend.on_device_of(labels):
        return labels[..., None] == xp.arange(classes, dtype=labels.dtype, device=home.native)
