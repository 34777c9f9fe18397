"""Schedules that are functions of the step."""

from __future__ import annotations

import math
from itertools import pairwise

from xpnn.errors import ConfigError
from xpnn.optim.config import choice, flag, number, whole
from xpnn.optim.schedules.base import Schedule

__all__ = [
    "Constant",
    "CosineWarmup",
    "Exponential",
    "Noam",
    "OneCycle",
    "Step",
]


class Constant(Schedule):
    """The same learning rate at every step.

    Parameters
    ----------
    lr : float

    Examples
    --------
    >>> from xpnn.optim import schedules
    >>> schedules.Constant(0.1)(1000)
    0.1
    """

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = number(self, "lr", lr)

    def __call__(self, step: int) -> float:
        return self.lr


class Step(Schedule):
    r"""A learning rate that falls by a factor every so many steps.

    .. math::
        \alpha_t = \alpha\, \gamma^{\lfloor (t - 1) / s \rfloor}

    Parameters
    ----------
    lr : float
        :math:`\alpha`, of the first s steps.
    step_size : int
        s.
    gamma : float
        :math:`\gamma`.

    Notes
    -----
    PyTorch's ``StepLR``, which counts its steps from 0.

    Examples
    --------
    >>> from xpnn.optim import schedules
    >>> schedule = schedules.Step(0.5, step_size=10, gamma=0.5)
    >>> schedule(10), schedule(11)
    (0.5, 0.25)
    """

    def __init__(self, lr: float, step_size: int, gamma: float = 0.1) -> None:
        self.lr = number(self, "lr", lr)
        self.step_size = whole(self, "step_size", step_size, 1)
        self.gamma = number(self, "gamma", gamma)

    def __call__(self, step: int) -> float:
        return self.lr * self.gamma ** ((step - 1) // self.step_size)


class Exponential(Schedule):
    r"""A learning rate that falls exponentially, smoothly or in stairs.

    .. math::
        \alpha_t = \alpha\, d^{t / s}
        \quad\text{or, staircase,}\quad \alpha_t = \alpha\, d^{\lfloor t / s \rfloor}

    Parameters
    ----------
    lr : float
        :math:`\alpha`.
    stage_length : int
        s, the steps in which the rate falls by the factor d.
    decay : float
        d.
    staircase : bool
        Whether the rate is constant within a stage.

    Notes
    -----
    numpy-ml's formula, in which step 1 is a first step down already. Keras and PyTorch count from
    0: what they use at their step n, this gives at step n.

    Examples
    --------
    >>> from xpnn.optim import schedules
    >>> schedule = schedules.Exponential(0.5, stage_length=10, decay=0.25, staircase=True)
    >>> schedule(9), schedule(10)
    (0.5, 0.125)
    """

    def __init__(
        self,
        lr: float = 0.01,
        stage_length: int = 500,
        decay: float = 0.1,
        staircase: bool = False,
    ) -> None:
        self.lr = number(self, "lr", lr)
        self.stage_length = whole(self, "stage_length", stage_length, 1)
        self.decay = number(self, "decay", decay)
        self.staircase = flag(self, "staircase", staircase)

    def __call__(self, step: int) -> float:
        stage = step // self.stage_length if self.staircase else step / self.stage_length
        return self.lr * self.decay**stage


class Noam(Schedule):
    r"""The Transformer's: linear warm-up, then falling with the root of the step.

    .. math::
        \alpha_t = c\, d^{-1/2} \min(t^{-1/2},\; t\, w^{-3/2})

    Parameters
    ----------
    model_dim : int
        d, the width of the model.
    warmup_steps : int
        w; the rate is largest at this step.
    scale : float
        c.

    References
    ----------
    A. Vaswani et al.: Attention is all you need. NeurIPS 2017, section 5.3.

    Examples
    --------
    >>> from xpnn.optim import schedules
    >>> f"{schedules.Noam()(4000):.6e}"
    '6.987712e-04'
    """

    def __init__(self, model_dim: int = 512, warmup_steps: int = 4000, scale: float = 1.0) -> None:
        self.model_dim = whole(self, "model_dim", model_dim, 1)
        self.warmup_steps = whole(self, "warmup_steps", warmup_steps, 1)
        self.scale = number(self, "scale", scale)

    def __call__(self, step: int) -> float:
        slope = min(step**-0.5, step * self.warmup_steps**-1.5)
        return self.scale * self.model_dim**-0.5 * slope


class CosineWarmup(Schedule):
    r"""Linear warm-up, then half a cosine down to a final rate, which stays.

    .. math::
        \alpha_t = \begin{cases}
            \alpha\, t / w & t \le w \\
            \alpha_f + \tfrac12 (\alpha - \alpha_f)
                \bigl(1 + \cos \pi \tfrac{t - w}{T - w}\bigr) & w < t \le T \\
            \alpha_f & t > T
        \end{cases}

    Parameters
    ----------
    lr : float
        :math:`\alpha`, the largest rate.
    total_steps : int
        T.
    warmup_steps : int
        w, smaller than T; without warm-up, 0, the first step is the first on the cosine.
    final : float
        :math:`\alpha_f`.

    Notes
    -----
    The cosine is PyTorch's ``CosineAnnealingLR(T_max=T - w, eta_min=final)``; Loshchilov and Hutter
    restart it, here it ends.

    References
    ----------
    I. Loshchilov, F. Hutter: SGDR: Stochastic gradient descent with warm restarts. ICLR 2017.

    Examples
    --------
    >>> from xpnn.optim import schedules
    >>> schedule = schedules.CosineWarmup(1.0, total_steps=30, warmup_steps=10)
    >>> schedule(5), schedule(10), round(schedule(20), 9), schedule(30)
    (0.5, 1.0, 0.5, 0.0)
    """

    def __init__(
        self, lr: float, total_steps: int, warmup_steps: int = 0, final: float = 0.0
    ) -> None:
        self.lr = number(self, "lr", lr)
        self.total_steps = whole(self, "total_steps", total_steps, 1)
        self.warmup_steps = whole(self, "warmup_steps", warmup_steps)
        if self.warmup_steps >= self.total_steps:
            msg = (
                f"CosineWarmup: 'warmup_steps' must be below total_steps={self.total_steps},"
                f" got {warmup_steps!r}."
            )
            raise ConfigError(msg)
        self.final = number(self, "final", final)

    def __call__(self, step: int) -> float:
        if step <= self.warmup_steps:
            return self.lr * step / self.warmup_steps
        if step >= self.total_steps:
            return self.final
        part = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return _cosine(self.lr, self.final, part)


class OneCycle(Schedule):
    r"""Up to a large rate, and down to a tiny one: super-convergence.

    From :math:`\alpha / \text{div}` to :math:`\alpha` in the first part of the steps, then down to
    :math:`\alpha / (\text{div} \cdot \text{final div})`; in three phases the way down first leads
    back to the start, in as many steps as the way up took.

    Parameters
    ----------
    lr : float
        :math:`\alpha`, the largest rate.
    total_steps : int
        After them the rate stays at its final value.
    pct_start : float
        The part of the steps in which the rate rises, in (0, 1); in three phases, below 0.5.
    anneal_strategy : {"cos", "linear"}
        The form of every phase.
    div_factor, final_div_factor : float
        div, and final div.
    three_phase : bool
        Whether to take three phases.

    Notes
    -----
    PyTorch's ``OneCycleLR`` with ``cycle_momentum=False``, of which step n is the step n + 1 here;
    it counts its phases from 0, so that they end at the steps :math:`\text{pct} \cdot T`. PyTorch
    refuses to go on after ``total_steps``.

    References
    ----------
    L. N. Smith, N. Topin: Super-convergence. 2017.

    Examples
    --------
    >>> from xpnn.optim import schedules
    >>> schedule = schedules.OneCycle(1.0, total_steps=100)
    >>> [round(schedule(step), 9) for step in (1, 30, 100)]
    [0.04, 1.0, 4e-06]
    """

    def __init__(
        self,
        lr: float,
        total_steps: int,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        self.lr = number(self, "lr", lr)
        self.total_steps = whole(self, "total_steps", total_steps, 1)
        self.three_phase = flag(self, "three_phase", three_phase)
        most = 0.5 if self.three_phase else 1.0
        self.pct_start = number(self, "pct_start", pct_start, above=0, below=most)
        self.anneal_strategy = choice(self, "anneal_strategy", anneal_strategy, ("cos", "linear"))
        self.div_factor = number(self, "div_factor", div_factor, above=0)
        self.final_div_factor = number(self, "final_div_factor", final_div_factor, above=0)

    def __call__(self, step: int) -> float:
        start, total = self.lr / self.div_factor, self.total_steps
        rise = self.pct_start * total
        ends = [(1.0, start), (rise, self.lr)]  # step, rate
        if self.three_phase:
            ends.append((2 * rise - 1, start))
        ends.append((float(total), start / self.final_div_factor))
        step = min(step, total)
        # A phase that is shorter than a step is passed over.
        (t0, low), (t1, high) = next(
            (a, b) for a, b in pairwise(ends) if step <= b[0] and a[0] < b[0]
        )
        part = (step - t0) / (t1 - t0)
        if self.anneal_strategy == "linear":
            return low + (high - low) * part
        return _cosine(low, high, part)


def _cosine(start: float, end: float, part: float) -> float:
    """Return the point between two rates on half a cosine."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * part))
