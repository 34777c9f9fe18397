"""Single steps of recurrent networks, and what goes with them: equations in standard functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnn import backend, ops
from xpnn._dtypes import as_dtype
from xpnn.autograd.record import apply
from xpnn.backend import array_namespace, unwrap
from xpnn.errors import ConfigError, DataError, DTypeError, ShapeError
from xpnn.functional.sigmoids import sigmoid, tanh
from xpnn.primitives import recurrent
from xpnn.primitives.recurrent_parts import blocks

__all__ = [
    "clip_gradient",
    "gru_step",
    "lstm_step",
    "require_limit",
    "rnn_step",
    "sequence_mask",
]

Array = Any
Activation = Callable[[Array], Array]


def clip_gradient(x: Array, limit: float) -> Array:
    """Return ``x``; the gradient that comes back is clipped to [-limit, limit], each element.

    Only xpnn's own tape sees it: on raw arrays it is the identity.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> from xpnn import functional as F
    >>> xpnn.grad(lambda x: xpnn.ops.sum(5.0 * F.clip_gradient(x, 1.0)))(np.ones(2))
    array([1., 1.])
    """
    require_limit("clip_gradient", limit)
    return apply(recurrent.clip_gradient, (x,), {"limit": limit})


def require_limit(who: str, limit: float | None) -> None:
    """Raise an error unless a limit of gradients is None or positive."""
    if limit is not None and not limit > 0.0:
        msg = f"{who}: the limit of gradients must be positive, got {limit}."
        raise ConfigError(msg)


def sequence_mask(lengths: Any, steps: int) -> Array:
    """Return which of the steps of each sequence come before its end.

    Parameters
    ----------
    lengths : integer array of shape (N,)
        How many steps of each sequence count, in [0, steps].
    steps : int
        T.

    Returns
    -------
    array of booleans of shape (N, T)

    Raises
    ------
    ShapeError, DTypeError
        If the lengths are not N integers.
    DataError
        If a length is negative, or larger than ``steps``. On a GPU, where a look would stop the
        pipeline, such a length counts as 0, or as ``steps``.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.sequence_mask(np.asarray([2, 0, 3]), 3)
    array([[ True,  True, False],
           [False, False, False],
           [ True,  True,  True]])
    """
    raw = unwrap(lengths)
    if not hasattr(raw, "shape"):
        msg = (
            f"sequence_mask: expected an array of lengths, got {type(raw).__name__}."
            " Make one with xpnn.asarray(lengths)."
        )
        raise DTypeError(msg)
    if len(raw.shape) != 1:
        msg = (
            "sequence_mask: expected lengths to be one integer a sequence, shape (N,), got"
            f" {tuple(raw.shape)}."
        )
        raise ShapeError(msg)
    dtype = as_dtype(raw.dtype)
    if dtype.kind not in "iu":
        msg = (
            f"sequence_mask: expected lengths to be integers, got {dtype}. A mask of booleans is"
            " given as mask=."
        )
        raise DTypeError(msg)
    xp, home = array_namespace(raw), backend.device_of(raw)
    if raw.shape[0] and home.library.name != "cuda":
        low, high = int(xp.min(raw)), int(xp.max(raw))
        if low < 0 or high > steps:
            wrong = low if low < 0 else high
            msg = (
                f"sequence_mask: the sequences have {steps} steps, so expected lengths in"
                f" [0, {steps}], got {wrong}."
            )
            raise DataError(msg)
    wide = backend.index_dtype(home)  # that of the lengths may be too small for T
    ramp = xp.arange(steps, dtype=wide, device=home.native)
    return ramp[None, :] < xp.astype(raw, wide)[:, None]


def rnn_step(
    projection: Array,
    weight_hidden: Array,
    h: Array,
    *,
    activation: Activation = tanh,
    grad_clip: float | None = None,
) -> Array:
    """Return the next state of Elman's network, ``activation(projection + h @ weight_hidden)``.

    Parameters
    ----------
    projection : array of shape (N, H)
        The input's share, ``x @ weight_input + bias``.
    weight_hidden : array of shape (H, H)
    h : array of shape (N, H)
    activation, grad_clip
        As for :func:`rnn`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.rnn_step(np.ones((1, 1)), np.asarray([[2.0]]), np.asarray([[3.0]]), activation=F.relu)
    array([[7.]])
    """
    return activation(_clip(ops.add(projection, ops.matmul(h, weight_hidden)), grad_clip))


def gru_step(
    projection: Array,
    weight_hidden: Array,
    bias_hidden: Array | None,
    h: Array,
    *,
    reset_after: bool = True,
    activation: Activation = tanh,
    gate_activation: Activation = sigmoid,
    grad_clip: float | None = None,
) -> Array:
    """Return the next state of a gated recurrent unit.

    Parameters
    ----------
    projection : array of shape (N, 3 H)
        The input's share of the gates r, z, n: ``x @ weight_input + bias``.
    weight_hidden : array of shape (H, 3 H)
    bias_hidden : array of shape (H,), or None
    h : array of shape (N, H)
    reset_after, activation, gate_activation, grad_clip
        As for :func:`gru`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.gru_step(np.zeros((1, 3)), np.zeros((1, 3)), None, np.asarray([[4.0]]))  # half of h
    array([[2.]])
    """
    n = h.shape[1]
    p_gates, p_n = projection[:, : 2 * n], projection[:, 2 * n :]
    u_gates, u_n = weight_hidden[:, : 2 * n], weight_hidden[:, 2 * n :]
    gates = gate_activation(_clip(ops.add(p_gates, ops.matmul(h, u_gates)), grad_clip))
    r, z = blocks(gates, n)
    if reset_after:
        inner = ops.matmul(h, u_n)
        if bias_hidden is not None:
            inner = ops.add(inner, bias_hidden)
        inner = ops.multiply(r, inner)
    else:
        inner = ops.matmul(ops.multiply(r, h), u_n)
    candidate = activation(_clip(ops.add(p_n, inner), grad_clip))
    return ops.add((1 - z) * candidate, ops.multiply(z, h))


def lstm_step(
    projection: Array,
    weight_hidden: Array,
    h: Array,
    c: Array,
    *,
    peephole: Array | None = None,
    tied: bool = False,
    activation: Activation = tanh,
    gate_activation: Activation = sigmoid,
    grad_clip: float | None = None,
) -> tuple[Array, Array]:
    """Return the next state and the next memory of a long short-term memory.

    Parameters
    ----------
    projection : array of shape (N, 4 H), or (N, 3 H) if the gates are tied
        The input's share of the gates i, f, g, o (f, g, o): ``x @ weight_input + bias``.
    weight_hidden : array of shape (H, 4 H) or (H, 3 H)
    h, c : arrays of shape (N, H)
    peephole, tied, activation, gate_activation, grad_clip
        As for :func:`lstm`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> h, c = F.lstm_step(np.zeros((1, 4)), np.zeros((1, 4)), np.ones((1, 1)), np.ones((1, 1)))
    >>> c
    array([[0.5]])
    """
    a = ops.add(projection, ops.matmul(h, weight_hidden))
    *a_early, a_g, a_o = blocks(a, h.shape[1])
    rows = None if peephole is None else ops.unstack(peephole, axis=0)
    if rows is not None:
        a_early = [
            ops.add(gate, ops.multiply(c, row)) for gate, row in zip(a_early, rows, strict=False)
        ]
    early = [gate_activation(_clip(gate, grad_clip)) for gate in a_early]
    f = early[-1]
    i = 1 - f if tied else early[0]
    c = ops.multiply(f, c) + i * activation(_clip(a_g, grad_clip))
    if rows is not None:
        a_o = ops.add(a_o, ops.multiply(c, rows[-1]))
    o = gate_activation(_clip(a_o, grad_clip))
    return o * activation(c), c


def _clip(a: Array, limit: float | None) -> Array:
    return a if limit is None else clip_gradient(a, limit)
