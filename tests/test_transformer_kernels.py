"""The kernels of a transformer layer against their standard twins, in parts and on threads."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import array_api_compat.numpy as xp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnn
from xpnn import Tensor, check_grad, kernels, ops
from xpnn import functional as F
from xpnn.kernels import (
    fast,
    numpy_attention,
    numpy_elementwise,
    numpy_parts,
    numpy_products,
)
from xpnn.primitives import activations, elementwise, losses, neural, special
from xpnn.primitives.attention import attention
from xpnn.primitives.normalization import normalize
from xpnn.primitives.products import matmul

WAYS = {"alone": (1, False), "threads": (2, False)}
if importlib.util.find_spec("numba") is not None:
    WAYS |= {"alone, compiled": (1, True), "threads, compiled": (2, True)}
every_way = pytest.mark.parametrize(("threads", "compiled"), WAYS.values(), ids=WAYS)
TOLERANCE = {"float64": 1e-10, "float32": 2e-5}


@contextmanager
def cut_up(threads: int = 1, compiled: bool = False) -> Iterator[None]:
    """Let kernels take small parts, and share small work."""
    with pytest.MonkeyPatch.context() as patch, fast.use(compiled), xpnn.num_threads(threads):
        patch.setattr(numpy_parts, "_PART", 24)
        patch.setattr(numpy_parts, "_LONG", 32)
        patch.setattr(numpy_attention, "_TILE", 24)
        patch.setattr(numpy_attention, "_SHARED", 1)
        patch.setattr(numpy_products, "_ALONE", 1)
        patch.setattr(numpy_products, "_SHARED", 64)
        patch.setattr(numpy_products, "_STACK", 64)
        patch.setattr(numpy_products, "_PIECE", 64)
        patch.setattr(numpy_products, "_ROWS", 2)
        yield


def results(primitive: Any, kernel: bool, xs: Any, static: Any, g: Any, needs: Any) -> list[Any]:
    """Return the output and the gradients, by the kernel or by the standard version."""
    version = primitive.on(xp) if kernel else primitive
    static = {**primitive.defaults, **static}
    if kernel:
        assert version is not primitive
        assert version.accepts is None or version.accepts(*xs, **static)
    y, res = version.forward(xp, *xs, **static), None
    if version.residual:
        y, res = y
    if version.joint is not None:
        found = version.joint(xp, g, needs, *version.joint.take(y, res, xs), **static)
        return [y, *found]
    return [y] + [
        rule(xp, g, *rule.take(y, res, xs), **static) if need else None
        for rule, need in zip(primitive.rules, needs, strict=True)
    ]


def same(primitive: Any, xs: Any, static: Any, g: Any, needs: Any, tolerance: float) -> None:
    """The kernel changes none of its arguments and gives what the standard version gives."""
    for x in (*xs, g):
        if x is not None:
            x.flags.writeable = False
    expected = results(primitive, False, xs, static, g, needs)
    found = results(primitive, True, xs, static, g, needs)
    again = results(primitive, True, xs, static, g, needs)
    for a, b, c, need in zip(found, expected, again, (True, *needs), strict=True):
        if not need:
            continue
        assert (a is None) == (b is None)
        if a is None:
            continue
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        scale = max(1.0, np.max(np.abs(b), initial=0.0))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)
        assert np.array_equal(a, c)  # to the bit, whatever the threads do


def draw(rng: Any, *shape: int, dtype: str = "float64") -> Any:
    return rng.standard_normal(shape).astype(dtype)


# ------------------------------------------------------------------------------ normalization

NORMALIZED = {
    "last axis": ((5, 7, 6), (-1,), (6,), True),
    "last two axes": ((9, 4, 3), (1, 2), (1, 4, 3), True),
    "all axes": ((3, 5), (0, 1), (3, 5), True),
    "root of mean squares": ((40, 6), (1,), (6,), False),
    "one value": ((4, 1), (1,), (1,), True),
    "long rows": ((3, 50), (-1,), (50,), True),
}


@every_way
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", NORMALIZED)
def test_normalization(name: str, dtype: str, threads: int, compiled: bool) -> None:
    shape, axes, lengths, centered = NORMALIZED[name]
    rng = np.random.default_rng(0)
    static = {"axes": axes, "epsilon": 1e-3, "centered": centered}
    for has_scale, has_shift in ((True, True), (True, False), (False, True), (False, False)):
        x = draw(rng, *shape[::-1], dtype=dtype).T * 3 + 2
        scale = draw(rng, *lengths, dtype=dtype) if has_scale else None
        shift = draw(rng, *lengths, dtype=dtype) if has_shift else None
        g = draw(rng, *shape, dtype=dtype)
        needs = [True, has_scale, has_shift]
        with cut_up(threads, compiled):
            same(normalize, [x, scale, shift], static, g, needs, TOLERANCE[dtype])


@every_way
def test_normalization_of_huge_and_of_equal_numbers(threads: int, compiled: bool) -> None:
    rng = np.random.default_rng(1)
    x = draw(rng, 12, 8, dtype="float32")
    x[:6] *= 1e15
    x[6:9] = 1e6  # no variance
    g = draw(rng, 12, 8, dtype="float32")
    static = {"axes": (1,), "epsilon": 1e-5}
    with cut_up(threads, compiled):
        same(normalize, [x, None, None], static, g, [True, False, False], 1e-4)


def test_normalization_over_other_axes_is_left_to_the_standard_version() -> None:
    x, one = np.ones((2, 3, 4)), np.ones(4)
    accepts: Any = normalize.on(xp).accepts
    options: Any = {"epsilon": 1e-5, "centered": True}
    assert accepts(x, one, None, axes=(-1,), **options)
    assert not accepts(x, None, None, axes=(1,), **options)
    assert not accepts(x, np.ones((3, 1)), None, axes=(-1,), **options)
    assert not accepts(x, one.astype(np.float32), None, axes=(-1,), **options)
    assert not accepts(x.astype(np.float16), None, None, axes=(-1,), **options)
    assert not accepts(x[:0], one, one, axes=(-1,), **options)


# ---------------------------------------------------------------------------------- attention


def heads_beside_features(rng: Any, n: int, heads: int, length: int, size: int, dtype: str) -> Any:
    return draw(rng, n, length, heads, size, dtype=dtype).transpose(0, 2, 1, 3)


@every_way
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("mask", [None, "bools", "bools of keys", "numbers", "numbers of heads"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("tq", "tk"), [(5, 5), (3, 7), (11, 2), (1, 1)])
def test_attention(
    tq: int, tk: int, causal: bool, mask: Any, dtype: str, threads: int, compiled: bool
) -> None:
    rng = np.random.default_rng(tq)
    n, heads, d, dv = 2, 3, 4, 5
    q, k = (heads_beside_features(rng, n, heads, t, d, dtype) for t in (tq, tk))
    v = heads_beside_features(rng, n, heads, tk, dv, dtype)
    g = heads_beside_features(rng, n, heads, tq, dv, dtype)
    masks = {
        "bools": rng.random((n, 1, tq, tk)) < 0.5,  # some rows may attend to nothing
        "bools of keys": rng.random(tk) < 0.7,
        "numbers": draw(rng, tq, tk, dtype=dtype),
        "numbers of heads": draw(rng, heads, 1, tk, dtype=dtype),
    }
    chosen = None if mask is None else masks[mask]
    needs = [True, True, True, mask is not None and "numbers" in mask, False]
    static = {"scale": 0.7, "causal": causal}
    keep = rng.random((n, heads, tq, tk)) < 0.8
    with cut_up(threads, compiled):
        for kept, gain in ((None, 1.0), (keep, 1.25)):
            options = {**static, "gain": gain}
            same(attention, [q, k, v, chosen, kept], options, g, needs, TOLERANCE[dtype])


@every_way
@pytest.mark.parametrize("lead", [(), (3,), (2, 1, 2)], ids=str)
@pytest.mark.parametrize("block", [1, 2**24])
def test_attention_with_any_leading_axes_and_layout(
    lead: Any, block: int, threads: int, compiled: bool
) -> None:
    rng = np.random.default_rng(7)
    q, k, v, g = (draw(rng, *lead, 4, 6).swapaxes(-1, -2)[..., ::-1] for _ in range(4))
    mask = rng.random((6, 6)) < 0.8
    options = {"scale": 0.5, "causal": True, "block": block}
    with cut_up(threads, compiled):
        for needs in ([True] * 3, [True, False, False], [False, True, False], [False, False, True]):
            same(attention, [q, k, v, mask, None], options, g, [*needs, False, False], 1e-10)


@every_way
def test_attention_of_huge_scores(threads: int, compiled: bool) -> None:
    rng = np.random.default_rng(3)
    q, k, v, g = (draw(rng, 2, 5, 4, dtype="float32") for _ in range(4))
    with cut_up(threads, compiled):
        same(attention, [q * 1e15, k * 1e15, v * 1e30, None, None], {"scale": 1.0}, g,
             [False, False, True, False, False], 1e-4)  # fmt: skip


@every_way
def test_nan_and_infinity_stay_where_they_are(threads: int, compiled: bool) -> None:
    q, k, v = np.zeros((40, 1)), np.zeros((40, 1)), np.ones((40, 2))
    q[3] = math.nan
    v[7, 1] = math.inf
    keep = np.ones((40, 40), np.bool_)
    keep[5, 7] = False
    with cut_up(threads, compiled), np.errstate(invalid="ignore"):
        y = results(attention, True, [q, k, v, None, keep], {"scale": 1.0}, v, [False] * 5)[0]
    assert np.isnan(y[3]).all()
    others = np.delete(np.arange(40), 3)
    assert np.allclose(y[others, 0], np.where(others == 5, 39 / 40, 1.0))
    assert not np.isfinite(np.delete(y[:, 1], 5)).any()


def test_attention_keeps_no_weights_and_lies_as_the_layers_want_it() -> None:
    q = heads_beside_features(np.random.default_rng(0), 2, 3, 4, 5, "float32")
    tensor = Tensor(q, requires_grad=True)
    y = F.attention(tensor, tensor, tensor)
    assert y.data.transpose(0, 2, 1, 3).flags.c_contiguous
    y.backward(q)
    assert tensor.grad.data.transpose(0, 2, 1, 3).flags.c_contiguous


@pytest.mark.parametrize("dtypes", ["eee", "ffd", "FFF"])
def test_attention_of_other_dtypes_is_left_to_the_standard_version(dtypes: str) -> None:
    accepts: Any = attention.on(xp).accepts
    options: Any = {"scale": 1.0, "causal": False, "gain": 1.0, "block": 8}
    q, k, v = (np.ones((2, 2), c) for c in dtypes)
    assert not accepts(q, k, v, None, None, **options)
    q = np.ones((2, 2))
    assert accepts(q, q, q, None, None, **options)
    assert not accepts(q, q, q, np.ones((2, 2), np.float32), None, **options)
    assert not accepts(q[:0], q, q, None, None, **options)


def test_second_derivatives_of_kernels() -> None:
    rng = np.random.default_rng(0)
    x, scale = draw(rng, 3, 4), draw(rng, 4)
    with cut_up(2):
        check_grad(lambda x, s: F.layer_norm(x, s, s), x, scale, order=2)
        check_grad(lambda x: F.attention(x, x * 2, x, causal=True), x, order=2)
        check_grad(lambda x: F.gelu(ops.reshape(ops.matmul(x.T, x), (-1,))[:14]), x, order=2)
        check_grad(lambda x, s: ops.matmul(x, ops.matmul(x.T, x)), x, scale, order=2)


# ------------------------------------------------------------------------------------ products

stacks = st.lists(st.integers(1, 3), max_size=2)
sizes = st.tuples(*[st.integers(1, 9)] * 3)


@given(stacks, sizes, st.booleans(), st.booleans(), st.sampled_from([1, 2]))
def test_products(lead: list[int], size: Any, one: bool, turned: bool, threads: int) -> None:
    n, k, m = size
    rng = np.random.default_rng(0)
    a = draw(rng, *lead, n, k)
    b = draw(rng, *([] if one else lead), *((m, k) if turned else (k, m)))
    b = b.swapaxes(-1, -2) if turned else b
    g = draw(rng, *lead, n, m)
    if n * k * m * math.prod(lead) > 1:
        with cut_up(threads):
            same(matmul, [a, b], {}, g, [True, True], 1e-10)


def test_products_of_few_numbers_or_other_axes_are_left_to_the_standard_version() -> None:
    accepts: Any = matmul.on(xp).accepts
    large = np.ones((1, 600, 600), np.float32)
    assert accepts(large, large)
    assert accepts(large, large[0])
    assert not accepts(large[:, :60, :60], large[:, :60, :60])
    assert not accepts(large[0], large)  # broadcasts
    assert not accepts(large, np.ones(600, np.float32))
    assert not accepts(large, large.astype(np.float64))
    assert not accepts(large, large[:, 1:])  # the standard version says what is wrong


@given(st.lists(st.integers(0, 9), min_size=1, max_size=3), st.integers(1, 9), st.booleans(),
       st.booleans(), st.sampled_from([1, 2]))  # fmt: skip
def test_affine_map(lead: list[int], m: int, bias: bool, turned: bool, threads: int) -> None:
    rng = np.random.default_rng(0)
    k = 5
    weight = draw(rng, m, k).T if turned else draw(rng, k, m)
    xs = [draw(rng, *lead, k), weight, draw(rng, m) if bias else None]
    with cut_up(threads):
        same(neural.linear, xs, {}, draw(rng, *lead, m), [True, True, bias], 1e-10)


# -------------------------------------------------------------------- element by element, rows


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_of_gradients(turned: bool, dtype: str) -> None:
    rng = np.random.default_rng(0)
    a, b = draw(rng, 9, 9), draw(rng, 9, 9, dtype=dtype)
    b = b.T if turned else b
    with cut_up(2):
        found = numpy_elementwise.total(a, b)
    assert np.array_equal(found, a + b)
    assert found.dtype == (a + b).dtype
    assert not np.shares_memory(found, a)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(9, 11), (5, 5, 2), (200,)], ids=str)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_sums(dtype: str, shape: Any, threads: int) -> None:
    rng = np.random.default_rng(0)
    a, b, g = ((draw(rng, *shape) * 9).astype(dtype) for _ in range(3))
    a.flags.writeable = False
    with cut_up(threads):
        same(elementwise.add, [a, b], {}, g, [True, True], 0.0)


def test_sums_that_are_not_divided() -> None:
    a = np.ones((300, 300), np.float32)
    accepts: Any = elementwise.add.on(xp).accepts
    assert accepts(a, a)
    for b in (a.T, a[:, :1], a.astype(np.float64), a[::-1], 2.0):
        assert not accepts(a, b)
        assert not accepts(b, a)
    assert not accepts(a[:9].copy(), a[:9].copy())


def test_gradients_are_added_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setitem(kernels.sums, np.ndarray, lambda a, b: calls.append(a.shape) or a + b)
    x = Tensor(np.ones(3), requires_grad=True)
    ops.sum(x * 2 + x * 3).backward()
    assert calls == [(3,)]
    assert np.array_equal(x.grad.data, [5.0] * 3)


ELEMENTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "relu": (activations.relu, {}),
    "gelu": (activations.gelu, {}),
    "gelu_tanh": (activations.gelu_tanh, {}),
    "silu": (activations.silu, {}),
    "mish": (activations.mish, {}),
    "symmetric_elliot": (activations.symmetric_elliot, {"steepness": 2.0}),
    "erf": (special.erf, {}),
}


@every_way
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(9, 11), (5, 5, 2), (200,)], ids=str)
@pytest.mark.parametrize("name", ELEMENTS)
def test_activations(name: str, shape: Any, dtype: str, threads: int, compiled: bool) -> None:
    primitive, static = ELEMENTS[name]
    rng = np.random.default_rng(0)
    x, g = (np.asarray(draw(rng, *shape, dtype=dtype) * 3) for _ in range(2))
    with cut_up(threads, compiled):
        same(primitive, [x.T], static, g.T, [True], TOLERANCE[dtype])


@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (3, 2)], ids=str)
def test_relu_of_few(shape: Any) -> None:
    x, g = (np.asarray(draw(np.random.default_rng(i), *shape)) for i in range(2))
    same(activations.relu, [x.T], {}, g.T, [True], 0.0)


@every_way
@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu"])
def test_activations_are_as_exact_as_their_argument(
    name: str, threads: int, compiled: bool
) -> None:
    # An error of the last bit of x is one of x**2 bits of a tail like exp(-x**2 / 2).
    x = np.linspace(-12, 12, 5001, dtype=np.float32)
    one = np.ones_like(x)
    primitive, _ = ELEMENTS[name]
    y, slope = results(primitive, False, [x.astype(np.float64)], {}, one.astype(np.float64), [True])
    with cut_up(threads, compiled):
        found, found_slope = results(primitive, True, [x], {}, one, [True])
    bits = np.finfo(np.float32).eps * (4 + 3 * x.astype(np.float64) ** 2)
    # 1 + tanh(x) loses digits, in float64 too
    absolute = 0.0 if name != "gelu_tanh" else 1e-14 if compiled else 1e-5
    assert np.all(np.abs(found - y) <= bits * np.abs(y) + max(absolute, 1e-36))
    assert np.all(np.abs(found_slope - slope) <= bits * np.abs(slope) + max(absolute, 1e-6))


@every_way
@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu"])
def test_activations_of_numbers_at_the_ends(name: str, threads: int, compiled: bool) -> None:
    top = np.finfo(np.float32).max
    x = np.asarray([-top, -100, -0.0, 0, 1e-30, 100, top, math.nan] * 8, np.float32)
    primitive, _ = ELEMENTS[name]
    expected = results(primitive, False, [x], {}, np.ones_like(x), [True])
    with cut_up(threads, compiled):
        found = results(primitive, True, [x], {}, np.ones_like(x), [True])
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-30)


def test_what_is_small_or_of_other_numbers_is_not_divided() -> None:
    accepts: Any = activations.gelu.on(xp).accepts
    assert accepts(np.ones(1 << 17))
    assert not accepts(np.ones(1 << 10))
    assert not accepts(np.ones(1 << 17, np.int32))


@given(st.lists(st.integers(0, 9), max_size=3), st.sampled_from(["float16", "float32", "float64"]))
def test_dropout(shape: list[int], dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, g = (np.asarray(draw(rng, *shape)).astype(dtype) for _ in range(2))
    mask = rng.random(shape) < 0.5
    with cut_up(2):
        same(neural.dropout, [x, np.asarray(mask)], {"scale": 1.25}, g, [True, False], 1e-3)


def test_what_is_dropped_is_zero_also_if_it_was_infinite() -> None:
    x = np.asarray([math.inf, -math.inf, math.nan, 2.0] * 20)
    mask = np.arange(80) % 4 == 3
    with cut_up(2):
        y, dx, _ = results(neural.dropout, True, [x, mask], {"scale": 2.0}, x, [True, False])
        assert np.array_equal(y, np.where(mask, 4.0, 0.0))
        assert np.array_equal(dx, y)
        y, dx = results(activations.relu, True, [np.where(mask, 1.0, -1.0)], {}, x, [True])
        assert np.array_equal(dx, np.where(mask, 2.0, 0.0))


@given(st.lists(st.integers(1, 9), max_size=2), st.integers(1, 40), st.sampled_from([0.0, 0.1]),
       st.sampled_from(["float32", "float64"]), st.booleans())  # fmt: skip
def test_cross_entropy(
    lead: list[int], classes: int, smoothing: float, dtype: str, mean: bool
) -> None:
    rng = np.random.default_rng(0)
    logits = np.asarray(draw(rng, *lead, classes, dtype=dtype) * 20)
    labels = np.asarray(rng.integers(0, classes, lead))
    g = np.asarray(draw(rng, *(() if mean else lead), dtype=dtype))
    primitive = losses.softmax_cross_entropy
    static = {"smoothing": smoothing, "mean": mean}
    with cut_up(2):
        same(primitive, [logits, labels], static, g, [True, False], TOLERANCE[dtype])


def test_cross_entropy_makes_no_more_than_its_gradient() -> None:
    tracemalloc = pytest.importorskip("tracemalloc")
    rng = np.random.default_rng(0)
    x = Tensor(draw(rng, 64, 20000, dtype="float32"), requires_grad=True)
    labels = rng.integers(0, 20000, 64)
    tracemalloc.start()
    try:
        F.softmax_cross_entropy(x, labels).backward(np.ones(64, np.float32))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.3 * x.data.nbytes


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_softmax(axis: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, g = (draw(rng, 7, 30, 5, dtype=dtype) for _ in range(2))
    with cut_up(2):
        same(activations.softmax, [x], {"axis": axis}, g, [True], TOLERANCE[dtype])
