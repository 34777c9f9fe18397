"""Layers of the transformer: attention and a feed-forward network, with residual connections."""

from __future__ import annotations

from typing import Any

from xpnn import functional as F
from xpnn.errors import ShapeError
from xpnn.layers.attention import MultiHeadAttention
from xpnn.layers.base import Layer
from xpnn.layers.checks import integers, require_floats
from xpnn.layers.dense import Dense
from xpnn.layers.normalization import LayerNorm

__all__ = ["TransformerDecoderLayer", "TransformerEncoderLayer"]

Array = Any


class _TransformerLayer(Layer):
    """What encoder and decoder layers share: the feed-forward network, and the residual."""

    def __init__(
        self,
        num_heads: int,
        feedforward_size: int,
        embed_dim: int | None,
        dropout: float,
        activation: Any,
        norm_first: bool,
        epsilon: float,
        causal: bool,
    ) -> None:
        self.num_heads, self.feedforward_size, self.embed_dim = integers(
            self._who,
            num_heads=num_heads, feedforward_size=feedforward_size, embed_dim=embed_dim,
        )  # fmt: skip
        self.dropout, self.epsilon = dropout, epsilon
        self.norm_first, self.causal = norm_first, causal
        self.attention = self._attention(causal)  # looks at its arguments
        self.hidden = Dense(feedforward_size, activation=activation)

    @property
    def _who(self) -> str:
        return type(self).__name__

    def _attention(self, causal: bool = False) -> MultiHeadAttention:
        return MultiHeadAttention(
            self.num_heads, self.embed_dim, dropout=self.dropout, causal=causal
        )

    def _build_feedforward(self, x: tuple[int, ...]) -> None:
        self.hidden.ensure_built(x)
        self.out = Dense(x[-1], self.feedforward_size)

    def _norm(self, x: tuple[int, ...]) -> LayerNorm:
        norm = LayerNorm(epsilon=self.epsilon)
        norm.ensure_built(x)
        return norm

    def _check(self, x: Array, what: str = "x", size: int | None = None) -> None:
        require_floats(self._who, x)
        size = self.embed_dim if size is None else size
        if x.ndim != 3 or x.shape[-1] != size:
            msg = f"{self._who}: expected {what} of shape (N, T, {size}), got {tuple(x.shape)}."
            raise ShapeError(msg)

    def _shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of x with the features that the layer was told, or takes from x."""
        if len(x) != 3:
            msg = f"{self._who}: expected x of shape (N, T, D), got {tuple(x)}."
            raise ShapeError(msg)
        self.embed_dim = self.embed_dim or x[-1]
        return (*x[:-1], self.embed_dim)

    def _residual(self, x: Array, norm: LayerNorm, f: Any) -> Array:
        """Return norm(x + f(x)), or x + f(norm(x)); f's result is subject to dropout."""
        if self.norm_first:
            return x + self._drop(f(norm(x)))
        return norm(x + self._drop(f(x)))

    def _feedforward(self, x: Array) -> Array:
        return self.out(self._drop(self.hidden(x)))

    def _drop(self, x: Array) -> Array:
        return F.dropout(x, self.dropout, training=self.training)


class TransformerEncoderLayer(_TransformerLayer):
    r"""Self-attention, then a feed-forward network, each with a residual and a normalization.

    .. math:: h = \mathrm{norm}_1(x + \mathrm{attention}(x)), \qquad
              y = \mathrm{norm}_2(h + a(h W_1 + b_1) W_2 + b_2)

    Vaswani et al. 2017; with ``norm_first`` (pre-norm, Xiong et al. 2020)
    :math:`h = x + \mathrm{attention}(\mathrm{norm}_1(x))`, and likewise y. Dropout, as in PyTorch,
    of the attention weights, of :math:`a(\cdot)`, and of what is added to each residual.

    Parameters
    ----------
    num_heads : int
    feedforward_size : int
        The features between the two layers of the feed-forward network.
    embed_dim : int, optional
        The features D of x; taken from the first input if not given.
    dropout : float
    activation : str or callable
        The function a.
    norm_first : bool
        Whether what is normalized are the inputs of attention and network, and not their sums.
    epsilon : float
        Of the normalizations.
    causal : bool
        Whether a place attends to itself and those before it only, as in a language model.

    Attributes
    ----------
    attention : MultiHeadAttention
    hidden, out : Dense
        The feed-forward network.
    norm1, norm2 : LayerNorm

    Notes
    -----
    ``layer(x, mask=None, key_mask=None)``: (N, T, D) -> (N, T, D), with the masks of
    :class:`MultiHeadAttention`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.TransformerEncoderLayer(2, 16)(np.ones((3, 5, 8), np.float32)).shape
    (3, 5, 8)
    """

    def __init__(
        self,
        num_heads: int,
        feedforward_size: int,
        embed_dim: int | None = None,
        dropout: float = 0.1,
        activation: Any = "relu",
        norm_first: bool = False,
        epsilon: float = 1e-5,
        causal: bool = False,
    ) -> None:
        super().__init__(
            num_heads, feedforward_size, embed_dim, dropout, activation, norm_first, epsilon, causal
        )
        if embed_dim is not None:
            self.ensure_built((1, 1, embed_dim))

    def build(self, shape: tuple[int, ...], *masks: tuple[int, ...]) -> None:
        x = self._shape(shape)
        self.attention.ensure_built(x)
        self._build_feedforward(x)
        self.norm1, self.norm2 = self._norm(x), self._norm(x)

    def forward(self, x: Array, mask: Array | None = None, key_mask: Array | None = None) -> Array:
        self._check(x)
        masks = {"mask": mask, "key_mask": key_mask}
        x = self._residual(x, self.norm1, lambda x: self.attention(x, **masks))
        return self._residual(x, self.norm2, self._feedforward)


