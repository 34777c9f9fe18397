"""``xpnn.ops`` is the standard: its names, signatures, dtypes, constants, inspection and results.

array-api-strict stands for the text of the standard; NumPy gives the values.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
from array_api_compat import numpy as np_compat
from helpers import Place, assert_close, make, on
from hypothesis import given
from hypothesis.extra import numpy as hnp
from ops_table import CREATION, DIFFERENTIABLE, INSPECTION, STEPS, Row

import xpnn
from xpnn import Tensor, ops
from xpnn.backend import native_dtype
from xpnn.errors import DeviceError, DTypeError

strict = pytest.importorskip("array_api_strict")

NOT_STANDARD = {"Device", "ArrayAPIStrictFlags", "__version__"}
NAMES = {n for n in strict.__all__ if n not in NOT_STANDARD and "array_api_strict" not in n}
CONSTANTS = ("e", "inf", "nan", "newaxis", "pi")
DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64", "complex64", "complex128"),
]
FUNCTIONS = sorted(n for n in NAMES if inspect.isroutine(getattr(strict, n)))

# ------------------------------------------------------------------------ names, signatures


def test_every_name_of_the_standard_is_there() -> None:
    assert NAMES <= set(ops.__all__)
    assert set(ops.__all__) - NAMES == {"float16", "bfloat16"}
    assert all(hasattr(ops, name) for name in ops.__all__)
    assert ops.__array_api_version__ == strict.__array_api_version__ == "2025.12"


def test_the_table_of_calls_covers_every_function_of_the_standard() -> None:
    rows = {row.name for row in [*DIFFERENTIABLE, *STEPS]}
    assert rows | {*CREATION, *INSPECTION} == set(FUNCTIONS)


def parameters(f: Any) -> list[tuple[Any, ...]]:
    """Return what a caller can see: kinds, the names that can be written, and the defaults."""
    rows = []
    for p in inspect.signature(f).parameters.values():
        default = None if type(p.default).__name__ == "Undef" else p.default
        shown = p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
        rows.append((p.name if shown else "", p.kind, default))
    return rows


def assert_compatible(ours: Any, standard: Any) -> None:
    for mine, theirs in zip(parameters(ours), parameters(standard), strict=True):
        if theirs[1] is not inspect.Parameter.POSITIONAL_ONLY:  # what may be named, may not
            assert mine[:2] == theirs[:2]
        else:
            assert mine[1] in (theirs[1], inspect.Parameter.POSITIONAL_OR_KEYWORD)
        # a newer version of the standard may have given a default to what had none
        assert mine[2] == theirs[2] or theirs[2] is inspect.Parameter.empty


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_are_those_of_the_standard(name: str) -> None:
    assert_compatible(getattr(ops, name), getattr(strict, name))


EXTENSIONS = [
    f"{extension}.{name}"
    for extension in ("linalg", "fft")
    for name in getattr(strict, extension).__all__
]


@pytest.mark.parametrize("path", EXTENSIONS)
def test_extensions_have_the_names_and_signatures_of_the_standard(path: str) -> None:
    extension, _, name = path.partition(".")
    module = getattr(ops, extension)
    assert name in module.__all__
    assert_compatible(getattr(module, name), getattr(getattr(strict, extension), name))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_know_their_name_and_say_what_they_do(name: str) -> None:
    f = getattr(ops, name)
    assert f.__name__ == name
    assert f.__doc__
    assert f.__module__.startswith("xpnn.ops")


def test_parameters_are_bound_as_the_signature_says() -> None:
    x = Tensor(np.arange(6.0).reshape(2, 3))
    assert_close(ops.reshape(x, (3, 2)), ops.reshape(x, shape=(3, 2)))
    assert_close(ops.roll(x, 1, axis=0), ops.roll(x, shift=1, axis=0))
    assert_close(ops.permute_dims(x, (1, 0)), ops.permute_dims(x, axes=(1, 0)))
    for wrong in (
        lambda: ops.sum(x, 0),
        lambda: ops.sum(x=x),
        lambda: ops.sum(x, axes=0),
        lambda: ops.sum(),
        lambda: ops.exp(),
        lambda: ops.exp(x, x),
        lambda: ops.exp(x=x),
        lambda: ops.add(x),
        lambda: ops.reshape(x),
        lambda: ops.reshape(x, (3, 2), shape=(3, 2)),
        lambda: ops.take(x),
    ):
        with pytest.raises(TypeError, match=r"argument|parameter"):
            wrong()


# ------------------------------------------------------------------- constants and inspection


def test_constants_are_those_of_the_standard() -> None:
    for name in CONSTANTS:
        mine, theirs = getattr(ops, name), getattr(strict, name)
        assert mine == theirs or (math.isnan(mine) and math.isnan(theirs))


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes_are_those_of_the_standard(name: str) -> None:
    dtype = getattr(ops, name)
    assert dtype == getattr(strict, name)
    assert dtype == np.dtype(name)
    assert dtype == getattr(np_compat, name)
    assert ops.asarray([0], dtype=dtype).dtype is dtype


@pytest.mark.parametrize("name", ["float32", "float64", "complex64", "complex128"])
def test_limits_of_floating_point_dtypes(name: str) -> None:
    expected = np.finfo(name)
    for found in (ops.finfo(getattr(ops, name)), ops.finfo(Tensor(np.ones(1, dtype=name)))):
        for field in ("bits", "eps", "max", "min", "smallest_normal"):
            assert getattr(found, field) == getattr(expected, field)
            assert type(getattr(found, field)) in (int, float)
        assert found.dtype == expected.dtype


@pytest.mark.parametrize("name", [n for n in DTYPES if "int" in n])
def test_limits_of_integer_dtypes(name: str) -> None:
    expected = np.iinfo(name)
    for found in (ops.iinfo(getattr(ops, name)), ops.iinfo(Tensor(np.ones(1, dtype=name)))):
        assert (found.bits, found.max, found.min) == (expected.bits, expected.max, expected.min)
        assert found.dtype == expected.dtype


def test_limits_of_what_has_none() -> None:
    with pytest.raises(TypeError, match="finfo: expected a floating-point dtype, got int32"):
        ops.finfo(ops.int32)
    with pytest.raises(TypeError, match="iinfo: expected an integer dtype, got float32"):
        ops.iinfo(ops.float32)
    with pytest.raises(TypeError, match="iinfo: expected an integer dtype, got bool"):
        ops.iinfo(ops.bool)


KINDS = [
    *("bool", "signed integer", "unsigned integer", "integral", "real floating"),
    *("complex floating", "numeric"),
]


@pytest.mark.parametrize("name", DTYPES)
def test_kinds_of_dtypes(name: str) -> None:
    mine, theirs = getattr(ops, name), np.dtype(name)
    for kind in KINDS:
        assert ops.isdtype(mine, kind) == np.isdtype(theirs, kind)
    for other in DTYPES:
        assert ops.isdtype(mine, getattr(ops, other)) == (name == other)
    assert ops.isdtype(mine, ("bool", "numeric"))
    assert ops.isdtype(mine, (ops.float16, mine))
    assert not ops.isdtype(mine, ())
    with pytest.raises(ValueError, match="isdtype: unknown kind 'real'; kinds are bool"):
        ops.isdtype(mine, "real")


@pytest.mark.parametrize("name", DTYPES)
def test_promotion_is_that_of_the_standard(name: str) -> None:
    mine, theirs = getattr(ops, name), getattr(strict, name)
    for other in DTYPES:
        pair = getattr(ops, other), getattr(strict, other)
        try:
            expected = strict.result_type(theirs, pair[1])
        except TypeError:
            continue  # the standard leaves it open
        assert ops.result_type(mine, pair[0]) == expected
        assert ops.result_type(Tensor(np.ones(1, dtype=name)), pair[0]) == expected
        assert ops.can_cast(mine, pair[0]) == strict.can_cast(theirs, pair[1])


def test_promotion_of_scalars() -> None:
    assert ops.result_type(Tensor([1.0]), 2.5) == "float32"
    assert ops.result_type(ops.int8, 1) == "int8"
    assert ops.result_type(ops.float32, 1j) == "complex64"
    assert ops.can_cast(Tensor([1.0]), ops.float64)


@given(hnp.mutually_broadcastable_shapes(num_shapes=3, min_side=0, max_dims=4))
def test_broadcast_shapes_are_those_of_numpy(drawn: Any) -> None:
    assert ops.broadcast_shapes(*drawn.input_shapes) == drawn.result_shape
    assert ops.broadcast_shapes() == ()


@pytest.mark.parametrize("shapes", [((2,), (3,)), ((2, 1), (3, 4)), ((0,), (2,))], ids=str)
def test_shapes_that_do_not_broadcast(shapes: Any) -> None:
    with pytest.raises(ValueError, match=r"broadcast_shapes: .* do not broadcast together"):
        ops.broadcast_shapes(*shapes)


def test_the_inspection_interface(device: Place) -> None:
    info = ops.__array_namespace_info__()
    with xpnn.device(device):
        capabilities = info.capabilities()
        assert {"boolean indexing", "data-dependent shapes", "max dimensions"} <= set(capabilities)
        assert info.default_device() == device
        assert device in info.devices()
        assert info.default_dtypes()["real floating"] == "float32"
        assert info.default_dtypes()["integral"] == Tensor([1]).dtype
        assert set(info.default_dtypes()) == {
            *("real floating", "complex floating", "integral", "indexing")
        }
        found = info.dtypes()
        assert found["float32"] is ops.float32
        assert set(info.dtypes(kind="bool")) == {"bool"}
        assert "int32" not in info.dtypes(kind="real floating")
        assert set(info.dtypes(kind=("bool", "real floating"))) <= set(found)
        assert info.dtypes(device=device) == found


def test_default_dtypes_follow_the_default() -> None:
    xpnn.set_dtype("float64")
    defaults = ops.__array_namespace_info__().default_dtypes()
    assert (defaults["real floating"], defaults["complex floating"]) == ("float64", "complex128")


# ---------------------------------------------------------------------------------- results


def outputs(y: Any) -> list[Any]:
    return list(y) if isinstance(y, (tuple, list)) else [y]


ROWS = pytest.mark.parametrize("row", [*DIFFERENTIABLE, *STEPS], ids=str)
PLACES = pytest.mark.parametrize("device", ["cpu", "strict:device1"], indirect=True)


@PLACES
@ROWS
def test_results_are_those_of_numpy(row: Row, device: Place) -> None:
    if device.partition(":")[0] in row.without:
        pytest.skip(f"{device} cannot run this call")
    xs = row.arrays()
    expected = outputs(row.call(np_compat, *xs))
    raw = [on(device, x) for x in xs]
    wrapped = outputs(row.call(ops, *(Tensor(x) for x in raw)))
    plain = outputs(row.call(ops, *raw))
    for tensor, array, other in zip(wrapped, plain, expected, strict=True):
        assert isinstance(tensor, Tensor)
        assert not isinstance(array, Tensor) or row.name in ("asarray",)  # it makes Tensors
        assert tensor.device == device
        assert_close(tensor, np.asarray(other), rtol=1e-13, atol=1e-13)
        assert_close(array, np.asarray(other), rtol=1e-13, atol=1e-13)


@ROWS
def test_what_numpy_names_is_named(row: Row) -> None:
    expected = row.call(np_compat, *row.arrays())
    found = row.call(ops, *(Tensor(x) for x in row.arrays()))
    assert getattr(type(found), "_fields", ()) == getattr(type(expected), "_fields", ())
    assert isinstance(found, tuple) == isinstance(expected, (tuple, list))


# --------------------------------------------------------------------------------- creation

MAKERS: dict[str, Any] = {
    "arange stop": lambda xp, **kw: xp.arange(5, **kw),
    "arange start stop step": lambda xp, **kw: xp.arange(1, 8, 3, **kw),
    "arange down": lambda xp, **kw: xp.arange(5, 0, step=-2, **kw),
    "arange nothing": lambda xp, **kw: xp.arange(0, **kw),
    "linspace": lambda xp, **kw: xp.linspace(0, 1, 5, **kw),
    "linspace open": lambda xp, **kw: xp.linspace(-1.0, 1.0, num=4, endpoint=False, **kw),
    "eye": lambda xp, **kw: xp.eye(3, **kw),
    "eye wide": lambda xp, **kw: xp.eye(2, 4, k=1, **kw),
    "zeros": lambda xp, **kw: xp.zeros((2, 3), **kw),
    "zeros int": lambda xp, **kw: xp.zeros(3, **kw),
    "zeros no axes": lambda xp, **kw: xp.zeros((), **kw),
    "ones": lambda xp, **kw: xp.ones((2, 0), **kw),
    "full": lambda xp, **kw: xp.full((2,), 7, **kw),
}


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_created_arrays_are_those_of_numpy(maker: Any, dtype: str) -> None:
    expected = maker(np_compat, dtype=getattr(np_compat, dtype))
    for given_dtype in (dtype, getattr(ops, dtype), np.dtype(dtype)):
        assert_close(maker(ops, dtype=given_dtype), expected)


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_arrays_are_created_where_and_as_one_says(maker: Any, device: Place) -> None:
    here = maker(ops, dtype="float32", device=device)
    with xpnn.device(device):
        there = maker(ops, dtype="float32")
    for x in (here, there):
        assert isinstance(x, Tensor)
        assert not x.requires_grad
        assert (x.device, x.dtype) == (device, "float32")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_created_arrays_have_the_default_dtype(dtype: str) -> None:
    xpnn.set_dtype(dtype)
    for x in (ops.zeros(2), ops.ones(2), ops.empty(2), ops.eye(2), ops.linspace(0, 1, 3)):
        assert x.dtype == dtype
    assert ops.full(2, 1.5).dtype == ops.arange(3.0).dtype == ops.asarray([1.5]).dtype == dtype
    assert ops.full(2, 1).dtype == ops.arange(3).dtype == ops.asarray([1]).dtype == "int64"
    assert ops.full(2, True).dtype == ops.asarray(True).dtype == "bool"
    wide = "complex64" if dtype == "float32" else "complex128"
    assert ops.full(2, 1j).dtype == ops.linspace(0, 1j, 3).dtype == wide
    assert ops.asarray([1j]).dtype == wide


@pytest.mark.parametrize("name", ["zeros_like", "ones_like", "empty_like", "full_like"])
def test_arrays_like_another_have_its_shape_dtype_and_device(name: str, device: Place) -> None:
    raw = make((2, 3), device, "int32", "ints")
    args = (7,) if name == "full_like" else ()
    x = getattr(ops, name)(Tensor(raw), *args)
    y = getattr(ops, name)(raw, *args)
    assert isinstance(x, Tensor)
    assert not isinstance(y, Tensor)
    for found in (x, Tensor(y)):
        assert (found.shape, found.dtype, found.device) == ((2, 3), "int32", device)
    if name != "empty_like":
        value = {"zeros_like": 0, "ones_like": 1, "full_like": 7}[name]
        assert_close(xpnn.to_numpy(x), np.full((2, 3), value, dtype="int32"))
    assert getattr(ops, name)(Tensor(raw), *args, dtype=ops.float32).dtype == "float32"
    assert getattr(ops, name)(Tensor(raw), *args, device="cpu").device == "cpu"


def test_the_default_of_integers_raises_no_warning(device: Place) -> None:
    with xpnn.device(device):
        for x in (ops.arange(3), ops.full(2, 7), ops.asarray([1, 2])):
            assert ops.isdtype(x.dtype, "signed integer")


def test_asarray_makes_tensors_of_everything(device: Place) -> None:
    raw = make((2, 3), device)
    x = ops.asarray(raw)
    assert isinstance(x, Tensor)
    assert x.data is raw
    assert ops.asarray(x) is x
    assert ops.asarray(x, device=device) is x
    assert ops.asarray(x, dtype="float32") is x
    assert_close(ops.asarray([x[0, 0], 2.0], device="cpu")[1], np.asarray(2.0, dtype="float32"))
    assert_close(ops.asarray([[1, 2], [3, 4]]), np.asarray([[1, 2], [3, 4]]))


def test_asarray_copies_as_it_is_told() -> None:
    a = np.asarray([1.0, 2.0])
    assert np.shares_memory(ops.asarray(a, copy=False).data, a)
    for source in (a, Tensor(a), Tensor(a, requires_grad=True)):
        assert not np.shares_memory(ops.asarray(source, copy=True).data, a)
    with pytest.raises(ValueError, match=r"copy=False.*scalars or sequences"):
        ops.asarray([1.0], copy=False)
    with pytest.raises(ValueError, match=r"copy=False.*to cast float64 to float32"):
        ops.asarray(Tensor(a), dtype="float32", copy=False)
    with pytest.raises(ValueError, match="copy"):
        ops.asarray(a, dtype="float32", copy=False)


def test_astype_copies_as_it_is_told() -> None:
    x = Tensor(np.asarray([1.0, 2.0]))
    assert ops.astype(x, "float64", copy=False) is x
    assert not np.shares_memory(ops.astype(x, "float64").data, x.data)
    assert ops.astype(x.data, "float64", copy=False) is x.data
    assert isinstance(ops.astype(x.data, "int32"), np.ndarray)
    assert_close(ops.astype(x, ops.int32), np.asarray([1, 2], dtype="int32"))


def test_astype_moves_to_a_device() -> None:
    x = Tensor([1.0, 2.0])
    found = ops.astype(x, "float64", device="strict:device1")
    assert (found.device, found.dtype) == ("strict:device1", "float64")


def test_from_dlpack_copies_as_it_is_told() -> None:
    a = np.asarray([1.0, 2.0])
    assert np.shares_memory(ops.from_dlpack(a, copy=False).data, a)
    assert not np.shares_memory(ops.from_dlpack(a, copy=True).data, a)
    assert np.shares_memory(ops.from_dlpack(Tensor(a), device="cpu").data, a)


@pytest.mark.libraries
def test_from_dlpack_keeps_the_device_unless_it_is_told_another() -> None:
    torch = pytest.importorskip("torch")
    assert ops.from_dlpack(torch.ones(2), device="cpu").device == "cpu"
    with xpnn.device("torch:cpu"):
        assert ops.from_dlpack(torch.ones(2)).device == "torch:cpu"


def test_meshgrid_refuses_another_order() -> None:
    with pytest.raises(ValueError, match="meshgrid: 'indexing' must be 'xy' or 'ij', got 'yx'"):
        ops.meshgrid(np.ones(2), indexing="yx")
    assert ops.meshgrid() == ()


def test_a_dtype_that_a_library_lacks_is_an_error() -> None:
    with pytest.raises(DTypeError, match=r"array_api_strict has no dtype bfloat16"):
        native_dtype(strict, "bfloat16")
    with pytest.raises(DTypeError, match="array_api_strict has no dtype float16"):
        native_dtype(strict, "float16")
    with pytest.raises(DTypeError, match="'float33' is not a dtype that xpnn knows"):
        ops.zeros(2, dtype="float33")


def test_half_precision_where_the_library_has_it() -> None:
    x = ops.ones(3, dtype=ops.float16) * 2.0
    assert x.dtype == "float16"
    assert ops.finfo(ops.float16).eps == np.finfo("float16").eps
    assert ops.finfo("bfloat16").bits == 16
    assert ops.isdtype(ops.bfloat16, "real floating")


def test_arrays_of_two_libraries_do_not_mix() -> None:
    with pytest.raises(DeviceError, match="arrays of two libraries meet"):
        ops.add(np.ones(2), strict.ones(2))
    with pytest.raises(DeviceError, match="arrays of two libraries meet"):
        ops.concat([Tensor(np.ones(2)), strict.ones(2)])
