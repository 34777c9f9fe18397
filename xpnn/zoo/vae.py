"""The variational autoencoder."""

from __future__ import annotations

import math
from typing import Any

from xpnn import functional as F
from xpnn import layers, losses, optim
from xpnn.backend import array_namespace, device_of, on_host, unwrap
from xpnn.layers.base import Layer
from xpnn.layers.checks import integers
from xpnn.losses._checks import check_range
from xpnn.random import get_rng
from xpnn.training import Sequential
from xpnn.zoo.data import unlabelled
from xpnn.zoo.generative import Generative, only_x
from xpnn.zoo.recipe import recipe

__all__ = ["VAE", "vae"]

Array = Any


class VAE(Generative):
    r"""A variational autoencoder: Gaussian codes, pixels that are 0 or 1 (Kingma & Welling 2014).

    .. math:: z = \mu(x) + \sigma(x) \odot \varepsilon, \quad \varepsilon \sim N(0, 1), \qquad
              p(x \mid z) = \text{Bernoulli}(\text{decoder}(z))

    It is trained with the negative evidence lower bound, :func:`xpnn.losses.vae_elbo`, of which
    ``fit`` and ``evaluate`` report both parts: ``reconstruction``, :math:`-\log p(x \mid z)`, and
    ``kl``, the divergence of the codes from N(0, 1); in nats an example. One code is drawn an
    example, in training and in prediction mode, from the random stream.

    Parameters
    ----------
    encoder : Layer
        From x to features, of which two dense layers make :math:`\mu` and :math:`\log \sigma^2`.
    decoder : Layer
        From codes (N, latent) to logits of the pixels, in any shape of the right size.
    latent : int
        The length of a code.

    Attributes
    ----------
    mean, log_variance : Dense
        The two layers on top of the encoder.

    Notes
    -----
    Called on x of shape (N, ...) with numbers in [0, 1] it returns what ``vae_elbo`` takes: logits
    of the shape of x, and mean and log-variance of shape (N, latent). Greys are taken as
    probabilities, whose bound is not that of binary pixels. numpy-ml's ``BernoulliVAE`` takes
    the variance for the deviation when it draws codes.

    Raises
    ------
    DataError
        In training and evaluation, for targets, and for x outside [0, 1]; on a GPU nobody looks.
    ShapeError
        If the decoder's output has not as many numbers as x.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> from xpnn import layers, zoo
    >>> xpnn.set_seed(0)
    >>> encoder = xpnn.Sequential([layers.Flatten(), layers.Dense(32, activation="tanh")])
    >>> decoder = xpnn.Sequential([layers.Dense(32, activation="tanh"), layers.Dense(64)])
    >>> model = zoo.VAE(encoder, decoder, latent=5)
    >>> x = np.ones((4, 8, 8), np.float32)
    >>> logits, mean, log_variance = model(x)
    >>> logits.shape, mean.shape, model.sample(3).shape
    ((4, 8, 8), (4, 5), (3, 8, 8))
    """

    def __init__(self, encoder: Layer, decoder: Layer, latent: int = 20) -> None:
        super().__init__()
        (self.latent,) = integers("VAE", latent=latent)
        self.encoder = encoder
        self.mean = layers.Dense(self.latent)
        self.log_variance = layers.Dense(self.latent)
        self.decoder = decoder

    def forward(self, x: Array) -> tuple[Array, Array, Array]:
        mean, log_variance = self.encode(x)
        xp = array_namespace(mean)
        noise = get_rng().normal(mean.shape, dtype=mean.dtype, device=device_of(mean))
        z = mean + xp.exp(0.5 * log_variance) * noise
        return self._shaped(self.decoder(z), "decoder"), mean, log_variance

    def encode(self, x: Array) -> tuple[Array, Array]:
        """Return mean and log-variance of the codes of x, each (N, latent)."""
        features = self.encoder(x)
        return self.mean(features), self.log_variance(features)

    def decode(self, z: Array) -> Array:
        """Return the probabilities of the pixels for codes: (N, latent) -> (N, ...)."""
        self._built()
        return F.sigmoid(self._shaped(self.decoder(z), "decoder"))

    def generate(self, z: Array) -> Array:
        return self.decode(z)

    def reconstruct(self, x: Array) -> Array:
        """Return what the model makes of x by the mean of its code: a raw array like x."""
        self._built()
        return self._predicted(lambda: self.decode(self.encode(x)[0]))

    def objective(self, batch: Any) -> tuple[Array, dict[str, Array]]:
        x = only_x(self, batch, weights=True)
        if on_host(x):
            check_range("VAE", "pixels", x, 1.0, " Divide them by the largest, such as 255.")
        found = self(x)
        bounds = losses.vae_elbo(found, x, likelihood="bernoulli_logits", reduction="none")
        _, mean, log_variance = (unwrap(part) for part in found)
        xp = array_namespace(mean)
        divergences = 0.5 * xp.sum(mean * mean + xp.expm1(log_variance) - log_variance, axis=1)
        bound, kl = _mean(bounds, batch.weight), _mean(divergences, batch.weight)
        penalty = self.penalties()
        loss = bound if penalty is None else bound + penalty
        return loss, {"reconstruction": unwrap(bound) - kl, "kl": kl}


def _mean(values: Array, weight: Array | None) -> Array:
    xp = array_namespace(values)
    if weight is None:
        return xp.mean(values)
    return xp.sum(weight * values) / array_namespace(weight).sum(weight)


def _sample(model: VAE) -> Array:
    return model.sample(64)


@recipe(epochs=50, batch_size=100, data=unlabelled, reconstruct=VAE.reconstruct, samples=_sample)
def vae(
    shape: tuple[int, ...],
    classes: int | None = None,
    *,
    lr: float = 1e-3,
    latent: int = 20,
    hidden: int = 500,
) -> VAE:
    """Variational autoencoder, one hidden layer each way, for pixels in [0, 1].

    The network of Kingma & Welling 2014, section 5: 500 hidden units and 20 latent variables,
    batches of 100. Different: ReLU in place of tanh and Adam in place of Adagrad, which learn
    faster. numpy-ml's ``BernoulliVAE`` has convolutions in the encoder; they are given to
    :class:`VAE` as its ``encoder``.

    Parameters
    ----------
    shape : tuple of int
        Of one example, numbers in [0, 1].
    classes : None
        Not used: there are no labels.
    lr : float
        Of Adam.
    latent : int
        The length of a code.
    hidden : int
        Units of the hidden layers.

    Returns
    -------
    VAE
        Compiled; trained by ``fit(x)``.
    """
    relu: dict[str, Any] = {"activation": "relu", "weight_init": "he_uniform"}
    encoder = Sequential([layers.Flatten(), layers.Dense(hidden, **relu)])
    decoder = Sequential([layers.Dense(hidden, **relu), layers.Dense(math.prod(shape))])
    model = VAE(encoder, decoder, latent)
    model.compile(optimizer=optim.Adam(lr))
    return model
