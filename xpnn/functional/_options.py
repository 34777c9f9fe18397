"""Hyper-parameters that are numbers, and in what range."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from xpnn.errors import ConfigError

__all__ = ["finite", "fraction", "non_negative", "positive"]


def finite(who: str, name: str, value: Any) -> float:
    """Return a finite number, or raise ConfigError."""
    return _checked(who, name, value, "a finite number", -math.inf < _real(value) < math.inf)


def positive(who: str, name: str, value: Any) -> float:
    """Return a finite number above zero, or raise ConfigError."""
    return _checked(who, name, value, "positive and finite", 0 < _real(value) < math.inf)


def non_negative(who: str, name: str, value: Any) -> float:
    """Return a finite number of at least zero, or raise ConfigError."""
    return _checked(who, name, value, "non-negative and finite", 0 <= _real(value) < math.inf)


def fraction(who: str, name: str, value: Any) -> float:
    """Return a number in [0, 1], or raise ConfigError."""
    return _checked(who, name, value, "in [0, 1]", 0 <= _real(value) <= 1)


def _real(value: Any) -> float:
    return float(value) if isinstance(value, Real) else math.nan  # NaN is in no range


def _checked(who: str, name: str, value: Any, wanted: str, fits: bool) -> float:
    if not fits:
        msg = f"{who}: {name!r} must be {wanted}, got {value!r}."
        raise ConfigError(msg)
    return float(value)
