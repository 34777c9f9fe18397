"""CUDA kernels of recurrent scans: a step is one product, and one launch for all its gates.

The inputs' share of the gates is one product for all steps, and so is each gradient of a weight,
after the walk back. What is kept of all steps lies in the order of time, in memory that is taken
once: a step allocates nothing. In half precision gates are computed, and memories kept, in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from xpnn.kernels.cupy_launch import DTYPES, Source, contiguous, cupy, threads_for, wide
from xpnn.kernels.cupy_products import column_sums, product

__all__ = [
    "gru_scan",
    "gru_scan_accepts",
    "gru_scan_vjp",
    "lstm_scan",
    "lstm_scan_accepts",
    "lstm_scan_vjp",
    "rnn_scan",
    "rnn_scan_accepts",
    "rnn_scan_vjp",
    "sources",
]

Array = Any
Gradients = tuple[Array | None, ...]

_gates = Source("gates")


def sources() -> dict[str, str]:
    """Return every CUDA source of this module by name, for the compile check."""
    return _gates.codes()


def _accepts(x: Array, weight_input: Array, *others: Array | None) -> bool:
    """Whether everything is of one dtype of real numbers, and there is something to do."""
    if x.dtype.name not in DTYPES:
        return False
    arrays = [a for a in (weight_input, *others) if a is not None]
    return x.size > 0 and all(a.size > 0 and a.dtype == x.dtype for a in arrays)


class _Walk:
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
        self, name: str, arrays: tuple[Array, ...], weight: Array, h0: Array, count: int,
        options: tuple[int, ...] = (),
    ) -> tuple[Array, Array]:  # fmt: skip
        """Walk forth; return the states of all steps, (N, T, H), and those of :meth:`states`.

        ``arrays`` are those that the kernel takes before the states: the first ``count`` of them
        before the share of the states in the gates, the others behind it.
        """
        launch = self.launcher(name)
        h = self.states(h0, self.dtype)
        y = cupy().empty((self.rows, self.steps, self.hidden), self.dtype)
        q = cupy().empty((self.rows, weight.shape[1]), wide(self.dtype))
        for t in self.forth:
            product(h[t + self.reverse], weight, out=q)
            launch(
                *arrays[:count], q, *arrays[count:], h, y, *self.sizes, t, self.reverse, *options
            )
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


class _Projected(NamedTuple):
    """Gradients of the inputs' share of the gates: of x, its weight, and the bias."""

    x: Array | None
    weight: Array | None
    bias: Array | None


def _projected(walk: _Walk, d: Array, needs: list[bool], x: Array, weight: Array) -> _Projected:
    flat = d.reshape(-1, d.shape[2])
    dx = d_weight = d_bias = None
    if needs[0]:
        dx = product(flat, weight.T).reshape(walk.steps, walk.rows, -1)
        dx = contiguous(dx.swapaxes(0, 1))
    if needs[1]:
        d_weight = product(walk.inputs(x).T, flat)
    if needs[3]:
        d_bias = column_sums(flat)
    return _Projected(dx, d_weight, d_bias)


def _recurrent(walk: _Walk, d: Array, h: Array) -> Array:
    """Return the gradient of what the states are multiplied with."""
    before = walk.before(h).reshape(-1, walk.hidden)
    return product(before.T, d.reshape(-1, d.shape[2]))


def _limit(grad_clip: float | None) -> float:
    return float("inf") if grad_clip is None else float(grad_clip)


# ------------------------------------------------------------------------------------- RNN


def rnn_scan_accepts(
    x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None, h0: Array,
    mask: Array | None, activation: str, reverse: bool, grad_clip: float | None,
) -> bool:  # fmt: skip
    return _accepts(x, weight_input, weight_hidden, bias, h0)


def rnn_scan(
    xp: Any, x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None, h0: Array,
    mask: Array | None, *, activation: str, reverse: bool, grad_clip: float | None,
) -> Any:  # fmt: skip
    walk = _Walk(x, h0.shape[1], mask, reverse)
    shares = product(walk.inputs(x), weight_input)
    options = (int(activation == "relu"),)
    arrays = (shares, contiguous(bias), walk.mask)
    y, h = walk.forward("rnn_step", arrays, weight_hidden, h0, 1, options)
    return (y, walk.last(h).copy()), (walk, h)


rnn_scan.residual = True  # type: ignore[attr-defined]


def rnn_scan_vjp(
    xp: Any, g: Gradients, needs: list[bool], res: Any, x: Array, weight_input: Array,
    weight_hidden: Array, activation: str, grad_clip: float | None,
) -> Gradients:  # fmt: skip
    walk, h = res
    d = cupy().empty((walk.steps, walk.rows, walk.hidden), walk.dtype)
    options = (int(activation == "relu"), _limit(grad_clip))
    dh = walk.backward("rnn_back", (h,), g, (d,), weight_hidden, options)
    projected = _projected(walk, d, needs, x, weight_input)
    d_hidden = _recurrent(walk, d, h) if needs[2] else None
    return projected.x, projected.weight, d_hidden, projected.bias, dh, None


