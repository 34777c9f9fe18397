"""One number of threads for BLAS and for the pool, and work shared out to it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_close

import xpnn
from xpnn import layers, optim, parallel
from xpnn.errors import ConfigError
from xpnn.kernels import numpy_products
from xpnn.kernels.numpy_products import product, products
from xpnn.parallel import blas_alone, share

ROOT = Path(xpnn.__file__).parents[1]


def blas_threads() -> list[int]:
    return [library.get() for library in blas_alone.libraries]


@pytest.fixture(autouse=True)
def _two_threads() -> Any:
    parallel.begin_step()
    with xpnn.num_threads(2):
        yield
    parallel.begin_step()


# ------------------------------------------------------------------------------ the number


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XPNN_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OPENBLAS_NUM_THREADS": "3"}, 3),
        ({"XPNN_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"}, 2),
        ({"XPNN_NUM_THREADS": "0"}, 1),
        ({"XPNN_NUM_THREADS": "many"}, 4),
        ({}, 4),
    ],
)
def test_the_environment_says_how_many(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: int
) -> None:
    for name in parallel._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(parallel, "_cpus", lambda: 4)
    monkeypatch.setattr(parallel, "_chosen", None)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    parallel._default.cache_clear()
    assert xpnn.get_num_threads() == expected
    parallel._default.cache_clear()


@pytest.mark.parametrize("number", ["1", ""])
def test_blas_keeps_to_what_the_environment_says_of_xpnn(number: str) -> None:
    code = (
        "import numpy, threadpoolctl, xpnn\n"
        "for x in 1, xpnn.Tensor(numpy.ones(2)) + 1:\n"
        "    print({x['num_threads'] for x in threadpoolctl.threadpool_info()})"
    )
    environment = {"PYTHONPATH": str(ROOT), "XPNN_FAST": "0", "XPNN_NUM_THREADS": number}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    before, after = done.stdout.split()
    assert after == "{1}" if number else after == before


def test_one_number_for_blas_and_the_pool_is_given_back() -> None:
    before = blas_threads()
    with xpnn.num_threads(1):
        assert xpnn.get_num_threads() == 1
        assert set(blas_threads()) == {1}
        with xpnn.num_threads(2):
            assert set(blas_threads()) == {2}
        assert set(blas_threads()) == {1}
    assert xpnn.get_num_threads() == 2
    assert blas_threads() == before
    with pytest.raises(ZeroDivisionError), xpnn.num_threads(1):
        _ = 1 / 0
    assert xpnn.get_num_threads() == 2


def test_none_is_what_was_at_first() -> None:
    first = blas_alone._first
    xpnn.set_num_threads(1)
    xpnn.set_num_threads(None)
    assert xpnn.get_num_threads() == parallel._default()
    assert blas_threads() == first
    xpnn.set_num_threads(np.int64(1))
    assert type(xpnn.get_num_threads()) is int


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", True])
def test_other_numbers_are_errors(n: Any) -> None:
    with pytest.raises(ConfigError, match="expected a whole number, at least 1, or None"):
        xpnn.set_num_threads(n)
    assert xpnn.get_num_threads() == 2


def test_blas_keeps_to_one_thread_until_the_last_context_ends() -> None:
    before = blas_threads()
    with blas_alone:
        with blas_alone:
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {1}
        xpnn.set_num_threads(3)  # counts afterwards
        assert set(blas_threads()) == {1}
    assert set(blas_threads()) == {3}
    xpnn.set_num_threads(2)
    assert blas_threads() == before


# ---------------------------------------------------------------------------------- the pool


def test_every_item_is_worked_on_once_and_by_several_threads() -> None:
    done: list[int] = []
    threads = set()

    def work(i: int) -> None:
        threads.add(threading.get_ident())
        done.append(i)
        time.sleep(0.002)
        assert set(blas_threads()) == {1}

    share(work, range(20))
    assert sorted(done) == list(range(20))
    assert len(threads) == 2
    assert parallel.pool_in_use()


def test_one_thread_or_one_item_needs_no_pool() -> None:
    threads = []
    with xpnn.num_threads(1):
        share(lambda i: threads.append(threading.get_ident()), range(3))
    share(lambda i: threads.append(threading.get_ident()), [0])
    share(lambda i: threads.append(threading.get_ident()), [])
    assert threads == [threading.get_ident()] * 4
    assert not parallel.pool_in_use()


def test_an_error_reaches_the_caller_and_the_pool_goes_on() -> None:
    def work(i: int) -> None:
        if i == 7:
            msg = "seven"
            raise ValueError(msg)
        time.sleep(0.001)

    before = blas_threads()
    for _ in range(3):
        with pytest.raises(ValueError, match="seven"):
            share(work, range(8))
    assert blas_threads() == before
    test_every_item_is_worked_on_once_and_by_several_threads()


def test_work_within_work_stays_in_its_thread() -> None:
    pairs = set()

    def outer(i: int) -> None:
        def inner(j: int) -> None:
            pairs.add((i, threading.get_ident()))

        share(inner, range(4))
        time.sleep(0.002)

    share(outer, range(6))
    assert len(pairs) == 6


def test_threads_see_the_context_of_the_caller() -> None:
    x = np.full(8, 1e30, np.float32)

    def work(i: int) -> None:
        time.sleep(0.002)
        np.multiply(x, x)

    with np.errstate(over="ignore"):
        share(work, range(6))
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        share(work, range(6))


def test_many_callers_share_one_pool() -> None:
    sums = np.zeros(4)

    def caller(k: int) -> None:
        parts = np.zeros(50)
        share(lambda i: parts.__setitem__(i, i), range(50))
        sums[k] = parts.sum()

    threads = [threading.Thread(target=caller, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums.tolist() == [sum(range(50))] * 4


def test_blas_is_told_once_in_a_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[int]] = []
    monkeypatch.setattr(type(blas_alone), "_set", lambda self, numbers: told.append(numbers))
    with parallel.stretch:
        assert not told
        for _ in range(3):
            with parallel.stretch:
                share(lambda i: None, range(2))
        assert told == [[1] * len(blas_alone.libraries)]
    assert len(told) == 2
    with pytest.raises(ZeroDivisionError), parallel.stretch:  # the pool is in use already
        _ = 1 / (len(told) - 3)
    assert len(told) == 4
    parallel.begin_step()
    with parallel.stretch:
        share(lambda i: None, range(1))
    assert len(told) == 4


def test_what_is_not_worth_sharing_is_for_one_thread_of_blas_too() -> None:
    seen = []
    for worth, items in (False, range(2)), (False, range(1)), (True, range(1)):
        share(lambda i: seen.append(set(blas_threads())), items, worth)
    assert seen == [{1}, {1}, {1}, {2}]
    assert not parallel.pool_in_use()


def test_any_thread_keeps_blas_to_one() -> None:
    """Of threadpoolctl one thread alone may set the number, as long as it lives."""
    seen = []

    def look() -> None:
        with blas_alone:
            seen.append(set(blas_threads()))

    look()
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [{1}, {1}]
    assert set(blas_threads()) == {2}


_STEPS = """
import os, sys, threading, time
import numpy as np
import xpnn
from xpnn import layers, losses, optim

