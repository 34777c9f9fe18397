"""Looking things up by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpnn.errors import ConfigError

__all__ = ["by_name"]


def by_name(kind: str, given: Any, known: Mapping[str, Any]) -> Any:
    """Return what a name stands for; what can be called is one already.

    Raises
    ------
    ConfigError
        If nothing of that name is known; the message lists what is.
    """
    if callable(given):
        return given
    if isinstance(given, str) and given in known:
        return known[given]
    msg = f"unknown {kind} {given!r}; known are {', '.join(known)}."
    raise ConfigError(msg)