class TransformerDecoderLayer(_TransformerLayer):
    r"""Self-attention, attention to a memory, and a feed-forward network.

    .. math:: h = \mathrm{norm}_1(x + \mathrm{attention}(x)), \qquad
              c = \mathrm{norm}_2(h + \mathrm{attention}(h, m)), \qquad
              y = \mathrm{norm}_3(c + a(c W_1 + b_1) W_2 + b_2)

    Vaswani et al. 2017; the normalizations and the dropout as in :class:`TransformerEncoderLayer`.
    The self-attention is causal by default, as a decoder's is: in PyTorch the caller has to give
    the mask for that.

    Parameters
    ----------
    num_heads, feedforward_size, embed_dim, dropout, activation, norm_first, epsilon
        As for :class:`TransformerEncoderLayer`.
    causal : bool
        Whether a place of x attends to itself and those before it only.

    Attributes
    ----------
    attention, cross_attention : MultiHeadAttention
    hidden, out : Dense
        The feed-forward network.
    norm1, norm2, norm3 : LayerNorm

    Notes
    -----
    ``layer(x, memory, mask=None, key_mask=None, memory_mask=None, memory_key_mask=None)``:
    (N, T, D), (N, S, M) -> (N, T, D). The first two masks, of shapes (T, T) and (N, T), are for the
    self-attention, the others, (T, S) and (N, S), for the memory; also as
    :class:`MultiHeadAttention` takes them.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> x, memory = np.ones((3, 5, 8), np.float32), np.ones((3, 7, 8), np.float32)
    >>> layers.TransformerDecoderLayer(2, 16)(x, memory).shape
    (3, 5, 8)
    """

    def __init__(
        self,
        num_heads: int,
        feedforward_size: int,
        embed_dim: int | None = None,
        dropout: float = 0.1,
        activation: Any = "relu",
        norm_first: bool = False,
        epsilon: float = 1e-5,
        causal: bool = True,
    ) -> None:
        super().__init__(
            num_heads, feedforward_size, embed_dim, dropout, activation, norm_first, epsilon, causal
        )
        self.cross_attention = self._attention()

    def build(
        self, shape: tuple[int, ...], memory: tuple[int, ...], *masks: tuple[int, ...]
    ) -> None:
        x = self._shape(shape)
        self.attention.ensure_built(x)
        self.cross_attention.ensure_built(x, memory)
        self._build_feedforward(x)
        self.norm1, self.norm2, self.norm3 = (self._norm(x) for _ in range(3))

    def forward(
        self,
        x: Array,
        memory: Array,
        mask: Array | None = None,
        key_mask: Array | None = None,
        memory_mask: Array | None = None,
        memory_key_mask: Array | None = None,
    ) -> Array:
        self._check(x)
        self._check(memory, "memory", self.cross_attention.key.in_features)
        masks = {"mask": mask, "key_mask": key_mask}
        of_memory = {"mask": memory_mask, "key_mask": memory_key_mask}
        x = self._residual(x, self.norm1, lambda x: self.attention(x, **masks))
        x = self._residual(x, self.norm2, lambda x: self.cross_attention(x, memory, **of_memory))
        return self._residual(x, self.norm3, self._feedforward)
