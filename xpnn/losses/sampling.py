"""Losses of many classes by a few of them: the target against classes drawn from noise.

The scores of all classes are a product with the whole weight. These losses compute them for the
target and K noise classes only, and teach to tell one from the other.
"""

from __future__ import annotations

import math
from typing import Any

from xpnn import functional as F
from xpnn.autograd.record import apply
from xpnn.backend import array_namespace, unwrap
from xpnn.errors import ShapeError
from xpnn.losses._checks import require_integers
from xpnn.losses._common import beside, constant, hits, reduced, require_floats, safe_labels
from xpnn.primitives.losses import binary_cross_entropy_with_logits

__all__ = ["mean_over_noise", "nce", "negative_sampling"]

Array = Any


def negative_sampling(
    hidden: Array,
    weight: Array,
    bias: Array | None,
    targets: Array,
    noise: Array,
    *,
    reduction: str = "mean",
) -> Array:
    r"""Negative sampling (Mikolov et al. 2013, equation 4).

    .. math:: \ell = -\log \sigma(s_t) - \sum_{k=1}^K \log \sigma(-s_k), \qquad
              s_j = h \cdot w_j + b_j

    It learns good vectors, not probabilities of classes; for those see :func:`nce`.

    Parameters
    ----------
    hidden : array of shape (..., features)
    weight : array of shape (features, classes)
    bias : array of shape (classes,), or None
        The paper has none.
    targets : integer array of shape (...)
    noise : integer array of shape (K,) or (..., K)
        Classes drawn at random: for all examples together, which makes their scores one product, or
        for each. A noise class that happens to be the target counts as noise too.
    reduction : {"mean", "sum", "none"}
        Over the examples.

    Raises
    ------
    ShapeError
        If the shapes do not belong together.
    DataError
        If a target is out of range; on a GPU its loss is NaN instead. Noise is not looked at.

    See Also
    --------
    xpnn.layers.NegativeSampling : draws the noise.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> h, w = np.ones((2, 3)), np.zeros((3, 5))
    >>> loss = losses.negative_sampling(h, w, None, np.asarray([0, 4]), np.asarray([1, 2, 2]))
    >>> round(float(loss), 6)  # 4 log(2)
    2.772589
    """
    who, noise = "negative_sampling", beside(noise, hidden)
    labels, wrong = _checked(who, hidden, weight, bias, targets, noise)
    target = _scores(hidden, weight, bias, labels[..., None])
    return _told_apart(target, _scores(hidden, weight, bias, noise), wrong, reduction)


def nce(
    hidden: Array,
    weight: Array,
    bias: Array | None,
    targets: Array,
    noise: Array,
    log_noise: Any,
    *,
    reduction: str = "mean",
) -> Array:
    r"""Noise-contrastive estimation (Gutmann & Hyvarinen 2010; of classes: Mnih & Teh 2012).

    .. math:: \ell = -\log \sigma(s_t - \log K q_t) - \sum_{k=1}^K \log \sigma(-s_k + \log K q_k),
              \qquad s_j = h \cdot w_j + b_j

    With many noise samples its minimum is that of the cross-entropy, and the scores become
    logarithms of probabilities that need no normalization. As TensorFlow's ``nce_loss``.

    Parameters
    ----------
    hidden, weight, bias, targets, noise, reduction
        As for :func:`negative_sampling`; the noise is drawn from q.
    log_noise : sequence or array of shape (classes,)
        Logarithms of the probabilities q that the noise has, all finite. Constants.

    Raises
    ------
    ShapeError, DataError
        As for :func:`negative_sampling`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> h, w, log_q = np.ones((2, 3)), np.zeros((3, 4)), np.full(4, -np.log(4))
    >>> targets, noise = np.asarray([0, 3]), np.asarray([1, 2, 2, 0])
    >>> round(float(losses.nce(h, w, None, targets, noise, log_q)), 6)  # 5 log(2), as K q = 1
    3.465736
    """
    noise = beside(noise, hidden)
    labels, wrong = _checked("nce", hidden, weight, bias, targets, noise)
    shape = (weight.shape[1],)
    expected = constant("nce", "log_noise", log_noise, hidden, shape) + math.log(noise.shape[-1])
    xp = array_namespace(expected)

    def surplus(classes: Array) -> Array:
        by_noise = xp.reshape(xp.take(expected, xp.reshape(classes, (-1,)), axis=0), classes.shape)
        return _scores(hidden, weight, bias, classes) - by_noise

    return _told_apart(surplus(labels[..., None]), surplus(unwrap(noise)), wrong, reduction)


