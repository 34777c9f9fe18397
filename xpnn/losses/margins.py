"""Hinge losses: what counts is the margin by which an example is on the right side."""

from __future__ import annotations

import math
from typing import Any

from xpnn import functional as F
from xpnn.autograd.casting import widened
from xpnn.backend import array_namespace, on_host, unwrap
from xpnn.losses._checks import check_signs, checked_by, class_targets, signs
from xpnn.losses._common import hits, labels_of, paired, reduced, rows_of, safe_labels

__all__ = ["binary_hinge", "categorical_hinge"]

Array = Any


@checked_by(signs("binary_hinge"))
def binary_hinge(predictions: Array, targets: Array, *, reduction: str = "mean") -> Array:
    r"""Hinge loss of two classes, :math:`\max(0, 1 - t\, p)`.

    Parameters
    ----------
    predictions : array
        Scores; their sign is the decision.
    targets : array of the same shape
        -1 or 1.
    reduction : {"mean", "sum", "none"}
        Over the elements.

    Raises
    ------
    DataError
        If a target is not -1 or 1, such as 0. On a GPU ``fit`` alone looks, once.

    Notes
    -----
    The derivative at a margin of exactly 1 is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> p, t = np.asarray([2.0, 0.5, 0.5]), np.asarray([1, 1, -1])
    >>> losses.binary_hinge(p, t, reduction="none")
    array([0. , 0.5, 1.5])
    """
    predictions, targets = paired("binary_hinge", predictions, targets)
    if on_host(targets):
        check_signs("binary_hinge", targets)
    return reduced(F.relu(1.0 - predictions * targets), reduction)


@checked_by(class_targets("categorical_hinge"))
def categorical_hinge(predictions: Array, targets: Array, *, reduction: str = "mean") -> Array:
    r"""Hinge loss of many classes by Crammer & Singer (2001).

    .. math:: \ell = \max\left(0,\ 1 + \max_{j \neq t} p_j - p_t\right)

    As Keras. ``torch.nn.functional.multi_margin_loss`` adds up all wrong classes (Weston & Watkins
    1999); yadll's function of this name is the binary hinge.

    Parameters
    ----------
    predictions : array of shape (..., classes)
        Scores; the largest is the decision.
    targets : array
        Integer labels of shape (...), or one-hot rows of shape (..., classes), of which the place
        of the largest element counts.
    reduction : {"mean", "sum", "none"}
        Over the examples.

    Raises
    ------
    ShapeError
        If the shapes do not belong together.
    DataError
        If a label is out of range; on a GPU its loss is NaN instead.

    Notes
    -----
    Where several wrong classes tie they share the gradient; at a margin of exactly 1 it is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> p = np.asarray([[3.0, 1.0, 0.0], [3.0, 1.0, 2.5]])
    >>> losses.categorical_hinge(p, np.asarray([0, 2]), reduction="none")
    array([0. , 1.5])
    """
    predictions = widened(predictions)
    labels = labels_of("categorical_hinge", predictions, targets)
    if labels is None:
        rows = unwrap(rows_of("categorical_hinge", predictions, targets)[1])
        labels = array_namespace(rows).argmax(rows, axis=-1)
    classes = predictions.shape[-1]
    labels, wrong, _ = safe_labels("categorical_hinge", labels, classes)
    hit = hits(labels, classes)
    xp = array_namespace(predictions)
    right = xp.sum(xp.where(hit, predictions, 0.0), axis=-1)
    other = xp.max(xp.where(hit, -math.inf, predictions), axis=-1)
    values = F.relu(1.0 + other - right)
    return reduced(values if wrong is None else xp.where(wrong, math.nan, values), reduction)
