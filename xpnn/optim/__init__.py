"""Optimizers: they change parameters by their gradients.

Examples
--------
>>> import xpnn
>>> from xpnn import optim
>>> w = xpnn.Tensor([1.0, -3.0], requires_grad=True)
>>> optimizer = optim.SGD(learning_rate=0.5)
>>> (w * w).backward(xpnn.Tensor([1.0, 1.0]))
>>> optimizer.step([w])
>>> w
Tensor([0., 0.], dtype=float32, requires_grad=True)
"""

from __future__ import annotations

from xpnn.optim.adam import Adam, AdamW
from xpnn.optim.base import Optimizer, get
from xpnn.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "get"]
