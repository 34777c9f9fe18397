"""Mini-batches, splits, one-hot rows, scales, and files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import double, make, on

import xpnn
from xpnn import backend
from xpnn.backend import to_numpy
from xpnn.data import Batches, MinMaxScaler, StandardScaler, minibatches, one_hot, split, unhot
from xpnn.errors import ConfigError, DataError, DTypeError, ShapeError


def test_batches_cut_in_order_and_the_last_is_smaller() -> None:
    x, y = np.arange(14).reshape(7, 2), np.arange(7)
    batches = Batches(x, y, batch_size=3)
    assert len(batches) == 3
    assert [b.tolist() for _, b in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert np.concatenate([a for a, _ in batches]).tolist() == x.tolist()


def test_shuffled_batches_hold_each_example_once_in_another_order_every_time(device: Any) -> None:
    x, y = np.arange(10, dtype=np.float32)[:, None], np.arange(10)
    orders = []
    batches = Batches(on(device, x), on(device, y), batch_size=4, shuffle=True)
    for _ in range(2):
        pairs = [(to_numpy(a), to_numpy(b)) for a, b in batches]
        assert all((a[:, 0] == b).all() for a, b in pairs)
        orders.append(np.concatenate([b for _, b in pairs]).tolist())
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert orders[0] != orders[1]
    xpnn.set_seed(0)
    again = [to_numpy(b).tolist() for _, b in Batches(x, y, batch_size=4, shuffle=True)]
    assert [n for batch in again for n in batch] == orders[0]


def test_the_order_goes_to_a_device_once_a_pass(
    device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = np.arange(10.0), np.arange(10)
    batches = Batches((on(device, x), x), on(device, y), batch_size=3, shuffle=True)
    sent, send = [], backend.to_device

    def note(a: Any, to: Any) -> Any:
        if type(a) is np.ndarray and a.dtype.kind == "i" and to != "cpu":
            sent.append(a.shape)
        return send(a, to)

    monkeypatch.setattr(backend, "to_device", note)
    for _ in range(2):
        sent.clear()
        for (a, b), c in batches:
            assert to_numpy(a).tolist() == b.tolist() == to_numpy(c).tolist()
        assert sent == ([] if backend.device_of(batches.arrays[1][0]) == "cpu" else [(10,)])


def test_batches_move_and_cast_floats_only(device: Any) -> None:
    x, ids = np.ones((4, 2)), np.arange(4)
    for a, b in Batches((x, ids), ids, batch_size=2, device=device, dtype="float32"):
        assert isinstance(a, tuple)
        assert xpnn.Tensor(a[0]).dtype == "float32"
        assert xpnn.Tensor(a[0]).device == device
        assert xpnn.Tensor(b).dtype.kind == "i"


def test_batches_take_lists_and_read_only_arrays() -> None:
    x = np.ones((3, 2))
    x.flags.writeable = False
    assert len(list(Batches(x, [1, 2, 3], batch_size=2, shuffle=True))) == 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Batches(np.ones((0, 2)), batch_size=2), DataError, "there are no examples"),
        (lambda: Batches(np.ones(()), batch_size=2), DataError, "there are no examples"),
        (
            lambda: Batches(np.ones((3, 2)), np.ones(4), batch_size=2),
            DataError,
            r"as many examples in every array, got arrays of shape \(3, 2\), \(4,\)",
        ),
        (lambda: Batches(np.ones(3), batch_size=0), ConfigError, "at least 1, got 0"),
        (lambda: split(np.ones(3), fraction=1.5), ConfigError, r"must be in \(0, 1\), got 1.5"),
        (lambda: split(np.ones(1), fraction=0.5), DataError, "1 examples cannot be split"),
        (
            lambda: split(np.ones(3), np.ones(2), fraction=0.5),
            DataError,
            r"as many examples in every array, got arrays of shape \(3,\), \(2,\)",
        ),
        (lambda: split(fraction=0.5), DataError, "expected data, got no array"),
        (lambda: split(3, fraction=0.5), DataError, "there are no examples"),
        (lambda: minibatches(None), DataError, r"an array of numbers, got None\."),
        (
            lambda: minibatches([[1], [1, 2]]),
            DataError,
            "a list whose items have several shapes. Several inputs",
        ),
        (lambda: Batches(np.ones(3), batch_size=1.5), ConfigError, "a whole number, .* got 1.5"),
        (lambda: one_hot([0], 2.5), ConfigError, "'classes' must be a whole number, .* got 2.5"),
        (
            lambda: StandardScaler().fit([[1j]]),
            DataError,
            "expected data that is real numbers, got complex64",
        ),
        (
            lambda: minibatches(np.ones((3, 2)), np.ones(4)),
            DataError,
            r"as many examples in every array, got arrays of shape \(3, 2\), \(4,\)",
        ),
        (lambda: minibatches(np.ones(3), batch_size=0), ConfigError, "at least 1, got 0"),
        (lambda: one_hot([0, 3], 3), DataError, r"one_hot: .* must be in \[0, 2\]; got 3"),
        (lambda: one_hot([-1], 3), DataError, "got -1"),
        (lambda: one_hot([0.0], 3), DTypeError, "one_hot: expected integer labels, got float32"),
        (
            lambda: one_hot([0], 0),
            ConfigError,
            "a whole number, at least 1, got 0",
        ),
        (lambda: unhot(np.asarray(1.0)), ShapeError, r"rows of shape \(..., classes\), got shape"),
        (lambda: unhot(np.ones((2, 0))), ShapeError, r"got shape \(2, 0\)"),
        (
            lambda: StandardScaler().transform(np.ones((2, 2))),
            ConfigError,
            r"StandardScaler: it has learnt no scale yet\. Call fit\(x\)",
        ),
        (lambda: MinMaxScaler().inverse(np.ones((2, 2))), ConfigError, "MinMaxScaler: it has"),
        (
            lambda: StandardScaler().fit(np.ones((2, 3))).transform(np.ones((2, 2))),
            ShapeError,
            r"fitted to examples of shape \(3\), got data of shape \(2, 2\)",
        ),
        (
            lambda: MinMaxScaler().fit(np.asarray([1.0, np.nan, np.inf])),
            DataError,
            r"MinMaxScaler.fit: 2 numbers are NaN or infinite\. Replace them",
        ),
        (lambda: StandardScaler().fit(np.ones((0, 2))), DataError, r"of shape \(0, 2\)"),
        (lambda: StandardScaler().fit(np.asarray(1.0)), DataError, "there are no examples in data"),
        (lambda: MinMaxScaler(1, 1), ConfigError, "expected low < high, got low=1, high=1"),
    ],
)
def test_bad_data_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_split_keeps_pairs_together() -> None:
    x, y = np.arange(50), np.arange(50) * 2
    x1, x2, y1, y2 = split(x, y, fraction=0.2)
    assert len(x1) == 40
    assert len(x2) == 10
    assert (x1 * 2 == y1).all()
    assert (x2 * 2 == y2).all()
    assert sorted([*x1, *x2]) == list(range(50))
    assert x1.tolist() != list(range(40))


def test_one_hot(device: Any) -> None:
    labels = on(device, np.asarray([[2, 0], [1, 1]]))
    rows = one_hot(labels, 3)
    np.testing.assert_array_equal(to_numpy(rows), np.eye(3)[[[2, 0], [1, 1]]])
    assert xpnn.Tensor(rows).dtype == "float32"


def test_one_hot_goes_by_the_label_and_not_by_its_rank() -> None:
    np.testing.assert_array_equal(one_hot(np.asarray([3, 1]), 4), np.eye(4)[[3, 1]])
    np.testing.assert_array_equal(one_hot([0, 2], 3, dtype="int64"), np.eye(3)[[0, 2]])
    assert one_hot([0, 2], 3, dtype="int64").dtype == np.int64
    assert one_hot(np.zeros((0,), int), 3).shape == (0, 3)
    assert one_hot(np.asarray(1), 3).tolist() == [0, 1, 0]


def test_where_a_look_would_wait_a_label_out_of_range_has_a_row_of_zeros(monkeypatch: Any) -> None:
    from xpnn.data import encoding

    monkeypatch.setattr(encoding, "on_host", lambda x: False)
    assert one_hot(np.asarray([1, 2, -1]), 2).tolist() == [[0, 1], [0, 0], [0, 0]]


def test_unhot_undoes_one_hot(device: Any) -> None:
    labels = np.asarray([[2, 0], [1, 1]])
    for dtype in ("float32", "int32", "bool"):
        rows = unhot(one_hot(on(device, labels), 3, dtype=dtype))
        np.testing.assert_array_equal(to_numpy(rows), labels)
        assert xpnn.Tensor(rows).device == device
    assert unhot([[0.2, 0.4, 0.4]]).tolist() == [1]


# --------------------------------------------------------------------------------- scalers


COLUMNS = make((50, 3), dtype="float64") * np.asarray([1.0, 100.0, 0.0]) + [5.0, -300.0, 0.1]


@pytest.mark.parametrize(
    "scaler",
    [
        StandardScaler(),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        MinMaxScaler(),
        MinMaxScaler(-2, 3),
    ],
    ids=["standard", "no mean", "no std", "min-max", "to -2..3"],
)
def test_scalers_are_affine_and_come_back(scaler: Any, device: Any) -> None:
    x = COLUMNS
    if isinstance(scaler, StandardScaler):
        mean, std = x.mean(0) * scaler.with_mean, np.asarray([*x.std(0)[:2], 1.0])
        expected = (x - mean) / (std if scaler.with_std else 1)
    else:
        width = np.asarray([*np.ptp(x, axis=0)[:2], 1.0])
        expected = (x - x.min(0)) / width * (scaler.high - scaler.low) + scaler.low
    for dtype in {"float32", double(device)}:
        there = on(device, x.astype(dtype))
        z = scaler.fit_transform(there)
        tolerance = 1e-10 if dtype == "float64" else 2e-5
        np.testing.assert_allclose(to_numpy(z), expected, rtol=tolerance, atol=tolerance)
        back = scaler.inverse(z)
        np.testing.assert_allclose(to_numpy(back), x, rtol=tolerance, atol=tolerance)
        for value in (z, back, scaler.shift, scaler.scale):
            assert xpnn.Tensor(value).device == device
            assert xpnn.Tensor(value).dtype == dtype
        # other arrays, elsewhere, in another dtype: they stay there
        other = scaler.transform(x[:7].astype("float32"))
        assert type(other) is np.ndarray
        assert other.dtype == np.float32
        np.testing.assert_allclose(other, expected[:7], rtol=1e-4, atol=1e-4)


def test_scaled_columns_have_their_moments_and_their_ends() -> None:
    z = StandardScaler().fit_transform(COLUMNS)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-14)
    np.testing.assert_allclose(z.std(0), [1, 1, 0], rtol=1e-12)
    z = MinMaxScaler(-1, 1).fit_transform(COLUMNS.astype("float32"))
    assert z.min(0).tolist() == [-1, -1, -1]
    assert z.max(0).tolist() == [1, 1, -1]


def test_what_scalers_learn_is_there_to_read() -> None:
    scaler = StandardScaler(with_mean=False, with_std=False).fit(COLUMNS)
    np.testing.assert_allclose(scaler.mean, COLUMNS.mean(0))
    np.testing.assert_allclose(scaler.std, [*COLUMNS.std(0)[:2], 0], rtol=1e-12)
    assert scaler.mean[2] == COLUMNS[0, 2]
    scaler = MinMaxScaler().fit(COLUMNS)
    np.testing.assert_array_equal(scaler.minimum, COLUMNS.min(0))
    np.testing.assert_array_equal(scaler.maximum, COLUMNS.max(0))
    assert repr(scaler) == "MinMaxScaler(columns (3,))"
    assert repr(MinMaxScaler()) == "MinMaxScaler(not fitted)"


def test_long_columns_far_from_zero_keep_their_digits_in_float32() -> None:
    x = (make((200_000, 2), dtype="float64") + 1000.0).astype("float32")
    scaler = StandardScaler().fit(x)
    exact = x.astype("float64")
    np.testing.assert_allclose(scaler.mean, exact.mean(0), rtol=2e-7)
    np.testing.assert_allclose(scaler.std, exact.std(0), rtol=1e-4)


def test_columns_of_one_value_are_zeros(device: Any) -> None:
    for n in (3, 7, 1001):
        x = np.broadcast_to(np.asarray([0.1, 1e-30, -1234.567, 3e5]), (n, 4)).astype("float32")
        scaler = StandardScaler().fit(on(device, x))
        assert not to_numpy(scaler.std).any()
        assert not to_numpy(scaler.transform(on(device, x))).any()


def test_scalers_take_images_numbers_and_lists() -> None:
    images = make((6, 2, 2, 3), kind="ints", dtype="uint8")
    z = MinMaxScaler().fit_transform(images)
    assert z.dtype == np.float32
    assert z.min() >= 0
    assert z.max() == 1
    column = StandardScaler().fit_transform(np.asarray([1.0, 3.0]))
    assert column.tolist() == [-1, 1]
    assert StandardScaler().fit_transform([[1, 2], [3, 2]]).tolist() == [[-1, 0], [1, 0]]
    x = xpnn.Tensor(np.asarray([[2.0]]), requires_grad=True)
    scaler = MinMaxScaler(0, 10).fit(np.asarray([[0.0], [4.0]]))
    xpnn.ops.sum(scaler.transform(x) + scaler.inverse(x)).backward()
    assert float(x.grad[0, 0]) == pytest.approx(2.5 + 0.4)
    assert np.isnan(scaler.transform(np.asarray([[np.nan]]))).all()


def test_scalers_take_half_precision_whose_squares_would_overflow(device: Any) -> None:
    if str(device).startswith("strict"):
        pytest.skip("the standard has no float16")
    x = on(device, np.asarray([[1e3, 5.0], [6e4, 5.0]], "float16"))
    z = StandardScaler().fit_transform(x)
    assert z.dtype == x.dtype
    np.testing.assert_allclose(to_numpy(z), [[-1, 0], [1, 0]], atol=1e-3)


# ----------------------------------------------------------------------------- minibatches


def test_minibatches_are_arrays_or_tuples_and_keep_the_last(device: Any) -> None:
    x, y = on(device, np.arange(14.0).reshape(7, 2)), on(device, np.arange(7))
    alone = list(minibatches(x, batch_size=3, shuffle=False))
    assert [tuple(b.shape) for b in alone] == [(3, 2), (3, 2), (1, 2)]
    assert all(xpnn.Tensor(b).device == device for b in alone)
    pairs = list(minibatches(x, y, batch_size=3))
    assert all((to_numpy(a)[:, 0] == 2 * to_numpy(b)).all() for a, b in pairs)
    order = [int(n) for _, b in pairs for n in to_numpy(b)]
    assert sorted(order) == list(range(7)) != order
    once = minibatches(x, batch_size=4)
    assert len(list(once)) == 2
    assert list(once) == []
