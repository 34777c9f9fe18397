"""The optimizers' steps in NumPy: in place, in blocks that stay in the cache, on all threads.

A step is a dozen passes over each array. Made block by block with preallocated scratch, all but the
first find their data in the cache. Small arrays are packed: their states lie side by side in one
flat array, so that the passes are made once for all of them. Large ones are shared out, block by
block, to whichever thread is free.

The interface is that of every library's optimizer kernels:

    new = adam_update(params, grads, states, reuse, workspace, step=..., lr=..., ...)

``params``, ``grads``: arrays of one dtype, pairwise of one shape. ``states``: a dictionary of
arrays for each parameter; the arrays are written in place, or others put there. ``reuse[i]``:
nobody else can see ``params[i]``, so that it may be written in place. ``workspace``: the
optimizer's dictionary for what a kernel keeps from step to step. ``step`` (which update of these
parameters it is) and the hyperparameters are Python scalars. Returned are the new arrays.
"""

from __future__ import annotations

import functools
import math
import operator
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy import add, divide, maximum, multiply, sqrt, subtract

from xpnn import parallel

__all__ = ["adam_update", "sgd_update"]

Array = Any
Arrays = Sequence[Array]
State = dict[str, Array]
# change(g, t, *states): given the gradient, write states in place, and what to subtract into t.
Change = Callable[..., None]

_BLOCK = 2**17  # elements a pass: below 2**16, two threads hand the GIL over more than they work
_SMALL = 2**15  # elements up to which an array is packed with others
_SHARED = 2**22  # elements from which a second thread pays, also where other work takes its core


def sgd_update(
    params: Arrays,
    grads: Arrays,
    states: list[State],
    reuse: Sequence[bool],
    workspace: dict[Any, Any],
    *,
    step: int,
    lr: float,
    momentum: float,
    nesterov: bool,
    dampening: float,
    weight_decay: float,
    decoupled: bool,
) -> list[Array]:
    """Return the parameters after a step of :class:`xpnn.optim.SGD`."""
    alpha, mu, gain = _scalars(workspace, params[0], lr, momentum, 1 - dampening)

    def change(g: Array, t: Array, v: Array = None) -> None:
        if v is None:
            multiply(g, alpha, t)
            return
        if step == 1:
            v[...] = g
        else:
            multiply(v, mu, v)
            add(v, multiply(g, gain, t) if dampening else g, v)
        if nesterov:
            multiply(v, mu, t)
            add(t, g, t)
            multiply(t, alpha, t)
        else:
            multiply(v, alpha, t)

    names = ("velocity",) if momentum else ()
    decay = (lr, weight_decay, decoupled)
    return _sweep(change, names, params, grads, states, reuse, workspace, *decay)


def adam_update(
    params: Arrays,
    grads: Arrays,
    states: list[State],
    reuse: Sequence[bool],
    workspace: dict[Any, Any],
    *,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    amsgrad: bool,
    weight_decay: float,
    decoupled: bool,
) -> list[Array]:
    """Return the parameters after a step of :class:`xpnn.optim.Adam` or AdamW.

    With c = sqrt(1 - beta2^t), ``m_hat / (sqrt(v_hat) + epsilon)`` is written as
    ``m * c / (1 - beta1^t) / (sqrt(v) + c * epsilon)``: two passes fewer (Kingma & Ba, section 2).
    """
    c = math.sqrt(1 - beta2**step)
    rate = lr * c / (1 - beta1**step)
    values = (beta1, 1 - beta1, beta2, 1 - beta2, c * epsilon, rate)
    b1, one_b1, b2, one_b2, eps, alpha = _scalars(workspace, params[0], *values)

    def change(g: Array, t: Array, m: Array, v: Array, v_max: Array = None) -> None:
        multiply(m, b1, m)
        add(m, multiply(g, one_b1, t), m)
        multiply(v, b2, v)
        multiply(g, one_b2, t)
        add(v, multiply(t, g, t), v)
        if v_max is not None:
            v = maximum(v_max, v, out=v_max)
        sqrt(v, t)
        add(t, eps, t)
        divide(m, t, t)
        multiply(t, alpha, t)

    names = ("m", "v", "v_max") if amsgrad else ("m", "v")
    decay = (lr, weight_decay, decoupled)
    return _sweep(change, names, params, grads, states, reuse, workspace, *decay)


def _scalars(workspace: dict[Any, Any], like: Array, *values: float) -> list[Array]:
    """Return 0-d arrays with the values: a third faster in a small operation than Python floats."""
    scalars, old = workspace.get(like.dtype, (None, None))
    if scalars is None:
        scalars = [np.array(value, like.dtype) for value in values]
    elif old != values:
        for scalar, value, before in zip(scalars, values, old, strict=True):
            if value != before:
                scalar[...] = value
    workspace[like.dtype] = scalars, values
    return scalars


# ----------------------------------------------------------------------------------- the sweep


