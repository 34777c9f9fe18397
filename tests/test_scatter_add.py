"""Sums of rows by index on the CPU: against the standard version, and the memory they lie in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import assert_close, make
from hypothesis import given
from hypothesis import strategies as st
from optim_table import assert_same, create, every_optimizer, values

import xpnn
from xpnn import Tensor, layers, ops, optim, parallel
from xpnn import functional as F
from xpnn.kernels import numpy_indexing, numpy_optim, rules
from xpnn.primitives.indexing import scatter_add as standard

XP = xpnn.backend.as_device("cpu").xp


def sums(x: Any, ids: Any, length: int) -> Any:
    return numpy_indexing.scatter_add(XP, x, ids, length=length)


@pytest.fixture
def reused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small sums as large ones, of small blocks, on two threads."""
    monkeypatch.setattr(numpy_indexing, "_LEAST", 0)
    monkeypatch.setattr(numpy_indexing, "_BLOCK", 16)
    monkeypatch.setattr(numpy_indexing, "_SHARED", 32)
    monkeypatch.setattr(numpy_indexing, "_sums", [])
    monkeypatch.setattr(numpy_optim, "_SMALL", 8)
    monkeypatch.setattr(parallel, "get_num_threads", lambda: 2)


# ----------------------------------------------------------------------------------- the sums


@pytest.mark.usefixtures("reused")
@given(
    st.data(), st.integers(1, 9), st.sampled_from([(), (1,), (5,), (2, 3), (0,)]),
    st.sampled_from(["float32", "float64", "int64", "complex64"]),
    st.sampled_from(["int64", "int8", "uint16"]), st.booleans(),
)  # fmt: skip
def test_the_sums_are_those_of_the_standard_version(
    data: Any, length: int, rest: Any, dtype: str, kind: str, strange: bool
) -> None:
    least = 0 if kind == "uint16" else -length
    ids = np.asarray(data.draw(st.lists(st.integers(least, length - 1), max_size=40)), kind)
    x = np.random.default_rng(ids.size).standard_normal((ids.size, *rest)) * 100
    x = np.asarray(x, dtype)
    if strange:
        x = np.asfortranarray(np.repeat(x, 2, axis=0))[::2]
        x.flags.writeable = ids.flags.writeable = False
    found = sums(x, ids, length)
    expected = standard.forward(XP, x, ids, length=length)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


def test_no_rows() -> None:
    assert sums(np.ones((0, 3), np.float32), np.zeros(0, int), 0).shape == (0, 3)


def test_values_that_are_none_stay_in_their_rows() -> None:
    x = np.asarray([[np.nan, 1.0], [np.inf, 3e38], [1.0, 2.0], [np.inf, 1.0]])
    found = sums(x, np.asarray([0, 3, 1, 3]), 4)
    np.testing.assert_array_equal(found, [[np.nan, 1], [1, 2], [0, 0], [np.inf, 3e38]])


def test_one_thread_and_several_give_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((9000, 128)).astype(np.float32)
    ids = np.minimum(rng.zipf(1.2, 9000), 5000) - 1
    found = []
    for threads in (1, 2, 3):
        with xpnn.num_threads(threads):
            found.append(sums(x, ids, 5000))
    assert_same(found[1:], [found[0]] * 2)


def test_second_derivatives() -> None:
    ids = np.asarray([2, 0, 2])
    xpnn.check_grad(
        lambda w: ops.sum(F.embedding(ids, w) ** 3), make((4, 2), dtype="float64"), order=2
    )


# --------------------------------------------------------------------------------- their memory


@pytest.mark.usefixtures("reused")
def test_memory_is_used_again_when_nobody_looks_at_it() -> None:
    a = sums(np.ones((2, 3)), np.asarray([1, 4]), 6)
    b = sums(np.ones((2, 3)), np.asarray([0, 4]), 6)
    assert a.sum() == b.sum() == 6  # each has memory of its own
    address, part = a.ctypes.data, a[1:3].T
    del a
    c = sums(np.ones((1, 3)), np.asarray([5]), 6)
    assert part.sum() == 3
    del part
    d = sums(np.full((1, 3), 2.0), np.asarray([2]), 6)
    assert d.ctypes.data == address
    np.testing.assert_array_equal(d, 2.0 * (np.arange(6) == 2)[:, None] * np.ones(3))
    np.testing.assert_array_equal(numpy_indexing.written_rows(b), [0, 4])
    np.testing.assert_array_equal(numpy_indexing.written_rows(c), [5])
    np.testing.assert_array_equal(numpy_indexing.written_rows(d), [2])


@pytest.mark.usefixtures("reused")
def test_what_rows_were_written_is_known_of_the_sum_alone() -> None:
    a = sums(np.ones((2, 4)), np.asarray([1, 4]), 6)
    with pytest.raises(ValueError, match="read-only"):
        a[0] = 1
    for other in (a.copy(), a[1:], a.T, a.reshape(3, 8), np.asarray(a[:, :2])):
        assert numpy_indexing.written_rows(other) is None
    kept = [sums(np.ones((1, 4)), np.asarray([0]), 6) for _ in range(9)]
    assert numpy_indexing.written_rows(a) is None  # given up for younger ones
    assert numpy_indexing.written_rows(kept[-1]).tolist() == [0]
    assert a.sum() == 8


