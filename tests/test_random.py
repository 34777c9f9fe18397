"""The random stream: the bits are Philox's, the same everywhere, and its state is two integers."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import json
import math
import pickle
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnn.random
from xpnn.backend import as_device, available_devices, device, set_dtype, to_numpy
from xpnn.errors import ConfigError, DataError, DeviceError, DTypeError, ShapeError
from xpnn.kernels import numpy_random
from xpnn.random import Stream, context, get_rng, set_rng, set_seed
from xpnn.random import stream as streams

DEVICES = ["cpu", "strict:device1", "torch:cpu", "jax:cpu"]
STRICT = "strict:device1"
BIG_KEY = 2**127 + 2**64 + 12345
SHAPES: list[Any] = [(), 0, (0, 3), 1, 7, (3, 5), (2, 3, 4, 5), [2, 2]]


@pytest.fixture(params=DEVICES)
def place(request: pytest.FixtureRequest) -> str:
    """Each device of a library that is installed."""
    try:
        as_device(request.param)
    except DeviceError as error:
        pytest.skip(str(error))
    return str(request.param)


@pytest.fixture(autouse=True)
def own_context() -> Iterator[None]:
    """Give the stream and the dtype of the context back after each test."""
    token = context._rng.set(None)
    yield
    context._rng.reset(token)
    set_dtype("float32")


def philox(seed: int, counter: int) -> Any:
    """NumPy's Philox before block ``counter`` of the stream."""
    return np.random.Philox(key=seed, counter=counter)


# ---------------------------------------------------------------- the bits are NumPy's Philox


def test_numpy_is_philox4x64_10() -> None:
    """Random123's known answers for philox4x64-10; NumPy counts up before it makes a block."""
    assert philox(0, 2**256 - 1).random_raw() == 0x16554D9ECA36314C
    assert philox(2**128 - 1, 2**256 - 2).random_raw() == 0x87B092C3013FE90B


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1, 2**64, BIG_KEY, 2**128 - 1])
@pytest.mark.parametrize("counter", [0, 1, 12345, 2**63, 2**64 - 50])
def test_bits_are_numpys(seed: int, counter: int) -> None:
    expected = philox(seed, counter).random_raw(101)
    actual = Stream(seed, counter).bits(101)
    assert actual.dtype == np.uint64
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 2, 7, 8, 1001])
def test_uniforms_are_numpys(dtype: Any, n: int) -> None:
    expected = np.random.Generator(philox(BIG_KEY, 0)).random(n, dtype=dtype)
    np.testing.assert_array_equal(Stream(BIG_KEY).uniform(n, dtype=dtype), expected)


def box_muller(pairs: Any, bits: int) -> list[float]:
    return [
        math.sqrt(-2 * math.log((a + 1) / 2**bits)) * f(2 * math.pi * c / 2**bits)
        for a, c in pairs.reshape(-1, 2).tolist()
        for f in (math.cos, math.sin)
    ]


def test_formulas() -> None:
    """Each kind of number from the words, as its docstring says."""
    words = Stream(3).bits(40)
    lanes16, lanes32 = words.astype("<u8").view("<u2"), words.astype("<u8").view("<u4")
    high = words >> np.uint64(11)
    for actual, expected in [
        (Stream(3).uniform(80, dtype="float32"), (lanes32 >> 8) * 2.0**-24),
        (Stream(3).uniform(40, dtype="float64"), high * 2.0**-53),
        (Stream(3).bernoulli(0.3, 160), lanes16 < round(0.3 * 65536)),
        (Stream(3).integers(-5, 12, 40), [-5 + int(word) % 17 for word in words]),
        (Stream(3).permutation(40), np.argsort(words, kind="stable")),
    ]:
        np.testing.assert_array_equal(actual, expected)
    actual = (Stream(3).normal(80, mean=-2, std=3, dtype="float32") + 2.0) / 3
    np.testing.assert_allclose(actual, box_muller(lanes32, 32), rtol=1e-6, atol=1e-6)
    actual = Stream(3).normal(40, dtype="float64")
    np.testing.assert_allclose(actual, box_muller(high, 53), rtol=1e-12, atol=1e-15)


