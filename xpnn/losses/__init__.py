"""Losses: functions ``(predictions, targets)`` that refuse to broadcast.

A loss has the dtype of its predictions, to which targets are cast, and is reduced by
``reduction="mean"``, ``"sum"`` or ``"none"``. Those of classes take integer labels or rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnn._names import by_name, with_arguments
from xpnn.losses._checks import check_labels, check_targets
from xpnn.losses.classification import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    categorical_cross_entropy,
    cross_entropy,
)
from xpnn.losses.distributions import hellinger, kl_divergence, vae_elbo
from xpnn.losses.margins import binary_hinge, categorical_hinge
from xpnn.losses.regression import (
    cosine,
    huber,
    mean_absolute_error,
    mean_squared_error,
    root_mean_squared_error,
)
from xpnn.losses.sampling import nce, negative_sampling

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "binary_hinge",
    "categorical_cross_entropy",
    "categorical_hinge",
    "check_labels",
    "check_targets",
    "cosine",
    "cross_entropy",
    "get",
    "hellinger",
    "huber",
    "kl_divergence",
    "mean_absolute_error",
    "mean_squared_error",
    "nce",
    "negative_sampling",
    "root_mean_squared_error",
    "vae_elbo",
]

Array = Any

_BY_NAME: dict[str, Callable[..., Array]] = {
    "binary_cross_entropy": binary_cross_entropy,
    "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    "binary_hinge": binary_hinge,
    "categorical_cross_entropy": categorical_cross_entropy,
    "categorical_hinge": categorical_hinge,
    "cosine": cosine,
    "cross_entropy": cross_entropy,
    "hellinger": hellinger,
    "huber": huber,
    "kl_divergence": kl_divergence,
    "mean_absolute_error": mean_absolute_error,
    "mean_squared_error": mean_squared_error,
    "root_mean_squared_error": root_mean_squared_error,
    "vae_elbo": vae_elbo,
    # the names of npdl and yadll
    "bce": binary_cross_entropy,
    "bhe": binary_hinge,
    "cce": categorical_cross_entropy,
    "che": categorical_hinge,
    "hed": hellinger,
    "kld": kl_divergence,
    "mae": mean_absolute_error,
    "mse": mean_squared_error,
    "rmse": root_mean_squared_error,
    "scce": cross_entropy,
}


def get(loss: Any) -> Callable[..., Array]:
    """Return the loss of a name, or of a pair of a name and its arguments.

    What can be called is a loss already. Beside the full names there are those of npdl and yadll:
    mse, rmse, mae, bce, cce, kld, hed, bhe, che, and scce, which is cross-entropy of logits.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> huber = losses.get(("huber", {"delta": 2.0}))
    >>> float(huber(np.asarray([9.0]), np.asarray([0.0])))
    16.0
    """
    return by_name("loss", loss, _BY_NAME, with_arguments)
