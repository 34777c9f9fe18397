"""Lion: steps of one size, along the sign of the momentum."""

from __future__ import annotations

from typing import Any

from xpnn.optim.base import Optimizer
from xpnn.optim.config import number
from xpnn.optim.slots import State

__all__ = ["Lion"]

Array = Any


class Lion(Optimizer):
    r"""Lion: every coordinate moves by the learning rate, along the sign of an averaged gradient.

    .. math::
        c_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        p_t &= p_{t-1} - \alpha (\operatorname{sign} c_t + \lambda p_{t-1}) \\
        m_t &= \beta_2 m_{t-1} + (1 - \beta_2) g_t

    Parameters
    ----------
    lr : float or schedule
        :math:`\alpha`, the size of a step; three to ten times smaller than for AdamW.
    beta1, beta2 : float
        How much of the momentum is in the step, and how slowly it changes, in [0, 1).
    weight_decay : float
        :math:`\lambda`, decoupled; three to ten times larger than for AdamW.
    clip_value, clip_norm, clip_global_norm : float, optional
        As for :class:`Optimizer`.

    Notes
    -----
    Algorithm 2 of the paper, and its defaults. It keeps one array a parameter, half as much as
    Adam. The sign of 0 is 0. PyTorch and the seeds have no Lion.

    References
    ----------
    X. Chen et al.: Symbolic discovery of optimization algorithms. NeurIPS 2023.

    Examples
    --------
    >>> import xpnn
    >>> from xpnn import optim
    >>> w = xpnn.Tensor([4.0, -2.0, 0.0])
    >>> optim.Lion(lr=0.5).update([w], [xpnn.Tensor([3.0, -0.1, 0.0])])
    >>> w
    Tensor([ 3.5, -1.5,  0. ], dtype=float32)
    """

    decoupled = True
    elementwise = True

    def __init__(
        self,
        lr: Any = 1e-4,
        *,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        clip_global_norm: float | None = None,
    ) -> None:
        super().__init__(
            lr,
            weight_decay=weight_decay,
            clip_value=clip_value,
            clip_norm=clip_norm,
            clip_global_norm=clip_global_norm,
        )
        self.beta1 = number(self, "beta1", beta1, below=1)
        self.beta2 = number(self, "beta2", beta2, below=1)

    def state_names(self) -> tuple[str, ...]:
        return ("m",)

    def rule(
        self, xp: Any, lr: float, step: int, p: Array, g: Array, state: State
    ) -> tuple[Array, State]:
        c = self.beta1 * state["m"] + (1 - self.beta1) * g
        m = self.beta2 * state["m"] + (1 - self.beta2) * g
        return p - lr * xp.sign(c), {"m": m}