def ticks():  # that threads have computed which are not Python's: those of BLAS
    time.sleep(0.2)  # they wait for more to do
    ours = {str(thread.native_id) for thread in threading.enumerate()}
    theirs = set(os.listdir("/proc/self/task")) - ours
    stats = [open(f"/proc/self/task/{t}/stat").read().rsplit(")", 1)[1].split() for t in theirs]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats)

rng = np.random.default_rng(0)
x, y = rng.random((32, 20, 20, 64), np.float32), rng.integers(0, 40, (2048,))
wide = rng.random((2048, 400), np.float32)
convolutions = xpnn.Sequential(
    [layers.Conv2D(64, 3, padding=1), layers.BatchNorm(activation="relu"), layers.MaxPool2D(2)]
    + [layers.Flatten(), layers.Dense(40)])
dense = xpnn.Sequential(
    [layers.Dense(300, activation="relu"), layers.LayerNorm(), layers.Dense(40)])
optimizer = optim.Adam()

def step(model, x, y):
    losses.cross_entropy(model(x), y).backward()
    optimizer.step(model)

for model, *batch in (convolutions, x, y[:32]), (dense, wide, y):
    step(model, *batch)
    before = ticks()
    for _ in range(3):
        step(model, *batch)
    print(ticks() - before)
before = ticks()
for _ in range(3):
    wide.T @ wide
