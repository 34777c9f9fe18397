"""Recurrent functions and layers: both ways to compute them, masks, directions, states, errors."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from battery.recurrent import flat_weights
from helpers import assert_close, double, make, on

import xpnn
from xpnn import functional as F
from xpnn import layers, ops
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, DataError, DTypeError, ShapeError
from xpnn.layers import Layer

N, T, D, H = 3, 4, 2, 5
HOLES = np.asarray(
    [[True, False, True, True], [False, False, False, False], [False, True, True, False]]
)

# name: the function, gates, and the shapes of its arguments after x and the two weights
FUNCTIONS: dict[str, tuple[Callable[..., Any], int, list[tuple[int, ...]]]] = {
    "rnn": (F.rnn, 1, [(H,), (N, H)]),
    "rnn relu": (lambda *a, **k: F.rnn(*a, **{"activation": F.relu} | k), 1, [(H,), (N, H)]),
    "gru": (F.gru, 3, [(3 * H,), (H,), (N, H)]),
    "gru reset before": (
        lambda x, w, u, b, h0, **k: F.gru(x, w, u, b, None, h0, reset_after=False, **k),
        3,
        [(3 * H,), (N, H)],
    ),
    "lstm": (F.lstm, 4, [(4 * H,), (N, H), (N, H)]),
    "lstm tied": (
        lambda *a, **k: F.lstm(*a, tied=True, **k),
        3,
        [(3 * H,), (N, H), (N, H)],
    ),
    "lstm peepholes": (
        lambda *a, **k: F.lstm(*a[:-1], peephole=a[-1], **k),
        4,
        [(4 * H,), (N, H), (N, H), (3, H)],
    ),
    "lstm tied peepholes": (
        lambda *a, **k: F.lstm(*a[:-1], peephole=a[-1], tied=True, **k),
        3,
        [(3 * H,), (N, H), (N, H), (2, H)],
    ),
}


def arguments(name: str, device: str = "cpu", dtype: str = "float64") -> list[Any]:
    _, gates, rest = FUNCTIONS[name]
    shapes = [(N, T, D), (D, gates * H), (H, gates * H), *rest]
    return [make(shape, device, dtype, seed=i) * 0.5 for i, shape in enumerate(shapes)]


def stepped(name: str) -> dict[str, Any]:
    """Return an activation that computes the same and is not fused."""
    return {"activation": (lambda a: F.relu(a)) if "relu" in name else (lambda a: F.tanh(a))}


def pulled(f: Callable[..., Any], args: list[Any]) -> list[Any]:
    """Return outputs and gradients for random upstream gradients."""
    ys, pullback = xpnn.vjp(f, *args)
    return [*ys, *pullback(tuple(make(y.shape, dtype="float64", seed=60) for y in ys))]


OPTIONS = [
    {"mask": mask, "reverse": reverse, "grad_clip": clip}
    for mask, reverse, clip in itertools.product([None, HOLES], [False, True], [None, 0.05])
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_fused_sequence_is_the_sequence_of_steps(name: str) -> None:
    f, *_ = FUNCTIONS[name]
    args = arguments(name)
    plain = pulled(f, args)
    for options in OPTIONS:
        fused = pulled(lambda *a, o=options: f(*a, **o), args)
        one_by_one = pulled(lambda *a, o=options: f(*a, **o, **stepped(name)), args)
        for a, b in zip(fused, one_by_one, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)
        if any(v is not None and v is not False for v in options.values()):  # they do something
            assert any(np.max(np.abs(a - b)) > 1e-3 for a, b in zip(fused, plain, strict=True))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_the_gradients_of_finite_differences_to_second_order(name: str) -> None:
    f, *_ = FUNCTIONS[name]
    args = arguments(name)
    for mask, reverse in ((None, True), (HOLES, False)):
        xpnn.check_grad(lambda *a, m=mask, r=reverse: f(*a, mask=m, reverse=r), *args, order=2)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_run_on_every_device_and_keep_the_dtype(name: str, device: Any) -> None:
    f, *_ = FUNCTIONS[name]
    for dtype in {"float32", double(device)}:
        here = f(*arguments(name, dtype=dtype), mask=HOLES)
        args = [xpnn.Tensor(a, requires_grad=True) for a in arguments(name, device, dtype)]
        there = f(*args, mask=on(device, HOLES))
        sum((ops.sum(y) for y in there[1:]), ops.sum(there[0])).backward()
        for a, b in zip(here, there, strict=True):
            assert (b.dtype, b.device) == (dtype, device)
            np.testing.assert_allclose(to_numpy(b), a, rtol=1e-4, atol=1e-6)
        for arg in args:
            assert (arg.grad.dtype, arg.grad.device) == (dtype, device)


@pytest.mark.parametrize("name", ["rnn", "gru", "gru reset before", "lstm peepholes"])
def test_second_derivatives_where_some_arguments_are_raw_constants(name: str, device: Any) -> None:
    if double(device) == "float32":
        pytest.skip("finite differences need float64")
    f, *_ = FUNCTIONS[name]
    args = arguments(name, device)
    for i in (0, 2, len(args) - 1):

        def of_one(x: Any, i: int = i) -> Any:
            return f(*args[:i], x, *args[i + 1 :], mask=on(device, HOLES))

        xpnn.check_grad(of_one, args[i], order=2)


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_a_loss_and_the_penalty_of_its_gradient_add_up(name: str) -> None:
    f, *_ = FUNCTIONS[name]
    found = []
    for options in ({}, stepped(name)):
        args = [xpnn.Tensor(a, requires_grad=True) for a in arguments(name)]
        y, h, *_ = f(*args, **options)
        loss = ops.sum(y * y) + ops.sum(h)
        loss.backward(create_graph=True)
        slope = args[2].grad
        for arg in args:
            arg.grad = None
        (loss + ops.sum(slope * slope)).backward()
        found.append([to_numpy(arg.grad) for arg in args])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["rnn", "gru", "gru reset before", "lstm peepholes"])
def test_clipped_gradients_are_those_of_hooks_in_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    f, *_ = FUNCTIONS[name]
    args = arguments(name)
    theirs = [torch.tensor(a, requires_grad=True) for a in args]

    def clip(a: Any) -> Any:
        a.register_hook(lambda g: g.clamp(-0.1, 0.1))
        return a

    x, w, u, b, *rest = theirs
    h, c = (rest[0], rest[1]) if name.startswith("lstm") else (rest[-1], None)
    ys = []
    for t in range(T):
        p = (x[:, t] @ w + b).split(H, dim=1)
        q = (h @ u).split(H, dim=1)
        if name == "rnn":
            h = torch.tanh(clip(p[0] + q[0]))
        elif name == "lstm peepholes":
            row = rest[2]
            i = torch.sigmoid(clip(p[0] + q[0] + row[0] * c))
            forget = torch.sigmoid(clip(p[1] + q[1] + row[1] * c))
            c = forget * c + i * torch.tanh(clip(p[2] + q[2]))
            h = torch.sigmoid(clip(p[3] + q[3] + row[2] * c)) * torch.tanh(c)
        else:
            r, z = (torch.sigmoid(clip(p[k] + q[k])) for k in (0, 1))
            after = name == "gru"
            inner = r * (q[2] + rest[0]) if after else (r * h) @ u[:, 2 * H :]
            n = torch.tanh(clip(p[2] + inner))
            h = (1 - z) * n + z * h
        ys.append(h)
    outputs = [torch.stack(ys, dim=1), h, *([] if c is None else [c])]
    found = pulled(lambda *a: f(*a, grad_clip=0.1), args)
    dys = [torch.tensor(make(tuple(y.shape), dtype="float64", seed=60)) for y in outputs]
    wanted = torch.autograd.grad(outputs, theirs, dys)
    for a, b in zip(found, [*outputs, *wanted], strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-10, atol=1e-13)
    free = pulled(f, args)
    assert np.max(np.abs(free[-1] - found[-1])) > 1e-3  # something was clipped


# ------------------------------------------------------------------------ lengths and masks


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_lengths_give_what_packed_sequences_give_where_they_are(kind: str) -> None:
    torch = pytest.importorskip("torch")
    xpnn.set_dtype("float64")
    layer = layers.Bidirectional(getattr(layers, kind)(H, D, return_state=True))
    for i, p in enumerate(layer.parameters()):
        p.data = make(p.shape, dtype="float64", seed=i) * 0.5
    lengths = np.asarray([2, 4, 1])
    x = make((N, T, D), dtype="float64")
    theirs = getattr(torch.nn, kind)(D, H, batch_first=True, bidirectional=True).double()
    values = {name: torch.tensor(to_numpy(p)) for name, p in layer.named_parameters().items()}
    flat = [w for way in ("forwards.", "backwards.") for w in flat_weights(torch, values, way)]
    for weight, value in zip(theirs.parameters(), flat, strict=True):
        weight.data = value.contiguous()
    t = torch.tensor(x, requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        t, torch.tensor(lengths), batch_first=True, enforce_sorted=False
    )
    out, ends = theirs(packed)
    ends = ends if isinstance(ends, tuple) else (ends,)
    y_theirs, _ = torch.nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
    valid = np.arange(T) < lengths[:, None]

    y, *states = layer(x, lengths=lengths)
    np.testing.assert_allclose(to_numpy(y)[valid], y_theirs.detach().numpy()[valid], rtol=1e-12)
    order = [end[way] for way in (0, 1) for end in ends]
    for a, b in zip(states, order, strict=True):
        np.testing.assert_allclose(to_numpy(a), b.detach().numpy(), rtol=1e-12)

    dy = make((N, T, 2 * H), dtype="float64", seed=9) * valid[..., None]
    dstates = [make((N, H), dtype="float64", seed=10 + i) for i in range(len(states))]
    dx = layer.backward(dy, *dstates)
    upstream = [torch.tensor(g) for g in (dy, *dstates)]
    (wanted,) = torch.autograd.grad([y_theirs, *order], [t], upstream)
    np.testing.assert_allclose(dx, wanted.numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_lengths_are_masks_and_cut_sequences(kind: str, backwards: bool) -> None:
    layer = getattr(layers, kind)(H, D, num_layers=2, return_state=True, go_backwards=backwards)
    x, lengths = make((N, T, D)), np.asarray([3, 1, 4], np.uint8)
    by_lengths = layer(x, lengths=lengths)
    for other in (
        layer(x, mask=np.arange(T) < lengths[:, None]),
        layer(x, mask=xpnn.Tensor(np.arange(T) < lengths[:, None])),
        layer(x, lengths=[3, 1, 4]),
        layer(x, lengths=xpnn.Tensor(lengths)),
    ):
        assert_close(other, by_lengths, rtol=0)
    for i, n in enumerate(lengths):  # each sequence by itself, without what does not count
        y, *states = layer(x[i : i + 1, :n])
        assert_close(by_lengths[0][i : i + 1, :n], y, rtol=1e-5, atol=1e-6)
        for a, b in zip(by_lengths[1:], states, strict=True):
            assert_close(a[i : i + 1], b, rtol=1e-5, atol=1e-6)


def test_steps_that_do_not_count_hand_the_state_on() -> None:
    layer = layers.LSTM(H, D, return_state=True)
    x, h0, c0 = make((2, 3, D)), make((2, H), seed=1), make((2, H), seed=2)
    x[0] = np.nan
    x[1, 1] = np.nan
    mask = np.asarray([[False, False, False], [True, False, True]])
    y, h, c = layer(x, h0, c0, mask=mask)
    for t in range(3):
        np.testing.assert_array_equal(to_numpy(y)[0, t], h0[0])
    np.testing.assert_array_equal(to_numpy(h)[0], h0[0])
    np.testing.assert_array_equal(to_numpy(c)[0], c0[0])
    np.testing.assert_array_equal(to_numpy(y)[1, 1], to_numpy(y)[1, 0])
    dys = (np.ones((2, 3, H), np.float32), *(np.ones((2, H), np.float32),) * 2)
    _, dh0, dc0 = layer.backward(*dys)
    np.testing.assert_array_equal(dh0[0], np.full(H, 4.0))  # three steps, and the last state
    np.testing.assert_array_equal(dc0[0], np.ones(H))
    assert np.all(np.isfinite(dh0))
    one = layer(np.concatenate([x[1:, :1], x[1:, 2:]], axis=1), h0[1:], c0[1:])
    assert_close(h[1:], one[1], rtol=1e-6)


def test_backwards_is_the_reversed_sequence_in_the_order_of_x() -> None:
    ahead = layers.GRU(H, D, num_layers=2, return_state=True)
    back = layers.GRU(H, D, num_layers=2, return_state=True, go_backwards=True)
    back.load_state_dict(ahead.state_dict())
    x = make((N, T, D))
    y, h = ahead(x[:, ::-1])
    assert_close(back(x), (y[:, ::-1, :], h), rtol=1e-6)


def test_lengths_of_a_small_dtype_count_in_long_sequences(device: Any) -> None:
    lengths = on(device, np.asarray([0, 200], np.uint8))
    mask = F.sequence_mask(lengths, 300)
    assert mask.shape == (2, 300)
    assert to_numpy(mask).sum(axis=1).tolist() == [0, 200]
    assert F.sequence_mask(lengths[:0], 3).shape == (0, 3)


# ----------------------------------------------------------------------------- the layers


def test_training_with_lengths_learns_what_needs_memory() -> None:
    """The sign of the first step decides, and what lies behind the end misleads."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 6, 1)).astype(np.float32)
    y, lengths = (x[:, 0, 0] > 0).astype(np.int64), rng.integers(1, 7, 64)
    for make_layer in (layers.RNN, layers.GRU, layers.LSTM):
        xpnn.set_seed(0)
        net = make_layer(8, return_sequences=False)
        out = layers.Dense(2)
        both = layers.Chain([net, out])
        optimizer = xpnn.optim.Adam(0.03)
        history = []
        for _ in range(60):
            loss = xpnn.losses.cross_entropy(out(net(x, lengths=lengths)), y)
            loss.backward()
            optimizer.step(both)
            both.zero_grad()
            history.append(float(loss))
        assert history[-1] < 0.25 < 0.6 < history[0], make_layer


