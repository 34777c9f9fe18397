r"""Scans of gated recurrent units: the reset gate after the recurrent product, and before it.

See :mod:`xpnn.primitives.recurrent` for how a scan works. The gates are r, z, n.
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

Array = Any
Gradients = tuple[Array | None, Array | None]


def _sigmoid(xp: Any, a: Array) -> Array:
    return 0.5 * xp.tanh(0.5 * a) + 0.5


@primitive(residual=True)
def gru_scan(
    xp: Any,
    x: Array,
    weight_input: Array,
    weight_hidden: Array,
    bias: Array | None,
    bias_hidden: Array | None,
    h0: Array,
    mask: Array | None,
    /,
    *,
    reverse: bool = False,
    grad_clip: float | None = None,
) -> tuple[tuple[Array, Array], Any]:
    r"""Gated recurrent unit as PyTorch and cuDNN have it: reset after the recurrent product.

    .. math:: r, z = \sigma(p_t + h_{t-1} U), \quad
              n = \tanh(p_t + r (h_{t-1} U_n + b_{hn})), \quad h_t = (1 - z) n + z h_{t-1}

    x (N, T, D), weight_input (D, 3 H), weight_hidden (H, 3 H), bias (3 H,) and bias_hidden (H,) or
    None, h0 (N, H), mask (N, T) or None -> states (N, T, H), the last one (N, H). What is kept of
    every step: r and z, n, and what r is multiplied with.
    """
    hidden = h0.shape[1]
    h = h0
    states, gates, candidates, inner = [], [], [], []
    steps = in_time(xp, linear(xp, x, weight_input, bias), reverse)
    for p, m in zip(steps, masks_in_time(xp, mask, reverse, len(steps)), strict=True):
        q = h @ weight_hidden
        both = _sigmoid(xp, p[:, : 2 * hidden] + q[:, : 2 * hidden])
        r, z = blocks(both, hidden)
        q_n = q[:, 2 * hidden :]
        if bias_hidden is not None:
            q_n = q_n + bias_hidden
        candidate = xp.tanh(p[:, 2 * hidden :] + r * q_n)
        h = held(xp, m, candidate + z * (h - candidate), h)
        states.append(h)
        gates.append(both)
        candidates.append(candidate)
        inner.append(q_n)
    return (together(xp, states, reverse), h), (gates, candidates, inner)


@gru_scan.vjp
def _gru_scan_vjp(
    xp: Any,
    g: Gradients,
    needs: list[bool],
    y: tuple[Array, Array],
    res: tuple[list[Array], list[Array], list[Array]],
    x: Array,
    weight_input: Array,
    weight_hidden: Array,
    h0: Array,
    mask: Array | None,
    reverse: bool,
    grad_clip: float | None,
) -> tuple[Array | None, ...]:
    gates, candidates, inner = res
    n_steps, back = len(gates), weight_hidden.T
    states = [h0, *in_time(xp, y[0], reverse)]
    arriving = gradients_in_time(xp, g[0], reverse, n_steps)
    masks = masks_in_time(xp, mask, reverse, n_steps)
    dh = xp.zeros_like(h0) if g[1] is None else g[1]
    found, found_inner = [], []
    for t in range(n_steps - 1, -1, -1):
        both, n, m = gates[t], candidates[t], masks[t]
        r, z = blocks(both, h0.shape[1])
        if arriving[t] is not None:
            dh = dh + arriving[t]
        da_n = clipped(xp, dh * (1 - z) * (1 - n * n), grad_clip)
        d_both = xp.concat([da_n * inner[t], dh * (states[t] - n)], axis=1)
        da = clipped(xp, d_both * (both * (1 - both)), grad_clip)
        d_inner = da_n * r
        if m is not None:
            da = held(xp, m, da, xp.zeros_like(da))
            da_n, d_inner = (held(xp, m, d, xp.zeros_like(d)) for d in (da_n, d_inner))
        past = xp.concat([da, d_inner], axis=1) @ back
        dh = past + (dh * z if m is None else held(xp, m, dh * z, dh))
        found.append(xp.concat([da, da_n], axis=1))
        found_inner.append(d_inner)
    d_gates = together(xp, found, not reverse)
    dx, d_input, d_bias = projected_back(xp, d_gates, needs, x, weight_input)
    d_weight = d_bias_hidden = None
    if needs[2] or needs[4]:
        d_n = together(xp, found_inner, not reverse)
        d_bias_hidden = xp.sum(d_n, axis=(0, 1), dtype=d_n.dtype) if needs[4] else None
        if needs[2]:
            d_q = xp.concat([d_gates[:, :, : -d_n.shape[2]], d_n], axis=2)
            d_weight = product_over_time(xp, states_before(xp, y[0], h0, reverse), d_q)
    return dx, d_input, d_weight, d_bias, d_bias_hidden, dh, None


@primitive(residual=True)
def gru_scan_reset_before(
    xp: Any,
    x: Array,
    weight_input: Array,
    weight_hidden: Array,
    bias: Array | None,
    h0: Array,
    mask: Array | None,
    /,
    *,
    reverse: bool = False,
    grad_clip: float | None = None,
) -> tuple[tuple[Array, Array], Any]:
    r"""Gated recurrent unit as in its first paper: reset before the recurrent product.

    .. math:: r, z = \sigma(p_t + h_{t-1} U), \quad
              n = \tanh(p_t + (r h_{t-1}) U_n), \quad h_t = (1 - z) n + z h_{t-1}

    x (N, T, D), weight_input (D, 3 H), weight_hidden (H, 3 H), bias (3 H,) or None, h0 (N, H), mask
    (N, T) or None -> states (N, T, H), the last one (N, H). What is kept of every step: r and z,
    and n.
    """
    hidden = h0.shape[1]
    of_gates, of_n = weight_hidden[:, : 2 * hidden], weight_hidden[:, 2 * hidden :]
    h = h0
    states, gates, candidates = [], [], []
    steps = in_time(xp, linear(xp, x, weight_input, bias), reverse)
    for p, m in zip(steps, masks_in_time(xp, mask, reverse, len(steps)), strict=True):
        both = _sigmoid(xp, p[:, : 2 * hidden] + h @ of_gates)
        r, z = blocks(both, hidden)
        candidate = xp.tanh(p[:, 2 * hidden :] + (r * h) @ of_n)
        h = held(xp, m, candidate + z * (h - candidate), h)
        states.append(h)
        gates.append(both)
        candidates.append(candidate)
    return (together(xp, states, reverse), h), (gates, candidates)


@gru_scan_reset_before.vjp
def _gru_scan_reset_before_vjp(
    xp: Any,
    g: Gradients,
    needs: list[bool],
    y: tuple[Array, Array],
    res: tuple[list[Array], list[Array]],
    x: Array,
    weight_input: Array,
    weight_hidden: Array,
    h0: Array,
    mask: Array | None,
    reverse: bool,
    grad_clip: float | None,
) -> tuple[Array | None, ...]:
    gates, candidates = res
    n_steps, hidden = len(gates), h0.shape[1]
    back, back_n = weight_hidden[:, : 2 * hidden].T, weight_hidden[:, 2 * hidden :].T
    states = [h0, *in_time(xp, y[0], reverse)]
    arriving = gradients_in_time(xp, g[0], reverse, n_steps)
    masks = masks_in_time(xp, mask, reverse, n_steps)
    dh = xp.zeros_like(h0) if g[1] is None else g[1]
    found = []
    for t in range(n_steps - 1, -1, -1):
        both, n, m, h = gates[t], candidates[t], masks[t], states[t]
        r, z = blocks(both, hidden)
        if arriving[t] is not None:
            dh = dh + arriving[t]
        da_n = clipped(xp, dh * (1 - z) * (1 - n * n), grad_clip)
        da_n = held(xp, m, da_n, xp.zeros_like(da_n))
        d_product = da_n @ back_n  # the gradient of r * h
        d_both = xp.concat([d_product * h, dh * (h - n)], axis=1)
        da = clipped(xp, d_both * (both * (1 - both)), grad_clip)
        da = held(xp, m, da, xp.zeros_like(da))
        past = da @ back + held(xp, m, d_product * r, d_product)
        dh = past + held(xp, m, dh * z, dh)
        found.append(xp.concat([da, da_n], axis=1))
    d_gates = together(xp, found, not reverse)
    dx, d_input, d_bias = projected_back(xp, d_gates, needs, x, weight_input)
    d_weight = None
    if needs[2]:
        before = states_before(xp, y[0], h0, reverse)
        resets = together(xp, [blocks(both, hidden)[0] for both in gates], reverse)
        of_gates = product_over_time(xp, before, d_gates[:, :, : 2 * hidden])
        of_n = product_over_time(xp, resets * before, d_gates[:, :, 2 * hidden :])
        d_weight = xp.concat([of_gates, of_n], axis=1)
    return dx, d_input, d_weight, d_bias, dh, None


__all__ = [name for name, value in globals().items() if isinstance(value, Primitive)]
