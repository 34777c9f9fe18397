"""Embeddings: rows of a table, picked by ids, alone or added up in bags."""

from __future__ import annotations

from typing import Any

from xpnn import backend, replay
from xpnn._dtypes import as_dtype
from xpnn.autograd.record import apply
from xpnn.errors import ConfigError, DataError, DTypeError, ShapeError
from xpnn.primitives import indexing

__all__ = ["embedding", "embedding_bag"]

Array = Any


def embedding(ids: Array, weight: Array, *, padding_idx: int | None = None) -> Array:
    r"""Return the row of ``weight`` for each id: :math:`y_{...d} = W_{i_{...} d}`.

    The gradient of a row that is picked several times is added up in a fixed order, as a tree over
    the places in ``ids``: the same bits in every run and on every device. On the CPU that gradient
    is a read-only array if it is large: most of its rows are zeros, and are kept for the next one.

    Parameters
    ----------
    ids : integer array of shape (...)
        In [0, rows). On a GPU they are not looked at, as that would wait for it.
    weight : array of shape (rows, features)
    padding_idx : int, optional
        An id that reads as zeros and gives its row no gradient, whatever the row holds. In
        PyTorch it has no gradient either, and reads as what its row holds: zeros, unless they are
        overwritten.

    Returns
    -------
    array of shape (..., features)

    Raises
    ------
    DTypeError
        If the ids are not integers.
    DataError
        If an id is out of range. On a GPU it reads as NaN instead, and its gradient goes nowhere,
        as a loss is NaN there whose label is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> F.embedding(np.asarray([2, 0]), np.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    array([[5., 6.],
           [1., 2.]])
    """
    rows = _table("embedding", weight, padding_idx)
    given = backend.unwrap(ids)
    ids = _index("embedding", "ids", given)
    if look := _is_looked_at(ids, weight):
        _check("embedding", given, (ids < 0) | (ids >= rows), rows)
    return _picked(ids, weight, padding_idx, look)


def embedding_bag(
    ids: Array,
    weight: Array,
    offsets: Array | None = None,
    *,
    mode: str = "mean",
    padding_idx: int | None = None,
) -> Array:
    r"""Return the sum or the mean of the rows of ``weight`` for each bag of ids.

    .. math:: y_b = \sum_{i \in \text{bag } b} W_i \qquad\text{or}\qquad
              y_b = \frac{1}{|b|} \sum_{i \in \text{bag } b} W_i

    An id that a bag holds twice counts twice. A bag without ids gives zeros.

    Parameters
    ----------
    ids : integer array of shape (bags, length), or (ids,) with ``offsets``
    weight : array of shape (rows, features)
    offsets : integer array of shape (bags,), optional
        Where each bag begins in ``ids``: it ends where the next begins. The first is 0.
    mode : {"mean", "sum"}
    padding_idx : int, optional
        An id that is passed over: it adds nothing, and does not count for the mean.

    Returns
    -------
    array of shape (bags, features)

    Raises
    ------
    DTypeError, ShapeError, DataError
        For ids or offsets that are not integers, have another shape, or are out of range. On a
        GPU, if ids are out of range, see :func:`embedding`; if offsets are, all bags are NaN.

    Examples
    --------
    Two bags, of the ids 0, 1, 1 and of none:

    >>> import numpy as np
    >>> from xpnn import functional as F
    >>> weight = np.asarray([[3.0], [6.0]])
    >>> F.embedding_bag(np.asarray([0, 1, 1]), weight, np.asarray([0, 3]))
    array([[5.],
           [0.]])
    """
    if mode not in ("mean", "sum"):
        msg = f"embedding_bag: 'mode' must be 'mean' or 'sum', got {mode!r}."
        raise ConfigError(msg)
    rows = _table("embedding_bag", weight, padding_idx)
    ids, offsets = backend.unwrap(ids), backend.unwrap(offsets)
    if ids.ndim != (2 if offsets is None else 1):
        msg = (
            "embedding_bag: expected ids of shape (bags, length), or flat ids (ids,) with offsets"
            f" (bags,), got ids of shape {tuple(ids.shape)}"
            f" {'without' if offsets is None else 'with'} offsets."
        )
        raise ShapeError(msg)
    xp, given = backend.array_namespace(ids, offsets), ids
    ids, misplaced = _index("embedding_bag", "ids", given), None
    if offsets is not None:
        offsets, misplaced = _bags("embedding_bag", offsets, ids.shape[0])
    if look := _is_looked_at(ids, weight):
        _check("embedding_bag", given, (ids < 0) | (ids >= rows), rows, offsets, misplaced)
    picked = _picked(ids, weight, padding_idx, look)
    counted = xp.ones_like(ids) if padding_idx is None else xp.astype(ids != padding_idx, ids.dtype)
    if offsets is None:
        total = backend.array_namespace(picked).sum(picked, axis=1)
        counts = xp.sum(counted, axis=1)
    else:
        total, counts = _sums_of_bags(picked, counted, offsets)
        if not look:
            ops = backend.array_namespace(total)
            total = ops.where(xp.any(misplaced), ops.full_like(total, ops.nan), total)
    if mode == "sum":
        return total
    dtype = backend.native_dtype(xp, as_dtype(weight.dtype))
    counts = xp.astype(xp.where(counts > 0, counts, xp.ones_like(counts)), dtype)
    return total / counts[:, None]


