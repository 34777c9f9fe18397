"""Scaling a loss, so that its gradients do not vanish in float16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpnn import backend, kernels, replay
from xpnn.backend import array_namespace, on_device_of, on_host, unwrap
from xpnn.errors import ConfigError, DataError, GraphError, NonFiniteError
from xpnn.optim.clipping import is_beside, moved_to
from xpnn.optim.config import number
from xpnn.optim.recording import carry
from xpnn.optim.slots import as_array
from xpnn.optim.trial import LATE, Trial, overflow

__all__ = ["LossScaler"]

Array = Any

_LARGEST = 2.0**32  # where all gradients are 0, nothing else would end the growth
_PATIENCE = 40  # steps on end; by then 2^16 has become 2^-24


class LossScaler:
    r"""Multiply a loss before ``backward``, and divide its gradients before the step.

    float16 has no number between 0 and 6e-8, which many gradients would be. The gradients of
    :math:`s L` are :math:`s` times as large. If one of them overflows, the step is not made, and
    :math:`s` is halved; after 2,000 good steps on end it is doubled.

    Parameters
    ----------
    init_scale : float
        :math:`s` at first.
    growth_factor, backoff_factor : float
        What it is multiplied with after so many good steps, and after an overflow.
    growth_interval : int
        After how many.

    Attributes
    ----------
    skipped : int
        How many steps were not made, as far as is known.

    Notes
    -----
    Nobody waits for a GPU: it finds out by itself whether a gradient overflowed, and then leaves
    parameters and state of the optimizer as they are, to the last bit. The optimizer counts the
    step, and takes it back when the host has read that it was skipped, at most two steps late
    (before the next one, with arrays of PyTorch and JAX). Meanwhile the GPU knows the count, so
    that every step has the rate and the bias correction of its own. ``state_dict()`` and a copy
    wait for the GPU. Where arrays lie on the host, the optimizer is not called at all.

    As PyTorch's ``GradScaler``, but for the update of the scale, which is part of ``step``.

    In NumPy an overflow is said in a RuntimeWarning too; ``numpy.errstate(over="ignore")`` around
    ``backward`` silences it.

    References
    ----------
    P. Micikevicius et al.: Mixed precision training. ICLR 2018.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> from xpnn import layers, losses, optim
    >>> x, y = np.ones((4, 3), np.float32), np.zeros((4, 1), np.float32)
    >>> net, optimizer, scaler = layers.Dense(1), optim.SGD(0.05), optim.LossScaler(2.0**10)
    >>> for _ in range(50):
    ...     with xpnn.autocast("float16"):
    ...         loss = losses.mean_squared_error(net(x), y)
    ...     scaler.scale(loss).backward()
    ...     scaler.step(optimizer, net)
    >>> float(loss) < 1e-4
    True
    """

    def __init__(
        self,
        init_scale: float = 2.0**16,
        *,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
    ) -> None:
        self.init_scale = number(self, "init_scale", init_scale, above=0)
        self.growth_factor = number(self, "growth_factor", growth_factor, above=1)
        self.backoff_factor = number(self, "backoff_factor", backoff_factor, above=0, below=1)
        if type(growth_interval) is not int or growth_interval < 1:
            msg = f"LossScaler: 'growth_interval' must be at least 1, got {growth_interval!r}."
            raise ConfigError(msg)
        self.growth_interval = growth_interval
        self.skipped = 0
        self.steps = 0  # that were tried
        self._on_end = 0  # steps skipped, one after the other
        self._scale: Array = self.init_scale  # an array, once it is known where
        self._good: Array = 0  # steps since the scale was changed
        self._used: Array = None  # the scale of the last loss
        self._trials: list[Trial] = []  # the last steps, if it is not known whether they were made
        self._workspace: dict[Any, Any] = {}  # what kernels keep between steps

    def scale(self, loss: Any) -> Any:
        """Return a loss, of one element, times the scale.

        Parameters
        ----------
        loss : Tensor
            In the inside of ``autocast`` or after it; of several, each is scaled.
        """
        self._used = self._place(unwrap(loss))
        return loss * self._used

    def step(self, optimizer: Any, model: Any) -> None:
        """Update the parameters of a model as ``optimizer.step(model)`` does, if all is finite.

        The gradients, which are those of a scaled loss, are used up.

        Parameters
        ----------
        optimizer : Optimizer
        model : Layer or iterable of Parameter

        Raises
        ------
        GraphError
            If no loss was scaled, or there are no gradients.
        NonFiniteError
            If 40 steps on end were skipped: the scale is not the cause.
        """
        if self._used is None:
            msg = "LossScaler.step: no loss was scaled. Call scaler.scale(loss).backward() before."
            raise GraphError(msg)
        counted = bool(self._trials) and self._trials[-1].skips is not None
        self._settle(LATE if counted and replay.current() is None else 0)
        optimizer._step(model, lambda params, grads: self._update(optimizer, params, grads))

    def _update(self, optimizer: Any, params: Any, grads: list[Any]) -> None:
        flag = overflow([unwrap(g) for g in grads if g is not None], self._workspace)
        trial, scale, good = self._judged(optimizer, flag)
        if (made := replay.current()) is not None:
            self._record(made, optimizer, params, grads, trial, scale, good)
            return
        if on_host(flag):
            if not trial.skipped():
                optimizer._update(params, grads, Trial(trial.factor))
        else:
            trial.send()
            optimizer._update(params, grads, trial)
        self._scale, self._good = scale, good
        self._count(trial)
        if on_host(flag):
            self._settle()

    def _count(self, trial: Trial) -> None:
        self.steps += 1
        self._trials.append(trial)

    def _record(
        self,
        made: replay.Recording,
        optimizer: Any,
        params: Any,
        grads: list[Any],
        trial: Trial,
        scale: Array,
        good: Array,
    ) -> None:
        """Take a step that is recorded: each replay is a trial of its own."""
        made.looks.append(lambda: self._settle(LATE))
        made.renewals.append(lambda: self._count(trial.anew()))
        optimizer._update(params, grads, trial)
        carry(made, self, "_scale", scale)
        carry(made, self, "_good", good)
        made.afterwards.append(lambda: trial.again.send())

    def _judged(self, optimizer: Any, flag: Array) -> tuple[Trial, Array, Array]:
        """Return what an optimizer is told of a step; and the scale and the good steps after it."""
        self._place(flag)
        used = moved_to(flag, self._used)
        native = getattr(kernels.load(array_namespace(flag).__name__), "adapt_scale", None)
        with on_device_of(flag):
            if native is None:
                return Trial(as_array(1.0 / used), flag), *self._adapted(flag)
            skips = self._skips_of(optimizer, flag)
            factor, (scale, good, after) = native(
                flag, used, (self._scale, self._good, skips),
                growth=self.growth_factor, backoff=self.backoff_factor,
                interval=self.growth_interval, largest=_LARGEST,
            )  # fmt: skip
        return Trial(factor, flag, (skips, after)), scale, good

    def _skips_of(self, optimizer: Any, flag: Array) -> Array:
        """Return how many steps of an optimizer were skipped, as the device of a flag counts."""
        trials = optimizer._trials
        if trials.skips is None or not is_beside(flag, trials.skips):
            _refuse_first()
            optimizer._settle()
        return trials.place(flag)

    def _adapted(self, flag: Array) -> tuple[Array, Array]:
        xp = array_namespace(flag)
        one = xp.ones_like(self._good)
        good = xp.where(flag, one - one, self._good + one)
        grown = xp.minimum(self._scale * self.growth_factor, xp.full_like(self._scale, _LARGEST))
        due = good >= self.growth_interval
        scale = xp.where(due, grown, self._scale)
        scale = xp.where(flag, self._scale * self.backoff_factor, scale)
        return as_array(scale), as_array(xp.where(due, one - one, good))

    def _place(self, x: Array) -> Array:
        """Return the scale on the device of an array, where it stays."""
        home = backend.device_of(x)
        if not hasattr(self._scale, "shape") or backend.device_of(self._scale) != home:
            _refuse_first()
            self._put(self._scale, self._good, home)
        return self._scale

    def _put(self, scale: Any, good: Any, home: Any) -> None:
        self._scale = backend.asarray(scale, device=home, dtype="float32")
        self._good = backend.asarray(good, device=home, dtype="int32")

    def _settle(self, late: int = 0) -> None:
        """Count the steps that were skipped; wait for none of the last ``late``."""
        while self._trials and (len(self._trials) > late or self._trials[0].is_known()):
            self._note(self._trials.pop(0).skipped())

    def _note(self, skipped: bool) -> None:
        if not skipped:
            self._on_end = 0
            return
        self.skipped += 1
        self._on_end += 1
        if self._on_end >= _PATIENCE:
            self._on_end = 0
            msg = (
                f"LossScaler: the gradients of {_PATIENCE} steps on end were infinite or NaN, and"
                f" the scale has come down to {float(self._scale):g}. Usual causes: a division by"
                " zero or a root of zero in the model, or activations too large for float16; use"
                " bfloat16, or leave what is large out with autocast(enabled=False)."
            )
            raise NonFiniteError(msg)

    # ---------------------------------------------------------------------------- configuration

    def state_dict(self) -> dict[str, Any]:
        """Return what a run needs to go on, as JSON values; waits for a GPU."""
        self._settle()
        return {
            "scale": float(self._scale),
            "good": int(self._good),
            "skipped": self.skipped,
            "on_end": self._on_end,
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken.

        Raises
        ------
        DataError
            If a value is missing, unexpected, or no scale or count.
        """
        expected = self.state_dict().keys()
        if state.keys() != expected:
            msg = f"LossScaler.load_state_dict: expected {', '.join(expected)}, got {dict(state)}."
            raise DataError(msg)
        scale, *counts = (state[name] for name in expected)
        if type(scale) is not float or not 0 < scale < float("inf"):
            msg = f"LossScaler.load_state_dict: {scale!r} is no scale."
            raise DataError(msg)
        if odd := [n for n in counts if type(n) is not int or n < 0]:
            msg = f"LossScaler.load_state_dict: {odd[0]!r} is no count of steps."
            raise DataError(msg)
        good, self.skipped, self._on_end, self.steps = counts
        if hasattr(self._scale, "shape"):  # it stays where it is
            self._put(scale, good, backend.device_of(self._scale))
        else:
            self._scale, self._good = scale, good
        self._used = None

    def __getstate__(self) -> dict[str, Any]:
        self._settle()
        return {**vars(self), "_trials": [], "_workspace": {}}

    def __repr__(self) -> str:
        given = "init_scale growth_factor backoff_factor growth_interval".split()
        return f"LossScaler({', '.join(f'{name}={getattr(self, name)!r}' for name in given)})"


def _refuse_first() -> None:
    """Raise an error in a step that is recorded, which finds what it counts on the device."""
    if replay.current() is not None:
        msg = (
            "LossScaler: a captured step is its first one with this optimizer, or on this device."
            " Use the same scaler from the first call on."
        )
        raise GraphError(msg)
