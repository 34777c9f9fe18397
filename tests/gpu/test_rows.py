"""Kernels by rows: softmax, cross-entropy, layer normalization."""

from __future__ import annotations

import numpy as np
import pytest

from gpu.twins import DTYPES, draw, on_cuda, same, values
from xpnn import functional as F
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
