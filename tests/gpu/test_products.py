"""Products of matrices by cuBLASLt: affine maps and ``matmul``, setting, cache, capture."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from gpu.twins import DTYPES, TOLERANCE, draw, on_cuda, same, values
from xpnn.errors import DeviceError
from xpnn.kernels import cublaslt, cupy_products, cupy_tensordot, cupy_vecdot
from xpnn.primitives.activations import relu, sigmoid
from xpnn.primitives.fused import followed
from xpnn.primitives.linalg import outer
from xpnn.primitives.neural import linear
from xpnn.primitives.products import matmul, tensordot, vecdot

pytestmark = pytest.mark.gpu
emulated = pytest.mark.skipif(
    not os.environ.get("XPNN_EMULATE_CUDA"), reason="asks the emulated library what it was told"
)
SHAPES = [((4, 3), 5), ((1, 1), 1), ((1, 7), 3), ((2, 3, 8), 16), ((70, 2), 33), ((9,), 8)]


@pytest.fixture
def library() -> Any:
    """The emulated library, after which nothing is left of what a test did to it."""
    from emulation import cublaslt as emulated_library

    usable("cuda")
    before = set(emulated_library.epilogues)
    yield emulated_library
    if emulated_library.epilogues != before:
        emulated_library.epilogues |= before
        cublaslt.plans.clear()


def numbers(*shape: int, dtype: str = "float32", seed: int = 0) -> Any:
    return draw(np.random.default_rng(seed), *shape, dtype=dtype)


def close(found: Any, expected: Any, dtype: str) -> None:
    bound = TOLERANCE[dtype]
    found = values(found)
    assert found.dtype.name == dtype
    scale = max(1.0, float(np.max(np.abs(expected))))
    np.testing.assert_allclose(found.astype("float64"), expected, bound, bound * scale)


# -------------------------------------------------------------------------------- product


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stack", [(), (3,)])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("size", [(4, 5, 6), (1, 1, 1), (1, 9, 2), (7, 1, 3), (8, 16, 1)])
def test_product(
    size: tuple[int, int, int], turned: tuple[bool, bool], stack: tuple[int, ...], dtype: str
) -> None:
    m, k, n = size
    a = numbers(*stack, *((k, m) if turned[0] else (m, k)), dtype=dtype)
    b = numbers(*stack, *((n, k) if turned[1] else (k, n)), dtype=dtype, seed=1)
    a, b, x, y = a, b, on_cuda(a), on_cuda(b)
    if turned[0]:
        a, x = a.swapaxes(-1, -2), x.swapaxes(-1, -2)
    if turned[1]:
        b, y = b.swapaxes(-1, -2), y.swapaxes(-1, -2)
    expected = a.astype("float64") @ b.astype("float64")
    found = cupy_products.product(x, y)
    close(found, expected, dtype)
    again = cupy_products.product(x, y, out=found, scale=0.5, plus=2.0)
    assert again is found
    close(found, 2.5 * expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_views_of_larger_matrices_are_read_where_they_lie(dtype: str) -> None:
    whole = numbers(10, 12, dtype=dtype)
    x = on_cuda(whole)
    for at in (np.s_[2:7, 3:9], np.s_[:, 1:2], np.s_[3:4, :], np.s_[::2, :]):
        for a, b in ((whole[at], x[at]), (whole[at].T, x[at].T)):
            assert cublaslt.lies(b) is not None
            expected = a.astype("float64") @ a.astype("float64").T
            close(cupy_products.product(b, b.T), expected, dtype)


def test_what_cannot_be_read_is_copied() -> None:
    whole = numbers(6, 8)
    x = on_cuda(whole)
    for at in (np.s_[:, ::2], np.s_[::-1, :], np.s_[:, ::-1]):
        assert cublaslt.lies(x[at]) is None
        expected = whole[at].astype("float64") @ whole[at].astype("float64").T
        close(cupy_products.product(x[at], x[at].T), expected, "float32")
    xp = xpnn.array_namespace(x)
    one = xp.broadcast_to(x[:1, :], (5, 8))
    assert cublaslt.lies(one) is None
    close(cupy_products.product(one, x.T), np.tile(whole[:1] @ whole.T, (5, 1)), "float32")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_of_halves_can_be_kept_in_float32(dtype: str) -> None:
    if dtype not in DTYPES:
        pytest.skip("needs ml_dtypes")
    a, b = numbers(3, 4, 5, dtype=dtype), numbers(3, 5, 6, dtype=dtype)
    x, y = on_cuda(a), on_cuda(b)
    out = on_cuda(np.empty((3, 4, 6), "float32"))
    close(cupy_products.product(x, y, out=out), a.astype("float64") @ b.astype("float64"),
          "float32")  # fmt: skip


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_sum_of_halves_is_rounded_once(dtype: str) -> None:
    if dtype not in DTYPES:
        pytest.skip("needs ml_dtypes")
    step = {"float16": 2048.0, "bfloat16": 256.0}[dtype]  # then come even ones
    x = np.asarray([[step, 1, 1, 0]], "float32").astype(numbers(1, dtype=dtype).dtype)
    found = cupy_products.product(on_cuda(x), on_cuda(np.ones_like(x)).T)
    assert float(values(found)[0, 0]) == step + 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (300, 10), (33, 64), (2000, 1), (64, 200)])
def test_column_sums(shape: tuple[int, int], dtype: str) -> None:
    x = numbers(*shape, dtype=dtype)
    found, again = (cupy_products.column_sums(on_cuda(x)) for _ in range(2))
    close(found, x.astype("float64").sum(0), dtype)
    np.testing.assert_array_equal(values(found), values(again))


# --------------------------------------------------------------------------- affine maps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "out"), SHAPES)
@pytest.mark.parametrize("activation", [None, relu, sigmoid])
def test_linear(shape: tuple[int, ...], out: int, activation: Any, dtype: str) -> None:
    x, w, b = numbers(*shape, dtype=dtype), numbers(shape[-1], out, dtype=dtype), None
    g = numbers(*shape[:-1], out, dtype=dtype, seed=2)
    f = linear if activation is None else followed(linear, activation)
    for b in (None, numbers(out, dtype=dtype, seed=3)):
        if activation is relu:  # both sides of the kink must see the same side
            bias = 0 if b is None else b.astype("float64")
            y = x.astype("float64") @ w.astype("float64") + bias
            g = np.where(np.abs(y) < 0.05, 0, g).astype(g.dtype)
        needs = [True, True, b is not None]
        same(f, (x, w, b), g, needs=needs)
        same(f, (x, w, b), g, needs=[True, False, False])


def test_linear_of_what_lies_across() -> None:
    x, w, b, g = numbers(2, 5, 4), numbers(6, 4), numbers(6), numbers(2, 5, 6)
    same(linear, (x.swapaxes(0, 1).copy().swapaxes(0, 1), w.T, b), g)
    x, w, g = on_cuda((x, w, g))
    _, dw, _ = cupy_products.linear_vjp(None, g, [False, True, False], x, w.T)
    assert dw.flags.f_contiguous, "as the weight lies to which it is added"


def test_a_nan_stays_one() -> None:
    x, w, b = numbers(4, 3), numbers(3, 8), np.zeros(8, "float32")
    x[1, 2] = np.nan
    x, w, b = on_cuda((x, w, b))
    found = values(cupy_products.linear_relu(None, x, w, b))
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2, 3]]).all()


@emulated
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("out", [3, 16])
def test_without_an_epilogue_a_kernel_follows(library: Any, out: int, dtype: str) -> None:
    cublaslt.plans.clear()
    library.epilogues -= {2, 4, 6}
    x, w, b = numbers(6, 5, dtype=dtype), numbers(5, out, dtype=dtype), numbers(out, dtype=dtype)
    same(linear, (x, w, b), numbers(6, out, dtype=dtype))
    asked = library.calls["cublasLtMatmulAlgoGetHeuristic"]
    y = x.astype("float64") @ w.astype("float64") + b.astype("float64")
    for _ in range(2):
        close(cupy_products.linear_relu(None, *on_cuda((x, w, b))), np.maximum(y, 0), dtype)
        assert library.run[-1]["epilogue"] == 1
    assert library.calls["cublasLtMatmulAlgoGetHeuristic"] == asked + 1, (
        "asked once, and remembered"
    )


@emulated
def test_an_epilogue_that_is_refused_at_the_launch_is_done_without(library: Any) -> None:
    cublaslt.plans.clear()
    x, w, b = on_cuda((numbers(6, 5), numbers(5, 4), numbers(4)))
    expected = values(cupy_products.linear(None, x, w, b))
    assert library.run[-1]["epilogue"] == 4
    library.epilogues -= {4}
    np.testing.assert_array_equal(values(cupy_products.linear(None, x, w, b)), expected)
    assert library.run[-1]["epilogue"] == 1


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_in_place(name: str, dtype: str) -> None:
    wide = {"relu": lambda x: np.maximum(x, 0), "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
            "tanh": np.tanh}[name]  # fmt: skip
    for shape in ((3, 5), (4, 16), (1,)):
        x = numbers(*shape, dtype=dtype)
        y, z = on_cuda(x), on_cuda(np.stack([x, x]))
        getattr(cupy_products, f"{name}_in_place")(y)
        close(y, wide(x.astype("float64")), dtype)
        view = z[..., ::-1]
        getattr(cupy_products, f"{name}_in_place")(view)
        close(z, wide(np.stack([x, x]).astype("float64")), dtype)


# ---------------------------------------------------------------------------------- matmul


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((4, 5), (5, 3)),
        ((1, 5), (5, 1)),
        ((3, 4, 5), (3, 5, 2)),
        ((2, 3, 4, 5), (2, 3, 5, 2)),
        ((3, 4, 5), (5, 2)),
        ((4, 5), (3, 5, 2)),
        ((1, 4, 5), (3, 5, 2)),
        ((2, 3, 4, 5), (1, 1, 5, 2)),
        ((5,), (5,)),
        ((5,), (5, 3)),
        ((4, 5), (5,)),
        ((5,), (2, 5, 3)),
        ((2, 4, 5), (5,)),
    ],
)
def test_matmul(first: tuple[int, ...], second: tuple[int, ...], dtype: str) -> None:
    a, b = numbers(*first, dtype=dtype), numbers(*second, dtype=dtype, seed=1)
    g = numbers(*np.matmul(np.zeros(first), np.zeros(second)).shape, dtype=dtype, seed=2)
    same(matmul, (a, b), g)


def test_matmul_of_transposed_stacks() -> None:
    a, b = numbers(2, 3, 5, 4).swapaxes(-1, -2), numbers(2, 3, 6, 5).swapaxes(-1, -2)
    g = numbers(2, 3, 4, 6)
    same(matmul, (a, b), g)
    same(matmul, (a, np.ascontiguousarray(b[0, 0])), g)
    same(matmul, (np.ascontiguousarray(a[0, 0]), b), g)
    heads = np.transpose(numbers(2, 5, 3, 4), (0, 2, 1, 3))  # (N, T, H, d) as (N, H, T, d)
    same(matmul, (heads, heads.swapaxes(-1, -2)), numbers(2, 3, 5, 5))


@pytest.mark.parametrize(
    ("first", "second"),
    [((0, 3), (3, 2)), ((2, 0), (0, 2)), ((2, 4, 5), (3, 5, 2)), ((2, 3), (4, 2)), ((), (3, 3))],
)
def test_what_is_left_to_the_standard_version(
    first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    a, b = on_cuda((np.ones(first, "float32"), np.ones(second, "float32")))
    assert not cupy_products.matmul_accepts(a, b)
    assert not cupy_products.linear_accepts(a, b, None)


def test_dtypes_are_not_mixed() -> None:
    a, b, c = on_cuda((numbers(3, 3), numbers(3, 3, dtype="float64"), np.ones((3, 3), "int64")))
    assert not cupy_products.matmul_accepts(a, b)
    assert not cupy_products.matmul_accepts(c, c)
    assert not cupy_products.linear_accepts(a, a, b[0])
    assert not cupy_products.linear_accepts(a, a, a)
    assert cupy_products.linear_accepts(a, a, a[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("first", "second", "axes"),
    [
        ((2, 3, 4), (3, 4, 5), 2),
        ((2, 3), (4, 5), 0),
        ((3, 4), (3, 4), 2),
        ((2, 3, 4), (4, 5, 2), ((0, -1), (2, 0))),
        ((2, 3, 4), (5, 3), ((1,), (1,))),
        ((1, 1), (1,), 1),
    ],
)
def test_tensordot(first: Any, second: Any, axes: Any, dtype: str) -> None:
    a, b = numbers(*first, dtype=dtype), numbers(*second, dtype=dtype, seed=1)
    shape = np.tensordot(np.zeros(first), np.zeros(second), axes).shape
    same(tensordot, (a, b), np.asarray(numbers(*shape, dtype=dtype, seed=2)), axes=axes)


def test_tensordot_leaves_what_does_not_fit_to_cupy() -> None:
    a, b = on_cuda((numbers(2, 3), numbers(3, 2)))
    assert cupy_tensordot.tensordot_accepts(a, b, axes=1)
    for axes in (2, 3, -1, ((0,), (0,)), ((0, 1), (1,)), ((5,), (0,))):
        assert not cupy_tensordot.tensordot_accepts(a, b, axes=axes)
    assert not cupy_tensordot.tensordot_accepts(a[:0], b, axes=1)
    assert not cupy_tensordot.tensordot_accepts(a, b.astype("float64"), axes=1)


VECTORS = [((3, 5), (3, 5), -1), ((5,), (2, 5), -1), ((2, 3, 4), (3, 1), -2), ((5,), (5,), 0)]


@pytest.mark.parametrize("dtype", [*DTYPES, "complex64"])
@pytest.mark.parametrize(("first", "second", "axis"), VECTORS)
def test_vecdot(first: Any, second: Any, axis: int, dtype: str) -> None:
    def drawn(*shape: int, seed: int) -> Any:
        if dtype != "complex64":
            return np.asarray(numbers(*shape, dtype=dtype, seed=seed))
        return (numbers(*shape, seed=seed) + 1j * numbers(*shape, seed=seed + 1)).astype(dtype)

    a, b = drawn(*first, seed=0), drawn(*second, seed=2)
    g = drawn(*np.vecdot(np.zeros(first), np.zeros(second), axis=axis).shape, seed=4)
    same(vecdot, (a, b), g, tolerance=TOLERANCE.get(dtype, 2e-5), axis=axis)


def test_vecdot_of_integers_and_of_what_halves_cannot_hold() -> None:
    for dtype in ("int8", "int32", "int64"):
        a, b = on_cuda((np.arange(6, dtype=dtype).reshape(2, 3), np.arange(3, dtype=dtype)))
        found = values(vecdot(xpnn.array_namespace(a), a, b))
        assert found.dtype == dtype
        assert found.tolist() == [5, 14]
    a, b = np.asarray([300, 300, 1], "float16"), np.asarray([300, -300, 1], "float16")
    found = values(cupy_vecdot.vecdot(None, *on_cuda((a, b)), axis=-1))
    assert found.dtype == "float16"
    assert found == 1


def test_vecdot_leaves_what_does_not_fit_to_cupy() -> None:
    a, b = on_cuda((numbers(2, 3), numbers(3)))
    assert cupy_vecdot.vecdot_accepts(a, b, axis=-1)
    for axis in (-2, 0, 1, -3):
        assert not cupy_vecdot.vecdot_accepts(a, b, axis=axis)
    assert not cupy_vecdot.vecdot_accepts(a, a[:, :2], axis=-1)
    with pytest.raises(ValueError, match="size"):
        vecdot(xpnn.array_namespace(a), a, b[:2])


@emulated
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_an_outer_product_are_products_too(library: Any, dtype: str) -> None:
    a, b, g = (numbers(*shape, dtype=dtype) for shape in ((4,), (3,), (4, 3)))
    x, y, d = on_cuda((a, b, g))
    before = library.calls.get("cublasLtMatmul", 0)
    dx, dy = (rule(xpnn.array_namespace(x), d, other) for rule, other in zip(
        outer.rules, (y, x), strict=True))  # fmt: skip
    assert library.calls["cublasLtMatmul"] == before + 2
    close(dx, g.astype("float64") @ b.astype("float64"), dtype)
    close(dy, a.astype("float64") @ g.astype("float64"), dtype)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("one", [None, "first", "second"])
def test_long_stacks_are_multiplied_in_pieces(
    one: str | None, relu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cublaslt, "_MOST_MATRICES", 3)
    multiplied: list[int] = []
    run = cublaslt._Plan.run

    def noted(plan: Any, a: Any, b: Any, out: Any, *factors: float) -> int:
        multiplied.append(len(out))
        return run(plan, a, b, out, *factors)

    monkeypatch.setattr(cublaslt._Plan, "run", noted)
    a, b, out = numbers(8, 4, 5), numbers(8, 5, 3, seed=1), numbers(8, 4, 3, seed=2)
    a, b = a[0] if one == "first" else a, b[0] if one == "second" else b
    expected = 0.5 * (a.astype("float64") @ b.astype("float64")) + 2 * out.astype("float64")
    x, y, z = on_cuda((a, b, out))
    cupy_products.product(x, y, out=z, scale=0.5, plus=2.0, relu=relu)
    close(z, np.maximum(expected, 0) if relu else expected, "float32")
    assert multiplied == [3, 3, 2]


def test_a_stack_of_more_matrices_than_there_are_algorithms_for() -> None:
    a, b = numbers(70_000, 1, 2), numbers(70_000, 2, 1, seed=1)
    close(cupy_products.product(*on_cuda((a, b))), a.astype("float64") @ b, "float32")


@emulated
def test_factors_of_two_dtypes_share_no_plan(library: Any) -> None:
    if "bfloat16" not in DTYPES:
        pytest.skip("needs ml_dtypes")
    a, b = on_cuda((numbers(4, 5, dtype="float16"), numbers(5, 4, dtype="float16")))
    cupy_products.product(a, b)
    with pytest.raises(DeviceError, match=r"for .* of float16 @ .* of bfloat16"):
        cupy_products.product(a, b.astype("bfloat16"))


def test_gradients_of_more_digits_are_rounded_first() -> None:
    x, w, g = on_cuda(
        (numbers(6, 5, dtype="float16"), numbers(5, 4, dtype="float16"), numbers(6, 4))
    )
    y = cupy_products.linear_relu(None, x, w, None)
    needs = [True, True, True]
    for found in (
        cupy_products.linear_vjp(None, g, needs, x, w),
        cupy_products.linear_relu_vjp(None, g, needs, y, x, w),
        cupy_products.matmul_vjp(None, g, needs[:2], x, w),
    ):
        assert {d.dtype.name for d in found} == {"float16"}


# ----------------------------------------------------------------------- cuBLASLt itself


@emulated
def test_a_second_product_of_the_kind_is_not_planned_again(library: Any) -> None:
    cublaslt.plans.clear()
    a, b = on_cuda((numbers(4, 5), numbers(5, 3)))
    cupy_products.product(a, b)
    before = dict(library.calls)
    cupy_products.product(a, b)
    after = dict(library.calls)
    assert after.pop("cublasLtMatmul") == before.pop("cublasLtMatmul") + 1
    assert after == before
    assert len(cublaslt.plans) == 1
    cupy_products.product(a.T, b[:4])
    assert len(cublaslt.plans) == 2


@emulated
def test_threads_share_a_handle_and_a_plan(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, out = on_cuda((numbers(4, 5), numbers(5, 3), numbers(4, 3)))
    for name in ("_handles", "plans"):
        monkeypatch.setattr(cublaslt, name, {})
    create, made = cublaslt._create, []

    def slowly(kind: str, *args: int, about: Any = ()) -> Any:
        made.append(kind)
        time.sleep(0.01)
        return create(kind, *args, about=about)

    monkeypatch.setattr(cublaslt, "_create", slowly)
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(cublaslt._planned, 0, a, b, out, 1, None) for _ in range(4)]
    assert made.count("") == made.count("MatmulDesc") == 1
    assert len({id(plan.result()) for plan in found}) == 1


@emulated
def test_plans_are_destroyed_when_they_are_forgotten(
    library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cublaslt.plans.clear()
    monkeypatch.setattr(cublaslt, "_MOST_PLANS", 3)
    before = len(library._objects)
    for n in range(1, 8):
        cupy_products.product(*on_cuda((numbers(n, 5), numbers(5, 3))))
        assert len(cublaslt.plans) <= 3
    assert len(library._objects) <= before + 3 * 4
    cublaslt.plans.clear()
    assert len(library._objects) == before


@emulated
def test_the_precision_is_that_of_the_context(library: Any) -> None:
    a, b = on_cuda((numbers(4, 5), numbers(5, 3)))
    computed = {}
    for precision in ("highest", "tf32", "highest"):
        with xpnn.matmul_precision(precision):
            computed[precision] = values(cupy_products.product(a, b))
            assert library.run[-1]["compute"] == {"highest": 68, "tf32": 77}[precision]
    assert (computed["highest"] != computed["tf32"]).any()
    np.testing.assert_allclose(computed["tf32"], computed["highest"], rtol=0, atol=5e-3)
    with xpnn.matmul_precision("tf32"):
        for dtype in set(DTYPES) - {"float32"}:
            a, b = on_cuda((numbers(4, 5, dtype=dtype), numbers(5, 3, dtype=dtype)))
            cupy_products.product(a, b)
            assert library.run[-1]["compute"] == (70 if dtype == "float64" else 68)


@emulated
def test_an_error_says_which_call_and_what_for(library: Any) -> None:
    a, b = on_cuda((numbers(4, 5), numbers(6, 3)))
    out = on_cuda(np.empty((4, 3), "float32"))
    expected = (
        r"cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_INVALID_VALUE \(7\) for"
        r" \(4, 5\) of float32 @ \(6, 3\) of float32"
    )
    with pytest.raises(DeviceError, match=expected):
        cublaslt.multiply(a, b, out)
    with pytest.raises(DeviceError, match="CUBLAS_STATUS_NOT_SUPPORTED"):
        cublaslt.multiply(a, b[:5].astype("float64"), out)


def test_products_can_be_captured() -> None:
    usable("cuda")
    import cupy

    a, b, bias = on_cuda((numbers(4, 5), numbers(5, 3), numbers(3)))
    stream = cupy.cuda.Stream(non_blocking=True)
    new = numbers(4, 5, seed=5)
    with stream:
        y = cupy_products.linear_relu(None, a, b, bias)  # plans, compiles, takes memory
        cupy_vecdot.vecdot(None, y, y, axis=-1)
        stream.synchronize()
        stream.begin_capture()
        y = cupy_products.linear_relu(None, a, b, bias)
        _, dw, db = cupy_products.linear_relu_vjp(None, y, [False, True, True], y, a, b)
        squares = cupy_vecdot.vecdot(None, y, y, axis=-1)
        graph = stream.end_capture()
        a[...] = on_cuda(new)
        graph.launch()
        stream.synchronize()
    expected = np.maximum(new.astype("float64") @ values(b) + values(bias), 0)
    close(y, expected, "float32")
    close(dw, new.T @ expected, "float32")
    close(db, expected.sum(0), "float32")
    close(squares, (expected * expected).sum(1), "float32")


@emulated
def test_workspaces_are_let_go_with_the_product() -> None:
    from emulation import streams

    a, b = on_cuda((numbers(4, 5), numbers(5, 3)))
    out = on_cuda(numbers(4, 3))
    sizes: list[int] = []
    before = streams.bytes_in_use()
    streams.watch(sizes.append)
    try:
        for _ in range(2):
            cupy_products.product(a, b, out=out)
    finally:
        streams.watch(None)
    assert len(sizes) == 2  # of what the emulated library asks for, no more, and memory around it
    assert 4096 <= max(sizes) < 8192
    assert streams.bytes_in_use() == before
