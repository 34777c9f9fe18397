"""Which search it is, as JSON: so that no other goes on in its folder."""

from __future__ import annotations

import inspect
import math
import zlib
from typing import Any

from xpnn import backend
from xpnn.callbacks import Callback
from xpnn.errors import ConfigError
from xpnn.search.space import described

__all__ = ["looks"]

_PIECE = 2**20  # elements of a large array that are looked at together


def looks(x: Any) -> Any:
    """Return what identifies an argument of fit as far as JSON can say it.

    Of an array that is its dtype, shape and checksum; of a callback the arguments that it keeps; of
    something else that JSON has no words for, its class.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.search.identity import looks
    >>> looks((np.ones(3), [0.5, None]))
    ['float64 (3,), checksum 78ac6fa1', [0.5, None]]
    """
    if isinstance(x, (tuple, list)):
        return [looks(part) for part in x]
    raw = backend.unwrap(x)
    if hasattr(raw, "shape") and hasattr(raw, "dtype"):
        return f"{raw.dtype} {tuple(raw.shape)}, checksum {_checksum(raw):08x}"
    if isinstance(x, Callback):
        arguments = inspect.signature(type(x)).parameters
        kept = {name: vars(x)[name] for name in arguments if name in vars(x)}
        return [type(x).__name__, {name: looks(value) for name, value in kept.items()}]
    try:
        return described("", x)
    except ConfigError:
        return type(x).__name__


def _checksum(x: Any) -> int:
    """Return the CRC-32 of an array's values; it may be a file's that does not fit into memory."""
    if not x.ndim:
        return zlib.crc32(backend.to_numpy(x).tobytes())
    rows = max(1, _PIECE // max(1, math.prod(x.shape[1:])))
    found = 0
    for i in range(0, x.shape[0], rows):
        found = zlib.crc32(backend.to_numpy(x[i : i + rows, ...]).tobytes(), found)
    return found
