"""Cross-entropies, of logits and of probabilities."""

from __future__ import annotations

import math
from typing import Any

from xpnn import backend
from xpnn.autograd.casting import widened
from xpnn.autograd.record import apply
from xpnn.backend import array_namespace
from xpnn.errors import ConfigError
from xpnn.losses._checks import (
    checked_by,
    class_targets,
    predictions_within,
    targets_within,
)
from xpnn.losses._common import constant, hits, labels_of, paired, reduced, rows_of, safe_labels
from xpnn.primitives import losses as primitives

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "categorical_cross_entropy",
    "cross_entropy",
]

Array = Any


@checked_by(class_targets("cross_entropy"))
def cross_entropy(
    predictions: Array,
    targets: Array,
    *,
    class_weights: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Array:
    r"""Cross-entropy between the softmax of logits and target classes.

    .. math:: \ell = w_t \left(\log \sum_j e^{x_j} - x_t\right) \qquad\text{or}\qquad
              \ell = -\sum_j w_j t_j \log \mathrm{softmax}(x)_j

    As ``torch.nn.functional.cross_entropy``, but that classes are on the last axis, and that no
    label is ignored unless one is named. For npdl's ``SoftmaxCategoricalCrossEntropy``, whose
    gradient is also that of softmax and cross-entropy together, leave out the softmax layer.

    Parameters
    ----------
    predictions : array of shape (..., classes)
        Logits: what comes before the softmax.
    targets : array
        Integer labels of shape (...), or one-hot (or any) distributions of shape (..., classes).
    class_weights : sequence or array of shape (classes,), optional
        The w, 1 if not given. They are constants.
    ignore_index : int, optional
        The label of examples that do not count, such as that of padding; with labels only.
    label_smoothing : float
        How much of the target is spread over all classes, in [0, 1] (Szegedy et al. 2016):
        :math:`(1 - s)\, t + s / \text{classes}`.
    reduction : {"mean", "sum", "none"}
        Over the examples. With labels "mean" divides by the sum of their weights, those ignored
        left out; it is NaN if none is left. With distributions it divides by their number.

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
    >>> x, padded = np.asarray([[2.0, 0.0], [0.0, 9.0]]), np.asarray([0, -1])
    >>> round(float(losses.cross_entropy(x, padded, ignore_index=-1)), 6)
    0.126928
    """
    if not 0.0 <= label_smoothing <= 1.0:
        msg = f"cross_entropy: 'label_smoothing' must be in [0, 1], got {label_smoothing}."
        raise ConfigError(msg)
    predictions = widened(predictions)
    labels = labels_of("cross_entropy", predictions, targets)
    classes = predictions.shape[-1]
    weights = None
    if class_weights is not None:
        weights = constant("cross_entropy", "class_weights", class_weights, predictions, (classes,))
    if labels is not None:
        with backend.on_device_of(predictions):
            return _of_labels(
                predictions, labels, weights, ignore_index, label_smoothing, reduction
            )
    predictions, targets = rows_of("cross_entropy", predictions, targets)
    if ignore_index is not None:
        msg = (
            f"cross_entropy: 'ignore_index' needs integer labels, got targets of shape"
            f" {tuple(targets.shape)}. A row of zeros has the loss 0."
        )
        raise ConfigError(msg)
    if label_smoothing:
        targets = (1 - label_smoothing) * targets + label_smoothing / classes
    if weights is not None:
        targets = targets * weights
    return reduced(apply(primitives.soft_cross_entropy, (predictions, targets)), reduction)


def _of_labels(
    predictions: Array,
    labels: Array,
    weights: Array | None,
    ignore_index: int | None,
    smoothing: float,
    reduction: str,
) -> Array:
    classes = predictions.shape[-1]
    labels, wrong, counted = safe_labels("cross_entropy", labels, classes, ignore_index)
    xp = array_namespace(labels)
    options: dict[str, Any] = {}
    if smoothing and weights is None:
        options["smoothing"] = smoothing
    if plain := reduction == "mean" and weights is wrong is counted is None:
        options["mean"] = True
    values = apply(primitives.softmax_cross_entropy, (predictions, labels), options)
    if plain:
        return values
    each = None  # how much every example counts, if not 1
    if weights is not None:
        each = xp.reshape(xp.take(weights, xp.reshape(labels, (-1,)), axis=0), labels.shape)
        values = values * each
        if smoothing:
            spread = xp.broadcast_to(weights, tuple(predictions.shape))
            flat = apply(primitives.soft_cross_entropy, (predictions, spread))
            values = (1 - smoothing) * values + smoothing / classes * flat
    yp = array_namespace(values)
    if wrong is not None:
        values = yp.where(wrong, math.nan, values)
    if counted is not None:
        values = yp.where(counted, values, 0.0)
        ones = xp.astype(counted, backend.native_dtype(xp, values.dtype))
        each = ones if each is None else ones * each
    if each is None or reduction != "mean":
        return reduced(values, reduction)
    count = xp.sum(each)
    nothing = count == 0
    mean = yp.sum(values) / xp.where(nothing, xp.ones_like(count), count)
    return yp.where(nothing, math.nan, mean)


@checked_by(
    targets_within("binary_cross_entropy"),
    predictions_within(
        "binary_cross_entropy",
        " End the network in a sigmoid, or take binary_cross_entropy_with_logits.",
    ),
)
def binary_cross_entropy(predictions: Array, targets: Array, *, reduction: str = "mean") -> Array:
    r"""Cross-entropy of probabilities of 1, :math:`-t \log p - (1 - t) \log (1 - p)`.

    For a network that ends in a sigmoid
    :func:`binary_cross_entropy_with_logits` is more precise and cheaper without it.

    Parameters
    ----------
    predictions : array
        Probabilities. ``fit`` looks at the first ones; outside [0, 1] the loss is NaN.
    targets : array of the same shape
        0, 1, or probabilities.
    reduction : {"mean", "sum", "none"}
        Over the elements.

    Notes
    -----
    Logarithms end at -100, as in PyTorch, so the loss is 100 for p = 0 and t = 1; the derivative
    :math:`(1 - t) / (1 - p) - t / p` divides by no less than 1e-12. Clipping p by 1e-8 (npdl:
    1e-11) does nothing in float32. At p = t = 1 the derivative is its limit -1, where PyTorch,
    which divides :math:`p - t` by :math:`p (1 - p)`, has 0.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> p, t = np.asarray([1.0, 0.5, 0.0]), np.asarray([1.0, 1.0, 1.0])
    >>> losses.binary_cross_entropy(p, t, reduction="none").round(6)
    array([  0.      ,   0.693147, 100.      ])
    """
    pair = paired("binary_cross_entropy", predictions, targets)
    return reduced(apply(primitives.binary_cross_entropy, pair), reduction)


@checked_by(targets_within("binary_cross_entropy_with_logits"))
def binary_cross_entropy_with_logits(
    predictions: Array, targets: Array, *, pos_weight: Any = None, reduction: str = "mean"
) -> Array:
    r"""Cross-entropy of logits of 1, without overflow; :math:`\sigma` is the sigmoid.

    .. math:: \ell = -w\, t \log \sigma(x) - (1 - t) \log (1 - \sigma(x))

    Parameters
    ----------
    predictions : array
        Logits: what comes before the sigmoid.
    targets : array of the same shape
        0, 1, or probabilities.
    pos_weight : float, sequence or array, optional
        The weight w of the targets' ones, of a shape that fits the last axes of the predictions, as
        in PyTorch; :math:`n_0 / n_1` balances classes of that many examples. A constant.
    reduction : {"mean", "sum", "none"}
        Over the elements, weighted or not.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> x, t = np.asarray([0.0, 1000.0, -1000.0]), np.asarray([1.0, 1.0, 1.0])
    >>> losses.binary_cross_entropy_with_logits(x, t, reduction="none").round(6)
    array([6.93147e-01, 0.00000e+00, 1.00000e+03])
    """
    who = "binary_cross_entropy_with_logits"
    predictions, targets = paired(who, predictions, targets)
    weight = None
    if pos_weight is not None:
        weight = constant(who, "pos_weight", pos_weight, predictions)
    values = apply(primitives.binary_cross_entropy_with_logits, (predictions, targets, weight))
    return reduced(values, reduction)


@checked_by(
    class_targets("categorical_cross_entropy"),
    predictions_within(
        "categorical_cross_entropy",
        " End the network in a softmax, or take cross_entropy, which wants logits.",
        slack=1e-5,
    ),
)
def categorical_cross_entropy(
    predictions: Array, targets: Array, *, reduction: str = "mean"
) -> Array:
    r"""Cross-entropy of probabilities of classes, :math:`-\sum_j t_j \log p_j`.

    The rows of predictions are taken as they are; yadll divided them by their sums first. For a
    network that ends in a softmax :func:`cross_entropy` is more precise and cheaper without it.

    Parameters
    ----------
    predictions : array of shape (..., classes)
        Probabilities.
    targets : array
        Integer labels of shape (...), or distributions of shape (..., classes).
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
    Logarithms end at -100, and the derivative :math:`-t / p` divides by no less than 1e-12; see
    :func:`binary_cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> p = np.asarray([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    >>> losses.categorical_cross_entropy(p, np.asarray([0, 2]), reduction="none").round(6)
    array([0.693147, 0.      ])
    """
    who = "categorical_cross_entropy"
    predictions = widened(predictions)
    labels = labels_of(who, predictions, targets)
    if labels is None:
        predictions, targets = rows_of(who, predictions, targets)
        xp = array_namespace(predictions, targets)
        logs = apply(primitives.bounded_log, (predictions,))
        return reduced(0.0 - xp.sum(logs * targets, axis=-1), reduction)  # 0.0, not -0.0
    labels, wrong, _ = safe_labels(who, labels, predictions.shape[-1])
    xp = array_namespace(predictions)
    picked = xp.sum(xp.where(hits(labels, predictions.shape[-1]), predictions, 0.0), axis=-1)
    values = 0.0 - apply(primitives.bounded_log, (picked,))
    return reduced(values if wrong is None else xp.where(wrong, math.nan, values), reduction)
