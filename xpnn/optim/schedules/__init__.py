"""Schedules: the learning rate as a function of the step, or of the losses that were seen.

Give one to an optimizer, or to a group of its parameters, in place of a number. The optimizer keeps
a copy of its own, so one schedule may be given to several.

Examples
--------
>>> from xpnn import optim
>>> from xpnn.optim import schedules
>>> optimizer = optim.Adam(schedules.CosineWarmup(1e-3, total_steps=1000, warmup_steps=100))
>>> optimizer.lr  # of the first step
1e-05
>>> optim.SGD("noam").lr == schedules.Noam()(1)
True
"""

from __future__ import annotations

from xpnn.optim.schedules.base import Schedule, get
from xpnn.optim.schedules.by_loss import King, ReduceOnPlateau
from xpnn.optim.schedules.by_step import (
    Constant,
    CosineWarmup,
    Exponential,
    Noam,
    OneCycle,
    Step,
)

__all__ = [
    "Constant",
    "CosineWarmup",
    "Exponential",
    "King",
    "Noam",
    "OneCycle",
    "ReduceOnPlateau",
    "Schedule",
    "Step",
    "get",
]
