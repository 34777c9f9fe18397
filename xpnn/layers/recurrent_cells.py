"""Recurrent cells: one step at a time."""

from __future__ import annotations

from typing import Any, ClassVar

from xpnn import activations, initializers
from xpnn import functional as F
from xpnn.backend import array_namespace
from xpnn.layers.base import Parameter
from xpnn.layers.recurrent_base import Cell

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]

Array = Any


class RNNCell(Cell):
    r"""One step of Elman's network, :math:`h' = a(x W + h U + b)` (Elman 1990).

    Parameters
    ----------
    hidden_size : int
        H.
    input_size : int, optional
        D; taken from the first input if not given.
    activation : str or callable
        The function :math:`a`.
    bias : bool
        Whether to add b.
    weight_init, recurrent_init, bias_init : str or Initializer
        Of W, U and b.
    grad_clip : float, optional
        In the backward pass, clip the gradient of the activation's argument to
        [-grad_clip, grad_clip], each element (yadll's ``grad_clipping``).

    Attributes
    ----------
    weight_input : Parameter of shape (D, H)
    weight_hidden : Parameter of shape (H, H)
    bias : Parameter of shape (H,), or None
        PyTorch has two, which add up to this one.

    Notes
    -----
    (N, D), (N, H) -> (N, H). The state is zero if it is not given.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> cell, x = layers.RNNCell(5), np.ones((2, 3), np.float32)
    >>> h = cell(x)
    >>> h = cell(x, h)
    >>> h.shape
    (2, 5)
    """

    def __init__(
        self,
        hidden_size: int,
        input_size: int | None = None,
        activation: Any = "tanh",
        bias: bool = True,
        weight_init: Any = "glorot_uniform",
        recurrent_init: Any = "orthogonal",
        bias_init: Any = "zeros",
        grad_clip: float | None = None,
    ) -> None:
        self.activation = activations.get(activation)
        self._set_up(
            hidden_size, input_size, bias, weight_init, recurrent_init, bias_init, grad_clip
        )
        self._build_if_sized()

    def forward(self, x: Array, h: Array | None = None) -> Any:
        p, h = self._begin(x, h)
        return F.rnn_step(
            p, self.weight_hidden, h, activation=self.activation, grad_clip=self.grad_clip
        )


class GRUCell(Cell):
    r"""One step of a gated recurrent unit (Cho et al. 2014), gates in the order r, z, n.

    .. math:: r &= \sigma(x W_r + h U_r + b_r) \\
              z &= \sigma(x W_z + h U_z + b_z) \\
              n &= a(x W_n + b_n + r (h U_n + b_{hn})) \\
              h' &= (1 - z) n + z h

    That is PyTorch's and cuDNN's form (``reset_after=True``). In the paper's form
    (``reset_after=False``) :math:`n = a(x W_n + b_n + (r h) U_n)`. z keeps the old state, as in
    PyTorch, Keras and NumpyDL; yadll's text has it keep the new one.

    Parameters
    ----------
    hidden_size : int
        H.
    input_size : int, optional
        D; taken from the first input if not given.
    activation, gate_activation : str or callable
        The functions :math:`a` and :math:`\sigma`.
    bias : bool
        Whether to add b, and :math:`b_{hn}`.
    weight_init, recurrent_init, bias_init : str or Initializer
        Of W, U and the biases; of every gate on its own.
    grad_clip : float, optional
        In the backward pass, clip the gradients of the activations' arguments to
        [-grad_clip, grad_clip], each element.
    reset_after : bool
        Whether r is multiplied with :math:`h U_n` or with h.

    Attributes
    ----------
    weight_input : Parameter of shape (D, 3 H)
    weight_hidden : Parameter of shape (H, 3 H)
    bias : Parameter of shape (3 H,), or None
    bias_hidden : Parameter of shape (H,), or None
        :math:`b_{hn}`, the part of PyTorch's ``bias_hh`` that does not add up with ``bias_ih``.

    Notes
    -----
    (N, D), (N, H) -> (N, H). The state is zero if it is not given.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layers.GRUCell(5)(np.ones((2, 3), np.float32)).shape
    (2, 5)
    """

    gates = 3

    def __init__(
        self,
        hidden_size: int,
        input_size: int | None = None,
        activation: Any = "tanh",
        gate_activation: Any = "sigmoid",
        bias: bool = True,
        weight_init: Any = "glorot_uniform",
        recurrent_init: Any = "orthogonal",
        bias_init: Any = "zeros",
        grad_clip: float | None = None,
        reset_after: bool = True,
    ) -> None:
        self.activation = activations.get(activation)
        self.gate_activation = activations.get(gate_activation)
        self.reset_after = reset_after
        self._set_up(
            hidden_size, input_size, bias, weight_init, recurrent_init, bias_init, grad_clip
        )
        self._build_if_sized()

    def _make(self) -> None:
        super()._make()
        inner = self.use_bias and self.reset_after
        self.bias_hidden = Parameter(self.bias_init((self.hidden_size,))) if inner else None

    def _options(self) -> dict[str, Any]:
        return {
            "reset_after": self.reset_after,
            "activation": self.activation,
            "gate_activation": self.gate_activation,
            "grad_clip": self.grad_clip,
        }

    def forward(self, x: Array, h: Array | None = None) -> Any:
        p, h = self._begin(x, h)
        return F.gru_step(p, self.weight_hidden, self.bias_hidden, h, **self._options())


