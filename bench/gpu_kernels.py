"""Kernels that fuse what is element-wise, or of rows, in xpnn and in PyTorch: forward and back.

Each is given an array and the gradient of its result; cross-entropy has labels instead. Their time
is that of bytes which cross the memory: those are counted in ``gpu_work.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from networks.problems import Draw, Problem

__all__ = ["in_torch", "in_xpnn", "optimizer_step", "problem"]

_DROPPED = 0.5
_DRAWN = 4096  # rows that are random numbers, and then come again: drawing more takes seconds


def problem(rows: int, columns: int) -> Problem:
    """Return a matrix, the gradient of what it becomes, and scale and shift of a normalization."""
    draw, drawn = Draw(), min(rows, _DRAWN)
    x, g = (np.resize(draw.normal(drawn, columns), (rows, columns)) for _ in range(2))
    return Problem(x, g, [draw.full(1.0, columns), draw.full(0.0, columns)])


def _labels(x: Any) -> Any:
    return np.arange(len(x)) % x.shape[1]


def in_xpnn(kernel: str, given: Problem) -> Callable[[], Any]:
    """Prepare a call and its gradients in xpnn, on the default device."""
    import xpnn
    from xpnn import functional as F
    from xpnn import losses

    where = xpnn.get_device()
    arrays = [
        xpnn.asarray(a, device=where) for a in (given.x, *given.weights, _labels(given.x), given.y)
    ]
    x, scale, shift = (xpnn.Tensor(a, requires_grad=True) for a in arrays[:3])
    labels, g = arrays[3:]
    compute = {
        "gelu": lambda: F.gelu(x),
        "dropout": lambda: F.dropout(x, _DROPPED),
        "layer_norm": lambda: F.layer_norm(x, scale, shift),
        "softmax": lambda: F.softmax(x),
        "cross_entropy": lambda: losses.cross_entropy(x, labels),
        "batch_norm_relu": lambda: F.batch_norm(x, scale, shift, activation=F.relu)[0],
    }[kernel]

    def step() -> Any:
        x.grad = scale.grad = shift.grad = None
        y = compute()
        y.backward(g if y.ndim else None)
        return y, x.grad

    return step


def in_torch(kernel: str, given: Problem, *, compiled: bool = False) -> Callable[[], Any]:
    """Prepare a call and its gradients in PyTorch, on the default device."""
    import torch
    from torch.nn import functional as F

    where = torch.get_default_device()
    x, g, labels, scale, shift = (
        torch.from_numpy(a).to(where) for a in (given.x, given.y, _labels(given.x), *given.weights)
    )
    for a in (x, scale, shift):
        a.requires_grad_(True)

    def batch_norm_relu(x: Any) -> Any:
        return F.relu(F.batch_norm(x, None, None, scale, shift, training=True))

    compute: Any = {
        "gelu": F.gelu,
        "dropout": lambda x: F.dropout(x, _DROPPED),
        "layer_norm": lambda x: F.layer_norm(x, x.shape[1:], scale, shift),
        "softmax": lambda x: F.softmax(x, 1),
        "cross_entropy": lambda x: F.cross_entropy(x, labels),
        "batch_norm_relu": batch_norm_relu,
    }[kernel]
    run = torch.compile(compute) if compiled else compute

    def step() -> Any:
        x.grad = scale.grad = shift.grad = None
        y = run(x)
        y.backward(g if y.ndim else None)
        return y, x.grad

    return step


def optimizer_step(library: str, rule: str, parameters: int) -> Callable[[], Any]:
    """Prepare a step of Adam, or of SGD with momentum, alone."""
    if library == "torch":
        import torch

        weight = torch.nn.Parameter(torch.zeros(parameters))
        weight.grad = torch.ones(parameters)
        rules: Any = {
            "adam": lambda: torch.optim.Adam([weight], 1e-3, fused=True),
            "momentum": lambda: torch.optim.SGD([weight], 1e-3, momentum=0.9, fused=True),
        }
        return rules[rule]().step  # type: ignore[no-any-return]
    import xpnn
    from xpnn import optim

    weight = xpnn.Tensor(xpnn.ops.zeros(parameters), requires_grad=True)
    gradient = xpnn.ops.ones(parameters)
    optimizer = optim.Adam(1e-3) if rule == "adam" else optim.SGD(1e-3, momentum=0.9)
    return lambda: optimizer.update([weight], [gradient])
