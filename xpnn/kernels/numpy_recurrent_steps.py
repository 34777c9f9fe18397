"""One step of each recurrent network in NumPy, for the walks over time: in place, no temporaries.

The arrays of a step lie gate by gate, (gates, n, H), each gate in one piece: rows of some hundred
elements, a few kilobytes from one another, take NumPy two to four times as long.

Backward, what does not depend on the gradients that come back through time is computed for K steps
at once (``*_slopes``), so that little is left for a step to do (``*_back``).
"""

from __future__ import annotations

from typing import Any

from numpy import add, multiply, subtract, tanh

from xpnn.kernels.fast import sweep

__all__ = ["gru_back", "gru_slopes", "gru_step", "lstm_back", "lstm_slopes", "lstm_step"]

Array = Any


def _gate_by_gate(x: Array, hidden: int) -> Array:
    """Return rows (n, gates * H) as a view (gates, n, H)."""
    return x.reshape(len(x), -1, hidden).swapaxes(0, 1)


def _sigmoid(a: Array) -> None:
    multiply(a, 0.5, out=a)
    tanh(a, out=a)
    multiply(a, 0.5, out=a)
    add(a, 0.5, out=a)


# ------------------------------------------------------------------------------------ LSTM


@sweep
def lstm_step(
    p: Array, q: Array, gates: Array, c: Array, new: Array, squashed: Array, h: Array
) -> None:
    """Write gates, new memory, its tanh, and the state, given both shares p and q (n, 4 H)."""
    hidden = h.shape[1]
    add(_gate_by_gate(p, hidden), _gate_by_gate(q, hidden), out=gates)
    i, f, g, o = gates
    _sigmoid(gates[:2])
    tanh(g, out=g)
    _sigmoid(o)
    multiply(f, c, out=new)
    multiply(i, g, out=squashed)
    add(new, squashed, out=new)
    tanh(new, out=squashed)
    multiply(o, squashed, out=h)


@sweep
def lstm_slopes(gates: Array, c: Array, squashed: Array, slopes: Array, through: Array) -> None:
    """Write the derivatives of the new memory by i, f, g, of the state by o, and by the memory.

    Those by gates are by their arguments. K steps: gates and slopes (K, 4, n, H), others (K, n, H).
    """
    i, f, g, o = gates.swapaxes(0, 1)
    by_i, by_f, by_g, by_o = slopes.swapaxes(0, 1)
    subtract(1, gates, out=slopes)
    multiply(by_i, i, out=by_i)
    multiply(by_i, g, out=by_i)
    multiply(by_f, f, out=by_f)
    multiply(by_f, c, out=by_f)
    add(g, 1, out=through)
    multiply(by_g, through, out=by_g)
    multiply(by_g, i, out=by_g)
    multiply(by_o, o, out=by_o)
    multiply(by_o, squashed, out=by_o)
    multiply(squashed, squashed, out=through)
    subtract(1, through, out=through)
    multiply(through, o, out=through)


@sweep
def lstm_back(
    slopes: Array, through: Array, f: Array, g: Array, dh: Array, dc: Array, da: Array
) -> None:
    """Write the gradients of the gates' arguments, (n, 4, H), and hand that of the memory back."""
    add(dh, g, out=dh)
    multiply(through, dh, out=through)
    add(dc, through, out=dc)
    da = da.swapaxes(0, 1)
    multiply(slopes[:3], dc, out=da[:3])
    multiply(slopes[3], dh, out=da[3])
    multiply(dc, f, out=dc)


# ------------------------------------------------------------------------------------- GRU


@sweep
def gru_step(p: Array, q: Array, bias: Array, gates: Array, h: Array, new: Array) -> None:
    """Write r, z, n and what r is multiplied with, and the new state."""
    hidden = h.shape[1]
    both = gates[:2]
    r, z, n, inner = gates
    add(_gate_by_gate(p, hidden)[:2], _gate_by_gate(q, hidden)[:2], out=both)
    _sigmoid(both)
    add(q[:, 2 * hidden :], bias, out=inner)
    multiply(r, inner, out=n)
    add(n, p[:, 2 * hidden :], out=n)
    tanh(n, out=n)
    subtract(h, n, out=new)
    multiply(new, z, out=new)
    add(new, n, out=new)


@sweep
def gru_slopes(gates: Array, before: Array, slopes: Array) -> None:
    """Write the derivatives of n's argument by that of r, of the state by those of z and of n.

    K steps: gates (K, 4, n, H), the states before them (K, n, H), slopes (K, 3, n, H).
    """
    r, z, n, inner = gates.swapaxes(0, 1)
    by_r, by_z, by_n = slopes.swapaxes(0, 1)
    subtract(before, n, out=by_z)
    multiply(by_z, z, out=by_z)
    subtract(1, z, out=by_n)
    multiply(by_z, by_n, out=by_z)
    multiply(n, n, out=by_r)
    subtract(1, by_r, out=by_r)
    multiply(by_n, by_r, out=by_n)
    subtract(1, r, out=by_r)
    multiply(by_r, r, out=by_r)
    multiply(by_r, inner, out=by_r)


@sweep
def gru_back(slopes: Array, gates: Array, g: Array, dh: Array, past: Array, da: Array) -> None:
    """Write the gradients of h U_n + b and of the arguments of r, z, n.

    ``past`` is that part of the gradient of the state which z hands back, before and after.
    """
    add(dh, past, out=dh)
    add(dh, g, out=dh)
    d_inner, d_r, d_z, d_n = da.swapaxes(0, 1)
    multiply(slopes[1], dh, out=d_z)
    multiply(slopes[2], dh, out=d_n)
    multiply(slopes[0], d_n, out=d_r)
    multiply(gates[0], d_n, out=d_inner)
    multiply(gates[1], dh, out=past)
