"""Callbacks: what happens around the steps of a run."""

from __future__ import annotations

from xpnn.callbacks.base import Callback
from xpnn.callbacks.checkpoint import Checkpoint
from xpnn.callbacks.loggers import CSVLogger, JSONLogger
from xpnn.callbacks.nonfinite import TerminateOnNaN
from xpnn.callbacks.plotting import PlotHistory
from xpnn.callbacks.progress import EpochLines, ProgressBar
from xpnn.callbacks.rates import LearningRateSchedule
from xpnn.callbacks.stopping import EarlyStopping, IterationPatience
from xpnn.callbacks.tensorboard import TensorBoard

__all__ = [
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "EpochLines",
    "IterationPatience",
    "JSONLogger",
    "LearningRateSchedule",
    "PlotHistory",
    "ProgressBar",
    "TensorBoard",
    "TerminateOnNaN",
]
