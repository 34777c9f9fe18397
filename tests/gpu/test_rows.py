"""Kernels by rows: softmax, cross-entropy, layer normalization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat.numpy as host
import numpy as np
import pytest
from emulation.arrays import launches

from gpu.twins import DTYPES, counted, draw, on_cuda, same, values
from xpnn import functional as F
from xpnn.kernels import cupy_layer_norm, cupy_rows
from xpnn.kernels.cupy_teams import Teams
from xpnn.primitives.activations import log_softmax, softmax
from xpnn.primitives.losses import softmax_cross_entropy
from xpnn.primitives.normalization import normalize

pytestmark = pytest.mark.gpu
SHAPES = [(1, 1), (3, 5), (2, 3, 33), (4, 1030)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_softmax(shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, g = (draw(rng, *shape, dtype=dtype) for _ in range(2))
    same(softmax, (x * 3,), g)
    same(log_softmax, (x * 3,), g)
    same(softmax, (np.swapaxes(np.swapaxes(x, 0, -1).copy(), 0, -1),), g)


def test_softmax_of_what_is_masked() -> None:
    x = np.asarray([[0.0, -np.inf, 1.0], [88.0, -3e38, 3e38]], np.float32)
    same(softmax, (x,), np.ones_like(x))
    found = F.log_softmax(on_cuda(x))
    np.testing.assert_allclose(values(found), F.log_softmax(x), rtol=1e-6)
    nothing = np.full((2, 3), -np.inf, np.float32)
    found = F.log_softmax(on_cuda(nothing))
    np.testing.assert_array_equal(values(found), nothing)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("smoothing", "mean"), [(0.0, False), (0.0, True), (0.1, True)])
def test_cross_entropy(shape: tuple[int, ...], dtype: str, smoothing: float, mean: bool) -> None:
    rng = np.random.default_rng(0)
    x = draw(rng, *shape, dtype=dtype) * 3
    labels = rng.integers(0, shape[-1], shape[:-1]).astype("int32")
    g = draw(rng, *(() if mean else shape[:-1]), dtype=dtype)
    same(softmax_cross_entropy, (x, labels), np.asarray(g), smoothing=smoothing, mean=mean)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [5, 1030])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_label_without_a_class_makes_its_row_nan(
    smoothing: float, length: int, dtype: str
) -> None:
    x = draw(np.random.default_rng(0), 6, length, dtype=dtype)
    labels = np.asarray([0, -1, 2, length, length - 1, -length])
    wrong = (labels < 0) | (labels >= length)
    given, numbers = on_cuda(x), on_cuda(np.where(wrong, 0, labels))
    options: dict[str, Any] = {"smoothing": smoothing, "mean": False}
    g, needs = on_cuda(np.ones(6, dtype="float32")).astype(given.dtype), [True, False]
    found, expected = [], []
    for results, targets in ((found, on_cuda(labels)), (expected, numbers)):
        loss, res = cupy_rows.softmax_cross_entropy(None, given, targets, **options)
        grads = cupy_rows.softmax_cross_entropy_vjp(None, g, needs, given, res, smoothing, False)
        results += [values(x).astype("float64") for x in (loss, grads[0])]
    for a, b in zip(found, expected, strict=True):
        assert np.isnan(a[wrong]).all()
        np.testing.assert_array_equal(a[~wrong], b[~wrong])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [((5, 7, 6), (-1,)), ((9, 4, 3), (1, 2)), ((3, 5), (0, 1)), ((70, 33), (1,)), ((4, 1), (1,))],
)
def test_normalization(
    shape: tuple[int, ...], axes: tuple[int, ...], centered: bool, dtype: str
) -> None:
    rng = np.random.default_rng(0)
    lengths = tuple(shape[a] for a in axes)
    x, g = draw(rng, *shape, dtype=dtype) * 3, draw(rng, *shape, dtype=dtype)
    scale, shift = (draw(rng, *lengths, dtype=dtype) for _ in range(2))
    for pair in ((scale, shift), (scale, None), (None, shift), (None, None)):
        same(normalize, (x, *pair), g, axes=axes, epsilon=1e-3, centered=centered)


# ------------------------------------------------------------------- how rows are shared out


def lengths(dtype: str) -> list[int]:
    """Return lengths of rows for all teams, the last two of 64 KB and of a little more."""
    together = 16 // draw(np.random.default_rng(0), 1, dtype=dtype).itemsize
    return [1, 31, 33, 1000, 4099, 3000 * together, 4096 * together, 4096 * together + 1]


LONG = [(dtype, length) for dtype in DTYPES for length in lengths(dtype)]


@pytest.mark.parametrize(("dtype", "length"), LONG)
def test_softmax_of_any_length(dtype: str, length: int) -> None:
    rng = np.random.default_rng(1)
    x, g = (draw(rng, 3, length, dtype=dtype) for _ in range(2))
    same(softmax, (x * 3,), g)
    same(log_softmax, (x * 3,), g)
    labels = rng.integers(0, length, 3)
    same(softmax_cross_entropy, (x * 3, labels), g[:, 0], smoothing=0.1, mean=False)


@pytest.mark.parametrize(("dtype", "length"), LONG)
def test_normalization_of_any_length(dtype: str, length: int) -> None:
    rng = np.random.default_rng(2)
    x, g = draw(rng, 3, length, dtype=dtype) * 3 + 1, draw(rng, 3, length, dtype=dtype)
    scale, shift = (draw(rng, length, dtype=dtype) for _ in range(2))
    for centered in (True, False):
        options: dict[str, Any] = {"axes": (1,), "epsilon": 1e-3, "centered": centered}
        same(normalize, (x, scale, shift), g, **options)
        same(normalize, (x, scale, shift), g, needs=[True, False, False], **options)
        same(normalize, (x, scale, shift), g, needs=[False, True, True], **options)


@pytest.mark.parametrize("length", [5, 64, 300, 1100])
def test_many_rows_have_sums_in_a_fixed_order(length: int) -> None:
    rng = np.random.default_rng(3)
    x, g = (draw(rng, 700, length, dtype="float32") for _ in range(2))
    scale, shift = (draw(rng, length, dtype="float32") for _ in range(2))
    same(normalize, (x, scale, shift), g, axes=(1,), epsilon=1e-5)


def test_teams() -> None:
    x = on_cuda(np.zeros((1, 8), "float32"))
    found = {n: Teams.of(x, n) for n in (4, 8, 36, 256, 260, 513, 8192, 8196, 16384, 16385)}
    assert {n: (teams.packs, teams.size) for n, teams in found.items()} == {
        4: (2, 1), 8: (2, 1), 36: (2, 8), 256: (2, 32), 260: (4, 32), 513: (4, 64),
        8192: (4, 512), 8196: (8, 288), 16384: (8, 512), 16385: (0, 512),
    }  # fmt: skip
    assert found[36].each == 16
    assert Teams.with_sums(x, 8192).packs == 4
    assert Teams.with_sums(x, 8193).packs == 0


@pytest.mark.parametrize("length", [33, 20000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(value: float, length: int) -> None:
    x = np.linspace(-3, 3, 2 * length, dtype="float32").reshape(2, length)
    x[0, 7] = value
    labels = np.asarray([3, 5])
    options: dict[str, Any] = {"smoothing": 0.0, "mean": False}
    loss = cupy_rows.softmax_cross_entropy(None, on_cuda(x), on_cuda(labels), **options)[0]
    with np.errstate(invalid="ignore"):
        for f in (F.softmax, F.log_softmax):
            np.testing.assert_allclose(values(f(on_cuda(x))), f(x), rtol=2e-5, atol=2e-7)
        expected = softmax_cross_entropy(host, x, labels, **options)
    np.testing.assert_allclose(values(loss), expected, rtol=2e-5)


@pytest.mark.parametrize("length", [33, 20000])
def test_the_variance_of_a_row_does_not_cancel(length: int) -> None:
    x = np.random.default_rng(4).standard_normal((2, length)) + 1000
    x[:, 0] += 1e5
    x = x.astype("float32")
    _, (mean, inverse) = cupy_layer_norm.normalize(
        None, on_cuda(x), None, None, axes=(1,), epsilon=0.0, centered=True
    )
    exact = x.astype("float64")
    np.testing.assert_allclose(values(mean), exact.mean(1), rtol=1e-6)
    np.testing.assert_allclose(values(inverse), 1 / exact.std(1), rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [33, 1000])
def test_rows_that_begin_anywhere(length: int, dtype: str) -> None:
    rng = np.random.default_rng(5)
    memory = on_cuda(draw(rng, 2, 4 * length + 1, dtype=dtype))
    x, g = memory[0, 1:].reshape(4, length), memory[0, :-1].reshape(4, length)
    assert x.data.ptr % 16
    scale = memory[1, 1 : length + 1]
    options: dict[str, Any] = {"axes": (1,), "epsilon": 1e-5, "centered": True}

    def results(x: Any, g: Any, scale: Any) -> Any:
        y, res = cupy_layer_norm.normalize(None, x, scale, None, **options)
        grads = cupy_layer_norm.normalize_vjp(
            None, g, [True, True, False], res, x, scale, None, (1,)
        )
        z = cupy_rows.softmax(None, x, axis=-1)
        return values((y, *grads, z, *cupy_rows.softmax_vjp(None, x, [True], z, -1)))

    for a, b in zip(results(x, g, scale), results(x.copy(), g, scale.copy()), strict=True):
        np.testing.assert_array_equal(a, b)


@counted
@pytest.mark.parametrize(("length", "of_sums"), [(40, 2), (9000, 3)])
def test_launches(length: int, of_sums: int) -> None:
    x = on_cuda(np.ones((3, length), "float32"))
    labels, ones = on_cuda(np.zeros(3, "int64")), on_cuda(np.ones(length, "float32"))
    loss, kept = cupy_rows.softmax_cross_entropy(None, x, labels, smoothing=0.0, mean=False)
    norm: dict[str, Any] = {"axes": (1,), "epsilon": 1e-5, "centered": True}
    _, moments = cupy_layer_norm.normalize(None, x, ones, ones, **norm)

    def back(*needs: bool) -> None:
        cupy_layer_norm.normalize_vjp(None, x, [*needs], moments, x, ones, ones, (1,))

    def count(f: Callable[..., Any], *args: Any, **options: Any) -> int:
        before = launches.count
        f(*args, **options)
        return launches.count - before

    assert count(cupy_rows.softmax, None, x, axis=-1) == 1
    assert count(cupy_rows.softmax_vjp, None, x, [True], x, -1) == 1
    assert count(cupy_rows.log_softmax, None, x, axis=-1) == 1
    assert count(cupy_rows.log_softmax_vjp, None, x, [True], x, -1) == 1
    loss_options: dict[str, Any] = {"smoothing": 0.0, "mean": False}
    assert count(cupy_rows.softmax_cross_entropy, None, x, labels, **loss_options) == 1
    needs = [True, False]
    assert count(cupy_rows.softmax_cross_entropy_vjp, None, loss, needs, x, kept, 0.0, False) == 1
    assert count(cupy_layer_norm.normalize, None, x, ones, ones, **norm) == 1
    assert count(back, True, False, False) == 1
    assert count(back, True, True, True) == of_sums