def mean_over_noise(
    objective: str,
    hidden: Array,
    weight: Array,
    bias: Array | None,
    targets: Array,
    samples: int,
    log_noise: Any,
) -> Array:
    r"""Return the means of the two losses over their noise, for each example: without chance.

    .. math:: -\log \sigma(s_t) - K \sum_j q_j \log \sigma(-s_j)

    Parameters
    ----------
    objective : {"negative_sampling", "nce"}
    hidden, weight, bias, targets, log_noise
        As for :func:`nce`; logarithms may be -inf for negative sampling.
    samples : int
        K.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.losses.sampling import mean_over_noise
    >>> h, w, log_q = np.ones((1, 3)), np.zeros((3, 4)), np.full(4, -np.log(4))
    >>> mean_over_noise("negative_sampling", h, w, None, np.asarray([2]), 5, log_q).round(6)
    array([4.158883])
    """
    labels, wrong = _checked(objective, hidden, weight, bias, targets, None)
    classes = weight.shape[1]
    log_q = constant(objective, "log_noise", log_noise, hidden, (classes,))
    scores = F.linear(hidden, weight, bias)
    if objective == "nce":
        scores = scores - (log_q + math.log(samples))
    xp = array_namespace(scores)
    target = xp.sum(xp.where(hits(labels, classes), scores, 0.0), axis=-1)
    values = _hit(target) + samples * xp.sum(
        _miss(scores) * array_namespace(log_q).exp(log_q), axis=-1
    )
    return values if wrong is None else xp.where(wrong, math.nan, values)


def _hit(scores: Array) -> Array:
    raw = unwrap(scores)
    ones = array_namespace(raw).ones_like(raw)
    return apply(binary_cross_entropy_with_logits, (scores, ones, None))


def _miss(scores: Array) -> Array:
    raw = unwrap(scores)
    zeros = array_namespace(raw).zeros_like(raw)
    return apply(binary_cross_entropy_with_logits, (scores, zeros, None))


def _told_apart(target: Array, noise: Array, wrong: Array | None, reduction: str) -> Array:
    """Return the binary cross-entropies of a target and its noise, added up."""
    hit, miss = _hit(target)[..., 0], _miss(noise)
    xp = array_namespace(hit)
    values = hit + xp.sum(miss, axis=-1)
    return reduced(values if wrong is None else xp.where(wrong, math.nan, values), reduction)


def _scores(hidden: Array, weight: Array, bias: Array | None, classes: Array) -> Array:
    """Return the scores of some classes: of (K,), the same for all, or (..., K), for each."""
    xp = array_namespace(hidden, weight)
    classes = unwrap(classes)
    flat = array_namespace(classes).reshape(classes, (-1,))
    columns = xp.take(weight, flat, axis=1)
    if classes.ndim == 1:
        scores = hidden @ columns
    else:
        d, k = weight.shape[0], classes.shape[-1]
        n = math.prod(hidden.shape[:-1])
        each = xp.permute_dims(xp.reshape(columns, (d, n, k)), (1, 0, 2))
        scores = xp.reshape(xp.reshape(hidden, (n, 1, d)) @ each, tuple(classes.shape))
    if bias is not None:
        scores = scores + xp.reshape(xp.take(bias, flat, axis=0), tuple(classes.shape))
    return scores


def _checked(
    who: str, hidden: Array, weight: Array, bias: Array | None, targets: Array, noise: Array | None
) -> tuple[Array, Array | None]:
    """Return labels in range, and which were not, after a look at all shapes."""
    require_floats(who, hidden)
    if weight.ndim != 2 or hidden.ndim < 1 or hidden.shape[-1] != weight.shape[0]:
        msg = (
            f"{who}: expected hidden of shape (..., features) and weight of shape (features,"
            f" classes), got {tuple(hidden.shape)} and {tuple(weight.shape)}."
        )
        raise ShapeError(msg)
    lead, classes = tuple(hidden.shape[:-1]), weight.shape[1]
    if bias is not None and tuple(bias.shape) != (classes,):
        msg = f"{who}: expected a bias of shape ({classes},), got {tuple(bias.shape)}."
        raise ShapeError(msg)
    targets = beside(targets, hidden)
    require_integers(who, targets, "targets")
    if tuple(targets.shape) != lead:
        msg = (
            f"{who}: hidden of shape {tuple(hidden.shape)} needs targets of shape {lead}, got"
            f" {tuple(targets.shape)}."
        )
        raise ShapeError(msg)
    if noise is not None:
        require_integers(who, noise, "noise")
    if noise is not None and (noise.ndim < 1 or tuple(noise.shape[:-1]) not in ((), lead)):
        msg = (
            f"{who}: expected noise of shape (K,), or {(*lead, 'K')} for each example, got"
            f" {tuple(noise.shape)}."
        )
        raise ShapeError(msg)
    labels, wrong, _ = safe_labels(who, unwrap(targets), classes)
    return labels, wrong
