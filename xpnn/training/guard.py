"""Watching the loss: a run stops when it is no number any more."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xpnn.backend import on_its_way
from xpnn.callbacks.stopping import snapshot
from xpnn.errors import NonFiniteError

__all__ = ["Guard"]

_SNAPSHOT_EVERY = 50  # steps; a copy of the weights costs about a tenth of a step


class Guard:
    """Stops a run whose loss is no number any more, and puts the last good state back.

    That is the weights and what the optimizers remember, whose moments are spoilt as well. The loss
    is sent for at once and read two steps late: by then a GPU has computed it, and nobody waits.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.waiting: list[tuple[int, int, Callable[[], Any]]] = []
        self.good: tuple[int, Any] | None = None
        self.candidate: tuple[int, Any] | None = None

    def before(self, step: int) -> None:
        """Copy the state now and then; it is good once its own loss turns out finite."""
        due = self.good is None or step % _SNAPSHOT_EVERY == 0  # a resumed run begins anywhere
        if due and self.candidate is None:
            optimizers = {name: o.state_dict() for name, o in self.model.optimizers.items()}
            self.candidate = (step, (snapshot(self.model), optimizers))

    def after(self, step: int, epoch: int, loss: Any) -> None:
        """Note a loss, and look at an older one."""
        self.waiting.append((step, epoch, on_its_way(loss)))
        if len(self.waiting) > 2:
            self._look(*self.waiting.pop(0))

    def finish(self) -> None:
        """Look at the losses that are left."""
        while self.waiting:
            self._look(*self.waiting.pop(0))

    def _look(self, step: int, epoch: int, loss: Callable[[], Any]) -> None:
        value = float(loss())
        if math.isfinite(value):
            if self.candidate is not None and self.candidate[0] == step:
                self.good, self.candidate = self.candidate, None
            return
        self.waiting.clear()
        kept = ""
        if (state := self.good or self.candidate) is not None:
            since, (weights, optimizers) = state
            self.model.load_state_dict(weights)
            for name, optimizer in self.model.optimizers.items():
                optimizer.load_state_dict(optimizers[name])
            when = f"step {since + 1}" if since else "the run"
            kept = f" The weights of before {when} were put back."
        msg = (
            f"the loss became {value} at step {step + 1} (epoch {epoch + 1}).{kept} Usual causes:"
            " a learning rate that is too high, or NaN or infinite values in the data."
        )
        raise NonFiniteError(msg)
