"""Attention beyond the table of layers: masks, blocks, rows without weights, dropout, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers import assert_close, double, make, on

import xpnn
from xpnn import functional as F
from xpnn import layers, losses, ops
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, DTypeError, ShapeError
from xpnn.primitives.attention import attention as primitive
from xpnn.random import Stream


def qkv(
    lead: tuple[int, ...], tq: int, tk: int, device: str = "cpu", dtype: str = "float64"
) -> Any:
    shapes = [(*lead, tq, 4), (*lead, tk, 4), (*lead, tk, 3)]
    return [make(shape, device, dtype, seed=i) for i, shape in enumerate(shapes)]


def bools(*shape: int) -> Any:
    mask = np.random.default_rng(5).random(shape) < 0.6
    mask[..., 0] = True
    return mask


# name: leading axes, queries, keys, mask, options
CASES: dict[str, Any] = {
    "plain": ((2,), 3, 5, None, {}),
    "no leading axes": ((), 3, 5, None, {"scale": -0.7}),
    "causal, more queries": ((2, 3), 5, 2, None, {"causal": True}),
    "causal, more keys": ((2, 3), 2, 5, None, {"causal": True}),
    "mask of all": ((2, 3), 3, 5, bools(3, 5), {}),
    "mask of examples": ((2, 3), 3, 5, bools(2, 1, 3, 5), {}),
    "mask of keys, causal": ((2, 3), 5, 5, bools(2, 1, 1, 5), {"causal": True}),
    "mask of queries and heads": ((2, 3), 3, 5, bools(3, 3, 1) | True, {}),
    "mask to add": ((2, 3), 3, 5, make((3, 1, 5), dtype="float64", seed=8), {}),
    "mask to add, causal": ((2, 2), 3, 3, make((2, 2, 3, 3), dtype="float64"), {"causal": True}),
    "mask of every kind": ((2, 3, 2), 2, 3, bools(2, 1, 2, 2, 3), {"scale": 1.0}),
}


def merged(torch: Any, mask: Any, tq: int, tk: int, causal: bool) -> Any:
    """Return one mask to add, since PyTorch takes no mask beside is_causal."""
    total = torch.zeros(tq, tk, dtype=torch.float64)
    if causal:
        total = total.masked_fill(~torch.ones(tq, tk).tril().bool(), -math.inf)
    if mask is None:
        return total
    return total + mask if mask.is_floating_point() else total.masked_fill(~mask, -math.inf)


@pytest.mark.oracle
@pytest.mark.parametrize("block", [2**20, 20, 1])
@pytest.mark.parametrize("name", CASES)
def test_equals_torch_with_all_gradients_in_blocks_of_any_size(
    name: str, block: int, monkeypatch: Any
) -> None:
    torch = pytest.importorskip("torch")
    lead, tq, tk, mask, options = CASES[name]
    arrays = qkv(lead, tq, tk)
    monkeypatch.setattr(xpnn.backend.device_of(arrays[0]).library, "block", block)
    if mask is not None and mask.dtype == np.float64:
        arrays.append(mask)
    g = make((*lead, tq, 3), dtype="float64", seed=9)
    rest = [mask] if len(arrays) == 3 else []
    y, pullback = xpnn.vjp(lambda *xs: F.attention(*xs, *rest, **options), *arrays)
    leaves = [torch.tensor(x, requires_grad=True) for x in arrays]
    given = leaves[3] if len(leaves) == 4 else None if mask is None else torch.tensor(mask)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        *leaves[:3],
        attn_mask=merged(torch, given, tq, tk, options.get("causal", False)),
        scale=options.get("scale"),
    )
    theirs.backward(torch.tensor(g))
    assert_close(y, theirs.detach().numpy(), rtol=1e-10, atol=1e-13)
    for ours, leaf in zip(pullback(g), leaves, strict=True):
        assert_close(ours, leaf.grad.numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("block", [2**20, 20])
@pytest.mark.parametrize("name", ["causal, more queries", "mask of examples", "mask to add"])
def test_has_derivatives_of_second_order(name: str, block: int, monkeypatch: Any) -> None:
    lead, tq, tk, mask, options = CASES[name]
    arrays = qkv(lead, tq, tk)
    monkeypatch.setattr(xpnn.backend.device_of(arrays[0]).library, "block", block)
    if mask.dtype == np.float64 if mask is not None else False:
        xpnn.check_grad(lambda *xs: F.attention(*xs, **options), *arrays, mask, order=2)
    else:
        xpnn.check_grad(lambda *xs: F.attention(*xs, mask, **options), *arrays, order=2)
    # with respect to one of them, beside raw arrays
    for i in range(3):

        def of_one(x: Any, i: int = i) -> Any:
            return F.attention(*arrays[:i], x, *arrays[i + 1 :], mask, **options)

        xpnn.check_grad(of_one, arrays[i], order=2)


@pytest.mark.parametrize("name", ["causal, more keys", "mask of keys, causal", "mask to add"])
def test_runs_on_every_device_and_keeps_the_dtype(name: str, device: Any) -> None:
    lead, tq, tk, mask, options = CASES[name]
    for dtype in {"float32", double(device)}:
        here = qkv(lead, tq, tk, dtype=dtype)
        expected = F.attention(*here, mask, **options)
        there = [on(device, x) for x in here]
        rest = [*there[1:], None if mask is None else on(device, mask)]
        tensor = xpnn.Tensor(there[0], requires_grad=True)

        def f(q: Any, rest: Any = rest) -> Any:
            return F.attention(q, *rest, **options)

        for y in (f(there[0]), f(tensor)):
            assert tensor.dtype == y.dtype
            assert xpnn.backend.device_of(y) == device
            np.testing.assert_allclose(to_numpy(y), expected, rtol=1e-5, atol=1e-6)
        slope = xpnn.grad(lambda q, f=f: ops.sum(f(q) ** 2))(tensor)
        assert slope.device == device
        second = xpnn.grad(lambda q, f=f: ops.sum(xpnn.grad(lambda p: ops.sum(f(p)))(q) ** 2))
        assert second(tensor).device == device


def test_no_weights_are_kept() -> None:
    q, k, v = (xpnn.Tensor(x, requires_grad=True) for x in qkv((2, 2), 40, 50))
    y = F.attention(q, k, v)
    sizes = [x.size for x in y.vertex.kept if hasattr(x, "size")]
    assert max(sizes) < 2 * 2 * 40 * 50
    assert sum(sizes) == q.size + k.size + v.size + y.size + 2 * 2 * 40


def test_blocks_bound_what_is_computed_at_a_time() -> None:
    sizes = []

    class Watching:
        def __getattr__(self, name: str) -> Any:
            return getattr(xpnn.array_namespace(np.ones(1)), name)

        def exp(self, x: Any) -> Any:
            sizes.append(x.size)
            return np.exp(x)

    q, k, v = qkv((3, 5), 4, 6)
    primitive.forward(Watching(), q, k, v, None, None, scale=1.0, block=100)
    assert sizes == [4 * 24, 4 * 24, 4 * 24, 3 * 24]


def test_huge_scores_do_not_overflow() -> None:
    q = np.asarray([[1e4], [-1e4]], np.float32)
    k, v = np.asarray([[1.0], [2.0]], np.float32), np.asarray([[1.0], [3.0]], np.float32)
    y, pullback = xpnn.vjp(lambda q: F.attention(q, k, v), q)
    np.testing.assert_array_equal(y, [[3.0], [1.0]])
    np.testing.assert_array_equal(pullback(np.ones((2, 1), np.float32)), 0)


# --------------------------------------------------------------------------- nothing to attend to

EMPTY_ROWS = np.asarray([[True, False, True], [False, False, False]])


@pytest.mark.parametrize("kind", ["bools", "numbers", "weights"])
def test_a_query_without_keys_gives_zeros_and_no_gradient(kind: str, device: Any) -> None:
    mask = EMPTY_ROWS if kind == "bools" else np.where(EMPTY_ROWS, 0.5, -np.inf)
    mask = on(device, mask.astype("float32") if kind != "bools" else mask)
    arrays = [on(device, x) for x in qkv((2,), 2, 3, dtype="float32")]

    def f(*xs: Any) -> Any:
        if kind != "weights":
            return F.attention(*xs, mask)
        return ops.concat(F.attention(*xs, mask, return_weights=True), axis=-1)

    y, pullback = xpnn.vjp(f, *arrays)
    g = make(tuple(y.shape), device, "float32", seed=3)
    dq, dk, dv = (to_numpy(x) for x in pullback(g))
    np.testing.assert_array_equal(to_numpy(y)[:, 1], 0)
    np.testing.assert_array_equal(dq[:, 1], 0)
    assert (dq[:, 0] != 0).all()
    for d in (dk, dv):
        np.testing.assert_array_equal(d[:, 1], 0)
        assert np.isfinite(d).all()
        assert (d[:, 0] != 0).any()


def test_a_query_without_keys_has_derivatives_of_second_order() -> None:
    for mask in (EMPTY_ROWS, np.where(EMPTY_ROWS, 0.5, -np.inf)):
        f = xpnn.grad(lambda *xs, m=mask: ops.sum(F.attention(*xs, m) ** 2), (0, 1, 2))
        arrays = qkv((2,), 2, 3)
        xpnn.check_grad(lambda *xs, m=mask: F.attention(*xs, m), *arrays, order=2)
        assert all(np.isfinite(x).all() for x in f(*arrays))


def test_a_row_of_keys_that_only_fill_up_gives_the_bias_alone() -> None:
    layer = layers.MultiHeadAttention(2, bias_init="ones")
    y = layer(make((2, 3, 4)), key_mask=np.asarray([[True, True, False], [False] * 3]))
    np.testing.assert_array_equal(to_numpy(y)[1], 1)
    layer.backward(make((2, 3, 4), seed=1))
    assert all(np.isfinite(to_numpy(g)).all() for g in layer.grads)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"return_weights": True}])
def test_no_keys_at_all(options: Any, device: Any) -> None:
    arrays = [on(device, x) for x in qkv((2,), 3, 0, dtype="float32")]
    y, pullback = xpnn.vjp(lambda *xs: F.attention(*xs, **options), *arrays)
    y = y[0] if options.get("return_weights") else y
    np.testing.assert_array_equal(to_numpy(y), np.zeros((2, 3, 3)))
    if not options.get("return_weights"):
        dq, dk, _ = pullback(make((2, 3, 3), device, seed=1))
        np.testing.assert_array_equal(to_numpy(dq), 0)
        assert dk.shape == (2, 0, 4)


# --------------------------------------------------------------------------------------- dropout


def test_dropout_comes_after_the_softmax_and_has_its_scale(device: Any) -> None:
    q, k, _ = (on(device, x) for x in qkv((2,), 30, 20, dtype="float32"))
    unit = on(device, np.broadcast_to(np.eye(20, dtype="float32"), (2, 20, 20)))
    _, weights = F.attention(q, k, unit, return_weights=True)
    dropped = to_numpy(F.attention(q, k, unit, dropout=0.25, rng=Stream(3)))
    kept = dropped != 0
    assert abs(kept.mean() - 0.75) < 0.04
    np.testing.assert_array_equal(kept, Stream(3).bernoulli(0.75, (2, 30, 20)))
    expected = np.where(kept, to_numpy(weights) / 0.75, 0)
    np.testing.assert_allclose(dropped, expected, rtol=1e-5, atol=1e-7)
    also, before = F.attention(q, k, unit, dropout=0.25, rng=Stream(3), return_weights=True)
    np.testing.assert_allclose(to_numpy(also), dropped, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(to_numpy(before), to_numpy(weights))
    assert (to_numpy(F.attention(q, k, unit, dropout=1.0)) == 0).all()
    off = F.attention(q, k, unit, dropout=0.5, training=False)
    np.testing.assert_array_equal(to_numpy(off), to_numpy(F.attention(q, k, unit)))


@pytest.mark.parametrize("block", [2**20, 20])
def test_gradients_with_dropout_are_those_of_the_same_mask(block: int, monkeypatch: Any) -> None:
    arrays = qkv((2, 2), 3, 4)
    monkeypatch.setattr(xpnn.backend.device_of(arrays[0]).library, "block", block)

    def f(*xs: Any, weights: bool = False) -> Any:
        y = F.attention(*xs, dropout=0.4, rng=Stream(1), return_weights=weights)
        return y[0] if weights else y

    xpnn.check_grad(f, *arrays, order=2)
    g = make((2, 2, 3, 3), dtype="float64", seed=4)
    (y, back), (z, forth) = (xpnn.vjp(lambda *xs, w=w: f(*xs, weights=w), *arrays) for w in (0, 1))
    assert_close(y, z, rtol=1e-12)
    assert_close(back(g), forth(g), rtol=1e-10, atol=1e-14)


# ---------------------------------------------------------------------------------------- layers


def test_a_second_batch_of_other_lengths_goes_through() -> None:
    # numpy-ml failed at the second batch
    layer = layers.DotProductAttention()
    for tq, tk in ((3, 5), (2, 4)):
        q, k, v = qkv((2,), tq, tk)
        assert layer(q, k, v).shape == (2, tq, 3)
        dq, dk, dv = layer.backward(make((2, tq, 3), dtype="float64"))
        assert (dq.shape, dk.shape, dv.shape) == (q.shape, k.shape, v.shape)


def test_masks_of_a_layer_say_who_may_attend() -> None:
    x = make((1, 3, 4))
    layer = layers.MultiHeadAttention(2).eval()
    mask = np.asarray([[1, 0, 0], [1, 1, 0], [0, 0, 1]]) == 1
    _, weights = layer(x, mask=mask, return_weights=True)
    np.testing.assert_array_equal(to_numpy(weights)[0, 0] > 0, mask)
    np.testing.assert_allclose(to_numpy(weights).sum(-1), 1, rtol=1e-6)
    added = np.where(mask, 0, -np.inf).astype("float64")
    assert_close(layer(x, mask=added), layer(x, mask=mask))
    keys = np.asarray([[True, False, True]])
    assert_close(layer(x, mask=added, key_mask=keys), layer(x, mask=mask & keys))


def test_an_attention_that_is_told_its_size_is_the_one_that_infers_it() -> None:
    x = make((2, 3, 4))
    xpnn.set_seed(1)
    inferred = layers.MultiHeadAttention(2)(x)
    xpnn.set_seed(1)
    told = layers.MultiHeadAttention(2, 4, key_dim=2, value_dim=2)(x)
    assert_close(inferred, told, rtol=0)


X = np.ones((2, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: F.attention(X, X, X[:, :2]),
            ShapeError,
            r"got \(2, 3, 4\), \(2, 3, 4\), \(2, 2, 4\)\. Are q and k of different sizes",
        ),
        (
            lambda: F.attention(X, X, X, np.ones((2, 3), bool)),
            ShapeError,
            r"broadcasts to \(2, 3, 3\).*got shape \(2, 3\)\. A mask of keys, \(N, Tk\), needs",
        ),
        (
            lambda: F.attention(X, X, X, np.ones((1, 2, 3, 3), bool)),
            ShapeError,
            r"got shape \(1, 2, 3, 3\)",
        ),
        (
            lambda: F.attention(X, X, X, np.ones((3, 3), int)),
            DTypeError,
            r"boolean mask \(True: may attend\) or a floating-point.*got int64. Compare it",
        ),
        (
            lambda: F.attention(X, X, X, dropout=-0.1),
            ConfigError,
            r"attention: 'dropout' must be in \[0, 1\], got -0.1",
        ),
        (
            lambda: layers.DotProductAttention(dropout=1.5),
            ConfigError,
            r"DotProductAttention: 'dropout' must be in \[0, 1\], got 1.5",
        ),
        (
            lambda: layers.MultiHeadAttention(0),
            ConfigError,
            "'num_heads' must be at least 1, got 0",
        ),
        (
            lambda: layers.MultiHeadAttention(2, 4, key_dim=0),
            ConfigError,
            "'key_dim' must be at least 1, got 0",
        ),
        (
            lambda: layers.MultiHeadAttention(3, 4),
            ConfigError,
            "4 features do not divide into 3 heads. Choose another number",
        ),
        (
            lambda: layers.MultiHeadAttention(3)(X),
            ConfigError,
            "4 features do not divide into 3 heads",
        ),
        (
            lambda: layers.MultiHeadAttention(2)(X[0]),
            ShapeError,
            r"expected x of shape \(N, T, D\), got \(3, 4\)",
        ),
        (
            lambda: layers.MultiHeadAttention(2)(X, X, X, X),
            ShapeError,
            "expected queries, keys, values, got 4 arrays",
        ),
        (
            lambda: layers.MultiHeadAttention(2)(X, mask=np.ones((2, 3), bool)),
            ShapeError,
            r"mask of shape \(3, 3\), \(2, 3, 3\) or \(2, 2, 3, 3\), got \(2, 3\).*into key_mask",
        ),
        (
            lambda: layers.MultiHeadAttention(2)(X, key_mask=np.ones((3, 3), bool)),
            ShapeError,
            r"key_mask of shape \(N, Tk\), \(2, 3\), got \(3, 3\)",
        ),
        (
            lambda: layers.MultiHeadAttention(2)(X, key_mask=np.ones((2, 3))),
            DTypeError,
            r"boolean key_mask \(True: valid\), got float64. Compare it",
        ),
    ],
)
def test_bad_input_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# ----------------------------------------------------------------------------------- transformer


def test_a_place_sees_only_those_before_it_where_it_is_told_so() -> None:
    x, memory = make((1, 5, 4)), make((1, 3, 4), seed=1)
    later = np.concatenate([x[:, :3], make((1, 2, 4), seed=2)], axis=1)
    cases = [
        (layers.TransformerEncoderLayer(2, 3, causal=True), (), True),
        (layers.TransformerEncoderLayer(2, 3), (), False),
        (layers.TransformerDecoderLayer(2, 3), (memory,), True),
        (layers.TransformerDecoderLayer(2, 3, causal=False), (memory,), False),
    ]
    for layer, rest, alone in cases:
        layer.eval()
        a, b = (to_numpy(layer(given, *rest))[:, :3] for given in (x, later))
        assert np.array_equal(a, b) is alone


def test_layers_whose_sizes_are_given_are_built() -> None:
    layer = layers.TransformerEncoderLayer(2, 3, 4)
    assert layer.named_parameters()["attention.query.weight"].shape == (4, 4)
    assert list(layer.state_dict())[-4:] == [
        f"norm{i}.{name}" for i in (1, 2) for name in ("scale", "shift")
    ]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: layers.TransformerEncoderLayer(2, 0),
            ConfigError,
            "TransformerEncoderLayer: 'feedforward_size' must be at least 1, got 0",
        ),
        (
            lambda: layers.TransformerDecoderLayer(3, 2, 4),
            ConfigError,
            "4 features do not divide into 3 heads",
        ),
        (
            lambda: layers.TransformerEncoderLayer(2, 2)(X[0]),
            ShapeError,
            r"TransformerEncoderLayer: expected x of shape \(N, T, D\), got \(3, 4\)",
        ),
        (
            lambda: layers.TransformerEncoderLayer(2, 2, dropout=2.0),
            ConfigError,
            r"'dropout' must be in \[0, 1\], got 2.0",
        ),
    ],
)
def test_bad_transformers_are_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


class Copier(xpnn.Model):
    """A language model of one layer; it is asked to say the first half of a row again."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.words = layers.Embedding(size, 32)
        self.places = layers.PositionalEncoding()
        self.block = layers.TransformerEncoderLayer(4, 64, dropout=0.0, causal=True)
        self.out = layers.Dense(size)

    def forward(self, ids: Any) -> Any:
        return self.out(self.block(self.places(self.words(ids))))


def test_a_causal_transformer_of_one_layer_learns_to_copy(tmp_path: Any) -> None:
    size, half = 8, 4
    rng = np.random.default_rng(0)
    model, optimizer = Copier(size), xpnn.optim.Adam(5e-3)
    first = 0.0
    for _ in range(160):
        words = rng.integers(0, size, (32, half))
        said = model(np.concatenate([words, words[:, :-1]], axis=1))[:, half - 1 :, :]
        loss = losses.cross_entropy(said, words)
        loss.backward()
        optimizer.step(model)
        model.zero_grad()
        first = first or float(loss)
    assert first > 2.0  # log(8) = 2.08: it knows nothing yet
    assert float(loss) < 0.1
    model.save(tmp_path / "copier.safetensors")
    again = xpnn.load(tmp_path / "copier.safetensors")
    np.testing.assert_array_equal(again.predict(words), model.predict(words))
