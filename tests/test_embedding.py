"""Embeddings beyond the table of layers: bags, errors, tying, and the order of their sums."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from helpers import assert_close, double, make, on

import xpnn
from xpnn import functional as F
from xpnn import layers, losses, ops, optim
from xpnn.autograd.record import apply
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, DataError, DTypeError, ShapeError
from xpnn.layers import Layer
from xpnn.primitives import indexing
from xpnn.primitives.indexing import scatter_add

# ------------------------------------------------------------------------------ sums of rows


def added_in_pairs(rows: list[Any]) -> Any:
    """Return the sum of rows as a tree: neighbours first."""
    while len(rows) > 1:
        pairs = [rows[i : i + 2] for i in range(0, len(rows), 2)]
        rows = [pair[0] + pair[1] if len(pair) == 2 else pair[0] for pair in pairs]
    return rows[0]


def expected_sums(x: Any, ids: Any, length: int) -> Any:
    """Return what ``scatter_add`` gives, to the last bit."""
    y = np.zeros((length, *x.shape[1:]), x.dtype)
    for i in set(ids.tolist()):
        y[i] = added_in_pairs(list(x[ids == i]))
    return y


INDICES = {
    "distinct": np.asarray([3, 0, 6, 1]),
    "repeated": np.random.default_rng(0).integers(0, 5, 14),
    "one": np.full(7, 4),
    "one and others": np.where(np.arange(14) % 3 > 0, 2, np.arange(14) % 7),
    "single": np.asarray([6]),
}


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint16"])
@pytest.mark.parametrize("name", INDICES)
def test_sums_are_added_in_one_order_on_every_device(name: str, dtype: str, device: Any) -> None:
    ids = INDICES[name]
    x = make((len(ids), 3), seed=1)
    xp = xpnn.backend.as_device(device).xp
    found = scatter_add(xp, on(device, x), on(device, ids.astype(dtype)), length=7)
    np.testing.assert_array_equal(to_numpy(found), expected_sums(x, ids, 7))
    assert xpnn.backend.device_of(found) == device


def test_more_ids_than_a_narrow_dtype_can_count() -> None:
    ids = (np.arange(300) % 100).astype("int8")
    x = make((300, 2))
    found = scatter_add(xpnn.array_namespace(x), x, ids, length=100)
    np.testing.assert_array_equal(found, expected_sums(x, ids, 100))


@pytest.mark.parametrize("shape", [(30,), (30, 2, 3), (30, 0)])
def test_rows_of_any_rank_are_added(shape: tuple[int, ...]) -> None:
    ids = np.arange(30) % 4 - 2
    x = make(shape)
    found = scatter_add(xpnn.array_namespace(x), x, ids, length=4)
    np.testing.assert_array_equal(found, expected_sums(x, ids % 4, 4))


def test_work_does_not_grow_with_repeats() -> None:
    class Counting:
        """NumPy's namespace, which counts the numbers of floating point that are gathered."""

        gathered = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(xpnn.array_namespace(np.ones(1)), name)

        def take(self, x: Any, indices: Any, *, axis: int) -> Any:
            found = np.take(x, indices, axis=axis)
            self.gathered += found.size if found.dtype.kind == "f" else 0
            return found

    n, length = 4096, 100
    x = make((n, 1))
    for ids in (np.zeros(n, int), np.arange(n) % length, np.minimum(np.arange(n), length - 1)):
        xp = Counting()
        scatter_add.forward(xp, x, ids, length=length)
        assert xp.gathered < 6 * n + length


# ------------------------------------------------------------------------------------- gradients


def test_gradient_of_repeated_ids_has_the_same_bits_on_every_device(device: Any) -> None:
    ids = np.random.default_rng(2).integers(0, 6, (3, 5))
    g = make((3, 5, 4), seed=3)
    layer = layers.Embedding(6, 4)
    layer.to(device)(on(device, ids))
    layer.backward(on(device, g))
    expected = expected_sums(g.reshape(-1, 4), ids.reshape(-1), 6)
    np.testing.assert_array_equal(to_numpy(layer.weight.grad), expected)


