"""The loop of ``fit``: epochs of steps, with what watches over them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from xpnn import losses, metrics
from xpnn.autograd.transforms import no_grad
from xpnn.backend import unwrap
from xpnn.callbacks import Callback
from xpnn.callbacks.stopping import snapshot
from xpnn.errors import ConfigError, NonFiniteError
from xpnn.training.history import History, Means

__all__ = ["Run", "measure", "named_metrics", "run_epochs"]

_SNAPSHOT_EVERY = 50  # steps; a copy of the weights costs about a tenth of a step


class Run:
    """The state of a training run, as callbacks see it."""

    def __init__(self, model: Any, batches: Any, epochs: int) -> None:
        self.model = model
        self.batches = batches
        self.epochs = epochs
        self.epoch = 0
        self.step = 0
        self.steps_per_epoch = len(batches) if hasattr(batches, "__len__") else None
        self.stop = False
        self.history = History()

    def targets(self) -> tuple[Any, ...]:
        """Return the arrays of all targets."""
        arrays: Any = getattr(self.batches, "arrays", ())
        return arrays[-1] if len(arrays) > 1 else ()


class _Guard:
    """Stops a run whose loss is no number any more, and puts the last good weights back.

    The loss is read two steps late: by then a GPU has computed it, and nobody waits.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.waiting: list[tuple[int, int, Any]] = []
        self.good: tuple[int, Any] | None = None
        self.candidate: tuple[int, Any] | None = None

    def before(self, step: int) -> None:
        """Copy the weights now and then; they are good once their own loss turns out finite."""
        if step % _SNAPSHOT_EVERY == 0 and self.candidate is None:
            self.candidate = (step, snapshot(self.model))

    def after(self, step: int, epoch: int, loss: Any) -> None:
        """Note a loss, and look at an older one."""
        self.waiting.append((step, epoch, loss))
        if len(self.waiting) > 2:
            self._look(*self.waiting.pop(0))

    def finish(self) -> None:
        """Look at the losses that are left."""
        while self.waiting:
            self._look(*self.waiting.pop(0))

    def _look(self, step: int, epoch: int, loss: Any) -> None:
        value = float(loss)
        if math.isfinite(value):
            if self.candidate is not None and self.candidate[0] == step:
                self.good, self.candidate = self.candidate, None
            return
        if self.good is not None:
            self.model.load_state_dict(self.good[1])
            kept = f"The weights of before step {self.good[0] + 1} were put back."
        else:
            if self.candidate is not None:
                self.model.load_state_dict(self.candidate[1])
            kept = "The weights are the initial ones."
        msg = (
            f"the loss became {value} at step {step + 1} (epoch {epoch + 1}). {kept} Usual causes:"
            " a learning rate that is too high, or NaN or infinite values in the data."
        )
        raise NonFiniteError(msg)


def run_epochs(
    run: Run, loss: Any, measures: dict[str, Any], validation: Any, callbacks: Sequence[Callback]
) -> History:
    """Train for ``run.epochs`` epochs and return the history."""
    model = run.model
    try:
        for callback in callbacks:
            callback.on_train_begin(run)
        guard = _Guard(model)
        while run.epoch < run.epochs and not run.stop:
            for callback in callbacks:
                callback.on_epoch_begin(run)
            values = _epoch(run, loss, measures, guard, callbacks)
            if validation is not None:
                found = measure(model, validation, loss, measures)
                values |= {f"val_{name}": value for name, value in found.items()}
            run.history.append(values)
            model.optimizer.observe(values.get("val_loss", values["loss"]), "epoch")
            for callback in callbacks:
                callback.on_epoch_end(run, values)
            run.epoch += 1
    finally:
        for callback in callbacks:
            callback.on_train_end(run)
    return run.history


def _epoch(
    run: Run, loss: Any, measures: dict[str, Any], guard: _Guard, callbacks: Sequence[Callback]
) -> dict[str, float]:
    model = run.model.train()
    means = Means()
    for x, y in run.batches:
        if run.step == 0:
            predictions = _build(model, x)
            for targets in run.targets():
                losses.check_targets(loss, targets, predictions)
        guard.before(run.step)
        values = model.train_step(x, y, loss, measures)
        model.optimizer.observe(values["loss"], "step")
        means.add(values, _examples(y))
        guard.after(run.step, run.epoch, values["loss"])
        for callback in callbacks:
            callback.on_step_end(run, values)
        run.step += 1
    guard.finish()
    return means.read()


def measure(model: Any, batches: Iterable[Any], loss: Any, measures: dict[str, Any]) -> Any:
    """Return the means of loss and metrics over batches, in prediction mode."""
    was_training = model.training
    model.eval()
    means = Means()
    try:
        with no_grad():
            for x, y in batches:
                predictions = model(*_inputs(x))
                value = loss(predictions, y)
                penalty = model.penalties()
                values = {"loss": unwrap(value if penalty is None else value + penalty)}
                values |= {name: unwrap(f(predictions, y)) for name, f in measures.items()}
                means.add(values, _examples(y))
    finally:
        model.train(was_training)
    return means.read()


def _inputs(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def _examples(y: Any) -> int:
    return int((y[0] if isinstance(y, tuple) else y).shape[0])


def _build(model: Any, x: Any) -> Any:
    """Run a model once so that it has weights, without a trace: no dropout, no statistics."""
    with no_grad():
        predictions = model.eval()(*_inputs(x))
    model.train()
    name = type(model).__name__
    if predictions is None:
        msg = f"{name}.forward returned None. Does it end in return?"
        raise ConfigError(msg)
    if not model.parameters():
        msg = (
            f"{name} has no parameters to train. Make its layers in __init__, and keep each as an"
            " attribute or in a list, where they are found; not in a dict, nor anew in forward."
        )
        raise ConfigError(msg)
    return predictions


def named_metrics(given: Iterable[Any]) -> dict[str, Any]:
    """Return metrics by the names under which they are reported; one may be given by itself.

    Raises
    ------
    ConfigError
        If two would be reported under one name.
    """
    found: dict[str, Any] = {}
    for metric in (given,) if isinstance(given, str) else given:
        name, f = metrics.name_of(metric), metrics.get(metric)
        if name == "loss" or found.get(name, f) is not f:
            msg = f"compile: two values would be reported as {name!r}. Give one of them a __name__."
            raise ConfigError(msg)
        found[name] = f
    return found
