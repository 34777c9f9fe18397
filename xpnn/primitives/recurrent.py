r"""Recurrent scans: a whole sequence as one operation.

The inputs' share of the gates, :math:`P = X W + b` of shape (N, T, gates * H), is one product for
all steps; then each walks over time. The backward pass walks once in the other direction for the
gradients of the gates' arguments; the gradients of the weights are products over all steps. A step
that ``mask`` leaves out hands the state on.
"""

from __future__ import annotations

from typing import Any

from xpnn.primitives.base import Primitive, primitive
from xpnn.primitives.neural import linear
from xpnn.primitives.recurrent_parts import (
    blocks,
    clipped,
    gradients_in_time,
    held,
    in_time,
    masks_in_time,
    product_over_time,
    projected_back,
    states_before,
    together,
)
from xpnn.primitives.shape import stack

Array = Any


@primitive()
def clip_gradient(xp: Any, x: Array, /, *, limit: float) -> Array:
    """Return ``x``; the gradient that comes back through it is clipped to [-limit, limit]."""
    return x


clip_gradient.d(lambda xp, g, limit: clipped(xp, g, limit))


# ------------------------------------------------------------------------------------- RNN


@primitive()
def rnn_scan(
    xp: Any,
    x: Array,
    weight_input: Array,
    weight_hidden: Array,
    bias: Array | None,
    h0: Array,
    mask: Array | None,
    /,
    *,
    activation: str = "tanh",
    reverse: bool = False,
    grad_clip: float | None = None,
) -> tuple[Array, Array]:
    r"""Elman's network, :math:`h_t = a(p_t + h_{t-1} U)`, with a = tanh or relu.

    x (N, T, D), weight_input (D, H), weight_hidden (H, H), bias (H,) or None, h0 (N, H), mask
    (N, T) or None -> states (N, T, H), the last one (N, H).
    """
    h, states = h0, []
    steps = in_time(xp, linear(xp, x, weight_input, bias), reverse)
    for p, m in zip(steps, masks_in_time(xp, mask, reverse, len(steps)), strict=True):
        a = p + h @ weight_hidden
        h = held(xp, m, xp.tanh(a) if activation == "tanh" else xp.maximum(a, 0.0), h)
        states.append(h)
    return together(xp, states, reverse), h


@rnn_scan.vjp
def _rnn_scan_vjp(
    xp: Any,
    g: tuple[Array | None, Array | None],
    needs: list[bool],
    y: tuple[Array, Array],
    x: Array,
    weight_input: Array,
    weight_hidden: Array,
    h0: Array,
    mask: Array | None,
    activation: str,
    reverse: bool,
    grad_clip: float | None,
) -> tuple[Array | None, ...]:
    n = y[0].shape[1]
    states = in_time(xp, y[0], reverse)
    arriving = gradients_in_time(xp, g[0], reverse, n)
    masks = masks_in_time(xp, mask, reverse, n)
    back = weight_hidden.T
    dh = xp.zeros_like(h0) if g[1] is None else g[1]
    gates = []
    for t in range(n - 1, -1, -1):
        h, m = states[t], masks[t]
        if arriving[t] is not None:
            dh = dh + arriving[t]
        # Where the step does not count h is a state from before: finite, and not looked at.
        da = dh * (1 - h * h) if activation == "tanh" else xp.where(h > 0, dh, xp.zeros_like(dh))
        da = clipped(xp, da, grad_clip)
        da = held(xp, m, da, xp.zeros_like(da))
        past = da @ back
        dh = past if m is None else past + xp.where(m, xp.zeros_like(dh), dh)
        gates.append(da)
    d_gates = together(xp, gates, not reverse)
    dx, d_input, d_bias = projected_back(xp, d_gates, needs, x, weight_input)
    d_weight = None
    if needs[2]:
        d_weight = product_over_time(xp, states_before(xp, y[0], h0, reverse), d_gates)
    return dx, d_input, d_weight, d_bias, dh, None


# ------------------------------------------------------------------------------------ LSTM


@primitive(residual=True)
def lstm_scan(
    xp: Any,
    x: Array,
    weight_input: Array,
    weight_hidden: Array,
    bias: Array | None,
    h0: Array,
    c0: Array,
    peephole: Array | None,
    mask: Array | None,
    /,
    *,
    tied: bool = False,
    reverse: bool = False,
    grad_clip: float | None = None,
) -> tuple[tuple[Array, Array, Array], Any]:
    r"""Long short-term memory, gates i, f, g, o.

    .. math:: i, f, o = \sigma(p_t + h_{t-1} U), \quad g = \tanh(p_t + h_{t-1} U), \quad
              c_t = f c_{t-1} + i g, \quad h_t = o \tanh c_t

    With ``tied`` the gates are f, g, o and :math:`i = 1 - f`. ``peephole`` has a row of H for i and
    f (for f alone, if they are tied), multiplied with :math:`c_{t-1}`, and one for o, multiplied
    with :math:`c_t`.

    x (N, T, D), weight_input (D, gates * H), weight_hidden (H, gates * H), bias (gates * H,) or
    None, h0 and c0 (N, H), mask (N, T) or None -> states (N, T, H), the last one, the last memory
    (N, H). What is kept of every step: the gates, the memory and its tanh.
    """
    hidden = h0.shape[1]
    h, c = h0, c0
    states, gates, memories, squashed = [], [], [], []
    scale = _scales(xp, weight_hidden, hidden)
    peeps = _peepholes(xp, peephole)
    steps = in_time(xp, linear(xp, x, weight_input, bias), reverse)
    for p, m in zip(steps, masks_in_time(xp, mask, reverse, len(steps)), strict=True):
        a = p + h @ weight_hidden
        if peeps is None:
            both = _squash(xp, a, scale)
            new = _memory(both, c, tied)
        else:
            *early, late = peeps
            seen = xp.concat([*(c * row for row in early), xp.zeros_like(c)], axis=1)
            first = _squash(xp, a[:, :-hidden] + seen, scale[:-hidden])
            new = _memory(first, c, tied)
            last = _squash(xp, a[:, -hidden:] + new * late, scale[-hidden:])
            both = xp.concat([first, last], axis=1)
        tanh_c = xp.tanh(new)
        h = held(xp, m, both[:, -hidden:] * tanh_c, h)
        c = held(xp, m, new, c)
        states.append(h)
        gates.append(both)
        memories.append(c)
        squashed.append(tanh_c)
    return (together(xp, states, reverse), h, c), (gates, memories, squashed)


