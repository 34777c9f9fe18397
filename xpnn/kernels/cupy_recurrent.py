"""CUDA kernels of recurrent scans: a step is one product, and one launch for all its gates.

A gated recurrent unit that resets before its product takes two of each. The inputs' share of the
gates is one product for all steps, and so is each gradient of a weight, after the walk back. What
is kept of all steps lies in the order of time, in memory that is taken once: a step allocates
nothing. In half precision gates are computed, and memories kept, in float32.
"""

from __future__ import annotations

from typing import Any

from xpnn.kernels.cupy_launch import contiguous, cupy, wide
from xpnn.kernels.cupy_products import column_sums, product
from xpnn.kernels.cupy_recurrent_walk import (
    Gradients,
    Walk,
    accepts,
    limit,
    projected,
    recurrent,
)

__all__ = [
    "gru_scan",
    "gru_scan_accepts",
    "gru_scan_reset_before",
    "gru_scan_reset_before_accepts",
    "gru_scan_reset_before_vjp",
    "gru_scan_vjp",
    "lstm_scan",
    "lstm_scan_accepts",
    "lstm_scan_vjp",
    "rnn_scan",
    "rnn_scan_accepts",
    "rnn_scan_vjp",
]

Array = Any


# ------------------------------------------------------------------------------------- RNN


def rnn_scan_accepts(
    x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None, h0: Array,
    mask: Array | None, activation: str, reverse: bool, grad_clip: float | None,
) -> bool:  # fmt: skip
    return accepts(x, weight_input, weight_hidden, bias, h0)


def rnn_scan(
    xp: Any, x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None, h0: Array,
    mask: Array | None, *, activation: str, reverse: bool, grad_clip: float | None,
) -> Any:  # fmt: skip
    walk = Walk(x, h0.shape[1], mask, reverse)
    shares = product(walk.inputs(x), weight_input)
    options = (int(activation == "relu"),)
    arrays = (contiguous(bias), walk.mask)
    y, h = walk.forward("rnn_step", shares, arrays, weight_hidden, h0, options)
    return (y, walk.last(h).copy()), (walk, h)


rnn_scan.residual = True  # type: ignore[attr-defined]


def rnn_scan_vjp(
    xp: Any, g: Gradients, needs: list[bool], res: Any, x: Array, weight_input: Array,
    weight_hidden: Array, activation: str, grad_clip: float | None,
) -> Gradients:  # fmt: skip
    walk, h = res
    d = cupy().empty((walk.steps, walk.rows, walk.hidden), walk.dtype)
    options = (int(activation == "relu"), limit(grad_clip))
    dh = walk.backward("rnn_back", (h,), g, (d,), weight_hidden, options)
    shared = projected(walk, d, needs, x, weight_input)
    d_hidden = recurrent(walk, d, h) if needs[2] else None
    return shared.x, shared.weight, d_hidden, shared.bias, dh, None


# ------------------------------------------------------------------------------------ LSTM


def lstm_scan_accepts(
    x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None, h0: Array, c0: Array,
    peephole: Array | None, mask: Array | None, tied: bool, reverse: bool, grad_clip: float | None,
) -> bool:  # fmt: skip
    return accepts(x, weight_input, weight_hidden, bias, h0, c0, peephole)


def lstm_scan(
    xp: Any, x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None, h0: Array,
    c0: Array, peephole: Array | None, mask: Array | None,
    *, tied: bool, reverse: bool, grad_clip: float | None,
) -> Any:  # fmt: skip
    walk = Walk(x, h0.shape[1], mask, reverse)
    gates = product(walk.inputs(x), weight_input).reshape(walk.steps, walk.rows, -1)
    c = walk.states(c0, wide(x.dtype))
    arrays = (contiguous(bias), contiguous(peephole), walk.mask, c)
    y, h = walk.forward("lstm_step", gates, arrays, weight_hidden, h0, (int(tied),))
    return (y, walk.last(h).copy(), walk.last(c).astype(x.dtype)), (walk, gates, c, h)


lstm_scan.residual = True  # type: ignore[attr-defined]


def lstm_scan_vjp(
    xp: Any, g: Gradients, needs: list[bool], res: Any, x: Array, weight_input: Array,
    weight_hidden: Array, peephole: Array | None, tied: bool, grad_clip: float | None,
) -> Gradients:  # fmt: skip
    walk, gates, c, h = res
    d, dc = cupy().empty_like(gates), walk.gradient(g[2])
    kept, options = (gates, c, contiguous(peephole)), (int(tied), limit(grad_clip))
    dh = walk.backward("lstm_back", kept, g, (dc, d), weight_hidden, options)
    shared = projected(walk, d, needs, x, weight_input)
    d_hidden = recurrent(walk, d, h) if needs[2] else None
    d_peephole = _peephole_vjp(walk, d, c) if needs[6] else None
    dc = dc.astype(x.dtype, copy=False)
    return shared.x, shared.weight, d_hidden, shared.bias, dh, dc, d_peephole, None


def _peephole_vjp(walk: Walk, d: Array, c: Array) -> Array:
    """Return the sums of gradients of gates times the memories that they looked at."""
    before, after = walk.before(c), c[:-1] if walk.reverse else c[1:]
    hidden, dtype = walk.hidden, wide(d.dtype)
    early = range(0, d.shape[2] - 2 * hidden, hidden)
    seen = [(d[:, :, k : k + hidden], before) for k in early] + [(d[:, :, -hidden:], after)]
    sums = [(gate.astype(dtype, copy=False) * memory).sum(axis=(0, 1)) for gate, memory in seen]
    return cupy().stack(sums).astype(d.dtype, copy=False)


