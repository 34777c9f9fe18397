"""Convolution by cuDNN: what it is asked for, with an emulated module in its place."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest
from emulation.cudnn import FakeCudnn

from gpu.test_convolution import CASES, GROUPS, PLAIN, _arguments
from gpu.twins import on_cuda, same, values
from xpnn import matmul_precision
from xpnn.kernels import cudnn, cupy_conv
from xpnn.kernels.cupy_launch import cupy
from xpnn.primitives.activations import relu
from xpnn.primitives.convolution import conv2d
from xpnn.primitives.fused import followed

pytestmark = pytest.mark.gpu
# Products of images as they lie, and windows that cut pixels off, are none of its business.
OTHERS = {"pixels", "one pixel", "a whole image", "groups of pixels", "cut off"}
ITS = [case for case in (*PLAIN, "groups", "wide groups") if case not in OTHERS]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("case", ITS)
def test_convolution(fake_cudnn: FakeCudnn, case: str, dtype: str) -> None:
    x, weight, bias, g, options = _arguments(case, dtype)
    same(conv2d, (x, weight, bias), g, **options)
    assert [kind for kind, _ in fake_cudnn.runs] == ["fprop", "dgrad", "wgrad"] * 2
    assert len(fake_cudnn.graphs) == 3


def test_bias_and_relu_follow(fake_cudnn: FakeCudnn) -> None:
    x, weight, bias, g, options = _arguments("same", "float32")
    same(followed(conv2d, relu), (x, weight, bias), g, **options)
    assert fake_cudnn.runs


@pytest.mark.parametrize("case", sorted(OTHERS | (set(GROUPS) - {"groups", "wide groups"})))
def test_what_others_compute(fake_cudnn: FakeCudnn, case: str) -> None:
    x, weight, bias, g, options = _arguments(case, "float32")
    same(conv2d, (x, weight, bias), g, **options)
    assert not fake_cudnn.graphs
    assert set(CASES) == {*ITS, *OTHERS, *GROUPS}


def test_float64_and_arrays_that_begin_between_are_products(fake_cudnn: FakeCudnn) -> None:
    x, weight, bias, g, options = _arguments("same", "float64")
    same(conv2d, (x, weight, bias), g, **options)
    x, weight, _, _, options = _arguments("same", "float32")
    static = {**conv2d.defaults, **options}
    apart = on_cuda(np.concatenate([np.zeros(1, "float32"), x.ravel()]))[1:].reshape(x.shape)
    y = cupy_conv.conv2d(None, apart, on_cuda(weight), None, **static)
    assert not fake_cudnn.graphs
    expected = cupy_conv.conv2d(None, on_cuda(x), on_cuda(weight), None, **static)
    assert fake_cudnn.graphs
    np.testing.assert_allclose(values(y), values(expected), rtol=1e-5, atol=1e-5)


def _forward(dtype: str = "float32") -> Any:
    x, weight, _, _, options = _arguments("same", dtype)
    static = {**conv2d.defaults, **options}
    return cupy_conv.conv2d(None, on_cuda(x), on_cuda(weight), None, **static)


def test_plans_are_kept_by_precision(fake_cudnn: FakeCudnn) -> None:
    for _ in range(2):
        _forward()
        with matmul_precision("tf32"):
            _forward()
        _forward("float16")
    exact = {"NONDETERMINISTIC", "REDUCED_PRECISION_REDUCTION"}
    rounds = {"TENSOR_CORE", "DOWN_CONVERT_INPUTS"}
    assert [graph.unwanted for graph in fake_cudnn.graphs] == [exact | rounds, exact, exact]


def test_on_the_current_stream(fake_cudnn: FakeCudnn) -> None:
    fake_cudnn.workspace = 1000
    _forward()
    with cupy().cuda.Stream(non_blocking=True) as stream:
        _forward()
        assert fake_cudnn.runs[1] == ("fprop", stream.ptr)
    assert fake_cudnn.runs[0][1] != stream.ptr
    assert len(fake_cudnn.handles) == 1


def test_threads_have_their_own_handles(fake_cudnn: FakeCudnn) -> None:
    _forward()
    thread = threading.Thread(target=_forward)
    thread.start()
    thread.join()
    assert len(fake_cudnn.handles) == 2
    assert len(fake_cudnn.graphs) == 1


def test_what_has_no_plan_is_a_product(fake_cudnn: FakeCudnn) -> None:
    fake_cudnn.refuses = lambda graph: graph.kind == "dgrad"
    assert cudnn.status() == "9.13.0, for convolutions and attention in 16 bits"
    x, weight, bias, g, options = _arguments("same", "float32")
    same(conv2d, (x, weight, bias), g, **options)
    assert [kind for kind, _ in fake_cudnn.runs] == ["fprop", "wgrad"] * 2
    assert cudnn.status() == (
        "9.13.0, for convolutions and attention in 16 bits, but not for 1 kinds of them (the"
        " last: dgrad of (2, 5, 6, 8)"
        " with (16, 3, 3, 8) in float32: No valid execution plans were built)"
    )


def test_a_package_without_its_library(
    fake_cudnn: FakeCudnn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_library() -> int:
        raise RuntimeError("Unable to find symbol cudnnGetVersion")

    monkeypatch.setattr(fake_cudnn, "backend_version", no_library)
    cudnn.library.cache_clear()
    assert cudnn.status() == ("the package finds no library: Unable to find symbol cudnnGetVersion")
    _forward()
    assert not fake_cudnn.graphs


def test_without_the_package(fake_cudnn: FakeCudnn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cudnn", None)
    cudnn.library.cache_clear()
    assert cudnn.status().startswith("not installed (")
    assert "; pip install 'xpnn[cudnn]' brings it" in cudnn.status()
    _forward()
    assert not fake_cudnn.graphs
