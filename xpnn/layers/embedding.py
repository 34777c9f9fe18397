"""Embeddings of ids, and of positions."""

from __future__ import annotations

from typing import Any, ClassVar

from xpnn import backend, initializers
from xpnn import functional as F
from xpnn._dtypes import as_dtype
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers.base import Layer, Parameter
from xpnn.layers.checks import integers, require_floats

__all__ = ["Embedding", "PositionalEncoding"]

Array = Any

_SMALL = initializers.Uniform(-0.05, 0.05)


class Embedding(Layer):
    r"""A table of vectors, one an id: :math:`y_{...d} = W_{i_{...} d}`.

    Parameters
    ----------
    num_embeddings : int
        How many ids there are: 0 to ``num_embeddings - 1``.
    embedding_dim : int
        The length of each vector.
    weight : array or Parameter, optional
        Initial values of shape (num_embeddings, embedding_dim), such as word vectors trained
        elsewhere, which are copied; or the Parameter of another layer, which this one shares.
    trainable : bool
        False: frozen from the start, as by :meth:`freeze`; :meth:`unfreeze` trains it.
    pool : {None, "sum", "mean"}
        Add up the vectors of each example, or take their mean: a bag of words.
    padding_idx : int, optional
        An id that fills up short examples: it reads as zeros, is passed over in pooling, and its
        row gets no gradient and is at first zero.
    weight_init : str or Initializer
        U(-0.05, 0.05) by default, as in Keras and NumpyDL; PyTorch draws from N(0, 1).

    Attributes
    ----------
    weight : Parameter of shape (num_embeddings, embedding_dim)

    Notes
    -----
    Ids of shape (...) -> (..., embedding_dim). With ``pool``: (N, T) -> (N, embedding_dim), T ids
    an example; or a list of N lists of ids, of any lengths; or, as in PyTorch's EmbeddingBag, two
    inputs: all ids in a row, and the N offsets at which the examples begin. No ids give zeros.

    An id, an integer of any dtype, that is out of range is an error. On a GPU, which to look at it
    would have to be waited for, its vector is NaN instead.

    An array given as ``weight`` is part of the state, not of the configuration, which holds the
    sizes: a layer built from it has new initial values until its state is loaded.

    Where ``padding_idx`` is given, PyTorch reads what its row holds, which may be overwritten.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.Embedding(1000, 64)(np.asarray([[5, 2, 999], [0, 2, 2]])).shape
    (2, 3, 64)
    >>> bag = layers.Embedding(3, 2, weight=np.asarray([[1, 2], [3, 4], [5, 6]]), pool="mean")
    >>> bag([[0, 2, 2, 2], [1], []]).data
    array([[4., 5.],
           [3., 4.],
           [0., 0.]], dtype=float32)
    """

    functions: ClassVar[tuple[str, ...]] = ("embedding", "embedding_bag")

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        weight: Any = None,
        trainable: bool = True,
        pool: str | None = None,
        padding_idx: int | None = None,
        weight_init: Any = _SMALL,
    ) -> None:
        num_embeddings, embedding_dim = integers(
            "Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim
        )
        (padding_idx,) = integers("Embedding", None, padding_idx=padding_idx)
        if pool not in (None, "sum", "mean"):
            msg = f"Embedding: 'pool' must be None, 'sum' or 'mean', got {pool!r}."
            raise ConfigError(msg)
        if padding_idx is not None and not 0 <= padding_idx < num_embeddings:
            msg = (
                f"Embedding: 'padding_idx' must be in [0, {num_embeddings - 1}], got {padding_idx}."
            )
            raise ConfigError(msg)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.pool, self.padding_idx = pool, padding_idx
        self.weight_init = initializers.get(weight_init)
        self._frozen = not trainable
        if weight is not None and not hasattr(weight, "shape"):
            weight = backend.asarray(weight)
        self._given = weight
        if weight is not None and tuple(weight.shape) != (num_embeddings, embedding_dim):
            msg = (
                "Embedding: expected weight of shape (num_embeddings, embedding_dim),"
                f" {(num_embeddings, embedding_dim)}, got {tuple(weight.shape)}."
            )
            raise ShapeError(msg)
        self.ensure_built((1,))

    def build(self, shape: tuple[int, ...]) -> None:
        given, self._given = self._given, None
        if isinstance(given, Parameter):
            self.weight = given
            return
        if given is not None:
            del self._config["weight"]  # its values are state, and JSON holds no arrays
            values = backend.asarray(
                backend.unwrap(given), dtype=backend.get_dtype(), device=backend.get_device(),
                copy=True,
            )  # fmt: skip
        else:
            values = self.weight_init((self.num_embeddings, self.embedding_dim))
        if self.padding_idx is not None:
            xp = backend.array_namespace(values)
            row = xp.arange(self.num_embeddings, device=backend.device_of(values).native)
            values = xp.where((row == self.padding_idx)[:, None], xp.zeros_like(values), values)
        self.weight = Parameter(values)

    def forward(self, ids: Any, offsets: Array | None = None) -> Array:
        if isinstance(ids, (list, tuple)):
            ids, offsets = self._flat(ids)
        if self.pool is None:
            if offsets is not None:
                msg = "Embedding: offsets say where bags begin; there are bags with pool='sum'."
                raise ShapeError(msg)
            return F.embedding(ids, self.weight, padding_idx=self.padding_idx)
        return F.embedding_bag(
            ids, self.weight, offsets, mode=self.pool, padding_idx=self.padding_idx
        )

    def _flat(self, bags: Any) -> tuple[Array, Array]:
        """Return lists of ids as flat ids and offsets, beside the table."""
        if self.pool is None:
            msg = (
                "Embedding: lists of ids need pool='sum' or 'mean'. Without, give an array: fill up"
                " short examples with an id, and name it as padding_idx."
            )
            raise ShapeError(msg)
        flat: list[Any] = []
        offsets: list[int] = []
        for bag in bags:
            values = backend.to_numpy(bag).tolist()
            if not isinstance(values, list):
                msg = f"Embedding: expected a list of lists of ids, got a list that holds {bag!r}."
                raise ShapeError(msg)
            offsets.append(len(flat))
            flat.extend(values)
        home = backend.device_of(self.weight)
        index = backend.index_dtype(home)
        ids = backend.asarray(flat, device=home, dtype=None if flat else index)
        return ids, backend.asarray(offsets, device=home, dtype=None if offsets else index)


