"""What layers look at before they compute: arguments that are whole numbers, and dtypes."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from xpnn._dtypes import as_dtype
from xpnn.errors import ConfigError, DTypeError

__all__ = ["integers", "require_floats"]

Array = Any


def integers(who: str, least: int | None = 1, **given: Any) -> tuple[Any, ...]:
    """Return arguments as Python's integers, after looking at each; None stays None.

    Parameters
    ----------
    who : str
        Whose name an error should begin with.
    least : int, optional
        The smallest that is taken; None takes any, as for an axis.
    **given : int or None
        The arguments, by name. Integers of NumPy are integers, truth values are not.

    Raises
    ------
    ConfigError
        If one is no integer, or too small.

    Examples
    --------
    >>> integers("Dense", out_features=3, in_features=None)
    (3, None)
    """
    for name, value in given.items():
        if value is None:
            continue
        if not isinstance(value, Integral) or isinstance(value, bool):
            msg = f"{who}: {name!r} must be an integer, got {value!r}."
            raise ConfigError(msg)
        if least is not None and value < least:
            wanted = "not be negative" if least == 0 else f"be at least {least}"
            msg = f"{who}: {name!r} must {wanted}, got {value}."
            raise ConfigError(msg)
    return tuple(None if value is None else int(value) for value in given.values())


def require_floats(who: str, x: Array) -> None:
    """Raise an error if ``x`` does not hold floating-point numbers."""
    dtype = as_dtype(x.dtype)
    if not dtype.is_inexact:
        msg = (
            f"{who}: expected floating-point x, got {dtype}."
            " Convert it, for example with xpnn.asarray(x, dtype='float32')."
        )
        raise DTypeError(msg)
