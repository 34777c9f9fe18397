"""Recurrent layers: cells that walk over sequences."""

from __future__ import annotations

from typing import Any

from xpnn import functional as F
from xpnn.layers.recurrent_base import Unrolled
from xpnn.layers.recurrent_cells import GRUCell, LSTMCell, RNNCell

__all__ = ["GRU", "LSTM", "RNN"]

Array = Any


class RNN(Unrolled, RNNCell):
    r"""Elman's network over sequences, :math:`h_t = a(x_t W + h_{t-1} U + b)` (Elman 1990).

    Parameters
    ----------
    hidden_size : int
        H.
    input_size : int, optional
        D; taken from the first input if not given.
    num_layers : int
        How many layers stand on one another: the states of each are the input of the next.
    activation : str or callable
        As for :class:`RNNCell`.
    return_sequences : bool
        Whether to return the states of all steps, or only the last of the uppermost layer.
    return_state : bool
        Whether to return the last state of all layers as well.
    go_backwards : bool
        Whether to begin with the last step. The output is in the order of x, as that of PyTorch's
        reverse direction; Keras leaves it in the order of the walk.
    dropout : float
        The fraction dropped, in training, of what one layer hands to the next.
    bias, weight_init, recurrent_init, bias_init, grad_clip
        As for :class:`RNNCell`.

    Attributes
    ----------
    weight_input, weight_hidden, bias : Parameter
        As for :class:`RNNCell`.
    above : list of RNN
        The layers above the first, of one layer each; their parameters are named
        ``above.0.weight_input``, ...

    Notes
    -----
    ``layer(x, h0=None, mask=None, lengths=None)`` takes x (N, T, D) and returns

    - y of shape (N, T, H), or (N, H) without ``return_sequences``;
    - with ``return_state`` the tuple (y, h) of y and the last state.

    A state is (N, H), or (N, num_layers, H) if there are several layers.

    ``mask``, booleans (N, T), is True where a step counts; ``lengths``, N integers, says how many
    steps at the beginning do. A step that does not count hands the state on, which is its output
    too, so that the last state is that after the last step that counts. PyTorch's packed sequences
    give zeros there instead. What x holds there has no influence, even if it is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> x = np.ones((2, 7, 3), np.float32)
    >>> layers.RNN(5)(x).shape
    (2, 7, 5)
    >>> layers.RNN(5, activation="relu", return_sequences=False)(x, lengths=[7, 4]).shape
    (2, 5)
    """

    def __init__(
        self,
        hidden_size: int,
        input_size: int | None = None,
        num_layers: int = 1,
        activation: Any = "tanh",
        return_sequences: bool = True,
        return_state: bool = False,
        go_backwards: bool = False,
        dropout: float = 0.0,
        bias: bool = True,
        weight_init: Any = "glorot_uniform",
        recurrent_init: Any = "orthogonal",
        bias_init: Any = "zeros",
        grad_clip: float | None = None,
    ) -> None:
        options = {
            "activation": activation,
            "bias": bias,
            "weight_init": weight_init,
            "recurrent_init": recurrent_init,
            "bias_init": bias_init,
            "grad_clip": grad_clip,
        }
        self._set_up_layers(
            RNN, options, num_layers, return_sequences, return_state, go_backwards, dropout
        )
        super().__init__(hidden_size, input_size, **options)

    def forward(
        self,
        x: Array,
        h0: Array | None = None,
        *,
        mask: Array | None = None,
        lengths: Any = None,
    ) -> Any:
        return self._run(x, (h0,), mask, lengths)

    def _scan(self, x: Array, states: list[Array | None], mask: Array | None) -> tuple[Array, ...]:
        return F.rnn(
            x, self.weight_input, self.weight_hidden, self.bias, *states,
            activation=self.activation, mask=mask,
            reverse=self.go_backwards, grad_clip=self.grad_clip,
        )  # fmt: skip


