"""Kernels of the embedding: rows picked by ids, and sums of rows that share one."""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy as host
import numpy as np
import pytest
from emulation.arrays import waits
from helpers import usable

import xpnn
from gpu.twins import DTYPES, counted, draw, on_cuda, same, values
from xpnn import functional as F
from xpnn.backend import as_device
from xpnn.kernels import cupy_embedding
from xpnn.primitives.indexing import lookup, scatter_add, take
from xpnn.training.capture import capture

pytestmark = pytest.mark.gpu


def ids_of(kind: str, n: int, length: int) -> Any:
    rng = np.random.default_rng(n)
    return {
        "spread": rng.integers(-length, length, n),
        "one": np.full(n, length - 1),
        "runs": np.sort(rng.integers(0, max(1, n // 40), n)) % length,
        "mostly one": np.where(rng.random(n) < 0.9, 0, rng.integers(0, length, n)),
    }[kind]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (7, 8), (9, 2, 16)])
@pytest.mark.parametrize("index", ["int64", "int32", "uint8"])
def test_rows(index: str, shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0 if index[0] == "u" else -shape[0], shape[0], 13).astype(index)
    x, g = draw(rng, *shape, dtype=dtype), draw(rng, 13, *shape[1:], dtype=dtype)
    same(take, (x, ids), g, axis=0)
    same(take, (np.asfortranarray(x), ids), g, axis=-len(shape))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (7, 8), (9, 2, 16)])
def test_rows_some_of_which_are_not_there(shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(1)
    ids = rng.integers(-shape[0], 2 * shape[0], 40)
    x, g = draw(rng, *shape, dtype=dtype), draw(rng, 40, *shape[1:], dtype=dtype)
    same(lookup, (x, ids), g)


def test_elements() -> None:
    x = draw(np.random.default_rng(0), 7)
    same(take, (x, np.asarray([3, -1, 3])), np.ones(3), axis=None)


def summed(kernel: bool, x: Any, ids: Any, length: int) -> Any:
    """Return what the kernel, or the standard version, makes of the same arrays."""
    if not kernel:
        return scatter_add.forward(host, x, ids, length=length)
    xp = as_device(usable("cuda")).xp
    x, ids = on_cuda((x, ids))
    assert scatter_add.on(xp).accepts(x, ids, length=length)
    return values(scatter_add.on(xp).forward(xp, x, ids, length=length))


@pytest.mark.parametrize("dtype", [*DTYPES, "int32", "int64"])
@pytest.mark.parametrize("columns", [1, 4, 5, 16])
@pytest.mark.parametrize("n", [1, 31, 33, 64, 1100])
@pytest.mark.parametrize("kind", ["spread", "one", "runs", "mostly one"])
def test_sums_have_the_bits_of_the_standard_version(
    kind: str, n: int, columns: int, dtype: str
) -> None:
    length = 9
    rng, ids = np.random.default_rng(0), ids_of(kind, n, length)
    if dtype.startswith("int"):
        x = rng.integers(-9, 9, (n, columns)).astype(dtype)
    else:
        x = draw(rng, n, columns, dtype=dtype)
    found, expected = (summed(kernel, x, ids, length) for kernel in (True, False))
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found, expected)


