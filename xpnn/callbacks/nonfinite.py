"""An end without an error when the loss is no number any more."""

from __future__ import annotations

from typing import Any

from xpnn.callbacks.base import Callback
from xpnn.errors import NonFiniteError

__all__ = ["TerminateOnNaN"]


class TerminateOnNaN(Callback):
    """End training quietly when the loss becomes NaN or infinite.

    Without it, ``fit`` raises :class:`~xpnn.errors.NonFiniteError`. With it, ``fit`` returns the
    history of the epochs that were completed. Both ways, the last good weights are put back.

    Attributes
    ----------
    error : NonFiniteError or None
        What happened in the last run, and at which step; None if nothing did.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> from xpnn.callbacks import TerminateOnNaN
    >>> model = xpnn.Sequential([xpnn.layers.Dense(1)])
    >>> model.compile(loss="mse")
    >>> x, watch = np.full((8, 2), np.nan, "float32"), TerminateOnNaN()
    >>> model.fit(x, np.ones((8, 1), "float32"), callbacks=[watch])
    History(0 epochs: )
    >>> str(watch.error)[:36]
    'the loss became nan at step 1 (epoch'
    """

    error: NonFiniteError | None = None

    def on_train_begin(self, run: Any) -> None:
        self.error = None

    def on_error(self, run: Any, error: BaseException) -> bool:
        if not isinstance(error, NonFiniteError):
            return False
        self.error = error
        return True