def test_ids_of_a_batch_that_repeat_are_all_counted() -> None:
    # numpy-ml gave 1 instead of 2 for the sum, and .333 instead of .667 for the mean
    for pool, wanted in (("sum", [0, 2, 1]), ("mean", [0, 2 / 3, 1 / 3])):
        layer = layers.Embedding(3, 1, pool=pool)
        layer(np.asarray([[1, 2, 1]]))
        layer.backward(np.ones((1, 1), np.float32))
        assert_close(layer.weight.grad, np.asarray(wanted, np.float32)[:, None])


def test_padding_has_no_gradient_and_starts_at_zero() -> None:
    layer = layers.Embedding(4, 2, padding_idx=2)
    np.testing.assert_array_equal(to_numpy(layer.weight)[2], 0)
    assert (to_numpy(layer.weight)[[0, 1, 3]] != 0).all()
    layer(np.asarray([2, 1, 2, 3]))
    layer.backward(make((4, 2)))
    np.testing.assert_array_equal(to_numpy(layer.weight.grad)[[0, 2]], 0)
    assert (to_numpy(layer.weight.grad)[[1, 3]] != 0).all()
    given = layers.Embedding(2, 2, weight=np.ones((2, 2)), padding_idx=0)
    np.testing.assert_array_equal(to_numpy(given.weight), [[0, 0], [1, 1]])


def test_functions_have_derivatives_of_second_order() -> None:
    ids, offsets = np.asarray([1, 0, 1, 3, 1, 2]), np.asarray([0, 2, 2, 5])
    w = make((4, 3), dtype="float64")
    xpnn.check_grad(lambda w: F.embedding(ids, w, padding_idx=3) ** 2, w, order=2)
    for mode in ("sum", "mean"):
        bag = {"mode": mode, "padding_idx": 0}
        xpnn.check_grad(lambda w, bag=bag: F.embedding_bag(ids, w, offsets, **bag) ** 2, w, order=2)


# ------------------------------------------------------------------------------------------ bags

BAGS = [[1, 4, 1], [], [0], [2, 2, 2, 4, 3, 3, 1], [2]]


def flat_bags(bags: list[list[int]]) -> tuple[Any, Any]:
    lengths = [len(bag) for bag in bags]
    flat = np.asarray([i for bag in bags for i in bag], int)
    return flat, np.cumsum([0, *lengths])[:-1]