# ------------------------------------------------------------------------------------- GRU


def gru_scan_accepts(
    x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None,
    bias_hidden: Array | None, h0: Array, mask: Array | None, reverse: bool,
    grad_clip: float | None,
) -> bool:  # fmt: skip
    return accepts(x, weight_input, weight_hidden, bias, bias_hidden, h0)


def gru_scan(
    xp: Any, x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None,
    bias_hidden: Array | None, h0: Array, mask: Array | None,
    *, reverse: bool, grad_clip: float | None,
) -> Any:  # fmt: skip
    walk = Walk(x, h0.shape[1], mask, reverse)
    gates = product(walk.inputs(x), weight_input).reshape(walk.steps, walk.rows, -1)
    inner = cupy().empty((walk.steps, walk.rows, walk.hidden), x.dtype)
    arrays = (contiguous(bias), contiguous(bias_hidden), walk.mask, inner)
    y, h = walk.forward("gru_step", gates, arrays, weight_hidden, h0)
    return (y, walk.last(h).copy()), (walk, gates, inner, h)


gru_scan.residual = True  # type: ignore[attr-defined]


def gru_scan_vjp(
    xp: Any, g: Gradients, needs: list[bool], res: Any, x: Array, weight_input: Array,
    weight_hidden: Array, grad_clip: float | None,
) -> Gradients:  # fmt: skip
    walk, gates, inner, h = res
    d, dq = cupy().empty_like(gates), cupy().empty_like(gates)
    options = (limit(grad_clip),)
    dh = walk.backward("gru_back", (gates, inner, h), g, (d, dq), weight_hidden, options)
    shared = projected(walk, d, needs, x, weight_input)
    d_hidden = recurrent(walk, dq, h) if needs[2] else None
    d_inner = column_sums(dq.reshape(-1, dq.shape[2])[:, -walk.hidden :]) if needs[4] else None
    return shared.x, shared.weight, d_hidden, shared.bias, d_inner, dh, None


def gru_scan_reset_before_accepts(
    x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None, h0: Array,
    mask: Array | None, reverse: bool, grad_clip: float | None,
) -> bool:  # fmt: skip
    return accepts(x, weight_input, weight_hidden, bias, h0)


def gru_scan_reset_before(
    xp: Any, x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None, h0: Array,
    mask: Array | None, *, reverse: bool, grad_clip: float | None,
) -> Any:  # fmt: skip
    # Two products a step, the second of r h, which is there only after the first.
    walk, bias = Walk(x, h0.shape[1], mask, reverse), contiguous(bias)
    of_both, of_n = _parts(weight_hidden, walk.hidden)
    gates = product(walk.inputs(x), weight_input).reshape(walk.steps, walk.rows, -1)
    h, a = walk.states(h0, x.dtype), wide(x.dtype)
    resets = cupy().empty((walk.steps, walk.rows, walk.hidden), x.dtype)
    y = cupy().empty((walk.rows, walk.steps, walk.hidden), x.dtype)
    q, q_n = (cupy().empty((walk.rows, k * walk.hidden), a) for k in (2, 1))
    reset, renew = walk.launcher("gru_reset"), walk.launcher("gru_renew")
    for t in walk.forth:
        place = (*walk.sizes, t, walk.reverse)
        product(h[t + walk.reverse], of_both, out=q)
        reset(gates, q, bias, h, resets, *place)
        product(resets[t], of_n, out=q_n)
        renew(gates, q_n, bias, walk.mask, h, y, *place)
    return (y, walk.last(h).copy()), (walk, gates, resets, h)


gru_scan_reset_before.residual = True  # type: ignore[attr-defined]


def gru_scan_reset_before_vjp(
    xp: Any, g: Gradients, needs: list[bool], res: Any, x: Array, weight_input: Array,
    weight_hidden: Array, grad_clip: float | None,
) -> Gradients:  # fmt: skip
    walk, gates, resets, h = res
    of_both, of_n = (part.T for part in _parts(weight_hidden, walk.hidden))
    d, carry, most = cupy().empty_like(gates), walk.gradient(g[1]), limit(grad_clip)
    past, d_reset = cupy().empty_like(carry), cupy().empty_like(carry)
    renew, reset = walk.launcher("gru_renew_back"), walk.launcher("gru_reset_back")
    arriving, found = contiguous(g[0]), None
    for t in reversed(walk.forth):
        place = (*walk.sizes, t, walk.reverse, most)
        d_both, d_n = _parts(d[t], walk.hidden)
        renew(gates, h, walk.mask, arriving, found, carry, d, *place)
        product(d_n, of_n, out=d_reset)
        reset(gates, h, d_reset, carry, d, *place)
        found = product(d_both, of_both, out=past)
    dh = (carry + past).astype(x.dtype, copy=False)
    shared, d_hidden = projected(walk, d, needs, x, weight_input), None
    if needs[2]:
        before, of_resets = (a.reshape(-1, walk.hidden).T for a in (walk.before(h), resets))
        d_both, d_n = _parts(d.reshape(-1, d.shape[2]), walk.hidden)
        d_hidden = cupy().concatenate((product(before, d_both), product(of_resets, d_n)), axis=1)
    return shared.x, shared.weight, d_hidden, shared.bias, dh, None


def _parts(matrix: Array, hidden: int) -> tuple[Array, Array]:
    """Return the columns of the gates r and z, and those of n."""
    return matrix[:, : 2 * hidden], matrix[:, 2 * hidden :]