def test_sequences_of_another_length_and_of_one_step_come_next() -> None:
    for layer in (
        layers.RNN(H),
        layers.GRU(H),
        layers.LSTM(H),
        layers.Bidirectional(layers.RNN(H)),
    ):
        for steps in (3, 1, 5):
            x = make((2, steps, D))
            y = layer(x)
            dx = layer.backward(np.ones(y.shape, np.float32))
            assert dx.shape == x.shape
            assert all(p.grad is not None for p in layer.parameters())


def test_the_last_state_alone_carries_gradients_to_the_first_step() -> None:
    x = make((N, T, D), dtype="float64")
    xpnn.set_dtype("float64")
    for kind in (layers.RNN, layers.GRU, layers.LSTM):
        whole, last = kind(H, D), kind(H, D, return_sequences=False)
        last.load_state_dict(whole.state_dict())
        g = make((N, H), dtype="float64", seed=5)
        dy = np.zeros((N, T, H))
        dy[:, -1] = g
        assert_close(last(x), whole(x)[:, -1, :], rtol=1e-12)
        dx = last.backward(g)
        assert_close(dx, whole.backward(dy), rtol=1e-10)
        assert np.all(np.max(np.abs(dx), axis=(0, 2)) > 0)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_a_cell_step_by_step_is_the_layer(kind: str) -> None:
    layer = getattr(layers, kind)(H, D, return_state=True)
    cell = getattr(layers, f"{kind}Cell")(H, D)
    cell.load_state_dict(layer.state_dict())
    x = make((N, T, D))
    states: Any = ()
    for t in range(T):
        states = cell(x[:, t], *states)
        states = states if isinstance(states, tuple) else (states,)
    y, *ends = layer(x)
    assert_close(tuple(ends), states, rtol=1e-5, atol=1e-6)
    half = layer(x[:, :2])
    assert_close(layer(x[:, 2:], *half[1:])[0], y[:, 2:, :], rtol=1e-5, atol=1e-6)


