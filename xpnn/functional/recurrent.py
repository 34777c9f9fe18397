"""Recurrent networks over whole sequences, (N, T, D).

A whole sequence is one operation if its activations are the standard ones, and otherwise its steps
one after another; both compute the same equations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from xpnn import ops
from xpnn.autograd.record import apply
from xpnn.backend import array_namespace, device_of, unwrap
from xpnn.errors import ConfigError, ShapeError
from xpnn.functional.neural import linear
from xpnn.functional.rectifiers import relu
from xpnn.functional.recurrent_steps import gru_step, lstm_step, require_limit, rnn_step
from xpnn.functional.sigmoids import sigmoid, tanh
from xpnn.primitives import recurrent as scans
from xpnn.primitives import recurrent_gru as gru_scans
from xpnn.primitives.recurrent_parts import require_mask, require_sequence, require_state

__all__ = ["gru", "lstm", "rnn"]

Array = Any
Activation = Callable[[Array], Array]


def rnn(
    x: Array,
    weight_input: Array,
    weight_hidden: Array,
    bias: Array | None = None,
    h0: Array | None = None,
    *,
    activation: Activation = tanh,
    mask: Array | None = None,
    reverse: bool = False,
    grad_clip: float | None = None,
) -> tuple[Array, Array]:
    r"""Elman's network over a sequence, :math:`h_t = a(x_t W + h_{t-1} U + b)`.

    Parameters
    ----------
    x : array of shape (N, T, D)
    weight_input, weight_hidden : arrays of shape (D, H) and (H, H)
    bias : array of shape (H,), optional
    h0 : array of shape (N, H), optional
        The state to begin with; zeros if not given.
    activation : callable
        A function of one array; ``tanh`` and ``relu`` are fused.
    mask : booleans of shape (N, T), optional
        Where False, the state is handed on. What x holds there has no influence.
    reverse : bool
        Whether to begin with the last step.
    grad_clip : float, optional
        In the backward pass, clip the gradient of the activation's argument at every step to
        [-grad_clip, grad_clip].

    Returns
    -------
    y : array of shape (N, T, H)
        The states, in the order of x.
    h : array of shape (N, H)
        The last state; with ``reverse`` the one of the first step.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> one = np.ones((1, 1))
    >>> y, h = F.rnn(np.ones((1, 3, 1)), one, one, activation=F.relu)
    >>> y[0, :, 0]
    array([1., 2., 3.])
    """
    x, h0 = _prepared("rnn", x, weight_input, weight_hidden, bias, mask, grad_clip, 1, h0)
    if activation is tanh or activation is relu:
        name = "tanh" if activation is tanh else "relu"
        options = {"activation": name, "reverse": reverse, "grad_clip": grad_clip}
        return apply(scans.rnn_scan, (x, weight_input, weight_hidden, bias, h0, mask), options)

    def step(p: Array, h: Array) -> tuple[Array]:
        return (rnn_step(p, weight_hidden, h, activation=activation, grad_clip=grad_clip),)

    return _stepped(step, linear(x, weight_input, bias), (h0,), mask, reverse)


def gru(
    x: Array,
    weight_input: Array,
    weight_hidden: Array,
    bias: Array | None = None,
    bias_hidden: Array | None = None,
    h0: Array | None = None,
    *,
    reset_after: bool = True,
    activation: Activation = tanh,
    gate_activation: Activation = sigmoid,
    mask: Array | None = None,
    reverse: bool = False,
    grad_clip: float | None = None,
) -> tuple[Array, Array]:
    r"""Gated recurrent unit over a sequence (Cho et al. 2014), gates r, z, n.

    .. math:: r, z = \sigma(x_t W + h_{t-1} U + b), \quad
              n = a(x_t W_n + b_n + r (h_{t-1} U_n + b_{hn})), \quad h_t = (1 - z) n + z h_{t-1}

    With ``reset_after=False``, as in the paper, :math:`n = a(x_t W_n + b_n + (r h_{t-1}) U_n)`.

    Parameters
    ----------
    x : array of shape (N, T, D)
    weight_input, weight_hidden : arrays of shape (D, 3 H) and (H, 3 H)
    bias : array of shape (3 H,), optional
    bias_hidden : array of shape (H,), optional
        :math:`b_{hn}`; there is none in a unit that resets before.
    h0 : array of shape (N, H), optional
        The state to begin with; zeros if not given.
    reset_after : bool
    activation, gate_activation : callable
        Functions of one array; ``tanh`` and ``sigmoid`` are fused.
    mask, reverse, grad_clip
        As for :func:`rnn`; what is clipped are the gradients of the arguments of r, z and n.

    Returns
    -------
    y : array of shape (N, T, H)
        The states, in the order of x.
    h : array of shape (N, H)
        The last state.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> y, h = F.gru(np.ones((2, 3, 4)), np.ones((4, 15)), np.ones((5, 15)))
    >>> y.shape, h.shape
    ((2, 3, 5), (2, 5))
    """
    if bias_hidden is not None and not reset_after:
        msg = "gru: 'bias_hidden' belongs to reset_after=True; before the product there is none."
        raise ConfigError(msg)
    x, h0 = _prepared("gru", x, weight_input, weight_hidden, bias, mask, grad_clip, 3, h0)
    if activation is tanh and gate_activation is sigmoid:
        options = {"reverse": reverse, "grad_clip": grad_clip}
        first = (x, weight_input, weight_hidden, bias)
        if reset_after:
            return apply(gru_scans.gru_scan, (*first, bias_hidden, h0, mask), options)
        return apply(gru_scans.gru_scan_reset_before, (*first, h0, mask), options)
    one = functools.partial(
        gru_step, reset_after=reset_after,
        activation=activation, gate_activation=gate_activation, grad_clip=grad_clip,
    )  # fmt: skip

    def step(p: Array, h: Array) -> tuple[Array]:
        return (one(p, weight_hidden, bias_hidden, h),)

    return _stepped(step, linear(x, weight_input, bias), (h0,), mask, reverse)


def lstm(
    x: Array,
    weight_input: Array,
    weight_hidden: Array,
    bias: Array | None = None,
    h0: Array | None = None,
    c0: Array | None = None,
    *,
    peephole: Array | None = None,
    tied: bool = False,
    activation: Activation = tanh,
    gate_activation: Activation = sigmoid,
    mask: Array | None = None,
    reverse: bool = False,
    grad_clip: float | None = None,
) -> tuple[Array, Array, Array]:
    r"""Long short-term memory over a sequence, gates i, f, g, o.

    .. math:: i, f, o = \sigma(x_t W + h_{t-1} U + b), \quad g = a(x_t W + h_{t-1} U + b), \quad
              c_t = f c_{t-1} + i g, \quad h_t = o\, a(c_t)

    Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000.

    Parameters
    ----------
    x : array of shape (N, T, D)
    weight_input, weight_hidden : arrays of shape (D, 4 H) and (H, 4 H), with ``tied`` 3 H
    bias : array of shape (4 H,), with ``tied`` (3 H,), optional
    h0, c0 : arrays of shape (N, H), optional
        State and memory to begin with; zeros if not given.
    peephole : array of shape (3, H), with ``tied`` (2, H), optional
        Diagonal weights with which the gates look into the memory, of i and f on :math:`c_{t-1}`
        and of o on :math:`c_t` (Gers & Schmidhuber 2000).
    tied : bool
        Whether :math:`i = 1 - f`; the gates are then f, g, o.
    activation, gate_activation : callable
        Functions of one array; ``tanh`` and ``sigmoid`` are fused.
    mask, reverse, grad_clip
        As for :func:`rnn`; what is clipped are the gradients of the gates' arguments.

    Returns
    -------
    y : array of shape (N, T, H)
        The states, in the order of x.
    h, c : arrays of shape (N, H)
        The last state and the last memory.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> y, h, c = F.lstm(np.ones((2, 3, 4)), np.ones((4, 20)), np.ones((5, 20)))
    >>> y.shape, h.shape, c.shape
    ((2, 3, 5), (2, 5), (2, 5))
    """
    gates = 3 if tied else 4
    x, h0, c0 = _prepared(
        "lstm", x, weight_input, weight_hidden, bias, mask, grad_clip, gates, h0, c0
    )
    hidden = weight_hidden.shape[0]
    if peephole is not None and tuple(peephole.shape) != (gates - 1, hidden):
        which = "f and o" if tied else "i, f and o"
        msg = (
            f"lstm: expected 'peephole' to have a row of {hidden} for each of {which}, shape"
            f" {(gates - 1, hidden)}, got {tuple(peephole.shape)}."
        )
        raise ShapeError(msg)
    if activation is tanh and gate_activation is sigmoid:
        options = {"tied": tied, "reverse": reverse, "grad_clip": grad_clip}
        args = (x, weight_input, weight_hidden, bias, h0, c0, peephole, mask)
        return apply(scans.lstm_scan, args, options)
    one = functools.partial(
        lstm_step, peephole=peephole, tied=tied,
        activation=activation, gate_activation=gate_activation, grad_clip=grad_clip,
    )  # fmt: skip

    def step(p: Array, h: Array, c: Array) -> tuple[Array, Array]:
        return one(p, weight_hidden, h, c)

    return _stepped(step, linear(x, weight_input, bias), (h0, c0), mask, reverse)


def _prepared(
    who: str,
    x: Array,
    weight_input: Array,
    weight_hidden: Array,
    bias: Array | None,
    mask: Array | None,
    grad_clip: float | None,
    gates: int,
    *states: Array | None,
) -> list[Array]:
    """Return inputs without padding and the states to begin with, after looking at everything."""
    require_sequence(who, tuple(x.shape), weight_input.shape[0], f"{who}_step")
    hidden, width = weight_hidden.shape[0], gates * weight_hidden.shape[0]
    shapes = [tuple(w.shape) for w in (weight_input, weight_hidden)]
    if shapes != [(weight_input.shape[0], width), (hidden, width)]:
        msg = (
            f"{who}: expected weights of shapes (D, {gates} H) and (H, {gates} H), got"
            f" {shapes[0]} and {shapes[1]}."
        )
        raise ShapeError(msg)
    n, steps = x.shape[0], x.shape[1]
    require_mask(who, mask, (n, steps))
    for name, state in zip(("h0", "c0"), states, strict=False):
        require_state(who, name, state, (n, hidden))
    require_limit(who, grad_clip)
    if mask is not None:  # padding may hold NaN, and zero times NaN is none of the gradients
        xp, counts = array_namespace(x, mask), array_namespace(mask).expand_dims(mask, axis=-1)
        x = xp.where(counts, x, xp.zeros_like(x))
    if any(state is None for state in states):
        given = [unwrap(a) for a in (x, weight_input, bias) if a is not None]
        xp = array_namespace(*given)
        dtype = xp.result_type(*given)
        zeros = xp.zeros((n, hidden), dtype=dtype, device=device_of(x).native)
    return [x, *(zeros if state is None else state for state in states)]


def _stepped(
    step: Callable[..., tuple[Array, ...]],
    projections: Array,
    states: tuple[Array, ...],
    mask: Array | None,
    reverse: bool,
) -> Any:
    """Walk over time with any step, and return the states at each, and the last of them."""
    parts = ops.unstack(projections, axis=1)
    count = len(parts)
    masks: Any = [None] * count
    if mask is not None:
        masks = ops.unstack(ops.expand_dims(mask, axis=-1), axis=1)
    outputs: list[Any] = [None] * count
    for t in reversed(range(count)) if reverse else range(count):
        new = step(parts[t], *states)
        if masks[t] is not None:
            new = tuple(ops.where(masks[t], a, b) for a, b in zip(new, states, strict=True))
        states = new
        outputs[t] = states[0]
    return (ops.stack(outputs, axis=1), *states)
