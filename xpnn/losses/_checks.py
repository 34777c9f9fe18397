"""A look at the data of a loss: at labels in every call on the host, at all of it before a run."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from xpnn._dtypes import as_dtype
from xpnn.backend import array_namespace, extent, unwrap
from xpnn.errors import DataError

__all__ = [
    "check_labels",
    "check_range",
    "check_signs",
    "check_targets",
    "checked_by",
    "class_targets",
    "not_ignored",
    "predictions_within",
    "require_integers",
    "signs",
    "targets_within",
]

Array = Any
Check = Callable[[Array, Array, Mapping[str, Any]], None]
Loss = TypeVar("Loss", bound=Callable[..., Any])


def require_integers(who: str, labels: Array, what: str = "labels or one-hot rows") -> None:
    """Raise an error if labels are no integers."""
    dtype = as_dtype(labels.dtype)
    if dtype.kind not in "iu":
        msg = (
            f"{who}: expected integer {what}, got {dtype} values of shape {tuple(labels.shape)}."
            " If they are labels, convert them to int64."
        )
        raise DataError(msg)


def not_ignored(labels: Array, ignore_index: int) -> Array:
    """Return which labels differ from ``ignore_index``."""
    if ignore_index < 0 and as_dtype(labels.dtype).kind == "u":
        return labels >= 0  # all: a dtype without negative numbers is not compared with one
    return labels != ignore_index


def check_labels(who: str, labels: Array, classes: int, ignore_index: int | None = None) -> None:
    """Raise an error if integer labels are not all in [0, classes), or ``ignore_index``.

    It reads them, for which a GPU has to finish what it is doing.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> losses.check_labels("a loss", np.asarray([0, 2, -100]), 3, ignore_index=-100)
    """
    raw = unwrap(labels)
    if ignore_index is not None:
        xp = array_namespace(raw)
        raw = xp.where(not_ignored(raw, ignore_index), raw, xp.zeros_like(raw))
    if math.prod(raw.shape) == 0:
        return
    low, high = map(int, extent(raw))
    if low < 0 or high >= classes:
        last, got = classes - 1, low if low < 0 else high
        msg = f"{who}: there are {classes} classes, so labels must be in [0, {last}]; got {got}."
        raise DataError(msg)


def check_range(who: str, what: str, values: Array, high: float, cure: str) -> None:
    """Raise an error if an array holds numbers outside [0, high], or NaN; it reads them."""
    if math.prod(values.shape) == 0:
        return
    if as_dtype(values.dtype).kind == "b":
        return
    least, most = map(float, extent(values))
    if not (least >= 0.0 and most <= high):
        msg = f"{who}: {what} must be in [0, 1], got {most if least >= 0.0 else least:g}.{cure}"
        raise DataError(msg)


def check_signs(who: str, targets: Array) -> None:
    """Raise an error if an array holds anything but -1 and 1; it reads it."""
    raw = unwrap(targets)
    xp = array_namespace(raw)
    if as_dtype(raw.dtype).kind == "b":
        raw = xp.astype(raw, xp.int8)
    wrong = xp.reshape((raw != 1) & (raw != -1), (-1,))
    if bool(xp.any(wrong)):
        value = float(xp.reshape(raw, (-1,))[int(xp.argmax(xp.astype(wrong, xp.int8)))])
        msg = (
            f"{who}: targets must be -1 or 1, got {value:g}."
            " For targets of 0 and 1 give 2 * targets - 1."
        )
        raise DataError(msg)


# ---------------------------------------------------------------------- once, before a run

_CHECKS: dict[Any, tuple[Check, ...]] = {}


def checked_by(*checks: Check) -> Callable[[Loss], Loss]:
    """Name the checks of a loss's data: functions of targets, predictions and options."""

    def mark(loss: Loss) -> Loss:
        _CHECKS[loss] = checks
        return loss

    return mark


def check_targets(loss: Any, targets: Array, predictions: Array) -> None:
    """Raise an error for data that a loss of this package cannot take; other losses are let pass.

    ``fit`` calls it once before it starts, with all targets and the first predictions: every value
    is looked at, for which a GPU would have to wait at every step.

    Parameters
    ----------
    loss : callable
        A loss, or what :func:`get` makes of a loss and its arguments.
    targets : array
        All there are; they need not be on the device of the predictions.
    predictions : array
        Some, of the shape that belongs to the targets but for the first axis.

    Raises
    ------
    DataError
        For a label that is no class, or a target or a probability out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> losses.check_targets(losses.cross_entropy, np.asarray([0, 1, 2]), np.zeros((1, 3)))
    """
    options: dict[str, Any] = {}
    while isinstance(loss, functools.partial):
        loss, options = loss.func, {**loss.keywords, **options}
    if hasattr(targets, "shape") and hasattr(predictions, "shape"):
        for check in _CHECKS.get(loss, ()):
            check(unwrap(targets), unwrap(predictions), options)


def class_targets(who: str) -> Check:
    """Return the check that targets are labels of classes, or rows."""

    def check(targets: Array, predictions: Array, options: Mapping[str, Any]) -> None:
        if targets.ndim == predictions.ndim - 1:
            require_integers(who, targets)
            classes = predictions.shape[-1]
            check_labels(who, targets, classes, options.get("ignore_index"))

    return check


def targets_within(who: str) -> Check:
    """Return the check that targets are probabilities."""

    def check(targets: Array, predictions: Array, options: Mapping[str, Any]) -> None:
        if _belong(targets, predictions):
            check_range(who, "targets", targets, 1.0, "")

    return check


def predictions_within(who: str, cure: str, slack: float = 0.0) -> Check:
    """Return the check that predictions are probabilities; a softmax needs some slack."""

    def check(targets: Array, predictions: Array, options: Mapping[str, Any]) -> None:
        check_range(who, "predictions", predictions, 1.0 + slack, cure)

    return check


def signs(who: str) -> Check:
    """Return the check that targets are -1 or 1."""

    def check(targets: Array, predictions: Array, options: Mapping[str, Any]) -> None:
        if _belong(targets, predictions):
            check_signs(who, targets)

    return check


def _belong(targets: Array, predictions: Array) -> bool:
    """Return whether shapes fit; if not, the loss itself says so, and values are not the cause."""
    return tuple(targets.shape[1:]) == tuple(predictions.shape[1:])
