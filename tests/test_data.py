"""Mini-batches, splits, one-hot rows, and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make, on

import xpnn
from xpnn import io
from xpnn.backend import to_numpy
from xpnn.data import Batches, one_hot, split
from xpnn.errors import ConfigError, DataError


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
        (lambda: Batches(np.ones(3), batch_size=0), ConfigError, "must be at least 1, got 0"),
        (lambda: split(np.ones(3), fraction=1.5), ConfigError, r"must be in \(0, 1\), got 1.5"),
        (lambda: split(np.ones(1), fraction=0.5), DataError, "1 examples cannot be split"),
        (lambda: split(np.ones(3), np.ones(2), fraction=0.5), DataError, r"got \[3, 2\]"),
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


# ------------------------------------------------------------------------------------ files


def test_files_hold_arrays_of_every_layout_and_their_configuration(tmp_path: Path) -> None:
    base = make((4, 6), dtype="float64")
    arrays = {
        "plain": base,
        "transposed": base.T,
        "strided": base[::2, ::-3],
        "fortran": np.asfortranarray(base),
        "scalar": np.asarray(3.5),
        "empty": np.ones((0, 3)),
        "ints": np.arange(5),
        "flags": np.asarray([True, False]),
        "half": base.astype("float16"),
    }
    path = tmp_path / "m.safetensors"
    io.write(path, arrays, {"a": [1, "ä"]})
    found, config = io.read(path)
    assert config == {"a": [1, "ä"]}
    assert found.keys() == arrays.keys()
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "m.safetensors"
    io.write(path, {"x": np.ones(3)}, {})
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        io.write(path, {"x": np.zeros(3)}, {})
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "m.safetensors"
    io.write(path, {"x": np.ones(100)}, {})
    whole = path.read_bytes()
    for damaged in (whole[:-8], whole[:20], b"", b"\0" * 64, whole[8:], b"PK" + whole):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="may be truncated or altered"):
            io.read(path)
    save_file({"x": np.ones(3)}, path)
    with pytest.raises(DataError, match="not written by xpnn"):
        io.read(path)
    save_file({"x": np.ones(3)}, path, metadata={"xpnn": "{" + json.dumps("x")})
    with pytest.raises(DataError, match="not a readable"):
        io.read(path)
    with pytest.raises(FileNotFoundError):
        io.read(tmp_path / "nowhere.safetensors")