def _sweep(
    change: Change,
    names: tuple[str, ...],
    params: Arrays,
    grads: Arrays,
    states: list[State],
    reuse: Sequence[bool],
    workspace: dict[Any, Any],
    lr: float,
    weight_decay: float,
    decoupled: bool,
) -> list[Array]:
    """Return ``p - t`` for every parameter, ``t`` being what ``change`` says, with weight decay."""
    l2 = 0.0 if decoupled else weight_decay
    keep = 1.0 - lr * weight_decay if decoupled else 1.0
    small = [i for i, p in enumerate(params) if p.size <= _SMALL]
    if len(small) == len(params):
        return _packed(change, names, params, grads, states, workspace, l2, keep)
    new = list(params)
    if small:
        ps, gs, few = ([xs[i] for i in small] for xs in (params, grads, states))
        packed = _packed(change, names, ps, gs, few, workspace, l2, keep)
        for i, p in zip(small, packed, strict=True):
            new[i] = p
    blocks = []
    for i, p in enumerate(params):
        if p.size <= _SMALL:
            continue
        state = [_flat(states[i], name) for name in names]
        if not p.flags.c_contiguous:
            p = out = np.array(p, order="C")
        else:
            out = p if reuse[i] and p.flags.writeable else np.empty_like(p)
        g = np.ascontiguousarray(grads[i])
        arrays = (p.reshape(-1), g.reshape(-1), out.reshape(-1), *state)
        parts = -(-p.size // _BLOCK)
        for low, high in pairwise(p.size * j // parts for j in range(parts + 1)):
            blocks.append([x[low:high] for x in arrays])
        new[i] = out
    worth = sum(block[0].size for block in blocks) >= _SHARED
    parallel.share(functools.partial(_large, change, l2, keep), blocks, worth)
    return new


def _flat(state: dict[str, Array], name: str) -> Array:
    if not state[name].flags.c_contiguous:
        state[name] = np.array(state[name], order="C")
    return state[name].reshape(-1)


def _large(change: Change, l2: float, keep: float, block: list[Array]) -> None:
    """Make the step for one block of one parameter."""
    p, g, out, *state = block
    t, decayed = _scratch(p.dtype, p.size)
    if l2:
        g = add(g, multiply(p, l2, decayed), decayed)
    change(g, t, *state)
    subtract(p if keep == 1.0 else multiply(p, keep, out), t, out)


class _Pack:
    """Small arrays side by side in flat ones, and the views that are theirs."""

    def __init__(self, params: Arrays, states: list[State], names: tuple[str, ...]) -> None:
        self.shapes = [p.shape for p in params]
        self.scalars = [i for i, shape in enumerate(self.shapes) if shape == ()]
        self.edges = np.cumsum([0, *(p.size for p in params)]).tolist()
        self.grad, self.grads = self._flat(params[0].dtype)
        self.change, self.changes = self._flat(params[0].dtype)
        self.states = []
        self.views: list[list[Array]] = []
        for name in names:
            flat, views = self._flat(params[0].dtype)
            for view, state in zip(views, states, strict=True):
                view[...] = state[name]
                state[name] = view
            self.states.append(flat)
            self.views.append(views)

    def _flat(self, dtype: Any) -> tuple[Array, list[Array]]:
        flat = np.empty(self.edges[-1], dtype)
        spans = zip(pairwise(self.edges), self.shapes, strict=True)
        return flat, [flat[low:high].reshape(shape) for (low, high), shape in spans]

    def fits(self, params: Arrays, states: list[State], names: tuple[str, ...]) -> bool:
        """Return whether these are the arrays it was made for; others may have been loaded."""
        if len(names) != len(self.views) or self.grad.dtype != params[0].dtype:
            return False
        if not names:
            return self.shapes == [p.shape for p in params]
        mine, now = self.views[0], [state.get(names[0]) for state in states]
        return len(now) == len(mine) and all(map(operator.is_, now, mine))


def _packed(
    change: Change,
    names: tuple[str, ...],
    params: Arrays,
    grads: Arrays,
    states: list[State],
    workspace: dict[Any, Any],
    l2: float,
    keep: float,
) -> list[Array]:
    """Make the step for all small arrays at once."""
    key = id(states[0])
    pack = workspace.get(key)
    if pack is None or not pack.fits(params, states, names):
        pack = workspace[key] = _Pack(params, states, names)
    for view, g in zip(pack.grads, grads, strict=True):
        view[...] = g
    if l2:
        for view, p in zip(pack.changes, params, strict=True):
            view[...] = p
        multiply(pack.change, l2, pack.change)
        add(pack.grad, pack.change, pack.grad)
    arrays = (pack.grad, pack.change, *pack.states)
    if pack.grad.size <= _BLOCK:
        change(*arrays)
    else:
        for low in range(0, pack.grad.size, _BLOCK):
            change(*(x[low : low + _BLOCK] for x in arrays))
    if keep != 1.0:
        for view, p in zip(pack.grads, params, strict=True):  # p keep - t = p - (t + (1 - keep) p)
            view[...] = p
        multiply(pack.grad, 1.0 - keep, pack.grad)
        add(pack.change, pack.grad, pack.change)
    new = list(map(subtract, params, pack.changes))
    for i in pack.scalars:  # NumPy makes scalars of 0-d results
        new[i] = new[i][...]
    return new


# --------------------------------------------------------------------------------- scratch

_thread = threading.local()


def _scratch(dtype: Any, size: int) -> Array:
    """Return this thread's two rows of scratch."""
    rows = getattr(_thread, dtype.name, None)
    if rows is None or rows.shape[1] < size:
        rows = np.empty((2, max(size, _BLOCK)), dtype)
        setattr(_thread, dtype.name, rows)
    return rows[:, :size]