@settings(database=None, deadline=None, max_examples=50)
@given(st.integers(0, 2**128 - 1), st.integers(0, 2**63), st.integers(0, 9), st.integers(0, 30))
def test_a_draw_of_whole_blocks_can_be_split(seed: int, counter: int, blocks: int, n: int) -> None:
    whole, parts = Stream(seed, counter), Stream(seed, counter)
    expected = whole.bits(4 * blocks + n)
    np.testing.assert_array_equal(np.concatenate([parts.bits(4 * blocks), parts.bits(n)]), expected)
    assert parts.counter == whole.counter == counter + blocks + -(-n // 4)


@pytest.mark.parametrize("n", [31, 32, 33, 64, 65, 1000, 1001])
def test_threads_draw_the_parts_of_the_same_numbers(n: int, monkeypatch: Any) -> None:
    def draw(stream: Stream) -> list[Any]:
        uniform, normal = (
            [f(n, dtype=dtype) for dtype in ("float32", "float64")]
            for f in (stream.uniform, stream.normal)
        )
        return [*uniform, *normal, stream.uniform(n, low=-1, high=2), stream.bernoulli(0.3, n)]

    expected = draw(Stream(BIG_KEY, 5))
    monkeypatch.setattr(numpy_random, "_PART", 4)
    for threads in (1, 3):
        with xpnn.num_threads(threads):
            for actual, whole in zip(draw(Stream(BIG_KEY, 5)), expected, strict=True):
                np.testing.assert_array_equal(actual, whole)


def test_a_permutation_is_stable_where_words_are_equal(monkeypatch: Any) -> None:
    words = np.repeat(Stream(0).bits(40), 3)[::-1].copy()
    monkeypatch.setattr(numpy_random, "words", lambda seed, counter, n: words[:n])
    expected = np.argsort(words, kind="stable")
    np.testing.assert_array_equal(Stream(0).permutation(120), expected)


@pytest.mark.parametrize(
    ("kind", "args", "blocks"),
    [
        ("bits", (5,), 2),
        ("uniform", (8,), 1),
        ("uniform", (9,), 2),
        ("normal", (9,), 2),
        ("bernoulli", (0.5, 16), 1),
        ("bernoulli", (0.5, 17), 2),
        ("integers", (0, 9, 5), 2),
        ("permutation", (4,), 1),
        ("uniform", ((0, 4),), 0),
    ],
)
def test_blocks_taken(kind: str, args: Any, blocks: int) -> None:
    """A draw takes whole blocks, and what came before leaves no trace in it."""
    stream = Stream(1)
    stream.uniform(3)
    stream.bernoulli(0.5, 3)
    getattr(stream, kind)(*args)
    assert stream.counter == 2 + blocks
    np.testing.assert_array_equal(stream.bits(3), philox(1, 2 + blocks).random_raw(3))


# ----------------------------------------------------------------- the same on every device


def same_draws(here: Stream, there: Stream, place: str, shape: Any, *more: Any) -> None:
    """Compare every kind of draw whose bits agree on the host and on another device."""
    table: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("bernoulli", (0.2, shape), {}),
        ("integers", (-3, 100, shape), {}),
        ("permutation", (13,), {}),
        ("uniform", (shape,), {"dtype": "float32", "low": -0.1, "high": 0.3}),
        *more,
    ]
    for kind, args, options in table:
        expected = getattr(here, kind)(*args, device="cpu", **options)
        actual = getattr(there, kind)(*args, device=place, **options)
        assert xpnn.backend.device_of(actual) == place
        assert tuple(actual.shape) == expected.shape
        assert kind == "permutation" or expected.shape == np.empty(shape).shape
        np.testing.assert_array_equal(to_numpy(actual), expected, err_msg=kind)
    assert here.state == there.state


@pytest.mark.parametrize("shape", SHAPES)
def test_same_bits_on_every_device(place: str, shape: Any) -> None:
    normal = ("normal", (shape,), {"dtype": "float32", "mean": 1.0, "std": 2.0})
    same_draws(Stream(BIG_KEY), Stream(BIG_KEY), place, shape, normal)


