"""Weights of examples: given one by one, or by their classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from xpnn._dtypes import as_dtype
from xpnn.backend import array_namespace, on_host, unwrap
from xpnn.data import Batch, as_arrays
from xpnn.errors import ConfigError, DataError

__all__ = ["check_weights", "sample_weights", "weighing"]

Array = Any


def sample_weights(given: Any, n: int) -> Array:
    """Return weights of n examples as a raw array.

    Raises
    ------
    DataError
        If there are not as many, or one is negative or no number.
    """
    weight = as_arrays(given)
    if isinstance(weight, tuple) or weight.ndim < 1 or weight.shape[0] != n:
        shape = "several" if isinstance(weight, tuple) else tuple(weight.shape)
        msg = f"fit: expected 'sample_weight' of shape ({n},), one an example, got {shape}."
        raise DataError(msg)
    if as_dtype(weight.dtype).kind != "f":
        xp = array_namespace(weight)
        weight = xp.astype(weight, xp.float32)
    _refuse_negative("'sample_weight'", weight)
    return weight


def check_weights(weight: Any) -> None:
    """Raise an error for weights of a batch that make no sense, unless a GPU had to wait for it."""
    if isinstance(weight, tuple):
        msg = f"fit: expected the weights of a batch as one array, got {len(weight)}."
        raise DataError(msg)
    if on_host(weight):
        _refuse_negative("the weights of a batch", weight)


def _refuse_negative(what: str, weight: Array) -> None:
    xp = array_namespace(weight)
    if not bool(xp.all((weight >= 0) & (weight < math.inf))):
        msg = f"fit: {what} must be finite and not negative."
        raise DataError(msg)


def weighing(class_weight: Any, targets: Any = None) -> Callable[[Batch], Batch]:
    r"""Return a function that multiplies the weights of examples by those of their classes.

    .. math:: w_c = \frac{n}{k\, n_c} \quad\text{for "balanced"}

    with :math:`n_c` of the n targets in class c, and k classes that occur.

    Parameters
    ----------
    class_weight : dict, sequence or "balanced"
        A weight by label; a label that is not in it weighs 1.
    targets : array, optional
        All there are; "balanced" counts them.
    """
    if isinstance(class_weight, str):
        table = _balanced(class_weight, targets)
    elif isinstance(class_weight, Mapping):
        labels = list(class_weight)
        if not all(hasattr(c, "__index__") and c >= 0 for c in labels):
            msg = f"fit: the keys of 'class_weight' must be labels 0, 1, ..., got {labels}."
            raise ConfigError(msg)
        given = [class_weight.get(c, 1.0) for c in range(max(labels, default=-1) + 1)]
        table = _numbers(given, class_weight)
    else:
        table = _numbers(class_weight, class_weight)
    if not all(0.0 <= w < float("inf") for w in table):
        msg = f"fit: the weights of classes must be finite and not negative, got {table}."
        raise ConfigError(msg)

    def weigh(batch: Batch) -> Batch:
        labels = _labels(batch.y)
        xp = array_namespace(labels)
        # One more, 1.0, for all labels that the table does not name.
        of_class = xp.asarray([*table, 1.0], dtype=xp.float32, device=labels.device)
        known = (labels >= 0) & (labels < len(table))
        weight = xp.take(of_class, xp.where(known, labels, len(table) + xp.zeros_like(labels)))
        if batch.weight is not None:
            weight = weight * unwrap(batch.weight)
        return batch._replace(weight=weight)

    return weigh


def _numbers(weights: Any, given: Any) -> list[float]:
    try:
        return [float(w) for w in weights]
    except (TypeError, ValueError):
        msg = f"fit: 'class_weight' must have a number for each class, got {given!r}."
        raise ConfigError(msg) from None


def _balanced(word: str, targets: Any) -> list[float]:
    if word != "balanced":
        msg = f"fit: 'class_weight' must be a dict, a sequence or 'balanced', got {word!r}."
        raise ConfigError(msg)
    if targets is None:
        msg = (
            "fit: class_weight='balanced' counts the labels of all examples, which an iterable of"
            " batches does not show. Give the weights by label."
        )
        raise ConfigError(msg)
    labels = _labels(targets)
    xp = array_namespace(labels)
    found = xp.unique_counts(labels)
    counts = {int(c): int(n) for c, n in zip(found.values, found.counts, strict=True)}
    n, k = int(labels.shape[0]), len(counts)
    return [n / (k * counts[c]) if c in counts else 1.0 for c in range(max(counts) + 1)]


def _labels(targets: Any) -> Array:
    """Return targets as labels (N,): integers as they are, rows of a one-hot by their largest."""
    if isinstance(targets, tuple):
        msg = (
            f"fit: 'class_weight' is for models of one output, here are {len(targets)}. Give"
            " sample_weight, or weigh the classes in the losses."
        )
        raise ConfigError(msg)
    raw = None if targets is None else unwrap(targets)
    if raw is not None and raw.ndim == 1 and as_dtype(raw.dtype).kind in "iu":
        return raw
    if raw is not None and raw.ndim == 2 and raw.shape[1] > 1:
        return array_namespace(raw).argmax(raw, axis=1)
    shape = "none" if raw is None else f"{raw.dtype} of shape {tuple(raw.shape)}"
    msg = f"fit: 'class_weight' needs integer labels (N,) or one-hot targets (N, C), got {shape}."
    raise DataError(msg)
