"""The kin of Adam: Adamax, NAdam, RAdam."""

from __future__ import annotations

import math
from typing import Any

from xpnn.optim.base import Optimizer
from xpnn.optim.config import flag, number
from xpnn.optim.slots import State

__all__ = ["Adamax", "NAdam", "RAdam"]

Array = Any


class Adamax(Optimizer):
    r"""Adamax: Adam with the maximum norm, a decaying largest gradient in place of the mean square.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        u_t &= \max(\beta_2 u_{t-1},\; |g_t| + \epsilon) \\
        p_t &= p_{t-1} - \frac{\alpha}{1 - \beta_1^t}\, \frac{m_t}{u_t}

    Parameters
    ----------
    lr : float or schedule
        :math:`\alpha`.
    beta1, beta2 : float
        Decay of the running mean and of the maximum, in [0, 1).
    epsilon : float
        Bounds the step where gradients are tiny.
    weight_decay : float
        Adds ``weight_decay * p`` to the gradient.
    clip_value, clip_norm, clip_global_norm : float, optional
        As for :class:`Optimizer`.

    Notes
    -----
    PyTorch's variant, epsilon within the maximum. npdl and yadll have :math:`m / (u + \epsilon)`;
    the paper's algorithm 2 has no epsilon.

    References
    ----------
    D. P. Kingma, J. Ba: Adam: A method for stochastic optimization. ICLR 2015, section 7.1.

    Examples
    --------
    >>> import xpnn
    >>> from xpnn import optim
    >>> w = xpnn.Tensor([4.0, -2.0])
    >>> optim.Adamax(lr=0.5).update([w], [xpnn.Tensor([3.0, -0.1])])
    >>> w
    Tensor([ 3.5, -1.5], dtype=float32)
    """

    elementwise = True

    def __init__(
        self,
        lr: Any = 2e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
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
        self.epsilon = number(self, "epsilon", epsilon)

    def state_names(self) -> tuple[str, ...]:
        return ("m", "u")

    def rule(
        self, xp: Any, lr: float, step: int, p: Array, g: Array, state: State
    ) -> tuple[Array, State]:
        m = self.beta1 * state["m"] + (1 - self.beta1) * g
        u = xp.maximum(self.beta2 * state["u"], xp.abs(g) + self.epsilon)
        return p - lr / (1 - self.beta1**step) * m / u, {"m": m, "u": u}


class NAdam(Optimizer):
    r"""NAdam: Adam with Nesterov momentum, which grows during the first steps.

    .. math::
        \mu_t &= \beta_1 (1 - \tfrac12\, 0.96^{t \psi}), \qquad \pi_t = \pi_{t-1} \mu_t \\
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \hat m_t &= \frac{\mu_{t+1}}{1 - \pi_t \mu_{t+1}} m_t + \frac{1 - \mu_t}{1 - \pi_t} g_t \\
        p_t &= p_{t-1} - \alpha \hat m_t / \bigl(\sqrt{v_t / (1 - \beta_2^t)} + \epsilon\bigr)

    Parameters
    ----------
    lr : float or schedule
        :math:`\alpha`.
    beta1, beta2 : float
        Decay of the running means, in [0, 1).
    epsilon : float
        Bounds the step where gradients are tiny.
    momentum_decay : float
        :math:`\psi`; at 0 the momentum is the same at every step.
    weight_decay : float
        Adds ``weight_decay * p`` to the gradient.
    decoupled_weight_decay : bool
        Whether the parameter shrinks by ``1 - lr * weight_decay`` instead, as in :class:`AdamW`.
    clip_value, clip_norm, clip_global_norm : float, optional
        As for :class:`Optimizer`.

    Notes
    -----
    PyTorch's variant. The product :math:`\pi_t`, which starts with 1, is state: one number a
    parameter, in the dtype of its state; PyTorch has it in the default dtype.

    References
    ----------
    T. Dozat: Incorporating Nesterov momentum into Adam. ICLR workshop, 2016.

    Examples
    --------
    >>> import xpnn
    >>> from xpnn import optim
    >>> w = xpnn.Tensor([1.0], requires_grad=True)
    >>> optimizer = optim.NAdam(lr=0.1)
    >>> for _ in range(60):
    ...     (w * w).backward()
    ...     optimizer.step([w])
    >>> abs(float(w[0])) < 0.01
    True
    """

    elementwise = True
    scalar_state = ("mu_product",)

    def __init__(
        self,
        lr: Any = 2e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        momentum_decay: float = 4e-3,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
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
        self.epsilon = number(self, "epsilon", epsilon)
        self.momentum_decay = number(self, "momentum_decay", momentum_decay)
        self.decoupled_weight_decay = flag(self, "decoupled_weight_decay", decoupled_weight_decay)

    @property
    def decoupled(self) -> bool:  # type: ignore[override]
        """Whether weight decay bypasses the equations."""
        return self.decoupled_weight_decay

    def state_names(self) -> tuple[str, ...]:
        return ("m", "v", "mu_product")

    def state_start(self, name: str) -> float:
        return 1.0 if name == "mu_product" else 0.0

    def rule(
        self, xp: Any, lr: float, step: int, p: Array, g: Array, state: State
    ) -> tuple[Array, State]:
        mu, mu_next = (
            self.beta1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay)) for t in (step, step + 1)
        )
        product = state["mu_product"] * mu
        m = self.beta1 * state["m"] + (1 - self.beta1) * g
        v = self.beta2 * state["v"] + (1 - self.beta2) * g * g
        m_hat = mu_next / (1 - product * mu_next) * m + (1 - mu) / (1 - product) * g
        v_hat = v / (1 - self.beta2**step)
        new = {"m": m, "v": v, "mu_product": product}
        return p - lr * m_hat / (xp.sqrt(v_hat) + self.epsilon), new