class GRU(Unrolled, GRUCell):
    r"""Gated recurrent units over sequences; :class:`GRUCell` has the equations (Cho et al. 2014).

    Parameters
    ----------
    gate_activation, reset_after
        As for :class:`GRUCell`.
    hidden_size, input_size, num_layers, activation, return_sequences, return_state, go_backwards, \
    dropout, bias, weight_init, recurrent_init, bias_init, grad_clip
        As for :class:`RNN`.

    Attributes
    ----------
    weight_input, weight_hidden, bias, bias_hidden : Parameter
        As for :class:`GRUCell`.
    above : list of GRU
        As for :class:`RNN`.

    Notes
    -----
    Shapes, states, ``mask`` and ``lengths`` are those of :class:`RNN`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layer = layers.GRU(5, num_layers=2, return_state=True)
    >>> y, h = layer(np.ones((2, 7, 3), np.float32))
    >>> y.shape, h.shape
    ((2, 7, 5), (2, 2, 5))
    """

    def __init__(
        self,
        hidden_size: int,
        input_size: int | None = None,
        num_layers: int = 1,
        activation: Any = "tanh",
        gate_activation: Any = "sigmoid",
        return_sequences: bool = True,
        return_state: bool = False,
        go_backwards: bool = False,
        dropout: float = 0.0,
        bias: bool = True,
        weight_init: Any = "glorot_uniform",
        recurrent_init: Any = "orthogonal",
        bias_init: Any = "zeros",
        grad_clip: float | None = None,
        reset_after: bool = True,
    ) -> None:
        options = {
            "activation": activation,
            "gate_activation": gate_activation,
            "bias": bias,
            "weight_init": weight_init,
            "recurrent_init": recurrent_init,
            "bias_init": bias_init,
            "grad_clip": grad_clip,
            "reset_after": reset_after,
        }
        self._set_up_layers(
            GRU, options, num_layers, return_sequences, return_state, go_backwards, dropout
        )
        super().__init__(hidden_size, input_size, **options)

    def forward(
        self,
        x: Array,
        h0: Array | None = None,
        *,
        mask: Array | None = None,
        lengths: Any = None,
    ) -> Any:
        return self._run(x, (h0,), mask, lengths)

    def _scan(self, x: Array, states: list[Array | None], mask: Array | None) -> tuple[Array, ...]:
        return F.gru(
            x, self.weight_input, self.weight_hidden, self.bias, self.bias_hidden, *states,
            mask=mask, reverse=self.go_backwards, **self._options(),
        )  # fmt: skip


class LSTM(Unrolled, LSTMCell):
    r"""Long short-term memory over sequences; :class:`LSTMCell` has the equations.

    Parameters
    ----------
    gate_activation, peepholes, tied_input_forget, forget_bias
        As for :class:`LSTMCell`.
    hidden_size, input_size, num_layers, activation, return_sequences, return_state, go_backwards, \
    dropout, bias, weight_init, recurrent_init, bias_init, grad_clip
        As for :class:`RNN`.

    Attributes
    ----------
    weight_input, weight_hidden, bias, peephole : Parameter
        As for :class:`LSTMCell`.
    above : list of LSTM
        As for :class:`RNN`.

    Notes
    -----
    Shapes, ``mask`` and ``lengths`` are those of :class:`RNN`; there are two states, h0 and c0, and
    with ``return_state`` the output is (y, h, c).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import layers
    >>> layer = layers.LSTM(5, return_sequences=False, return_state=True)
    >>> y, h, c = layer(np.ones((2, 7, 3), np.float32))
    >>> y.shape, h.shape, c.shape
    ((2, 5), (2, 5), (2, 5))
    """

    def __init__(
        self,
        hidden_size: int,
        input_size: int | None = None,
        num_layers: int = 1,
        activation: Any = "tanh",
        gate_activation: Any = "sigmoid",
        return_sequences: bool = True,
        return_state: bool = False,
        go_backwards: bool = False,
        dropout: float = 0.0,
        bias: bool = True,
        weight_init: Any = "glorot_uniform",
        recurrent_init: Any = "orthogonal",
        bias_init: Any = "zeros",
        grad_clip: float | None = None,
        peepholes: bool = False,
        tied_input_forget: bool = False,
        forget_bias: float = 1.0,
    ) -> None:
        options = {
            "activation": activation,
            "gate_activation": gate_activation,
            "bias": bias,
            "weight_init": weight_init,
            "recurrent_init": recurrent_init,
            "bias_init": bias_init,
            "grad_clip": grad_clip,
            "peepholes": peepholes,
            "tied_input_forget": tied_input_forget,
            "forget_bias": forget_bias,
        }
        self._set_up_layers(
            LSTM, options, num_layers, return_sequences, return_state, go_backwards, dropout
        )
        super().__init__(hidden_size, input_size, **options)

    def forward(
        self,
        x: Array,
        h0: Array | None = None,
        c0: Array | None = None,
        *,
        mask: Array | None = None,
        lengths: Any = None,
    ) -> Any:
        return self._run(x, (h0, c0), mask, lengths)

    def _scan(self, x: Array, states: list[Array | None], mask: Array | None) -> tuple[Array, ...]:
        return F.lstm(
            x, self.weight_input, self.weight_hidden, self.bias, *states,
            mask=mask, reverse=self.go_backwards, **self._options(),
        )  # fmt: skip
