"""Hyperparameters by name: their defaults, their ranges, and the settings of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any

from xpnn._names import hint
from xpnn.errors import ConfigError
from xpnn.random import Stream
from xpnn.search.ranges import Choices, Range

__all__ = ["Hyperparameters", "Setting", "described", "trial_seeds"]


class Setting(Mapping[str, Any]):
    """A value for each hyperparameter: ``hp.lr`` or ``hp["lr"]``. A read-only mapping.

    Examples
    --------
    >>> from xpnn.search import Setting
    >>> hp = Setting({"lr": 0.1, "hidden": 32})
    >>> hp.lr, {**hp}
    (0.1, {'lr': 0.1, 'hidden': 32})
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_values", dict(values))

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also while it is being unpickled
            raise AttributeError(name)
        return _attribute(self._values, name)

    def __setattr__(self, name: str, value: Any) -> None:
        msg = f"a setting is not changed; make another, Setting({{**hp, {name!r}: {value!r}}})."
        raise AttributeError(msg)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __reduce__(self) -> tuple[Any, ...]:
        return Setting, (self._values,)

    def __repr__(self) -> str:
        return f"Setting({', '.join(f'{k}={v!r}' for k, v in self._values.items())})"


class Hyperparameters:
    r"""Names of hyperparameters with the ranges that are searched.

    Iterating gives every setting of the product of the ranges, the last name changing fastest, each
    a :class:`Setting` of its own; ``len`` is their number. Attributes are the defaults.

    Parameters
    ----------
    **ranges : list, Range or value
        By name. A list holds the values that are tried; a :class:`Range` such as ``LogUniform(1e-4,
        1e-1)`` is drawn from by a random search; anything else is one value. What is itself a list
        and one value is given by a call, without a range.

    Notes
    -----
    A call adds one hyperparameter, as with yadll's class of this name: ``hps(name, default,
    range)``. The default is what the attribute says; it need not be in the range. There iterating
    changes the object itself, and works once until ``reset()``; here it gives new settings, as
    often as one likes.

    Examples
    --------
    >>> from xpnn.search import Hyperparameters
    >>> hps = Hyperparameters(lr=[0.1, 0.01], epochs=5)
    >>> hps("hidden", 100, [50, 100])
    >>> hps.hidden, len(hps)
    (100, 4)
    >>> for hp in hps:
    ...     print(hp.lr, hp.epochs, hp.hidden)
    0.1 5 50
    0.1 5 100
    0.01 5 50
    0.01 5 100
    """

    _defaults: dict[str, Any]
    _ranges: dict[str, Range]

    def __init__(self, **ranges: Any) -> None:
        self._defaults, self._ranges = {}, {}
        for name, given in ranges.items():
            found = given if isinstance(given, Range) else None
            if isinstance(given, list):
                found = Choices(given) if given else None
                if found is None:
                    raise _empty(name)
            self(name, given if found is None else found.default, found)

    def __call__(self, name: str, value: Any, range: Any = None) -> None:
        """Add a hyperparameter: its name, its default, and a list or a Range of what is tried.

        Raises
        ------
        ConfigError
            If there is one of that name, the name is no name, or the range is empty.
        """
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
            msg = f"Hyperparameters: expected a name such as 'lr', got {name!r}."
            raise ConfigError(msg)
        if name in self._defaults:
            msg = f"Hyperparameters: there is a hyperparameter {name!r} already."
            raise ConfigError(msg)
        if hasattr(Setting, name) or hasattr(Hyperparameters, name):
            msg = f"Hyperparameters: {name!r} is a method's name here. Take another."
            raise ConfigError(msg)
        if range is None:
            range = Choices([value])
        elif not isinstance(range, Range):
            if isinstance(range, (str, bytes)) or not hasattr(range, "__iter__"):
                msg = (
                    f"Hyperparameters: the range of {name!r} must be a list of values or a Range"
                    f" such as Uniform(0, 1), got {range!r}."
                )
                raise ConfigError(msg)
            values = list(range)
            if not values:
                raise _empty(name)
            range = Choices(values)
        self._defaults[name], self._ranges[name] = value, range

    @property
    def defaults(self) -> Setting:
        """The setting of all defaults."""
        return Setting(self._defaults)

    @property
    def ranges(self) -> dict[str, Range]:
        """The range of each hyperparameter, by name; one value is a range as well."""
        return dict(self._ranges)

    def sample(self, n: int, seed: int = 0) -> list[Setting]:
        """Return ``n`` settings drawn at random, each hyperparameter from its range.

        The k-th depends on the seed and on k alone, so more of them begin with the same ones. It
        may happen that two are equal.

        Examples
        --------
        >>> from xpnn.search import Hyperparameters, LogUniform
        >>> hps = Hyperparameters(lr=LogUniform(1e-4, 1e-1), hidden=[32, 64])
        >>> hps.sample(3, seed=1) == hps.sample(5, seed=1)[:3]
        True
        """
        settings = []
        for number in range(n):
            stream = Stream(trial_seeds(seed, number)[1])
            settings.append(Setting({k: r.draw(stream) for k, r in self._ranges.items()}))
        return settings

    def to_config(self) -> dict[str, Any]:
        """Return names, defaults and ranges as JSON.

        Raises
        ------
        ConfigError
            If a value is one that JSON has no words for, such as a lambda.
        """
        return {
            name: {"default": described(name, value), **_described_range(name, self._ranges[name])}
            for name, value in self._defaults.items()
        }

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _attribute(self._defaults, name)

    def __getitem__(self, name: str) -> Any:
        return self._defaults[name]

    def __contains__(self, name: object) -> bool:
        return name in self._defaults

    def __iter__(self) -> Iterator[Setting]:
        lists = [r.values() for r in self._ranges.values()]
        return (Setting(dict(zip(self._ranges, v, strict=True))) for v in itertools.product(*lists))

    def __len__(self) -> int:
        return math.prod(len(r.values()) for r in self._ranges.values())

    def __bool__(self) -> bool:
        return bool(self._defaults)

    def __repr__(self) -> str:
        return f"Hyperparameters({', '.join(f'{k}={r!r}' for k, r in self._ranges.items())})"


