"""From arrays to mini-batches and to parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np  # what lies on the host is cut and shuffled there

from xpnn import backend, random
from xpnn._dtypes import as_dtype
from xpnn.errors import ConfigError, DataError

__all__ = ["Batch", "Batches", "as_arrays", "minibatches", "moved", "split"]

Array = Any


def as_arrays(data: Any) -> Any:
    """Return one input as a raw array, or a tuple of several as a tuple; lists become NumPy's."""
    if isinstance(data, tuple):
        return tuple(as_arrays(part) for part in data)
    raw = backend.unwrap(data)
    if not hasattr(raw, "shape"):
        try:
            raw = np.asarray(raw)
        except ValueError:
            msg = (
                "expected an array, got a list whose items have several shapes. Several inputs are"
                " given as a tuple, (a, b); sequences of several lengths are padded to one."
            )
            raise DataError(msg) from None
    if isinstance(raw, np.ndarray) and raw.dtype.kind not in "biufcV":  # V: bfloat16
        if not raw.ndim:
            what = "None" if data is None else f"a {type(data).__name__}"
            msg = f"expected an array of numbers, got {what}."
            raise DataError(msg)
        msg = (
            f"expected an array of numbers, got one of dtype {raw.dtype}. Convert it: labels that"
            " are words, for example, with numpy.unique(labels, return_inverse=True)."
        )
        raise DataError(msg)
    return raw


class Batch(NamedTuple):
    """Some examples: inputs, targets if there are any, and a weight for each if they have some.

    Attributes
    ----------
    x : array or tuple of arrays
        Inputs, examples along the first axis.
    y : array, tuple of arrays or None
        Targets.
    weight : array or None
        Of shape (N,), or that of the values of the loss.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.data import Batch
    >>> Batch(np.zeros((5, 2)), np.arange(5)).examples
    5
    """

    x: Any
    y: Any = None
    weight: Any = None

    @property
    def examples(self) -> int:
        """How many examples there are."""
        return int((self.x[0] if isinstance(self.x, tuple) else self.x).shape[0])


def moved(x: Any, device: Any = None, dtype: Any = None) -> Any:
    """Return arrays on a device, those of floating-point numbers in a dtype; a tuple as a tuple."""
    if x is None:
        return None
    if isinstance(x, tuple):
        return tuple(moved(part, device, dtype) for part in x)
    floats = dtype is not None and as_dtype(x.dtype).kind == "f"
    return backend.asarray(x, device=device, dtype=dtype if floats else None)


