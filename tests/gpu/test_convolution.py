"""Convolution: strides, padding, dilation, groups, and what comes of them in its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import usable

from gpu.twins import DTYPES, draw, on_cuda, same, values
from xpnn.kernels import cupy_conv
from xpnn.kernels.cupy_windows import by_places
from xpnn.primitives.activations import relu
from xpnn.primitives.convolution import conv2d, conv_shape, conv_transpose2d
from xpnn.primitives.fused import followed

pytestmark = pytest.mark.gpu
HALF = pytest.mark.parametrize("dtype", DTYPES)

# x, (kh, kw, C / groups, O), and the options
PLAIN: dict[str, Any] = {
    "pixels": ((2, 3, 4, 5), (1, 1, 5, 3), {}),
    "one pixel": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    "a whole image": ((3, 4, 3, 2), (4, 3, 2, 5), {}),
    "one channel": ((2, 6, 5, 1), (3, 2, 1, 4), {"padding": ((1, 0), (0, 2))}),
    "same": ((2, 5, 6, 8), (3, 3, 8, 16), {"padding": ((1, 1), (1, 1))}),
    "stride": ((2, 7, 6, 3), (3, 2, 3, 5), {"stride": (2, 3), "padding": ((1, 2), (0, 1))}),
    "pixels apart": ((2, 5, 4, 8), (1, 1, 8, 4), {"stride": (2, 2)}),
    "gaps": ((1, 4, 9, 3), (2, 2, 3, 2), {"stride": (3, 4)}),
    "dilation": ((2, 8, 7, 4), (3, 2, 4, 4), {"dilation": (2, 3), "padding": ((2, 2), (3, 0))}),
    "both": ((1, 9, 8, 2), (3, 3, 2, 3), {"stride": (2, 2), "dilation": (2, 3),
                                          "padding": ((0, 3), (4, 1))}),
    "windows that miss": ((1, 2, 2, 3), (2, 2, 3, 2), {"padding": ((4, 3), (2, 5))}),
    "cut off": ((2, 6, 7, 2), (2, 2, 2, 3), {"padding": ((-1, -2), (-2, 1))}),
    "one row": ((2, 1, 9, 3), (1, 3, 3, 4), {"padding": ((0, 0), (2, 0))}),
}  # fmt: skip
GROUPS: dict[str, Any] = {
    "groups": ((2, 5, 4, 6), (3, 2, 2, 9), {"groups": 3, "padding": ((1, 1), (0, 1))}),
    "wide groups": ((1, 4, 4, 16), (2, 2, 8, 6), {"groups": 2, "stride": (2, 1)}),
    "groups of pixels": ((2, 3, 3, 4), (1, 1, 2, 4), {"groups": 2}),
    "depthwise": ((2, 6, 5, 3), (3, 3, 1, 3), {"groups": 3, "padding": ((1, 1), (1, 1))}),
    "depthwise wide": ((2, 5, 5, 16), (3, 2, 1, 16), {"groups": 16, "stride": (2, 1)}),
    "depthwise several": ((2, 5, 6, 4), (2, 3, 1, 8), {"groups": 4, "dilation": (2, 2)}),
    "depthwise many taps": ((1, 6, 7, 2), (5, 4, 1, 2), {"groups": 2, "padding": ((2, 2), (2, 1))}),
    "depthwise one row": ((2, 1, 40, 5), (1, 4, 1, 5), {"groups": 5, "padding": ((0, 0), (3, 0))}),
}
CASES = {**PLAIN, **GROUPS}


def _arguments(case: str, dtype: str) -> tuple[Any, ...]:
    x_shape, w_shape, options = CASES[case]
    rng = np.random.default_rng(0)
    static = {**conv2d.defaults, **options}
    g = draw(rng, *conv_shape(x_shape, w_shape, **static), dtype=dtype)
    arrays = [draw(rng, *shape, dtype=dtype) for shape in (x_shape, w_shape, w_shape[-1:])]
    return (*arrays, g, options)


@HALF
@pytest.mark.parametrize("case", CASES)
def test_convolution(case: str, dtype: str) -> None:
    x, weight, bias, g, options = _arguments(case, dtype)
    same(conv2d, (x, weight, bias), g, **options)
    same(conv2d, (x, weight, None), g, needs=[True, True, False], **options)


@pytest.mark.parametrize("case", CASES)
def test_gradients_that_are_not_needed(case: str) -> None:
    x, weight, bias, g, options = _arguments(case, "float64")
    for i in range(3):
        same(conv2d, (x, weight, bias), g, needs=[i == j for j in range(3)], **options)


@pytest.mark.parametrize("case", CASES)
def test_rectified(case: str) -> None:
    x, weight, bias, g, options = _arguments(case, "float32")
    same(followed(conv2d, relu), (x, weight, bias), g, **options)
    needs = [True, True, False]
    same(followed(conv2d, relu), (x, weight, None), g, needs=needs, **options)


@pytest.mark.parametrize("case", ["same", "groups", "depthwise", "wide groups", "pixels"])
def test_a_few_images_at_a_time(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cupy_conv, "_MOST", 1)
    for dtype in ("float16", "float32"):
        x, weight, bias, g, options = _arguments(case, dtype)
        same(conv2d, (x, weight, bias), g, **options)


@pytest.mark.parametrize("case", ["stride", "groups", "depthwise", "depthwise wide"])
def test_other_orders_of_elements(case: str) -> None:
    x, weight, bias, g, options = _arguments(case, "float32")
    x, g = (np.swapaxes(np.swapaxes(a, 1, 3).copy(), 1, 3) for a in (x, g))
    weight = np.flip(weight, axis=(0, 1))
    same(conv2d, (x, weight, np.repeat(bias, 2)[::2]), g, **options)


@pytest.mark.parametrize("case", ["same", "depthwise wide"])
def test_arrays_that_begin_between(case: str) -> None:
    """Neighbouring channels are moved together only where they begin at a multiple of 16 bytes."""
    x, weight, _, _, options = _arguments(case, "float32")
    static = {**conv2d.defaults, **options}
    apart = on_cuda(np.concatenate([np.zeros(1, "float32"), x.ravel()]))[1:].reshape(x.shape)
    assert apart.data.ptr % 16
    y = [cupy_conv.conv2d(None, a, on_cuda(weight), None, **static) for a in (apart, on_cuda(x))]
    np.testing.assert_array_equal(*map(values, y))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_transposed(stride: int, groups: int) -> None:
    usable("cuda")
    rng = np.random.default_rng(1)
    options = {"stride": (stride, stride), "padding": ((1, 0), (1, 2)), "groups": groups}
    weight = draw(rng, 3, 2, 4 // groups, 4)
    shape = conv_shape((2, 8, 7, 4), weight.shape, **{**conv2d.defaults, **options})
    x, g = draw(rng, *shape), draw(rng, 2, 8, 7, 4)
    expected = _transposed("cpu", x, weight, g, options)
    for a, b in zip(_transposed("cuda", x, weight, g, options), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def _transposed(device: str, x: Any, weight: Any, g: Any, options: Any) -> list[Any]:
    from xpnn import Tensor, asarray, to_numpy
    from xpnn.autograd.record import apply

    x, weight = (Tensor(asarray(a, device=device), requires_grad=True) for a in (x, weight))
    y = apply(conv_transpose2d, (x, weight, None), {"size": (8, 7), **options})
    y.backward(asarray(g, device=device))
    return [to_numpy(a) for a in (y.data, x.grad, weight.grad)]


def test_what_has_no_kernel() -> None:
    def accepts(x: Any, weight: Any, bias: Any = None, **options: Any) -> bool:
        x, weight = (on_cuda(np.zeros(*a)) for a in (x, weight))
        return cupy_conv.conv2d_accepts(x, weight, bias, **{**conv2d.defaults, **options})

    weight = ((3, 3, 2, 4), "float32")
    assert accepts(((1, 5, 5, 2), "float32"), weight)
    assert not accepts(((0, 5, 5, 2), "float32"), weight)
    assert not accepts(((1, 2, 5, 2), "float32"), weight)
    assert not accepts(((1, 5, 5, 3), "float32"), weight)
    assert not accepts(((1, 5, 5, 2), "float64"), weight)
    assert not accepts(((5, 5, 2), "float32"), weight)
    assert not accepts(((1, 5, 5, 2), "float32"), weight, on_cuda(np.zeros(3, "float32")))
    assert not accepts(((1, 5, 5, 6), "float32"), weight, groups=3)
    assert not accepts(((1, 5, 5, 2), "complex64"), ((3, 3, 2, 4), "complex64"))


def test_threads_are_whole_places() -> None:
    for places in (1, 3, 40, 10**5, 10**9):
        for row in (1, 2, 9, 27, 33, 72, 4608):
            grid, block, lanes = by_places(places, row)
            assert block % lanes == 0
            assert block % 32 == 0
            assert 32 <= block <= 256
            assert grid * (block // lanes) >= places or grid == 1 << 20