# ------------------------------------------------------------------------------------ LSTM


def lstm_scan_accepts(
    x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None, h0: Array, c0: Array,
    peephole: Array | None, mask: Array | None, tied: bool, reverse: bool, grad_clip: float | None,
) -> bool:  # fmt: skip
    return _accepts(x, weight_input, weight_hidden, bias, h0, c0, peephole)


def lstm_scan(
    xp: Any, x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None, h0: Array,
    c0: Array, peephole: Array | None, mask: Array | None,
    *, tied: bool, reverse: bool, grad_clip: float | None,
) -> Any:  # fmt: skip
    walk = _Walk(x, h0.shape[1], mask, reverse)
    gates = product(walk.inputs(x), weight_input).reshape(walk.steps, walk.rows, -1)
    c = walk.states(c0, wide(x.dtype))
    arrays = (gates, contiguous(bias), contiguous(peephole), walk.mask, c)
    y, h = walk.forward("lstm_step", arrays, weight_hidden, h0, 1, (int(tied),))
    return (y, walk.last(h).copy(), walk.last(c).astype(x.dtype)), (walk, gates, c, h)


lstm_scan.residual = True  # type: ignore[attr-defined]


def lstm_scan_vjp(
    xp: Any, g: Gradients, needs: list[bool], res: Any, x: Array, weight_input: Array,
    weight_hidden: Array, peephole: Array | None, tied: bool, grad_clip: float | None,
) -> Gradients:  # fmt: skip
    walk, gates, c, h = res
    d, dc = cupy().empty_like(gates), walk.gradient(g[2])
    kept, options = (gates, c, contiguous(peephole)), (int(tied), _limit(grad_clip))
    dh = walk.backward("lstm_back", kept, g, (dc, d), weight_hidden, options)
    projected = _projected(walk, d, needs, x, weight_input)
    d_hidden = _recurrent(walk, d, h) if needs[2] else None
    d_peephole = _peephole_vjp(walk, d, c) if needs[6] else None
    dc = dc.astype(x.dtype, copy=False)
    return projected.x, projected.weight, d_hidden, projected.bias, dh, dc, d_peephole, None


def _peephole_vjp(walk: _Walk, d: Array, c: Array) -> Array:
    """Return the sums of gradients of gates times the memories that they looked at."""
    before, after = walk.before(c), c[:-1] if walk.reverse else c[1:]
    hidden, dtype = walk.hidden, wide(d.dtype)
    early = range(0, d.shape[2] - 2 * hidden, hidden)
    seen = [(d[:, :, k : k + hidden], before) for k in early] + [(d[:, :, -hidden:], after)]
    sums = [(gate.astype(dtype, copy=False) * memory).sum(axis=(0, 1)) for gate, memory in seen]
    return cupy().stack(sums).astype(d.dtype, copy=False)


# ------------------------------------------------------------------------------------- GRU


def gru_scan_accepts(
    x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None,
    bias_hidden: Array | None, h0: Array, mask: Array | None, reverse: bool,
    grad_clip: float | None,
) -> bool:  # fmt: skip
    return _accepts(x, weight_input, weight_hidden, bias, bias_hidden, h0)


def gru_scan(
    xp: Any, x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None,
    bias_hidden: Array | None, h0: Array, mask: Array | None,
    *, reverse: bool, grad_clip: float | None,
) -> Any:  # fmt: skip
    walk = _Walk(x, h0.shape[1], mask, reverse)
    gates = product(walk.inputs(x), weight_input).reshape(walk.steps, walk.rows, -1)
    inner = cupy().empty((walk.steps, walk.rows, walk.hidden), x.dtype)
    arrays = (gates, contiguous(bias), contiguous(bias_hidden), walk.mask, inner)
    y, h = walk.forward("gru_step", arrays, weight_hidden, h0, 1)
    return (y, walk.last(h).copy()), (walk, gates, inner, h)


gru_scan.residual = True  # type: ignore[attr-defined]


def gru_scan_vjp(
    xp: Any, g: Gradients, needs: list[bool], res: Any, x: Array, weight_input: Array,
    weight_hidden: Array, grad_clip: float | None,
) -> Gradients:  # fmt: skip
    walk, gates, inner, h = res
    d, dq = cupy().empty_like(gates), cupy().empty_like(gates)
    options = (_limit(grad_clip),)
    dh = walk.backward("gru_back", (gates, inner, h), g, (d, dq), weight_hidden, options)
    projected = _projected(walk, d, needs, x, weight_input)
    d_hidden = _recurrent(walk, dq, h) if needs[2] else None
    d_inner = column_sums(dq.reshape(-1, dq.shape[2])[:, -walk.hidden :]) if needs[4] else None
    return projected.x, projected.weight, d_hidden, projected.bias, d_inner, dh, None