def test_names_shapes_and_order_of_the_parameters() -> None:
    def shapes(layer: Any) -> dict[str, tuple[int, ...]]:
        return {name: tuple(p.shape) for name, p in layer.named_parameters().items()}

    assert shapes(layers.LSTM(5, 2, num_layers=2, peepholes=True)) == {
        "weight_input": (2, 20),
        "weight_hidden": (5, 20),
        "bias": (20,),
        "peephole": (3, 5),
        "above.0.weight_input": (5, 20),
        "above.0.weight_hidden": (5, 20),
        "above.0.bias": (20,),
        "above.0.peephole": (3, 5),
    }
    assert list(shapes(layers.LSTM(5, 2, num_layers=2)))[3] == "above.0.weight_input"
    tied = shapes(layers.LSTM(5, 2, tied_input_forget=True, peepholes=True))
    assert list(tied.values()) == [(2, 15), (5, 15), (15,), (2, 5)]
    names = ["weight_input", "weight_hidden", "bias"]
    assert list(shapes(layers.GRU(5, 2))) == [*names, "bias_hidden"]
    assert list(shapes(layers.GRU(5, 2, reset_after=False))) == names
    assert list(shapes(layers.GRU(5, 2, bias=False))) == names[:2]
    assert list(shapes(layers.RNN(5, 2))) == names


