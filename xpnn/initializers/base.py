"""What an initializer is, and those that need no more than the shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from xpnn import backend, random
from xpnn import functional as F
from xpnn.errors import ConfigError, ShapeError
from xpnn.initializers.blank import spend

__all__ = [
    "TRUNCATED_STD",
    "Array",
    "Constant",
    "Initializer",
    "Normal",
    "Shape",
    "TruncatedNormal",
    "Uniform",
    "host",
]

Array = Any
Shape = tuple[int, ...]

TRUNCATED_STD = 0.87962566103423978  # of a standard normal variable, given that it is within +-2


def host() -> Any:
    """Return the namespace in which values are made."""
    return backend.as_device("cpu").xp


def _finite(who: str, **numbers: float) -> None:
    for name, value in numbers.items():
        if not math.isfinite(value):
            msg = f"{who}: {name!r} must be a finite number, got {value}."
            raise ConfigError(msg)


def _spread(who: str, mean: float, std: float) -> None:
    _finite(who, mean=mean, std=std)
    if std < 0:
        msg = f"{who}: 'std' must not be negative, got {std}."
        raise ConfigError(msg)


class Initializer:
    """Base of the initializers: ``initializer(shape, dtype=, device=)`` returns a new array.

    One of your own writes ``draw``; as a frozen dataclass in a module of xpnn it can be saved.
    """

    def __call__(self, shape: Shape, *, dtype: Any = None, device: Any = None) -> Array:
        """Return an array of ``shape`` on the default device, in the default dtype.

        Raises
        ------
        ShapeError
            If that is no shape, or one for which it has no values.
        """
        sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
        if not all(hasattr(n, "__index__") and n >= 0 for n in sizes):
            name = type(self).__name__
            msg = f"{name}: expected a shape of whole numbers, none negative, got {shape!r}."
            raise ShapeError(msg)
        dtype = backend.get_dtype() if dtype is None else dtype
        target = backend.get_device() if device is None else backend.as_device(device)
        if spend(type(self).__name__, sizes):
            native = backend.native_dtype(target.xp, dtype)
            return target.xp.zeros(sizes, dtype=native, device=target.native)
        values = self.draw(sizes, random.get_rng())
        return backend.asarray(values, dtype=dtype, device=target, copy=True)

    def draw(self, shape: Shape, rng: random.Stream) -> Array:
        """Return the values on the host. How much of ``rng`` it takes depends on the shape alone.

        Raises
        ------
        ShapeError
            If it has no values for such a shape.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Initializer):
    """Every element is ``value``.

    Examples
    --------
    >>> from xpnn import initializers
    >>> initializers.Constant(0.5)((2,))
    array([0.5, 0.5], dtype=float32)
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        _finite("Constant", value=self.value)

    def draw(self, shape: Shape, rng: random.Stream) -> Array:
        xp = host()
        return xp.full(shape, self.value, dtype=xp.float64)


@dataclass(frozen=True)
class Uniform(Initializer):
    """U(low, high).

    Examples
    --------
    >>> import xpnn
    >>> xpnn.set_seed(0)
    >>> xpnn.initializers.Uniform(0.0, 1.0)((2,))
    array([0.03474188, 0.01154673], dtype=float32)
    """

    low: float = -0.05
    high: float = 0.05

    def __post_init__(self) -> None:
        _finite("Uniform", low=self.low, high=self.high)
        if self.low > self.high:
            msg = f"Uniform: 'low' must not be above 'high', got {self.low} and {self.high}."
            raise ConfigError(msg)

    def draw(self, shape: Shape, rng: random.Stream) -> Array:
        return rng.uniform(shape, low=self.low, high=self.high, dtype="float32", device="cpu")


@dataclass(frozen=True)
class Normal(Initializer):
    """N(mean, std**2).

    Examples
    --------
    >>> import xpnn
    >>> xpnn.set_seed(0)
    >>> xpnn.initializers.Normal(std=1.0)((2,)).round(4)
    array([2.5854, 0.1879], dtype=float32)
    """

    mean: float = 0.0
    std: float = 0.01

    def __post_init__(self) -> None:
        _spread("Normal", self.mean, self.std)

    def draw(self, shape: Shape, rng: random.Stream) -> Array:
        return rng.normal(shape, mean=self.mean, std=self.std, dtype="float32", device="cpu")


@dataclass(frozen=True)
class TruncatedNormal(Initializer):
    r"""A normal distribution of which only what lies within two standard deviations is left.

    By inversion, :math:`x = \mu + \sigma\, \Phi^{-1}(\Phi(-2) + u (\Phi(2) - \Phi(-2)))`, one
    uniform number :math:`u` a value: drawing again what falls outside would take an unknown part of
    the stream.

    Parameters
    ----------
    mean, std : float
    corrected : bool
        False: ``std`` is :math:`\sigma`, that of the distribution before it was cut, as in
        TensorFlow, Keras, PyTorch and numpy-ml; the values themselves have 0.8796 of it, and are
        within :math:`2 \sigma`. True: ``std`` is that of the values, which are within
        :math:`2.2737\, \text{std}`.

    Examples
    --------
    >>> import xpnn
    >>> xpnn.set_seed(0)
    >>> values = xpnn.initializers.TruncatedNormal(std=1.0)((1000,))
    >>> bool(abs(values).max() <= 2)
    True
    """

    mean: float = 0.0
    std: float = 0.01
    corrected: bool = False

    def __post_init__(self) -> None:
        _spread("TruncatedNormal", self.mean, self.std)

    def draw(self, shape: Shape, rng: random.Stream) -> Array:
        u = rng.uniform(shape, low=-1.0, high=1.0, dtype="float64", device="cpu")
        sigma = self.std / TRUNCATED_STD if self.corrected else self.std
        # 2 Phi(z) - 1 = erf(z / sqrt(2)): uniform between its values at z = -2 and z = 2
        z = math.sqrt(2) * _inverse_erf(u * math.erf(math.sqrt(2)))
        return self.mean + sigma * z


def _inverse_erf(y: Array) -> Array:
    """Return the inverse of erf in float64, for |y| < 0.99.

    Winitzki's approximation (2008, off by 2e-3), and two steps of Halley's method, each of which
    triples the number of digits.
    """
    xp = host()
    a = 0.147
    log = xp.log1p(-y * y)
    b = 2 / (math.pi * a) + log / 2
    x = xp.sign(y) * xp.sqrt(xp.maximum(xp.sqrt(b * b - log / a) - b, 0.0))
    for _ in range(2):
        error = F.erf(x) - y
        x = x - error / (2 / math.sqrt(math.pi) * xp.exp(-x * x) + x * error)
    return x
