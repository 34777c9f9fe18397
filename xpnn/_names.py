"""Looking things up by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xpnn.errors import ConfigError

__all__ = ["by_name"]


def by_name(
    kind: str, given: Any, known: Mapping[str, Any], bind: Callable[..., Any] | None = None
) -> Any:
    """Return what a name stands for; what can be called is one already.

    With ``bind`` a pair ``(name, {"argument": value})`` is ``bind(known[name], argument=value)``.

    Raises
    ------
    ConfigError
        If nothing of that name is known (the message lists what is), or it takes no such argument.
    """
    if callable(given):
        return given
    if isinstance(given, str) and given in known:
        return known[given]
    if bind is not None and isinstance(given, (tuple, list)) and len(given) == 2:
        name, options = given
        if isinstance(name, str) and name in known and isinstance(options, Mapping):
            try:
                return bind(known[name], **options)
            except ConfigError:
                raise
            except (TypeError, ValueError, IndexError) as error:
                msg = f"{kind} {name!r} with {dict(options)}: {error}."
                raise ConfigError(msg) from error
    msg = f"unknown {kind} {given!r}; known are {', '.join(known)}."
    raise ConfigError(msg)
