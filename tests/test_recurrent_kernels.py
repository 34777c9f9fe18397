"""The kernels of recurrent scans beside the standard versions: every option, threads, layouts."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnn
from xpnn import functional as F
from xpnn import parallel
from xpnn.backend import array_namespace
from xpnn.kernels import fast, numpy_recurrent, numpy_recurrent_steps, numpy_recurrent_walk
from xpnn.primitives import recurrent, recurrent_gru

numpy_namespace = array_namespace(np.ones(1))
HAS_NUMBA = importlib.util.find_spec("numba") is not None
COMPILED = [False, True] if HAS_NUMBA else [False]
# name: primitive, static parameters, gates, the vectors of H after the bias, first states
KINDS: dict[str, tuple[Any, dict[str, Any], int, int, int]] = {
    "rnn": (recurrent.rnn_scan, {"activation": "tanh"}, 1, 0, 1),
    "rnn relu": (recurrent.rnn_scan, {"activation": "relu"}, 1, 0, 1),
    "lstm": (recurrent.lstm_scan, {"tied": False}, 4, 0, 2),
    "gru": (recurrent_gru.gru_scan, {}, 3, 1, 1),
}


def arguments(
    name: str, n: int, steps: int, d: int, h: int, has: tuple[bool, bool], dtype: Any, size: float
) -> list[Any]:
    """Return arguments of a scan; ``has`` says whether there are biases and a mask."""
    _, _, gates, vectors, states = KINDS[name]
    rng = np.random.default_rng(n + 10 * steps + 100 * h)

    def normal(*shape: int) -> Any:
        return (size * rng.standard_normal(shape)).astype(dtype)

    biases = [normal(gates * h), *(normal(h) for _ in range(vectors))]
    return [
        normal(n, steps, d), normal(d, gates * h), normal(h, gates * h),
        *(biases if has[0] else [None] * len(biases)),
        *(normal(n, h) for _ in range(states)),
        *([None] if name == "lstm" else []),
        rng.random((n, steps)) < 0.7 if has[1] else None,
    ]  # fmt: skip


def upstream(name: str, args: list[Any], given: tuple[bool, ...]) -> tuple[Any, ...]:
    n, steps, _ = args[0].shape
    h, states = args[2].shape[0], KINDS[name][4]
    rng = np.random.default_rng(7)
    shapes = [(n, steps, h), *[(n, h)] * states]
    return tuple(
        rng.standard_normal(shape).astype(args[0].dtype) if wanted else None
        for shape, wanted in zip(shapes, given, strict=False)
    )


def computed(
    implementation: Any, args: list[Any], g: tuple[Any, ...], needs: list[bool], static: Any
) -> list[Any]:
    """Return outputs and gradients; those of arguments that are not there are None."""
    out = implementation.forward(numpy_namespace, *args, **static)
    y, res = out if implementation.residual else (out, None)
    kept = implementation.joint.take(y, res, args)
    found = implementation.joint(numpy_namespace, g, needs, *kept, **static)
    again = implementation.joint(numpy_namespace, g, needs, *kept, **static)  # a retained graph
    for a, b in zip(found, again, strict=True):
        np.testing.assert_array_equal(a, b)
    return [*y, *(d if wanted else None for d, wanted in zip(found, needs, strict=True))]


def both(
    name: str, args: list[Any], g: tuple[Any, ...], options: Any, needs: list[bool] | None = None
) -> tuple[list[Any], list[Any]]:
    """Return what the kernel and the standard version compute."""
    primitive, static, *_ = KINDS[name]
    static = {**static, **options}
    kernel = primitive.on(numpy_namespace)
    assert kernel is not primitive
    assert kernel.accepts(*args, **static)
    if needs is None:
        needs = [a is not None and a.dtype != bool for a in args]
    return tuple(computed(one, args, g, needs, static) for one in (kernel, primitive))  # type: ignore[return-value]


def assert_same(found: list[Any], expected: list[Any], rtol: float) -> None:
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            # Sums that nearly cancel are as exact as what was added, which is of the size of one.
            scale = max(float(np.max(np.abs(b), initial=0.0)), 0.05)
            np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=rtol)


@pytest.fixture(autouse=True, scope="module")
def small() -> Any:
    """Let kernels have the smallest problems, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numpy_recurrent, "_LEAST", 0)
        yield


