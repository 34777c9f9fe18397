"""From the arguments of ``fit`` to a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xpnn.callbacks import Callback, EpochLines, ProgressBar
from xpnn.data import Batch, as_arrays
from xpnn.errors import ConfigError, DataError
from xpnn.optim.config import flag, number
from xpnn.training.objective import refuse_missing_targets
from xpnn.training.run import Run, listed
from xpnn.training.sources import Source, is_data, of_arrays, of_batches
from xpnn.training.trainable import Trainable
from xpnn.training.weights import sample_weights, weighing

__all__ = ["held_out", "prepared"]

_AHEAD = 2  # batches: one on its way while another is computed with


def prepared(
    model: Any,
    x: Any,
    y: Any,
    *,
    batch_size: int,
    epochs: int,
    initial_epoch: int,
    steps_per_epoch: int | None,
    validation_split: float,
    validation_data: Any,
    validation_steps: int | None,
    validate_every: int | None,
    shuffle: bool,
    sample_weight: Any,
    class_weight: Any,
    accumulate: int,
    prefetch: int | None,
    capture: bool,
    callbacks: Any,
    resume: Any,
    verbose: int,
) -> Run:
    """Return the run that the arguments of ``fit`` describe, resumed if there is a checkpoint."""
    _whole("epochs", epochs, 0)
    _whole("initial_epoch", initial_epoch, 0)
    _whole("accumulate", accumulate, 1)
    every = {"validation_steps": validation_steps, "validate_every": validate_every}
    for name, value in {"steps_per_epoch": steps_per_epoch, **every}.items():
        if value is not None:
            _whole(name, value, 1)
    if prefetch is not None:
        _whole("prefetch", prefetch, 0)
    callbacks = listed("fit", callbacks)
    validation_split = number("fit", "validation_split", validation_split, below=1)
    flag("fit", "shuffle", shuffle)
    if flag("fit", "capture", capture) and accumulate > 1:
        msg = "fit: steps of several batches are not captured. Leave out 'accumulate' or 'capture'."
        raise ConfigError(msg)
    if verbose not in (0, 1, 2):
        msg = f"fit: 'verbose' must be 0, 1 or 2, got {verbose!r}."
        raise ConfigError(msg)
    if accumulate > 1 and type(model).train_step is not Trainable.train_step:
        msg = (
            f"fit: {type(model).__name__}.train_step takes steps of its own, over whose batches"
            " gradients cannot be accumulated. Leave 'accumulate' at 1."
        )
        raise ConfigError(msg)
    if accumulate > 1 and model.criterion is not None:
        model.criterion.refuse_sums()
    place = model._place()
    if prefetch is None:
        # Where data and model share memory a thread would only compete for the processor.
        prefetch = 0 if place["device"] == "cpu" else _AHEAD
    usual = {"steps": steps_per_epoch, "prefetch": prefetch, **place}

    if y is not None or is_data(x):
        data = _arrays(model, x, y, sample_weight)
        if validation_data is None and validation_split:
            data, validation_data = _split_tail(data, validation_split)
        if class_weight is not None:
            data = weighing(class_weight, data.y)(data)
        source = of_arrays(data, batch_size=batch_size, shuffle=shuffle, **usual)
    else:
        if validation_split:
            msg = "fit: 'validation_split' splits arrays; here are batches. Give validation_data."
            raise ConfigError(msg)
        if sample_weight is not None:
            msg = "fit: 'sample_weight' is for arrays. Let the batches be (x, y, weight)."
            raise ConfigError(msg)
        weigh = None if class_weight is None else weighing(class_weight)
        source = of_batches(x, weigh=weigh, **usual)
    validation = None
    if validation_data is not None:
        validation = held_out(model, validation_data, max(batch_size, 256))
        validation.name = "validation_data"
        if validation_steps is not None:
            validation.cut(validation_steps)
    elif given := [name for name, value in every.items() if value is not None]:
        msg = f"fit: {given[0]!r} needs validation_data or validation_split."
        raise ConfigError(msg)

    shown: list[Callback] = [ProgressBar()] if verbose == 1 else []
    if verbose == 2:
        shown = [EpochLines()]
    run = Run(
        model, source, epochs=epochs, epoch=initial_epoch, validation=validation,
        validate_every=validate_every, accumulate=accumulate, callbacks=[*callbacks, *shown],
        capture=capture,
    )  # fmt: skip
    if resume is not None:
        run.resume(resume)
    return run


def held_out(model: Any, data: Any, batch_size: int) -> Source:
    """Return the source of what is evaluated: arrays, ``(x, y)``, ``(x, y, weight)`` or batches."""
    place = model._place()
    if isinstance(data, tuple) and not isinstance(data, Batch):
        if len(data) not in (2, 3):
            msg = (
                f"expected data to evaluate as (x, y) or (x, y, weight), got {len(data)} parts."
                " Several inputs are a tuple in it, ((a, b), y)."
            )
            raise ConfigError(msg)
        data = Batch(*data)
    arrays = isinstance(data, list) and all(hasattr(part, "shape") for part in data)
    if arrays and len(data) in (2, 3) and _needs_targets(model):
        msg = (
            "expected data to evaluate as a tuple, (x, y) or (x, y, weight), got a list of arrays."
            " A list has batches, each (x, y)."
        )
        raise ConfigError(msg)
    if isinstance(data, Batch):
        return of_arrays(_arrays(model, *data), batch_size=batch_size, **place)
    if is_data(data):
        return of_arrays(_arrays(model, data, None), batch_size=batch_size, **place)
    return of_batches(data, **place)


def _arrays(model: Any, x: Any, y: Any, weight: Any = None) -> Batch:
    x = as_arrays(x)
    if _needs_targets(model):
        refuse_missing_targets(y)
    data = Batch(x, None if y is None else as_arrays(y))
    first = x[0] if isinstance(x, tuple) else x
    if weight is not None:
        data = data._replace(weight=sample_weights(weight, int(first.shape[0])))
    return data


def _needs_targets(model: Any) -> bool:
    return type(model).objective is Trainable.objective


def _whole(name: str, value: Any, least: int) -> None:
    if not hasattr(value, "__index__") or isinstance(value, bool) or value < least:
        least_said = "must not be negative" if not least else f"must be at least {least}"
        msg = f"fit: {name!r} {least_said}, got {value!r}. It is a whole number."
        raise ConfigError(msg)


def _split_tail(data: Batch, fraction: float) -> tuple[Batch, Any]:
    n = data.examples
    cut = n - round(n * fraction)
    if cut in (0, n):
        msg = f"fit: {n} examples cannot be split at validation_split={fraction}."
        raise DataError(msg)
    return _sliced(data, slice(None, cut)), tuple(_sliced(data, slice(cut, None)))


def _sliced(data: Batch, rows: slice) -> Batch:
    def parts() -> Iterator[Any]:
        for part in data:
            if isinstance(part, tuple):
                yield tuple(a[rows, ...] for a in part)
            else:
                yield None if part is None else part[rows, ...]

    return Batch(*parts())
