"""Losses with weights: many classes, of which a few are looked at."""

from __future__ import annotations

import math
from typing import Any

from xpnn import backend, initializers, losses, random
from xpnn import functional as F
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers.base import Layer, Parameter
from xpnn.layers.checks import integers, require_floats
from xpnn.losses.sampling import mean_over_noise

__all__ = ["NegativeSampling"]

Array = Any


class NegativeSampling(Layer):
    r"""The last layer of a model of very many classes, with its loss: the target against noise.

    In training, K classes are drawn from the noise distribution q, and the loss of an example is

    .. math:: -\log \sigma(s_t) - \sum_{k=1}^K \log \sigma(-s_k), \qquad s_j = h \cdot w_j + b_j

    with :math:`s_j - \log K q_j` in place of :math:`s_j` for ``objective="nce"``; see
    :func:`xpnn.losses.negative_sampling` and :func:`xpnn.losses.nce`. In prediction mode nothing is
    drawn: the loss is its mean over all noise, :math:`K \sum_j q_j \dots` in place of the sum,
    which takes the scores of all classes.

    Parameters
    ----------
    num_classes : int
    num_samples : int
        K, the noise classes of an example.
    noise : "uniform" or sequence of float
        Numbers to which the probabilities q are proportional, one a class. Word counts to the power
        0.75 are those of word2vec.
    objective : {"negative_sampling", "nce"}
        Mikolov et al. 2013, or noise-contrastive estimation (Gutmann & Hyvarinen 2010), whose
        scores become logarithms of probabilities; it needs noise that can be every class.
    shared : bool
        Whether one draw of noise serves all examples of a call, whose scores are then one product.
    in_features : int, optional
        The length of the last axis of hidden; taken from the first input if not given.
    bias : bool
        Whether scores have a bias; word2vec has none.
    weight_init, bias_init : str or Initializer
        Glorot & Bengio 2010, uniform, and zeros by default.

    Attributes
    ----------
    weight : Parameter of shape (in_features, num_classes)
    bias : Parameter of shape (num_classes,), or None
    log_noise : array of shape (num_classes,)
        The logarithms of q; a buffer.

    Notes
    -----
    ``layer(hidden, targets)``: (..., in_features), integers (...) -> (...), the loss of each
    example. Take the mean, and differentiate; :meth:`logits` gives the scores of all classes.
    numpy-ml's ``NCELoss`` adds the examples up.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layer = layers.NegativeSampling(1000, num_samples=5)
    >>> loss = layer(np.ones((32, 16), np.float32), np.arange(32))
    >>> loss.shape, layer.logits(np.ones((2, 16), np.float32)).shape
    ((32,), (2, 1000))
    """

    buffers = ("log_noise",)

    def __init__(
        self,
        num_classes: int,
        num_samples: int = 64,
        noise: Any = "uniform",
        objective: str = "negative_sampling",
        shared: bool = True,
        in_features: int | None = None,
        bias: bool = True,
        weight_init: Any = "glorot_uniform",
        bias_init: Any = "zeros",
    ) -> None:
        num_classes, num_samples, in_features = integers(
            "NegativeSampling",
            num_classes=num_classes, num_samples=num_samples, in_features=in_features,
        )  # fmt: skip
        if objective not in ("negative_sampling", "nce"):
            msg = (
                "NegativeSampling: 'objective' must be 'negative_sampling' or 'nce', got"
                f" {objective!r}."
            )
            raise ConfigError(msg)
        self.num_classes, self.num_samples = num_classes, num_samples
        self.objective, self.shared = objective, shared
        self.in_features, self.use_bias = in_features, bias
        self.weight_init = initializers.get(weight_init)
        self.bias_init = initializers.get(bias_init)
        self._noise = self._distribution(noise)
        if in_features is not None:
            self.ensure_built((1, in_features), (1,))

    def _distribution(self, noise: Any) -> random.Discrete | None:
        """Return the noise distribution, or None for the uniform one, which needs no table."""
        if isinstance(noise, str):
            if noise == "uniform":
                return None
            msg = (
                f"NegativeSampling: 'noise' must be 'uniform' or one number a class, got {noise!r}."
            )
            raise ConfigError(msg)
        found = random.Discrete(noise)
        if len(found) != self.num_classes:
            msg = (
                f"NegativeSampling(num_classes={self.num_classes}): 'noise' has"
                f" {len(found)} numbers; it needs one a class."
            )
            raise ConfigError(msg)
        if self.objective == "nce" and not found.probabilities.all():
            msg = (
                "NegativeSampling: with objective 'nce' the noise must be able to be every class,"
                " but it has zeros. Give them a small number."
            )
            raise ConfigError(msg)
        return found

    def build(self, shape: tuple[int, ...], targets: tuple[int, ...] = ()) -> None:
        if not shape:
            msg = "NegativeSampling: expected hidden with at least one axis, got a scalar."
            raise ShapeError(msg)
        self.in_features = self.in_features or shape[-1]
        self.weight = Parameter(self.weight_init((self.in_features, self.num_classes)))
        self.bias = Parameter(self.bias_init((self.num_classes,))) if self.use_bias else None
        self.log_noise = backend.asarray(self._log_probabilities())

    def _log_probabilities(self) -> list[float]:
        if self._noise is None:
            return [-math.log(self.num_classes)] * self.num_classes
        return [math.log(q) if q else -math.inf for q in self._noise.probabilities.tolist()]

    def forward(self, hidden: Array, targets: Array) -> Array:
        self._fits(hidden)
        if not self.training:
            return mean_over_noise(
                self.objective, hidden, self.weight, self.bias, targets, self.num_samples,
                self.log_noise,
            )  # fmt: skip
        given = (hidden, self.weight, self.bias, targets, self._draw(hidden))
        if self.objective == "nce":
            return losses.nce(*given, self.log_noise, reduction="none")
        return losses.negative_sampling(*given, reduction="none")

    def logits(self, hidden: Array) -> Array:
        """Return the scores of all classes: (..., in_features) -> (..., num_classes).

        Logits of a softmax; after training with "nce" they are logarithms of probabilities, up to
        how far it has come.
        """
        if self._shapes is None:
            self.ensure_built(tuple(hidden.shape), tuple(hidden.shape[:-1]))
        self._fits(hidden)
        return F.linear(hidden, self.weight, self.bias)

    def _fits(self, hidden: Array) -> None:
        require_floats("NegativeSampling", hidden)
        if hidden.ndim < 1 or hidden.shape[-1] != self.in_features:
            msg = (
                f"NegativeSampling(in_features={self.in_features}): expected hidden with last axis"
                f" {self.in_features}, got shape {tuple(hidden.shape)}."
            )
            raise ShapeError(msg)

    def _draw(self, hidden: Array) -> Array:
        lead = () if self.shared else tuple(hidden.shape[:-1])
        shape, home = (*lead, self.num_samples), backend.device_of(hidden)
        if self._noise is None:
            return random.get_rng().integers(0, self.num_classes, shape, device=home)
        return self._noise.draw(shape, device=home)