def test_initial_values_are_those_of_single_gates() -> None:
    for layer in (layers.GRU(H, D), layers.LSTM(H, D), layers.LSTMCell(H, D)):
        for u in np.split(to_numpy(layer.weight_hidden), layer.gates, axis=1):
            np.testing.assert_allclose(u.T @ u, np.eye(H), atol=1e-5)
        w = np.abs(to_numpy(layer.weight_input))
        bound = np.sqrt(6 / (D + H))  # Glorot's, of one gate
        assert 0.8 * bound < np.max(w) <= bound
    bias = to_numpy(layers.LSTM(H, D, bias_init="ones", forget_bias=2.0).bias)
    np.testing.assert_array_equal(bias.reshape(4, H), [[1] * H, [3] * H, [1] * H, [1] * H])
    bias = to_numpy(layers.LSTM(H, D, tied_input_forget=True).bias)
    np.testing.assert_array_equal(bias.reshape(3, H), [[1] * H, [0] * H, [0] * H])
    assert not np.any(to_numpy(layers.LSTM(H, D, peepholes=True).peephole))


def test_dropout_acts_between_layers_and_only_in_training() -> None:
    layer = layers.RNN(H, D, num_layers=2, dropout=1.0)
    x = make((N, T, D))
    upper = layer.above[0]
    assert_close(layer(x), upper(np.zeros((N, T, H), np.float32)), rtol=1e-6)
    layer.eval()
    below = layers.RNN(H, D)
    below.load_state_dict({k: v for k, v in layer.state_dict().items() if "above" not in k})
    assert_close(layer(x), upper(below(x)), rtol=1e-6)
    half = layers.GRU(H, D, num_layers=3, dropout=0.5)
    outputs = []
    for seed in (0, 0, 1):
        xpnn.set_seed(seed)
        outputs.append(to_numpy(half(x)))
    assert np.array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


