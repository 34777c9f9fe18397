"""Activation functions, by themselves and by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from xpnn._names import by_name
from xpnn.functional import relu, sigmoid, softmax, tanh

__all__ = ["get", "linear", "name_of", "relu", "sigmoid", "softmax", "tanh"]

Array = Any


def linear(x: Array) -> Array:
    """Return ``x`` as it is."""
    return x


_BY_NAME: dict[str, Callable[[Array], Array]] = {
    "linear": linear,
    "relu": relu,
    "sigmoid": sigmoid,
    "softmax": softmax,
    "tanh": tanh,
}


def get(activation: Any) -> Callable[[Array], Array]:
    """Return the activation function of a name, or of a pair of a name and its arguments.

    None is linear; what can be called is an activation already.

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
    inspect.signature(f).bind(None, **arguments)  # a wrong name is an error now, not at the call
    return functools.partial(f, **arguments)


def name_of(activation: Any) -> str | None:
    """Return the name of an activation function, or None if it has none here."""
    return next((name for name, f in _BY_NAME.items() if f is activation), None)