class LSTMCell(Cell):
    r"""One step of a long short-term memory, gates in the order i, f, g, o.

    .. math:: i &= \sigma(x W_i + h U_i + b_i) \\
              f &= \sigma(x W_f + h U_f + b_f) \\
              g &= a(x W_g + h U_g + b_g) \\
              o &= \sigma(x W_o + h U_o + b_o) \\
              c' &= f c + i g, \quad h' = o\, a(c')

    Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber & Cummins 2000: the
    LSTM of PyTorch and Keras.

    Parameters
    ----------
    hidden_size : int
        H.
    input_size : int, optional
        D; taken from the first input if not given.
    activation, gate_activation : str or callable
        The functions :math:`a` and :math:`\sigma`.
    bias : bool
        Whether to add b.
    weight_init, recurrent_init, bias_init : str or Initializer
        Of W, U and b; of every gate on its own.
    grad_clip : float, optional
        In the backward pass, clip the gradients of the gates' arguments to
        [-grad_clip, grad_clip], each element.
    peepholes : bool
        Whether the gates look into the memory: :math:`p_i c` and :math:`p_f c` are added to the
        arguments of i and f, :math:`p_o c'` to that of o. The weights are diagonal, as in Gers &
        Schmidhuber 2000; yadll has full matrices, and shows o the old memory.
    tied_input_forget : bool
        Whether :math:`i = 1 - f`: what is forgotten is written anew (Greff et al. 2017). The gates
        are then f, g, o.
    forget_bias : float
        Added to the initial bias of f, so that the memory is kept at first (Gers et al. 2000;
        Jozefowicz et al. 2015). Without ``bias`` there is nothing to add it to.

    Attributes
    ----------
    weight_input : Parameter of shape (D, 4 H), or (D, 3 H) if tied
    weight_hidden : Parameter of shape (H, 4 H), or (H, 3 H)
    bias : Parameter of shape (4 H,) or (3 H,), or None
        PyTorch has two, which add up to this one.
    peephole : Parameter of shape (3, H), for i, f and o; or (2, H), for f and o; or None
        At first zero.

    Notes
    -----
    (N, D), (N, H), (N, H) -> h' (N, H), c' (N, H). State and memory are zero if they are not given.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> cell, x = layers.LSTMCell(5), np.ones((2, 3), np.float32)
    >>> h, c = cell(x)
    >>> h, c = cell(x, h, c)
    >>> h.shape, c.shape
    ((2, 5), (2, 5))
    """

    state_names: ClassVar[tuple[str, ...]] = ("h", "c")

    def __init__(
        self,
        hidden_size: int,
        input_size: int | None = None,
        activation: Any = "tanh",
        gate_activation: Any = "sigmoid",
        bias: bool = True,
        weight_init: Any = "glorot_uniform",
        recurrent_init: Any = "orthogonal",
        bias_init: Any = "zeros",
        grad_clip: float | None = None,
        peepholes: bool = False,
        tied_input_forget: bool = False,
        forget_bias: float = 1.0,
    ) -> None:
        self.activation = activations.get(activation)
        self.gate_activation = activations.get(gate_activation)
        self.peepholes, self.tied_input_forget = peepholes, tied_input_forget
        self.forget_bias = forget_bias
        self.gates = 3 if tied_input_forget else 4
        self._set_up(
            hidden_size, input_size, bias, weight_init, recurrent_init, bias_init, grad_clip
        )
        self._build_if_sized()

    def _initial_bias(self) -> Array:
        bias = super()._initial_bias()
        xp, n = array_namespace(bias), self.hidden_size
        at = n * (self.gates - 3)  # f is the last but two
        return xp.concat([bias[:at], bias[at : at + n] + self.forget_bias, bias[at + n :]])

    def _make(self) -> None:
        super()._make()
        rows = (self.gates - 1, self.hidden_size)
        self.peephole = Parameter(initializers.zeros(rows)) if self.peepholes else None

    def _options(self) -> dict[str, Any]:
        return {
            "peephole": self.peephole,
            "tied": self.tied_input_forget,
            "activation": self.activation,
            "gate_activation": self.gate_activation,
            "grad_clip": self.grad_clip,
        }

    def forward(self, x: Array, h: Array | None = None, c: Array | None = None) -> Any:
        p, h, c = self._begin(x, h, c)
        return F.lstm_step(p, self.weight_hidden, h, c, **self._options())