@pytest.fixture(params=COMPILED, ids=lambda on: "compiled" if on else "plain")
def compiled(request: Any) -> Any:
    with fast.use(request.param):
        yield request.param


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share out however little there is to do."""
    monkeypatch.setattr(numpy_recurrent_walk, "_SHARED", 0)
    monkeypatch.setattr(numpy_recurrent_walk, "_PASS", 0)


# ------------------------------------------------------------------- kernel and standard


@pytest.mark.parametrize("name", KINDS)
@given(
    sizes=st.tuples(*[st.integers(1, 5)] * 2, st.integers(1, 3), st.integers(1, 20)),
    has=st.tuples(st.booleans(), st.booleans()),
    given_=st.tuples(*[st.booleans()] * 3).filter(any),
    reverse=st.booleans(),
    limit=st.sampled_from([None, 0.05]),
    chunk=st.sampled_from([1, 1 << 18]),
    threads=st.integers(1, 3),
    on=st.sampled_from(COMPILED),
    double=st.booleans(),
)
def test_the_kernel_is_the_standard_version(
    name: str, sizes: Any, has: Any, given_: Any, reverse: bool, limit: float | None,
    chunk: int, threads: int, on: bool, double: bool,
) -> None:  # fmt: skip
    dtype, rtol = (np.float64, 1e-12) if double else (np.float32, 2e-5)
    args = arguments(name, *sizes, has, dtype, 0.5)
    g = upstream(name, args, given_)
    options = {"reverse": reverse, "grad_clip": None if name == "gru" else limit}
    with pytest.MonkeyPatch.context() as patch, fast.use(on), xpnn.num_threads(threads):
        for constant in ("_SHARED", "_PASS"):
            patch.setattr(numpy_recurrent_walk, constant, 0)
        patch.setattr(numpy_recurrent_walk, "_CHUNK", chunk)
        patch.setattr(numpy_recurrent_walk, "_ROWS", 1 if chunk == 1 else 256)
        found, expected = both(name, args, g, options)
    assert_same(found, expected, rtol)


@pytest.mark.parametrize("name", KINDS)
def test_any_layout_and_read_only_arrays(name: str, compiled: bool, shared: None) -> None:
    args = arguments(name, 4, 6, 3, 8, (True, True), np.float32, 0.5)
    g = upstream(name, args, (True, True, True))
    options = {"reverse": True, "grad_clip": None}
    _, expected = both(name, args, g, options)
    strange = [None if a is None else np.repeat(a, 2, axis=-1)[..., ::2] for a in args]
    fortran = [None if a is None else np.asfortranarray(a) for a in args]
    for some in (strange, fortran):
        for a in (a for a in some if a is not None):
            a.flags.writeable = False
        g_f = tuple(np.asfortranarray(a) for a in g)
        found, _ = both(name, some, g_f, options)
        assert_same(found, expected, 2e-5)


@pytest.mark.parametrize("name", KINDS)
def test_only_what_is_needed_is_computed(name: str, compiled: bool) -> None:
    args = arguments(name, 2, 3, 3, 5, (True, False), np.float64, 0.5)
    g = upstream(name, args, (True,))
    g = (*g, *[None] * (KINDS[name][4] + 1 - len(g)))
    options = {"reverse": False, "grad_clip": None}
    weights = [i for i in range(len(args)) if args[i] is not None][: 5 if name == "gru" else 4]
    for i in weights:
        found, expected = both(name, args, g, options, [k == i for k in range(len(args))])
        assert_same(found, expected, 1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_huge_values_saturate_and_nan_stays_nan(name: str, compiled: bool) -> None:
    args = arguments(name, 3, 4, 2, 17, (True, False), np.float32, 1e4)
    if name == "rnn relu":  # nothing saturates: the states grow a hundredfold a step
        args[2] *= np.float32(1e-4)
    g = upstream(name, args, (True, True, True))
    options = {"reverse": False, "grad_clip": None}
    found, expected = both(name, args, g, options)
    assert_same(found, expected, 2e-5)
    assert all(np.all(np.isfinite(a)) for a in found if a is not None)
    args[0][1, 2] = np.nan
    found, expected = both(name, args, g, options)
    for a, b in zip(found, expected, strict=True):
        if a is not None:
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    assert np.all(np.isnan(found[0][1, 2:]))
    assert not np.any(np.isnan(found[0][[0, 2]]))


@pytest.mark.parametrize("name", KINDS)
def test_gradients_of_rows_that_do_not_count_may_be_anything(name: str, compiled: bool) -> None:
    args = arguments(name, 3, 4, 2, 5, (True, True), np.float64, 0.5)
    args[-1][1] = False  # a sequence of nothing
    g = upstream(name, args, (True, True, True))
    g[0][1] = np.inf
    found, expected = both(name, args, g, {"reverse": False, "grad_clip": None})
    for a, b in zip(found, expected, strict=True):
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_what_a_kernel_cannot_do_goes_to_the_standard_version() -> None:
    def accepted(name: str, args: list[Any], **options: Any) -> bool:
        primitive, static, *_ = KINDS[name]
        options = {"reverse": False, "grad_clip": None, **static, **options}
        return bool(primitive.on(numpy_namespace).accepts(*args, **options))

    for name in KINDS:
        args = arguments(name, 2, 3, 2, 4, (True, True), np.float32, 0.5)
        assert accepted(name, args)
        for i in range(len(args) - 1):
            if args[i] is not None:  # another dtype, and half precision
                assert not accepted(name, [*args[:i], args[i].astype(np.float64), *args[i + 1 :]])
        assert not accepted(name, [a if a is None else a.astype(np.float16) for a in args])
        for n, d in ((0, 2), (2, 0)):
            empty = arguments(name, n, 3, d, 4, (True, True), np.float32, 0.5)
            assert not accepted(name, empty)
        assert accepted(name, args, grad_clip=0.1) == (name != "gru")
        for i in (3, 4) if name == "gru" else (3,):  # a number for all gates
            assert not accepted(name, [*args[:i], args[i][:1], *args[i + 1 :]])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(numpy_recurrent, "_LEAST", 25)
            assert not accepted(name, args)
            patch.setattr(numpy_recurrent, "_LEAST", 24)
            assert accepted(name, args)
    args = arguments("lstm", 2, 3, 2, 4, (True, True), np.float32, 0.5)
    assert not accepted("lstm", args, tied=True)
    args[-2] = np.ones((3, 4), np.float32)
    assert not accepted("lstm", args)


def test_a_batch_of_nothing_and_inputs_of_nothing() -> None:
    for n, d in ((0, 2), (2, 0)):
        y, h = F.gru(np.ones((n, 3, d)), np.ones((d, 12)), np.ones((4, 12)))
        assert (y.shape, h.shape) == ((n, 3, 4), (n, 4))


# ------------------------------------------------------------------------- threads and steps


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_is_divided_and_gives_the_same_every_time(
    name: str, compiled: bool, shared: None
) -> None:
    args = arguments(name, 7, 9, 3, 16, (True, True), np.float32, 0.5)
    g = upstream(name, args, (True, True, True))
    options = {"reverse": False, "grad_clip": None}
    with xpnn.num_threads(1):
        alone, _ = both(name, args, g, options)
    with xpnn.num_threads(3):
        parallel.begin_step()
        first, _ = both(name, args, g, options)
        assert parallel.pool_in_use()
        second, _ = both(name, args, g, options)
    assert_same(first, alone, 2e-6)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_numpy_alone_divides_large_steps_only() -> None:
    weight, large = np.ones((256, 1024), np.float32), np.ones((512, 2048), np.float32)
    with xpnn.num_threads(2):
        with fast.use(False):
            assert numpy_recurrent_walk._parts(64, 100, weight, True) == [slice(0, 64)]
            assert len(numpy_recurrent_walk._parts(256, 100, large, True)) == 2
        with fast.use(True):
            expected = [slice(0, 32), slice(32, 64)]
            assert numpy_recurrent_walk._parts(64, 100, weight, True) == expected
            assert len(numpy_recurrent_walk._parts(64, 100, weight.astype(np.float64), True)) == 1
            assert len(numpy_recurrent_walk._parts(64, 100, weight, False)) == 1
            assert len(numpy_recurrent_walk._parts(1, 100, weight, True)) == 1
            assert len(numpy_recurrent_walk._parts(2, 3, np.ones((8, 32), np.float32), True)) == 1


def test_products_keep_to_one_thread_beside_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def forward(*_: Any) -> None:
        seen.append(parallel.blas_alone._entered)

    monkeypatch.setattr(numpy_recurrent_walk.Walk, "forward", forward)
    args = arguments("rnn", 2, 3, 2, 4, (True, False), np.float32, 0.5)
    with xpnn.num_threads(2):
        parallel.begin_step()
        recurrent.rnn_scan(numpy_namespace, *args)
        parallel.share(lambda _: None, [0, 1])
        recurrent.rnn_scan(numpy_namespace, *args)
        parallel.begin_step()
    assert seen == [0, 1]


@pytest.mark.skipif(not HAS_NUMBA, reason="numba is not installed")
def test_the_compiled_tanh_is_tanh() -> None:
    from xpnn.kernels import numba_recurrent_steps

    x = np.concatenate([np.linspace(-12, 12, 4001), np.geomspace(1e-30, 1e30, 500), [np.inf]])
    x = np.concatenate([x, -x]).astype(np.float32)
    found = np.asarray([numba_recurrent_steps._tanh(v) for v in x])
    np.testing.assert_allclose(found, np.tanh(x.astype(np.float64)), rtol=4e-7, atol=0)
    assert np.max(np.abs(found)) == 1.0
    assert np.isnan(numba_recurrent_steps._tanh(np.float32(np.nan)))


@pytest.mark.skipif(not HAS_NUMBA, reason="numba is not installed")
def test_compiled_steps_are_used_for_float32_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    sweep = numpy_recurrent_steps.lstm_step
    monkeypatch.setattr(sweep, "fast", lambda *args: calls.append(args) or sweep.plain(*args))
    for dtype, on, count in ((np.float32, True, 3), (np.float64, True, 0), (np.float32, False, 0)):
        args = arguments("lstm", 2, 3, 2, 4, (True, False), dtype, 0.5)
        with fast.use(on):
            recurrent.lstm_scan(numpy_namespace, *args)
        assert len(calls) == count
        calls.clear()


# ----------------------------------------------------------------------- through the tape


@pytest.mark.parametrize("name", KINDS)
def test_first_and_second_derivatives_through_the_tape(name: str, compiled: bool) -> None:
    primitive, static, *_ = KINDS[name]
    args = arguments(name, 2, 3, 2, 3, (True, True), np.float64, 0.5)
    wanted = [i for i, a in enumerate(args) if a is not None and a.dtype != bool]

    def scan(*values: Any) -> Any:
        full = list(args)
        for i, v in zip(wanted, values, strict=True):
            full[i] = v
        return xpnn.autograd.record.apply(primitive, full, {**static, "reverse": True})

    xpnn.check_grad(scan, *(args[i] for i in wanted), order=2)
