"""Normalization."""

from __future__ import annotations

from typing import Any

from xpnn import backend
from xpnn.autograd.record import apply
from xpnn.primitives import normalization

__all__ = ["batch_norm"]

Array = Any


def batch_norm(
    x: Array,
    scale: Array | None = None,
    shift: Array | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    statistics: tuple[Array, Array] | None = None,
) -> tuple[Array, Array, Array]:
    r"""Normalize each channel, :math:`\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta`.

    Parameters
    ----------
    x : array
    scale, shift : array of shape (channels,), optional
        :math:`\gamma` and :math:`\beta`.
    axis : int
        The axis of the channels; the statistics are over all others.
    epsilon : float
        Inside the root.
    statistics : (mean, variance), optional
        Of each channel, for prediction; taken from ``x`` if not given (the variance over n, not
        n - 1).

    Returns
    -------
    y, mean, variance : arrays

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> y, mean, variance = F.batch_norm(np.asarray([[1.0], [3.0]]), epsilon=0.0)
    >>> y[:, 0], mean, variance
    (array([-1.,  1.]), array([2.]), array([1.]))
    """
    axis %= x.ndim
    options: dict[str, Any] = {
        "axes": tuple(i for i in range(x.ndim) if i != axis), "epsilon": epsilon,
    }  # fmt: skip
    if statistics is None:
        return apply(normalization.batch_norm, (x, scale, shift), options)
    mean, variance = statistics
    xp = backend.array_namespace(x, mean, scale, shift)
    y = normalization.batch_norm_inference(xp, x, mean, variance, scale, shift, **options)
    return y, mean, variance
