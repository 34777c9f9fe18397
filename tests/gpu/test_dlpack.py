"""Arrays that come to CuPy by DLPack: of the host, of this GPU and of another one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from gpu.twins import on_cuda, values
from xpnn import ops

pytestmark = pytest.mark.gpu
X = np.arange(6, dtype="float32").reshape(2, 3)


class Speaker:
    """An array that only speaks DLPack."""

    def __init__(self, x: Any) -> None:
        self._x = x

    def __dlpack__(self, **options: Any) -> Any:
        return self._x.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._x.__dlpack_device__()


def same_memory(x: Any, y: Any) -> bool:
    return bool(x.data.data.ptr == y.data.ptr)


@pytest.mark.parametrize("wrapped", [lambda x: x, Speaker, xpnn.Tensor])
@pytest.mark.parametrize("copy", [None, True])
def test_from_the_host(wrapped: Any, copy: bool | None) -> None:
    usable("cuda")
    told = ops.from_dlpack(wrapped(X), device="cuda", copy=copy)
    with xpnn.device("cuda"):
        by_default = ops.from_dlpack(wrapped(X), copy=copy)
    for x in (told, by_default):
        assert x.device == "cuda:0"
        np.testing.assert_array_equal(values(x), X)


def test_from_the_host_there_is_no_way_without_a_copy() -> None:
    usable("cuda")
    with pytest.raises(BufferError, match="to a GPU"):
        ops.from_dlpack(X, device="cuda", copy=False)


@pytest.mark.parametrize("wrapped", [lambda x: x, Speaker])
def test_from_the_same_gpu(wrapped: Any) -> None:
    x = on_cuda(X)
    for copy in (None, False, True):
        with xpnn.device("cuda"):
            found = [ops.from_dlpack(wrapped(x), copy=copy)]
        found.append(ops.from_dlpack(wrapped(x), device="cuda:0", copy=copy))
        for y in found:
            assert same_memory(y, x) is not bool(copy)
            np.testing.assert_array_equal(values(y), X)


def test_from_another_gpu() -> None:
    usable("cuda")
    if "cuda:1" not in xpnn.available_devices():
        pytest.skip("needs two GPUs")
    x = xpnn.to_device(X, "cuda:1")
    with xpnn.device("cuda:0"):
        for copy in (None, False, True):
            stays = ops.from_dlpack(x, copy=copy)
            assert stays.device == "cuda:1"
            assert same_memory(stays, x) is not bool(copy)
    moved = ops.from_dlpack(x, device="cuda:0")
    assert moved.device == "cuda:0"
    np.testing.assert_array_equal(values(moved), X)
    with pytest.raises(BufferError, match="to another GPU"):
        ops.from_dlpack(x, device="cuda:0", copy=False)


def test_to_the_host() -> None:
    found = ops.from_dlpack(on_cuda(X), device="cpu")
    assert found.device == "cpu"
    np.testing.assert_array_equal(values(found), X)
