"""Adagrad and what came of it: steps divided by the root of the squares of the gradients."""

from __future__ import annotations

from typing import Any

from xpnn.optim.base import Optimizer
from xpnn.optim.config import flag, number
from xpnn.optim.slots import State

__all__ = ["Adadelta", "Adagrad", "RMSprop"]

Array = Any


class Adagrad(Optimizer):
    r"""Adagrad: divides by the root of the sum of all squares, so that the steps get smaller.

    .. math::
        s_t &= s_{t-1} + g_t^2 \\
        p_t &= p_{t-1} - \frac{\alpha}{1 + (t - 1) \eta}\, \frac{g_t}{\sqrt{s_t} + \epsilon}

    Parameters
    ----------
    lr : float or schedule
        :math:`\alpha`.
    lr_decay : float
        :math:`\eta`.
    initial_accumulator_value : float
        :math:`s_0`.
    epsilon : float
        Bounds the step where all gradients were tiny.
    weight_decay : float
        Adds ``weight_decay * p`` to the gradient.
    clip_value, clip_norm, clip_global_norm : float, optional
        As for :class:`Optimizer`.

    Notes
    -----
    Epsilon outside the root, as in PyTorch, npdl and numpy-ml; yadll, and the documentation of
    npdl, have :math:`\sqrt{s + \epsilon}`. The paper has no epsilon, and :math:`s_0 = 0`.

    References
    ----------
    J. Duchi, E. Hazan, Y. Singer: Adaptive subgradient methods for online learning and stochastic
    optimization. JMLR 12, 2011.

    Examples
    --------
    >>> import xpnn
    >>> from xpnn import optim
    >>> w = xpnn.Tensor([4.0])
    >>> optimizer = optim.Adagrad(lr=1.0, initial_accumulator_value=9.0)
    >>> optimizer.update([w], [xpnn.Tensor([4.0])])  # 4 / sqrt(9 + 4**2)
    >>> w
    Tensor([3.2], dtype=float32)
    """

    elementwise = True

    def __init__(
        self,
        lr: Any = 1e-2,
        *,
        lr_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        epsilon: float = 1e-10,
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
        self.lr_decay = number(self, "lr_decay", lr_decay)
        self.initial_accumulator_value = number(
            self, "initial_accumulator_value", initial_accumulator_value
        )
        self.epsilon = number(self, "epsilon", epsilon)

    def state_names(self) -> tuple[str, ...]:
        return ("squares",)

    def state_start(self, name: str) -> float:
        return self.initial_accumulator_value

    def rule(
        self, xp: Any, lr: float, step: int, p: Array, g: Array, state: State
    ) -> tuple[Array, State]:
        squares = state["squares"] + g * g
        rate = lr / (1 + (step - 1) * self.lr_decay)
        return p - rate * g / (xp.sqrt(squares) + self.epsilon), {"squares": squares}


class RMSprop(Optimizer):
    r"""RMSprop: divides by the root of a running mean of the squares.

    .. math::
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2 \\
        u_t &= g_t / (\sqrt{v_t} + \epsilon) \\
        p_t &= p_{t-1} - \alpha u_t

    Centered, with :math:`a_t = \rho a_{t-1} + (1 - \rho) g_t`, the root is of the variance
    :math:`v_t - a_t^2`. With momentum, :math:`b_t = \mu b_{t-1} + u_t` stands for :math:`u_t` in
    the last line.

    Parameters
    ----------
    lr : float or schedule
        :math:`\alpha`.
    rho : float
        :math:`\rho`, in [0, 1); PyTorch calls it alpha, numpy-ml decay.
    momentum : float
        :math:`\mu`, in [0, 1).
    centered : bool
        Whether to divide by the standard deviation.
    epsilon : float
        Bounds the step where gradients are tiny.
    weight_decay : float
        Adds ``weight_decay * p`` to the gradient.
    clip_value, clip_norm, clip_global_norm : float, optional
        As for :class:`Optimizer`.

    Notes
    -----
    PyTorch's variant, epsilon outside the root, as in numpy-ml; npdl, yadll and TensorFlow 1 have
    :math:`\sqrt{v + \epsilon}`. Where rounding makes a variance negative, it is 0 here, and NaN in
    PyTorch.

    References
    ----------
    T. Tieleman, G. Hinton: Lecture 6.5, RMSprop. Coursera, 2012.
    A. Graves: Generating sequences with recurrent neural networks. 2013 (centered, momentum).

    Examples
    --------
    >>> import xpnn
    >>> from xpnn import optim
    >>> w = xpnn.Tensor([4.0])
    >>> optim.RMSprop(lr=0.5, rho=0.75).update([w], [xpnn.Tensor([3.0])])  # 3 / sqrt(3**2 / 4)
    >>> w
    Tensor([3.], dtype=float32)
    """

    elementwise = True

    def __init__(
        self,
        lr: Any = 1e-2,
        *,
        rho: float = 0.99,
        momentum: float = 0.0,
        centered: bool = False,
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
        self.rho = number(self, "rho", rho, below=1)
        self.momentum = number(self, "momentum", momentum, below=1)
        self.centered = flag(self, "centered", centered)
        self.epsilon = number(self, "epsilon", epsilon)

    def state_names(self) -> tuple[str, ...]:
        return ("v", *("a",) * self.centered, *("velocity",) * (self.momentum > 0))

    def rule(
        self, xp: Any, lr: float, step: int, p: Array, g: Array, state: State
    ) -> tuple[Array, State]:
        v = self.rho * state["v"] + (1 - self.rho) * g * g
        new, spread = {"v": v}, v
        if self.centered:
            new["a"] = a = self.rho * state["a"] + (1 - self.rho) * g
            spread = xp.maximum(v - a**2, 0.0)
        u = g / (xp.sqrt(spread) + self.epsilon)
        if self.momentum:
            new["velocity"] = u = self.momentum * state["velocity"] + u
        return p - lr * u, new


class Adadelta(Optimizer):
    r"""Adadelta: steps in the unit of the parameter, from the running mean of their own squares.

    .. math::
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2 \\
        \delta_t &= \frac{\sqrt{d_{t-1} + \epsilon}}{\sqrt{v_t + \epsilon}}\, g_t \\
        d_t &= \rho d_{t-1} + (1 - \rho) \delta_t^2 \\
        p_t &= p_{t-1} - \alpha \delta_t

    Parameters
    ----------
    lr : float or schedule
        :math:`\alpha`; the paper has none, which is 1.
    rho : float
        :math:`\rho`, in [0, 1).
    epsilon : float
        The square of the first steps, about.
    weight_decay : float
        Adds ``weight_decay * p`` to the gradient.
    clip_value, clip_norm, clip_global_norm : float, optional
        As for :class:`Optimizer`.

    Notes
    -----
    The paper's algorithm 1, epsilon within the roots, as everywhere. The default rho is PyTorch's;
    the paper's is 0.95.

    References
    ----------
    M. D. Zeiler: ADADELTA: An adaptive learning rate method. 2012.

    Examples
    --------
    >>> import xpnn
    >>> from xpnn import optim
    >>> w = xpnn.Tensor([4.0])
    >>> optim.Adadelta(rho=0.75, epsilon=0.75).update([w], [xpnn.Tensor([1.0])])
    >>> w  # a step of sqrt(0.75) / sqrt(0.25 + 0.75)
    Tensor([3.1339746], dtype=float32)
    """

    elementwise = True

    def __init__(
        self,
        lr: Any = 1.0,
        *,
        rho: float = 0.9,
        epsilon: float = 1e-6,
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
        self.rho = number(self, "rho", rho, below=1)
        self.epsilon = number(self, "epsilon", epsilon)

    def state_names(self) -> tuple[str, ...]:
        return ("v", "d")

    def rule(
        self, xp: Any, lr: float, step: int, p: Array, g: Array, state: State
    ) -> tuple[Array, State]:
        v = self.rho * state["v"] + (1 - self.rho) * g * g
        delta = xp.sqrt(state["d"] + self.epsilon) / xp.sqrt(v + self.epsilon) * g
        d = self.rho * state["d"] + (1 - self.rho) * delta**2
        return p - lr * delta, {"v": v, "d": d}
