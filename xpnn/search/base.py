"""Searches: a function, or a model and data, tried with many settings of its hyperparameters."""

from __future__ import annotations

import inspect
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from xpnn import backend
from xpnn._extras import require
from xpnn.callbacks import (
    Callback,
    Checkpoint,
    CSVLogger,
    JSONLogger,
    PlotHistory,
    TensorBoard,
)
from xpnn.errors import ConfigError
from xpnn.optim.config import choice, flag, whole
from xpnn.random import Stream
from xpnn.search.files import Folder
from xpnn.search.identity import looks
from xpnn.search.results import Results
from xpnn.search.space import Hyperparameters, Setting, trial_seeds
from xpnn.search.state import Progress, State
from xpnn.search.trial import Data, Job, Outcome
from xpnn.training import Model

__all__ = ["GridSearch", "RandomSearch", "Search"]

# What Model.fit takes after self, x and y; trials have no checkpoints to go on from.
_OF_FIT = [p for p in inspect.signature(Model.fit).parameters if p not in ("x", "y", "resume")][1:]

_WRITERS = (Checkpoint, CSVLogger, JSONLogger, PlotHistory, TensorBoard)


class Search:
    """Base of searches. A subclass says in :meth:`settings` what is tried."""

    def __init__(
        self,
        function: Callable[[Setting], Any],
        space: Hyperparameters | Mapping[str, Any],
        *,
        monitor: str | None = None,
        mode: str = "auto",
        seed: int = 0,
        n_jobs: int = 1,
        path: str | os.PathLike[str] | None = None,
        on_error: str = "record",
        keep_model: bool = False,
        verbose: int = 1,
    ) -> None:
        who = type(self).__name__
        if not callable(function):
            msg = (
                f"{who}: expected a function of a setting, such as `lambda hp: ...`, got"
                f" {type(function).__name__}."
            )
            raise ConfigError(msg)
        self.function = function
        if isinstance(space, Mapping):
            space = Hyperparameters(**space)
        if not isinstance(space, Hyperparameters):
            msg = f"{who}: expected Hyperparameters or a dict of ranges, got {space!r}."
            raise ConfigError(msg)
        if not space:
            msg = f"{who}: the space has no hyperparameters. Write Hyperparameters(lr=[0.1, 0.01])."
            raise ConfigError(msg)
        self.space = space
        self.monitor = monitor
        self.mode = choice(self, "mode", mode, ("auto", "min", "max"))
        self.seed = Stream(seed).seed
        if not hasattr(n_jobs, "__index__") or n_jobs == 0:
            msg = f"{who}: 'n_jobs' must be a number of processes, or -1, got {n_jobs!r}."
            raise ConfigError(msg)
        self.n_jobs = int(n_jobs)
        self.path = path
        self.on_error = choice(self, "on_error", on_error, ("record", "raise"))
        self.keep_model = flag(self, "keep_model", keep_model)
        self.verbose = whole(self, "verbose", verbose)

    def settings(self) -> list[Setting]:
        """Return what is tried, in order. Written by subclasses."""
        raise NotImplementedError

    def run(self) -> Results:
        """Call the function with every setting; it returns what it found.

        That is a number (say ``mode``), numbers by name, or the history of a fit, of which the
        epoch counts that was best.

        Raises
        ------
        ConfigError
            If it returns something else in the first trials; later this is a failed trial.
        """
        if self.keep_model:
            msg = f"{type(self).__name__}: keep_model=True goes with fit(x, y): run has no models."
            raise ConfigError(msg)
        return self._search(None)

    def fit(self, x: Any, y: Any = None, **options: Any) -> Results:
        """Fit the model that the function makes of every setting; the best epoch counts.

        Parameters
        ----------
        x, y : arrays
            As for :meth:`xpnn.Model.fit`.
        **options
            The other arguments of :meth:`xpnn.Model.fit`, such as ``validation_split``, of which
            one is needed to go by "val_loss". Hyperparameters that are called as one of them,
            ``batch_size`` and ``epochs`` for example, are given to it.

        Raises
        ------
        ConfigError
            If an argument is also a hyperparameter, or is none of ``fit``; if data can be gone
            through only once; or if all trials would write to the same file by a callback.
        """
        who = type(self).__name__
        for name in options:
            if name not in _OF_FIT:
                msg = f"{who}.fit: no argument {name!r} is known; there are {', '.join(_OF_FIT)}."
                raise ConfigError(msg)
            if name in self.space:
                msg = f"{who}.fit: {name!r} is a hyperparameter, and given as well. Leave out one."
                raise ConfigError(msg)
        if any(hasattr(data, "__next__") for data in (x, options.get("validation_data"))):
            msg = (
                f"{who}.fit: an iterator can be gone through once, and there are several trials."
                " Give a function that returns a new one, or arrays."
            )
            raise ConfigError(msg)
        given = tuple(name for name in self.space.ranges if name in _OF_FIT)
        if not ("validation_split" in options or "validation_data" in options) and (
            self.monitor is None or self.monitor.startswith("val_")
        ):
            msg = (
                f"{who}.fit: trials are compared by {self.monitor or 'val_loss'!r}, which needs"
                " validation data. Give validation_split=0.2, for example."
            )
            raise ConfigError(msg)
        _check_callbacks(who, options.get("callbacks", ()))
        return self._search(Data(x, y, {"verbose": 0, **options}, given))

    # ---------------------------------------------------------------------------- the search

    def _search(self, data: Data | None) -> Results:
        settings = self.settings()
        job = Job(
            type(self).__name__, self.function, data, self.monitor, self.mode, self.keep_model,
            self.on_error == "raise", str(backend.get_device()), backend.get_dtype().name,
        )  # fmt: skip
        folder = None if self.path is None else Folder(self.path, self._about(job))
        state = State(job, settings, self.seed, folder)
        todo = [
            (number, setting, trial_seeds(self.seed, number)[0])
            for number, setting in enumerate(settings)
            if number not in state.done
        ]
        progress = Progress(job.who, self.verbose, len(settings), len(state.done))
        interrupted = False
        outcomes = self._outcomes(job, todo)
        try:
            with _interrupts() as pressed:
                for outcome in outcomes:
                    if pressed:  # a fit in the trial has ended early, and quietly
                        raise KeyboardInterrupt
                    trial = state.add(outcome)
                    progress.show(trial, state)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            outcomes.close()
            progress.close()
        return state.results(interrupted)

    def _outcomes(self, job: Job, todo: list[Any]) -> Generator[Outcome]:
        """Yield what came of the trials, as they end."""
        if self.n_jobs == 1 or len(todo) < 2:
            yield from (job(*one) for one in todo)
            return
        joblib = require("joblib", "search", f"{type(self).__name__}(n_jobs={self.n_jobs})")
        parallel = joblib.Parallel(n_jobs=self.n_jobs, return_as="generator_unordered")
        yield from parallel(joblib.delayed(job)(*one) for one in todo)

    def _about(self, job: Job) -> dict[str, Any]:
        """Return as JSON which search this is, so that no other goes on in its folder."""
        data: Any = None
        if job.data is not None:
            options = {k: v for k, v in job.data.options.items() if k not in _NO_MATTER}
            data = {
                "x": looks(job.data.x),
                "y": looks(job.data.y),
                **{k: looks(v) for k, v in options.items()},
            }
        return {
            "search": job.who,
            "function": getattr(self.function, "__qualname__", type(self.function).__name__),
            "space": self.space.to_config(),
            "seed": self.seed,
            "monitor": self.monitor,
            "mode": self.mode,
            "dtype": job.dtype,
            "fit": data,
        }


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Yield a list that is not empty once Ctrl-C was pressed, whoever deals with it.

    A handler of the user's own is left alone, and only the main thread may set one.
    """
    usual = signal.default_int_handler
    pressed: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not usual:
        yield pressed
        return

    def note(number: int, frame: Any) -> None:
        pressed.append(number)
        usual(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, usual)


_NO_MATTER = ("verbose", "prefetch")  # to what comes out


def _check_callbacks(who: str, callbacks: Any) -> None:
    """Refuse callbacks that no trial could be given, or that all trials would write by.

    Raises
    ------
    ConfigError
    """
    if not isinstance(callbacks, (list, tuple)) or any(
        not isinstance(callback, Callback) for callback in callbacks
    ):
        msg = f"{who}.fit: 'callbacks' must be a list of Callback objects, got {callbacks!r}."
        raise ConfigError(msg)
    for callback in callbacks:
        place = getattr(callback, "folder", None) or getattr(callback, "path", None)
        if isinstance(callback, _WRITERS) and place is not None:
            msg = (
                f"{who}.fit: every trial would write to {str(place)!r}, by the same"
                f" {type(callback).__name__}. Leave it out; or fit in the function, in a folder for"
                " each setting, and search with run()."
            )
            raise ConfigError(msg)


class GridSearch(Search):
    """Try every setting of a grid.

    Parameters
    ----------
    function : callable
        Of a :class:`~xpnn.search.Setting`. For :meth:`run` it returns what it found; for
        :meth:`fit` a compiled model.
    space : Hyperparameters or dict
    monitor : str, optional
        The name of the value to go by: the only one, or "val_loss", if not given.
    mode : {"auto", "min", "max"}
        Which way is better; "auto" takes "max" for accuracies, precision, recall, F1 and R2.
    seed : int
        Each trial has a random stream of its own, which depends on this and on its number alone.
    n_jobs : int
        How many processes run trials, -1 for one a core; with more than one the extra ``search``
        (joblib) is needed. It makes no difference to what is found, up to the rounding of a BLAS
        that counts its threads. They work on the same device, with the same dtype.
    path : path, optional
        A folder in which every trial is noted as soon as it ends. A search that is started again
        with it, with the same data, leaves out those that are done, and tries again those that
        failed. One search at a time works in a folder.
    on_error : {"record", "raise"}
        Whether an error in a trial, such as NonFiniteError, is noted, or ends the search.
    keep_model : bool
        Whether ``results.best_model`` is kept, for :meth:`fit`.
    verbose : {0, 1, 2}
        Nothing, a progress bar (on a terminal), or a line a trial.

    Notes
    -----
    Ctrl-C ends a search; the results are those of the trials that have ended, and a trial in which
    it was pressed is none of them.

    Examples
    --------
    >>> from xpnn.search import GridSearch, Hyperparameters
    >>> space = Hyperparameters(a=[1, 2, 3], b=[0.0, 0.5])
    >>> results = GridSearch(lambda hp: (hp.a - 2) ** 2 + hp.b, space, mode="min").run()
    >>> results.best.setting
    Setting(a=2, b=0.0)
    >>> print(results)
    trial  a    b  score
        2  2    0      0
        3  2  0.5    0.5
        0  1    0      1
        4  3    0      1
        1  1  0.5    1.5
        5  3  0.5    1.5
    6 of 6 trials; smallest score first

    With models and data:

    >>> import xpnn
    >>> from xpnn import datasets, layers, optim
    >>> def build(hp):
    ...     model = xpnn.Sequential([layers.Flatten(), layers.Dense(10)])
    ...     model.compile("cross_entropy", optim.Adam(hp.lr), metrics=["accuracy"])
    ...     return model
    >>> x, y = datasets.load_digits()
    >>> search = GridSearch(build, {"lr": [0.1, 0.001]}, monitor="val_accuracy")
    >>> search.fit(x[:400], y[:400], validation_split=0.25, epochs=2).best.setting
    Setting(lr=0.1)
    """

    def settings(self) -> list[Setting]:
        return list(self.space)


class RandomSearch(Search):
    """Try settings that are drawn at random.

    For a few hyperparameters that matter among many it finds good values with far fewer trials than
    a grid (Bergstra and Bengio, "Random search for hyper-parameter optimization", JMLR 2012).

    Parameters
    ----------
    function, space
        As for :class:`GridSearch`; ranges may be continuous.
    n : int
        The number of trials. A search with more of them begins with the same ones, and goes on in
        the same folder.
    seed : int
        Of the settings, and of the trials.
    **options
        As for :class:`GridSearch`.

    Examples
    --------
    >>> from xpnn.search import LogUniform, RandomSearch
    >>> search = RandomSearch(lambda hp: abs(hp.lr - 0.01), {"lr": LogUniform(1e-4, 1)}, n=50,
    ...                       mode="min")
    >>> 0.005 < search.run().best.setting.lr < 0.02
    True
    """

    def __init__(
        self,
        function: Callable[[Setting], Any],
        space: Hyperparameters | Mapping[str, Any],
        *,
        n: int = 20,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(function, space, seed=seed, **options)
        self.n = whole(self, "n", n, least=1)

    def settings(self) -> list[Setting]:
        return self.space.sample(self.n, self.seed)