def test_switches_before_the_first_call_hold_for_the_layers_made_by_it() -> None:
    layer = layers.LSTM(H, num_layers=2).eval().freeze()
    layer(make((N, T, D)))
    assert not any(part.training for part in layer.layers())
    assert not any(p.requires_grad for p in layer.parameters())


# ------------------------------------------------------------------------- both directions


@pytest.mark.parametrize("merge", ["concat", "sum", "multiply", "average"])
@pytest.mark.parametrize("sequences", [True, False])
def test_both_directions_are_merged(merge: str, sequences: bool) -> None:
    inner = layers.LSTM(H, D, return_sequences=sequences)
    both = layers.Bidirectional(inner, merge=merge)
    back = layers.LSTM(H, D, return_sequences=sequences, go_backwards=True)
    back.load_state_dict(both.backwards.state_dict())
    assert not np.array_equal(to_numpy(back.weight_input), to_numpy(inner.weight_input))
    x = make((N, T, D))
    a, b = to_numpy(inner(x)), to_numpy(back(x))
    wanted = {
        "concat": np.concatenate([a, b], axis=-1),
        "sum": a + b,
        "multiply": a * b,
        "average": (a + b) / 2,
    }
    assert_close(both(x), wanted[merge], rtol=1e-6)
    again = Layer.from_config(json.loads(json.dumps(both.to_config())))
    again.load_state_dict(both.state_dict())
    assert_close(again(x), both(x), rtol=0)


