"""Optimizers: they change parameters by their gradients. Clipping, groups, schedules.

Examples
--------
>>> import xpnn
>>> from xpnn import optim
>>> w = xpnn.Tensor([1.0, -3.0], requires_grad=True)
>>> optimizer = optim.SGD(lr=0.5)
>>> (w * w).backward(xpnn.Tensor([1.0, 1.0]))
>>> optimizer.step([w])
>>> w
Tensor([0., 0.], dtype=float32, requires_grad=True)
"""

from __future__ import annotations

from xpnn.optim import schedules
from xpnn.optim.adagrad import Adadelta, Adagrad, RMSprop
from xpnn.optim.adam import Adam, AdamW, AMSGrad
from xpnn.optim.adam_variants import Adamax, NAdam, RAdam
from xpnn.optim.base import Optimizer, get
from xpnn.optim.clipping import clip_by_global_norm, clip_by_norm, clip_by_value
from xpnn.optim.groups import Group
from xpnn.optim.lion import Lion
from xpnn.optim.scaling import LossScaler
from xpnn.optim.schedules import Schedule
from xpnn.optim.sgd import SGD

__all__ = [
    "SGD",
    "AMSGrad",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Group",
    "Lion",
    "LossScaler",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Schedule",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "get",
    "schedules",
]