def _sums_of_bags(picked: Array, counted: Array, offsets: Array) -> tuple[Array, Array]:
    """Return the sums of the rows of each bag, and how many of them count."""
    xp = backend.array_namespace(counted)
    home = backend.device_of(counted).native
    places = xp.arange(counted.shape[0], dtype=counted.dtype, device=home)
    bag = xp.searchsorted(offsets, places, side="right") - 1
    length = {"length": offsets.shape[0]}
    return (
        apply(indexing.scatter_add, (picked, bag), length),
        apply(indexing.scatter_add, (counted, bag), length),
    )


def _picked(ids: Array, weight: Array, padding_idx: int | None, looked_at: bool) -> Array:
    flat = ids if ids.ndim == 1 else backend.array_namespace(ids).reshape(ids, (-1,))
    if looked_at:
        picked = apply(indexing.take, (weight, flat), {"axis": 0})
    else:
        picked = apply(indexing.lookup, (weight, flat))
    xp = backend.array_namespace(picked)
    if padding_idx is not None:
        picked = xp.where((flat == padding_idx)[:, None], xp.zeros_like(picked), picked)
    return picked if ids.ndim == 1 else xp.reshape(picked, (*ids.shape, weight.shape[1]))


# -------------------------------------------------------------------------------- what is refused


def _table(who: str, weight: Array, padding_idx: int | None) -> int:
    """Return how many rows a table has, after looking at its shape and at the padding."""
    if weight.ndim != 2:
        msg = f"{who}: expected weight of shape (rows, features), got {tuple(weight.shape)}."
        raise ShapeError(msg)
    rows = int(weight.shape[0])
    if padding_idx is not None and not 0 <= padding_idx < rows:
        msg = f"{who}: 'padding_idx' must be one of the {rows} rows, got {padding_idx}."
        raise ConfigError(msg)
    return rows


def _index(who: str, name: str, x: Array) -> Array:
    """Return integers as those in which the device of an array indexes."""
    dtype = as_dtype(x.dtype)
    if dtype.kind not in "iu":
        msg = (
            f"{who}: expected integer {name}, got {dtype}."
            " Convert them, for example with xpnn.asarray(ids, dtype='int64')."
        )
        raise DTypeError(msg)
    xp = backend.array_namespace(x)
    return xp.astype(x, backend.index_dtype(backend.device_of(x)), copy=False)


def _is_looked_at(ids: Array, weight: Array) -> bool:
    """Return whether ids are checked: where nobody waits for them, or none of them reads as NaN."""
    if not weight.shape[0] or as_dtype(weight.dtype).kind not in "fc":
        return True
    return replay.current() is None and backend.on_host(ids)


def _bags(who: str, offsets: Array, count: int) -> tuple[Array, Array]:
    """Return the offsets among so many ids as indices, and which of them are where none can be."""
    if offsets.ndim != 1 or (offsets.shape[0] == 0 and count):
        msg = (
            f"{who}: expected offsets of shape (bags,), at least one for {count} ids,"
            f" got shape {tuple(offsets.shape)}."
        )
        raise ShapeError(msg)
    offsets = _index(who, "offsets", offsets)
    xp = backend.array_namespace(offsets)
    zero = xp.zeros_like(offsets[:1])
    least = xp.concat([zero, offsets[:-1]])
    most = xp.concat([zero, xp.full_like(offsets[1:], count)])
    return offsets, (offsets < least) | (offsets > most)


def _check(
    who: str,
    ids: Array,
    bad: Array,
    rows: int,
    offsets: Array | None = None,
    misplaced: Array | None = None,
) -> None:
    """Raise an error that names the first bad id, or offset, after one look at all of them."""
    xp = backend.array_namespace(bad)
    wrong = xp.any(bad)
    if not bool(wrong if misplaced is None else wrong | xp.any(misplaced)):
        return
    if bool(wrong):
        at, found = _first(xp, bad, ids)
        msg = (
            f"{who}: the table has {rows} rows, so ids must be in [0, {rows - 1}]; got {found}"
            f" at {at}. Is the vocabulary larger than the table?"
        )
    else:
        at, found = _first(xp, misplaced, offsets)
        msg = (
            f"{who}: offsets say where bags begin: the first is 0, none is less than the one"
            f" before it or more than the number of ids, {ids.shape[0]}; got {found} at {at}."
        )
    raise DataError(msg)


def _first(xp: Any, bad: Array, x: Array) -> tuple[tuple[int, ...], int]:
    """Return place and value of the first element of ``x`` at which ``bad`` is True."""
    flat = xp.astype(xp.reshape(bad, (-1,)), xp.int8)
    at = int(xp.argmax(flat))
    found = int(xp.reshape(x, (-1,))[at])
    place: list[int] = []
    for n in reversed(bad.shape):
        place.insert(0, at % n)
        at //= n
    return tuple(place), found