def _scales(xp: Any, weight_hidden: Array, hidden: int) -> Array:
    """Return 1/2 for the gates and 1 for g, the last but one, each H times."""
    count = weight_hidden.shape[1] // hidden
    one = xp.ones_like(weight_hidden[0, :hidden])
    return xp.concat([one if k == count - 2 else one * 0.5 for k in range(count)])


def _squash(xp: Any, a: Array, scale: Array) -> Array:
    # sigmoid(a) = tanh(a / 2) / 2 + 1/2: one tanh for all gates. The halves are exact.
    return xp.tanh(a * scale) * scale + (1 - scale)


def _memory(gates: Array, c: Array, tied: bool) -> Array:
    """Return :math:`f c + i g`, given gates of which o may be missing."""
    parts = blocks(gates, c.shape[1])
    if tied:
        f, g = parts[:2]
        return f * (c - g) + g
    i, f, g = parts[:3]
    return f * c + i * g


def _peepholes(xp: Any, peephole: Array | None) -> list[Array] | None:
    return None if peephole is None else list(xp.unstack(peephole, axis=0))


@lstm_scan.vjp
def _lstm_scan_vjp(
    xp: Any,
    g: tuple[Array | None, Array | None, Array | None],
    needs: list[bool],
    y: tuple[Array, Array, Array],
    res: tuple[list[Array], list[Array], list[Array]],
    x: Array,
    weight_input: Array,
    weight_hidden: Array,
    h0: Array,
    c0: Array,
    peephole: Array | None,
    mask: Array | None,
    tied: bool,
    reverse: bool,
    grad_clip: float | None,
) -> tuple[Array | None, ...]:
    gates, memories, squashed = res
    hidden, n = h0.shape[1], len(gates)
    arriving = gradients_in_time(xp, g[0], reverse, n)
    masks = masks_in_time(xp, mask, reverse, n)
    peeps = _peepholes(xp, peephole)
    back = weight_hidden.T
    shift = 2 * _scales(xp, weight_hidden, hidden) - 1  # the slope is (1 - y)(y + shift)
    dh = xp.zeros_like(h0) if g[1] is None else g[1]
    dc = xp.zeros_like(c0) if g[2] is None else g[2]
    found = []
    for t in range(n - 1, -1, -1):
        both, tanh_c, m = gates[t], squashed[t], masks[t]
        c = memories[t - 1] if t else c0
        *_, f, candidate, o = blocks(both, hidden)
        if arriving[t] is not None:
            dh = dh + arriving[t]
        d_new = dc + dh * o * (1 - tanh_c * tanh_c)
        slope = (1 - both) * (both + shift)
        d_o = dh * tanh_c
        if peeps is not None:  # o has looked at the new memory
            d_new = d_new + clipped(xp, d_o * slope[:, -hidden:], grad_clip) * peeps[-1]
        if tied:
            parts = [d_new * (c - candidate), d_new * (1 - f), d_o]
        else:
            parts = [d_new * candidate, d_new * c, d_new * both[:, :hidden], d_o]
        da = clipped(xp, xp.concat(parts, axis=1) * slope, grad_clip)
        da = held(xp, m, da, xp.zeros_like(da))
        past = d_new * f
        for row, d_gate in zip((peeps or [])[:-1], blocks(da, hidden), strict=False):
            past = past + d_gate * row
        dc = held(xp, m, past, dc)
        dh_past = da @ back
        dh = dh_past if m is None else dh_past + xp.where(m, xp.zeros_like(dh), dh)
        found.append(da)
    d_gates = together(xp, found, not reverse)
    dx, d_input, d_bias = projected_back(xp, d_gates, needs, x, weight_input)
    d_weight = d_peephole = None
    if needs[2]:
        d_weight = product_over_time(xp, states_before(xp, y[0], h0, reverse), d_gates)
    if needs[6]:
        d_peephole = _peephole_vjp(xp, found[::-1], [c0, *memories], hidden)
    return dx, d_input, d_weight, d_bias, dh, dc, d_peephole, None


def _peephole_vjp(xp: Any, d_gates: list[Array], memories: list[Array], hidden: int) -> Array:
    """Return the sums over examples and steps of gradients of gates times what they looked at."""
    before, after = stack(xp, *memories[:-1]), stack(xp, *memories[1:])
    d = stack(xp, *d_gates)  # (T, N, gates * H)
    early = range(0, d.shape[2] - 2 * hidden, hidden)
    products = [d[:, :, k : k + hidden] * before for k in early]
    products.append(d[:, :, -hidden:] * after)
    return xp.stack([xp.sum(x, axis=(0, 1), dtype=x.dtype) for x in products])


__all__ = [name for name, value in globals().items() if isinstance(value, Primitive)]