class RAdam(Optimizer):
    r"""RAdam: Adam that starts with steps of momentum alone, until it knows the mean square.

    .. math::
        \rho_\infty &= 2 / (1 - \beta_2) - 1, \qquad
        \rho_t = \rho_\infty - 2 t \beta_2^t / (1 - \beta_2^t) \\
        p_t &= p_{t-1} - \alpha \hat m_t\; r_t\, \sqrt{1 - \beta_2^t} / (\sqrt{v_t} + \epsilon)
        && \text{if } \rho_t > 5 \\
        p_t &= p_{t-1} - \alpha \hat m_t && \text{otherwise} \\
        r_t^2 &= \frac{(\rho_t - 4)(\rho_t - 2) \rho_\infty}
                      {(\rho_\infty - 4)(\rho_\infty - 2) \rho_t}

    with :math:`\hat m_t = m_t / (1 - \beta_1^t)` and the running means m, v of :class:`Adam`.

    Parameters
    ----------
    lr : float or schedule
        :math:`\alpha`.
    beta1, beta2 : float
        Decay of the running means, in [0, 1).
    epsilon : float
        Bounds the step where gradients are tiny.
    weight_decay : float
        Adds ``weight_decay * p`` to the gradient.
    decoupled_weight_decay : bool
        Whether the parameter shrinks by ``1 - lr * weight_decay`` instead, as in :class:`AdamW`.
    clip_value, clip_norm, clip_global_norm : float, optional
        As for :class:`Optimizer`.

    Notes
    -----
    PyTorch's variant: epsilon is added to the root of the uncorrected :math:`v`, and the threshold
    is 5; the paper's algorithm 2 has no epsilon, and 4.

    References
    ----------
    L. Liu et al.: On the variance of the adaptive learning rate and beyond. ICLR 2020.

    Examples
    --------
    >>> import xpnn
    >>> from xpnn import optim
    >>> w = xpnn.Tensor([4.0])
    >>> optim.RAdam(lr=0.5).update([w], [xpnn.Tensor([3.0])])  # momentum alone
    >>> w
    Tensor([2.5], dtype=float32)
    """

    elementwise = True

    def __init__(
        self,
        lr: Any = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
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
        self.epsilon = number(self, "epsilon", epsilon)
        self.decoupled_weight_decay = flag(self, "decoupled_weight_decay", decoupled_weight_decay)

    @property
    def decoupled(self) -> bool:  # type: ignore[override]
        """Whether weight decay bypasses the equations."""
        return self.decoupled_weight_decay

    def state_names(self) -> tuple[str, ...]:
        return ("m", "v")

    def rule(
        self, xp: Any, lr: float, step: int, p: Array, g: Array, state: State
    ) -> tuple[Array, State]:
        m = self.beta1 * state["m"] + (1 - self.beta1) * g
        v = self.beta2 * state["v"] + (1 - self.beta2) * g * g
        rate = lr / (1 - self.beta1**step)
        correction = 1 - self.beta2**step
        longest = 2 / (1 - self.beta2) - 1
        rho = longest - 2 * step * self.beta2**step / correction
        if rho > 5:
            above = (rho - 4) * (rho - 2) * longest
            r = math.sqrt(above / ((longest - 4) * (longest - 2) * rho))
            u = m / (xp.sqrt(v) + self.epsilon)
            return p - rate * r * math.sqrt(correction) * u, {"m": m, "v": v}
        return p - rate * m, {"m": m, "v": v}
