"""The loop of ``fit``: epochs of steps, with what watches over them."""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any

from xpnn import random
from xpnn._cuda import out_of_memory
from xpnn.autograd.transforms import no_grad
from xpnn.backend import array_namespace, unwrap
from xpnn.data import Batch
from xpnn.training.history import History, Means
from xpnn.training.precision import widened
from xpnn.training.run import Run
from xpnn.training.sources import Source

__all__ = ["measure", "train"]


def train(run: Run) -> History:
    """Train for the epochs of a run and return the history."""
    begun: list[Any] = []
    run.model.zero_grad()  # of a loop of the user's own
    try:
        with closing(run.source):
            for callback in run.callbacks:
                begun.append(callback)
                callback.on_train_begin(run)
            with _interrupts(run), run.model._at_home():
                # A run that was stopped within an epoch, and resumed there, has yet to end it.
                while run.epoch < run.epochs and (run.batch or not run.stop):
                    _epoch(run)
                    if run.interrupted:
                        _cut_short(run)
                        break
    except KeyboardInterrupt:  # a second one, or one that came to no main thread
        run.stop = run.interrupted = True
    except Exception as error:
        failed = out_of_memory(error) or error
        if not run.deal_with(failed):
            raise failed from (None if failed is not error else error.__cause__)
    finally:
        run.history.interrupted = run.interrupted
        run.model.zero_grad()  # of batches that were to be one step
        _end(run, begun)
    return run.history


def _end(run: Run, callbacks: list[Any]) -> None:
    """Let all callbacks clean up, also when one of them fails."""
    if callbacks:
        try:
            callbacks[0].on_train_end(run)
        finally:
            _end(run, callbacks[1:])


def _epoch(run: Run) -> None:
    model = run.model.train()
    run.epoch_ended = False
    run.call("on_epoch_begin")
    if run.stop and not run.batch:
        return
    with closing(_steps(run)) as steps:
        for values, loss in steps if not run.stop else ():
            for optimizer in model.optimizers.values():
                optimizer.observe(loss, "step")
            run.guard.after(run.step, run.epoch, loss)
            run.step += 1
            if run.validate_every and run.step % run.validate_every == 0:
                found = _validate(run)
                run.history.validations.append({"step": run.step, **found})
            run.call("on_step_end", values)
            if run.stop:
                break
    run.guard.finish()
    if run.interrupted:
        return
    values = run.means.read()
    if run.validation is not None:
        values |= _validate(run)
    for optimizer in model.optimizers.values():
        optimizer.observe(values.get("val_loss", values["loss"]), "epoch")
    run.history.append(values, run.step)
    run.epoch_ended = True
    run.call("on_epoch_end", values)
    run.epoch += 1
    run.batch, run.means, run.epoch_ended = 0, Means(), False


def _cut_short(run: Run) -> None:
    """Let a run that was interrupted be written down, and count what there is of its epoch."""
    run.call("on_interrupt")
    if run.batch:
        run.history.append(run.means.read(), run.step)


def _steps(run: Run) -> Generator[tuple[dict[str, Any], Any], None, None]:
    """Take the steps of an epoch; yield what each reports, and its loss."""
    model, accumulated = run.model, _Accumulated(run.model)
    with closing(run.source.epoch(run.batch)) as batches:  # type: ignore[type-var]
        for batch in batches:
            if not run.looked:
                model._look_at(batch, run.source.targets)
                run.looked = True
            if not accumulated.batches:
                run.guard.before(run.step)
            run.batch += 1
            weight = _total(batch.weight)
            if run.accumulate == 1:
                values = run.take_step(batch)
                if not run.step:
                    model._check_reached()
                run.means.add(values, batch.examples, weight)
                yield values, values["loss"]
                continue
            run.means.add(accumulated.add(batch, weight), batch.examples, weight)
            if accumulated.batches == run.accumulate:
                values = accumulated.step()
                yield values, values["loss"]
    if accumulated.batches:  # the last of an epoch
        values = accumulated.step()
        yield values, values["loss"]


class _Accumulated:
    r"""Gradients of several batches for one step, that of their examples together.

    .. math:: g = \frac{\sum_b n_b\, g_b}{\sum_b n_b}

    with n the examples of a batch or, if they have weights, the sum of those. The loss is a mean.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._begin()

    def _begin(self) -> None:
        self.batches, self._means = 0, Means()
        self._sums: dict[int, Any] = {}  # by the place of a parameter

    def add(self, batch: Batch, weight: Any) -> dict[str, Any]:
        """Add the gradients of a batch; return what is reported of it."""
        values = self.model.add_gradients(batch)
        n = batch.examples if weight is None else weight
        for i, p in enumerate(self.model.parameters()):
            if p.grad is not None:
                part = widened(p.grad.data) * n
                self._sums[i] = self._sums[i] + part if i in self._sums else part
                p.grad = None
        self._means.add(values, batch.examples, weight)
        self.batches += 1
        return values

    def step(self) -> dict[str, Any]:
        """Take the step, and start anew."""
        means = self._means
        total = _divisor(means.weight)
        for i, p in enumerate(self.model.parameters()):
            if i in self._sums:
                p.grad = self._sums[i] / total
        self.model.apply_gradients()
        values = {name: x / _divisor(means.count(name)) for name, x in means.sums.items()}
        self._begin()
        return values


def _divisor(total: Any) -> Any:
    """Return a total, or 1 in the place of 0; a device is not asked which it is."""
    if not hasattr(total, "shape"):
        return total or 1
    xp = array_namespace(total)
    return xp.where(total == 0, xp.ones_like(total), total)


def _total(weight: Any) -> Any:
    return None if weight is None else array_namespace(weight).sum(weight)


def _validate(run: Run) -> dict[str, float]:
    """Measure validation data, once a step, and show it to the callbacks."""
    if run.validated is None or run.validated[0] != run.step:
        watch = functools.partial(run.call, "on_validation_step")
        found = measure(run.model, run.validation, watch)  # type: ignore[arg-type]
        run.validated = run.step, {f"val_{name}": value for name, value in found.items()}
        run.call("on_validation_end", dict(run.validated[1]))
    return dict(run.validated[1])


def measure(
    model: Any, source: Source, watch: Callable[[int], Any] | None = None
) -> dict[str, float]:
    """Return the means of loss and metrics over the batches of an epoch, in prediction mode.

    ``watch`` is told after every batch how many are done.
    """
    was_training = model.training
    model.eval()
    means = Means()
    rng = random.get_rng()
    state = rng.state  # a run goes on as if nothing had been measured
    try:
        with (
            model._at_home(),
            no_grad(),
            model.autocast(),
            closing(source.epoch()) as batches,  # type: ignore[type-var]
        ):
            for done, batch in enumerate(batches, 1):
                loss, values = model.objective(batch)
                reported = {"loss": loss, **values}
                found = {name: unwrap(value) for name, value in reported.items()}
                means.add(found, batch.examples, _total(batch.weight))
                if watch is not None:
                    watch(done)
    finally:
        source.close()
        rng.state = state
        model.train(was_training)
    return means.read()


@contextmanager
def _interrupts(run: Run) -> Iterator[None]:
    """Let Ctrl-C end the run after its step; a second one acts at once.

    A handler of the user's own is left alone, and only the main thread may set one.
    """
    usual = signal.default_int_handler
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not usual:
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        run.stop = run.interrupted = True
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
