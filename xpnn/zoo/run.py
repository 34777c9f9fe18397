"""Training a network by its name, as ``xpnn train`` does."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xpnn import backend, random
from xpnn.callbacks import Callback, IterationPatience
from xpnn.callbacks.base import grows
from xpnn.callbacks.checkpoint import checkpoints_in
from xpnn.data import Batch, Batches
from xpnn.errors import ConfigError, MissingLibraryError
from xpnn.optim.config import whole
from xpnn.training import History
from xpnn.training.checkpoints import changes
from xpnn.training.pretraining import pretrain
from xpnn.zoo.data import Splits
from xpnn.zoo.files import Files, checked
from xpnn.zoo.pictures import draw
from xpnn.zoo.recipe import Recipe, get
from xpnn.zoo.settings import check_settings

__all__ = ["Outcome", "train"]


@dataclass
class Outcome:
    """What came of a run.

    Attributes
    ----------
    recipe : Recipe
    model : Model
    splits : Splits
    history : History
    scores : dict of float
        Measured on the test data; empty if the run was interrupted.
    seconds : float
        Of pre-training and training.
    steps : int
        Steps of the optimizer, over all epochs.
    best_epoch : int or None
        Counted from 1: that of the best validation; None if nothing was validated.
    interrupted : bool
        Whether Ctrl-C was pressed.
    files : list of Path
        What was written.
    note : str
        What was not, and why.
    """

    recipe: Recipe
    model: Any
    splits: Splits
    history: History
    scores: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    steps: int = 0
    best_epoch: int | None = None
    interrupted: bool = False
    files: list[Path] = field(default_factory=list)
    note: str = ""


class _Asked(Callback):
    """Keeps in the checkpoints what was asked for, and refuses those of another run."""

    def __init__(self, **asked: Any) -> None:
        self.asked = {name: list(x) if isinstance(x, tuple) else x for name, x in asked.items()}

    def state_dict(self) -> dict[str, Any]:
        return self.asked

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if wrong := changes(state, self.asked):
            msg = (
                f"the checkpoints are of another run: {'; '.join(wrong)}. Resume with what the run"
                " was started with, or start anew in another folder."
            )
            raise ConfigError(msg)


def train(
    name: str,
    *,
    data: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    precision: str | None = None,
    out: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    verbose: int = 1,
    started: Any = None,
) -> Outcome:
    """Train a network by its name, with its own data and settings unless others are given.

    The seed decides everything: how the data is split, the weights, pre-training, the order of the
    examples. A run that was killed and is resumed by the same call, with ``resume=True``, leaves
    the same weights and history as one that never was.

    Parameters
    ----------
    name : str
        See :data:`xpnn.zoo.RECIPES`.
    data : str, optional
        "digits", "mnist", "fashion", the path of an ``.npz`` file, or what the recipe says.
    epochs, batch_size : int, optional
    settings : dict, optional
        Arguments of the builder; ``pretrain_<name>`` for pre-training; ``patience``.
    seed : int
    precision : str, optional
        That of training, not of pre-training; see :meth:`xpnn.Model.compile`.
    out : path, optional
        A folder for model, history, checkpoints and pictures, made if it is not there. Those of an
        earlier run are replaced when this one ends; if it fails they stay. None: only what is
        returned.
    checkpoint_every : int, optional
        After how many steps the run is written to a checkpoint.
    resume : bool
        Go on from the newest checkpoint in ``out``, if there is one, with the data, seed and
        settings of then. More epochs are another run where the learning rate falls over all.
    overwrite : bool
        Whether checkpoints of another run in ``out`` are deleted, once the first step is done.
    verbose : {0, 1, 2}
        As for ``fit``.
    started : callable, optional
        Called as ``started(splits, epochs, batch_size)`` once the data is there.

    Returns
    -------
    Outcome

    Raises
    ------
    ConfigError
        If something cannot be set so, or ``out`` holds checkpoints and neither ``resume`` nor
        ``overwrite`` says what to do with them.
    DataError
        If the data is not to be had.

    Examples
    --------
    >>> from xpnn.zoo.run import train
    >>> found = train("logistic_regression", epochs=10, verbose=0)
    >>> found.scores["accuracy"] > 0.9
    True
    """
    recipe = get(name)
    settings = dict(settings or {})
    check_settings(recipe, settings)
    if epochs is not None:
        epochs = whole(name, "epochs", epochs)
    size = recipe.batch_size if batch_size is None else batch_size
    batch_size = whole(name, "batch_size", size, 1)
    if checkpoint_every is not None:
        whole(name, "checkpoint_every", checkpoint_every, 1)
    folder = None if out is None else checked(out, resume, overwrite)
    if folder is None and (checkpoint_every is not None or resume):
        msg = f"{name}: checkpoints need a folder, 'out'."
        raise ConfigError(msg)

    own, greedy, patience = _apart(recipe, settings)
    data = recipe.dataset if data is None else data
    asked = _Asked(
        network=name, data=data, seed=seed, dtype=backend.get_dtype().name, precision=precision,
        **{**recipe.settings, **settings},
    )  # fmt: skip
    callbacks: list[Callback] = [asked]
    if patience is not None:
        callbacks.append(IterationPatience(recipe.monitor, patience=patience))
    files = None if folder is None else Files(folder, checkpoint_every, overwrite)
    if files is not None:
        callbacks.append(files)

    # All that draws random numbers comes in this order, in every run.
    random.set_seed(seed)
    splits = recipe.data(data)
    if epochs is None:
        epochs = recipe.epochs_for(splits.examples, batch_size)
    if started is not None:
        started(splits, epochs, batch_size)
    if own.get("steps", 0) is None:
        own["steps"] = max(1, epochs * -(-splits.examples // batch_size))
        asked.asked["steps"] = own["steps"]  # a rate that fell to zero is no start for more epochs
    model = recipe.build(splits.shape, splits.classes, **own)
    model.precision = precision
    found = Outcome(recipe, model, splits, History())
    begin = time.perf_counter()
    resumes = resume and folder is not None and bool(checkpoints_in(folder))
    if greedy is not None and not resumes:  # a checkpoint has the weights of after it
        _build(model, splits.train[0], batch_size)
        histories = pretrain(model, splits.train[0], **greedy, verbose=verbose)
        found.interrupted = any(history.interrupted for history in histories.values())
    if not found.interrupted:
        found.history = model.fit(
            *splits.train,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=splits.validation,
            callbacks=callbacks,
            resume=folder if resume else None,
            verbose=verbose,
        )
        found.interrupted = found.history.interrupted
        found.steps = (found.history.steps or [0])[-1] or 0
        found.best_epoch = _best(found.history, recipe.monitor)
    found.seconds = time.perf_counter() - begin
    if not found.interrupted:
        found.scores = (recipe.score or _measured)(model, splits)
    if files is not None and files.begun:
        found.files = files.results(model, found.history)
        if not found.interrupted:
            try:
                found.files += draw(
                    recipe, model, splits, found.history, files.folder, "accuracy" in found.scores
                )
            except MissingLibraryError as error:
                found.note = f"without pictures: {error}"
    return found


def _build(model: Any, x: Any, batch_size: int) -> None:
    """Build a model on a batch of training, not on the smaller ones of pre-training.

    The shapes it was built with are in its file, and those of a resumed run are these.
    """
    device, dtype = backend.get_device(), backend.get_dtype()
    (first,) = next(iter(Batches(x, batch_size=batch_size, device=device, dtype=dtype)))
    model.build_on(Batch(first))


def _apart(
    recipe: Recipe, settings: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any] | None, int | None]:
    """Return the arguments of the builder, those of pre-training, and the patience."""
    every = {**recipe.settings, **settings}
    patience = every.pop("patience")
    own = {name: x for name, x in every.items() if not name.startswith("pretrain_")}
    if recipe.pretrain is None:
        return own, None, patience
    greedy = {name.removeprefix("pretrain_"): every[name] for name in every.keys() - own.keys()}
    return own, greedy, patience


def _best(history: History, monitor: str) -> int | None:
    """Return the epoch, from 1, in which a value was best; the first of equals."""
    values = history.get(monitor)
    if not values:
        return None
    best = max if grows(monitor, "auto", "train") else min
    return 1 + values.index(best(values))


def _measured(model: Any, splits: Splits) -> dict[str, float]:
    """Return loss and metrics on the test data, and of an accuracy the error."""
    found: dict[str, float] = model.evaluate(*splits.test)
    if "accuracy" in found:
        found["error"] = 1.0 - found["accuracy"]
    return found
