r"""Scaled dot-product attention.

What is kept for the gradient is the output and, a number a row, the logarithm of the sum of
exponentials, as in FlashAttention (Dao et al. 2022): the weights, by far the largest array, are
computed again. Heads are taken in blocks, so that no more than a block of weights exists at a time.

Arrays meet in functions, not operators: in a recorded backward pass some are raw, some Tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from xpnn import backend
from xpnn._dtypes import as_dtype
from xpnn.primitives.base import cast, primitive, unbroadcast, wide
from xpnn.primitives.products import matmul
from xpnn.primitives.shape import concat

__all__ = ["attention", "attention_weights"]

Array = Any
Shape = tuple[int, ...]


@primitive(residual=True)
def attention(
    xp: Any,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    keep: Array | None,
    /,
    *,
    scale: float,
    causal: bool = False,
    gain: float = 1.0,
    block: int = 2**24,
) -> tuple[Array, Array]:
    r"""Weighted means of values, the weights a softmax of products of queries and keys.

    .. math:: Y = D(P) V, \quad P = \mathrm{softmax}(S), \quad S = c Q K^\top + M

    q (*, Tq, d), k (*, Tk, d), v (*, Tk, dv) -> (*, Tq, dv). A boolean mask (True: may attend) or
    one that is added, which broadcasts to (*, Tq, Tk); ``causal`` lets row i see columns up to i. D
    is the dropout, times ``gain`` where ``keep`` is True. A row that may attend to nothing is zero.
    ``block`` is how many weights are computed at a time, but no less than those of a head. Of half
    precision only products are computed: S and P are of float32.
    """
    lead, length = q.shape[:-2], q.shape[-2]
    ahead = _causal(xp, q, k) if causal else None
    outputs, sums = [], []
    for qi, ki, vi, masked, kept in _blocks(xp, block, lead, mask, keep, q, k, v):
        e, top, total = _exponentials(xp, qi, ki, masked, ahead, scale)
        if masked is not None or not k.shape[-2]:  # a row without weights: y = 0, and P = 0 later
            total = xp.where(total == 0, xp.ones_like(total), total)
        e = e if kept is None else xp.where(kept, e, _scalar(xp, 0.0, e))
        outputs.append(cast(xp, matmul(xp, cast(xp, e, v.dtype), vi) * (gain / total), q.dtype))
        sums.append(xp.log(total) + top)
    y, logarithm = (p[0] if len(p) == 1 else concat(xp, *p, axis=0) for p in (outputs, sums))
    return xp.reshape(y, (*lead, length, v.shape[-1])), logarithm


@attention.vjp
def _attention_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    keep: Array | None,
    y: Array,
    res: Array,
    scale: float,
    causal: bool,
    gain: float,
    block: int,
) -> tuple[Array | None, ...]:
    # dV = D(P)^T dY, dP = D(dY V^T), dS = P (dP - sum(P dP)): the sum is that of dY Y.
    lead = q.shape[:-2]
    ahead = _causal(xp, q, k) if causal else None
    found: list[list[Array]] = [[], [], [], []]
    parts = _blocks(xp, block, lead, mask, keep, q, k, v, g, y, res)
    for qi, ki, vi, gi, yi, logarithm, masked, kept in parts:
        p = xp.exp(xp.subtract(_scores(xp, qi, ki, masked, ahead, scale), logarithm))
        lost = xp.sum(xp.multiply(wide(xp, gi), yi), axis=-1, keepdims=True)
        gi = gi if gain == 1.0 else gi * gain
        zero = _scalar(xp, 0.0, p)
        if needs[2]:
            dropped = p if kept is None else xp.where(kept, p, zero)
            found[2].append(matmul(xp, xp.matrix_transpose(cast(xp, dropped, v.dtype)), gi))
        if not (needs[0] or needs[1] or needs[3]):
            continue
        dp = wide(xp, matmul(xp, gi, xp.matrix_transpose(vi)))
        ds = p * ((dp if kept is None else xp.where(kept, dp, zero)) - lost)
        if needs[3] and masked is not None:
            found[3].append(unbroadcast(xp, ds, (ds.shape[0], *masked.shape[-2:])))
        ds = cast(xp, ds, q.dtype)
        if needs[0]:
            found[0].append(matmul(xp, ds, ki) * scale)
        if needs[1]:
            found[1].append(matmul(xp, xp.matrix_transpose(ds), qi * scale))
    joined = [concat(xp, *p, axis=0) if len(p) > 1 else p[0] if p else None for p in found]
    dq, dk, dv, dmask = (
        None if d is None else xp.reshape(d, (*lead, *d.shape[-2:])) for d in joined
    )
    dmask = None if dmask is None or mask is None else unbroadcast(xp, dmask, mask.shape)
    return dq, dk, dv, dmask, None


def attention_weights(
    xp: Any, q: Array, k: Array, mask: Array | None, /, *, scale: float, causal: bool = False
) -> Array:
    """Weights P of :data:`attention`, (*, Tq, Tk). Made of standard functions."""
    ahead = _causal(xp, q, k) if causal else None
    e, _, total = _exponentials(xp, q, k, mask, ahead, scale)
    total = total if mask is None else xp.where(total == 0, xp.ones_like(total), total)
    return cast(xp, e / total, q.dtype)


# ---------------------------------------------------------------------------------------- scores


def _exponentials(
    xp: Any, q: Array, k: Array, mask: Array | None, ahead: Array | None, scale: float
) -> tuple[Array, Array, Array]:
    """Return exp(S - top), the largest scores ``top`` of the rows, and the sums of the rows."""
    s = _scores(xp, q, k, mask, ahead, scale)
    raw = backend.unwrap(s)  # the weights do not depend on what is subtracted: nor do gradients
    if s.shape[-1] == 0:
        top = xp.zeros((*s.shape[:-1], 1), dtype=raw.dtype, device=backend.device_of(raw).native)
    else:
        top = xp.max(raw, axis=-1, keepdims=True)
    if mask is not None:
        top = xp.where(top == -math.inf, xp.zeros_like(top), top)
    e = xp.exp(s - top)
    return e, top, xp.sum(e, axis=-1, keepdims=True)


def _scores(
    xp: Any, q: Array, k: Array, mask: Array | None, ahead: Array | None, scale: float
) -> Array:
    s = wide(xp, matmul(xp, q * scale, xp.matrix_transpose(k)))
    allowed = ahead
    if mask is not None:
        if as_dtype(mask.dtype).kind == "b":
            allowed = mask if ahead is None else xp.logical_and(mask, ahead)
        else:
            s = xp.add(s, mask)
    return s if allowed is None else xp.where(allowed, s, _scalar(xp, -math.inf, s))


def _causal(xp: Any, q: Array, k: Array) -> Array:
    home = backend.device_of(q).native
    return xp.arange(q.shape[-2], device=home)[:, None] >= xp.arange(k.shape[-2], device=home)


def _scalar(xp: Any, value: float, like: Array) -> Array:
    raw = backend.unwrap(like)
    return xp.full((), value, dtype=raw.dtype, device=backend.device_of(raw).native)


# ----------------------------------------------------------------------------------------- blocks


def _blocks(
    xp: Any, block: int, lead: Shape, mask: Array | None, keep: Array | None, *arrays: Array
) -> Iterator[list[Any]]:
    """Yield the parts (heads, T, d) of arrays that belong to a block, the masks last."""
    heads = math.prod(lead)
    flat = [xp.reshape(x, (heads, *x.shape[-2:])) for x in arrays]
    flat += [None if m is None else _heads(xp, m, lead) for m in (mask, keep)]
    q, k = arrays[:2]
    step = max(1, block // max(1, q.shape[-2] * k.shape[-2]))
    if step >= heads:
        yield flat
        return
    for i in range(0, heads, step):
        part = slice(i, min(i + step, heads))
        yield [x if x is None or x.shape[0] == 1 else x[part, ...] for x in flat]


def _heads(xp: Any, mask: Array, lead: Shape) -> Array:
    """Return a mask as (heads, ., .), or (1, ., .) if it is the same for all."""
    shape = (1,) * (len(lead) + 2 - mask.ndim) + tuple(mask.shape)
    if all(n == 1 for n in shape[:-2]):
        return xp.reshape(mask, (1, *shape[-2:]))
    full = xp.broadcast_to(xp.reshape(mask, shape), (*lead, *shape[-2:]))
    return xp.reshape(full, (math.prod(lead), *shape[-2:]))
