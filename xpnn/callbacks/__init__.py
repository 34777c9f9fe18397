"""Callbacks: what happens around the steps of a run."""

from __future__ import annotations

from xpnn.callbacks.base import Callback
from xpnn.callbacks.checkpoint import Checkpoint
from xpnn.callbacks.progress import EpochLines, ProgressBar
from xpnn.callbacks.stopping import EarlyStopping, IterationPatience

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "EpochLines",
    "IterationPatience",
    "ProgressBar",
]
