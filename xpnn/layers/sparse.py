"""A sparse layer whose connections evolve."""

from __future__ import annotations

from typing import Any, ClassVar

from xpnn import backend, initializers, random
from xpnn.backend import array_namespace, to_numpy, unwrap
from xpnn.errors import ConfigError
from xpnn.layers.checks import integers
from xpnn.layers.dense import Dense

__all__ = ["SparseEvolution"]

Array = Any


class SparseEvolution(Dense):
    r"""Sparse evolutionary layer, :math:`y = a(x (W \circ M) + b)`, M a mask that changes.

    At first M is a random graph of Erdos and Renyi: each connection is there with probability

    .. math:: p = \min\Big(1, \epsilon \frac{n_{in} + n_{out}}{n_{in} n_{out}}\Big)

    After updates by an optimizer the weakest connections go and as many new ones grow at random
    empty places; see :meth:`evolve`. Mocanu et al. 2018 (SET).

    Parameters
    ----------
    out_features : int
    in_features : int, optional
        The length of the last axis of x; taken from the first input if not given.
    epsilon : float
        How many connections there are, about :math:`\epsilon (n_{in} + n_{out})`.
    zeta : float
        The fraction of the connections that is replaced, in [0, 1].
    every : int
        After how many updates the connections evolve. The paper does it once an epoch, so it should
        be the number of batches of an epoch; 1, the default, suits training with whole data sets.
    activation : str or callable, optional
        The function a; none by default.
    bias : bool
        Whether to add b.
    weight_init, bias_init : str or Initializer
        Glorot & Bengio 2010, uniform, and zeros by default. The fans are those of the full matrix.
    l1, l2 : float
        As for :class:`Dense`.

    Attributes
    ----------
    weight : Parameter of shape (in_features, out_features)
        Outside the mask it is zero after each evolution, and has gradient zero.
    bias : Parameter of shape (out_features,), or None
    mask : bool array of shape (in_features, out_features)
        M, saved with the model.
    updates : int32 array of shape ()
        Updates since the last evolution, saved with the model.
    p : float
        The probability of a connection at first.

    Notes
    -----
    (..., in_features) -> (..., out_features). The matrices are stored in full: it is the number of
    trained weights that is small, not the time of a product.

    ``optimizer.step(layer)``, or of a model that holds the layer, tells it of an update; a list of
    parameters does not. In prediction mode and when frozen it does not evolve. The state of the
    optimizer is left as it is: a momentum of a weight that went moves it on, without effect as long
    as it is masked, and what is left of it meets the new weight if one grows there.

    Evolution is computed on the host, from the library's stream: for the same weights it is the
    same on every device. On a GPU it waits for the weights.

    Mocanu, Mocanu, Stone, Nguyen, Gibescu & Liotta, "Scalable training of artificial neural
    networks with adaptive sparse connectivity inspired by network science", 2018.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> from xpnn import layers
    >>> xpnn.set_seed(0)
    >>> layer = layers.SparseEvolution(100, in_features=300, epsilon=5, activation="relu")
    >>> layer(np.ones((2, 300), np.float32)).shape, int(layer.mask.sum())
    ((2, 100), 1974)
    """

    buffers: ClassVar[tuple[str, ...]] = ("mask", "updates")
    updates: Array
    _counted: Array  # the array in `updates` whose value is `_known`
    _known: int

    def __init__(
        self,
        out_features: int,
        in_features: int | None = None,
        epsilon: float = 20.0,
        zeta: float = 0.3,
        every: int = 1,
        activation: Any = None,
        bias: bool = True,
        weight_init: Any = "glorot_uniform",
        bias_init: Any = "zeros",
        l1: float = 0.0,
        l2: float = 0.0,
    ) -> None:
        who = "SparseEvolution"
        (every,) = integers(who, every=every)
        if not epsilon > 0.0:
            msg = f"{who}: 'epsilon' must be positive, got {epsilon}."
            raise ConfigError(msg)
        if not 0.0 <= zeta <= 1.0:
            msg = f"{who}: 'zeta' must be in [0, 1], got {zeta}."
            raise ConfigError(msg)
        self.epsilon, self.zeta, self.every = epsilon, zeta, every
        super().__init__(
            out_features, in_features, activation, bias, weight_init, bias_init, l1, l2
        )

    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        sizes = tuple(self.weight.shape)
        self.p = min(1.0, self.epsilon * sum(sizes) / (sizes[0] * sizes[1]))
        u = initializers.Uniform(0.0, 1.0)(sizes, dtype="float32", device="cpu")
        self.mask = backend.to_device(u < self.p, backend.get_device())
        self.weight.data = unwrap(self._used_weight())
        self._count(0)

    def _used_weight(self) -> Array:
        xp = array_namespace(self.weight)
        return xp.where(self.mask, self.weight, xp.zeros_like(self.weight))

    def on_update(self) -> None:
        """Count an update, and evolve if it is time."""
        if not self.training or self._frozen:
            return
        if self.every > 1:
            if self.updates is not self._counted:  # loaded, or moved: read once
                self._known = int(self.updates)
            self._count((self._known + 1) % self.every)
            if self._known:
                return
        self.evolve()

    def evolve(self) -> None:
        r"""Drop the weakest connections and grow as many at random empty places.

        Of the :math:`n_+` connections with weight :math:`w \ge 0` the
        :math:`\lfloor \zeta n_+ \rfloor` smallest go, of the :math:`n_-` negative ones the
        :math:`\lfloor \zeta n_- \rfloor` largest. New ones grow where there is none then, which
        includes the places that were just left, with new initial values. Among equal weights, the
        first in the order of the matrix is taken as the smaller.

        Examples
        --------
        >>> from xpnn import layers
        >>> layer = layers.SparseEvolution(20, in_features=30, epsilon=2)
        >>> before = layer.mask
        >>> layer.evolve()
        >>> bool((layer.mask != before).any()), bool(layer.mask.sum() == before.sum())
        (True, True)
        """
        home = backend.device_of(self.weight)
        host = backend.as_device("cpu")
        xp, shape = host.xp, tuple(self.weight.shape)
        weight = xp.reshape(to_numpy(self.weight), (-1,))
        mask = xp.reshape(to_numpy(self.mask), (-1,))

        places = xp.nonzero(mask)[0]
        weights = xp.take(weight, places)
        upwards = xp.take(places, xp.argsort(weights, stable=True))
        negative = int(xp.count_nonzero(weights < 0))
        first = negative - int(self.zeta * negative)
        last = negative + int(self.zeta * (upwards.shape[0] - negative))
        kept = xp.concat([upwards[:first], upwards[last:]])
        mask = backend.put(xp.zeros_like(mask), kept, True)

        empty = xp.nonzero(~mask)[0]
        order = random.get_rng().permutation(empty.shape[0], device="cpu")
        grown = xp.take(empty, order[: last - first])
        with backend.device(host):
            fresh = xp.reshape(self.weight_init(shape), (-1,))
        new = backend.put(xp.zeros_like(weight), kept, xp.take(weight, kept))
        new = backend.put(new, grown, xp.astype(xp.take(fresh, grown), weight.dtype))
        mask = backend.put(mask, grown, True)

        self.weight.data = backend.to_device(xp.reshape(new, shape), home)
        self.mask = backend.to_device(xp.reshape(mask, shape), home)

    def _count(self, n: int) -> None:
        """Note that there were n updates since the last evolution."""
        # The array is for saving. On a GPU reading it would wait, so the number is kept beside it.
        home = backend.get_device() if self._shapes is None else backend.device_of(self.weight)
        self._known = n
        self.updates = self._counted = backend.asarray(n, device=home, dtype="int32")
