"""Gradient descent, with momentum."""

from __future__ import annotations

from typing import Any

from xpnn.errors import ConfigError
from xpnn.optim.base import Optimizer
from xpnn.optim.config import flag, number
from xpnn.optim.slots import State

__all__ = ["SGD"]

Array = Any


class SGD(Optimizer):
    r"""Stochastic gradient descent, with momentum and Nesterov momentum.

    .. math::
        v_t &= \mu v_{t-1} + (1 - \tau) g_t, \qquad v_1 = g_1 \\
        p_t &= p_{t-1} - \alpha v_t
        \quad\text{or, Nesterov,}\quad p_t = p_{t-1} - \alpha (g_t + \mu v_t)

    Without momentum, :math:`p_t = p_{t-1} - \alpha g_t`.

    Parameters
    ----------
    lr : float or schedule
        :math:`\alpha`.
    momentum : float
        :math:`\mu`, in [0, 1).
    nesterov : bool
        Whether to look ahead along the velocity.
    weight_decay : float
        Adds ``weight_decay * p`` to the gradient.
    dampening : float
        :math:`\tau`, in [0, 1]: how much of the gradient is left out of the velocity.
    clip_value, clip_norm, clip_global_norm : float, optional
        As for :class:`Optimizer`.

    Notes
    -----
    This is PyTorch's variant: the learning rate stands outside the velocity, so that a change of it
    acts at once, and the first velocity is the first gradient. In Sutskever et al. (2013) and in
    Keras the velocity contains the learning rate; at a constant rate the two take the same steps.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl, G. Hinton: On the importance of initialization and momentum
    in deep learning. ICML 2013.

    Examples
    --------
    >>> import xpnn
    >>> from xpnn import optim
    >>> w = xpnn.Tensor([4.0], requires_grad=True)
    >>> optimizer = optim.SGD(lr=0.25, momentum=0.5)
    >>> for _ in range(2):
    ...     (w * w).backward()
    ...     optimizer.step([w])
    >>> w
    Tensor([0.], dtype=float32, requires_grad=True)
    """

    elementwise = True

    def __init__(
        self,
        lr: Any = 0.01,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        dampening: float = 0.0,
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
        self.momentum = number(self, "momentum", momentum, below=1)
        self.nesterov = flag(self, "nesterov", nesterov)
        self.dampening = number(self, "dampening", dampening, upto=1)
        if nesterov and not (momentum and not dampening):
            msg = (
                "SGD: 'nesterov' needs momentum > 0 and dampening = 0,"
                f" got momentum={momentum!r} and dampening={dampening!r}."
            )
            raise ConfigError(msg)

    def state_names(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def rule(
        self, xp: Any, lr: float, step: int, p: Array, g: Array, state: State
    ) -> tuple[Array, State]:
        if not self.momentum:
            return p - lr * g, {}
        gain = 1.0 if step == 1 else 1 - self.dampening  # the velocity before is 0: v = g
        v = self.momentum * state["velocity"] + (g if gain == 1.0 else gain * g)
        ahead = g + self.momentum * v if self.nesterov else v
        return p - lr * ahead, {"velocity": v}
