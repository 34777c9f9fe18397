"""Random numbers: one seed gives the same run on every device.

:mod:`xpnn.random.stream` has the counter-based stream, :mod:`xpnn.random.context` the one of the
context, :mod:`xpnn.random.discrete` draws classes of given probabilities from a stream.
"""

from __future__ import annotations

from xpnn.random.context import get_rng, set_rng, set_seed
from xpnn.random.discrete import Discrete
from xpnn.random.stream import Stream

__all__ = ["Discrete", "Stream", "get_rng", "set_rng", "set_seed"]
