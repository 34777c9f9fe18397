"""Dtypes of our own that are equal to every library's dtype of that name."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import xpnn
from xpnn import ops
from xpnn._dtypes import DTYPES, DType, as_dtype
from xpnn.errors import DTypeError, XpnnError

STANDARD = [name for name in DTYPES if name not in ("float16", "bfloat16")]
every_dtype = pytest.mark.parametrize("name", DTYPES)
every_standard_dtype = pytest.mark.parametrize("name", STANDARD)


@every_dtype
def test_a_dtype_is_known_by_its_name(name: str) -> None:
    dtype = as_dtype(name)
    assert dtype is DTYPES[name]
    assert as_dtype(dtype) is dtype
    assert getattr(ops, name) is dtype
    assert (str(dtype), repr(dtype)) == (name, f"xpnn.{name}")


@every_dtype
def test_a_dtype_is_equal_to_its_name_alone(name: str) -> None:
    dtype = DTYPES[name]
    assert dtype == name
    assert name == dtype
    assert [other for other in DTYPES if dtype == other] == [name]
    assert [other for other in DTYPES.values() if dtype == other] == [dtype]


@every_standard_dtype
def test_a_dtype_is_equal_to_that_of_numpy_both_ways(name: str) -> None:
    dtype, theirs = DTYPES[name], np.dtype(name)
    assert dtype == theirs
    assert theirs == dtype
    assert dtype == theirs.type
    assert not dtype != theirs
    for other in STANDARD:
        assert (dtype == np.dtype(other)) == (other == name)
        assert (np.dtype(other) == dtype) == (other == name)


@every_standard_dtype
def test_a_dtype_has_the_kind_and_size_of_numpys(name: str) -> None:
    dtype, theirs = DTYPES[name], np.dtype(name)
    assert (dtype.kind, dtype.itemsize) == (theirs.kind, theirs.itemsize)
    assert dtype.is_inexact == np.issubdtype(theirs, np.inexact)


def equal_both_ways(dtype: DType, theirs: Any) -> bool:
    return dtype == theirs and theirs == dtype and as_dtype(theirs) is dtype


@pytest.mark.libraries
@every_standard_dtype
def test_a_dtype_is_equal_to_that_of_torch_both_ways(name: str) -> None:
    torch = pytest.importorskip("torch")
    assert equal_both_ways(DTYPES[name], getattr(torch, name))
    assert DTYPES[name] != (torch.float64 if name != "float64" else torch.float32)


@every_standard_dtype
def test_a_dtype_is_equal_to_that_of_array_api_strict(name: str) -> None:
    """Where ours stands on the left: theirs calls everything else unequal, and does not ask."""
    strict = pytest.importorskip("array_api_strict")
    theirs = getattr(strict, name)
    assert DTYPES[name] == theirs
    assert as_dtype(theirs) is DTYPES[name]
    assert DTYPES[name] != (strict.float64 if name != "float64" else strict.float32)


@pytest.mark.libraries
@every_standard_dtype
def test_a_dtype_is_equal_to_that_of_jax_both_ways(name: str) -> None:
    jnp = pytest.importorskip("jax.numpy")
    assert equal_both_ways(DTYPES[name], getattr(jnp, name))
    assert equal_both_ways(DTYPES[name], jnp.dtype(name))


@pytest.mark.libraries
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_is_equal_to_that_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    assert equal_both_ways(DTYPES[name], getattr(torch, name))


def test_what_is_no_dtype_is_not_equal() -> None:
    for other in (None, 3, "float", "float128", object(), np.dtype("S3"), [1]):
        assert (ops.float32 == other) is False
        assert (ops.float32 != other) is True


@pytest.mark.parametrize("other", ["float128", "object", np.dtype("U3"), 3.5, None, object()])
def test_what_is_no_dtype_is_refused(other: Any) -> None:
    with pytest.raises(DTypeError, match=r"is not a dtype that xpnn knows; it knows bool, float16"):
        as_dtype(other)


def test_a_dtype_error_is_a_type_error() -> None:
    assert issubclass(DTypeError, TypeError)
    assert issubclass(DTypeError, XpnnError)


@every_dtype
def test_a_dtype_is_one_object_also_after_a_copy(name: str) -> None:
    dtype = DTYPES[name]
    assert pickle.loads(pickle.dumps(dtype)) is dtype
    assert copy.copy(dtype) is dtype
    assert copy.deepcopy([dtype])[0] is dtype
    assert {dtype: 1}[as_dtype(name)] == 1


@every_standard_dtype
def test_numpy_takes_a_dtype(name: str) -> None:
    if np.lib.NumpyVersion(np.__version__) < "2.4.0":
        pytest.skip("NumPy asks a dtype-like object from 2.4 on")
    assert np.zeros(2, dtype=DTYPES[name]).dtype == np.dtype(name)


@pytest.mark.libraries
@every_standard_dtype
def test_arrays_of_every_library_answer_alike(name: str) -> None:
    for device in ("cpu", "torch:cpu", "strict:device1"):
        try:
            x = xpnn.Tensor(xpnn.asarray([0], device=device, dtype=name))
        except xpnn.errors.DeviceError:
            continue
        assert x.dtype is DTYPES[name]
        assert x.dtype == x.data.dtype
