"""Recurrent cells and layers. PyTorch's own networks where it has them, else loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from battery.row import Bools, Ints, Row
from xpnn import layers

__all__ = ["ROWS", "flat_weights"]

N, T, D, H = 4, 3, 2, 5
X, STATE, Y = (N, T, D), (N, H), (N, T, H)


def flat_weights(torch: Any, p: Any, prefix: str = "") -> list[Any]:
    """Return the weights of one layer and direction as PyTorch's functions take them."""
    weights = [p[prefix + "weight_input"].T, p[prefix + "weight_hidden"].T]
    if prefix + "bias" in p:
        bias = p[prefix + "bias"]
        inner = torch.zeros_like(bias)
        if prefix + "bias_hidden" in p:
            b_hn = p[prefix + "bias_hidden"]
            inner = torch.cat([inner[: -len(b_hn)], b_hn])
        weights += [bias, inner]
    return weights


def _theirs(
    function: str, prefixes: tuple[str, ...] = ("",), both: bool = False, state: bool = False
) -> Callable[..., Any]:
    """Return what ``torch.lstm`` (or "gru", "rnn_tanh", "rnn_relu") computes from a row's inputs.

    With ``state`` also the last states.
    """

    def formula(torch: Any, p: Any, x: Any, *states: Any) -> Any:
        weights = [w for prefix in prefixes for w in flat_weights(torch, p, prefix)]
        count = len(prefixes)
        n_states = 2 if function == "lstm" else 1
        if not states:
            states = (torch.zeros(x.shape[0], count, H, dtype=x.dtype),) * n_states
        begin = [s.reshape(x.shape[0], count, H).transpose(0, 1).contiguous() for s in states]
        y, *ends = getattr(torch, function)(
            x, begin if n_states == 2 else begin[0], weights,
            len(weights) == 4 * count, count // (2 if both else 1), 0.0, True, both, True,
        )  # fmt: skip
        if not state:
            return y
        return (y, *(e.transpose(0, 1).reshape(states[0].shape) for e in ends))

    return formula


Step = Callable[..., tuple[Any, ...]]


def _rnn_step(activation: Callable[[Any, Any], Any]) -> Step:
    def step(torch: Any, p: Any, x: Any, h: Any) -> tuple[Any]:
        return (activation(torch, x @ p["weight_input"] + h @ p["weight_hidden"] + p["bias"]),)

    return step


def _gru_before(torch: Any, p: Any, x: Any, h: Any) -> tuple[Any]:
    w, u, b = (p[name].chunk(3, dim=-1) for name in ("weight_input", "weight_hidden", "bias"))
    r = torch.sigmoid(x @ w[0] + h @ u[0] + b[0])
    z = torch.sigmoid(x @ w[1] + h @ u[1] + b[1])
    n = torch.tanh(x @ w[2] + b[2] + (r * h) @ u[2])
    return ((1 - z) * n + z * h,)


