"""Looking things up by name."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from xpnn.errors import ConfigError

__all__ = ["by_name", "hint", "with_arguments"]


def hint(given: Any, known: Iterable[str]) -> str:
    """Return what to try in place of a name that is not known, or an empty string."""
    if isinstance(given, type):
        return f" Give an object, {given.__name__}(...), not its class."
    if isinstance(given, (tuple, list)) and given:
        given = given[0]
    if not isinstance(given, str):
        return ""
    plain = {name.lower(): name for name in known}
    near = difflib.get_close_matches(given.lower(), plain, n=1, cutoff=0.5)
    return f" Did you mean {plain[near[0]]!r}?" if near else ""


def with_arguments(f: Callable[..., Any], **arguments: Any) -> Callable[..., Any]:
    """Return a function ``f(predictions, targets)`` with its other arguments given.

    Raises
    ------
    TypeError
        If it takes no argument of such a name.
    """
    inspect.signature(f).bind(None, None, **arguments)
    return functools.partial(f, **arguments) if arguments else f


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
    msg = f"unknown {kind} {given!r}; known are {', '.join(known)}.{hint(given, known)}"
    raise ConfigError(msg)
