"""Attention."""

from __future__ import annotations

import math
from typing import Any

from xpnn import backend, random
from xpnn._dtypes import as_dtype
from xpnn.autograd.record import apply
from xpnn.errors import ConfigError, DTypeError, ShapeError
from xpnn.functional.neural import dropout as drop
from xpnn.primitives import attention as rules
from xpnn.primitives.products import matmul

__all__ = ["attention"]

Array = Any


def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    *,
    scale: float | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    training: bool = True,
    rng: Any = None,
    return_weights: bool = False,
) -> Any:
    r"""Scaled dot-product attention (Vaswani et al. 2017).

    .. math:: Y = \mathrm{softmax}(c Q K^\top + M) V, \qquad c = 1 / \sqrt d

    Parameters
    ----------
    q : array of shape (*, Tq, d)
        Queries. The axes * are those of k and v, such as (N, heads).
    k : array of shape (*, Tk, d)
        Keys.
    v : array of shape (*, Tk, dv)
        Values.
    mask : array, optional
        Broadcasts to (*, Tq, Tk): of booleans, True where a query may attend to a key; or of
        floating-point numbers M that are added, minus infinity where it may not. A query that may
        attend to nothing gives zeros, and gradients of zero.
    scale : float, optional
        The factor c.
    causal : bool
        Whether query i may attend to keys 0 to i only, counted from the first of each also if there
        are not as many queries as keys, as in PyTorch.
    dropout : float
        The fraction of the weights, after the softmax, that is set to zero; the others are scaled
        by 1 / (1 - dropout).
    training : bool
        False: no dropout.
    rng : xpnn.random.Stream, optional
        Where dropout comes from; the default stream.
    return_weights : bool
        Whether to return the weights, before dropout, as well: (*, Tq, Tk), kept for the gradient,
        which are otherwise computed a block at a time and kept nowhere.

    Returns
    -------
    y : array of shape (*, Tq, dv)
    weights : array of shape (*, Tq, Tk)
        If asked for.

    Raises
    ------
    ShapeError, DTypeError, ConfigError
        If shapes do not belong together, a mask is neither boolean nor floating, or the fraction
        ``dropout`` is not in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> q = k = np.zeros((2, 1))
    >>> F.attention(q, k, np.asarray([[1.0], [3.0]]), causal=True)
    array([[1.],
           [2.]])
    """
    _check(q, k, v, mask)
    if not 0.0 <= dropout <= 1.0:
        msg = f"attention: 'dropout' must be in [0, 1], got {dropout}."
        raise ConfigError(msg)
    c = 1.0 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    if mask is not None:
        mask = _fitting(mask, q)
    if return_weights:
        xp = backend.array_namespace(q, k, v, mask)
        weights = rules.attention_weights(xp, q, k, mask, scale=c, causal=causal)
        kept = drop(weights, dropout, training=training, rng=rng)
        return matmul(xp, kept, v), weights
    home = backend.device_of(q)
    keep, gain = None, 1.0
    if training and dropout > 0.0:
        stream = random.get_rng() if rng is None else rng
        shape = (*q.shape[:-1], k.shape[-2])
        keep = stream.bernoulli(1.0 - dropout, shape, device=home)
        gain = 1.0 / (1.0 - dropout) if dropout < 1.0 else 0.0
    options = {"scale": c, "causal": causal, "gain": gain, "block": home.library.block}
    return apply(rules.attention, (q, k, v, mask, keep), options)


def _check(q: Array, k: Array, v: Array, mask: Array | None) -> None:
    shapes = [tuple(x.shape) for x in (q, k, v)]
    fits = (
        all(len(shape) >= 2 for shape in shapes)
        and shapes[0][:-2] == shapes[1][:-2] == shapes[2][:-2]
        and shapes[0][-1] == shapes[1][-1]
        and shapes[1][-2] == shapes[2][-2]
    )
    if not fits:
        msg = (
            "attention: expected q of shape (*, Tq, d), k (*, Tk, d), v (*, Tk, dv), got"
            f" {', '.join(map(str, shapes))}. Are q and k of different sizes, or an axis of heads"
            " missing?"
        )
        raise ShapeError(msg)
    if mask is None:
        return
    weights = (*shapes[0][:-1], shapes[1][-2])
    pairs = zip(reversed(mask.shape), reversed(weights), strict=False)
    if mask.ndim > len(weights) or any(m not in (1, n) for m, n in pairs):
        msg = (
            f"attention: expected a mask that broadcasts to {weights}, which are (*, Tq, Tk), got"
            f" shape {tuple(mask.shape)}. A mask of keys, (N, Tk), needs axes between:"
            " mask[:, None, :], and one more with heads."
        )
        raise ShapeError(msg)


def _fitting(mask: Array, q: Array) -> Array:
    """Return a boolean mask as it is, and one that is added in the dtype of the queries."""
    dtype = as_dtype(mask.dtype)
    if dtype.kind not in "bf":
        msg = (
            f"attention: expected a boolean mask (True: may attend) or a floating-point one that is"
            f" added, got {dtype}. Compare it, for example mask == 1."
        )
        raise DTypeError(msg)
    if dtype.kind == "b" or dtype is as_dtype(q.dtype):
        return mask
    xp = backend.array_namespace(mask)
    return xp.astype(mask, backend.native_dtype(xp, as_dtype(q.dtype)))
