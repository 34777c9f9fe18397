"""Attention layers."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, ClassVar

from xpnn import functional as F
from xpnn import initializers
from xpnn._dtypes import as_dtype
from xpnn.backend import array_namespace
from xpnn.errors import ConfigError, DTypeError, ShapeError
from xpnn.layers.base import Layer
from xpnn.layers.checks import integers, require_floats
from xpnn.layers.dense import Dense

__all__ = ["DotProductAttention", "MultiHeadAttention"]

Array = Any


def _fraction(who: str, dropout: float) -> float:
    """Return a fraction to drop, after looking at it."""
    if not 0.0 <= dropout <= 1.0:
        msg = f"{who}: 'dropout' must be in [0, 1], got {dropout}."
        raise ConfigError(msg)
    return dropout


class DotProductAttention(Layer):
    r"""Scaled dot-product attention, :math:`Y = \mathrm{softmax}(c Q K^\top + M) V`.

    Vaswani et al. 2017. Dropout sets weights to zero after the softmax, and scales the others, as
    in the paper's program and in PyTorch.

    Parameters
    ----------
    scale : bool or float
        The factor c: True for :math:`1 / \sqrt d`, False for 1, or a number.
    dropout : float
        The fraction of the weights dropped in training.
    causal : bool
        Whether query i may attend to keys 0 to i only, also where there are not as many queries as
        keys (the triangle stands in the upper left corner, as in PyTorch).

    Notes
    -----
    ``layer(q, k, v, mask=None, return_weights=False)``: q (N, \*, Tq, d), k (N, \*, Tk, d),
    v (N, \*, Tk, dv) -> (N, \*, Tq, dv), and with ``return_weights`` the weights (N, \*, Tq, Tk)
    before dropout. The mask broadcasts to the shape of the weights: booleans, True where a query
    may attend to a key, or numbers M to add. A query that may attend to nothing gives zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> q, k, v = np.ones((2, 5, 4)), np.ones((2, 7, 4)), np.ones((2, 7, 3))
    >>> layers.DotProductAttention()(q, k, v).shape
    (2, 5, 3)
    """

    functions: ClassVar[tuple[str, ...]] = ("attention",)

    def __init__(
        self, scale: bool | float = True, dropout: float = 0.0, causal: bool = False
    ) -> None:
        number: Any = scale
        if not isinstance(number, Real):
            msg = f"DotProductAttention: 'scale' must be True, False or a number, got {scale!r}."
            raise ConfigError(msg)
        self.scale, self.causal = scale, causal
        self.dropout = _fraction("DotProductAttention", dropout)

    def forward(
        self, q: Array, k: Array, v: Array, mask: Array | None = None, return_weights: bool = False
    ) -> Any:
        for x in (q, k, v):
            require_floats("DotProductAttention", x)
        scale = None if self.scale is True else 1.0 if self.scale is False else self.scale
        return F.attention(
            q, k, v, mask,
            scale=scale, causal=self.causal, dropout=self.dropout, training=self.training,
            return_weights=return_weights,
        )  # fmt: skip


class MultiHeadAttention(Layer):
    r"""Attention with several heads, each on projections of its own.

    .. math:: Y = \mathrm{concat}(Y_1, \dots, Y_h) W^O + b^O, \qquad
              Y_i = \mathrm{attention}(X_q W^Q_i + b^Q_i, X_k W^K_i + b^K_i, X_v W^V_i + b^V_i)

    Vaswani et al. 2017.

    Parameters
    ----------
    num_heads : int
    embed_dim : int, optional
        The features of the result; those of the queries by default.
    key_dim : int, optional
        The features of queries and keys in each head (the paper's :math:`d_k`, Keras's
        ``key_dim``); embed_dim / num_heads by default. The features of the inputs, PyTorch's
        ``kdim`` and ``vdim``, are taken from the first inputs.
    value_dim : int, optional
        The features of values in each head, :math:`d_v`; ``key_dim`` by default.
    dropout : float
        The fraction of the attention weights dropped in training.
    bias : bool
        Whether the four projections have a bias.
    causal : bool
        Whether query i may attend to keys 0 to i only.
    weight_init, bias_init : str or Initializer
        For each projection by itself. PyTorch draws those of queries, keys and values as one.

    Attributes
    ----------
    query, key, value, out : Dense
        The projections; the heads lie one after another in the features.

    Notes
    -----
    ``layer(x)`` attends from x to itself, ``layer(q, k)`` to another sequence, ``layer(q, k, v)``
    takes the values from a third: (N, Tq, .), (N, Tk, .), (N, Tk, .) -> (N, Tq, embed_dim). By
    keyword:

    - ``mask``: (Tq, Tk), (N, Tq, Tk) or (N, num_heads, Tq, Tk), booleans, True where a query may
      attend to a key, or numbers to add to the scores. True means the same as in PyTorch's
      ``scaled_dot_product_attention``, and the contrary of what it means in its
      ``MultiheadAttention``.
    - ``key_mask``: (N, Tk), True where a key is valid, False where it only fills up the row.
    - ``return_weights``: True to get the weights, (N, num_heads, Tq, Tk), as a second output.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> x = np.ones((2, 5, 16), np.float32)
    >>> layers.MultiHeadAttention(4)(x, key_mask=np.arange(5) < np.asarray([[3], [5]])).shape
    (2, 5, 16)
    """

    def __init__(
        self,
        num_heads: int,
        embed_dim: int | None = None,
        key_dim: int | None = None,
        value_dim: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        causal: bool = False,
        weight_init: Any = "glorot_uniform",
        bias_init: Any = "zeros",
    ) -> None:
        self.num_heads, self.embed_dim, self.key_dim, self.value_dim = integers(
            "MultiHeadAttention",
            num_heads=num_heads, embed_dim=embed_dim, key_dim=key_dim, value_dim=value_dim,
        )  # fmt: skip
        self.dropout = _fraction("MultiHeadAttention", dropout)
        self.use_bias, self.causal = bias, causal
        self.weight_init = initializers.get(weight_init)
        self.bias_init = initializers.get(bias_init)
        if embed_dim is not None:
            self._check_heads(embed_dim)

    def _check_heads(self, embed_dim: int) -> None:
        if self.key_dim is None and embed_dim % self.num_heads:
            msg = (
                f"MultiHeadAttention: {embed_dim} features do not divide into {self.num_heads}"
                " heads. Choose another number of heads, or say key_dim."
            )
            raise ConfigError(msg)

    def build(self, *shapes: tuple[int, ...]) -> None:
        for shape in shapes:
            if len(shape) != 3:
                msg = f"MultiHeadAttention: expected x of shape (N, T, D), got {tuple(shape)}."
                raise ShapeError(msg)
        q, k, v = _three(shapes)
        embed_dim = self.embed_dim or q[-1]
        self._check_heads(embed_dim)
        key_dim = self.key_dim or embed_dim // self.num_heads
        value_dim = self.value_dim or key_dim

        def dense(in_features: int, out_features: int) -> Dense:
            return Dense(
                out_features, in_features,
                bias=self.use_bias, weight_init=self.weight_init, bias_init=self.bias_init,
            )  # fmt: skip

        self.query = dense(q[-1], self.num_heads * key_dim)
        self.key = dense(k[-1], self.num_heads * key_dim)
        self.value = dense(v[-1], self.num_heads * value_dim)
        self.out = dense(self.num_heads * value_dim, embed_dim)

    def forward(
        self,
        *inputs: Array,
        mask: Array | None = None,
        key_mask: Array | None = None,
        return_weights: bool = False,
    ) -> Any:
        if not 1 <= len(inputs) <= 3:
            msg = f"MultiHeadAttention: expected queries, keys, values, got {len(inputs)} arrays."
            raise ShapeError(msg)
        q, k, v = _three(inputs)
        self._check_inputs(q, k, v)
        found = F.attention(
            self._heads(self.query(q)), self._heads(self.key(k)), self._heads(self.value(v)),
            _joined(mask, key_mask, q, k, self.num_heads),
            causal=self.causal, dropout=self.dropout, training=self.training,
            return_weights=return_weights,
        )  # fmt: skip
        y, weights = found if return_weights else (found, None)
        n, heads, length, size = y.shape
        xp = array_namespace(y)
        y = xp.reshape(xp.permute_dims(y, (0, 2, 1, 3)), (n, length, heads * size))
        y = self.out(y)
        return (y, weights) if return_weights else y

    def _heads(self, x: Array) -> Array:
        """Return (N, T, heads * d) as (N, heads, T, d)."""
        n, length, size = x.shape
        xp = array_namespace(x)
        x = xp.reshape(x, (n, length, self.num_heads, size // self.num_heads))
        return xp.permute_dims(x, (0, 2, 1, 3))

    def _check_inputs(self, q: Array, k: Array, v: Array) -> None:
        layers = {"queries": (self.query, q), "keys": (self.key, k), "values": (self.value, v)}
        for name, (project, x) in layers.items():
            require_floats("MultiHeadAttention", x)
            if x.ndim != 3 or x.shape[-1] != project.in_features:
                msg = (
                    f"MultiHeadAttention: expected {name} of shape (N, T, {project.in_features}),"
                    f" got {tuple(x.shape)}."
                )
                raise ShapeError(msg)
        if not q.shape[0] == k.shape[0] == v.shape[0] or k.shape[1] != v.shape[1]:
            shapes = ", ".join(str(tuple(x.shape)) for x in (q, k, v))
            msg = (
                "MultiHeadAttention: expected queries (N, Tq, .), keys (N, Tk, .) and values"
                f" (N, Tk, .), got {shapes}."
            )
            raise ShapeError(msg)


def _three(given: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """Return what there is of queries, keys and values: keys from queries, values from keys."""
    q = given[0]
    k = given[1] if len(given) > 1 else q
    return q, k, given[2] if len(given) > 2 else k


def _joined(
    mask: Array | None, key_mask: Array | None, q: Array, k: Array, heads: int
) -> Array | None:
    """Return both masks as one that broadcasts to (N, heads, Tq, Tk)."""
    n, tq, tk = q.shape[0], q.shape[1], k.shape[1]
    if mask is not None:
        full = (n, heads, tq, tk)
        if tuple(mask.shape) not in ((tq, tk), (n, tq, tk), full, (n, 1, tq, tk)):
            msg = (
                f"MultiHeadAttention: expected a mask of shape {(tq, tk)}, {(n, tq, tk)} or {full},"
                f" got {tuple(mask.shape)}. Which keys are valid, (N, Tk), goes into key_mask."
            )
            raise ShapeError(msg)
        mask = mask[:, None, :, :] if mask.ndim == 3 else mask
    if key_mask is None:
        return mask
    dtype = as_dtype(key_mask.dtype)
    if dtype.kind != "b":
        msg = (
            f"MultiHeadAttention: expected a boolean key_mask (True: valid), got {dtype}."
            " Compare it, for example ids != 0."
        )
        raise DTypeError(msg)
    if tuple(key_mask.shape) != (n, tk):
        msg = (
            f"MultiHeadAttention: expected a key_mask of shape (N, Tk), {(n, tk)}, got"
            f" {tuple(key_mask.shape)}."
        )
        raise ShapeError(msg)
    key_mask = key_mask[:, None, None, :]
    if mask is None:
        return key_mask
    xp = array_namespace(mask, key_mask)
    if as_dtype(mask.dtype).kind == "b":
        return xp.logical_and(mask, key_mask)
    return xp.where(key_mask, mask, xp.full_like(mask, -math.inf))
