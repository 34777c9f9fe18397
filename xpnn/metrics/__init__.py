"""Metrics: what one wants to read, not to differentiate. Results stay on the device.

``fit`` and ``evaluate`` report the mean of a metric over batches, weighted by their examples. That
is the metric over all examples where it is a mean over examples; of :func:`precision`,
:func:`recall`, :func:`f1` and :func:`r2` it is not, and one call on all predictions says more.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from xpnn._names import by_name, with_arguments
from xpnn.metrics.accuracy import accuracy, binary_accuracy, error_rate, top_k_accuracy
from xpnn.metrics.counts import confusion_matrix, f1, precision, recall
from xpnn.metrics.regression import mean_absolute_error, r2

__all__ = [
    "accuracy",
    "binary_accuracy",
    "confusion_matrix",
    "error_rate",
    "f1",
    "get",
    "mean_absolute_error",
    "name_of",
    "precision",
    "r2",
    "recall",
    "top_k_accuracy",
]

Array = Any

# Those of one number: a confusion matrix has no mean over batches.
_BY_NAME: dict[str, Callable[..., Array]] = {
    "accuracy": accuracy,
    "binary_accuracy": binary_accuracy,
    "error_rate": error_rate,
    "f1": f1,
    "mae": mean_absolute_error,
    "mean_absolute_error": mean_absolute_error,
    "precision": precision,
    "r2": r2,
    "recall": recall,
    "top_k": top_k_accuracy,
    "top_k_accuracy": top_k_accuracy,
}


def get(metric: Any) -> Callable[..., Array]:
    """Return the metric of a name, or of a pair of a name and its arguments.

    What can be called is a metric already. "top_k" has k = 5.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import metrics
    >>> top_2 = metrics.get(("top_k", {"k": 2}))
    >>> float(top_2(np.asarray([[0.1, 0.5, 0.4]]), np.asarray([2])))
    1.0
    """
    return by_name("metric", metric, _BY_NAME, with_arguments)


def name_of(metric: Any) -> str:
    """Return the name under which a metric is reported.

    Examples
    --------
    >>> from xpnn import metrics
    >>> metrics.name_of("accuracy"), metrics.name_of(("top_k", {"k": 2}))
    ('accuracy', 'top_k(k=2)')
    """
    if isinstance(metric, str):
        return metric
    if isinstance(metric, functools.partial):
        metric = (name_of(metric.func), metric.keywords)
    if isinstance(metric, (tuple, list)) and len(metric) == 2:
        name, options = metric
        if isinstance(options, dict) and options:
            return f"{name}({', '.join(f'{k}={v}' for k, v in options.items())})"
        return str(name)
    return str(getattr(metric, "__name__", type(metric).__name__))
