"""Activation functions, by themselves and by name.

A layer takes one by its name, with its arguments as a pair: ``activation="relu"``,
``activation=("elu", {"alpha": 0.5})``. All are functions of one array, of any shape. Every one but
``affine`` has a finite value and a finite derivative for every finite float32 and float64; where
mathematics has a larger value than the dtype (``exponential``, ``selu``, ``log_softmax``), it is
the largest number, or just below.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from xpnn import backend
from xpnn._names import by_name
from xpnn.functional import (
    elliot,
    elu,
    exponential,
    gelu,
    hard_sigmoid,
    leaky_relu,
    log_softmax,
    mish,
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    symmetric_elliot,
    tanh,
    ultra_fast_sigmoid,
)
from xpnn.functional._options import finite

__all__ = [
    "affine",
    "elliot",
    "elu",
    "exponential",
    "gelu",
    "get",
    "hard_sigmoid",
    "leaky_relu",
    "linear",
    "log_softmax",
    "mish",
    "name_of",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "symmetric_elliot",
    "tanh",
    "ultra_fast_sigmoid",
]

Array = Any


def linear(x: Array) -> Array:
    """Return ``x`` as it is."""
    return x


def affine(x: Array, slope: float = 1.0, intercept: float = 0.0) -> Array:
    r"""Return :math:`s x + c`, with two numbers that are not learnt.

    Parameters
    ----------
    x : array
        Overflows, as arithmetic does, where :math:`s x + c` is larger than the dtype can hold.
    slope, intercept : float
        :math:`s` and :math:`c`; finite.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import activations
    >>> activations.affine(np.asarray([0.0, 1.0]), slope=2.0, intercept=-1.0)
    array([-1.,  1.])
    """
    return finite("affine", "slope", slope) * x + finite("affine", "intercept", intercept)


_FUNCTIONS: tuple[Callable[..., Array], ...] = (
    linear, affine, sigmoid, ultra_fast_sigmoid, hard_sigmoid, tanh, relu, leaky_relu, elu, selu,
    gelu, silu, mish, softplus, softsign, elliot, symmetric_elliot, exponential, softmax,
    log_softmax,
)  # fmt: skip
_BY_NAME: dict[str, Callable[..., Array]] = {f.__name__: f for f in _FUNCTIONS}


def get(activation: Any) -> Callable[[Array], Array]:
    """Return the activation function of a name, or of a pair of a name and its arguments.

    None is linear; what can be called is an activation already.

    Raises
    ------
    ConfigError
        If the name is unknown, or an argument is: by its name, or out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import activations
    >>> activations.get("relu")(np.asarray([-1.0, 2.0]))
    array([0., 2.])
    >>> activations.get(("softmax", {"axis": 0}))(np.zeros(2))
    array([0.5, 0.5])
    """
    if activation is None:
        return linear
    return by_name("activation", activation, _BY_NAME, _with_arguments)


def _with_arguments(f: Callable[..., Array], **arguments: Any) -> Callable[[Array], Array]:
    inspect.signature(f).bind(None, **arguments)
    # Tried on a single number with many axes: what is wrong is an error now, not at the first call.
    f(backend.as_device("cpu").xp.zeros((1,) * 8), **arguments)
    return functools.partial(f, **arguments)


def name_of(activation: Any) -> str | tuple[str, dict[str, Any]] | None:
    """Return what :func:`get` would make of an activation function, or None.

    Its name; with arguments, the pair of its name and them.

    Examples
    --------
    >>> from xpnn import activations
    >>> activations.name_of(activations.get(("elu", {"alpha": 0.5})))
    ('elu', {'alpha': 0.5})
    """
    if isinstance(activation, functools.partial) and not activation.args:
        name = name_of(activation.func)
        return (name, dict(activation.keywords)) if isinstance(name, str) else None
    return next((name for name, f in _BY_NAME.items() if f is activation), None)
