"""The autoencoder: plain, denoising, contractive."""

from __future__ import annotations

from typing import Any

from xpnn import activations, backend, initializers, losses, random
from xpnn import functional as F
from xpnn.autograd import vjp
from xpnn.backend import array_namespace
from xpnn.errors import ConfigError
from xpnn.layers.base import Parameter
from xpnn.layers.unsupervised import Unsupervised

__all__ = ["AutoEncoder"]

Array = Any

_LOSSES = ("binary_cross_entropy", "mean_squared_error")


class AutoEncoder(Unsupervised):
    r"""Autoencoder of one layer, :math:`y = a(x W + b)`, :math:`z = a'(y W^T + c)`.

    The layer gives the code y, and stacks; :meth:`loss` compares z with x and trains it. The
    options make it denoising, contractive, or both.

    Parameters
    ----------
    hidden : int
        The length of the code.
    visible : int, optional
        The length of the last axis of x; taken from the first input if not given.
    corruption : float
        The fraction of the inputs that :meth:`loss` sets to zero before it encodes them, in
        training mode (masking noise; Vincent et al. 2008). The others are not rescaled.
    noise_std : float
        The standard deviation of normal noise that it adds, in training mode.
    contraction : float
        The factor of the squared Frobenius norm of the Jacobian dy/dx in the loss (Rifai et al.
        2011).
    tied : bool
        Whether the decoder's weight is the transpose of the encoder's.
    activation : str or callable
        The function a of the encoder. Element-wise, if there is a contraction.
    output_activation : str or callable
        The function a' of the decoder.
    loss : {"binary_cross_entropy", "mean_squared_error"}
        How z is compared with x. The first needs ``output_activation="sigmoid"`` and x in [0, 1].
    weight_init, bias_init, visible_bias_init : str or Initializer
        Glorot & Bengio 2010, uniform, and zeros by default.

    Attributes
    ----------
    weight : Parameter of shape (visible, hidden)
    bias : Parameter of shape (hidden,)
    decoder_weight : Parameter of shape (hidden, visible), or None if tied
    visible_bias : Parameter of shape (visible,)
        c. Like ``decoder_weight`` it gets a gradient from :meth:`loss` only.

    Notes
    -----
    (..., visible) -> (..., hidden).

    The weight decay of a loss is that of the optimizer. yadll compares by a categorical
    cross-entropy of rows that it scales to sum 1, pre-trains with a sigmoid whatever the activation
    is, and has contraction :math:`\lambda \operatorname{mean}_n \sum (y (1 - y) W)^2 / N`, which
    depends on the size N of the batch.

    Vincent, Larochelle, Bengio & Manzagol, "Extracting and composing robust features with denoising
    autoencoders", 2008; Rifai, Vincent, Muller, Glorot & Bengio, "Contractive auto-encoders", 2011.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> from xpnn import layers, optim
    >>> xpnn.set_seed(0)
    >>> x = np.asarray([[1, 1, 0, 0], [0, 0, 1, 1]] * 10, np.float32)
    >>> layer, optimizer = layers.AutoEncoder(2, corruption=0.25), optim.Adam(0.1)
    >>> for _ in range(100):
    ...     loss = layer.loss(x)
    ...     loss.backward()
    ...     optimizer.step(layer)
    >>> bool(abs(layer.reconstruct(x).data - x).max() < 0.1)
    True
    """

    def __init__(
        self,
        hidden: int,
        visible: int | None = None,
        corruption: float = 0.0,
        noise_std: float = 0.0,
        contraction: float = 0.0,
        tied: bool = True,
        activation: Any = "sigmoid",
        output_activation: Any = "sigmoid",
        loss: str = "binary_cross_entropy",
        weight_init: Any = "glorot_uniform",
        bias_init: Any = "zeros",
        visible_bias_init: Any = "zeros",
    ) -> None:
        self._sized(hidden, visible)
        if not 0.0 <= corruption <= 1.0:
            msg = f"AutoEncoder: 'corruption' must be in [0, 1], got {corruption}."
            raise ConfigError(msg)
        for name, value in (("noise_std", noise_std), ("contraction", contraction)):
            if not value >= 0.0:
                msg = f"AutoEncoder: {name!r} must not be negative, got {value}."
                raise ConfigError(msg)
        if loss not in _LOSSES:
            msg = f"AutoEncoder: 'loss' must be one of {', '.join(_LOSSES)}, got {loss!r}."
            raise ConfigError(msg)
        self.corruption, self.noise_std, self.contraction = corruption, noise_std, contraction
        self.tied, self.compared_by = tied, loss
        self.activation = activations.get(activation)
        self.output_activation = activations.get(output_activation)
        if loss == "binary_cross_entropy" and self.output_activation is not activations.sigmoid:
            msg = (
                "AutoEncoder: binary_cross_entropy compares probabilities, so it needs"
                f" output_activation='sigmoid', got {output_activation!r}. For other outputs say"
                " loss='mean_squared_error'."
            )
            raise ConfigError(msg)
        function = getattr(self.activation, "func", self.activation)  # of a partial
        if contraction and function in (F.softmax, F.log_softmax):
            msg = (
                "AutoEncoder: 'contraction' takes the derivative of each unit by its own input;"
                f" in {activation!r} every unit depends on all. Use an element-wise activation."
            )
            raise ConfigError(msg)
        self.weight_init = initializers.get(weight_init)
        self.bias_init = initializers.get(bias_init)
        self.visible_bias_init = initializers.get(visible_bias_init)
        if visible is not None:
            self.ensure_built((1, visible))

    def build(self, shape: tuple[int, ...]) -> None:
        self.visible = self._width(shape)
        self.weight = Parameter(self.weight_init((self.visible, self.hidden)))
        self.bias = Parameter(self.bias_init((self.hidden,)))
        self.decoder_weight = None
        if not self.tied:
            self.decoder_weight = Parameter(self.weight_init((self.hidden, self.visible)))
        self.visible_bias = Parameter(self.visible_bias_init((self.visible,)))

    def forward(self, x: Array) -> Array:
        self._look_at(x)
        return self.activation(F.linear(x, self.weight, self.bias))

    def encode(self, x: Array) -> Array:
        """Return the code y, without noise: (..., visible) -> (..., hidden)."""
        return self(x)

    def decode(self, y: Array) -> Array:
        """Return what a code stands for: (..., hidden) -> (..., visible)."""
        self._look_at_code("decode", y)
        return self.output_activation(self._decoded(y))

    def reconstruct(self, x: Array) -> Array:
        """Return z, what is left of x after its code, without noise."""
        return self.decode(self.encode(x))

    def loss(self, x: Array) -> Array:
        r"""Return how far reconstructions are from examples.

        .. math:: \frac1N \sum_n \Big[ \sum_i \ell(z_{ni}, x_{ni})
                  + \lambda \sum_{ij} \Big(\frac{\partial y_{nj}}{\partial x_{ni}}\Big)^2 \Big]

        with :math:`\ell = -x \log z - (1 - x) \log(1 - z)` or :math:`(z - x)^2`, and z the
        reconstruction of x with noise on it, in training mode; in prediction mode there is none.
        The sum is over the units and the mean over the examples, as in the papers.

        Parameters
        ----------
        x : array of shape (..., visible)

        Returns
        -------
        Tensor of shape ()

        Notes
        -----
        The Jacobian is taken where the code is computed, at the input with its noise. For an
        element-wise a it is :math:`a'(x W + b)_j W_{ij}`, so that its squares sum to
        :math:`\sum_j a'_j{}^2 \sum_i W_{ij}^2`; for the sigmoid :math:`a' = y (1 - y)`.
        """
        self._look_at(x)
        noisy = self._corrupted(x) if self.training else x
        before = F.linear(noisy, self.weight, self.bias)
        after = self._decoded(self.activation(before))
        xp = array_namespace(after)
        if self.compared_by == "binary_cross_entropy":
            each = losses.binary_cross_entropy_with_logits(after, x, reduction="none")
        else:
            z = self.output_activation(after)
            each = losses.mean_squared_error(z, x, reduction="none")
        total = xp.sum(each, axis=-1)
        if self.contraction:
            total = total + self.contraction * self._jacobian(before)
        return xp.mean(total)

    def _decoded(self, y: Array) -> Array:
        """Return the decoder's output before its activation."""
        weight = self.weight.T if self.decoder_weight is None else self.decoder_weight
        return F.linear(y, weight, self.visible_bias)

    def _corrupted(self, x: Array) -> Array:
        """Return x with masking noise, then normal noise."""
        home, rng = backend.device_of(x), random.get_rng()
        if self.corruption:
            xp = array_namespace(x)
            kept = rng.bernoulli(1.0 - self.corruption, tuple(x.shape), device=home)
            x = xp.where(kept, x, xp.zeros_like(x))
        if self.noise_std:
            x = x + rng.normal(tuple(x.shape), std=self.noise_std, dtype=x.dtype, device=home)
        return x

    def _jacobian(self, before: Array) -> Array:
        """Return the squared Frobenius norm of the encoder's Jacobian, one an example."""
        xp = array_namespace(before)
        _, pullback = vjp(self.activation, before)
        slope = pullback(xp.ones_like(before))
        return xp.sum(slope * slope * xp.sum(self.weight * self.weight, axis=0), axis=-1)