@pytest.mark.parametrize("called", [False, True])
def test_the_copy_reads_the_other_way_whatever_was_done_before(called: bool) -> None:
    inner = layers.GRU(H, num_layers=2, go_backwards=True)
    x = make((N, T, D))
    if called:
        inner(x)
    both = layers.Bidirectional(inner)
    y = both(x)
    assert [part.go_backwards for part in both.forwards.layers()] == [True, True]
    assert [part.go_backwards for part in both.backwards.layers()] == [False, False]
    assert both.backwards.to_config()["config"]["go_backwards"] is False
    plain = layers.GRU(H, D, num_layers=2)
    plain.load_state_dict(both.backwards.state_dict())
    assert_close(y[:, :, H:], plain(x), rtol=1e-6)
    assert len(both.parameters()) == 2 * len(inner.parameters())
    ours, copied = (to_numpy(p.above[0].weight_hidden) for p in (inner, both.backwards))
    assert not np.array_equal(ours, copied)


def test_states_of_both_directions_go_in_and_out() -> None:
    both = layers.Bidirectional(layers.LSTM(H, D, return_state=True), merge="sum")
    x = make((N, T, D))
    states = [make((N, H), seed=i) for i in range(4)]
    y, *ends = both(x, *states)
    ahead, back = both.forwards(x, *states[:2]), both.backwards(x, *states[2:])
    assert_close(y, ahead[0] + back[0], rtol=1e-6)
    assert_close(tuple(ends), (*ahead[1:], *back[1:]), rtol=1e-6)


# --------------------------------------------------------------------------------- errors