class Batches:
    """Mini-batches of arrays that share their first axis.

    Parameters
    ----------
    *arrays : array or tuple of arrays
        Examples along the first axis. A tuple (several inputs) comes back as a tuple.
    batch_size : int
        The last batch may be smaller.
    shuffle : bool
        Whether every pass takes another order, from the random stream.
    device : str or Device, optional
        Where the batches are moved; where the arrays lie if not given.
    dtype : dtype, optional
        The dtype to which floating-point arrays are cast.

    Raises
    ------
    DataError
        If there are no examples, or not as many in each array.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.data import Batches
    >>> [len(x) for x, y in Batches(np.zeros((5, 2)), np.arange(5), batch_size=2)]
    [2, 2, 1]
    """

    def __init__(
        self,
        *arrays: Any,
        batch_size: int,
        shuffle: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if not (hasattr(batch_size, "__index__") and batch_size >= 1):
            msg = f"'batch_size' must be a whole number, at least 1, got {batch_size!r}."
            raise ConfigError(msg)
        self._is_tuple = [isinstance(a, tuple) for a in arrays]
        self.arrays: list[tuple[Any, ...]] = [
            a if isinstance(a, tuple) else (a,) for a in map(as_arrays, arrays)
        ]
        self.batch_size, self.shuffle = batch_size, shuffle
        self.device = None if device is None else backend.as_device(device)
        self.dtype = dtype
        if not arrays:
            msg = "expected data, got no array."
            raise DataError(msg)
        lengths = {int(p.shape[0]) if p.ndim else 0 for parts in self.arrays for p in parts}
        if len(lengths) > 1:
            shapes = ", ".join(str(tuple(p.shape)) for parts in self.arrays for p in parts)
            msg = f"expected as many examples in every array, got arrays of shape {shapes}."
            raise DataError(msg)
        self.examples = lengths.pop()
        if not self.examples:
            msg = "there are no examples: the first axis of the data has length 0."
            raise DataError(msg)

    def __len__(self) -> int:
        return -(-self.examples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self.pass_from(0)

    def pass_from(self, start: int) -> Iterator[tuple[Any, ...]]:
        """Return a pass that leaves out the first batches; its order is drawn at once."""
        order = None
        if self.shuffle:
            order = _Order(random.get_rng().permutation(self.examples, device="cpu"))
        return (self._batch(i, order) for i in range(start, len(self)))

    def _batch(self, i: int, order: _Order | None) -> tuple[Any, ...]:
        # array_api_strict takes no slice beyond the end
        at = slice(i * self.batch_size, min((i + 1) * self.batch_size, self.examples))
        return tuple(
            tuple(self._cut(p, at, order) for p in parts)
            if is_tuple
            else self._cut(parts[0], at, order)
            for parts, is_tuple in zip(self.arrays, self._is_tuple, strict=True)
        )

    def _cut(self, x: Array, at: slice, order: _Order | None) -> Array:
        if order is None:
            cut = x[at, ...]
        elif isinstance(x, np.ndarray):
            cut = x[order.host[at], ...]
        else:
            cut = backend.array_namespace(x).take(x, order.beside(x)[at], axis=0)
        return moved(cut, self.device, self.dtype)


class _Order:
    """In which order a pass takes the examples: on the host, and once wherever arrays lie."""

    def __init__(self, host: Array) -> None:
        self.host = host
        self._beside: dict[Any, Array] = {}

    def beside(self, x: Array) -> Array:
        """Return it on the device of an array: a copy for every batch would hold the host up."""
        home = backend.device_of(x)
        if home not in self._beside:
            self._beside[home] = backend.to_device(self.host, home)
        return self._beside[home]


def split(*arrays: Any, fraction: float, shuffle: bool = True) -> tuple[Any, ...]:
    """Split arrays along the first axis into a part and the last ``fraction`` of it.

    Parameters
    ----------
    *arrays : array
        With as many examples each.
    fraction : float
        How much goes into the second part, in (0, 1).
    shuffle : bool
        Whether the examples are shuffled first, with the random stream.

    Returns
    -------
    tuple
        For every array its two parts: ``x1, x2, y1, y2``.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.data import split
    >>> a, b = split(np.arange(10), fraction=0.2, shuffle=False)
    >>> len(a), len(b)
    (8, 2)
    """
    if not 0.0 < fraction < 1.0:
        msg = f"split: 'fraction' must be in (0, 1), got {fraction}."
        raise ConfigError(msg)
    host = [np.asarray(backend.to_numpy(a)) for a in arrays]
    n = Batches(*host, batch_size=1).examples
    cut = n - round(n * fraction)
    if cut in (0, n):
        msg = f"split: {n} examples cannot be split at fraction {fraction}."
        raise DataError(msg)
    order = random.get_rng().permutation(n, device="cpu") if shuffle else slice(None)
    return tuple(part for a in host for part in (a[order][:cut], a[order][cut:]))


def minibatches(x: Any, *others: Any, batch_size: int = 256, shuffle: bool = True) -> Iterator[Any]:
    """Yield mini-batches, once: of one array arrays, of several tuples. The last may be smaller.

    Parameters
    ----------
    x, *others : arrays
        With as many examples along the first axis each.
    batch_size : int
    shuffle : bool
        Whether the order is random, from the random stream, and the same for all arrays.

    Raises
    ------
    DataError
        At once, if there are no examples, or not as many in each array.

    See Also
    --------
    Batches : goes through the data again and again, and moves it to a device.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.data import minibatches
    >>> [len(x) for x, y in minibatches(np.zeros((5, 2)), np.arange(5), batch_size=2)]
    [2, 2, 1]
    >>> [x.tolist() for x in minibatches(np.arange(5), batch_size=3, shuffle=False)]
    [[0, 1, 2], [3, 4]]
    """
    batches = Batches(x, *others, batch_size=batch_size, shuffle=shuffle)
    return (batch if others else batch[0] for batch in batches)
