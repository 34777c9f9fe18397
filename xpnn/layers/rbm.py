"""The restricted Boltzmann machine."""

from __future__ import annotations

from typing import Any, ClassVar

from xpnn import backend, initializers, random
from xpnn import functional as F
from xpnn.autograd import Tensor
from xpnn.backend import array_namespace, unwrap
from xpnn.errors import ConfigError
from xpnn.layers.base import Parameter
from xpnn.layers.checks import integers
from xpnn.layers.unsupervised import Unsupervised

__all__ = ["RBM"]

Array = Any

_SMALL = initializers.Normal(0.0, 0.01)  # Hinton 2010, section 8
_CHAINS = 100


class _Bits(initializers.Initializer):
    """0 or 1, each as likely."""

    def draw(self, shape: tuple[int, ...], rng: random.Stream) -> Array:
        return rng.bernoulli(0.5, shape, device="cpu")


class RBM(Unsupervised):
    r"""Restricted Boltzmann machine of binary units, :math:`h = \sigma(x W + b)`.

    A joint distribution of visible and hidden bits with the energy

    .. math:: E(v, h) = -v \cdot c - h \cdot b - v W h, \qquad
              F(v) = -v \cdot c - \sum_j \log(1 + e^{(v W + b)_j})

    where the free energy F is that of v alone, :math:`p(v) \propto e^{-F(v)}`. The layer gives the
    probabilities of the hidden units, and so stacks to a deep belief network; :meth:`loss` trains
    it by contrastive divergence.

    Parameters
    ----------
    hidden : int
        How many hidden units.
    visible : int, optional
        How many visible units; taken from the first input if not given.
    k : int
        Steps of Gibbs sampling between the data and what they are compared with (CD-k).
    persistent : bool
        Whether the sampling goes on from where it stood after the last loss, instead of from the
        data (PCD, Tieleman 2008).
    chains : int, optional
        How many persistent chains are kept; 100, as in the paper, if not given.
    weight_init, bias_init, visible_bias_init : str or Initializer
        N(0, 0.01**2) and zeros by default, as Hinton advises. For the bias of the visible units he
        prefers log(p / (1 - p)), with p the part of the examples in which the unit is on.

    Attributes
    ----------
    weight : Parameter of shape (visible, hidden)
    bias : Parameter of shape (hidden,)
        b, of the hidden units.
    visible_bias : Parameter of shape (visible,)
        c. Only :meth:`loss` gives it a gradient.
    particles : array of shape (chains, visible)
        The visible units of the persistent chains, saved with the model; at first random bits.

    Notes
    -----
    (..., visible) -> (..., hidden). The input is bits, or probabilities of bits in [0, 1].

    A unit with probability p is on if a uniform number from the library's stream is below p. Those
    numbers are the same bits on every device; the probabilities are the same up to rounding, so a
    unit whose probability is within rounding of its number may differ.

    Hinton, "A practical guide to training restricted Boltzmann machines", 2010; Tieleman,
    "Training restricted Boltzmann machines using approximations to the likelihood gradient", 2008.
    In the loss all units of a chain are sampled, as in Tieleman's paper and in yadll; numpy-ml
    keeps the visible units as probabilities, as :meth:`reconstruct` does here.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> from xpnn import layers, optim
    >>> xpnn.set_seed(0)
    >>> x = np.asarray([[1, 1, 0, 0], [0, 0, 1, 1]] * 10, np.float32)
    >>> rbm, optimizer = layers.RBM(hidden=2), optim.SGD(0.5)
    >>> for _ in range(300):
    ...     loss = rbm.loss(x)
    ...     loss.backward()
    ...     optimizer.step(rbm)
    >>> bool(rbm.reconstruction_error(x) < 0.05)
    True
    """

    buffers: ClassVar[tuple[str, ...]] = ("particles",)

    def __init__(
        self,
        hidden: int,
        visible: int | None = None,
        k: int = 1,
        persistent: bool = False,
        chains: int | None = None,
        weight_init: Any = _SMALL,
        bias_init: Any = "zeros",
        visible_bias_init: Any = "zeros",
    ) -> None:
        self._sized(hidden, visible)
        k, chains = integers("RBM", k=k, chains=chains)
        if chains is not None and not persistent:
            msg = "RBM: 'chains' says how many persistent chains are kept; say persistent=True."
            raise ConfigError(msg)
        self.k, self.persistent, self.chains = k, persistent, chains or _CHAINS
        self.weight_init = initializers.get(weight_init)
        self.bias_init = initializers.get(bias_init)
        self.visible_bias_init = initializers.get(visible_bias_init)
        if visible is not None:
            self.ensure_built((1, visible))

    def build(self, shape: tuple[int, ...]) -> None:
        self.visible = self._width(shape)
        self.weight = Parameter(self.weight_init((self.visible, self.hidden)))
        self.bias = Parameter(self.bias_init((self.hidden,)))
        self.visible_bias = Parameter(self.visible_bias_init((self.visible,)))
        if self.persistent:
            self.particles = _Bits()((self.chains, self.visible))

    def forward(self, x: Array) -> Array:
        self._look_at(x)
        return F.sigmoid(F.linear(x, self.weight, self.bias))

    def free_energy(self, x: Array) -> Array:
        r"""Return :math:`F(x) = -x \cdot c - \sum_j \log(1 + e^{(x W + b)_j})`, one an example.

        Parameters
        ----------
        x : array of shape (..., visible)

        Returns
        -------
        Tensor of shape (...)
            Minus the logarithm of p(x), but for a constant: that of all states together.

        Examples
        --------
        >>> import numpy as np
        >>> from xpnn import layers
        >>> rbm = layers.RBM(hidden=2, visible=3, weight_init="zeros")
        >>> rbm.free_energy(np.ones((1, 3), np.float32)).data  # -2 log(2)
        array([-1.3862944], dtype=float32)
        """
        self._look_at(x)
        z = F.linear(x, self.weight, self.bias)
        xp = array_namespace(z)
        return -xp.matmul(x, self.visible_bias) - xp.sum(F.softplus(z), axis=-1)

    def loss(self, x: Array) -> Array:
        r"""Return the free energy of examples less that of samples, whose gradient is that of CD-k.

        .. math:: \frac1N \sum_n F(x_n) - \frac1M \sum_m F(v_m), \qquad
            \frac{\partial}{\partial W} = \frac1M \sum_m v_m \sigma(v_m W + b)
            - \frac1N \sum_n x_n \sigma(x_n W + b)

        The samples v are k steps of Gibbs sampling away from the examples, or, if persistent, from
        where the chains stood; they are constants for the gradient. Its value says little: it is
        near zero all the time. Watch :meth:`pseudo_likelihood` or :meth:`reconstruction_error`.

        Parameters
        ----------
        x : array of shape (..., visible)

        Returns
        -------
        Tensor of shape ()

        Notes
        -----
        Every unit of the chain is sampled. The last hidden units, those of the gradient, are
        probabilities, as Hinton advises: sampling them would only add noise. In prediction mode
        (``eval()``) persistent chains stay where they are.
        """
        self._look_at(x)
        v = self._gibbs(self.particles if self.persistent else unwrap(x), self.k)
        if self.persistent and self.training:
            self.particles = v
        x, v = (array_namespace(a).reshape(a, (-1, self.visible)) for a in (x, v))
        n = x.shape[0]
        energies = self.free_energy(array_namespace(x).concat([x, v]))  # in one product
        xp = array_namespace(energies)
        return xp.mean(energies[:n]) - xp.mean(energies[n:])

    def reconstruct(self, x: Array, n_steps: int = 1, return_prob: bool = False) -> Array:
        """Return what the machine makes of examples after some steps of Gibbs sampling.

        In every step the hidden units are sampled, and the visible ones are probabilities, from
        which the next step starts (as in numpy-ml, after Hinton 2010, section 3).

        Parameters
        ----------
        x : array of shape (..., visible)
        n_steps : int
        return_prob : bool
            Whether to return the last probabilities of the visible units; bits sampled from them
            if False.

        Returns
        -------
        Tensor of the shape of x
            Without a gradient.
        """
        integers("RBM.reconstruct", n_steps=n_steps)
        self._look_at(x)
        p = self._gibbs(unwrap(x), n_steps, probabilities=True)
        return Tensor(p if return_prob else _sampled(p))

    def sample_hidden(self, x: Array) -> Array:
        """Return hidden bits for visible units: (..., visible) -> (..., hidden), no gradient."""
        self._look_at(x)
        return Tensor(_sampled(self._hidden(unwrap(x))))

    def sample_visible(self, h: Array) -> Array:
        """Return visible bits for hidden units: (..., hidden) -> (..., visible), no gradient."""
        self._look_at_code("sample_visible", h)
        return Tensor(_sampled(self._visible(unwrap(h))))

    def pseudo_likelihood(self, x: Array) -> Array:
        r"""Estimate the logarithm of the pseudo-likelihood of examples, their mean.

        .. math:: \sum_i \log p(v_i | v_{-i}) \approx
                  V \log \sigma(F(\tilde v) - F(v))

        with :math:`\tilde v` the bits v with one of the V bits turned over, another random one in
        every example; the expectation over that bit is the sum. It rises while the model learns,
        and is a monitor, not a likelihood.

        Parameters
        ----------
        x : array of shape (..., visible)
            Rounded to bits.

        Returns
        -------
        Tensor of shape ()
            Without a gradient.

        Notes
        -----
        Turning over bit i adds :math:`\pm W_i` to :math:`z = v W + b`, which takes no second
        product of matrices. yadll and deeplearning.net turn over the same bit in all examples, the
        next one at every call.
        """
        self._look_at(x)
        raw = unwrap(x)
        xp = array_namespace(raw)
        home = backend.device_of(raw)
        n = self.visible or 0
        bits = xp.reshape(xp.round(raw), (-1, n))
        at = random.get_rng().integers(0, n, tuple(raw.shape[:-1]), device=home)
        at = xp.reshape(at, (-1,))
        weight, bias, c = map(unwrap, (self.weight, self.bias, self.visible_bias))
        hit = at[:, None] == xp.arange(n, dtype=at.dtype, device=home.native)
        step = 1.0 - 2.0 * xp.sum(xp.where(hit, bits, xp.zeros_like(bits)), axis=-1)  # 1 turns on
        z = F.linear(bits, weight, bias)
        turned = z + step[:, None] * xp.take(weight, at, axis=0)
        gap = step * xp.take(c, at, axis=0) + xp.sum(F.softplus(turned) - F.softplus(z), axis=-1)
        return Tensor(-n * xp.mean(F.softplus(gap)))

    def measures(self, x: Array) -> dict[str, Array]:
        """Return the :meth:`pseudo_likelihood`, as the loss says little."""
        return {"pseudo_likelihood": self.pseudo_likelihood(x)}

    def reconstruction_error(self, x: Array) -> Array:
        """Return the mean squared difference of examples and their reconstruction in one step.

        The reconstruction is made of probabilities, from sampled hidden units. Hinton (2010,
        section 5) warns that it may fall while the model gets worse.

        Parameters
        ----------
        x : array of shape (..., visible)

        Returns
        -------
        Tensor of shape ()
            Without a gradient; the mean over units and examples.
        """
        difference = unwrap(x) - unwrap(self.reconstruct(x, return_prob=True))
        return Tensor(array_namespace(difference).mean(difference * difference))

    # ------------------------------------------------------------- on raw arrays, off the tape

    def _hidden(self, v: Array) -> Array:
        """Return the probabilities of the hidden units."""
        return F.sigmoid(F.linear(v, unwrap(self.weight), unwrap(self.bias)))

    def _visible(self, h: Array) -> Array:
        """Return the probabilities of the visible units."""
        return F.sigmoid(F.linear(h, unwrap(self.weight).T, unwrap(self.visible_bias)))

    def _gibbs(self, v: Array, steps: int, probabilities: bool = False) -> Array:
        """Return the visible units after some steps, sampled or as probabilities."""
        for _ in range(steps):
            p = self._visible(_sampled(self._hidden(v)))
            v = p if probabilities else _sampled(p)
        return v


def _sampled(p: Array) -> Array:
    """Return 1 with probability p, else 0."""
    home = backend.device_of(p)
    u = random.get_rng().uniform(tuple(p.shape), dtype=p.dtype, device=home)
    return array_namespace(p).astype(u < p, p.dtype)
