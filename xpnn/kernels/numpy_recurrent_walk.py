"""How recurrent scans walk over time in NumPy: in reused memory, some steps at a time.

A step is one product and a few passes over what it gives. What does not hang together in time is
computed for a chunk of steps at once, small enough for a core's second-level cache: forward the
inputs' share of the gates, backward the gradients of inputs and weights. So neither that share nor
the gradients of the gates are ever there for all steps.

Threads divide the batch where compiled code makes the steps. NumPy's passes over a step are too
short for that, as each of them hands the GIL over: there BLAS alone uses all threads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xpnn.kernels import fast
from xpnn.kernels.numpy_memory import empty, scratch
from xpnn.parallel import get_num_threads, share

__all__ = ["Gradients", "Walk", "Weights", "back", "forth"]

Array = Any

_SHARED = 1 << 24  # multiplications from which a second thread pays
_PASS = 1 << 16  # elements of a pass of NumPy from which it pays there, too
_CHUNK = 1 << 19  # elements of the gates of a chunk
_ROWS = 256  # of a chunk, at least: once a chunk the gradients of weights are added up


class Weights(NamedTuple):
    """What the inputs, (D, width), and the states, (H, width), are multiplied with, and a bias."""

    input: Array
    hidden: Array
    bias: Array | None = None


class Gradients(NamedTuple):
    """Those of x, of the two weights, of what is added to the gates, and of the first states.

    ``added`` is of the length of the gradients of a cell.
    """

    x: Array | None
    input: Array | None
    hidden: Array | None
    added: Array | None
    states: list[Array]


class Walk:
    """The walk over a part of the batch, and what its cell has kept of every step.

    ``x`` (n, T, D), ``y`` (n, T, H) and ``mask`` are views in the order of the walk. ``states`` are
    the first ones, and in the end the last ones: (n, H) each, rows that lie together.
    """

    def __init__(self, cell: Any, x: Array, y: Array, mask: Array | None) -> None:
        self.cell, self.x, self.y = cell, x, y
        self.out: list[Array | None] = [None] * x.shape[1]  # which rows each step leaves out
        if mask is not None:
            for t in np.flatnonzero(~mask.all(axis=0)):
                self.out[t] = np.flatnonzero(~mask[:, t])

    def _size(self, width: int) -> int:
        n, steps, _ = self.x.shape
        return min(max(_CHUNK // (n * width), -(-_ROWS // n)), steps)

    def _inputs(self, start: int, stop: int) -> Array:
        """Return the inputs of some steps as rows, step by step, and a one behind each."""
        n, _, size = self.x.shape
        found = scratch("inputs", (stop - start, n, size + 1), self.x.dtype)
        np.copyto(found[:, :, :size], self.x[:, start:stop].swapaxes(0, 1))
        found[:, :, size] = 1
        return _rows(found)

    def forward(self, weights: Weights, states: list[Array]) -> None:
        """Write ``y``, and the last states in the place of the first.

        The last row of the inputs' weight is the bias.
        """
        cell, out, h = self.cell, self.out, states[0]
        n, steps, hidden = self.y.shape
        width = weights.hidden.shape[1]
        q = scratch("products", (n, width), h.dtype)
        cell.begin(states)
        size = self._size(width)
        for start in range(0, steps, size):
            stop = min(start + size, steps)
            p = scratch("projections", (stop - start, n, width), h.dtype)
            np.matmul(self._inputs(start, stop), weights.input, out=_rows(p))
            after = scratch("states", (stop - start, n, hidden), h.dtype)
            for t, new in enumerate(after, start):
                np.matmul(h, weights.hidden, out=q)
                cell.step(t, p[t - start], q, h, new)
                rows = out[t]
                if rows is not None:
                    new[rows] = h[rows]
                    cell.hold(t, rows)
                h = new
            np.copyto(self.y[:, start:stop], after.swapaxes(0, 1))
            states[0][...] = h
            h = states[0]
        cell.end(states)

    def backward(
        self, weights: Weights, first: Array, g: Array | None, d_states: list[Array],
        dx: Array | None, needs: list[bool], limit: float | None,
    ) -> list[Array | None]:  # fmt: skip
        """Write ``dx`` and the gradients of the first states in the place of those of the last.

        The weights are transposed ones. Returns the sums of products of the cell's gradients with
        inputs and ones, and with states, as far as there are ``needs``.
        """
        cell, out, y, dh = self.cell, self.out, self.y, d_states[0]
        n, steps, hidden = y.shape
        width = len(weights.hidden)
        total = cell.gradients * hidden
        sums: list[Array | None] = [None, None]
        size = self._size(width)
        d_states = cell.begin_back(d_states)
        for stop in range(steps, 0, -size):
            start = max(stop - size, 0)
            count = stop - start
            before = scratch("states", (count, n, hidden), dh.dtype)
            before[0] = y[:, start - 1] if start else first
            np.copyto(before[1:], y[:, start : stop - 1].swapaxes(0, 1))
            if g is not None:
                arriving = _by_step("arriving", g[:, start:stop])
            else:
                arriving = scratch("arriving", before.shape, dh.dtype)
                arriving[...] = 0
            slopes = cell.slopes(start, stop, before, y)
            d = scratch("gradients", (count, n, total), dh.dtype)
            for t in range(stop - 1, start - 1, -1):
                da, rows = d[t - start], out[t]
                now = arriving[t - start]
                if rows is not None:
                    held = [s[rows] for s in d_states]
                    held[0] += now[rows]
                cell.back(slopes, t, t - start, now, d_states, da.reshape(n, -1, hidden))
                if limit is not None:
                    np.minimum(np.maximum(da, -limit, out=da), limit, out=da)
                if rows is not None:
                    da[rows] = 0
                np.matmul(da[:, :width], weights.hidden, out=dh)
                if rows is not None:
                    for s, old in zip(d_states, held, strict=True):
                        s[rows] = old
            flat = _rows(d)
            if needs[0]:
                _add(sums, 0, self._inputs(start, stop).T, flat)
            if needs[1]:
                _add(sums, 1, _rows(before).T, flat[:, :width])
            if dx is not None:
                found = scratch("inputs", (count, n, dx.shape[2]), dh.dtype)
                np.matmul(flat[:, total - width :], weights.input, out=_rows(found))
                np.copyto(dx[:, start:stop], found.swapaxes(0, 1))
        cell.end_back(d_states)
        return sums


def _by_step(name: str, x: Array) -> Array:
    """Copy (n, K, D) to (K, n, D)."""
    found = scratch(name, (x.shape[1], x.shape[0], x.shape[2]), x.dtype)
    np.copyto(found, x.swapaxes(0, 1))
    return found


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _add(sums: list[Array | None], k: int, a: Array, b: Array) -> None:
    if sums[k] is None:
        sums[k] = a @ b
    else:
        sums[k] += np.matmul(a, b, out=scratch("weight", (len(a), b.shape[1]), b.dtype))


def _parts(n: int, steps: int, weight: Array, compiled: bool) -> list[slice]:
    """Divide a batch into parts, one for each thread if it is worth it."""
    threads = min(get_num_threads(), n)
    compiled = compiled and fast.is_on() and weight.dtype == np.float32
    small = not compiled and n * len(weight) < _PASS * threads
    if small or n * steps * weight.size < _SHARED:
        threads = 1
    return [slice(n * k // threads, n * (k + 1) // threads) for k in range(threads)]


def _in_order(x: Array | None, part: slice, reverse: bool) -> Any:
    return None if x is None else x[part, ::-1] if reverse else x[part]


def forth(
    kind: Callable[..., Any], x: Array, weights: Weights, states: tuple[Array, ...],
    mask: Array | None, reverse: bool, compiled: bool,
) -> tuple[tuple[Array, ...], Any]:  # fmt: skip
    """Return the states of all steps and the last ones, and what :func:`back` wants to know.

    ``kind`` makes the cell of a part, whose steps may be ``compiled``.
    """
    n, steps, _ = x.shape
    y = empty((n, steps, len(weights.hidden)), x.dtype)
    ends = [np.array(s, order="C") for s in states]
    parts = _parts(n, steps, weights.hidden, compiled)
    walks: list[Any] = [None] * len(parts)
    last = np.zeros_like(weights.input[0]) if weights.bias is None else weights.bias
    weights = Weights(
        np.concatenate([weights.input, last[None]]), np.ascontiguousarray(weights.hidden)
    )

    def work(k: int) -> None:
        x_, y_, mask_ = (_in_order(a, parts[k], reverse) for a in (x, y, mask))
        here = [s[parts[k]] for s in ends]
        walks[k] = Walk(kind(steps, *here[0].shape, x.dtype), x_, y_, mask_)
        walks[k].forward(weights, here)

    share(work, range(len(parts)))
    return (y, *ends), (parts, walks)


def back(
    res: Any, g: tuple[Array | None, ...], needs: list[bool], x: Array, weights: Weights,
    h0: Array, reverse: bool, limit: float | None,
) -> Gradients:  # fmt: skip
    """Return the gradients; ``needs`` of x, of inputs' weight or bias, of states' weight."""
    parts, walks = res
    hidden, width = weights.hidden.shape
    # A cell may have gradients of H more, which come first, for the last gate of the products.
    more = walks[0].cell.gradients * hidden - width
    turned = Weights(
        np.ascontiguousarray(weights.input.T),
        np.ascontiguousarray(np.roll(weights.hidden, more, axis=1).T),
    )
    d_states = [np.zeros_like(h0, order="C") if d is None else np.array(d, order="C")
                for d in g[1:]]  # fmt: skip
    dx = empty(x.shape, x.dtype) if needs[0] else None
    sums: list[Any] = [None] * len(parts)

    def work(k: int) -> None:
        g_, dx_ = (_in_order(a, parts[k], reverse) for a in (g[0], dx))
        here = [d[parts[k]] for d in d_states]
        sums[k] = walks[k].backward(turned, h0[parts[k]], g_, here, dx_, needs[1:], limit)

    share(work, range(len(parts)))
    d_input, d_hidden = (
        None if found[0] is None else functools.reduce(np.add, found)
        for found in zip(*sums, strict=True)
    )
    d_added = None
    if d_input is not None:
        d_input, d_added = np.ascontiguousarray(d_input[:-1, more:]), d_input[-1]
    if d_hidden is not None and more:
        d_hidden = np.roll(d_hidden, -more, axis=1)
    return Gradients(dx, d_input, d_hidden, d_added, d_states)
