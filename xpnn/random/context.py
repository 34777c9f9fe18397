"""The stream of the context: the one that is drawn from where none is named."""

from __future__ import annotations

from contextvars import ContextVar

from xpnn.errors import ConfigError
from xpnn.random.stream import Stream

__all__ = ["get_rng", "set_rng", "set_seed"]

_rng: ContextVar[Stream | None] = ContextVar("xpnn_rng", default=None)


def get_rng() -> Stream:
    """Return the stream that layers, initializers and shuffles draw from.

    Until one is set, each context (so each thread) gets a stream of its own with fresh entropy; a
    worker thread that must follow the seed is given the stream, or a :meth:`Stream.spawn` of it.

    Examples
    --------
    >>> from xpnn.random import get_rng, set_seed
    >>> set_seed(0)
    >>> get_rng()
    Stream(seed=0, counter=0)
    """
    stream = _rng.get()
    if stream is None:
        stream = Stream()
        _rng.set(stream)
    return stream


def set_rng(stream: Stream) -> None:
    """Make layers, initializers and shuffles of this context draw from ``stream``."""
    if not isinstance(stream, Stream):
        msg = f"set_rng: expected a Stream, got {stream!r}. Did you mean xpnn.set_seed(...)?"
        raise ConfigError(msg)
    _rng.set(stream)


def set_seed(seed: int | None) -> None:
    """Start a new stream with this seed in this context; None takes fresh entropy."""
    set_rng(Stream(seed))
