"""Devices, default dtypes, and moving arrays between libraries."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from helpers import Place, assert_close, double, make, on, usable

import xpnn
from xpnn import Tensor, _cuda, backend
from xpnn._libraries import LIBRARIES, Library, find_library
from xpnn.backend import (
    Device,
    array_namespace,
    as_device,
    asarray,
    device_of,
    is_writable,
    native_dtype,
    put,
    to_device,
    to_numpy,
)
from xpnn.errors import DeviceError, DTypeError, XpnnError

# ---------------------------------------------------------------------------- device strings


def test_a_device_is_written_as_it_is_read(device: Place) -> None:
    found = as_device(device)
    assert str(found) == device
    assert repr(found) == f"Device({str(device)!r})"
    assert found == device
    assert device == found
    assert as_device(found) is found
    assert as_device(str(found)) == found
    assert hash(found) == hash(str(found))


@pytest.mark.parametrize("library", ["cpu", "torch", "jax", "strict"])
def test_a_library_alone_is_its_default_device(library: str) -> None:
    if LIBRARIES[library].status():
        pytest.skip(LIBRARIES[library].status())
    found = as_device(library)
    assert found.native == found.library.devices()[0]
    assert found == library
    expected = {"cpu": "cpu", "torch": "torch:cpu", "jax": "jax:cpu", "strict": "strict:CPU_DEVICE"}
    if library != "jax":  # where JAX has a GPU, that is its default
        assert str(found) == expected[library]


def test_a_device_is_equal_to_that_of_its_library(device: Place) -> None:
    x = make((2,), device)
    assert device_of(x) == x.device
    assert as_device(device_of(x).native) == device


def test_devices_differ() -> None:
    assert as_device("cpu") != "strict:device1"
    assert as_device("cpu") != as_device("strict:CPU_DEVICE")
    assert as_device("strict:device1") != "strict:device2"
    assert as_device("cpu") != "nonsense"
    assert as_device("cpu") != 3


@pytest.mark.parametrize("name", ["tpu", "", "cpu:0", "CPU", "numpy", "gpu:0", ":cpu"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"unknown device '{name}'; devices are written 'cpu'"):
        as_device(name)


@pytest.mark.parametrize("name", ["strict:device9", "torch:tpu", "jax:cpu:99"])
def test_a_device_that_a_library_lacks_is_refused(name: str) -> None:
    usable({"s": "strict:device1", "t": "torch:cpu", "j": "jax:cpu"}[name[0]])
    with pytest.raises(
        DeviceError, match=rf"cannot use device '{name}': .* has no device .*it has"
    ):
        as_device(name)


@pytest.mark.parametrize("what", [3, None, 2.5, np.float32])
def test_what_is_no_device_is_refused(what: Any) -> None:
    with pytest.raises(DeviceError, match="expected a device such as 'cpu' or 'cuda:0', got"):
        as_device(what)


def test_a_device_error_is_a_runtime_error() -> None:
    assert issubclass(DeviceError, RuntimeError)
    assert issubclass(DeviceError, XpnnError)


# -------------------------------------------------------------------------- missing libraries


def without(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    """Make the import of a package fail."""
    real = importlib.import_module

    def fail(wanted: str, package: str | None = None) -> Any:
        if name in wanted.split("."):
            raise error
        return real(wanted, package)

    monkeypatch.setattr(importlib, "import_module", fail)


@pytest.mark.parametrize("error", [ImportError("No module named 'cupy'"), OSError("libcuda.so")])
def test_cuda_without_cupy_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    without(monkeypatch, "cupy", error)
    expected = r"cannot use device 'cuda': .*CuPy.*pip install 'xpnn\[cuda13\]'.*'xpnn\[cuda12\]'"
    with pytest.raises(DeviceError, match=expected):
        xpnn.set_device("cuda")
    assert xpnn.get_device() == "cpu"
    assert "cuda:0" not in xpnn.available_devices()


def fake_cupy(monkeypatch: pytest.MonkeyPatch, count: Any, driver: int = 13000) -> None:
    """Put a CuPy in place that is installed, on a machine where ``count()`` tells of devices."""

    class CUDARuntimeError(RuntimeError):
        pass

    def devices() -> int:
        if isinstance(count, str):
            raise CUDARuntimeError(count)
        return int(count)

    runtime = types.SimpleNamespace(
        getDeviceCount=devices, CUDARuntimeError=CUDARuntimeError,
        driverGetVersion=lambda: driver, runtimeGetVersion=lambda: 13020,
    )  # fmt: skip
    module = types.ModuleType("cupy")
    module.__version__ = "14.2.0"  # type: ignore[attr-defined]
    module.is_available = lambda: False  # type: ignore[attr-defined]
    module.cuda = types.SimpleNamespace(runtime=runtime)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", module)


def test_cuda_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cupy(monkeypatch, "cudaErrorNoDevice: no CUDA-capable device is detected")
    expected = r"CuPy 14\.2\.0 is installed but finds no driver or device: cudaErrorNoDevice"
    with pytest.raises(DeviceError, match=expected):
        xpnn.set_device("cuda")
    with pytest.raises(DeviceError, match=expected), xpnn.device("cuda:1"):
        pass
    assert xpnn.get_device() == "cpu"


def test_a_driver_that_is_missing_or_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cupy(monkeypatch, "cudaErrorInsufficientDriver: insufficient", driver=0)
    with pytest.raises(DeviceError, match=r"There seems to be no NVIDIA driver"):
        xpnn.set_device("cuda")
    fake_cupy(monkeypatch, "cudaErrorInsufficientDriver: insufficient", driver=12040)
    expected = (
        r"the driver is too old: it is for CUDA 12\.4, CuPy 14\.2\.0 for CUDA 13\.2\. .*"
        r"pip uninstall cupy\S*, then pip install 'xpnn\[cuda12\]'"
    )
    with pytest.raises(DeviceError, match=expected):
        xpnn.set_device("cuda")


def test_two_packages_with_cupy_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cuda, "packages", lambda: ["cupy-cuda12x", "cupy-cuda13x"])
    expected = r"cupy-cuda12x and cupy-cuda13x are installed.*pip uninstall cupy-cuda12x cupy-cuda"
    with pytest.raises(DeviceError, match=expected):
        xpnn.set_device("cuda")


def test_cuda_with_a_driver_and_no_device_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cupy(monkeypatch, 0)
    with pytest.raises(DeviceError, match=r"CuPy 14\.2\.0 is installed but 0 CUDA devices"):
        xpnn.asarray([1.0], device="cuda:0")


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Library("strict", "array_api_strikt")
    monkeypatch.setitem(LIBRARIES, "strict", missing)
    with pytest.raises(DeviceError, match=r"its package does not import: .*strikt.*pip install"):
        xpnn.set_device("strict:device1")
    assert not [name for name in xpnn.available_devices() if name.startswith("strict")]


@pytest.mark.gpu
def test_arrays_live_on_the_gpu() -> None:
    usable("cuda")
    with xpnn.device("cuda"):
        x = xpnn.ops.ones(3)
    assert x.device == "cuda:0"
    assert type(x.data).__module__.startswith("cupy")


def test_available_devices_work() -> None:
    names = xpnn.available_devices()
    assert names[0] == "cpu"
    assert len(names) == len(set(names))
    for name in names:
        with xpnn.device(name) as chosen:
            assert chosen == name
            x = xpnn.ops.ones((2,), dtype="float32") + 1.0
        assert x.device == name
        assert_close(to_numpy(x), np.full(2, 2.0, dtype="float32"))


# ---------------------------------------------------------------------------------- contexts


def test_the_default_device_can_be_set(device: Place) -> None:
    assert xpnn.get_device() == "cpu"
    xpnn.set_device(device)
    assert xpnn.get_device() == device
    assert Tensor([1.0]).device == device
    assert device_of(asarray([1, 2])) == device


def test_contexts_nest_and_restore() -> None:
    with xpnn.device("strict:device1") as outer:
        assert xpnn.get_device() is outer
        with xpnn.device("strict:device2"):
            assert xpnn.get_device() == "strict:device2"
            xpnn.set_device("cpu")
        assert xpnn.get_device() == "strict:device1"
    assert xpnn.get_device() == "cpu"


def test_contexts_restore_after_an_exception() -> None:
    with pytest.raises(ValueError, match="inside"), xpnn.device("strict:device1"):
        raise ValueError("inside")
    assert xpnn.get_device() == "cpu"
    with pytest.raises(DeviceError, match="unknown device"), xpnn.device("tpu"):
        pass
    assert xpnn.get_device() == "cpu"


def test_a_device_that_cannot_be_set_changes_nothing() -> None:
    xpnn.set_device("strict:device1")
    with pytest.raises(DeviceError, match="unknown device"):
        xpnn.set_device("tpu")
    assert xpnn.get_device() == "strict:device1"


def test_threads_have_defaults_of_their_own() -> None:
    both = threading.Barrier(2)

    def work(device: str, dtype: str) -> tuple[str, str]:
        xpnn.set_device(device)
        xpnn.set_dtype(dtype)
        both.wait(10)
        x = Tensor([1.0])
        return str(x.device), str(x.dtype)

    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(work, "strict:device1", "float64"),
            pool.submit(work, "cpu", "float32"),
        ]
        assert [job.result() for job in jobs] == [("strict:device1", "float64"), ("cpu", "float32")]
    assert xpnn.get_device() == "cpu"
    assert xpnn.get_dtype() == "float32"


def test_asynchronous_tasks_have_defaults_of_their_own() -> None:
    async def work(name: str) -> str:
        with xpnn.device(name):
            await asyncio.sleep(0)
            return str(xpnn.get_device())

    async def both() -> Any:
        return await asyncio.gather(work("strict:device1"), work("strict:device2"))

    assert asyncio.run(both()) == ["strict:device1", "strict:device2"]
    assert xpnn.get_device() == "cpu"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_default_dtype_can_be_set(dtype: str) -> None:
    xpnn.set_dtype(dtype)
    assert xpnn.get_dtype() == dtype
    assert Tensor([1.0]).dtype == dtype
    assert asarray([1]).dtype == "int64"
    xpnn.set_dtype(np.dtype(dtype))
    assert xpnn.get_dtype() is backend.DTYPES[dtype]


@pytest.mark.parametrize("dtype", ["int32", "complex64", "bool", "bfloat16"])
def test_the_default_dtype_is_one_of_three(dtype: str) -> None:
    with pytest.raises(DTypeError, match=f"set_dtype: expected float16, float32 or .*got {dtype}"):
        xpnn.set_dtype(dtype)
    with pytest.raises(DTypeError, match="'half' is not a dtype that xpnn knows"):
        xpnn.set_dtype("half")
    assert xpnn.get_dtype() == "float32"


# --------------------------------------------------------------------------------- namespaces


def test_the_namespace_of_arrays(device: Place) -> None:
    x = make((2,), device)
    assert array_namespace(x) is as_device(device).xp
    assert array_namespace(x, x, 1, 2.0, True, 1j, None) is as_device(device).xp


def test_numpy_scalars_have_a_namespace() -> None:
    for scalar in (np.float32(1), np.float64(1), np.int64(1), np.bool_(True), np.complex128(1)):
        assert array_namespace(scalar).__name__ == "array_api_compat.numpy"


@pytest.mark.parametrize("what", ["a", [1.0], (1,), {}, object()], ids=lambda x: type(x).__name__)
def test_what_is_no_array_has_no_namespace(what: Any) -> None:
    with pytest.raises(DTypeError, match=r"expected an array, got .*xpnn\.asarray"):
        array_namespace(what)


def test_nothing_has_no_namespace() -> None:
    for nothing in ((), (None,), (1, 2.0), (True, None)):
        with pytest.raises(DTypeError, match="expected at least one array, got only scalars"):
            array_namespace(*nothing)


def test_two_libraries_have_no_namespace_in_common() -> None:
    x, y = make((2,)), make((2,), usable("strict:device1"))
    with pytest.raises(
        DeviceError, match=r"two libraries meet: .*numpy and array_api_strict\. Move"
    ):
        array_namespace(x, y)
    with pytest.raises(DeviceError, match="two libraries meet"):
        array_namespace(Tensor(x), y)


def test_a_library_that_nobody_named_is_found_by_its_namespace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    namespace = types.ModuleType("some_array_library")
    monkeypatch.setitem(sys.modules, "some_array_library", namespace)

    class Foreign:
        """An array of a library that follows the standard and is not one of ours."""

        def __array_namespace__(self, api_version: str | None = None) -> Any:
            return namespace

    assert find_library(Foreign()).name == "some_array_library"
    assert array_namespace(Foreign(), 1.0) is namespace


def test_dtypes_of_a_namespace() -> None:
    strict = as_device("strict:device1").xp
    assert native_dtype(strict, "float32") is strict.float32
    assert native_dtype(strict, np.dtype("int8")) is strict.int8
    assert native_dtype(strict, xpnn.ops.bool) is strict.bool
    for _ in range(2):  # also the second time
        with pytest.raises(DTypeError, match="array_api_strict has no dtype float16"):
            native_dtype(strict, "float16")


# -------------------------------------------------------------------------------------- moves

SHAPES = [(), (0,), (3,), (2, 0, 3), (2, 3)]
KINDS = ["float32", "int32", "bool", "complex64", "uint8"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", KINDS)
def test_arrays_go_to_every_device_and_back(shape: Any, dtype: str, device: Place) -> None:
    x = make(shape, dtype=dtype, kind="bools" if dtype == "bool" else "positive")
    x.flags.writeable = False
    there = to_device(x, device)
    assert device_of(there) == device
    assert tuple(there.shape) == shape
    assert backend.as_dtype(there.dtype) == dtype
    assert_close(to_numpy(there), x)
    assert_close(to_device(there, "cpu"), x)
    assert to_device(there, device) is there


def test_views_go_to_every_device(device: Place) -> None:
    base = make((4, 6), dtype="float32")
    for view in (base.T, base[::2, ::-1], base[:, 1], np.broadcast_to(base[0], (3, 6))):
        there = to_device(view, device)
        assert_close(to_numpy(there), np.ascontiguousarray(view))
        assert_close(to_numpy(asarray(view, device=device)), np.ascontiguousarray(view))


def test_views_come_from_every_device(device: Place) -> None:
    base = make((4, 6), device)
    xp = as_device(device).xp
    for view in (xp.permute_dims(base, (1, 0)), base[1:3, ::2], base[..., 1]):
        found = to_numpy(view)
        assert type(found) is np.ndarray
        assert found.shape == tuple(view.shape)
        assert float(np.sum(found)) == pytest.approx(float(xp.sum(view)), rel=1e-5)


@pytest.mark.libraries
@pytest.mark.parametrize("pair", [("torch:cpu", "strict:device1"), ("strict:device1", "jax:cpu")])
def test_arrays_go_from_library_to_library(pair: tuple[str, str]) -> None:
    start, end = map(usable, pair)
    x = make((2, 3), start)
    there = to_device(x, end)
    assert device_of(there) == end
    assert_close(to_numpy(there), to_numpy(x))


@pytest.mark.libraries
def test_a_read_only_array_is_not_written_through_another_library() -> None:
    x = on(Place("cpu read-only"), np.asarray([1.0, 2.0]))
    torch = pytest.importorskip("torch")
    there = to_device(x, "torch:cpu")
    assert isinstance(there, torch.Tensor)
    there[0] = 100.0
    assert x[0] == 1.0


def test_asarray_takes_scalars_and_sequences(device: Place) -> None:
    for values, dtype in ((2.5, "float32"), ([1.0, 2.0], "float32"), ([True], "bool")):
        x = asarray(values, device=device)
        assert device_of(x) == device
        assert backend.as_dtype(x.dtype) == dtype
        assert_close(to_numpy(x), np.asarray(values, dtype=dtype))
    assert tuple(asarray([], device=device).shape) == (0,)
    assert tuple(asarray([[1, 2], [3, 4]], device=device).shape) == (2, 2)
    assert xpnn.ops.isdtype(asarray([1], device=device).dtype, "signed integer")


def test_asarray_keeps_the_dtype_of_arrays() -> None:
    assert asarray(np.ones(2)).dtype == np.float64
    assert asarray(np.float64(1.0)).dtype == np.float64
    assert asarray(np.int8(1)).dtype == np.int8
    assert asarray(np.ones(2), dtype="float32").dtype == np.float32
    assert asarray([1, 2], dtype="float64").dtype == np.float64


def test_asarray_keeps_arrays_where_they_are(device: Place) -> None:
    x = make((2,), device)
    assert asarray(x) is x
    assert asarray(x, device=device, dtype="float32") is x
    moved = asarray(x, device="cpu")
    assert type(moved) is np.ndarray


def test_asarray_casts_on_every_device(device: Place) -> None:
    x = make((2,), device, "float32", "ints")
    y = asarray(x, dtype="int32")
    assert device_of(y) == device
    assert_close(to_numpy(y), to_numpy(x).astype("int32"))


def test_asarray_copies_when_it_is_told() -> None:
    x = np.asarray([1.0, 2.0])
    assert asarray(x) is x
    assert not np.shares_memory(asarray(x, copy=True), x)


def test_asarray_keeps_a_tensor_on_the_tape() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    for y in (asarray(x), asarray(x, dtype="float64"), asarray(x, copy=True)):
        assert isinstance(y, Tensor)
        assert y.requires_grad


def repr_of(x: Any) -> str:
    return "object" if type(x) is object else repr(x)


@pytest.mark.parametrize("what", [["a", "b"], "abc", None, {}, object()], ids=repr_of)
def test_what_is_not_made_of_numbers_is_no_array(what: Any) -> None:
    with pytest.raises(DTypeError, match=r"asarray: expected numbers, got .* that holds"):
        asarray(what)
    with pytest.raises(DTypeError, match="is not a dtype that xpnn knows"):
        Tensor(np.asarray(what))


def test_rows_of_different_lengths_are_no_array() -> None:
    with pytest.raises(ValueError, match="inhomogeneous"):
        asarray([[1.0], [1.0, 2.0]])


def test_to_numpy_takes_what_has_values(device: Place) -> None:
    x = make((2, 3), device, double(device))
    for source in (x, Tensor(x), Tensor(x, requires_grad=True)):
        found = to_numpy(source)
        assert type(found) is np.ndarray
        assert_close(found, make((2, 3), dtype=double(device)))
    assert_close(to_numpy([1, 2]), np.asarray([1, 2]))
    assert to_numpy(2.5).shape == ()
    assert to_numpy(np.float32(2)).dtype == np.float32


@pytest.mark.libraries
def test_to_numpy_shares_the_memory_of_the_host() -> None:
    x = np.asarray([1.0, 2.0])
    assert to_numpy(x) is x
    torch = pytest.importorskip("torch")
    t = torch.ones(3)
    assert np.shares_memory(to_numpy(t), t.numpy())


def test_to_numpy_refuses_what_has_none() -> None:
    with pytest.raises(DTypeError, match=r"expected an array, got builtins\.object"):
        to_numpy(object())


def test_writing_makes_a_copy_only_where_it_must(device: Place) -> None:
    x = make((3,), device)
    writable = is_writable(x)
    assert writable == (not device.read_only and not device.startswith("jax"))
    if device.read_only:
        with pytest.raises(ValueError, match="read-only"):
            x[0] = 5.0
        return
    y = put(x, 0, 5.0)
    assert (y is x) == writable
    assert float(y[0]) == 5.0


def test_a_device_of_a_tensor_is_that_of_its_array(device: Place) -> None:
    x = make((2,), device)
    assert device_of(x) == device_of(Tensor(x)) == device
    assert isinstance(device_of(x), Device)