@pytest.mark.oracle
@pytest.mark.parametrize("padding_idx", [None, 2])
@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ragged_bags_equal_those_of_torch(mode: str, padding_idx: int | None, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    ids, offsets = flat_bags(BAGS)
    w, g = make((5, 3), dtype=dtype), make((5, 3), dtype=dtype, seed=1)
    bag = {"mode": mode, "padding_idx": padding_idx}
    y, pullback = xpnn.vjp(lambda w: F.embedding_bag(ids, w, offsets, **bag), w)
    wt = torch.tensor(w, requires_grad=True)
    theirs = torch.nn.functional.embedding_bag(torch.tensor(ids), wt, torch.tensor(offsets), **bag)
    theirs.backward(torch.tensor(g))
    rtol = 1e-5 if dtype == "float32" else 1e-12
    assert_close(y, theirs.detach().numpy(), rtol=rtol, atol=rtol)
    assert_close(pullback(g), wt.grad.numpy(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_lists_offsets_and_padded_rows_say_the_same(mode: str, device: Any) -> None:
    layer = layers.Embedding(5, 3, pool=mode).to(device)
    ids, offsets = flat_bags(BAGS)
    padded = np.full((5, 7), 5)
    for row, bag in zip(padded, BAGS, strict=True):
        row[: len(bag)] = bag
    wide = np.concatenate([to_numpy(layer.weight), np.full((1, 3), 9.0, np.float32)])
    rows = layers.Embedding(6, 3, weight=wide, pool=mode, padding_idx=5).to(device)
    expected = rows(on(device, padded))
    for y in (layer(BAGS), layer(on(device, ids), on(device, offsets.astype("int32")))):
        assert y.device == device
        assert y.dtype == "float32"
        assert y.shape == (5, 3)
        np.testing.assert_allclose(to_numpy(y), to_numpy(expected), rtol=1e-6)
    np.testing.assert_array_equal(to_numpy(y)[1], 0)
    assert layer([np.asarray(bag, int) for bag in BAGS]).shape == (5, 3)


def test_bags_may_be_all_empty_or_none() -> None:
    layer = layers.Embedding(5, 3, pool="mean")
    np.testing.assert_array_equal(to_numpy(layer([[], []])), np.zeros((2, 3)))
    assert layer([]).shape == (0, 3)
    np.testing.assert_array_equal(to_numpy(layer(np.zeros((2, 0), int))), np.zeros((2, 3)))
    layer([[], [1]])
    layer.backward(np.ones((2, 3), np.float32))
    np.testing.assert_array_equal(to_numpy(layer.weight.grad)[:, 0], [0, 1, 0, 0, 0])


# ---------------------------------------------------------------------------- weights from outside


def test_given_values_are_copied_and_come_back_from_json_and_state(tmp_path: Any) -> None:
    vectors = np.arange(8.0).reshape(4, 2)
    layer = layers.Embedding(4, 2, vectors, trainable=False)
    vectors[:] = 0
    assert layer.weight.dtype == "float32"
    assert to_numpy(layer.weight)[3, 1] == 7
    assert "weight" not in layer.to_config()["config"]
    again = Layer.from_config(json.loads(json.dumps(layer.to_config())))
    assert not again.weight.requires_grad
    again.load_state_dict(layer.state_dict())
    assert_close(again(np.asarray([3, 0])), layer(np.asarray([3, 0])), rtol=0)
    model = xpnn.Sequential([layer, layers.Dense(2)])
    model(np.asarray([[1, 2]]))
    model.save(tmp_path / "m.safetensors")
    loaded = xpnn.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(to_numpy(loaded[0].weight), to_numpy(layer.weight))


def test_what_is_not_trainable_stays_until_it_is_unfrozen() -> None:
    model = xpnn.Sequential([layers.Embedding(4, 2, trainable=False), layers.Dense(1)])
    before = to_numpy(model[0].weight).copy()
    optimizer = optim.SGD(0.1)

    def step() -> None:
        ops.sum(model(np.asarray([[1, 2]]))).backward()
        optimizer.step(model)
        model.zero_grad()

    step()
    np.testing.assert_array_equal(to_numpy(model[0].weight), before)
    model[0].unfreeze()
    step()
    assert (to_numpy(model[0].weight)[1:3] != before[1:3]).all()


def test_a_tied_decoder_is_tied_after_saving_and_trains_both_ways(tmp_path: Any) -> None:
    def build() -> Any:
        embedding = layers.Embedding(6, 4)
        decoder = layers.Dense(6, weight=embedding.weight, transposed=True)
        return xpnn.Sequential([embedding, layers.Dense(4, activation="tanh"), decoder])

    model = build()
    ids = np.asarray([[0, 1, 5], [2, 2, 3]])
    model.compile("cross_entropy", optim.SGD(0.5))
    model.fit(ids, ids, batch_size=2, epochs=2, verbose=0)
    model.save(tmp_path / "m.safetensors")
    loaded = xpnn.load(tmp_path / "m.safetensors")
    assert loaded[2].weight is loaded[0].weight
    assert list(loaded.named_parameters()) == ["0.weight", "1.weight", "1.bias", "2.bias"]
    np.testing.assert_array_equal(loaded.predict(ids), model.predict(ids))
    loaded.compile("cross_entropy", optim.SGD(0.5))
    loaded.fit(ids, ids, batch_size=2, epochs=1, verbose=0)
    w, encoder_only = loaded[0].weight, np.asarray([4])  # an id that never was an input
    assert (to_numpy(w)[encoder_only] != to_numpy(model[0].weight)[encoder_only]).all()


def test_a_table_may_be_that_of_another_embedding() -> None:
    first = layers.Embedding(3, 2)
    net = layers.Chain([first, layers.Activation("tanh")])
    second = layers.Embedding(3, 2, first.weight, pool="sum")
    assert second.weight is first.weight
    del net
    with pytest.raises(ConfigError, match="'weight' is the parameter of a layer that is not part"):
        second.to_config()


# --------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("dtype", ["int64", "int8"])
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[0, 1], [7, -1]], r"table has 5 rows, so ids must be in \[0, 4\]; got 7 at \(1, 0\)"),
        ([[0, -3], [1, 5]], r"got -3 at \(0, 1\)\. Is the vocabulary larger"),
    ],
)
def test_ids_out_of_range_are_named_or_on_a_gpu_nan(
    ids: Any, message: str, dtype: str, device: Any
) -> None:
    x = on(device, np.asarray(ids, dtype))
    for pool in (None, "sum"):
        layer = layers.Embedding(5, 2, pool=pool).to(device)
        if xpnn.backend.on_host(x):
            with pytest.raises(DataError, match=message):
                layer(x)
        else:
            there = (np.asarray(ids) >= 0) & (np.asarray(ids) < 5)
            there = there if pool is None else there.all(axis=1)
            np.testing.assert_array_equal(np.isnan(to_numpy(layer(x))).any(axis=-1), ~there)


