"""Schedules that look at losses, and lower the learning rate when those stop falling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from xpnn import backend
from xpnn.errors import DataError
from xpnn.optim.config import choice, number, whole
from xpnn.optim.schedules.base import Schedule

__all__ = ["King", "ReduceOnPlateau", "loss_of", "steps_without_decrease"]

Array = Any


class ReduceOnPlateau(Schedule):
    r"""A learning rate that falls by a factor when a value stops improving.

    Parameters
    ----------
    lr : float
        The rate at the start.
    mode : {"min", "max"}
        Which way is better.
    factor : float
        What the rate is multiplied with, in [0, 1).
    patience : int
        How many values without improvement are waited for; the next one lowers the rate.
    threshold : float
        By how much a value must be better than the best.
    threshold_mode : {"rel", "abs"}
        Whether the threshold is a part of the best value, or a difference.
    cooldown : int
        For how many values after a fall none counts as bad.
    min_lr : float
        The rate does not fall below it.
    epsilon : float
        A smaller change of the rate is not made.

    Attributes
    ----------
    current : float
        The rate now.
    best : float or None
        The best value so far.

    Notes
    -----
    PyTorch's ``ReduceLROnPlateau``. In ``fit`` it sees ``val_loss`` after every epoch, or ``loss``
    where there is no validation data; in a loop of one's own, give it what it shall see with
    :meth:`xpnn.optim.Optimizer.observe`, which waits for the device.

    Examples
    --------
    >>> from xpnn.optim import schedules
    >>> schedule = schedules.ReduceOnPlateau(0.5, factor=0.5, patience=1)
    >>> for loss in [1.0, 0.8, 0.9, 0.9]:
    ...     schedule.observe(loss)
    >>> schedule(step=5)
    0.25
    """

    watches = "epoch"
    remembers = ("current", "best", "bad", "cooling")

    def __init__(
        self,
        lr: float = 0.01,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        epsilon: float = 1e-8,
    ) -> None:
        self.lr = number(self, "lr", lr)
        self.mode = choice(self, "mode", mode, ("min", "max"))
        self.factor = number(self, "factor", factor, below=1)
        self.patience = whole(self, "patience", patience)
        self.threshold = number(self, "threshold", threshold)
        self.threshold_mode = choice(self, "threshold_mode", threshold_mode, ("rel", "abs"))
        self.cooldown = whole(self, "cooldown", cooldown)
        self.min_lr = number(self, "min_lr", min_lr)
        self.epsilon = number(self, "epsilon", epsilon)
        self.current = self.lr
        self.best: float | None = None
        self.bad = 0  # values in a row that were no better
        self.cooling = 0  # values for which none counts as bad

    def __call__(self, step: int) -> float:
        return self.current

    def observe(self, loss: Any) -> None:
        value = float(loss_of(loss))
        if self._is_better(value):
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.cooling:
            self.cooling, self.bad = self.cooling - 1, 0
        if self.bad > self.patience:
            lower = max(self.current * self.factor, self.min_lr)
            if self.current - lower > self.epsilon:
                self.current = lower
            self.cooling, self.bad = self.cooldown, 0

    def _is_better(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.best is None:
            return sign * value > -math.inf  # NaN never is
        if self.threshold_mode == "rel":
            return sign * value > sign * self.best * (1 + sign * self.threshold)
        return sign * value > sign * self.best + self.threshold


class King(Schedule):
    r"""dlib's: the learning rate falls while the losses show no downward slope.

    Over the last n losses, a line is fitted by least squares. With its slope :math:`b` and the
    standard error :math:`s_b` of the slope, the slope is negative with the probability
    :math:`\Phi(-b / s_b)`; the losses are not decreasing if that is below 0.51. If this holds for
    some :math:`n > \text{patience}`, and again without the highest tenth of the losses (so that no
    outlier speaks), the rate is multiplied with ``decay``, after every loss anew.

    Parameters
    ----------
    lr : float
        The rate at the start.
    patience : int
        How many steps without decrease are waited for, at least 2; the last
        :math:`\lceil 1.1 (\text{patience} + 1) \rceil` losses are kept.
    decay : float
        What the rate is multiplied with.
    every : int
        How many losses are kept on the device before they are read together: reading waits for the
        device, and the rate changes up to this many steps late. 1 reads every loss at once.

    Attributes
    ----------
    current : float
        The rate now.

    Notes
    -----
    numpy-ml's variant, in which a small decay acts at every step while the losses are flat. dlib
    multiplies once, by 0.1, and then forgets losses, so that it starts to wait anew. The slopes are
    taken in float64 on the host. In ``fit`` it sees the loss of every step.

    References
    ----------
    D. King: Automatic learning rate scheduling that really works. 2018,
    http://blog.dlib.net/2018/02/automatic-learning-rate-scheduling-that.html

    Examples
    --------
    >>> from xpnn.optim import schedules
    >>> schedule = schedules.King(0.5, patience=10, decay=0.5, every=1)
    >>> for loss in range(20, 0, -1):  # falls, and then is 1 for ever
    ...     schedule.observe(loss)
    >>> schedule(step=21)
    0.5
    >>> for _ in range(12):
    ...     schedule.observe(1.0)
    >>> schedule(step=33) < 0.5
    True
    """

    watches = "step"
    remembers = ("current", "losses", "waiting")

    def __init__(
        self, lr: float = 0.01, patience: int = 1000, decay: float = 0.99, every: int = 10
    ) -> None:
        self.lr = number(self, "lr", lr)
        self.patience = whole(self, "patience", patience, 2)
        self.decay = number(self, "decay", decay, upto=1)
        self.every = whole(self, "every", every, 1)
        self.current = self.lr
        self.losses: list[float] = []
        self.waiting: list[Any] = []  # arrays that were not read yet

    def __call__(self, step: int) -> float:
        return self.current

    def observe(self, loss: Any) -> None:
        self.waiting.append(loss_of(loss))
        if len(self.waiting) < self.every:
            return
        for value in self.waiting:
            self.losses.append(float(value))
            del self.losses[: -math.ceil(1.1 * (self.patience + 1))]
            if self._is_flat(0.0) and self._is_flat(0.1):
                self.current *= self.decay
        self.waiting = []

    def _is_flat(self, without: float) -> bool:
        if len(self.losses) <= self.patience:
            return False
        return steps_without_decrease(self.losses, without) > self.patience

    def state_dict(self) -> dict[str, Any]:
        # They wait after loading too, so that the rate changes at the same steps.
        return {**super().state_dict(), "waiting": [float(loss) for loss in self.waiting]}


def steps_without_decrease(losses: Sequence[float], without: float = 0.0) -> int:
    r"""Return the largest n for which the last n losses do not decrease.

    They do not if the probability that the slope of their least-squares line is negative is below
    0.51; see :class:`King`. Fewer than 3 losses have no slope, and count as decreasing, and so do
    losses among which one is not finite.

    Parameters
    ----------
    losses : sequence of float
        In the order in which they came.
    without : float
        The part of the losses, the highest ones, that is left out.

    Examples
    --------
    >>> from xpnn.optim.schedules.by_loss import steps_without_decrease
    >>> steps_without_decrease([5.0, 4.0, 3.0, 2.0, 1.0])
    0
    >>> steps_without_decrease([9.0, 1.0, 1.0, 1.0, 1.0])
    4
    """
    device = backend.as_device("cpu")
    xp = device.xp
    y = xp.flip(backend.asarray(list(losses), device=device, dtype="float64"))
    if y.shape[0] < 3 or not xp.all(xp.isfinite(y)):
        return 0
    # 1 or 0: is the loss counted?
    w = xp.astype(y <= xp.sort(y)[int((1 - without) * (y.shape[0] - 1))], xp.float64)
    t = xp.arange(y.shape[0], dtype=xp.float64)  # back in time
    y = y - y[0]  # equal losses become exact zeros
    n, *sums = map(xp.cumulative_sum, (w, w * t, w * y, w * t * t, w * t * y, w * y * y))
    enough = n >= 3
    length = (xp.arange(y.shape[0]) + 1)[enough]
    n, st, sy, stt, sty, syy = (s[enough] for s in (n, *sums))
    ctt, cty, cyy = stt - st * st / n, sty - st * sy / n, syy - sy * sy / n
    slope = cty / ctt  # back in time, so positive for losses that decrease
    error = xp.sqrt(xp.maximum(cyy - slope * cty, 0.0) / ((n - 2) * ctt))
    flat = length[slope <= _QUANTILE * error]
    return int(flat[-1]) if flat.shape[0] else 0


_QUANTILE = 0.025068908258711057  # of the normal distribution, at 0.51


def loss_of(loss: Any) -> Any:
    """Return a loss as a number, or as a raw array of no axes: nothing is read.

    Raises
    ------
    DataError
        If it is not one number.
    """
    raw = backend.unwrap(loss)
    if not hasattr(raw, "shape"):
        if isinstance(raw, (int, float)):
            return float(raw)
    elif raw.shape == ():
        return raw
    elif all(n == 1 for n in raw.shape):
        return backend.array_namespace(raw).reshape(raw, ())
    got = f"shape {tuple(raw.shape)}" if hasattr(raw, "shape") else type(raw).__name__
    msg = f"observe: expected a loss that is one number, got {got}."
    raise DataError(msg)
