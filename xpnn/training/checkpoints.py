"""A run as a file, and back: all that decides how it goes on.

A checkpoint holds weights, the state of the optimizers, the scale of the loss, the random stream
now and when the pass over the data was opened, the position in that pass, the sums of the epoch's
means, the history, and what callbacks remember. One that is refused leaves model, optimizers and
random stream alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xpnn import backend, io, random
from xpnn.callbacks import Callback
from xpnn.callbacks.checkpoint import checkpoints_in
from xpnn.errors import ConfigError, DataError, XpnnError
from xpnn.training.history import History

__all__ = ["changes", "newest", "read", "write"]

_FORMAT = 1


def newest(place: str | os.PathLike[str]) -> Path | None:
    """Return the newest checkpoint in a folder; a file as it is; None if there is nothing yet."""
    path = Path(place)
    if path.is_file() or (path.suffix == ".safetensors" and not path.exists()):
        return path
    found = checkpoints_in(place)
    return found[-1] if found else None


# --------------------------------------------------------------------------------------- writing


def write(run: Any, path: str | os.PathLike[str]) -> None:
    """Write the state of a run to a file, atomically."""
    arrays: dict[str, Any] = {}

    def apart(value: Any, name: str) -> Any:
        """Put arrays aside, and a reference in the place of each."""
        if isinstance(value, Mapping):
            return {key: apart(x, f"{name}/{key}") for key, x in value.items()}
        if isinstance(value, (list, tuple)):
            return [apart(x, f"{name}/{i}") for i, x in enumerate(value)]
        if hasattr(value, "shape"):
            arrays[name] = value
            return {_ARRAY: name}
        return value

    ended = run.epoch_ended
    scaler = run.model.scaler
    state = {
        "model": {name: x for name, x in run.model.state_dict().items() if x is not None},
        "optimizers": {name: o.state_dict() for name, o in run.model.optimizers.items()},
        "scaler": None if scaler is None else scaler.state_dict(),
        "means": {} if ended else vars(run.means),
        "callbacks": {name: c.state_dict() for name, c in _named(run.callbacks).items()},
    }
    config = {
        "format": _FORMAT,
        "epoch": run.epoch + 1 if ended else run.epoch,
        "batch": 0 if ended else run.batch,
        "step": run.step,
        "stopped": run.stop and not run.interrupted,
        "rng": random.get_rng().state,
        "source": run.source.state(),
        "history": vars(run.history),
        "validated": run.validated,
        "fingerprint": run.fingerprint,
        "state": apart(state, "run"),
    }
    io.write(path, arrays, {"checkpoint": config})


_ARRAY = "array"


def _named(callbacks: Any) -> dict[str, Any]:
    """Return the callbacks that remember something by class name and, of several, number."""
    named: dict[str, Any] = {}
    for callback in callbacks:
        if type(callback).state_dict is Callback.state_dict:
            continue
        name, n = type(callback).__name__, 1
        while (label := name if n == 1 else f"{name} {n}") in named:
            n += 1
        named[label] = callback
    return named


# --------------------------------------------------------------------------------------- reading


def read(run: Any, path: Path) -> None:
    """Put a run into the state of a checkpoint.

    Raises
    ------
    DataError
        If the file is damaged, is no checkpoint, or does not fit the model, the optimizer or the
        callbacks.
    ConfigError
        If the run is given other data or settings, with which it would not go on as it would have.
    """
    arrays, config = io.read(path)
    if not isinstance(config, dict) or "checkpoint" not in config:
        msg = f"{path}: this file holds no checkpoint of a run."
        raise DataError(msg)
    saved = config["checkpoint"]
    try:
        if saved["format"] != _FORMAT:
            msg = f"{path}: a checkpoint of format {saved['format']}; this xpnn reads {_FORMAT}."
            raise DataError(msg)
        _compare(run, path, saved)
        with _all_or_nothing(run):
            _restore(run, saved, _together(saved["state"], arrays))
    except DataError as error:
        if str(path) in str(error):
            raise
        msg = f"{path}: {error}"
        raise DataError(msg) from error
    except XpnnError:
        raise
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        msg = f"{path}: this checkpoint lacks or garbles a part ({type(error).__name__}: {error})."
        raise DataError(msg) from error


def _together(value: Any, arrays: Mapping[str, Any]) -> Any:
    """Put arrays back in their places."""
    if isinstance(value, list):
        return [_together(x, arrays) for x in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_ARRAY} and isinstance(value[_ARRAY], str):
        return arrays[value[_ARRAY]]
    return {key: _together(x, arrays) for key, x in value.items()}


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in words which values are others than before."""
    return [
        f"{name} was {then.get(name)!r} and is {now.get(name)!r}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]


def _compare(run: Any, path: Path, saved: Mapping[str, Any]) -> None:
    """Refuse a run that is not the one of the checkpoint."""
    wrong = changes(saved["fingerprint"], run.fingerprint)
    mine, its = set(_named(run.callbacks)), set(saved["state"]["callbacks"])
    if mine != its:
        wrong.append(f"callbacks were {_listed(its)} and are {_listed(mine)}")
    kinds = {name: type(o).__name__ for name, o in run.model.optimizers.items()}
    before = {name: o["class"] for name, o in saved["state"]["optimizers"].items()}
    if kinds != before:
        wrong.append(f"the optimizer was {_listed(before)} and is {_listed(kinds)}")
    if wrong:
        msg = (
            f"fit: {path} is of another run: {'; '.join(wrong)}. Resume with what the run was"
            " started with, or start anew in another folder."
        )
        raise ConfigError(msg)


def _listed(names: Any) -> str:
    shown = names.values() if isinstance(names, Mapping) else sorted(names)
    return ", ".join(shown) or "none"


@contextmanager
def _all_or_nothing(run: Any) -> Iterator[None]:
    """Put model, optimizers and random stream back, and close the data, if something is refused."""
    model, rng = run.model, random.get_rng()
    stream, layers = rng.state, [(layer, dict(vars(layer))) for layer in model.layers()]
    data = [(p, p.data) for p in model.parameters()]
    optimizers = [(o, o.state_dict()) for o in model.optimizers.values()]
    scaler = model.scaler and model.scaler.state_dict()
    try:
        yield
    except BaseException:
        run.source.close()
        for layer, attributes in layers:
            layer._forget(attributes)
        for p, array in data:
            p.data = array
        for optimizer, state in optimizers:
            optimizer.load_state_dict(state)
        if scaler is not None:
            model.scaler.load_state_dict(scaler)
        rng.state = stream
        raise


def _restore(run: Any, saved: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    model = run.model
    # What callbacks compare says more than a weight of another shape.
    for name, callback in _named(run.callbacks).items():
        callback.load_state_dict(state["callbacks"][name])
    # The random stream goes through the state in which the pass was opened.
    if saved["batch"] or run.source.steps is not None:
        run.source.restore(saved["source"])
    if not model.parameters() or model._unbuilt():
        model.build_on(run.source.first())
    model.load_state_dict(state["model"])
    for name, optimizer in model.optimizers.items():
        optimizer.load_state_dict(state["optimizers"][name])
    if model.scaler is not None:
        model.scaler.load_state_dict(state["scaler"])
    home = model._home()
    run.epoch, run.batch, run.step = (_count(saved[name]) for name in ("epoch", "batch", "step"))
    if run.batch:
        means = state["means"]
        run.means.examples = _count(means["examples"])
        run.means.weight = _sum(means["weight"], home)
        run.means.sums = {name: _sum(x, home) for name, x in means["sums"].items()}
        run.means.read()["loss"]
    vars(run.history).update(vars(History.of(saved["history"])))
    run.stop, run.validated = bool(saved["stopped"]), None
    if saved["validated"] is not None:
        step, values = saved["validated"]
        run.validated = _count(step), {name: float(x) for name, x in values.items()}
    random.get_rng().state = saved["rng"]


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        msg = f"{value!r} is no number of steps"
        raise ValueError(msg)
    return value


def _sum(value: Any, home: Any) -> Any:
    """Return a sum, where the model is if it is an array."""
    if hasattr(value, "shape") and value.shape == ():
        return backend.asarray(value, device=home)
    return float(value) if type(value) is not int else value
