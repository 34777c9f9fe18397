"""Batch normalization: with channels last and first, with a ReLU, with gradients of its moments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from emulation.arrays import launches

from gpu.twins import DTYPES, counted, draw, on_cuda, same, values
from xpnn import functional as F
from xpnn.kernels import cupy_norm
from xpnn.kernels.cupy_channels import Layout
from xpnn.primitives.normalization import batch_norm, batch_norm_inference

pytestmark = pytest.mark.gpu
# The last ones are read sixteen bytes at a time, and by several blocks a channel.
SHAPES = [
    ((3, 5), 1),
    ((2, 3, 4, 5), 3),
    ((2, 3, 4, 5), 1),
    ((4, 1, 1, 1), 3),
    ((6, 7), 0),
    ((2, 3, 8, 40), 1),
    ((2300, 8), 1),
]


def _others(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return tuple(a for a in range(len(shape)) if a != axis)


def _gradients(rng: Any, shape: tuple[int, ...], channels: int, dtype: str) -> Any:
    moments = "float32" if dtype in ("float16", "bfloat16") else dtype
    return (
        draw(rng, *shape, dtype=dtype),
        draw(rng, channels, dtype=moments),
        draw(rng, channels, dtype=moments),
    )


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_batch_norm(shape: tuple[int, ...], axis: int, dtype: str, rectified: bool) -> None:
    rng = np.random.default_rng(0)
    x = draw(rng, *shape, dtype=dtype) * 3 + 1
    scale, shift = (draw(rng, shape[axis], dtype=dtype) for _ in range(2))
    g = _gradients(rng, shape, shape[axis], dtype)
    options = {"axes": _others(shape, axis), "epsilon": 1e-3, "rectified": rectified}
    same(batch_norm, (x, scale, shift), g, **options)
    if x.size < 1000:
        for pair in ((scale, None), (None, shift), (None, None)):
            same(batch_norm, (x, *pair), g, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_with_given_statistics(shape: tuple[int, ...], axis: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, g = draw(rng, *shape, dtype=dtype) * 3 + 1, draw(rng, *shape, dtype=dtype)
    mean, var, scale, shift = (draw(rng, shape[axis], dtype=dtype) for _ in range(4))
    var, options = var * var, {"axes": _others(shape, axis), "epsilon": 0.1}
    same(batch_norm_inference, (x, mean, var, scale, shift), g, **options)
    for pair in ((scale, None), (None, shift), (None, None)):
        same(batch_norm_inference, (x, mean, var, *pair), g, **options)
    for some in ([1, 0, 0, 0, 0], [0, 0, 0, 1, 1], [0, 1, 0, 0, 0]):
        same(batch_norm_inference, (x, mean, var, scale, shift), g, needs=some, **options)


def test_given_statistics_of_float32_beside_half_precision() -> None:
    rng = np.random.default_rng(2)
    x, g = (np.swapaxes(draw(rng, 8, 5, 6, dtype="float16"), 0, 2) for _ in range(2))
    mean, var, scale, shift = (draw(rng, 8, dtype="float32") for _ in range(4))
    same(batch_norm_inference, (x, mean, var * var, scale, shift), g, axes=(0, 1))


@counted
def test_launches_with_given_statistics() -> None:
    x = on_cuda(np.ones((4, 5, 8), "float32"))
    mean, var, scale, shift = (on_cuda(np.ones(8, "float32")) for _ in range(4))

    def back(*needs: bool) -> None:
        cupy_norm.batch_norm_inference_vjp(
            None, x, [*needs], x, mean, var, scale, shift, (0, 1), 1e-5
        )

    before = launches.count
    F.batch_norm(x, scale, shift, statistics=(mean, var))
    assert launches.count - before == 1
    back(True, False, False, False, False)
    assert launches.count - before == 2
    back(True, False, False, True, True)
    assert launches.count - before == 5


@pytest.mark.parametrize("axis", [3, 1])
@pytest.mark.parametrize("given", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1)])
def test_some_outputs_have_no_gradient(given: tuple[int, ...], axis: int) -> None:
    rng = np.random.default_rng(1)
    shape = (2, 4, 3, 4)
    x, scale, shift = draw(rng, *shape), draw(rng, 4), draw(rng, 4)
    g = _gradients(rng, shape, 4, "float64")
    g = tuple(v if wanted else None for v, wanted in zip(g, given, strict=True))
    same(batch_norm, (x, scale, shift), g, axes=_others(shape, axis))
    same(batch_norm, (x, scale, shift), g, axes=_others(shape, axis), needs=[False, True, True])
    same(batch_norm, (x, scale, shift), g, axes=_others(shape, axis), needs=[True, False, False])


def test_vectors_of_float32_beside_half_precision() -> None:
    rng = np.random.default_rng(2)
    x = draw(rng, 20, 8, dtype="float16")
    scale, shift = (draw(rng, 8, dtype="float32") for _ in range(2))
    g = _gradients(rng, (20, 8), 8, "float16")
    same(batch_norm, (x, scale, shift), g, axes=(0,), rectified=True)


def test_other_orders_of_elements() -> None:
    rng = np.random.default_rng(3)
    x = np.swapaxes(draw(rng, 2, 5, 6, 3, dtype="float32"), 1, 3)
    g = _gradients(rng, x.shape, 5, "float32")
    g = (np.swapaxes(np.swapaxes(g[0], 0, 2).copy(), 0, 2), *g[1:])
    same(batch_norm, (x, None, None), g, axes=(0, 1, 2))


@pytest.mark.parametrize(("shape", "axis"), [((4000, 8), 1), ((4000, 3), 1), ((2, 3, 4000), 1)])
@pytest.mark.parametrize("first", [0.0, 1e6])
def test_the_variance_does_not_cancel(shape: tuple[int, ...], axis: int, first: float) -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal(shape) + 1000
    x.reshape(-1)[: shape[axis]] += first
    x = x.astype("float32")
    others = _others(shape, axis)
    given = on_cuda(x)
    (_, mean, var), _ = cupy_norm.batch_norm(
        None, given, None, None, axes=others, epsilon=1e-5, rectified=False
    )
    exact = x.astype("float64")
    np.testing.assert_allclose(values(mean), exact.mean(others), rtol=1e-6)
    np.testing.assert_allclose(values(var), exact.var(others), rtol=1e-4)


def test_numbers_that_are_none() -> None:
    x = np.ones((4, 2, 3), "float32")
    x[1, 0, 1] = np.nan
    x[2, 1, 2] = np.inf
    y = cupy_norm.batch_norm(
        None, on_cuda(x), None, None, axes=(0, 1), epsilon=1e-5, rectified=True
    )[0][0]
    assert np.isnan(values(y)).all(axis=(0, 1)).tolist() == [False, True, True]


def test_large_arrays_are_shared_out_to_many_blocks() -> None:
    x = on_cuda(np.zeros((40000, 12), "float32"))
    assert Layout.of(1, x).parts > 1
    assert Layout.of(1, x).wide
    assert not Layout.of(1, x[:, :7].copy()).wide


def test_what_has_no_kernel() -> None:
    def accepts(x: Any, scale: Any = None, axes: Any = (0,)) -> bool:
        return cupy_norm.batch_norm_accepts(
            x, scale, None, axes=axes, epsilon=1e-5, rectified=False
        )

    x = on_cuda(np.zeros((2, 3), "float32"))
    assert accepts(x, on_cuda(np.zeros(3, "float32")))
    assert not accepts(x, on_cuda(np.zeros(2, "float32")))
    assert not accepts(x, on_cuda(np.zeros(3, "float64")))
    assert not accepts(x, axes=(0, 1))
    assert not accepts(x[:0])
    assert not accepts(on_cuda(np.zeros((2, 3), "int32")))
