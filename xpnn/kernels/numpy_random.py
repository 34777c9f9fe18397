"""NumPy's own Philox4x64-10: the random stream on the host, at NumPy's speed.

Each function is pure in ``(seed, counter, n)`` and returns a flat array of ``n`` values;
:mod:`xpnn.kernels.cupy_random` gives the same bits on a GPU. :class:`xpnn.random.Stream` says what
the values mean. A value depends on its place in the stream alone, so that the threads draw parts.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn import parallel
from xpnn.kernels.numpy_memory import empty

__all__ = ["bernoulli", "discrete", "integers", "normal", "permutation", "uniform", "words"]

Array = Any

_WORD = 2**64
_PART = 2**16  # words that a thread draws at a time; a multiple of the 4 of a block
_CACHED = 2**14  # pairs of normals whose float64 temporaries stay in the cache
_thread = threading.local()


def _generator(seed: int, counter: int) -> np.random.Generator:
    """Return this thread's generator, seated before the block after ``counter``.

    Setting the state takes 1.5 us and empties the buffer; a new generator would take 9 us.
    """
    try:
        generator, state = _thread.seat
    except AttributeError:
        generator = np.random.Generator(np.random.Philox(key=0))
        state = generator.bit_generator.state
        _thread.seat = generator, state
    position = state["state"]
    position["key"][0] = seed % _WORD
    position["key"][1] = seed // _WORD
    position["counter"][0] = counter
    generator.bit_generator.state = state
    return generator


def words(seed: int, counter: int, n: int) -> Array:
    """Return ``n`` words of 64 bits (uint64)."""
    philox: Any = _generator(seed, counter).bit_generator
    return philox.random_raw(n)


def _lanes(seed: int, counter: int, n: int, bits: int) -> Array:
    """Return ``n`` lanes of 16 or 32 bits; the low lane of a word comes first."""
    drawn = words(seed, counter, -(-n * bits // 64))
    if sys.byteorder == "big":
        drawn = drawn.astype("<u8")
    return drawn.view(f"<u{bits // 8}")[:n]


def _in_parts(
    draw: Callable[[int, Array], None], counter: int, n: int, dtype: Any, per_word: int
) -> Array:
    """Return ``n`` values that ``draw(counter, out)`` writes, ``per_word`` of them a word."""
    out, step = empty((n,), dtype), _PART * per_word
    if n <= 2 * step:
        draw(counter, out)
        return out

    def part(i: int) -> None:
        draw(counter + i // (4 * per_word), out[i : i + step])

    parallel.share(part, range(0, n, step))
    return out


def integers(seed: int, counter: int, n: int, low: int, span: int) -> Array:
    """Return ``low + word mod span`` (int64)."""
    drawn = words(seed, counter, n)
    return (drawn % np.uint64(span) + np.uint64(low % _WORD)).view(np.int64)


def discrete(seed: int, counter: int, n: int, ends: Array) -> Array:
    """Return how many of the sorted ``ends`` (uint64) are not beyond each word (int64)."""
    found = np.searchsorted(ends, words(seed, counter, n), side="right")
    return found.astype(np.int64, copy=False)


def permutation(seed: int, counter: int, n: int) -> Array:
    """Return the stable argsort of ``n`` words (int64)."""
    drawn = words(seed, counter, n)
    order = np.argsort(drawn)  # three times as fast, and where no two are equal, the same
    ordered = drawn[order]
    if np.any(ordered[1:] == ordered[:-1]):
        order = np.argsort(drawn, kind="stable")
    return order.astype(np.int64, copy=False)


def uniform(seed: int, counter: int, n: int, dtype: str, low: float, high: float) -> Array:
    """Return ``low + (high - low) u`` as float32 (8 a block) or float64 (4 a block)."""
    kind: Any = np.float64 if dtype == "float64" else np.float32

    def draw(counter: int, out: Array) -> None:
        _generator(seed, counter).random(dtype=kind, out=out)
        if (low, high) != (0.0, 1.0):
            out *= high - low
            out += low

    return _in_parts(draw, counter, n, kind, 1 if dtype == "float64" else 2)


def bernoulli(seed: int, counter: int, n: int, threshold: int) -> Array:
    """Return ``lane < threshold`` of 16-bit lanes (bool, 16 a block)."""

    def draw(counter: int, out: Array) -> None:
        np.less(_lanes(seed, counter, out.size, 16), threshold, out=out)

    return _in_parts(draw, counter, n, np.bool_, 4)


def normal(seed: int, counter: int, n: int, dtype: str, mean: float, std: float) -> Array:
    """Return Box-Muller normals as float32 (8 a block) or float64 (4 a block)."""

    def draw(counter: int, out: Array) -> None:
        even = out.size + out.size % 2
        if dtype == "float64":
            drawn, step = words(seed, counter, even) >> np.uint64(11), 2.0**-53
        else:
            drawn, step = _lanes(seed, counter, even, 32), 2.0**-32
        pairs, z = drawn.reshape(-1, 2), np.empty((even // 2, 2), dtype)
        for i in range(0, even // 2, _CACHED):
            first, second = pairs[i : i + _CACHED].T
            radius = np.sqrt(-2.0 * np.log((first + 1.0) * step))
            # (cos, sin) of 2 pi u = (1 - t^2, 2 t) / (1 + t^2): a seventh of the cost of both.
            t = np.tan(second * (math.pi * step))
            radius /= 1.0 + t * t
            z[i : i + _CACHED, 0] = radius * (1.0 - t * t) * std + mean
            z[i : i + _CACHED, 1] = radius * (2.0 * t) * std + mean
        out[:] = z.reshape(-1)[: out.size]

    return _in_parts(draw, counter, n, dtype, 1 if dtype == "float64" else 2)