def test_default_device_and_dtype(place: str) -> None:
    with device(place):
        mask, values = Stream(0).bernoulli(0.5, 3), Stream(0).uniform(3)
    assert xpnn.backend.device_of(mask) == xpnn.backend.device_of(values) == place
    assert "bool" in str(mask.dtype)
    assert "float32" in str(values.dtype)
    set_dtype("float64")
    assert Stream(0).normal(3).dtype == Stream(0).uniform(3).dtype == np.float64


@pytest.mark.libraries
@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_half_precision_is_rounded_float32(kind: str) -> None:
    full = getattr(Stream(0), kind)((5, 5), dtype="float32")
    half = getattr(Stream(0), kind)((5, 5), dtype="float16")
    np.testing.assert_array_equal(half, full.astype(np.float16), strict=True)
    torch = pytest.importorskip("torch")
    brain = getattr(Stream(0), kind)((5, 5), dtype="bfloat16", device="torch:cpu")
    assert torch.equal(brain, torch.asarray(full).to(torch.bfloat16))


def test_arrays_are_the_callers_own() -> None:
    """Later draws leave earlier arrays alone, and they can be written."""
    stream = Stream(0)
    draws = [stream.uniform(5), stream.normal(5), stream.bernoulli(0.5, 5), stream.permutation(5)]
    kept = [draw.copy() for draw in draws]
    assert not np.array_equal(stream.uniform(5), stream.uniform(5))
    for draw, old in zip(draws, kept, strict=True):
        np.testing.assert_array_equal(draw, old)
        draw[0] = 0


