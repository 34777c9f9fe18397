r"""Initial values of parameters.

An initializer is called with a shape, ``he_normal((784, 500))``. Weights are written (in, out),
kernels (height, width, in, out), so the fans of a shape :math:`(k_1, \dots, in, out)` are
:math:`in \prod k` and :math:`out \prod k`. Values are drawn on the host and moved, so that one seed
gives the same bits on every device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from xpnn import backend, random
from xpnn._names import by_name
from xpnn.errors import ShapeError

__all__ = [
    "Constant",
    "Initializer",
    "Normal",
    "Uniform",
    "VarianceScaling",
    "fans",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "ones",
    "zeros",
]

Array = Any
Shape = tuple[int, ...]


class Initializer:
    """Base of the initializers: ``initializer(shape, dtype=, device=)`` returns a new array."""

    def __call__(self, shape: Shape, *, dtype: Any = None, device: Any = None) -> Array:
        """Return an array of ``shape`` on the default device, in the default dtype."""
        dtype = backend.get_dtype() if dtype is None else dtype
        host = self.draw(tuple(shape), random.get_rng())
        target = backend.get_device() if device is None else backend.as_device(device)
        return backend.asarray(host, dtype=dtype, device=target, copy=True)

    def draw(self, shape: Shape, rng: random.Stream) -> Any:
        """Return the values on the host."""
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Initializer):
    """Every element is ``value``."""

    value: float

    def draw(self, shape: Shape, rng: random.Stream) -> Any:
        """Return the values on the host."""
        xp = backend.as_device("cpu").xp
        return xp.full(shape, self.value, dtype=xp.float64)


@dataclass(frozen=True)
class Uniform(Initializer):
    """U(low, high)."""

    low: float = -0.05
    high: float = 0.05

    def draw(self, shape: Shape, rng: random.Stream) -> Any:
        """Return the values on the host."""
        return rng.uniform(shape, low=self.low, high=self.high, dtype="float32", device="cpu")


@dataclass(frozen=True)
class Normal(Initializer):
    """N(mean, std**2)."""

    mean: float = 0.0
    std: float = 0.01

    def draw(self, shape: Shape, rng: random.Stream) -> Any:
        """Return the values on the host."""
        return rng.normal(shape, mean=self.mean, std=self.std, dtype="float32", device="cpu")


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    r"""Zero mean and variance :math:`scale / n`, n being a fan or the mean of both.

    Parameters
    ----------
    scale : float
    mode : {"fan_in", "fan_out", "average"}
        What n is.
    distribution : {"uniform", "normal"}
        :math:`U(-\sqrt{3 v}, \sqrt{3 v})` or :math:`N(0, v)` (not truncated), v the variance.
    """

    scale: float
    mode: str
    distribution: str

    def draw(self, shape: Shape, rng: random.Stream) -> Any:
        """Return the values on the host."""
        fan_in, fan_out = fans(shape)
        n = {"fan_in": fan_in, "fan_out": fan_out, "average": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(n, 1)
        if self.distribution == "normal":
            return Normal(0.0, math.sqrt(variance)).draw(shape, rng)
        bound = math.sqrt(3 * variance)
        return Uniform(-bound, bound).draw(shape, rng)


def fans(shape: Shape) -> tuple[int, int]:
    """Return how many inputs and outputs a weight of this shape connects."""
    if len(shape) < 2:
        msg = f"expected a weight of shape (..., in, out), got {shape}: it has no fans."
        raise ShapeError(msg)
    kernel = math.prod(shape[:-2])
    return shape[-2] * kernel, shape[-1] * kernel


zeros = Constant(0.0)
ones = Constant(1.0)
# Glorot & Bengio 2010: U(+-sqrt(6 / (in + out))) and variance 2 / (in + out).
glorot_uniform = VarianceScaling(1.0, "average", "uniform")
glorot_normal = VarianceScaling(1.0, "average", "normal")
# He et al. 2015, for ReLU: U(+-sqrt(6 / in)) and variance 2 / in.
he_uniform = VarianceScaling(2.0, "fan_in", "uniform")
he_normal = VarianceScaling(2.0, "fan_in", "normal")

_BY_NAME = {
    "glorot_normal": glorot_normal,
    "glorot_uniform": glorot_uniform,
    "he_normal": he_normal,
    "he_uniform": he_uniform,
    "ones": ones,
    "zeros": zeros,
}


def get(initializer: Any) -> Any:
    """Return the initializer of a name; what can be called is one already.

    Examples
    --------
    >>> from xpnn import initializers
    >>> initializers.get("zeros")((2,))
    array([0., 0.], dtype=float32)
    """
    return by_name("initializer", initializer, _BY_NAME)
