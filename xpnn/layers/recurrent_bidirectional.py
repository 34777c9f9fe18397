"""Sequences read in both directions."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

from xpnn import backend
from xpnn.backend import array_namespace
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers.base import Layer
from xpnn.layers.recurrent_base import Unrolled, sequence_mask
from xpnn.primitives.recurrent_parts import require_sequence

__all__ = ["Bidirectional"]

Array = Any
MERGES = ("concat", "sum", "multiply", "average")


class Bidirectional(Layer):
    r"""A recurrent layer and a copy of it that reads the other way (Schuster & Paliwal 1997).

    .. math:: y_t = m(\overrightarrow{y}_t, \overleftarrow{y}_t)

    Both outputs are in the order of x. The copy has initial values of its own.

    Parameters
    ----------
    layer : RNN, GRU or LSTM
        Its options are those of both directions: without ``return_sequences`` the last states are
        merged, that of the copy being the one after the first step.
    merge : {"concat", "sum", "multiply", "average"}
        The function m; "concat" puts the features side by side, as PyTorch does.

    Attributes
    ----------
    forwards, backwards : layer
        The layer, and its copy.

    Notes
    -----
    (N, T, D) -> (N, T, 2 H) with "concat", else (N, T, H). The call is that of the layer, with the
    states of both: ``layer(x, h0, h0_back, mask=...)``, of an LSTM ``layer(x, h0, c0, h0_back,
    c0_back)``; they are returned in the same order after y.

    With several layers each direction is a stack of its own. In PyTorch every layer sees both
    directions of the one below: for that put one Bidirectional after another.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> both = layers.Bidirectional(layers.LSTM(5))
    >>> both(np.ones((2, 7, 3), np.float32), lengths=[7, 4]).shape
    (2, 7, 10)
    """

    functions: ClassVar[tuple[str, ...]] = ("sequence_mask",)

    def __init__(self, layer: Layer, merge: str = "concat") -> None:
        if not isinstance(layer, Unrolled):
            msg = (
                "Bidirectional: 'layer' must be a recurrent layer, such as layers.LSTM(5), got"
                f" {type(layer).__name__}."
            )
            raise ConfigError(msg)
        if merge not in MERGES:
            msg = f"Bidirectional: 'merge' must be one of {', '.join(MERGES)}, got {merge!r}."
            raise ConfigError(msg)
        self.merge = merge
        self.forwards: Unrolled = layer
        self.backwards = _reversed(layer)
        if layer.input_size is not None:
            self.ensure_built((1, 1, layer.input_size))

    def build(self, shape: tuple[int, ...], *states: tuple[int, ...]) -> None:
        for layer in (self.forwards, self.backwards):
            layer.ensure_built(shape)

    def forward(
        self, x: Array, *states: Array | None, mask: Array | None = None, lengths: Any = None
    ) -> Any:
        one, other = self.forwards, self.backwards
        count = len(one.state_names)
        if len(states) not in (0, 2 * count):
            names = [f"{name}0{end}" for end in ("", "_back") for name in one.state_names]
            msg = (
                f"Bidirectional: expected no states, or those of both directions,"
                f" {', '.join(names)}; got {len(states)}."
            )
            raise ShapeError(msg)
        who = type(one).__name__
        require_sequence(who, tuple(x.shape), one.input_size, f"{who}Cell")
        mask = sequence_mask(who, tuple(x.shape), mask, lengths, backend.device_of(x))
        a = one(x, *states[:count], mask=mask)
        b = other(x, *states[count:], mask=mask)
        if not one.return_state:
            return _merged(self.merge, a, b)
        return (_merged(self.merge, a[0], b[0]), *a[1:], *b[1:])


def _reversed(layer: Unrolled) -> Unrolled:
    """Return a copy with new initial values that walks the other way."""
    twin = copy.deepcopy(layer)
    twin._config["go_backwards"] = twin.go_backwards = not layer.go_backwards
    if twin._shapes is not None:  # made again, with it the layers above
        shapes, twin._shapes = twin._shapes, None
        twin.ensure_built(*shapes)
    return twin


def _merged(merge: str, a: Array, b: Array) -> Array:
    if merge == "concat":
        return array_namespace(a, b).concat([a, b], axis=-1)
    if merge == "multiply":
        return a * b
    return a + b if merge == "sum" else 0.5 * (a + b)