def x_() -> Any:
    return np.ones((N, T, D), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: layers.LSTM(0), ConfigError, "LSTM: 'hidden_size' must be at least 1, got 0"),
        (lambda: layers.GRUCell(3, 0), ConfigError, "GRUCell: 'input_size' must be at least 1"),
        (lambda: layers.RNN(3, num_layers=0), ConfigError, "'num_layers' must be at least 1"),
        (lambda: layers.RNN(3, dropout=0.5), ConfigError, "num_layers=1 has none between"),
        (
            lambda: layers.RNN(3, num_layers=2, dropout=1.5),
            ConfigError,
            r"RNN: 'dropout' must be in \[0, 1\], got 1.5",
        ),
        (lambda: layers.LSTM(3, grad_clip=0), ConfigError, "'grad_clip' must be positive, or None"),
        (lambda: layers.LSTM(3, activation="tan"), ConfigError, "unknown activation 'tan'"),
        (lambda: layers.LSTM(3, num_layer=2), TypeError, "unexpected keyword argument 'num_layer'"),
        (
            lambda: layers.Bidirectional(layers.Dense(3)),
            ConfigError,
            r"must be a recurrent layer, such as layers.LSTM\(5\), got Dense",
        ),
        (
            lambda: layers.Bidirectional(layers.RNN(3), merge="mean"),
            ConfigError,
            "must be one of concat, sum, multiply, average, got 'mean'",
        ),
        (
            lambda: layers.Bidirectional(layers.LSTM(3))(x_(), np.ones((N, 3), np.float32)),
            ShapeError,
            "those of both directions, h0, c0, h0_back, c0_back; got 1",
        ),
        (
            lambda: layers.GRU(3)(x_(), mask=np.ones((N, T), bool), lengths=[4, 4, 4]),
            ConfigError,
            "'mask' and 'lengths' say the same in two ways",
        ),
        (
            lambda: layers.GRU(3)(x_(), mask=np.ones((N, T), int)),
            DTypeError,
            "expected a mask of booleans, True where a step counts, got int64. Write mask != 0",
        ),
        (
            lambda: layers.GRU(3)(x_(), mask=np.ones((N, T, 1), bool)),
            ShapeError,
            r"mask of shape \(N, T\) = \(3, 4\), got \(3, 4, 1\)",
        ),
        (lambda: layers.GRU(3)(x_(), lengths=[1, 2, 5]), DataError, r"in \[0, 4\], got 5"),
        (
            lambda: layers.GRU(3)(x_(), lengths=np.asarray([1, -2, 3])),
            DataError,
            r"GRU: the sequences have 4 steps, so expected lengths in \[0, 4\], got -2",
        ),
        (
            lambda: layers.GRU(3)(x_(), lengths=[1, 2]),
            ShapeError,
            r"GRU: expected 'lengths' to be one integer a sequence, shape \(3,\), got \(2,\)",
        ),
        (
            lambda: layers.GRU(3)(x_(), lengths=[1.0, 2.0, 3.0]),
            DTypeError,
            "GRU: expected lengths to be integers, got float32",
        ),
        (
            lambda: F.sequence_mask(np.ones((2, 2), int), 3),
            ShapeError,
            r"one integer a sequence, shape \(N,\), got \(2, 2\)",
        ),
        (
            lambda: F.sequence_mask(np.asarray([1.0, 2.0]), 3),
            DTypeError,
            "sequence_mask: expected lengths to be integers, got float64",
        ),
        (
            lambda: F.sequence_mask([1, 2], 3),
            DTypeError,
            "sequence_mask: expected an array of lengths, got list",
        ),
        (
            lambda: F.lstm(x_(), np.ones((D, 9)), np.ones((3, 9)), peephole=np.ones(9), tied=True),
            ShapeError,
            r"'peephole' to have a row of 3 for each of f and o, shape \(2, 3\), got \(9,\)",
        ),
        (
            lambda: F.gru(x_(), np.ones((D, 9)), np.ones((3, 9)), mask=np.ones((N, T + 1), bool)),
            ShapeError,
            r"gru: expected a mask of shape \(N, T\) = \(3, 4\), got \(3, 5\)",
        ),
        (
            lambda: F.gru(x_(), np.ones((D, 9)), np.ones((3, 9)), mask=np.ones((N, T))),
            DTypeError,
            "gru: expected a mask of booleans, True where a step counts, got float64",
        ),
        (
            lambda: layers.GRU(3)(x_(), np.ones((N, 3), int)),
            DTypeError,
            "GRU: expected floating-point h0, got int64",
        ),
        (
            lambda: F.lstm(x_(), np.ones((D, 12)), np.ones((3, 9))),
            ShapeError,
            r"lstm: expected weights of shapes \(D, 4 H\) and \(H, 4 H\), got \(2, 12\) and",
        ),
        (
            lambda: F.lstm(x_(), np.ones((D, 12)), np.ones((3, 12)), peephole=np.ones((2, 3))),
            ShapeError,
            r"a row of 3 for each of i, f and o, shape \(3, 3\), got \(2, 3\)",
        ),
        (
            lambda: F.rnn(x_()[0], np.ones((D, 3)), np.ones((3, 3))),
            ShapeError,
            r"rnn: expected x of shape \(N, T, 2\), got \(4, 2\).*for one step use rnn_step",
        ),
        (
            lambda: F.rnn(x_(), np.ones((D, 3)), np.ones((3, 3)), None, np.ones((1, 3))),
            ShapeError,
            r"rnn: expected h0 of shape \(N, H\) = \(3, 3\), got \(1, 3\)",
        ),
        (
            lambda: F.rnn(x_(), np.ones((D, 3)), np.ones((3, 3)), grad_clip=-1.0),
            ConfigError,
            "rnn: the limit of gradients must be positive, got -1.0",
        ),
        (
            lambda: F.clip_gradient(x_(), 0.0),
            ConfigError,
            "clip_gradient: the limit of gradients must be positive, got 0.0",
        ),
        (
            lambda: F.gru(
                x_(), np.ones((D, 9)), np.ones((3, 9)), None, np.ones(3), reset_after=False
            ),
            ConfigError,
            "'bias_hidden' belongs to reset_after=True",
        ),
    ],
)
def test_bad_input_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_standard_activations_are_fused_and_others_are_not() -> None:
    def primitive(layer: Any) -> str:
        return layer(x_()).vertex.node.primitive.name

    assert primitive(layers.RNN(H)) == primitive(layers.RNN(H, activation="relu")) == "rnn_scan"
    assert primitive(layers.GRU(H)) == "gru_scan"
    assert primitive(layers.GRU(H, reset_after=False)) == "gru_scan_reset_before"
    assert primitive(layers.LSTM(H)) == "lstm_scan"
    assert layers.LSTM(H, activation="softsign")(x_()).vertex.primitive.name == "stack"


