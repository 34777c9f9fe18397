"""The walk of recurrent CUDA kernels over time, and the gradients of what all steps share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from xpnn.kernels.cupy_launch import DTYPES, Source, contiguous, cupy, threads_for, wide
from xpnn.kernels.cupy_products import column_sums, product

__all__ = [
    "Gradients",
    "Projected",
    "Walk",
    "accepts",
    "limit",
    "projected",
    "recurrent",
    "sources",
]

Array = Any
Gradients = tuple[Array | None, ...]

_gates = Source("gates")


def sources() -> dict[str, str]:
    """Return every CUDA source of this module by name, for the compile check."""
    return _gates.codes()


def accepts(x: Array, weight_input: Array, *others: Array | None) -> bool:
    """Whether everything is of one dtype of real numbers, and there is something to do."""
    if x.dtype.name not in DTYPES:
        return False
    arrays = [a for a in (weight_input, *others) if a is not None]
    return x.size > 0 and all(a.size > 0 and a.dtype == x.dtype for a in arrays)


class Walk:
    """The walk over time: sizes, and launches of a kernel for one step after the other.

    Parameters
    ----------
    x : array of shape (N, T, D)
    hidden : int
        H, the size of a state.
    mask : array of shape (N, T), optional
    reverse : bool
    """

    def __init__(self, x: Array, hidden: int, mask: Array | None, reverse: bool) -> None:
        self.rows, self.steps, self.features = x.shape
        self.hidden, self.dtype, self.reverse = hidden, x.dtype, int(reverse)
        self.mask = contiguous(mask)
        self.sizes = (self.rows, self.steps, hidden)

    @property
    def forth(self) -> range:
        """The steps in the order of the walk."""
        return range(self.steps)[::-1] if self.reverse else range(self.steps)

    def before(self, states: Array) -> Array:
        """Return what was there before each step, in the order of time."""
        return states[1:] if self.reverse else states[:-1]

    def last(self, states: Array) -> Array:
        """Return what is there after the last step."""
        return states[0] if self.reverse else states[-1]

    def states(self, first: Array, dtype: Any) -> Array:
        """Return memory for the states before and after all steps, with those before the first."""
        found = cupy().empty((self.steps + 1, self.rows, self.hidden), dtype)
        found[self.steps if self.reverse else 0] = first
        return found

    def inputs(self, x: Array) -> Array:
        """Return the inputs as rows, step by step."""
        return contiguous(x.swapaxes(0, 1)).reshape(-1, self.features)

    def launcher(self, name: str) -> Callable[..., None]:
        """Return a function that launches a kernel for a step."""
        kernel = _gates.kernel(name, self.dtype)
        threads = threads_for(self.hidden, 256)
        grid, block = (self.rows, -(-self.hidden // threads)), (threads,)

        def launch(*args: Any) -> None:
            kernel(grid, block, tuple(0 if arg is None else arg for arg in args))

        return launch

    def forward(
        self, name: str, shares: Array, arrays: tuple[Array, ...], weight: Array, h0: Array,
        options: tuple[int, ...] = (),
    ) -> tuple[Array, Array]:  # fmt: skip
        """Walk forth; return the states of all steps, (N, T, H), and those of :meth:`states`.

        ``shares`` are those of the inputs in the gates; ``arrays`` are what else the kernel takes
        before the states.
        """
        launch = self.launcher(name)
        h = self.states(h0, self.dtype)
        y = cupy().empty((self.rows, self.steps, self.hidden), self.dtype)
        q = cupy().empty((self.rows, weight.shape[1]), wide(self.dtype))
        for t in self.forth:
            product(h[t + self.reverse], weight, out=q)
            launch(shares, q, *arrays, h, y, *self.sizes, t, self.reverse, *options)
        return y, h

    def backward(
        self, name: str, kept: tuple[Array, ...], g: Gradients, d: tuple[Array, ...],
        weight: Array, options: tuple[Any, ...],
    ) -> Array:  # fmt: skip
        """Walk back; return the gradient of the first state.

        ``kept`` are the arrays that the kernel takes before the gradients; ``d`` are those that it
        takes behind them, in the last of which it writes what goes back through the weight.
        """
        launch = self.launcher(name)
        carry = self.gradient(g[1])
        past = cupy().empty_like(carry)
        arriving, back, found = contiguous(g[0]), weight.T, None
        for t in reversed(self.forth):
            launch(
                *kept, self.mask, arriving, found, carry, *d, *self.sizes, t, self.reverse, *options
            )
            found = product(d[-1][t], back, out=past)
        return (carry + past).astype(self.dtype, copy=False)

    def gradient(self, g: Array | None) -> Array:
        """Return memory for the gradient of a state on its way back, which is at first ``g``."""
        shape, dtype = (self.rows, self.hidden), wide(self.dtype)
        if g is None:
            return cupy().zeros(shape, dtype)
        return cupy().array(g, dtype=dtype, order="C")


class Projected(NamedTuple):
    """Gradients of the inputs' share of the gates: of x, its weight, and the bias."""

    x: Array | None
    weight: Array | None
    bias: Array | None


def projected(walk: Walk, d: Array, needs: list[bool], x: Array, weight: Array) -> Projected:
    flat = d.reshape(-1, d.shape[2])
    dx = d_weight = d_bias = None
    if needs[0]:
        dx = product(flat, weight.T).reshape(walk.steps, walk.rows, -1)
        dx = contiguous(dx.swapaxes(0, 1))
    if needs[1]:
        d_weight = product(walk.inputs(x).T, flat)
    if needs[3]:
        d_bias = column_sums(flat)
    return Projected(dx, d_weight, d_bias)


def recurrent(walk: Walk, d: Array, h: Array) -> Array:
    """Return the gradient of what the states are multiplied with."""
    before = walk.before(h).reshape(-1, walk.hidden)
    return product(before.T, d.reshape(-1, d.shape[2]))


def limit(grad_clip: float | None) -> float:
    return float("inf") if grad_clip is None else float(grad_clip)