def test_memory_of_sums_is_counted_and_given_back() -> None:
    def held() -> int:
        stats = xpnn.memory_stats()
        return stats["held"] - stats["scratch"]

    xpnn.free_memory()
    before, used = held(), xpnn.memory_stats()["in_use"]
    a = sums(np.ones((1, 512)), np.asarray([3]), 1000)
    assert held() - before == xpnn.memory_stats()["in_use"] - used == a.nbytes
    xpnn.free_memory()
    assert held() == before + a.nbytes
    del a
    assert held() > before
    assert xpnn.memory_stats()["in_use"] == used
    xpnn.free_memory()
    assert held() == before


# ------------------------------------------------------------------------------- the optimizers


def train(optimizer: Any, weight: Any, *, dense: bool) -> list[Any]:
    layer = layers.Embedding(*weight.shape, weight=weight)
    found = []
    for step in range(5):
        ids = np.random.default_rng(step).integers(0, 30, (4, 3))
        ops.sum(layer(ids) ** 3).backward()
        if dense:
            layer.weight.grad = Tensor(layer.weight.grad.data.copy())
        optimizer.step(layer)
        found.append(layer.weight.data.copy())
    return found


@every_optimizer
@pytest.mark.usefixtures("reused")
def test_rows_without_gradient_change_as_if_it_were_written_out(name: str) -> None:
    weight = make((40, 6))
    weight[35] = np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38
    weight[36:] = 1e-45
    with np.errstate(over="ignore", invalid="ignore"):
        assert_same_numbers(
            train(create(name), weight, dense=False), train(create(name), weight, dense=True)
        )


def assert_same_numbers(found: list[Any], expected: list[Any]) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("reused")
def test_only_rows_with_gradient_are_touched_where_the_others_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    work = numpy_optim._Work.__call__

    def spy(self: Any, arrays: Any, *source: Any) -> None:
        sizes.append(arrays[0].size)
        work(self, arrays, *source)

    monkeypatch.setattr(numpy_optim._Work, "__call__", spy)
    for name, some in {"sgd": True, "sgd-decay": False, "momentum": False, "adam": False}.items():
        sizes.clear()
        train(create(name), make((40, 6)), dense=False)
        used = [np.unique(np.random.default_rng(i).integers(0, 30, (4, 3))).size for i in range(5)]
        assert sum(sizes) == 6 * (sum(used) if some else 5 * 40), name


@pytest.mark.usefixtures("reused")
def test_a_table_that_others_see_is_not_written_into() -> None:
    layer = layers.Embedding(10, 4)
    optimizer = optim.SGD(0.5)
    for _ in range(3):
        ops.sum(layer(np.asarray([1, 1, 7]))).backward()
        held = layer.weight.data
        before = held.copy()
        optimizer.step(layer)
        assert_same([held], [before])
        change = before - values([layer.weight])[0]
        assert_close(
            change.sum(axis=1),
            4 * np.bincount([1, 7, 1], minlength=10) * 0.5,
            1e-5,
            1e-5,
            check_dtype=False,
        )
        del held


RESTS: dict[str, tuple[Any, bool]] = {
    "descent": (lambda xp, p, g, s: p - 0.1 * g, True),
    "signs": (lambda xp, p, g, s: p - 0.1 * xp.sign(-g), True),
    "nothing": (lambda xp, p, g, s: p, True),
    "clipping": (lambda xp, p, g, s: p - xp.minimum(xp.maximum(g, -0.5), 0.5), True),
    "a lower bound above zero": (lambda xp, p, g, s: p - xp.maximum(g, 0.5), False),
    "an upper bound below zero": (lambda xp, p, g, s: p - xp.minimum(g, -0.5), False),
    "the larger of it and the parameter": (lambda xp, p, g, s: p - xp.maximum(g, p), False),
    "decay": (lambda xp, p, g, s: 0.9 * p - 0.1 * g, False),
    "an infinite rate": (lambda xp, p, g, s: p - float("inf") * g, False),
    "a product with the parameter": (lambda xp, p, g, s: p - g * p, False),
    "an exponential": (lambda xp, p, g, s: p - xp.exp(g), False),
    "the other way": (lambda xp, p, g, s: g - p, False),
    "the gradient": (lambda xp, p, g, s: g, False),
}


@pytest.mark.parametrize("name", RESTS)
def test_when_a_rule_rests(name: str) -> None:
    rule, expected = RESTS[name]
    program, constants, _ = rules.trace(
        lambda *args: (rule(*args), {}), (), {}, np.dtype("float32")
    )
    assert rules.rests(program, constants) == expected
