"""Columns of data brought to one scale, and back."""

from __future__ import annotations

from typing import Any

from xpnn import backend
from xpnn._dtypes import as_dtype
from xpnn.backend import array_namespace, unwrap
from xpnn.errors import ConfigError, DataError, ShapeError

__all__ = ["MinMaxScaler", "Scaler", "StandardScaler"]

Array = Any


class Scaler:
    r"""Base of the scalers: :math:`z = (x - \text{shift}) / \text{scale}`, a column each.

    What it learns lies in plain attributes, beside the data that it was fitted to. Arrays of every
    library and device can be transformed; the result is where they are, in their dtype.
    Integers become the default dtype.
    """

    shift: Array = None
    scale: Array = None

    def fit(self, x: Array) -> Any:
        """Learn from data of shape (examples, ...), column by column; returns the scaler.

        Raises
        ------
        DataError
            If there are no examples, or numbers that are NaN or infinite: every later number of
            their column would be NaN.
        """
        who = f"{type(self).__name__}.fit"
        x = _floats(unwrap(x))
        if not x.ndim or not x.shape[0]:
            msg = f"{who}: there are no examples in data of shape {tuple(x.shape)}."
            raise DataError(msg)
        xp = array_namespace(x)
        finite = xp.isfinite(x)
        if not bool(xp.all(finite)):
            n = int(xp.count_nonzero(~finite))
            msg = f"{who}: {n} numbers are NaN or infinite. Replace them or leave them out."
            raise DataError(msg)
        half = as_dtype(x.dtype).itemsize < 4  # whose squares overflow from 256 on
        self._learn(xp, xp.astype(x, backend.native_dtype(xp, "float32")) if half else x)
        return self

    def _learn(self, xp: Any, x: Array) -> None:
        """Set ``shift`` and ``scale``."""
        raise NotImplementedError

    def transform(self, x: Array) -> Array:
        """Return data on the new scale."""
        x, shift, scale = self._beside(x)
        return (x - shift) / scale

    def inverse(self, z: Array) -> Array:
        """Return data on its own scale again."""
        z, shift, scale = self._beside(z)
        return z * scale + shift

    def fit_transform(self, x: Array) -> Array:
        """Learn from data and return it on the new scale."""
        return self.fit(x).transform(x)

    def _beside(self, x: Array) -> tuple[Array, Array, Array]:
        """Return x as floating-point numbers, and shift and scale where it is, in its dtype."""
        name = type(self).__name__
        if self.shift is None:
            msg = f"{name}: it has learnt no scale yet. Call fit(x) or fit_transform(x) first."
            raise ConfigError(msg)
        x = _floats(x)
        if not x.ndim or tuple(x.shape[1:]) != tuple(self.shift.shape):
            columns = ", ".join(map(str, self.shift.shape))
            msg = (
                f"{name}: it was fitted to examples of shape ({columns}), got data of shape"
                f" {tuple(x.shape)}."
            )
            raise ShapeError(msg)
        home, dtype = backend.device_of(x), as_dtype(x.dtype)
        shift, scale = (
            backend.asarray(v, device=home, dtype=dtype) for v in (self.shift, self.scale)
        )
        return x, shift, scale

    def __repr__(self) -> str:
        columns = "not fitted" if self.shift is None else f"columns {tuple(self.shift.shape)}"
        return f"{type(self).__name__}({columns})"


class StandardScaler(Scaler):
    r"""Columns with mean 0 and standard deviation 1, :math:`z = (x - \mu) / \sigma`.

    The deviation is that of the data, over n, as in scikit-learn. A column of one value has z = 0;
    yadll added 1e-6 to every deviation.

    Parameters
    ----------
    with_mean, with_std : bool
        Whether the mean is taken off, and whether the deviation is divided by.

    Attributes
    ----------
    mean : array
        Of the columns.
    std : array
        Standard deviation of the columns; 0 where all examples are the same.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.data import StandardScaler
    >>> scaler = StandardScaler()
    >>> z = scaler.fit_transform(np.asarray([[1.0, 5.0], [3.0, 5.0]]))
    >>> z
    array([[-1.,  0.],
           [ 1.,  0.]])
    >>> scaler.inverse(z)
    array([[1., 5.],
           [3., 5.]])
    """

    mean: Array = None
    std: Array = None

    def __init__(self, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean, self.with_std = with_mean, with_std

    def _learn(self, xp: Any, x: Array) -> None:
        first = xp.mean(x, axis=0, keepdims=True)
        rest = x - first
        # What rounding a long sum has left out of the mean is the mean of the deviations. So the
        # mean of a column of one value is that value, and its deviation exactly 0.
        mean = first + xp.mean(rest, axis=0, keepdims=True)
        rest = x - mean
        self.mean = xp.reshape(mean, x.shape[1:])
        self.std = xp.sqrt(xp.mean(rest * rest, axis=0))
        self.shift = self.mean if self.with_mean else xp.zeros_like(self.mean)
        ones = xp.ones_like(self.std)
        self.scale = xp.where(self.std == 0, ones, self.std) if self.with_std else ones


class MinMaxScaler(Scaler):
    r"""Columns from ``low`` to ``high``.

    .. math:: z = \text{low} + (\text{high} - \text{low})\,
              \frac{x - \min}{\max - \min}

    A column of one value becomes ``low``; yadll's ``normalize`` gave NaN. Data that was not fitted
    may leave the range: nothing is clipped.

    Parameters
    ----------
    low, high : float

    Attributes
    ----------
    minimum, maximum : array
        Of the columns.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.data import MinMaxScaler
    >>> scaler = MinMaxScaler().fit(np.asarray([[1.0, 5.0], [3.0, 5.0]]))
    >>> scaler.transform(np.asarray([[2.0, 5.0], [4.0, 6.0]]))
    array([[0.5, 0. ],
           [1.5, 1. ]])
    """

    minimum: Array = None
    maximum: Array = None

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        if not low < high:
            msg = f"MinMaxScaler: expected low < high, got low={low}, high={high}."
            raise ConfigError(msg)
        self.low, self.high = float(low), float(high)

    def _learn(self, xp: Any, x: Array) -> None:
        self.minimum, self.maximum = xp.min(x, axis=0), xp.max(x, axis=0)
        width = self.maximum - self.minimum
        self.shift, self.scale = self.minimum, xp.where(width == 0, xp.ones_like(width), width)

    def transform(self, x: Array) -> Array:
        return super().transform(x) * (self.high - self.low) + self.low

    def inverse(self, z: Array) -> Array:
        return super().inverse((_floats(z) - self.low) / (self.high - self.low))


def _floats(x: Array) -> Array:
    """Return real floating-point numbers as they are, and others in the default dtype."""
    if not hasattr(x, "shape"):
        x = backend.asarray(x)
    kind = as_dtype(x.dtype).kind
    if kind == "c":
        msg = f"expected data that is real numbers, got {x.dtype}."
        raise DataError(msg)
    if kind == "f":
        return x
    xp = array_namespace(x)
    return xp.astype(x, backend.native_dtype(array_namespace(unwrap(x)), backend.get_dtype()))
