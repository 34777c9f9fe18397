"""Training: models, the loop of ``fit``, callbacks, history."""

from __future__ import annotations

from xpnn.callbacks import Callback, EarlyStopping, ProgressBar
from xpnn.training.capture import Captured, capture
from xpnn.training.history import History
from xpnn.training.model import Model, Sequential
from xpnn.training.pretraining import pretrain
from xpnn.training.saving import load

__all__ = [
    "Callback",
    "Captured",
    "EarlyStopping",
    "History",
    "Model",
    "ProgressBar",
    "Sequential",
    "capture",
    "load",
    "pretrain",
]
