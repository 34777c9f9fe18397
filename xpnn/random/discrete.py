r"""Numbers of classes with given probabilities, the same on every device.

A word :math:`w` of 64 random bits is looked up among the cumulative probabilities, counted in steps
of :math:`2^{-64}`: both are integers, so every device draws the same classes.

.. math:: i = \left|\{ j : c_j \le w \}\right|, \qquad
          c_j = \left\lfloor 2^{64} \sum_{k \le j} p_k \right\rfloor
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn import backend
from xpnn.errors import ConfigError
from xpnn.random import stream
from xpnn.random.context import get_rng

__all__ = ["Discrete"]

Array = Any

_HIGHEST = 2.0**64 - 2.0**11  # the largest float64 below 2**64


class Discrete:
    r"""The classes 0, ..., n - 1 with given probabilities.

    A draw takes one word of 64 bits a class and a binary search, :math:`O(\log n)`; no class's
    probability is off by more than rounding its cumulative probability to float64. (Vose's alias
    method, which numpy-ml's ``DiscreteSampler`` uses, needs no search but a word more.)

    Parameters
    ----------
    weights : sequence or array of shape (n,)
        Numbers to which the probabilities are proportional: at least 0, finite, not all 0. A class
        of weight 0 is never drawn. Word counts to the power 0.75 are the noise of word2vec.

    Attributes
    ----------
    probabilities : NumPy array of shape (n,), float64
        The weights over their sum.

    Raises
    ------
    ConfigError
        For weights that are none.

    Examples
    --------
    >>> from xpnn.random import Discrete, Stream
    >>> Discrete([1, 0, 3]).draw(8, rng=Stream(0))
    array([0, 0, 0, 2, 2, 2, 2, 2])
    """

    def __init__(self, weights: Any) -> None:
        found = np.asarray(backend.to_numpy(weights), dtype=np.float64)
        if found.ndim != 1 or not found.size:
            msg = f"Discrete: expected weights of shape (n,), one a class, got {found.shape}."
            raise ConfigError(msg)
        wrong = ~(np.isfinite(found) & (found >= 0))
        if wrong.any() or not found.any():
            value = found[wrong][0] if wrong.any() else "zeros only"
            msg = f"Discrete: weights must be finite, at least 0, and not all 0; got {value}."
            raise ConfigError(msg)
        scaled = found / found.max()  # so that no sum overflows
        self.probabilities = scaled / scaled.sum()
        cumulative = np.cumsum(scaled)
        # The end of the last class that can be drawn is 2**64, which no word reaches.
        last = int(np.flatnonzero(found)[-1])
        ends = cumulative[:last] / cumulative[-1] * 2.0**64
        self._ends = np.minimum(ends, _HIGHEST).astype(np.uint64)
        self._moved: dict[str, Array] = {}

    def draw(
        self, shape: stream.Size, *, rng: stream.Stream | None = None, device: Any = None
    ) -> Array:
        """Return random classes (int64), the same on every device.

        Parameters
        ----------
        shape : int or tuple of int
        rng : Stream, optional
            Default: the stream of the context, :func:`xpnn.get_rng`.
        device : optional
            Default: :func:`xpnn.get_device`.

        Raises
        ------
        ShapeError
            For a shape that it cannot take.
        """
        chosen = get_rng() if rng is None else rng
        target = backend.get_device() if device is None else backend.as_device(device)
        ends = self._ends
        if hasattr(stream._source(target.library), "discrete"):
            name = str(target)
            if name not in self._moved:  # once: a GPU waits for what comes from the host
                self._moved[name] = backend.to_device(ends, target)
            ends = self._moved[name]
        return chosen._draw("discrete", 1, shape, target, ends)

    def __len__(self) -> int:
        return len(self.probabilities)

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what lies on devices."""
        return {**vars(self), "_moved": {}}

    def __repr__(self) -> str:
        return f"Discrete({len(self)} classes)"