def test_a_row_that_is_not_there_is_nan_and_has_no_gradient(device: Any) -> None:
    """What a lookup is by the standard, where nobody looks at ids."""
    table = np.arange(6.0).reshape(3, 2)
    ids, g = on(device, np.asarray([2, -1, 0, 3, 2])), np.random.default_rng(0).random((5, 2))
    x = xpnn.Tensor(on(device, table.astype(double(device))), requires_grad=True)
    y = apply(indexing.lookup, (x, ids))
    expected = np.asarray([table[2], [np.nan] * 2, table[0], [np.nan] * 2, table[2]])
    np.testing.assert_array_equal(to_numpy(y), expected)
    y.backward(on(device, g.astype(double(device))))
    expected = np.asarray([g[2], [0, 0], g[0] + g[4]], double(device))
    assert_close(to_numpy(x.grad), expected, 1e-6, 1e-6)


def test_a_huge_unsigned_id_is_named_as_it_is() -> None:
    with pytest.raises(DataError, match="got 18446744073709551615 at"):
        layers.Embedding(5, 2)(np.asarray([2**64 - 1], np.uint64))


@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_ids_are_integers(dtype: str, device: Any) -> None:
    message = f"Embedding: expected integer ids, got {dtype}. Convert them"
    with pytest.raises(DTypeError, match=message):
        layers.Embedding(5, 2).to(device)(on(device, np.ones((2, 3), dtype)))


