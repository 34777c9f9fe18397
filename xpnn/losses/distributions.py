"""Losses of distributions: divergences, and the evidence bound of variational autoencoders."""

from __future__ import annotations

import math
from typing import Any

from xpnn.autograd.record import apply
from xpnn.backend import array_namespace
from xpnn.errors import ConfigError, ShapeError
from xpnn.losses._checks import checked_by, predictions_within, targets_within
from xpnn.losses._common import paired, reduced, rows_of
from xpnn.primitives.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    bounded_log,
    bounded_sqrt,
)

__all__ = ["hellinger", "kl_divergence", "vae_elbo"]

Array = Any

_SOFTMAX = " End the network in a softmax."


@checked_by(
    targets_within("kl_divergence"), predictions_within("kl_divergence", _SOFTMAX, slack=1e-5)
)
def kl_divergence(predictions: Array, targets: Array, *, reduction: str = "mean") -> Array:
    r"""Kullback-Leibler divergence of the predictions from the targets, both probabilities.

    .. math:: \ell = \sum_j t_j \log \frac{t_j}{p_j} = D_{KL}(t \,\|\, p)

    The direction in which a maximum of the likelihood is found. It is
    ``torch.nn.functional.kl_div(log(p), t, reduction="batchmean")``; PyTorch's own "mean" divides
    by the number of elements.

    Parameters
    ----------
    predictions, targets : arrays of shape (..., classes)
        Probabilities; neither is normalized here.
    reduction : {"mean", "sum", "none"}
        Over the examples.

    Notes
    -----
    :math:`0 \log 0 = 0`. Logarithms end at -100 and derivatives divide by no less than 1e-12, so
    that value and gradient are finite where a prediction is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> p, t = np.asarray([[0.5, 0.5]]), np.asarray([[1.0, 0.0]])
    >>> round(float(losses.kl_divergence(p, t)), 6)  # log(2)
    0.693147
    """
    predictions, targets = rows_of("kl_divergence", predictions, targets)
    surplus = apply(bounded_log, (predictions,)) - apply(bounded_log, (targets,))
    values = 0.0 - array_namespace(surplus).sum(surplus * targets, axis=-1)  # 0.0, not -0.0
    return reduced(values, reduction)


@checked_by(targets_within("hellinger"), predictions_within("hellinger", _SOFTMAX, slack=1e-5))
def hellinger(predictions: Array, targets: Array, *, reduction: str = "mean") -> Array:
    r"""Hellinger distance of two distributions, from 0 (equal) to 1 (disjoint).

    .. math:: \ell = \sqrt{\tfrac 1 2 \sum_j \left(\sqrt{p_j} - \sqrt{t_j}\right)^2}

    npdl has the sum over :math:`\sqrt 2` instead, which is no distance.

    Parameters
    ----------
    predictions, targets : arrays of shape (..., classes)
        Probabilities; neither is normalized here.
    reduction : {"mean", "sum", "none"}
        Over the examples.

    Notes
    -----
    The distance has no derivative where p = t, and an infinite one where :math:`p_j = 0 < t_j`. A
    root's derivative is taken to be :math:`1 / (2 \max(\sqrt x, 10^{-6}))`: at p = t the gradient
    is 0, at :math:`p_j = t_j = 0` element j has gradient 0, elsewhere it is finite and points the
    right way.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> float(losses.hellinger(np.asarray([[1.0, 0.0]]), np.asarray([[0.0, 1.0]])))
    1.0
    """
    predictions, targets = rows_of("hellinger", predictions, targets)
    difference = apply(bounded_sqrt, (predictions,)) - apply(bounded_sqrt, (targets,))
    halves = 0.5 * array_namespace(difference).sum(difference * difference, axis=-1)
    return reduced(apply(bounded_sqrt, (halves,)), reduction)


def vae_elbo(
    predictions: tuple[Array, Array, Array],
    targets: Array,
    *,
    likelihood: str = "bernoulli",
    variance: float = 1.0,
    reduction: str = "mean",
) -> Array:
    r"""Negative evidence lower bound of a variational autoencoder (Kingma & Welling 2014).

    .. math:: \ell = -\log p(t \mid z) + D_{KL}\left(N(\mu, \sigma^2) \,\|\, N(0, 1)\right),
              \qquad D_{KL} = -\tfrac 1 2 \sum_j (1 + \log \sigma_j^2 - \mu_j^2 - \sigma_j^2)

    an upper bound of :math:`-\log p(t)` in nats; z is one sample, as in the paper's estimator B.

    Parameters
    ----------
    predictions : tuple of three arrays
        ``(reconstruction, mean, log_variance)``, what the network returns for a batch: the first of
        the shape of the targets, the others of shape (examples, latent).
    targets : array of shape (examples, ...)
        What should have been reconstructed.
    likelihood : {"bernoulli", "bernoulli_logits", "gaussian"}
        What the reconstruction is of each element's distribution: the probability of 1, its logit,
        or the mean of a normal distribution.
    variance : float
        Of the normal distribution.
    reduction : {"mean", "sum", "none"}
        Over the examples; what belongs to one is added up.

    Notes
    -----
    numpy-ml's ``VAELoss`` is the first likelihood.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import losses
    >>> x, zeros = np.asarray([[1.0, 0.0]]), np.zeros((1, 3))
    >>> round(float(losses.vae_elbo((np.full((1, 2), 0.5), zeros, zeros), x)), 6)  # 2 log(2)
    1.386294
    """
    if not isinstance(predictions, (tuple, list)) or len(predictions) != 3:
        msg = (
            "vae_elbo: expected predictions (reconstruction, mean, log_variance), got"
            f" {type(predictions).__name__}. Let the network return the three as a tuple."
        )
        raise ShapeError(msg)
    reconstruction, mean, log_variance = predictions
    reconstruction, targets = paired("vae_elbo", reconstruction, targets)
    mean, log_variance = paired("vae_elbo: of mean and log_variance", mean, log_variance)
    if mean.ndim < 1 or reconstruction.ndim < 1 or mean.shape[0] != reconstruction.shape[0]:
        msg = (
            f"vae_elbo: expected as many examples in all, got a reconstruction of shape"
            f" {tuple(reconstruction.shape)} and a mean of shape {tuple(mean.shape)}."
        )
        raise ShapeError(msg)
    if likelihood == "bernoulli":
        unlikely = apply(binary_cross_entropy, (reconstruction, targets))
    elif likelihood == "bernoulli_logits":
        unlikely = apply(binary_cross_entropy_with_logits, (reconstruction, targets, None))
    elif likelihood == "gaussian":
        if not variance > 0.0:
            msg = f"vae_elbo: 'variance' must be positive, got {variance}."
            raise ConfigError(msg)
        error = reconstruction - targets
        unlikely = 0.5 / variance * error * error + 0.5 * math.log(2 * math.pi * variance)
    else:
        known = "'bernoulli', 'bernoulli_logits' or 'gaussian'"
        msg = f"vae_elbo: 'likelihood' must be {known}, got {likelihood!r}."
        raise ConfigError(msg)
    xp = array_namespace(mean, log_variance)
    divergence = 0.5 * (mean * mean + xp.expm1(log_variance) - log_variance)
    return reduced(_by_example(unlikely) + _by_example(divergence), reduction)


def _by_example(x: Array) -> Array:
    """Return the sums over all axes but the first."""
    xp = array_namespace(x)
    return xp.sum(xp.reshape(x, (x.shape[0], math.prod(x.shape[1:]))), axis=1)
