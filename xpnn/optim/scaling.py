"""Scaling a loss, so that its gradients do not vanish in float16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpnn import backend
from xpnn.backend import array_namespace, on_device_of, on_host, unwrap
from xpnn.errors import ConfigError, DataError, GraphError, NonFiniteError
from xpnn.optim import recording
from xpnn.optim.config import number
from xpnn.optim.slots import as_array
from xpnn.optim.trial import Trial, overflow

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
    step, and takes it back when the next one is made; so do ``state_dict()`` and a copy, which wait
    for the GPU. Where arrays lie on the host, the optimizer is not called at all.

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
        self._trial: Trial | None = None  # the last step, if it is not known whether it was made

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
        recording.refuse("LossScaler")
        if self._used is None:
            msg = "LossScaler.step: no loss was scaled. Call scaler.scale(loss).backward() before."
            raise GraphError(msg)
        self._settle()
        optimizer._step(model, lambda params, grads: self._update(optimizer, params, grads))

    def _update(self, optimizer: Any, params: Any, grads: list[Any]) -> None:
        flag = overflow([unwrap(g) for g in grads if g is not None])
        with on_device_of(self._used):
            factor = as_array(1.0 / self._used)
        if on_host(flag):
            trial = Trial(factor, flag)
            if not trial.skipped():
                optimizer._update(params, grads, Trial(factor))
        else:
            trial = Trial(factor, flag)
            optimizer._update(params, grads, trial)
        self.steps += 1
        self._trial = trial
        self._adapt(flag)
        if on_host(flag):
            self._settle()

    def _adapt(self, flag: Array) -> None:
        """Change the scale after a step, on the device."""
        self._place(flag)
        with on_device_of(flag):
            self._scale, self._good = self._adapted(flag)

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
            self._scale = backend.asarray(self._scale, device=home, dtype="float32")
            self._good = backend.asarray(self._good, device=home, dtype="int32")
        return self._scale

    def _settle(self) -> None:
        """Count the last step, if it was skipped."""
        trial, self._trial = self._trial, None
        if trial is None:
            return
        if not trial.skipped():
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
        self._scale, self._used, self._trial = scale, None, None
        self._good, self.skipped, self._on_end, self.steps = counts

    def __getstate__(self) -> dict[str, Any]:
        self._settle()
        return vars(self)

    def __repr__(self) -> str:
        given = "init_scale growth_factor backoff_factor growth_interval".split()
        return f"LossScaler({', '.join(f'{name}={getattr(self, name)!r}' for name in given)})"
