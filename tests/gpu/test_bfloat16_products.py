"""Products of stacks of bfloat16, which CuPy's own product does not multiply."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from gpu.twins import DTYPES, draw, on_cuda, same, values
from xpnn import functional as F
from xpnn import layers
from xpnn.backend import as_device
from xpnn.primitives.attention import attention
from xpnn.primitives.convolution import conv2d
from xpnn.primitives.products import matmul

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif("bfloat16" not in DTYPES, reason="needs ml_dtypes"),
]
BOUND = {"rtol": 6e-2, "atol": 6e-2}


def numbers(*shape: int, seed: int = 0, dtype: str = "bfloat16") -> Any:
    usable("cuda")
    return draw(np.random.default_rng(seed), *shape, dtype=dtype)


def close(found: Any, expected: Any) -> None:
    found = values(found)
    assert found.dtype.name in ("bfloat16", "float32")
    np.testing.assert_allclose(found.astype("float32"), np.asarray(expected, "float32"), **BOUND)


def wide(*xs: Any) -> Any:
    return [x.astype("float32") for x in xs]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((2, 1, 4, 5), (1, 3, 5, 6)),
        ((2, 1, 4, 5), (3, 5, 6)),
        ((2, 3, 4, 5), (3, 5, 6)),
        ((3, 4, 5), (2, 1, 5, 6)),
        ((1, 1, 4, 5), (3, 5, 6)),
        ((3, 4, 5), (1, 1, 5, 6)),
        ((5,), (2, 3, 5, 6)),
        ((2, 3, 4, 5), (5,)),
    ],
)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_stacks_that_broadcast(first: Any, second: Any, dtype: str) -> None:
    a, b = numbers(*first, dtype=dtype), numbers(*second, dtype=dtype, seed=1)
    shape = np.matmul(np.zeros(first), np.zeros(second)).shape
    same(matmul, (a, b), numbers(*shape, dtype=dtype, seed=2))


def test_stacks_of_bfloat16_and_of_integers() -> None:
    a, b = numbers(2, 3, 4), np.arange(8, dtype="int8").reshape(2, 4, 1)
    one, other = on_cuda((a, b))
    xp = as_device("cuda").xp
    found = values(matmul(xp, one, other)).astype("float32")
    np.testing.assert_allclose(found, np.matmul(*wide(a, b)), rtol=2e-2, atol=0.1)


def test_the_standard_version_of_attention() -> None:
    q, k, v, g = (numbers(2, 3, 5, 4, seed=i) for i in range(4))
    xp = as_device("cuda").xp
    options = {"scale": 0.5, "causal": True, "gain": 1.0, "block": 2**24}
    y, res = attention.forward(xp, *on_cuda((q, k, v)), None, None, **options)
    close(y, values(attention.forward(np, *wide(q, k, v), None, None, **options)[0]))
    needs = [True, True, True, False, False]
    q_, k_, v_, g_ = on_cuda((q, k, v, g))
    found = attention.joint(xp, g_, needs, q_, k_, v_, None, None, y, res, **options)
    more = attention.forward(np, *wide(q, k, v), None, None, **options)
    q, k, v, g = wide(q, k, v, g)
    expected = attention.joint(np, g, needs, q, k, v, None, None, *more, **options)
    for a, b in zip(found[:3], expected[:3], strict=True):
        close(a, b)


def test_attention_with_its_weights() -> None:
    q, k, v = (numbers(2, 3, 5, 4, seed=i) for i in range(3))
    found = F.attention(*on_cuda((q, k, v)), return_weights=True)
    expected = F.attention(*wide(q, k, v), return_weights=True)
    for a, b in zip(found, expected, strict=True):
        close(a, b)


def test_the_standard_version_of_a_convolution_of_groups() -> None:
    x, w, g = numbers(2, 4, 4, 4), numbers(2, 2, 2, 6, seed=1), numbers(2, 3, 3, 6, seed=2)
    xp = as_device("cuda").xp
    options = {**conv2d.defaults, "groups": 2}
    x_, w_, g_ = on_cuda((x, w, g))
    close(conv2d.forward(xp, x_, w_, None, **options),
          conv2d.forward(np, *wide(x, w), None, **options))  # fmt: skip
    needs = [False, True, False]
    found = conv2d.joint(xp, g_, needs, x_, w_, **options)[1]
    x, w, g = wide(x, w, g)
    expected = conv2d.joint(np, g, needs, x, w, **options)[1]
    scale = np.abs(expected).max()
    close(found / float(scale), expected / scale)


def test_the_layer_dot() -> None:
    a, b = numbers(2, 3, 4), numbers(2, 5, 4, seed=1)
    layer = layers.Dot(axes=(2, 2))
    close(layer(*on_cuda((a, b))), xpnn.to_numpy(layer(*wide(a, b))))
