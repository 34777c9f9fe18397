"""How far a search has come: its trials, the best model, and the bar that shows it."""

from __future__ import annotations

import contextvars
import copy
import sys
from collections.abc import Sequence
from typing import Any

from xpnn import backend, random
from xpnn.errors import ConfigError, DataError
from xpnn.search.files import Folder
from xpnn.search.results import Results, Trial
from xpnn.search.space import Setting, described, trial_seeds
from xpnn.search.trial import Job, Kept, Outcome

__all__ = ["Progress", "State"]


class State:
    """The trials that have ended, in memory and in the folder if there is one."""

    def __init__(
        self, job: Job, settings: Sequence[Setting], seed: int, folder: Folder | None
    ) -> None:
        self.job, self.settings, self.seed, self.folder = job, settings, seed, folder
        self.monitor, self.mode = job.monitor or "", job.mode
        self.done: dict[int, Trial] = {}
        self.kept: tuple[int, Kept] | None = None
        if folder is not None:
            self._resume(folder)

    def _resume(self, folder: Folder) -> None:
        for number, record in folder.read().items():
            if number >= len(self.settings) or record["error"] is not None:
                continue  # a smaller n than before; or it failed, and is tried again
            if record["setting"] != _plain(self.settings[number]):
                msg = f"{folder.path}: trial {number} was of another setting, {record['setting']}."
                raise DataError(msg)
            self.monitor, self.mode = record["monitor"], record["mode"]
            self.done[number] = self._trial(number, record["values"], record["score"], None)
        if self.job.keep_model and (found := folder.read_model()) is not None:
            arrays, about = found
            self.kept = about.pop("trial"), Kept(arrays, about)

    def add(self, outcome: Outcome) -> Trial:
        """Note what came of a trial, and keep its model if it is the best."""
        number, error = outcome.number, outcome.error
        good = [t for t in self.done.values() if t.error is None]
        if outcome.wrong and not good:
            raise ConfigError(error)
        if error is None and good and (outcome.monitor, outcome.mode) != (self.monitor, self.mode):
            error = f"there is no value {self.monitor!r}, by which the others are compared"
        elif error is None:
            self.monitor, self.mode = outcome.monitor, outcome.mode
        trial = self._trial(number, outcome.values, outcome.score, error)
        best = min([*good, trial], key=self._rank)
        self.done[number] = trial
        if error is None and outcome.kept is not None and best is trial:
            self.kept = number, outcome.kept
            if self.folder is not None:  # before the line: what is noted as done has its model
                self.folder.write_model(number, *outcome.kept)
        if self.folder is not None:
            self.folder.write(
                {
                    "trial": number,
                    "setting": _plain(trial.setting),
                    "seed": trial.seed,
                    "monitor": outcome.monitor,
                    "mode": outcome.mode,
                    "score": trial.score,
                    "values": trial.values,
                    "error": error,
                }
            )
        return trial

    def _trial(self, number: int, values: Any, score: float | None, error: str | None) -> Trial:
        seed = trial_seeds(self.seed, number)[0]
        if error is not None:
            values, score = {}, None
        return Trial(number, self.settings[number], seed, values, score, error)

    def _rank(self, trial: Trial) -> tuple[bool, float, int]:
        score = trial.score or 0.0
        return trial.error is not None, -score if self.mode == "max" else score, trial.number

    def best(self) -> Trial | None:
        """Return the best trial so far, if one has not failed."""
        good = [t for t in self.done.values() if t.error is None]
        return min(good, key=self._rank, default=None)

    def results(self, interrupted: bool) -> Results:
        """Return the trials as what a search returns."""
        return Results(
            self.done.values(),
            monitor=self.monitor or "score",
            mode="min" if self.mode == "auto" else self.mode,
            total=len(self.settings),
            interrupted=interrupted,
            make_best=self._make_best if self.job.keep_model else None,
        )

    def _make_best(self, number: int) -> Any:
        if self.kept is None or self.kept[0] != number:
            msg = f"the model of trial {number} was not kept: that was without keep_model=True."
            raise ConfigError(msg)
        kept = self.kept[1]

        def make() -> Any:
            backend.set_dtype(self.job.dtype)
            random.set_seed(trial_seeds(self.seed, number)[0])
            with backend.device(self.job.device):
                model = self.job.function(copy.deepcopy(self.settings[number]))
                model._rebuild(kept.about["shapes"], kept.about["dtypes"])
            model.load_state_dict(kept.arrays)
            return model

        return contextvars.copy_context().run(make)


class Progress:
    """A bar on a terminal, or lines."""

    def __init__(self, who: str, verbose: int, total: int, done: int) -> None:
        self.verbose, self.total = verbose, total
        self.bar: Any = None
        if verbose == 1 and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=done, desc=who, unit="trial")
        if verbose > 1 and done:
            print(f"{who}: {done} of {total} trials were done before", flush=True)

    def show(self, trial: Trial, state: State) -> None:
        """Show that a trial has ended."""
        best = state.best()
        if self.bar is not None:
            if best is not None:
                self.bar.set_postfix({f"best {state.monitor}": f"{best.score:.4g}"}, refresh=False)
            self.bar.update()
        if self.verbose > 1:
            setting = " ".join(f"{k}={v}" for k, v in trial.setting.items())
            found = "  ".join(f"{k} {v:.4g}" for k, v in trial.values.items())
            print(
                f"trial {trial.number} ({len(state.done)}/{self.total})  {setting}  "
                f"{found if trial.error is None else f'failed: {trial.error}'}",
                flush=True,
            )

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()


def _plain(setting: Setting) -> dict[str, Any]:
    return {name: described(name, value) for name, value in setting.items()}