def _lstm_step(gate: str = "sigmoid", activation: str = "tanh", tied: bool = False) -> Step:
    def step(torch: Any, p: Any, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
        sigma, a = getattr(torch, gate), getattr(torch, activation)
        w, u, b = (
            dict(zip("fgo" if tied else "ifgo", p[name].split(H, dim=-1), strict=True))
            for name in ("weight_input", "weight_hidden", "bias")
        )
        rows = p.get("peephole", torch.zeros(3, H, dtype=x.dtype))
        look = dict(zip("ifo" if len(rows) == 3 else "fo", rows, strict=True))
        f = sigma(x @ w["f"] + h @ u["f"] + b["f"] + look["f"] * c)
        i = 1 - f if tied else sigma(x @ w["i"] + h @ u["i"] + b["i"] + look["i"] * c)
        c = f * c + i * a(x @ w["g"] + h @ u["g"] + b["g"])
        return sigma(x @ w["o"] + h @ u["o"] + b["o"] + look["o"] * c) * a(c), c

    return step


def _loop(
    step: Step,
    n_states: int = 1,
    reverse: bool = False,
    last: bool = False,
    prefix: str = "",
) -> Callable[..., Any]:
    """Return a walk over x, (states), (mask) in PyTorch: all states, or the last one."""

    def formula(torch: Any, p: Any, x: Any, *rest: Any) -> Any:
        p = {name.removeprefix(prefix): v for name, v in p.items() if name.startswith(prefix)}
        begin = [v for v in rest if v.dtype == x.dtype]
        mask = next((v for v in rest if v.dtype == torch.bool), None)
        states = begin or [torch.zeros(x.shape[0], H, dtype=x.dtype)] * n_states
        ys: list[Any] = [None] * x.shape[1]
        for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
            new = step(torch, p, x[:, t], *states)
            if mask is not None:
                kept = zip(new, states, strict=True)
                new = tuple(torch.where(mask[:, t, None], a, b) for a, b in kept)
            states = new
            ys[t] = states[0]
        return states[0] if last else torch.stack(ys, dim=1)

    return formula


def _cell(function: str) -> Callable[..., Any]:
    def formula(torch: Any, p: Any, x: Any, *states: Any) -> Any:
        begin = states if function == "lstm_cell" else states[0]
        return getattr(torch, function)(x, begin, *flat_weights(torch, p))

    return formula


def _tanh(torch: Any, x: Any) -> Any:
    return torch.tanh(x)


def _merged_ends(torch: Any, p: Any, x: Any, lengths: Any) -> Any:
    mask = torch.arange(x.shape[1])[None, :] < lengths[:, None]
    a, b = (
        _loop(_gru_before, reverse=way == "backwards", last=True, prefix=way + ".")(
            torch, p, x, mask
        )
        for way in ("forwards", "backwards")
    )
    return a * b


CELLS = [
    Row(
        "rnn cell",
        lambda: layers.RNNCell(H),
        [(N, D), STATE],
        STATE,
        torch=_cell("rnn_tanh_cell"),
        wrong={
            r"shape \(N, 2\), got \(4, 3\)": [(N, 3), STATE],
            r"For a whole sequence use RNN": [X, STATE],
            r"h of shape \(N, H\) = \(4, 5\), got \(4, 6\)": [(N, D), (N, 6)],
        },
    ),
    Row(
        "rnn cell from zero",
        lambda: layers.RNNCell(H, activation="relu", grad_clip=1e6),
        (N, D),
        STATE,
        torch=lambda t, p, x: _rnn_step(lambda t, a: t.relu(a))(
            t, p, x, t.zeros(N, H, dtype=x.dtype)
        )[0],
    ),
    Row("gru cell", lambda: layers.GRUCell(H), [(N, D), STATE], STATE, torch=_cell("gru_cell")),
    Row(
        "gru cell reset before",
        lambda: layers.GRUCell(H, reset_after=False),
        [(N, D), STATE],
        STATE,
        torch=lambda t, p, x, h: _gru_before(t, p, x, h)[0],
    ),
    Row(
        "lstm cell",
        lambda: layers.LSTMCell(H, bias=False),
        [(N, D), STATE, STATE],
        [STATE, STATE],
        torch=_cell("lstm_cell"),
    ),
    Row(
        "lstm cell peepholes tied",
        lambda: layers.LSTMCell(H, D, peepholes=True, tied_input_forget=True),
        [(N, D), STATE, STATE],
        [STATE, STATE],
        torch=lambda t, p, *x: _lstm_step(tied=True)(t, p, *x),
    ),
]

ROWS = [
    *CELLS,
    Row(
        "rnn",
        lambda: layers.RNN(H),
        X,
        Y,
        torch=_theirs("rnn_tanh"),
        wrong={
            r"RNN: expected x of shape \(N, T, 2\), got \(4, 3, 3\)": (N, T, 3),
            r"For one sequence write x\[None, ...\]; for one step use RNNCell": (N, D),
            "with at least one step": (N, 0, D),
        },
    ),
    Row("rnn one step", lambda: layers.RNN(H), (N, 1, D), (N, 1, H), torch=_theirs("rnn_tanh")),
    Row(
        "rnn relu two layers",
        lambda: layers.RNN(H, num_layers=2, activation="relu", bias=False, return_state=True),
        [X, (N, 2, H)],
        [Y, (N, 2, H)],
        torch=_theirs("rnn_relu", ("", "above.0."), state=True),
        wrong={r"h0 of shape \(N, num_layers, H\) = \(4, 2, 5\), got \(4, 5\)": [X, STATE]},
    ),
    Row(
        "rnn sigmoid backwards masked",
        lambda: layers.RNN(H, activation="sigmoid", go_backwards=True),
        [X, STATE, Bools((N, T))],
        Y,
        torch=_loop(_rnn_step(lambda t, a: t.sigmoid(a)), reverse=True),
        keywords=("mask",),
        wrong={r"mask of shape \(N, T\) = \(4, 3\), got \(4, 2\)": [X, STATE, Bools((N, 2))]},
    ),
    Row(
        "rnn masked last",
        lambda: layers.RNN(H, return_sequences=False, go_backwards=True),
        [X, STATE, Bools((N, T))],
        STATE,
        torch=_loop(_rnn_step(_tanh), reverse=True, last=True),
        keywords=("mask",),
    ),
    Row("gru", lambda: layers.GRU(H), X, Y, torch=_theirs("gru")),
    Row(
        "gru two layers",
        lambda: layers.GRU(H, num_layers=2, return_state=True),
        [X, (N, 2, H)],
        [Y, (N, 2, H)],
        torch=_theirs("gru", ("", "above.0."), state=True),
    ),
    Row(
        "gru masked",
        lambda: layers.GRU(H, D, bias=False, go_backwards=True, grad_clip=1e6),
        [X, STATE, Bools((N, T))],
        Y,
        torch=_loop(
            lambda t, p, x, h: (t.gru_cell(x, h, *(w.contiguous() for w in flat_weights(t, p))),),
            reverse=True,
        ),
        keywords=("mask",),
    ),
    Row(
        "gru reset before masked",
        lambda: layers.GRU(H, reset_after=False),
        [X, STATE, Bools((N, T))],
        Y,
        torch=_loop(_gru_before),
        keywords=("mask",),
    ),
    Row(
        "gru reset before stepped",
        lambda: layers.GRU(H, reset_after=False, gate_activation="tanh", activation="sigmoid"),
        X,
        Y,
    ),
    Row(
        "lstm",
        lambda: layers.LSTM(H, return_state=True),
        [X, STATE, STATE],
        [Y, STATE, STATE],
        torch=_theirs("lstm", state=True),
        wrong={r"c0 of shape \(N, H\) = \(4, 5\), got \(4, 1, 5\)": [X, STATE, (N, 1, H)]},
    ),
    Row(
        "lstm two layers dropout",
        lambda: layers.LSTM(H, num_layers=2, dropout=0.4, return_sequences=False),
        X,
        STATE,
        random=True,
    ),
    Row(
        "lstm three layers backwards",
        lambda: layers.LSTM(H, num_layers=3, go_backwards=True, weight_init="he_normal"),
        X,
        Y,
        torch=lambda t, p, x: _theirs("lstm", ("", "above.0.", "above.1."))(t, p, x.flip(1)).flip(
            1
        ),
    ),
    Row(
        "lstm peepholes masked",
        lambda: layers.LSTM(H, peepholes=True),
        [X, STATE, STATE, Bools((N, T))],
        Y,
        torch=_loop(_lstm_step(), 2),
        keywords=("mask",),
    ),
    Row(
        "lstm tied backwards",
        lambda: layers.LSTM(H, tied_input_forget=True, go_backwards=True, grad_clip=1e6),
        X,
        Y,
        torch=_loop(_lstm_step(tied=True), 2, reverse=True),
    ),
    Row(
        "lstm peepholes tied masked stepped",
        lambda: layers.LSTM(
            H,
            peepholes=True,
            tied_input_forget=True,
            activation="sigmoid",
            gate_activation="tanh",
            return_sequences=False,
            grad_clip=1e6,
        ),
        [X, Bools((N, T))],
        STATE,
        torch=_loop(_lstm_step("tanh", "sigmoid", tied=True), 2, last=True),
        keywords=("mask",),
    ),
    Row(
        "bidirectional lstm",
        lambda: layers.Bidirectional(layers.LSTM(H)),
        X,
        (N, T, 2 * H),
        torch=_theirs("lstm", ("forwards.", "backwards."), both=True),
        wrong={r"LSTM: expected x of shape \(N, T, 2\), got \(4, 3, 3\)": (N, T, 3)},
    ),
    Row(
        "bidirectional gru states average",
        lambda: layers.Bidirectional(layers.GRU(H, D, return_state=True), merge="average"),
        [X, STATE, STATE],
        [Y, STATE, STATE],
    ),
    Row(
        "bidirectional gru multiply last lengths",
        lambda: layers.Bidirectional(
            layers.GRU(H, reset_after=False, return_sequences=False), merge="multiply"
        ),
        [X, Ints((N,), T + 1)],
        STATE,
        torch=_merged_ends,
        keywords=("lengths",),
    ),
    Row(
        "bidirectional rnn sum",
        lambda: layers.Bidirectional(layers.RNN(H), merge="sum"),
        X,
        Y,
        torch=lambda t, p, x: (
            _loop(_rnn_step(_tanh), prefix="forwards.")(t, p, x)
            + _loop(_rnn_step(_tanh), reverse=True, prefix="backwards.")(t, p, x)
        ),
    ),
]
