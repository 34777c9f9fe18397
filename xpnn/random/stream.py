r"""The counter-based random stream: one seed gives the same run on every device.

A draw is a pure function of three integers, whatever the device and however work is split:

.. math:: \text{block}_k = \text{Philox4x64-10}(\text{counter} = k + 1,\ \text{key} = \text{seed})

:class:`Stream` hands out blocks of 256 bits and counts them; a *source*, a module
``kernels/<library>_random.py``, turns blocks into values. The host's source is NumPy's own
``Philox``; a library without a source gets the host's values moved.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import operator
import os
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any, SupportsIndex

from xpnn import replay
from xpnn._cuda import retell
from xpnn._dtypes import as_dtype
from xpnn._libraries import LIBRARIES, Library
from xpnn.backend import as_device, get_device, get_dtype, native_dtype
from xpnn.errors import ConfigError, DataError, DTypeError, GraphError, ShapeError

__all__ = ["Stream"]

Array = Any
Size = int | tuple[int, ...]

_WORD = 2**64
_HOST = LIBRARIES["cpu"]
_BIT_GENERATOR = "philox4x64-10"


class Stream:
    r"""A counter-based stream of random numbers whose whole state is two integers.

    A draw of :math:`w` words of 64 bits takes the next :math:`\lceil w / 4 \rceil` blocks of
    Philox4x64-10 and moves the counter past them. So it depends on ``(seed, counter, shape)``
    alone, not on the device or the draws before. Threads may share a stream: each draw gets blocks
    of its own. All draws but :meth:`bits` return raw arrays on ``device``. A fresh stream gives the
    words and the uniforms of NumPy's ``Generator(Philox(key=seed))``.

    Parameters
    ----------
    seed : int, optional
        The 128-bit key, ``0 <= seed < 2**128``; fresh entropy of the operating system if None.
    counter : int
        Blocks of 256 bits drawn so far, ``0 <= counter < 2**64``.

    Raises
    ------
    ConfigError
        If ``seed`` or ``counter`` is not an integer in its range.

    Examples
    --------
    >>> from xpnn.random import Stream
    >>> stream = Stream(seed=0)
    >>> stream.uniform((2, 2))
    array([[0.03474188, 0.01154673],
           [0.6119502 , 0.2415492 ]], dtype=float32)
    >>> stream
    Stream(seed=0, counter=1)
    """

    def __init__(self, seed: int | None = None, counter: int = 0) -> None:
        self._lock = threading.Lock()
        self._seed = _integer(
            "seed", int.from_bytes(os.urandom(16), "little") if seed is None else seed, 128
        )
        self._counter = _integer("counter", counter, 64)

    @property
    def seed(self) -> int:
        """The 128-bit key."""
        return self._seed

    @property
    def counter(self) -> int:
        """Blocks of 256 bits drawn so far."""
        return self._counter

    @property
    def state(self) -> dict[str, Any]:
        """The whole state as a dict that ``json`` can write; assign one to go back to it."""
        with self._lock:
            seed, counter = self._seed, self._counter
        return {"bit_generator": _BIT_GENERATOR, "seed": seed, "counter": counter}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        restored = Stream.from_state(state)
        with self._lock:
            self._seed, self._counter = restored._seed, restored._counter

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Stream:
        """Return a stream that goes on where the one with this :attr:`state` stood.

        Raises :class:`~xpnn.errors.DataError` if it is not such a state.

        Examples
        --------
        >>> from xpnn.random import Stream
        >>> Stream.from_state(Stream(seed=7, counter=12).state)
        Stream(seed=7, counter=12)
        """
        try:
            if state["bit_generator"] == _BIT_GENERATOR and state["seed"] is not None:
                return cls(state["seed"], state["counter"])
        except (KeyError, TypeError, ConfigError):
            pass
        known = f"{{'bit_generator': {_BIT_GENERATOR!r}, 'seed': int, 'counter': int}}"
        msg = f"Stream.from_state: expected {known}, got {state!r}."
        raise DataError(msg)

    def copy(self) -> Stream:
        """Return a stream in the same state that then goes its own way."""
        return Stream.from_state(self.state)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and deep-copy by the state: a lock cannot be copied."""
        return Stream.from_state, (self.state,)

    def __repr__(self) -> str:
        """Show the two integers."""
        return f"Stream(seed={self._seed}, counter={self._counter})"

    def spawn(self) -> Stream:
        """Return an independent stream: its key is the next two words of this one.

        That block is given to nobody else, and two keys of 128 bits are as good as never equal.
        """
        low, high = self.bits(2).tolist()
        return Stream(low + high * _WORD)

    def bits(self, n: int) -> Array:
        """Return ``n`` words of 64 random bits: a NumPy array ``(n,)``, uint64.

        Examples
        --------
        >>> import numpy
        >>> from xpnn.random import Stream
        >>> numpy.array_equal(Stream(5).bits(9), numpy.random.Philox(key=5).random_raw(9))
        True
        """
        return self._draw("words", 1, n, "cpu")

    def uniform(
        self, shape: Size, *, low: float = 0, high: float = 1, dtype: Any = None, device: Any = None
    ) -> Array:
        r"""Return numbers uniform on ``[low, high)``, the same bits on every device.

        .. math:: x = \text{low} + (\text{high} - \text{low})\, 2^{-24} \lfloor l / 2^8 \rfloor

        with :math:`l` a 32-bit lane, low lane of a word first; float64 takes the word :math:`w`
        and :math:`2^{-53} \lfloor w / 2^{11} \rfloor`; float16 and bfloat16 are rounded float32.

        Parameters
        ----------
        shape : int or tuple of int
        low, high : float
            Finite, ``low <= high``. Rounding to the dtype may give ``high`` itself.
        dtype, device : optional
            Default: :func:`xpnn.get_dtype`, :func:`xpnn.get_device`.

        Raises
        ------
        ConfigError, DTypeError, ShapeError
            For bounds, a dtype or a shape that it cannot take; nothing is drawn then.
        """
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            msg = f"Stream.uniform: expected finite low <= high, got low={low}, high={high}."
            raise ConfigError(msg)
        return self._draw_float("uniform", shape, dtype, device, float(low), float(high))

    def normal(
        self, shape: Size, *, mean: float = 0, std: float = 1, dtype: Any = None, device: Any = None
    ) -> Array:
        r"""Return normal numbers by the Box-Muller transform.

        .. math::
            z_0, z_1 = \text{mean} + \text{std} \sqrt{-2 \ln u_1}\, (\cos 2\pi u_2, \sin 2\pi u_2)

        with :math:`u_1 = (a + 1)\, 2^{-b}`, :math:`u_2 = c\, 2^{-b}` and :math:`a, c` the next two
        lanes of :math:`b = 32` bits, for float64 the upper :math:`b = 53` bits of the next two
        words. Computed in float64 and rounded, so that devices hardly ever differ in float32.

        Parameters
        ----------
        shape : int or tuple of int
        mean, std : float
            Finite, ``std >= 0``.
        dtype, device : optional
            Default: :func:`xpnn.get_dtype`, :func:`xpnn.get_device`.

        Raises
        ------
        ConfigError, DTypeError, ShapeError
            For parameters, a dtype or a shape that it cannot take; nothing is drawn then.

        Notes
        -----
        A library with a source of its own (CUDA) computes them on its device, whose logarithm and
        sine are not the host's: a number may differ in its last bit (in float32 hardly ever).
        Every other library gets the host's bits. Where all must agree, as for weights, draw on
        the host and move the array, as below.

        Source: Box and Muller, "A note on the generation of random normal deviates", 1958.

        Examples
        --------
        >>> from xpnn.backend import get_device, to_device
        >>> from xpnn.random import Stream
        >>> weight = to_device(Stream(0).normal((784, 10), std=0.1, device="cpu"), get_device())
        """
        if not (math.isfinite(mean) and math.isfinite(std) and std >= 0):
            msg = f"Stream.normal: expected finite mean and std >= 0, got mean={mean}, std={std}."
            raise ConfigError(msg)
        return self._draw_float("normal", shape, dtype, device, float(mean), float(std))

    def bernoulli(self, p: float, shape: Size, *, device: Any = None) -> Array:
        r"""Return a boolean mask, True with probability ``p``; the same mask on every device.

        .. math:: m = [\, l < \operatorname{round}(65536\, p) \,]

        with :math:`l` a 16-bit lane (four a word, low lane first). So ``p`` counts in steps of
        1/65536, and below half a step the mask is all False.

        Parameters
        ----------
        p : float
            Probability of True, in ``[0, 1]``.
        shape : int or tuple of int
        device : optional

        Raises
        ------
        ConfigError, ShapeError
            For a ``p`` or a shape that it cannot take.

        Examples
        --------
        >>> from xpnn.random import Stream
        >>> Stream(0).bernoulli(0.5, 6)
        array([False,  True, False,  True, False, False])
        """
        if not 0 <= p <= 1:
            msg = f"Stream.bernoulli: expected a probability p in [0, 1], got {p}."
            raise ConfigError(msg)
        return self._draw("bernoulli", 4, shape, device, round(float(p) * 65536))

    def integers(self, low: int, high: int, shape: Size, *, device: Any = None) -> Array:
        r"""Return int64 numbers uniform on ``low, ..., high - 1``.

        .. math:: i = \text{low} + (w \bmod (\text{high} - \text{low}))

        with :math:`w` a word: no number's probability is off by more than :math:`2^{-64}`.
        Raises :class:`~xpnn.errors.ConfigError` unless ``-2**63 <= low < high < 2**63``.

        Examples
        --------
        >>> from xpnn.random import Stream
        >>> Stream(0).integers(1, 7, 5)
        array([6, 3, 4, 1, 4])
        """
        whole = isinstance(low, SupportsIndex) and isinstance(high, SupportsIndex)
        if not (whole and -(2**63) <= low < high < 2**63):
            msg = f"Stream.integers: expected int64 bounds low < high, got {low!r}, {high!r}."
            raise ConfigError(msg)
        first, span = operator.index(low), operator.index(high) - operator.index(low)
        return self._draw("integers", 1, shape, device, first, span)

    def permutation(self, n: int, *, device: Any = None) -> Array:
        """Return ``0, ..., n - 1`` in random order (int64): the stable argsort of ``n`` words.

        It is sorted on the host, so that every device gets the same order.

        Examples
        --------
        >>> from xpnn.random import Stream
        >>> Stream(0).permutation(5)
        array([0, 2, 1, 4, 3])
        """
        return self._draw("permutation", 1, n, device)

    def _draw_float(self, kind: str, shape: Size, dtype: Any, device: Any, *args: float) -> Array:
        """Draw float32 or float64; float16 and bfloat16 by way of float32."""
        name = (get_dtype() if dtype is None else as_dtype(dtype)).name
        target = get_device() if device is None else as_device(device)
        if name in ("float32", "float64"):
            return self._draw(kind, 2 if name == "float32" else 1, shape, target, name, *args)
        if name not in ("float16", "bfloat16"):
            msg = f"Stream.{kind}: expected a real floating-point dtype, got {name}."
            raise DTypeError(msg)
        half = native_dtype(target.xp, name)
        with target.library.scope(target.native):
            return target.xp.astype(self._draw(kind, 2, shape, target, "float32", *args), half)

    def _draw(self, kind: str, per_word: int, shape: Size, device: Any, *args: Any) -> Array:
        """Take the blocks of ``shape`` values, ``per_word`` of them a word, and make the values."""
        target = get_device() if device is None else as_device(device)
        sizes, n = _sizes(kind, shape)
        library = target.library
        source = _source(library)
        make = getattr(source, kind, None)
        with library.scope(target.native):
            more = {} if replay.current() is None else self._recorded(kind, make, source)
            seed, counter = self._take(-(-n // (4 * per_word)))
            if make is not None:
                try:
                    return make(seed, counter, n, *args, **more).reshape(sizes)
                except MemoryError as error:
                    retell(error)
        values = getattr(_source(_HOST), kind)(seed, counter, n, *args).reshape(sizes)
        return library.from_numpy(values, target.native, None)

    def _recorded(self, kind: str, make: Any, source: Any) -> dict[str, Any]:
        """Return what a source is told in a step that is recorded: where the counter moves on."""
        if make is None or not hasattr(source, "place"):
            msg = (
                f"Stream.{kind}: these numbers are made on the host, where a captured step cannot"
                " draw them again. Draw them outside, and give the step the array."
            )
            raise GraphError(msg)
        recording = replay.current()
        return {"moved": recording.move(self, source.place, source.put)}  # type: ignore[union-attr]

    def skip(self, blocks: int) -> None:
        """Go past blocks of 256 bits, as if they had been drawn.

        Examples
        --------
        >>> from xpnn.random import Stream
        >>> stream = Stream(0)
        >>> stream.skip(3)
        >>> stream.counter
        3
        """
        self._take(_integer("blocks", blocks, 64))

    def _take(self, blocks: int) -> tuple[int, int]:
        """Reserve the next ``blocks`` blocks; return the seed and the counter before them."""
        with self._lock:
            seed, counter = self._seed, self._counter
            if counter + blocks >= _WORD:
                msg = f"{self!r}: its 2**64 blocks are used up. Go on with a new seed."
                raise ConfigError(msg)
            self._counter = counter + blocks
        return seed, counter


@cache
def _source(library: Library) -> Any:
    """Return the module ``kernels/<library>_random.py``, or None where there is none."""
    name = "numpy" if library is _HOST else library.xp.__name__  # its namespace imports in 0.1 s
    package = name.removeprefix("array_api_compat.").partition(".")[0]
    module = f"xpnn.kernels.{package}_random"
    return importlib.import_module(module) if importlib.util.find_spec(module) else None


def _integer(name: str, value: Any, bits: int) -> int:
    """Return ``value`` as an int, if it is one of ``bits`` bits."""
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number < 2**bits:
        msg = f"Stream: expected an integer {name} with 0 <= {name} < 2**{bits}, got {value!r}."
        raise ConfigError(msg)
    return number


def _sizes(kind: str, shape: Any) -> tuple[tuple[int, ...], int]:
    """Return the shape as a tuple, and the number of elements."""
    try:
        sizes = tuple(map(operator.index, shape if isinstance(shape, (tuple, list)) else (shape,)))
    except TypeError:
        sizes = (-1,)
    if min(sizes, default=0) < 0:
        msg = f"Stream.{kind}: expected a shape of integers >= 0, got {shape!r}."
        raise ShapeError(msg)
    return sizes, math.prod(sizes)