def test_a_wrong_first_input_leaves_the_layer_unbuilt() -> None:
    layer = layers.LSTM(H)
    with pytest.raises(ShapeError, match=r"expected x of shape \(N, T, D\), got \(4, 2\)"):
        layer(x_()[0])
    assert layer(x_()).shape == (N, T, H)


def test_the_gradient_through_clip_gradient_is_clipped(device: Any) -> None:
    x = xpnn.Tensor(make((3,), device), requires_grad=True)
    y = F.clip_gradient(x, 0.5)
    assert_close(y, x, rtol=0)
    y.backward(on(device, np.asarray([-2.0, 0.25, 0.75], np.float32)))
    np.testing.assert_array_equal(to_numpy(x.grad), [-0.5, 0.25, 0.5])


@pytest.mark.parametrize("activation", ["tanh", "softsign"])  # one operation, and step by step
@pytest.mark.parametrize("cls", [layers.RNN, layers.GRU, layers.LSTM])
def test_what_stands_in_the_padding_has_no_influence(cls: Any, activation: str) -> None:
    mask = np.asarray([[True, True, False], [True, False, False]])
    x = make((2, 3, 4))
    layer = cls(3, 4, activation=activation)
    found = []
    for padding in (0.0, np.nan):
        y = layer(np.where(mask[..., None], x, np.float32(padding)), mask=mask)
        dx = layer.backward(make((2, 3, 3), seed=1))
        found.append([to_numpy(y), dx, *(to_numpy(g) for g in layer.grads)])
        layer.zero_grad()
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_batch_of_nothing_has_no_lengths() -> None:
    assert layers.GRU(3)(x_()[:0], lengths=[]).shape == (0, T, 3)
