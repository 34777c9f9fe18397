r"""NumPy kernel of attention: a tile of the weights at a time, in memory that is used again.

A tile is some heads, or rows of one head with all their keys: memory grows with the length and not
with its square. The gradient computes each tile again, from the logarithms of the sums of
exponentials. Queries, keys and values may be views of arrays with the heads beside the features, as
layers give them; outputs and gradients lie like their counterparts, so that nothing is copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from xpnn import parallel
from xpnn.kernels.fast import sweep
from xpnn.kernels.numpy_memory import empty, scratch
from xpnn.kernels.numpy_parts import keep as kept

__all__ = [
    "attention",
    "attention_accepts",
    "attention_vjp",
    "probabilities",
    "slopes",
    "weights",
]

Array = Any
Index = tuple[Any, ...]

_TILE = 1 << 17  # weights
_SHARED = 1 << 22  # multiplications from which a second thread pays


def attention_accepts(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    keep: Array | None,
    *,
    scale: float,
    causal: bool,
    gain: float,
    block: int,
) -> bool:
    """Whether everything is of one precision and nothing is empty."""
    if q.dtype.char not in "fd" or not q.dtype == k.dtype == v.dtype:
        return False
    if mask is not None and mask.dtype not in (np.bool_, q.dtype):
        return False
    return bool(q.size and k.size and v.size)


def attention(
    xp: Any,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    keep: Array | None,
    *,
    scale: float,
    causal: bool,
    gain: float,
    block: int,
) -> tuple[Array, Array]:
    lead = q.shape[:-2]
    tiles = _Tiles(q, k, mask, keep, scale, causal, block)
    v = _for_blas(v, tiles.lead)
    y = _like(tiles.q, v.shape[-1])
    logarithm = np.empty((*tiles.lead, q.shape[-2], 1), q.dtype)
    factor = q.dtype.type(gain)

    def attend(heads: Index) -> None:
        for rows, columns, _, s, kept_here in tiles.of(heads):
            logarithms = scratch("logarithms", (*s.shape[:-1], 1), s.dtype)
            weights(_rows(s), kept_here, factor, logarithms.reshape(-1))
            logarithm[rows] = logarithms
            np.matmul(s, v[columns], out=y[rows])

    parallel.share(attend, tiles.heads, worth=tiles.worth)
    return y.reshape(*lead, *y.shape[-2:]), logarithm.reshape(*lead, q.shape[-2], 1)


attention.residual = True  # type: ignore[attr-defined]


def attention_vjp(
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
    shapes = [x.shape for x in (q, k, v)]
    tiles = _Tiles(q, k, mask, keep, scale, causal, block)
    g, y, res, v = (_for_blas(x, tiles.lead) for x in (g, y, res, v))
    q, k = tiles.q, tiles.k
    dq, dk, dv = (_like(x) if n else None for x, n in zip((q, k, v), needs, strict=False))
    dmask = np.zeros((*res.shape[:-1], k.shape[-2]), q.dtype) if needs[3] else None
    if not tiles.whole:
        for d in (dk, dv):
            if d is not None:
                d.fill(0)

    def add(d: Array, columns: Index, a: Array, b: Array) -> None:
        if tiles.whole:
            np.matmul(a.swapaxes(-1, -2), b, out=d[columns])
        else:
            d[columns] += np.matmul(a.swapaxes(-1, -2), b)

    def back(heads: Index) -> None:
        for rows, columns, scaled, p, kept_here in tiles.of(heads):
            dropped = scratch("dropped", p.shape, p.dtype) if kept_here.size else p
            logarithms = np.ascontiguousarray(res[rows]).reshape(-1)
            probabilities(_rows(p), kept_here, logarithms, _rows(dropped))
            gi = g[rows]
            lost = np.vecdot(gi, y[rows])
            if gain != 1.0:
                gi = np.multiply(gi, gain, out=scratch("gi", gi.shape, gi.dtype))
            if dv is not None:
                add(dv, columns, dropped, gi)
            if not (needs[0] or needs[1] or needs[3]):
                continue
            ds = scratch("ds", p.shape, p.dtype)
            np.matmul(gi, v[columns].swapaxes(-1, -2), out=ds)
            slopes(_rows(p), kept_here, lost.reshape(-1), _rows(ds))
            if dq is not None:
                part = np.matmul(ds, k[columns], out=dq[rows])
                part *= scale
            if dk is not None:
                add(dk, columns, ds, scaled)
            if dmask is not None:
                dmask[rows][..., columns[-1]] = ds

    parallel.share(back, tiles.heads, worth=tiles.worth)
    d = [x if x is None else x.reshape(s) for x, s in zip((dq, dk, dv), shapes, strict=True)]
    return *d, None if dmask is None or mask is None else _summed(dmask, mask.shape), None


class _Tiles:
    """Which heads a thread takes at a time, which rows of them, and the scores of those."""

    def __init__(
        self,
        q: Array,
        k: Array,
        mask: Array | None,
        keep: Array | None,
        scale: float,
        causal: bool,
        block: int,
    ) -> None:
        self.lead = lead = q.shape[:-2] or (1,)
        self.q, self.k = (_for_blas(x, lead) for x in (q, k))
        self.scale, self.causal = scale, causal
        self.length, self.keys = q.shape[-2], k.shape[-2]
        shape = (*lead, self.length, self.keys)
        self.mask = None if mask is None else np.broadcast_to(mask, shape)
        self.keep = None if keep is None else np.broadcast_to(keep, shape)
        tile = min(block, _TILE)
        step = max(tile // (self.length * self.keys), 1)
        self.heads = [
            (*at, slice(i, min(i + step, lead[-1])))
            for at in product(*map(range, lead[:-1]))
            for i in range(0, lead[-1], step)
        ]
        self.step = min(max(tile // self.keys, 1), self.length)
        self.worth = math.prod(shape) * q.shape[-1] >= _SHARED
        # whether the rows of a head are one tile, which sees all keys
        self.whole = self.step == self.length and not (causal and self.keys > self.length)

    def of(self, heads: Index) -> Iterator[tuple[Index, Index, Array, Array, Array]]:
        """Yield where a tile is, its queries times the scale, the scores, what dropout keeps."""
        for first in range(0, self.length, self.step):
            last = min(first + self.step, self.length)
            end = min(self.keys, last) if self.causal else self.keys
            rows, columns = (*heads, slice(first, last)), (*heads, slice(0, end))
            q = self.q[rows]
            scaled = np.multiply(q, self.scale, out=scratch("scaled", q.shape, q.dtype))
            s = scratch("scores", (*q.shape[:-1], end), q.dtype)
            np.matmul(scaled, self.k[columns].swapaxes(-1, -2), out=s)
            if self.mask is not None:
                mask = self.mask[rows][..., :end]
                if mask.dtype == np.bool_:
                    np.copyto(s, -math.inf, where=~mask)
                else:
                    s += mask
            if self.causal and first < end:
                ahead = ~np.tri(last - first, end - first, dtype=np.bool_)
                np.copyto(s[..., first:], -math.inf, where=ahead)
            kept = _NOTHING if self.keep is None else self._kept(rows, end)
            yield rows, columns, scaled, s, kept

    def _kept(self, rows: Index, end: int) -> Array:
        return _rows(np.ascontiguousarray(self.keep[rows][..., :end]))  # type: ignore[index]


_NOTHING = np.empty((0, 0), np.bool_)


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _for_blas(x: Array, lead: tuple[int, ...]) -> Array:
    """Return x with at least three axes, its features side by side, as BLAS reads matrices."""
    x = x.reshape(*lead, *x.shape[-2:])
    side_by_side = x.strides[-1] == x.itemsize and x.strides[-2] >= x.shape[-1] * x.itemsize
    return x if side_by_side else np.ascontiguousarray(x)


def _like(x: Array, features: int | None = None) -> Array:
    """Return an array of any content that lies like x, if need be with other features."""
    order = [*sorted(range(x.ndim - 1), key=lambda i: -x.strides[i]), x.ndim - 1]
    shape = [*x.shape[:-1], features or x.shape[-1]]
    back = sorted(range(x.ndim), key=order.__getitem__)
    return empty(tuple([shape[i] for i in order]), x.dtype).transpose(back)


def _summed(d: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which an array of ``shape`` was broadcast."""
    extra = d.ndim - len(shape)
    axes = tuple(i for i in range(d.ndim) if i < extra or shape[i - extra] == 1)
    return d.sum(axis=axes, keepdims=True).reshape(shape)