def trial_seeds(seed: int, number: int) -> tuple[int, int]:
    """Return the seed of a trial, and that from which its setting is drawn if it is drawn.

    Two words of the block ``number`` of the search's stream: nothing depends on other trials.
    """
    run, draw = Stream(seed, counter=number).bits(2).tolist()
    return run, draw


def described(name: str, value: Any) -> Any:
    """Return a value as JSON: functions and classes by their name.

    Raises
    ------
    ConfigError
        If it is something that JSON has no words for.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Real):  # of NumPy
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, (list, tuple)):
        return [described(name, v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): described(name, v) for k, v in value.items()}
    if hasattr(value, "to_config") and not isinstance(value, type):
        return value.to_config()
    where = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '<')}"
    if "<" not in where:  # no lambda, nor a function of a function: another would be named so too
        return where
    msg = (
        f"the hyperparameter {name!r} has a value that cannot be written to a file: {value!r}."
        " Name it by a string, or a pair of a name and arguments."
    )
    raise ConfigError(msg)


def _described_range(name: str, one: Range) -> dict[str, Any]:
    about = {k: described(name, v) for k, v in vars(one).items() if k != "default"}
    return {"range": type(one).__name__, **about}


def _attribute(values: dict[str, Any], name: str) -> Any:
    if name in values:
        return values[name]
    msg = f"there is no hyperparameter {name!r}; there are {', '.join(values) or 'none'}."
    raise AttributeError(msg + hint(name, values))


def _empty(name: str) -> ConfigError:
    msg = f"Hyperparameters: the range of {name!r} is empty. Give the values to try."
    return ConfigError(msg)