W = np.ones((4, 2))
IDS = np.asarray([0, 1, 2])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: layers.Embedding(0, 2), ConfigError, "'num_embeddings' must be at least 1, got 0"),
        (lambda: layers.Embedding(2, -1), ConfigError, "'embedding_dim' must be at least 1"),
        (lambda: layers.Embedding(2, 2, pool="max"), ConfigError, "'pool' must be None, 'sum' or"),
        (
            lambda: layers.Embedding(2, 2, padding_idx=2),
            ConfigError,
            r"'padding_idx' must be in \[0, 1\], got 2",
        ),
        (
            lambda: layers.Embedding(2, 4, weight=W),
            ShapeError,
            r"weight of shape \(num_embeddings, embedding_dim\), \(2, 4\), got \(4, 2\)",
        ),
        (
            lambda: layers.Embedding(4, 2)([[1], [2, 3]]),
            ShapeError,
            "lists of ids need pool='sum' or 'mean'. Without, give an array",
        ),
        (
            lambda: layers.Embedding(4, 2, pool="sum")([1, 2]),
            ShapeError,
            "expected a list of lists of ids, got a list that holds 1",
        ),
        (
            lambda: layers.Embedding(4, 2, pool="sum")([[1.5], []]),
            DTypeError,
            "expected integer ids, got float",
        ),
        (
            lambda: layers.Embedding(4, 2)(IDS, np.asarray([0])),
            ShapeError,
            "offsets say where bags begin; there are bags with pool='sum'",
        ),
        (
            lambda: F.embedding(IDS, np.ones(3)),
            ShapeError,
            r"embedding: expected weight of shape \(rows, features\), got \(3,\)",
        ),
        (
            lambda: F.embedding(IDS, W, padding_idx=-1),
            ConfigError,
            "'padding_idx' must be one of the 4 rows, got -1",
        ),
        (
            lambda: F.embedding_bag(IDS[None], W, mode="max"),
            ConfigError,
            "'mode' must be 'mean' or 'sum', got 'max'",
        ),
        (
            lambda: F.embedding_bag(IDS[None], W, np.asarray([0])),
            ShapeError,
            r"got ids of shape \(1, 3\) with offsets",
        ),
        (
            lambda: F.embedding_bag(IDS, W, np.asarray([], int)),
            ShapeError,
            r"offsets of shape \(bags,\), at least one for 3 ids, got shape \(0,\)",
        ),
        (
            lambda: F.embedding_bag(IDS, W, np.asarray([0.0])),
            DTypeError,
            "expected integer offsets, got float64",
        ),
        *(
            (
                lambda offsets=offsets: F.embedding_bag(IDS, W, np.asarray(offsets)),
                DataError,
                rf"the number of ids, 3; got {got} at \({at},\)",
            )
            for offsets, got, at in [([1, 2], 1, 0), ([0, 2, 1], 1, 2), ([0, 4], 4, 1)]
        ),
    ],
)
def test_bad_input_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# ------------------------------------------------------------------------------------- positions


def test_positions_are_those_of_float64_far_out_and_kept(device: Any) -> None:
    dtype = double(device)
    layer = layers.PositionalEncoding()
    y = layer(on(device, np.zeros((1, 3001, 4), dtype)))
    t = 3000.0
    expected = [np.sin(t), np.cos(t), np.sin(t / 100), np.cos(t / 100)]
    np.testing.assert_allclose(to_numpy(y)[0, 3000], expected, atol=1e-6)
    first = layer._table
    short = layer(on(device, np.ones((2, 5, 4), dtype)))
    np.testing.assert_array_equal(to_numpy(short)[1], to_numpy(y)[0, :5] + 1)
    assert layer._table is first
    layer(on(device, np.zeros((1, 2, 6), "float32")))
    assert layer._table is not first


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: layers.PositionalEncoding(0), "'max_length' must be at least 1, got 0"),
        (lambda: layers.PositionalEncoding(dropout=2.0), r"'dropout' must be in \[0, 1\], got 2"),
    ],
)
def test_bad_arguments_of_positions(make_it: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_it()


def test_an_embedding_learns_which_words_belong_together() -> None:
    ids = np.arange(8)
    labels = ids % 2
    model = xpnn.Sequential([layers.Embedding(8, 4), layers.Dense(2)])
    optimizer = optim.Adam(0.1)
    for _ in range(20):
        loss = losses.cross_entropy(model(ids), labels)
        loss.backward()
        optimizer.step(model)
        model.zero_grad()
    assert float(loss) < 0.05