# ----------------------------------------------------------------------------- sweeps over rows


@sweep
def weights(s: Array, keep: Array, gain: Any, logarithm: Array) -> None:
    """Make D(P) of the scores S, P = exp(S - logarithm), in place."""
    top = s.max(axis=-1)
    top[top == -math.inf] = 0.0
    with np.errstate(over="ignore"):
        np.subtract(s, top[:, None], out=s)
    np.exp(s, out=s)
    total = s.sum(axis=-1)
    total[total == 0.0] = 1.0  # a row without weights: y = 0, and P = 0 later
    np.log(total, out=logarithm)
    logarithm += top
    s *= (gain / total)[:, None]
    if keep.size:
        kept(s, keep, s)


@sweep
def probabilities(s: Array, keep: Array, logarithm: Array, dropped: Array) -> None:
    """Write P = exp(s - logarithm) into s, and what is kept of it into ``dropped``."""
    with np.errstate(over="ignore"):
        np.subtract(s, logarithm[:, None], out=s)
    np.exp(s, out=s)
    if keep.size:
        kept(s, keep, dropped)


@sweep
def slopes(p: Array, keep: Array, lost: Array, ds: Array) -> None:
    """Make dS = P (D(dP) - lost) of dP, in place."""
    if keep.size:
        kept(ds, keep, ds)
    np.subtract(ds, lost[:, None], out=ds)
    np.multiply(ds, p, out=ds)
