"""Adam, AdamW and AMSGrad: steps from running means of the gradient and of its square."""

from __future__ import annotations

import math
from typing import Any

from xpnn.optim.base import Optimizer
from xpnn.optim.config import flag, number
from xpnn.optim.slots import State

__all__ = ["AMSGrad", "Adam", "AdamW"]

Array = Any


class Adam(Optimizer):
    r"""Adam: a step from the running mean of the gradient, over the root of that of its square.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, & \hat m_t &= m_t / (1 - \beta_1^t) \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, & \hat v_t &= v_t / (1 - \beta_2^t) \\
        p_t &= p_{t-1} - \alpha \hat m_t / (\sqrt{\hat v_t} + \epsilon)

    Parameters
    ----------
    lr : float or schedule
        :math:`\alpha`; about the size of a step in every coordinate.
    beta1, beta2 : float
        Decay of the running means, in [0, 1).
    epsilon : float
        Bounds the step where gradients are tiny.
    weight_decay : float
        Adds ``weight_decay * p`` to the gradient; for decoupled weight decay see :class:`AdamW`.
    amsgrad : bool
        Whether to divide by the largest :math:`v` so far; see :class:`AMSGrad`.
    clip_value, clip_norm, clip_global_norm : float, optional
        As for :class:`Optimizer`.

    Notes
    -----
    Algorithm 1 of the paper: bias correction on, epsilon outside the root and after the correction,
    as in PyTorch and numpy-ml. TensorFlow, npdl and yadll add it to the root of the uncorrected
    :math:`v` instead, the :math:`\hat\epsilon` of the paper's section 2.

    References
    ----------
    D. P. Kingma, J. Ba: Adam: A method for stochastic optimization. ICLR 2015.

    Examples
    --------
    >>> import xpnn
    >>> from xpnn import optim
    >>> w = xpnn.Tensor([4.0, -2.0], requires_grad=True)
    >>> (w * w).backward(xpnn.Tensor([1.0, 1.0]))
    >>> optim.Adam(lr=0.5).step([w])
    >>> w
    Tensor([ 3.5, -1.5], dtype=float32, requires_grad=True)
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
        amsgrad: bool = False,
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
        self.amsgrad = flag(self, "amsgrad", amsgrad)

    def state_names(self) -> tuple[str, ...]:
        return ("m", "v", "v_max") if self.amsgrad else ("m", "v")

    def rule(
        self, xp: Any, lr: float, step: int, p: Array, g: Array, state: State
    ) -> tuple[Array, State]:
        m = self.beta1 * state["m"] + (1 - self.beta1) * g
        v = self.beta2 * state["v"] + (1 - self.beta2) * g * g
        new = {"m": m, "v": v}
        if self.amsgrad:
            new["v_max"] = v = xp.maximum(state["v_max"], v)
        # The corrections as section 2 of the paper writes them: two passes fewer.
        c = math.sqrt(1 - self.beta2**step)
        rate = lr * c / (1 - self.beta1**step)
        return p - rate * (m / (xp.sqrt(v) + c * self.epsilon)), new


class AdamW(Adam):
    r"""Adam with decoupled weight decay: the parameter itself shrinks, not by way of the gradient.

    .. math::
        p_t = (1 - \alpha\lambda) p_{t-1} - \alpha \hat m_t / (\sqrt{\hat v_t} + \epsilon)

    Parameters
    ----------
    lr : float or schedule
        :math:`\alpha`.
    beta1, beta2, epsilon, amsgrad
        As for :class:`Adam`.
    weight_decay : float
        :math:`\lambda`.
    clip_value, clip_norm, clip_global_norm : float, optional
        As for :class:`Optimizer`.

    Notes
    -----
    PyTorch's variant: :math:`\lambda` is multiplied with the learning rate. In the paper it is not,
    only with the schedule.

    References
    ----------
    I. Loshchilov, F. Hutter: Decoupled weight decay regularization. ICLR 2019.

    Examples
    --------
    >>> import xpnn
    >>> from xpnn import optim
    >>> w = xpnn.Tensor([4.0])
    >>> optim.AdamW(lr=0.5, weight_decay=0.5).update([w], [xpnn.Tensor([0.0])])
    >>> w
    Tensor([3.], dtype=float32)
    """

    decoupled = True

    def __init__(
        self,
        lr: Any = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        clip_global_norm: float | None = None,
    ) -> None:
        super().__init__(
            lr,
            beta1=beta1,
            beta2=beta2,
            epsilon=epsilon,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            clip_value=clip_value,
            clip_norm=clip_norm,
            clip_global_norm=clip_global_norm,
        )


class AMSGrad(Adam):
    r"""Adam that divides by the largest mean of squares so far, so that steps do not grow again.

    .. math::
        v^{max}_t &= \max(v^{max}_{t-1}, v_t) \\
        p_t &= p_{t-1} - \alpha \hat m_t
            / \bigl(\sqrt{v^{max}_t / (1 - \beta_2^t)} + \epsilon\bigr)

    Parameters
    ----------
    lr : float or schedule
        :math:`\alpha`.
    beta1, beta2, epsilon, weight_decay
        As for :class:`Adam`, of which this is ``amsgrad=True``.
    clip_value, clip_norm, clip_global_norm : float, optional
        As for :class:`Optimizer`.

    Notes
    -----
    PyTorch's variant: the maximum is of the uncorrected :math:`v`, the correction comes after it.
    The paper corrects neither mean.

    References
    ----------
    S. J. Reddi, S. Kale, S. Kumar: On the convergence of Adam and beyond. ICLR 2018.

    Examples
    --------
    >>> from xpnn import optim
    >>> optim.get("amsgrad").state_names()
    ('m', 'v', 'v_max')
    """

    def __init__(
        self,
        lr: Any = 1e-3,
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
            beta1=beta1,
            beta2=beta2,
            epsilon=epsilon,
            weight_decay=weight_decay,
            amsgrad=True,
            clip_value=clip_value,
            clip_norm=clip_norm,
            clip_global_norm=clip_global_norm,
        )
