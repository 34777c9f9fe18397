"""Classes as rows of ones and zeros, and back."""

from __future__ import annotations

from typing import Any

from xpnn import backend
from xpnn._dtypes import as_dtype
from xpnn.backend import on_host
from xpnn.errors import ConfigError, DTypeError, ShapeError
from xpnn.losses import check_labels

__all__ = ["one_hot", "unhot"]

Array = Any


def one_hot(labels: Array, classes: int, *, dtype: Any = None) -> Array:
    """Return rows that are 1 at the label and 0 elsewhere: (...) -> (..., classes).

    A label is the place of the 1, whichever labels there are; npdl takes its rank among them, so
    that a batch without a class is encoded differently.

    Parameters
    ----------
    labels : integer array or sequence of any shape
    classes : int
        The length of the rows.
    dtype : dtype, optional
        The default dtype if not given.

    Raises
    ------
    DataError
        If a label is not in [0, classes). On a GPU, where a look would wait, its row is all 0.
    DTypeError
        If labels are no integers.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.data import one_hot
    >>> one_hot(np.asarray([1, 0]), 3)
    array([[0., 1., 0.],
           [1., 0., 0.]], dtype=float32)
    """
    if not (hasattr(classes, "__index__") and classes >= 1):
        msg = f"one_hot: 'classes' must be a whole number, at least 1, got {classes!r}."
        raise ConfigError(msg)
    raw = backend.unwrap(labels)
    raw = raw if hasattr(raw, "shape") else backend.asarray(raw)
    found = as_dtype(raw.dtype)
    if found.kind not in "iu":
        msg = f"one_hot: expected integer labels, got {found}. Convert them, to int64 for example."
        raise DTypeError(msg)
    xp = backend.array_namespace(raw)
    if on_host(raw):
        check_labels("one_hot", raw, classes)
    ramp = xp.arange(classes, dtype=raw.dtype, device=backend.device_of(raw).native)
    hit = raw[..., None] == ramp
    return xp.astype(hit, backend.native_dtype(xp, dtype or backend.get_dtype()))


def unhot(rows: Array) -> Array:
    """Return the place of the largest element of each row: (..., classes) -> (...), integers.

    It undoes :func:`one_hot`, and takes the decision of predictions; of equal elements the first.

    Parameters
    ----------
    rows : array of shape (..., classes)

    Raises
    ------
    ShapeError
        If there are no classes to choose from.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.data import unhot
    >>> unhot(np.asarray([[0.0, 1.0, 0.0], [0.5, 0.1, 0.4]]))
    array([1, 0])
    """
    raw = backend.unwrap(rows)
    raw = raw if hasattr(raw, "shape") else backend.asarray(raw)
    if not raw.ndim or not raw.shape[-1]:
        msg = f"unhot: expected rows of shape (..., classes), got shape {tuple(raw.shape)}."
        raise ShapeError(msg)
    xp = backend.array_namespace(raw)
    if as_dtype(raw.dtype).kind == "b":
        raw = xp.astype(raw, xp.uint8)
    return xp.argmax(raw, axis=-1)