def test_sums_of_very_many_rows_of_one_id() -> None:
    n = 3 * 32**3 + 77
    x = draw(np.random.default_rng(0), n, 1, dtype="float32")
    for ids in (np.zeros(n, "int64"), np.where(np.arange(n) % 7 == 3, 1, 2), np.arange(n) // 1500):
        found, expected = (summed(kernel, x, ids, 80) for kernel in (True, False))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("columns", [700, 701, 2600])
@pytest.mark.parametrize("most", [1, 2])
def test_sums_of_rows_of_more_columns_than_a_grid_has_blocks(
    most: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cupy_embedding, "_ACROSS", most)
    seen, launch = [], cupy_embedding._embedding.launch

    def look(name: str, dtype: Any, grid: Any, *args: Any) -> None:
        seen.append(grid)
        launch(name, dtype, grid, *args)

    monkeypatch.setattr(cupy_embedding._embedding, "launch", look)
    x, ids = draw(np.random.default_rng(0), 70, columns, dtype="float32"), np.arange(70) // 40
    found, expected = (summed(kernel, x, ids, 3) for kernel in (True, False))
    np.testing.assert_array_equal(found, expected)
    assert [grid[1] for grid in seen if isinstance(grid, tuple)] == [
        min(most, 1 if columns == 700 else 3)
    ]


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_and_their_gradients(dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, g = draw(rng, 70, 3, 2, dtype=dtype), draw(rng, 6, 3, 2, dtype=dtype)
    same(scatter_add, (x, rng.integers(-6, 6, 70)), g, length=6)
    same(scatter_add, (np.asfortranarray(x), np.arange(140)[::2] % 5), g, length=6)


def test_ids_of_no_row_read_nan_and_write_nothing() -> None:
    xp = as_device(usable("cuda")).xp
    ids = np.asarray([0, 3, -3, 2, -4, 2**40, -(2**40)])
    x, there = np.arange(6.0).reshape(3, 2), (ids >= -3) & (ids < 3)
    picked = values(take.on(xp).forward(xp, *on_cuda((x, ids)), axis=0))
    np.testing.assert_array_equal(np.isnan(picked).all(axis=1), ~there)
    np.testing.assert_array_equal(picked[there], x[ids[there]])
    g = np.ones((7, 2))
    np.testing.assert_array_equal(summed(True, g, ids, 3), [[2, 2], [0, 0], [1, 1]])


@counted
def test_nobody_waits() -> None:
    xp = as_device(usable("cuda")).xp
    x, ids = on_cuda((np.ones((2000, 8), "float32"), np.arange(2000) % 3))
    before = waits.count
    y = scatter_add.on(xp).forward(xp, x, ids, length=50)
    take.on(xp).forward(xp, y, ids, axis=0)
    assert waits.count == before


def test_an_embedding_in_a_step_that_is_replayed() -> None:
    table = xpnn.Tensor(on_cuda(np.arange(12.0).reshape(6, 2)), requires_grad=True)

    def step(ids: Any) -> Any:
        picked = F.embedding(ids, table)
        gradient = xpnn.grad(lambda w: xpnn.ops.sum(F.embedding(ids, w) ** 2.0))(table)
        return picked, gradient

    recorded = capture(step, warmup=1)
    for ids in ([0, 3, 3], [1, 5, 2], [4, 4, 4]):
        given = on_cuda(np.asarray(ids))
        for found, expected in zip(recorded(given), step(given), strict=True):
            np.testing.assert_array_equal(values(found), values(expected))
    assert recorded.recordings == 1
    for ids in ([1, 6, -7], [1, -1, 7]):
        for run in (recorded, step):
            picked, gradient = run(on_cuda(np.asarray(ids)))
            np.testing.assert_array_equal(values(picked), [[2, 3], [np.nan] * 2, [np.nan] * 2])
            assert not values(gradient)[[0, 2, 3, 4, 5]].any()


@counted
def test_an_embedding_and_its_bags_wait_for_nobody() -> None:
    table = xpnn.Tensor(on_cuda(np.arange(12.0).reshape(6, 2)), requires_grad=True)
    ids, offsets, wrong = (on_cuda(np.asarray(x)) for x in ([1, 5, 5], [0, 2], [0, 4]))
    before = waits.count
    y = F.embedding(ids, table)
    bags = F.embedding_bag(ids, table, offsets, mode="sum")
    (xpnn.ops.sum(y) + xpnn.ops.sum(bags)).backward()
    lost = F.embedding_bag(ids, table, wrong)
    assert waits.count == before
    np.testing.assert_array_equal(values(bags), [[12, 14], [10, 11]])
    np.testing.assert_array_equal(values(table.grad), [[0, 0], [2, 2], *[[0, 0]] * 3, [4, 4]])
    assert np.isnan(values(lost)).all()