class PositionalEncoding(Layer):
    r"""Add to each vector of a sequence one that tells its place t.

    .. math:: y_{t, 2i} = x_{t, 2i} + \sin(t / 10000^{2i/D}), \qquad
              y_{t, 2i+1} = x_{t, 2i+1} + \cos(t / 10000^{2i/D})

    Vaswani et al. 2017, with sines and cosines in turn, as there; many programs put all sines
    first. Where D is odd, the last cosine is left out.

    Parameters
    ----------
    max_length : int, optional
        The longest sequence that is taken; any length by default. It makes no difference to the
        values.
    dropout : float
        The fraction of the sums dropped in training, as in the paper.

    Notes
    -----
    (N, T, D) -> (N, T, D). The sines are those of float64, rounded to the dtype of x: in float32
    alone the angles of far places would be wrong in the third digit. They are kept for the next
    call.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.PositionalEncoding()(np.zeros((1, 2, 3), np.float32)).data.round(3)
    array([[[0.   , 1.   , 0.   ],
            [0.841, 0.54 , 0.002]]], dtype=float32)
    """

    _table: Any = None

    def __init__(self, max_length: int | None = None, dropout: float = 0.0) -> None:
        (max_length,) = integers("PositionalEncoding", max_length=max_length)
        if not 0.0 <= dropout <= 1.0:
            msg = f"PositionalEncoding: 'dropout' must be in [0, 1], got {dropout}."
            raise ConfigError(msg)
        self.max_length, self.dropout = max_length, dropout

    def forward(self, x: Array) -> Array:
        require_floats("PositionalEncoding", x)
        if x.ndim != 3:
            msg = f"PositionalEncoding: expected x of shape (N, T, D), got {tuple(x.shape)}."
            raise ShapeError(msg)
        if self.max_length is not None and x.shape[1] > self.max_length:
            msg = (
                f"PositionalEncoding(max_length={self.max_length}): got a sequence of"
                f" {x.shape[1]} places, shape {tuple(x.shape)}."
            )
            raise ShapeError(msg)
        return F.dropout(x + self._encoding(x), self.dropout, training=self.training)

    def _encoding(self, x: Array) -> Array:
        """Return what is added, (T, D), from a table that is made again when it is too short."""
        _, length, size = x.shape
        device, dtype = backend.device_of(x), as_dtype(x.dtype)
        key = (size, device.library.name, str(device.native), dtype)
        kept = self._table
        if kept is None or kept[0] != key or kept[1].shape[0] < length:
            host = _sines(self.max_length or length, size)
            kept = key, backend.asarray(host, device=device, dtype=dtype)
            if device.native is not None:  # not while JAX traces: its arrays must not be kept
                self._table = kept
        return kept[1][:length, :]


def _sines(length: int, size: int) -> Array:
    """Return the table of sines and cosines (length, size) on the host, in float64."""
    xp = backend.as_device("cpu").xp
    place = xp.arange(length, dtype=xp.float64)[:, None]
    angle = place / 10000.0 ** (xp.arange(0, size, 2, dtype=xp.float64) / size)
    both = xp.stack([xp.sin(angle), xp.cos(angle)], axis=-1)
    return xp.reshape(both, (length, size + size % 2))[:, :size]
