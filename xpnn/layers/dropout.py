"""Layers that are random in training and the identity, or a mean, in prediction.

Masks and noise come from the library's random stream: one seed gives the same run on every device.
"""

from __future__ import annotations

from typing import Any, ClassVar

from xpnn import functional as F
from xpnn.errors import ConfigError
from xpnn.layers.base import Layer
from xpnn.layers.checks import require_floats
from xpnn.layers.dense import Dense

__all__ = ["AlphaDropout", "DropConnect", "Dropout", "GaussianNoise"]

Array = Any


def _probability(who: str, p: float) -> float:
    if not 0.0 <= p <= 1.0:
        msg = f"{who}: 'p' must be in [0, 1], got {p}."
        raise ConfigError(msg)
    return p


class Dropout(Layer):
    r"""Set elements to zero with probability ``p`` in training, scale the others by 1 / (1 - p).

    Inverted dropout (Srivastava et al. 2014): prediction needs no rescaling. The mask comes from
    the library's random stream: one seed gives the same mask on every device.

    Parameters
    ----------
    p : float
        The fraction dropped, in [0, 1].

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> xpnn.set_seed(0)
    >>> xpnn.layers.Dropout(0.5)(np.ones(8, np.float32)).data
    array([0., 2., 0., 2., 0., 0., 2., 2.], dtype=float32)
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = _probability("Dropout", p)

    def forward(self, x: Array) -> Array:
        require_floats("Dropout", x)
        return F.dropout(x, self.p, training=self.training)


class AlphaDropout(Layer):
    r"""Dropout for networks of SELU: what is dropped becomes SELU's value on the far left.

    .. math:: y = a\,(m x + (1 - m)\,\alpha') + b, \qquad \alpha' = -1.7580993...

    with the numbers :math:`a` and :math:`b` that keep a mean of 0 and a variance of 1; see
    :func:`xpnn.functional.alpha_dropout`.

    Parameters
    ----------
    p : float
        The fraction dropped, in [0, 1).

    Notes
    -----
    The identity in prediction. Source: Klambauer, Unterthiner, Mayr and Hochreiter,
    "Self-normalizing neural networks", 2017, where 0.05 and 0.1 are the fractions in use.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> xpnn.set_seed(0)
    >>> y = xpnn.layers.AlphaDropout(0.1)(xpnn.get_rng().normal((100, 100)))
    >>> abs(float(xpnn.ops.mean(y))) < 0.05, abs(float(xpnn.ops.var(y)) - 1) < 0.05
    (True, True)
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0.0 <= p < 1.0:
            msg = f"AlphaDropout: 'p' must be in [0, 1), got {p}."
            raise ConfigError(msg)
        self.p = p

    def forward(self, x: Array) -> Array:
        require_floats("AlphaDropout", x)
        return F.alpha_dropout(x, self.p, training=self.training)


class GaussianNoise(Layer):
    r"""Add noise in training, :math:`y = x + \epsilon` with :math:`\epsilon \sim N(0, \sigma^2)`.

    Parameters
    ----------
    std : float
        :math:`\sigma`, in the units of x; not negative.

    Notes
    -----
    The identity in prediction. Keras has the layer by this name; before a network it is the
    corruption of a denoising autoencoder.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> xpnn.set_seed(0)
    >>> xpnn.layers.GaussianNoise(0.1)(np.ones(3)).data.round(3)
    array([1.016, 1.298, 0.807])
    """

    functions: ClassVar[tuple[str, ...]] = ("gaussian_noise",)

    def __init__(self, std: float) -> None:
        if not 0.0 <= std < float("inf"):
            msg = f"GaussianNoise: 'std' must be non-negative and finite, got {std}."
            raise ConfigError(msg)
        self.std = std

    def forward(self, x: Array) -> Array:
        require_floats("GaussianNoise", x)
        return F.gaussian_noise(x, self.std, training=self.training)


class DropConnect(Dense):
    r"""Fully connected layer that drops weights, :math:`y = a(x\,(m \circ W) / (1 - p) + b)`.

    In training each weight is left out with probability ``p``, and the others are scaled by
    1 / (1 - p), so that what comes in at :math:`a` has the same mean in training and in prediction,
    where all weights are used as they are. The bias is never dropped, and ``weight`` itself is not
    changed: a new mask is drawn at each call.

    Parameters
    ----------
    out_features : int
    p : float
        The fraction of the weights dropped, in [0, 1].
    in_features, activation, bias, weight_init, bias_init, l1, l2
        As for :class:`Dense`.

    Attributes
    ----------
    weight : Parameter of shape (in_features, out_features)
    bias : Parameter of shape (out_features,), or None

    Notes
    -----
    (..., in_features) -> (..., out_features). One mask serves the whole batch, as in yadll; Wan,
    Zeiler, Zhang, LeCun and Fergus, "Regularization of neural networks using DropConnect", 2013,
    draw one an example (a batch times the memory of the weight), drop the bias as well, and average
    over activations in prediction.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> xpnn.set_seed(0)
    >>> layer = xpnn.layers.DropConnect(4, p=0.5, weight_init="ones")
    >>> layer(np.ones((2, 3), np.float32)).data
    array([[2., 4., 4., 6.],
           [2., 4., 4., 6.]], dtype=float32)
    >>> layer.eval()(np.ones((1, 3), np.float32)).data
    array([[3., 3., 3., 3.]], dtype=float32)
    """

    def __init__(
        self,
        out_features: int,
        p: float = 0.5,
        in_features: int | None = None,
        activation: Any = None,
        bias: bool = True,
        weight_init: Any = "glorot_uniform",
        bias_init: Any = "zeros",
        l1: float = 0.0,
        l2: float = 0.0,
    ) -> None:
        self.p = _probability("DropConnect", p)
        super().__init__(
            out_features, in_features, activation, bias, weight_init, bias_init, l1, l2
        )

    def _used_weight(self) -> Array:
        return F.dropout(super()._used_weight(), self.p, training=self.training)
