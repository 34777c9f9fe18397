r"""What values a hyperparameter may take.

A range gives all its values in order, for a grid, and draws one at random from a stream.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

from xpnn.errors import ConfigError
from xpnn.random import Stream

__all__ = ["Choices", "Integers", "LogUniform", "Range", "Uniform"]


class Range:
    """Base of ranges: :meth:`values`, :meth:`draw` and a default.

    Attributes
    ----------
    default : object
        The value of a hyperparameter for which none is given.
    """

    default: Any

    def values(self) -> Sequence[Any]:
        """Return all values, in order.

        Raises
        ------
        ConfigError
            If the range is continuous.
        """
        msg = (
            f"{self!r} is continuous, and a grid needs values one by one. Give a list,"
            " or take RandomSearch."
        )
        raise ConfigError(msg)

    def draw(self, stream: Stream) -> Any:
        """Return a value at random. Written by subclasses."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # choices may be lists

    def __repr__(self) -> str:
        given = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if k != "default")
        return f"{type(self).__name__}({given})"


class Choices(Range):
    """One of some values, all equally likely. The default is the first.

    Parameters
    ----------
    values : iterable
        Numbers, words, None, lists, or anything else.

    Examples
    --------
    >>> from xpnn.search import Choices
    >>> Choices(["adam", "sgd"]).default
    'adam'
    """

    def __init__(self, values: Iterable[Any]) -> None:
        if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
            msg = f"Choices: expected a list of values, got {values!r}."
            raise ConfigError(msg)
        self.choices = list(values)
        if not self.choices:
            msg = "Choices: expected values to choose from, got none."
            raise ConfigError(msg)
        self.default = self.choices[0]

    def values(self) -> Sequence[Any]:
        return self.choices

    def draw(self, stream: Stream) -> Any:
        return self.choices[int(stream.integers(0, len(self.choices), (), device="cpu"))]

    def __repr__(self) -> str:
        return f"Choices({self.choices!r})"


class Uniform(Range):
    r"""A number uniform on [low, high). The default is the middle.

    .. math:: x = \text{low} + u\,(\text{high} - \text{low}), \qquad u \sim U[0, 1)

    Parameters
    ----------
    low, high : float
        Finite, ``low < high``.

    Examples
    --------
    >>> from xpnn.search import Uniform
    >>> Uniform(0.0, 0.5)
    Uniform(low=0.0, high=0.5)
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = _bounds(self, low, high)
        self.default = self._at(0.5)

    def draw(self, stream: Stream) -> float:
        return self._at(float(stream.uniform((), dtype="float64", device="cpu")))

    def _at(self, u: float) -> float:
        """Return the value below which the fraction ``u`` of all draws lies."""
        return self.low + u * (self.high - self.low)


class LogUniform(Uniform):
    r"""A number whose logarithm is uniform: as likely in [0.001, 0.01] as in [0.01, 0.1].

    .. math:: x = \text{low}\, (\text{high} / \text{low})^u, \qquad u \sim U[0, 1)

    Parameters
    ----------
    low, high : float
        Finite, ``0 < low < high``. The default is their geometric mean.

    Examples
    --------
    >>> from xpnn.search import LogUniform
    >>> round(LogUniform(1e-4, 1e-2).default, 6)
    0.001
    """

    def __init__(self, low: float, high: float) -> None:
        _positive(self, low)
        super().__init__(low, high)

    def _at(self, u: float) -> float:
        exponent = math.log(self.low) + u * (math.log(self.high) - math.log(self.low))
        return min(max(math.exp(exponent), self.low), self.high)  # rounding may lead out


class Integers(Range):
    """A whole number from low to high, both included.

    Parameters
    ----------
    low, high : int
        ``low <= high``.
    log : bool
        Whether small numbers are as likely as large ones, as :class:`LogUniform`: a number k comes
        as often as a log-uniform one in [low, high + 1) falls into [k, k + 1). Needs ``low >= 1``.
        The default is the middle, or the geometric one.

    Examples
    --------
    >>> from xpnn.search import Integers
    >>> Integers(1, 4).values()
    range(1, 5)
    """

    def __init__(self, low: int, high: int, log: bool = False) -> None:
        try:
            self.low, self.high = operator.index(low), operator.index(high)
        except TypeError:
            msg = f"Integers: 'low' and 'high' must be whole numbers, got {low!r} and {high!r}."
            raise ConfigError(msg) from None
        if self.low > self.high:
            msg = f"Integers: expected low <= high, got {low} and {high}."
            raise ConfigError(msg)
        if not isinstance(log, bool):
            msg = f"Integers: 'log' must be True or False, got {log!r}."
            raise ConfigError(msg)
        if log:
            _positive(self, self.low)
        self.log = log
        middle = math.sqrt(self.low * self.high) if log else (self.low + self.high) / 2
        self.default = math.floor(middle)

    def values(self) -> Sequence[int]:
        return range(self.low, self.high + 1)

    def draw(self, stream: Stream) -> int:
        if self.log:
            return min(int(LogUniform(self.low, self.high + 1).draw(stream)), self.high)
        return int(stream.integers(self.low, self.high + 1, (), device="cpu"))


def _bounds(owner: Range, low: Any, high: Any) -> tuple[float, float]:
    try:
        a, b = float(low), float(high)
    except (TypeError, ValueError):
        a = b = math.nan
    if not (math.isfinite(a) and math.isfinite(b) and a < b):
        msg = f"{type(owner).__name__}: expected finite low < high, got {low!r} and {high!r}."
        raise ConfigError(msg)
    return a, b


def _positive(owner: Range, low: Any) -> None:
    if isinstance(low, (int, float)) and not low > 0:
        msg = f"{type(owner).__name__}: 'low' has a logarithm only if it is above 0, got {low!r}."
        raise ConfigError(msg)