@pytest.mark.libraries
def test_a_library_with_a_source_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for the values on its device; what it lacks comes from the host."""
    torch = pytest.importorskip("torch")
    calls: list[tuple[Any, ...]] = []

    def bernoulli(*args: Any) -> Any:
        calls.append(args)
        return torch.asarray(numpy_random.bernoulli(*args))

    sources = {as_device("torch:cpu").library: types.SimpleNamespace(bernoulli=bernoulli)}
    monkeypatch.setattr(streams, "_source", lambda library: sources.get(library, numpy_random))
    same_draws(Stream(BIG_KEY, 4), Stream(BIG_KEY, 4), "torch:cpu", (4, 5))
    assert calls == [(BIG_KEY, 4, 20, round(0.2 * 65536))]


@pytest.mark.gpu
def test_cuda_makes_the_same_bits() -> None:
    if not any(name.startswith("cuda") for name in available_devices()):
        pytest.skip("no CUDA device")
    here, there = Stream(BIG_KEY), Stream(BIG_KEY)
    for n in [0, 1, 7, 8, 17, 1000, 2**23 + 5]:  # the last is more than one pass of the grid
        double = ("uniform", (n,), {"dtype": "float64", "low": -0.1, "high": 0.3})
        half = ("uniform", (n,), {"dtype": "float16"})
        same_draws(here, there, "cuda", n, double, half)
        for dtype, tol in [("float32", 2e-7), ("float64", 1e-13)]:
            expected = here.normal(n, dtype=dtype, device="cpu")
            actual = to_numpy(there.normal(n, dtype=dtype, device="cuda"))
            np.testing.assert_allclose(actual, expected, rtol=tol, atol=tol)


# -------------------------------------------------------------------------------- the state


def test_state_goes_through_json_and_resumes() -> None:
    stream = Stream(BIG_KEY)
    stream.normal((3, 3))
    state = json.loads(json.dumps(stream.state))
    assert state == {"bit_generator": "philox4x64-10", "seed": BIG_KEY, "counter": 2}
    other = Stream()
    other.state = state
    for resumed in [
        Stream.from_state(state),
        other,
        stream.copy(),
        copy.deepcopy(stream),
        pickle.loads(pickle.dumps(stream)),
    ]:
        assert resumed.state == stream.state
        np.testing.assert_array_equal(resumed.bits(9), stream.copy().bits(9))
    assert stream.counter == 2
    assert Stream().seed != Stream().seed
    assert (stream.seed, repr(stream)) == (BIG_KEY, f"Stream(seed={BIG_KEY}, counter=2)")


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"bit_generator": "pcg64", "seed": 0, "counter": 0},
        {"bit_generator": "philox4x64-10", "seed": 0},
        {"bit_generator": "philox4x64-10", "seed": None, "counter": 0},
        {"bit_generator": "philox4x64-10", "seed": 0, "counter": -1},
        {"bit_generator": "philox4x64-10", "seed": "0", "counter": 0},
    ],
)
def test_a_foreign_state_is_refused(state: Any) -> None:
    stream = Stream(1, counter=2)
    with pytest.raises(DataError, match=r"expected \{'bit_generator': 'philox4x64-10'"):
        stream.state = state
    assert (stream.seed, stream.counter) == (1, 2)


def test_spawned_streams_are_new_and_reproducible() -> None:
    parent, twin = Stream(0), Stream(0)
    children = [parent.spawn() for _ in range(50)]
    assert [child.seed for child in children] == [twin.spawn().seed for _ in range(50)]
    assert parent.counter == 50
    assert all(child.counter == 0 for child in children)
    assert len({child.seed for child in children}) == 50
    assert children[0].seed == sum(int(w) << 64 * i for i, w in enumerate(Stream(0).bits(2)))
    draws = np.stack([child.uniform(10_000) for child in children[:5]])
    assert abs(np.corrcoef(draws) - np.eye(5)).max() < 0.04


def test_threads_get_blocks_of_their_own() -> None:
    stream, alone = Stream(9), Stream(9)
    with ThreadPoolExecutor(8) as pool:
        drawn = set(pool.map(lambda _: tuple(stream.bits(7).tolist()), range(1600)))
    assert drawn == {tuple(alone.bits(7).tolist()) for _ in range(1600)}
    assert stream.counter == 3200


# ------------------------------------------------------------------------------ the context


def test_seed_and_stream_of_the_context() -> None:
    set_seed(5)
    assert get_rng().state == Stream(5).state
    assert get_rng() is get_rng()
    set_rng(mine := Stream(6))
    assert get_rng() is mine
    contextvars.copy_context().run(set_seed, 7)
    assert get_rng() is mine

    async def draw(seed: int) -> Any:
        set_seed(seed)
        await asyncio.sleep(0)
        return get_rng().bits(3).tolist()

    async def both() -> Any:
        return await asyncio.gather(draw(1), draw(2))

    assert asyncio.run(both()) == [Stream(1).bits(3).tolist(), Stream(2).bits(3).tolist()]


def test_each_thread_starts_with_its_own_entropy() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(get_rng).result().seed != get_rng().seed


# --------------------------------------------------------------------------- the statistics


def kolmogorov(sample: Any, distribution: Any) -> float:
    """Return sqrt(n) sup |empirical - distribution|; above 1.95 in one case of 1000."""
    cdf = np.sort(distribution(sample))
    n = cdf.size
    steps = np.arange(n + 1) / n
    return float(max((steps[1:] - cdf).max(), (cdf - steps[:-1]).max()) * math.sqrt(n))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_statistics_of_real_numbers(dtype: str) -> None:
    n = 200_000
    u = Stream(1).uniform(n, low=-1, high=3, dtype=dtype).astype(np.float64)
    assert u.min() >= -1
    assert u.max() < 3
    assert abs(u.mean() - 1) < 5 * math.sqrt(16 / 12 / n)
    assert abs(u.var() - 16 / 12) < 0.02
    assert kolmogorov(u, lambda x: (x + 1) / 4) < 1.95
    z = Stream(2).normal(n, mean=5, std=2, dtype=dtype).astype(np.float64)
    assert abs(z.mean() - 5) < 5 * 2 / math.sqrt(n)
    assert abs(z.std() - 2) < 0.02
    erf = np.vectorize(math.erf)
    assert kolmogorov(z, lambda x: (1 + erf((x - 5) / math.sqrt(8))) / 2) < 1.95
    for x in (u, z):  # neighbours, and the two numbers of a Box-Muller pair
        assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 0.012
        assert abs(np.corrcoef(x[0::2] ** 2, x[1::2] ** 2)[0, 1]) < 0.016


@pytest.mark.parametrize("p", [0.0, 1e-4, 0.1, 0.5, 0.9, 1.0])
def test_statistics_of_masks(p: float) -> None:
    n = 400_000
    mask = Stream(3).bernoulli(p, n)
    assert abs(mask.mean() - p) <= 5 * math.sqrt(p * (1 - p) / n) + 2**-17
    if p in (0.1, 0.5):  # the lanes of a word know nothing of each other
        lanes = mask.reshape(-1, 16).T.astype(float)
        assert abs(np.corrcoef(lanes) - np.eye(16)).max() < 5 / math.sqrt(n / 16)


def test_statistics_of_whole_numbers() -> None:
    counts = np.bincount(Stream(4).integers(0, 10, 100_000), minlength=10)
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 27.9  # chi-square, 9 degrees, 0.001
    assert Stream(4).integers(-(2**63), 2**63 - 1, 1000).min() < -(2**62)
    orders = np.stack([Stream(seed).permutation(5) for seed in range(2000)])
    assert (np.sort(orders) == np.arange(5)).all()
    counts = np.stack([np.bincount(column, minlength=5) for column in orders.T])
    assert ((counts - 400) ** 2 / 400).sum() < 45


# ------------------------------------------------------------------------------- the errors


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda s: Stream(-1), ConfigError, r"integer seed with 0 <= seed < 2\*\*128, got -1"),
        (lambda s: Stream(2**128), ConfigError, r"seed < 2\*\*128"),
        (lambda s: Stream(cast(Any, 1.5)), ConfigError, "integer seed .* got 1.5"),
        (lambda s: Stream(0, 2**64), ConfigError, r"integer counter .* < 2\*\*64"),
        (lambda s: Stream(0, 2**64 - 2).bits(8), ConfigError, "blocks are used up"),
        (lambda s: s.uniform((2, -1)), ShapeError, r"integers >= 0, got \(2, -1\)"),
        (lambda s: s.normal((2.0,)), ShapeError, r"Stream.normal: .* got \(2.0,\)"),
        (lambda s: s.permutation(-1), ShapeError, "got -1"),
        (lambda s: s.uniform(2, low=1, high=0), ConfigError, "low <= high, got low=1, high=0"),
        (lambda s: s.uniform(2, high=math.inf), ConfigError, "finite low <= high"),
        (lambda s: s.normal(2, std=-1), ConfigError, "std >= 0, got mean=0, std=-1"),
        (lambda s: s.normal(2, mean=math.nan), ConfigError, "finite mean"),
        (lambda s: s.uniform(2, dtype="int64"), DTypeError, "floating-point dtype, got int64"),
        (lambda s: s.normal(2, dtype="complex64"), DTypeError, "got complex64"),
        (lambda s: s.normal(2, dtype="bfloat16", device=STRICT), DTypeError, "no dtype bfloat16"),
        (lambda s: s.bernoulli(1.01, 2), ConfigError, r"p in \[0, 1\], got 1.01"),
        (lambda s: s.bernoulli(math.nan, 2), ConfigError, "got nan"),
        (lambda s: s.integers(3, 3, 2), ConfigError, "bounds low < high, got 3, 3"),
        (lambda s: s.integers(0, 2**63, 2), ConfigError, "int64 bounds"),
        (lambda s: s.integers(0.5, 2, 2), ConfigError, "got 0.5, 2"),
        (lambda s: s.uniform(2, device="tpu"), DeviceError, "unknown device 'tpu'"),
        (lambda s: set_rng(cast(Any, "rng")), ConfigError, r"xpnn.set_seed\(...\)"),
    ],
)
def test_errors(call: Any, error: type[Exception], match: str) -> None:
    stream = Stream(0)
    with pytest.raises(error, match=match):
        call(stream)
    assert stream.counter == 0  # nothing was drawn
