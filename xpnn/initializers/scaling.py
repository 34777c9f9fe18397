"""Initial values whose variance follows from how much a weight connects."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

from xpnn import activations, random
from xpnn.errors import ConfigError
from xpnn.functional import fans
from xpnn.initializers.base import Array, Initializer, Normal, Shape, TruncatedNormal, Uniform

__all__ = ["VarianceScaling", "gain_of"]

_GAINS = {
    "linear": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "leaky_relu": math.sqrt(2),
    "selu": 1.0,
}


def gain_of(activation: Any) -> float:
    r"""Return by what to multiply weights so that values keep their size through an activation.

    ===============  ======================================================
    linear, sigmoid  1
    tanh             5/3
    relu             :math:`\sqrt 2`
    leaky_relu       :math:`\sqrt{2 / (1 + \alpha^2)}`; so ``relu`` with a slope
    selu             1, for which it was made
    ===============  ======================================================

    Parameters
    ----------
    activation : float, str, pair or callable
        A number is the gain itself; else an activation in any form that ``activations.get`` takes,
        such as ``"relu"`` and ``("leaky_relu", {"alpha": 0.2})``.

    Raises
    ------
    ConfigError
        If the activation has no gain here, or the number is not positive.

    Notes
    -----
    PyTorch's table, but for selu, for which it has an empirical 3/4. Yadll has 1 for tanh and 4 for
    sigmoid (whose slope at 0 is 1/4); numpy-ml writes :math:`\sqrt{2 / 1 + \alpha^2}`, a slip.

    Examples
    --------
    >>> from xpnn.initializers import gain_of
    >>> gain_of("tanh"), gain_of(("leaky_relu", {"alpha": 0.5}))
    (1.6666666666666667, 1.2649110640673518)
    """
    if isinstance(activation, Real):
        value = float(activation)
        if not 0 < value < math.inf:
            msg = f"'gain' must be positive and finite, got {activation}."
            raise ConfigError(msg)
        return value
    name = activations.name_of(activations.get(activation))
    name, arguments = name if isinstance(name, tuple) else (name, {})
    if name not in _GAINS:
        msg = (
            f"no gain is known for the activation {activation!r}; known are {', '.join(_GAINS)}."
            " Give a number."
        )
        raise ConfigError(msg)
    defaults = inspect.signature(getattr(activations, name)).parameters
    alpha = arguments.get("alpha", defaults["alpha"].default if "alpha" in defaults else 0.0)
    return _GAINS[name] / math.sqrt(1 + alpha * alpha)


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    r"""Zero mean, variance :math:`\text{gain}^2\, \text{scale} / n`, n a fan or the mean of both.

    Parameters
    ----------
    scale : float
    mode : {"fan_in", "fan_out", "average"}
        What n is.
    distribution : {"uniform", "normal", "truncated_normal"}
        :math:`U(-\sqrt{3 v}, \sqrt{3 v})`, or :math:`N(0, v)`, or that within two standard
        deviations and widened so that its variance is v, v being the variance. Keras truncates what
        it calls normal, PyTorch does not.
    gain : float, str or pair
        A number, or an activation by its name: see :func:`gain_of`. ``he_*`` have the
        :math:`\sqrt 2` of ReLU in them, so begin with ``lecun_*`` for another activation.
    fan : number or pair of numbers, optional
        Instead of what :func:`xpnn.functional.fans` finds in the shape: n itself, or (in, out). For
        weights that stand for another shape, such as those of all gates of an LSTM.

    Examples
    --------
    >>> from xpnn import initializers
    >>> weight = initializers.VarianceScaling(1.0, "fan_in", "normal", gain="tanh")((784, 500))
    >>> initializers.get(("glorot_uniform", {"gain": 0.5, "fan": (100, 200)}))((4, 4)).shape
    (4, 4)
    """

    scale: float
    mode: str
    distribution: str
    gain: Any = 1.0
    fan: Any = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("mode", self.mode, ("fan_in", "fan_out", "average")),
            ("distribution", self.distribution, ("uniform", "normal", "truncated_normal")),
        ):
            if value not in known:
                msg = f"VarianceScaling: {name!r} must be one of {known}, got {value!r}."
                raise ConfigError(msg)
        if not 0 < self.scale < math.inf:
            msg = f"VarianceScaling: 'scale' must be positive and finite, got {self.scale}."
            raise ConfigError(msg)
        # frozen, so that it can be compared and shared; written once, in the form that JSON holds
        object.__setattr__(self, "gain", gain_of(self.gain))
        object.__setattr__(self, "fan", _fan(self.fan))

    def draw(self, shape: Shape, rng: random.Stream) -> Array:
        std = self.gain * math.sqrt(self.scale / self._connections(shape))
        if self.distribution == "uniform":
            bound = math.sqrt(3) * std
            return Uniform(-bound, bound).draw(shape, rng)
        if self.distribution == "normal":
            return Normal(0.0, std).draw(shape, rng)
        return TruncatedNormal(0.0, std, corrected=True).draw(shape, rng)

    def _connections(self, shape: Shape) -> float:
        fan = fans(shape) if self.fan is None else self.fan
        if not isinstance(fan, tuple):
            return fan
        into, out = fan
        n = {"fan_in": into, "fan_out": out, "average": (into + out) / 2}[self.mode]
        return n or 1.0  # a weight of no elements


def _fan(fan: Any) -> Any:
    """Return None, a number, or a pair of numbers as a tuple."""
    numbers = fan if isinstance(fan, (tuple, list)) else (1 if fan is None else fan,)
    fits = all(isinstance(n, Real) and 0 < float(n) < math.inf for n in numbers)
    if not fits or (isinstance(fan, (tuple, list)) and len(fan) != 2):
        msg = f"'fan' must be a positive number or a pair (in, out) of them, got {fan!r}."
        raise ConfigError(msg)
    return tuple(fan) if isinstance(fan, list) else fan
