"""Layers that are random in training and the identity in prediction."""

from __future__ import annotations

from typing import Any

from xpnn import functional as F
from xpnn.errors import ConfigError
from xpnn.layers.base import Layer
from xpnn.layers.dense import require_floats

__all__ = ["Dropout"]

Array = Any


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
        if not 0.0 <= p <= 1.0:
            msg = f"Dropout: 'p' must be in [0, 1], got {p}."
            raise ConfigError(msg)
        self.p = p

    def forward(self, x: Array) -> Array:
        require_floats("Dropout", x)
        return F.dropout(x, self.p, training=self.training)
