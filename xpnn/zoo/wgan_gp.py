"""The Wasserstein GAN with gradient penalty."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xpnn import layers, optim
from xpnn.autograd.transforms import grad, no_grad
from xpnn.backend import array_namespace, device_of, unwrap
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers.base import Layer
from xpnn.layers.checks import integers
from xpnn.random import get_rng
from xpnn.training import Sequential
from xpnn.zoo.data import unlabelled
from xpnn.zoo.generative import Generative, only_x
from xpnn.zoo.recipe import recipe

__all__ = ["WassersteinGAN", "critic_loss", "gradient_norms", "wgan_gp"]

Array = Any

_ADAM = ("adam", {"lr": 1e-4, "beta1": 0.0, "beta2": 0.9})  # the paper's
_SQUARE = 1e-12  # added to a squared norm: the root has no derivative at 0


def gradient_norms(critic: Callable[[Array], Array], x: Array) -> Array:
    r"""Return the norm of a critic's gradient at each example, itself on the tape.

    .. math:: \lVert \nabla_{x_n} D(x_n) \rVert_2

    Parameters
    ----------
    critic : callable
        One number for each example, which depends on that example alone: no batch normalization.
    x : array of shape (N, ...)

    Returns
    -------
    array of shape (N,)
        Differentiable once more, with respect to what the critic depends on.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.zoo import gradient_norms
    >>> gradient_norms(lambda x: 3 * x[:, 0] - 4 * x[:, 1], np.ones((2, 2)))
    array([5., 5.])
    """
    slopes = grad(lambda x: array_namespace(x).sum(critic(x)))(x)
    xp = array_namespace(slopes)
    flat = xp.reshape(slopes, (slopes.shape[0], math.prod(slopes.shape[1:])))
    return xp.sqrt(xp.sum(flat * flat, axis=1) + _SQUARE)


def critic_loss(
    critic: Callable[[Array], Array], x: Array, fake: Array, penalty: float = 10.0
) -> tuple[Array, dict[str, Array]]:
    r"""Return the loss of a critic on examples and samples, and what it consists of.

    .. math:: \ell_D = E[D(\tilde x)] - E[D(x)]
              + \lambda E\left[(\lVert \nabla D(\hat x) \rVert_2 - 1)^2\right], \qquad
              \hat x = \epsilon x + (1 - \epsilon) \tilde x

    Gulrajani et al. 2017, algorithm 1, with the penalty on both sides of 1; :math:`\epsilon` is
    drawn from U[0, 1), one an example.

    Parameters
    ----------
    critic : callable
        As for :func:`gradient_norms`.
    x, fake : arrays of shape (N, ...)
        Examples and samples.
    penalty : float
        :math:`\lambda`.

    Returns
    -------
    loss : Tensor
    values : dict of arrays
        ``generator_loss`` (:math:`-E[D(\tilde x)]`), ``wasserstein`` and ``gradient_norm``.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.zoo import critic_loss
    >>> x, fake = np.ones((2, 1)), np.zeros((2, 1))
    >>> loss, values = critic_loss(lambda x: 2 * x[:, 0], x, fake)
    >>> round(float(loss), 6), float(values["wasserstein"])  # 10 (2 - 1)^2 - (2 - 0)
    (8.0, 2.0)
    """
    raw = unwrap(x)
    share = get_rng().uniform(
        (raw.shape[0],) + (1,) * (raw.ndim - 1), dtype=raw.dtype, device=device_of(raw)
    )
    norms = gradient_norms(critic, share * raw + (1.0 - share) * unwrap(fake))
    real, made = critic(x), critic(fake)
    xp = array_namespace(real, norms)
    distance, generator_loss = xp.mean(real) - xp.mean(made), -xp.mean(made)
    loss = penalty * xp.mean((norms - 1.0) ** 2) - distance
    values = {
        "generator_loss": generator_loss,
        "wasserstein": distance,
        "gradient_norm": xp.mean(norms),
    }
    return loss, {name: unwrap(value) for name, value in values.items()}


class WassersteinGAN(Generative):
    r"""A generator against a critic that is held to slopes of 1 (Gulrajani et al. 2017, WGAN-GP).

    The critic D learns the Wasserstein distance between data x and samples G(z), the generator to
    make it small:

    .. math:: \ell_D = E[D(G(z))] - E[D(x)]
              + \lambda E\left[(\lVert \nabla D(\hat x) \rVert_2 - 1)^2\right], \qquad
              \ell_G = -E[D(G(z))], \qquad
              \hat x = \epsilon x + (1 - \epsilon) G(z)

    with :math:`z \sim N(0, 1)` and :math:`\epsilon \sim U[0, 1)`, one an example. A step of ``fit``
    is one of the critic; after every ``critic_steps`` of these the generator takes one.

    Parameters
    ----------
    generator : Layer
        From codes (N, latent) to examples, in any shape of the right size.
    critic : Layer
        From examples to one number each, (N,) or (N, 1). No batch normalization: the slope is that
        of an example.
    latent : int
        The length of a code.
    penalty : float
        :math:`\lambda`.
    critic_steps : int
        Steps of the critic for one of the generator.

    Notes
    -----
    Called on examples (N, ...) it returns what the critic says, (N,); :meth:`sample` draws new
    ones. ``fit(x)`` and ``evaluate(x)`` report ``loss`` (:math:`\ell_D`), ``generator_loss``,
    ``wasserstein`` (:math:`E[D(x)] - E[D(G(z))]`, the estimate of the distance) and
    ``gradient_norm`` (the mean). On data that was not trained with, a ``wasserstein`` that rises
    away from that of training says that the critic overfits. numpy-ml's ``WGAN_GPLoss`` is the
    same loss, its gradient with respect to the scores of the wrong sign.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> from xpnn import layers, optim, zoo
    >>> xpnn.set_seed(0)
    >>> generator = xpnn.Sequential([layers.Dense(8, activation="relu"), layers.Dense(2)])
    >>> critic = xpnn.Sequential([layers.Dense(8, activation="relu"), layers.Dense(1)])
    >>> model = zoo.WassersteinGAN(generator, critic, latent=3)
    >>> model.compile(optimizer=optim.Adam(1e-3, beta1=0.0, beta2=0.9))
    >>> model(np.ones((4, 2), np.float32)).shape, model.sample(5).shape
    ((4,), (5, 2))
    """

    generator_optimizer: Any = None

    def __init__(
        self,
        generator: Layer,
        critic: Layer,
        latent: int = 64,
        penalty: float = 10.0,
        critic_steps: int = 5,
    ) -> None:
        super().__init__()
        self.latent, self.critic_steps = integers(
            "WassersteinGAN", latent=latent, critic_steps=critic_steps
        )
        if not penalty >= 0.0:
            msg = f"WassersteinGAN: 'penalty' must not be negative, got {penalty}."
            raise ConfigError(msg)
        self.penalty_factor = penalty
        self.generator, self.critic = generator, critic

    def compile(
        self,
        loss: Any = None,
        optimizer: Any = _ADAM,
        metrics: Any = (),
        *,
        loss_weights: Any = None,
        precision: str | None = None,
        generator_optimizer: Any = None,
    ) -> None:
        """Choose how to train.

        Parameters
        ----------
        loss, metrics, loss_weights
            None can be given: the loss is that of the class.
        optimizer : str or Optimizer
            Of the critic; the paper's Adam by default.
        precision : str, optional
            As for other models.
        generator_optimizer : str or Optimizer, optional
            Of the generator; if not given, one like the critic's.
        """
        if loss is not None or loss_weights is not None or tuple(metrics):
            msg = "WassersteinGAN.compile: it has its own loss and metrics; give optimizers only."
            raise ConfigError(msg)
        super().compile(optimizer=optimizer, precision=precision)
        if generator_optimizer is None:
            generator_optimizer = self.optimizer.to_config()
        self.generator_optimizer = optim.get(generator_optimizer)
        if self.generator_optimizer is self.optimizer:
            msg = "WassersteinGAN.compile: critic and generator need an optimizer each."
            raise ConfigError(msg)

    @property
    def optimizers(self) -> dict[str, Any]:
        return {"critic": self.optimizer, "generator": self.generator_optimizer}

    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        self._predicted(lambda: self.generate(self._zeros()))

    def forward(self, x: Array) -> Array:
        scores = self.critic(x)
        if math.prod(scores.shape) != x.shape[0]:
            msg = (
                f"WassersteinGAN: the critic made {tuple(scores.shape)} of {x.shape[0]} examples,"
                " expected one number each. End it in Dense(1)."
            )
            raise ShapeError(msg)
        return array_namespace(scores).reshape(scores, (x.shape[0],))

    def generate(self, z: Array) -> Array:
        """Return what the generator makes of codes: (N, latent) -> (N, ...)."""
        return self._shaped(self.generator(z), "generator")

    def objective(self, batch: Any) -> tuple[Array, dict[str, Array]]:
        x = only_x(self, batch)
        with no_grad():
            if self._shapes is None:  # called once it is built, with the generator
                self(x)
            fake = unwrap(self.generate(self._codes(x.shape[0])))
        loss, values = critic_loss(self, x, fake, self.penalty_factor)
        penalty = self.penalties()
        return loss if penalty is None else loss + penalty, values

    def train_step(self, batch: Any) -> dict[str, Array]:
        values = self.add_gradients(batch)  # of the critic: the samples were made off the tape
        self.apply_gradients(self.optimizer, self.critic)
        if self.optimizer.steps % self.critic_steps == 0:
            with self.autocast():
                scores = self(self.generate(self._codes(batch.x.shape[0])))
                loss = -array_namespace(scores).mean(scores)
            self.backpropagate(loss)
            self.apply_gradients(self.generator_optimizer, self.generator)
            self.critic.zero_grad()  # of its part in the generator's loss
        return values


def _sample(model: WassersteinGAN) -> Array:
    return model.sample(64)


@recipe(
    epochs=80,
    batch_size=64,
    least_steps=4200,
    monitor="val_wasserstein",
    data=unlabelled,
    samples=_sample,
)
def wgan_gp(
    shape: tuple[int, ...],
    classes: int | None = None,
    *,
    lr: float = 5e-4,
    latent: int = 64,
    hidden: int = 512,
    penalty: float = 10.0,
    critic_steps: int = 5,
) -> WassersteinGAN:
    """Wasserstein GAN with gradient penalty, of dense networks.

    Three hidden layers of 512 in generator and critic, and the settings of Gulrajani et al. 2017:
    Adam with betas 0 and 0.9, a penalty of 10, five steps of the critic for one of the generator,
    batches of 64. numpy-ml's ``WGAN_GP`` has these networks too, with RMSprop. Different: the
    learning rate is 5e-4 for the few steps that the digits give, where the paper has 1e-4 and
    hundreds of thousands; the generator ends in a sigmoid, as pixels are in [0, 1].

    Parameters
    ----------
    shape : tuple of int
        Of one example, numbers in [0, 1].
    classes : None
        Not used: there are no labels.
    lr : float
        Of both optimizers.
    latent : int
        The length of a code.
    hidden : int
        Units of each hidden layer.
    penalty : float
        What the penalty is multiplied by.
    critic_steps : int
        Steps of the critic for one of the generator.

    Returns
    -------
    WassersteinGAN
        Compiled; trained by ``fit(x)``, each batch a step of the critic.
    """

    def hidden_layers(activation: str) -> list[layers.Layer]:
        return [
            layers.Dense(hidden, activation=activation, weight_init="he_uniform") for _ in range(3)
        ]

    generator = Sequential(
        [*hidden_layers("relu"), layers.Dense(math.prod(shape), activation="sigmoid")]
    )
    critic = Sequential([layers.Flatten(), *hidden_layers("leaky_relu"), layers.Dense(1)])
    model = WassersteinGAN(generator, critic, latent, penalty, critic_steps)
    model.compile(optimizer=optim.Adam(lr, beta1=0.0, beta2=0.9))
    return model