print(ticks() - before)
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads what Linux tells of threads"
)
@pytest.mark.parametrize("fast", ["0", "1"])
def test_threads_of_blas_sleep_while_the_pool_works(fast: str) -> None:
    """They would take a core from it for 30 ms each time that BLAS had used them."""
    names = {*parallel._VARIABLES, "XPNN_FAST"}
    environment = {key: value for key, value in os.environ.items() if key not in names}
    done = subprocess.run(
        [sys.executable, "-c", _STEPS], capture_output=True, text=True, check=True,
        env={**environment, "PYTHONPATH": str(ROOT), "XPNN_FAST": fast},
    )  # fmt: skip
    *ticks, of_blas = map(int, done.stdout.split())
    if not of_blas:
        pytest.skip("BLAS has no threads of its own here")
    assert ticks == [0, 0]


# --------------------------------------------------------------------------------- products


@pytest.mark.parametrize(
    "shape", [(3, 4, 5), (300, 70, 20), (20, 70, 300), (97, 1, 101), (0, 3, 2), (2, 0, 3)]
)
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("across", [False, True])
def test_a_product_is_the_same_from_the_pool(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], pooled: bool, across: bool
) -> None:
    monkeypatch.setattr(numpy_products, "_ALONE", 8)
    monkeypatch.setattr(numpy_products, "_SHARED", 1000)
    if pooled:
        share(lambda i: None, range(2))
    n, k, m = shape
    rng = np.random.default_rng(0)
    a = rng.standard_normal((k, n)).T if across else rng.standard_normal((n, k))
    b = rng.standard_normal((m, k)).T if across else rng.standard_normal((k, m))
    out = np.empty((n, m))
    assert product(a, b, out) is out
    assert_close(out, np.einsum("ij,jk->ik", a, b), 1e-12, 1e-12)
    assert np.array_equal(product(a, b), out)


@pytest.mark.parametrize(("rows", "in_parts"), [(128, False), (500, True)])
def test_a_product_is_finished_by_the_pool_if_a_sweep_would_be(rows: int, in_parts: bool) -> None:
    """Else BLAS has made it with all its threads, and they spin while the pool wants to work."""
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((rows, 784)), rng.standard_normal((784, 500))
    plus = rng.standard_normal(500)

    def rectify(part: Any, plus: Any) -> None:
        np.maximum(part + plus, 0, out=part)

    parallel.begin_step()
    y = product(a, b, plus=plus, last=rectify)
    assert parallel.pool_in_use() is in_parts
    parallel.begin_step()
    wanted = np.maximum(np.einsum("ij,jk->ik", a, b, optimize=False) + plus, 0)
    assert_close(y, wanted, 1e-11, 1e-11)


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("sizes", [(96, 80, 70), (500, 40, 33), (31, 300, 90), (160, 1, 4000)])
def test_two_products_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch, threads: int, sizes: tuple[int, int, int]
) -> None:
    n, k, m = sizes
    rng = np.random.default_rng(6)
    x, w, g = (rng.standard_normal(shape) for shape in ((n, k), (k, m), (n, m)))
    pairs = (g, w.T), (x.T, g)
    wanted = [np.einsum("ij,jk->ik", *pair, optimize=False) for pair in pairs]
    shared: list[int] = []

    def noted(work: Any, items: Any) -> None:
        shared.append(len(items))
        share(work, items)

    with xpnn.num_threads(2):
        share(lambda i: None, range(2))  # from here on the pool is in use
    monkeypatch.setattr(parallel, "share", noted)
    with xpnn.num_threads(threads):
        found = products(*pairs)
        few = products(None, pairs[1])
    assert shared[0] >= 2
    assert few[0] is None
    for a, b in zip([*found, few[1]], [*wanted, wanted[1]], strict=True):
        assert a is not None
        assert_close(a, b, 1e-12, 1e-12)


def test_a_step_begins_with_all_threads_for_blas() -> None:
    """What a kernel shared out in one step does not change the bits of the next."""
    share(lambda i: None, range(2))
    model = xpnn.Sequential([layers.Dense(3)])
    model.compile("mse", optim.SGD(0.1))
    x = np.ones((4, 2), np.float32)
    model.predict(x)
    assert not parallel.pool_in_use()
    share(lambda i: None, range(2))
    model.train_step(xpnn.data.Batch(x, np.ones((4, 3), np.float32)))
    assert not parallel.pool_in_use()


def test_what_is_shared_is_let_go_of() -> None:
    class Block:
        pass

    for fails in (False, True):
        block = Block()
        gone = weakref.ref(block)

        def work(i: int, block: Block = block, fails: bool = fails) -> None:
            if fails:
                raise ValueError

        with parallel.num_threads(3), suppress(ValueError):
            parallel.share(work, range(4))
        del work, block
        for _ in range(100):  # a thread may be about to leave
            if gone() is None:
                break
            time.sleep(0.01)
        assert gone() is None
