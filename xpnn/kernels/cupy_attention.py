r"""CUDA kernels of attention: products by cuBLASLt, and softmax and its gradient between them.

Scores exist for a tile at a time, which is some heads, or some rows of one head: memory grows with
the length and not with its square. The gradient computes each tile again, from the logarithms of
the sums of exponentials. Scores of half precision are kept in float32. Where cuDNN is installed,
and has a plan, it computes what ``cudnn_attention`` asks of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from xpnn.kernels import cudnn_attention
from xpnn.kernels.cupy_launch import Source, contiguous, cupy, wide
from xpnn.kernels.cupy_products import product

__all__ = ["attention", "attention_accepts", "attention_vjp", "sources"]

Array = Any
Shape = tuple[int, ...]

_attention = Source("attention")
_NONE, _BOOLEAN, _ADDED, _ADDED_WIDE = range(4)
_SHORT = 1024  # columns that a warp computes
_WARPS, _LANES = 128, 256  # threads of a block: of several rows, and of one


def sources() -> dict[str, str]:
    """Return every CUDA source of this module by name, for the compile check."""
    return _attention.codes()


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
    """Whether everything is of one dtype, a mask perhaps of float32, and nothing is empty."""
    if q.dtype.name not in ("float16", "bfloat16", "float32", "float64"):
        return False
    if not q.dtype == k.dtype == v.dtype or not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        return False
    if mask is not None and mask.dtype not in (bool, q.dtype, wide(q.dtype)):
        return False
    return bool(q.size and k.size and v.size) and (keep is None or keep.dtype == bool)


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
    if cudnn_attention.takes(q, k, v, mask, keep, scale, gain):
        found = cudnn_attention.attend(q, k, v, scale, causal)
        if found is not None:
            return found
    tiles = _Tiles(q, k, mask, keep, scale, causal, block)
    v = _by_heads(v)
    y = cupy().empty((tiles.heads, tiles.length, v.shape[-1]), q.dtype)
    logarithm = cupy().empty((tiles.heads, tiles.length), wide(q.dtype))
    for rows, columns in tiles:
        s = tiles.scores(rows, columns)
        p = _beside(s, q.dtype)
        tiles.launch("attend", rows, s, s, p, logarithm, float(gain))
        product(p, v[columns], out=y[rows])
    return y.reshape(*q.shape[:-1], v.shape[-1]), logarithm


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
    if cudnn_attention.takes(q, k, v, mask, keep, scale, gain):
        g, y = (x.astype(q.dtype, copy=False) for x in (g, y))
        three = cudnn_attention.gradients(g, q, k, v, y, res, scale, causal)
        if three is not None:
            return *(d if n else None for d, n in zip(three, needs, strict=False)), None, None
    shapes, dtype = [x.shape for x in (q, k, v)], q.dtype
    tiles = _Tiles(q, k, mask, keep, scale, causal, block)
    g, y, v = (contiguous(_by_heads(x.astype(dtype, copy=False))) for x in (g, y, v))
    q, k = tiles.q, tiles.k
    slopes_wanted = needs[0] or needs[1] or needs[3]
    dq = cupy().empty(q.shape, dtype) if needs[0] else None
    dk, dv = (tiles.sums(x) if n else None for x, n in zip((k, v), needs[1:3], strict=True))
    dmask = None
    if needs[3] and mask is not None:
        dmask = cupy().zeros((tiles.heads, tiles.length, tiles.keys), wide(dtype))
    for rows, columns in tiles:
        s = tiles.scores(rows, columns)
        slopes = ds = None
        if slopes_wanted:
            slopes = product(g[rows], v[columns].swapaxes(1, 2), out=cupy().empty_like(s))
            ds = _beside(slopes, dtype)
        p = _beside(s, dtype) if needs[2] else None
        tiles.launch(
            "attend_vjp", rows, s, s, slopes, p, ds, g, y, g.shape[-1], res, float(gain)
        )  # fmt: skip
        if dv is not None:
            product(p.swapaxes(1, 2), g[rows], out=dv[columns], plus=tiles.adding)  # type: ignore[union-attr]
        if ds is None:
            continue
        if dq is not None:
            product(ds, k[columns], out=dq[rows], scale=scale)
        if dk is not None:
            turned = ds.swapaxes(1, 2)
            product(turned, q[rows], out=dk[columns], scale=scale, plus=tiles.adding)
        if dmask is not None:
            dmask[(*rows, columns[1])] = ds
    found = [
        None if d is None else d.astype(dtype, copy=False).reshape(shape)
        for d, shape in zip((dq, dk, dv), shapes, strict=True)
    ]
    if dmask is not None and mask is not None:
        whole = dmask.reshape(*shapes[0][:-1], tiles.keys)
        dmask = _summed(whole, mask.shape).astype(mask.dtype, copy=False)
    return *found, dmask, None


class _Tiles:
    """Which heads and rows are taken at a time, and the columns that these may see.

    Iterating yields where a tile is in arrays (heads, rows, ...) and (heads, columns, ...).
    """

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
        self.q, self.k = _by_heads(q), _by_heads(k)
        (self.heads, self.length, _), self.keys = self.q.shape, self.k.shape[1]
        self.scale, self.causal = scale, causal
        self.many = max(1, block // (self.length * self.keys))
        self.rows = min(self.length, max(1, block // self.keys))
        shape = (*q.shape[:-2], self.length, self.keys)
        self.masks = (_kind(mask, q.dtype), *_spread(mask, shape), *_spread(keep, shape))
        # whether the keys get something from several tiles, or some of them from none
        several = self.rows < self.length or (causal and self.keys > self.length)
        self.adding = 1.0 if several else 0.0

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for head in range(0, self.heads, self.many):
            heads = slice(head, min(head + self.many, self.heads))
            for row in range(0, self.length, self.rows):
                last = min(row + self.rows, self.length)
                end = min(self.keys, last) if self.causal else self.keys
                yield (heads, slice(row, last)), (heads, slice(0, end))

    def scores(self, rows: Any, columns: Any) -> Array:
        """Return the products of queries and keys of a tile, with more digits than these have."""
        q, k = self.q[rows], self.k[columns]
        s = cupy().empty((*q.shape[:2], k.shape[1]), wide(q.dtype))
        return product(q, k.swapaxes(1, 2), out=s, scale=self.scale)

    def sums(self, like: Array) -> Array:
        """Return what gradients of keys or values are written to, or added to."""
        if not self.adding:
            return cupy().empty(like.shape, like.dtype)
        return cupy().zeros(like.shape, wide(like.dtype))

    def launch(self, name: str, rows: Any, scores: Array, *args: Any) -> None:
        heads, length, columns = scores.shape
        whole = columns > _SHORT
        threads = _LANES if whole else _WARPS
        blocks = heads * length if whole else -(-heads * length // (threads // 32))
        _attention.launch(
            name, self.q.dtype, blocks, threads, *args, *self.masks, rows[0].start, heads,
            rows[1].start, length, columns, self.length, int(self.causal), int(whole),
        )  # fmt: skip


def _kind(mask: Array | None, dtype: Any) -> int:
    if mask is None:
        return _NONE
    return _BOOLEAN if mask.dtype == bool else _ADDED if mask.dtype == dtype else _ADDED_WIDE


def _by_heads(x: Array) -> Array:
    return x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])


def _beside(x: Array, dtype: Any) -> Array:
    """Return an array of a dtype of the shape of x, which may be x itself."""
    return x if x.dtype == dtype else cupy().empty(x.shape, dtype)


def _spread(mask: Array | None, shape: Shape) -> tuple[Any, ...]:
    """Return a mask, the length of the inner axis of heads, and how far apart its elements are.

    These are the steps along both axes of heads, rows and columns; axes of heads are merged where
    one step does for both, and a mask for which two steps do not suffice is copied.
    """
    if mask is None:
        return None, 1, 0, 0, 0, 0
    mask = cupy().broadcast_to(mask, shape)
    steps = [stride // mask.itemsize for stride in mask.strides]
    axes: list[tuple[int, int]] = [(1, 0), (1, 0)]
    for n, step in zip(shape[:-2], steps, strict=False):
        if n == 1:
            continue
        if axes[-1][1] == n * step and axes[-1][0] > 1:
            axes[-1] = (axes[-1][0] * n, step)
        else:
            axes.append((n, step))
    if len(axes) > 4:
        return _spread(contiguous(mask), shape)
    (_, outer), (inner, step) = axes[-2:]
    return mask, inner, outer, step, *steps[-2:]


def _summed(d: Array, shape: Shape) -> Array:
    """Sum over the axes along which an array of ``shape`` was broadcast."""
    extra = d.ndim - len(shape)
    axes = tuple(i for i in range(d.ndim) if i < extra or shape[i - extra] == 1)
    return d.sum(axis=axes, keepdims=True).reshape(shape)
