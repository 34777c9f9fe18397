"""NumPy kernels of recurrent scans: what a cell keeps of every step, and what it does in one.

:mod:`xpnn.kernels.numpy_recurrent_walk` has the walk over time.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from xpnn.kernels import numpy_recurrent_steps as sweeps
from xpnn.kernels.numpy_memory import empty, scratch
from xpnn.kernels.numpy_recurrent_walk import Weights, back, forth

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
]

Array = Any


_LEAST = 256  # elements of the states of all steps: with fewer, a walk is not worth preparing


def _accepts(x: Array, weight_hidden: Array, bias: Array | None, *others: Array | None) -> bool:
    """Whether everything is of one precision, and large enough."""
    hidden, width = weight_hidden.shape
    if x.dtype not in (np.float32, np.float64) or x.size == 0:
        return False
    if x.shape[0] * x.shape[1] * hidden < _LEAST or (bias is not None and bias.shape != (width,)):
        return False
    arrays = (weight_hidden, bias, *others)
    return all(a is None or a.dtype == x.dtype for a in arrays)


class _Cell:
    """What is kept of T steps of n sequences; arrays of a step lie gate by gate.

    A subclass says how many times H ``gradients`` a step has that weights are multiplied with, and

    - ``step(t, p, q, h, new)``: given the shares of input and state, and the state, write the new;
    - ``slopes(start, stop, before, y)``: return what some steps of the way back have in common,
      given the states before them, step by step, and those of all steps;
    - ``back(slopes, t, j, g, d_states, da)``: write the gradients into da (n, gradients, H), given
      those of the states, to the first of which g comes; j counts from ``start``.
    """

    gradients: int

    def __init__(self, steps: int, n: int, hidden: int, dtype: Any) -> None:
        self.n, self.hidden, self.dtype = n, hidden, dtype

    def begin(self, states: list[Array]) -> None:
        """Note the first states."""

    def hold(self, t: int, rows: Array) -> None:
        """Take back what a step has done to rows, but for the state."""

    def end(self, states: list[Array]) -> None:
        """Write the last states, but for the first of them."""

    def begin_back(self, d_states: list[Array]) -> list[Array]:
        """Return the gradients of the states, and what else goes from step to step."""
        return d_states

    def end_back(self, d_states: list[Array]) -> None:
        """Write the gradients of the first states."""

    def _compiled(self, sweep: Any) -> Any:  # there is none for float64
        return sweep if self.dtype == np.float32 else sweep.plain


# ------------------------------------------------------------------------------------- RNN


class _RNN(_Cell):
    gradients = 1

    def __init__(self, activation: str, *sizes: Any) -> None:
        super().__init__(*sizes)
        self.relu = activation == "relu"

    def step(self, t: int, p: Array, q: Array, h: Array, new: Array) -> None:
        np.add(p, q, out=new)
        if self.relu:
            np.maximum(new, 0, out=new)
        else:
            np.tanh(new, out=new)

    def slopes(self, start: int, stop: int, before: Array, y: Array) -> Array:
        after = y[:, start:stop].swapaxes(0, 1)
        if self.relu:
            positive = scratch("positive", before.shape, bool)
            return np.greater(after, 0, out=positive)
        slopes = scratch("slopes", before.shape, self.dtype)
        np.multiply(after, after, out=slopes)
        return np.subtract(1, slopes, out=slopes)

    def back(
        self, slopes: Array, t: int, j: int, g: Array, d_states: list[Array], da: Array
    ) -> None:
        dh, da = d_states[0], da[:, 0]
        np.add(dh, g, out=dh)
        if self.relu:
            da[...] = 0
            np.copyto(da, dh, where=slopes[j])
        else:
            np.multiply(slopes[j], dh, out=da)


def rnn_scan_accepts(
    x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None, h0: Array,
    mask: Array | None, activation: str, reverse: bool, grad_clip: float | None,
) -> bool:  # fmt: skip
    """Whether everything is of one precision."""
    return _accepts(x, weight_hidden, bias, weight_input, h0)


def rnn_scan(
    xp: Any, x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None, h0: Array,
    mask: Array | None, *, activation: str, reverse: bool, grad_clip: float | None,
) -> Any:  # fmt: skip
    weights = Weights(weight_input, weight_hidden, bias)
    return forth(functools.partial(_RNN, activation), x, weights, (h0,), mask, reverse, False)


rnn_scan.residual = True  # type: ignore[attr-defined]


def rnn_scan_vjp(
    xp: Any, g: Any, needs: list[bool], res: Any, x: Array, weight_input: Array,
    weight_hidden: Array, h0: Array, reverse: bool, grad_clip: float | None,
) -> tuple[Array | None, ...]:  # fmt: skip
    weights = Weights(weight_input, weight_hidden)
    d = back(res, g, [needs[0], needs[1] or needs[3], needs[2]], x, weights, h0, reverse, grad_clip)
    return d.x, d.input, d.hidden, d.added, *d.states, None


# ------------------------------------------------------------------------------------ LSTM


class _LSTM(_Cell):
    gradients = 4

    def __init__(self, *sizes: Any) -> None:
        super().__init__(*sizes)
        steps, n, hidden, dtype = sizes
        self.gates = empty((steps, 4, n, hidden), dtype)
        self.memory = empty((steps + 1, n, hidden), dtype)
        self.squashed = empty((steps, n, hidden), dtype)

    def begin(self, states: list[Array]) -> None:
        self.memory[0] = states[1]

    def step(self, t: int, p: Array, q: Array, h: Array, new: Array) -> None:
        step = self._compiled(sweeps.lstm_step)
        step(p, q, self.gates[t], self.memory[t], self.memory[t + 1], self.squashed[t], new)

    def hold(self, t: int, rows: Array) -> None:
        self.memory[t + 1, rows] = self.memory[t, rows]

    def end(self, states: list[Array]) -> None:
        states[1][...] = self.memory[-1]

    def slopes(self, start: int, stop: int, before: Array, y: Array) -> tuple[Array, Array]:
        gates, memory, squashed = (a[start:stop] for a in (self.gates, self.memory, self.squashed))
        slopes = scratch("slopes", gates.shape, self.dtype)
        through = scratch("through", memory.shape, self.dtype)
        self._compiled(sweeps.lstm_slopes)(gates, memory, squashed, slopes, through)
        return slopes, through

    def back(
        self,
        slopes: tuple[Array, Array],
        t: int,
        j: int,
        g: Array,
        d_states: list[Array],
        da: Array,
    ) -> None:
        of_gates, through = slopes
        sweep = self._compiled(sweeps.lstm_back)
        sweep(of_gates[j], through[j], self.gates[t, 1], g, *d_states, da)


def lstm_scan_accepts(
    x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None, h0: Array, c0: Array,
    peephole: Array | None, mask: Array | None, tied: bool, reverse: bool, grad_clip: float | None,
) -> bool:  # fmt: skip
    """Whether it has four gates that do not look at the memory, and is of one precision."""
    plain = peephole is None and not tied
    return plain and _accepts(x, weight_hidden, bias, weight_input, h0, c0)


def lstm_scan(
    xp: Any, x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None, h0: Array,
    c0: Array, peephole: None, mask: Array | None,
    *, tied: bool, reverse: bool, grad_clip: float | None,
) -> Any:  # fmt: skip
    weights = Weights(weight_input, weight_hidden, bias)
    return forth(_LSTM, x, weights, (h0, c0), mask, reverse, True)


lstm_scan.residual = True  # type: ignore[attr-defined]


def lstm_scan_vjp(
    xp: Any, g: Any, needs: list[bool], res: Any, x: Array, weight_input: Array,
    weight_hidden: Array, h0: Array, reverse: bool, grad_clip: float | None,
) -> tuple[Array | None, ...]:  # fmt: skip
    weights = Weights(weight_input, weight_hidden)
    d = back(res, g, [needs[0], needs[1] or needs[3], needs[2]], x, weights, h0, reverse, grad_clip)
    return d.x, d.input, d.hidden, d.added, *d.states, None, None


# ------------------------------------------------------------------------------------- GRU


class _GRU(_Cell):
    gradients = 4  # that of h U_n + b, and of r, z, n

    def __init__(self, bias_hidden: Array | None, *sizes: Any) -> None:
        super().__init__(*sizes)
        steps, n, hidden, dtype = sizes
        self.bias = np.ascontiguousarray(
            np.zeros(hidden, dtype) if bias_hidden is None else bias_hidden
        )
        self.gates = empty((steps, 4, n, hidden), dtype)

    def step(self, t: int, p: Array, q: Array, h: Array, new: Array) -> None:
        self._compiled(sweeps.gru_step)(p, q, self.bias, self.gates[t], h, new)

    def slopes(self, start: int, stop: int, before: Array, y: Array) -> Array:
        count, n, hidden = before.shape
        slopes = scratch("slopes", (count, 3, n, hidden), self.dtype)
        self._compiled(sweeps.gru_slopes)(self.gates[start:stop], before, slopes)
        return slopes

    def begin_back(self, d_states: list[Array]) -> list[Array]:
        past = scratch("past", d_states[0].shape, self.dtype)
        past[...] = 0
        return [*d_states, past]

    def back(
        self, slopes: Array, t: int, j: int, g: Array, d_states: list[Array], da: Array
    ) -> None:
        self._compiled(sweeps.gru_back)(slopes[j], self.gates[t], g, *d_states, da)

    def end_back(self, d_states: list[Array]) -> None:
        dh, past = d_states
        np.add(dh, past, out=dh)


def gru_scan_accepts(
    x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None,
    bias_hidden: Array | None, h0: Array, mask: Array | None, reverse: bool,
    grad_clip: float | None,
) -> bool:  # fmt: skip
    """Whether everything is of one precision; a clipped gradient of n goes on to that of r."""
    if grad_clip is not None or (bias_hidden is not None and bias_hidden.shape != h0.shape[1:]):
        return False
    return _accepts(x, weight_hidden, bias, weight_input, bias_hidden, h0)


def gru_scan(
    xp: Any, x: Array, weight_input: Array, weight_hidden: Array, bias: Array | None,
    bias_hidden: Array | None, h0: Array, mask: Array | None,
    *, reverse: bool, grad_clip: None,
) -> Any:  # fmt: skip
    weights = Weights(weight_input, weight_hidden, bias)
    return forth(functools.partial(_GRU, bias_hidden), x, weights, (h0,), mask, reverse, True)


gru_scan.residual = True  # type: ignore[attr-defined]


def gru_scan_vjp(
    xp: Any, g: Any, needs: list[bool], res: Any, x: Array, weight_input: Array,
    weight_hidden: Array, h0: Array, reverse: bool,
) -> tuple[Array | None, ...]:  # fmt: skip
    weights, hidden = Weights(weight_input, weight_hidden), len(weight_hidden)
    wanted = [needs[0], needs[1] or needs[3] or needs[4], needs[2]]
    d = back(res, g, wanted, x, weights, h0, reverse, None)
    d_bias = d_inner = None
    if d.added is not None:
        d_inner, d_bias = d.added[:hidden], d.added[hidden:]
    return d.x, d.input, d.hidden, d_bias, d_inner, *d.states, None
