"""The Tensor is an array of the standard: attributes, operators, conversions, devices, copies."""

from __future__ import annotations

import copy
import operator
import pickle
from typing import Any

import numpy as np
import pytest
from helpers import Place, assert_close, double, make, on, usable

import xpnn
from xpnn import Tensor, ops
from xpnn.errors import DeviceError, DTypeError, GraphError, ShapeError

# ------------------------------------------------------------------------- making and being


def test_what_is_no_array_becomes_one_of_the_defaults() -> None:
    assert Tensor([1.0, 2.0]).dtype == "float32"
    assert Tensor([1, 2]).dtype == "int64"
    assert Tensor([True]).dtype == "bool"
    assert Tensor(1.5).shape == ()
    xpnn.set_dtype("float64")
    assert Tensor([1.0]).dtype == "float64"
    assert Tensor([1j]).dtype == "complex128"


def test_an_array_is_held_as_it_is() -> None:
    a = np.asarray([1.0, 2.0])
    assert Tensor(a).data is a
    assert Tensor(Tensor(a)).data is a


def test_a_new_tensor_of_a_variable_is_a_constant() -> None:
    assert not Tensor(Tensor([1.0], requires_grad=True)).requires_grad


def test_attributes(device: Place) -> None:
    raw = make((2, 3), device, "float32")
    x = Tensor(raw)
    assert (x.shape, x.ndim, x.size) == ((2, 3), 2, 6)
    assert isinstance(x.shape, tuple)
    assert x.dtype == "float32"
    assert x.dtype == ops.float32
    assert x.dtype == raw.dtype
    assert x.device == device
    assert x.device.xp is xpnn.array_namespace(raw)
    assert_close(x.T, x.mT)
    assert x.T.shape == (3, 2)
    assert x.grad is None
    assert not x.requires_grad


def test_transposes_say_what_they_need() -> None:
    with pytest.raises(ShapeError, match=r"T: expected two axes, got shape \(1, 2, 3\)"):
        Tensor(np.ones((1, 2, 3))).T  # noqa: B018
    with pytest.raises(ShapeError, match=r"mT: expected at least two axes, got shape \(3,\)"):
        Tensor(np.ones(3)).mT  # noqa: B018
    assert Tensor(np.ones((1, 2, 3))).mT.shape == (1, 3, 2)


@pytest.mark.parametrize("dtype", ["int32", "bool", "uint8"])
def test_only_floating_point_tensors_are_variables(dtype: str) -> None:
    with pytest.raises(DTypeError, match=f"only floating-point Tensors .* this one is {dtype}"):
        Tensor(np.ones(2, dtype=dtype), requires_grad=True)


def test_requires_grad_can_be_switched() -> None:
    x = Tensor([1.0])
    x.requires_grad = True
    (x * 2.0).backward()
    x.requires_grad = True  # it is one already: nothing is lost
    assert_close(x.grad, np.asarray([2.0], dtype="float32"))
    x.requires_grad = False
    assert x.grad is None
    assert not (x * 2.0).requires_grad


def test_a_computed_tensor_cannot_be_taken_off_the_tape_in_place() -> None:
    y = Tensor([1.0], requires_grad=True) * 2.0
    with pytest.raises(GraphError, match=r"cannot be switched off; use detach\(\)"):
        y.requires_grad = False
    assert not y.detach().requires_grad
    assert y.detach().data is y.data


def test_grad_can_be_set_for_a_variable_of_its_shape() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    x.grad = np.asarray([3.0, 4.0], dtype="float32")
    assert isinstance(x.grad, Tensor)
    (x * 1.0).backward([1.0, 1.0])
    assert_close(x.grad, np.asarray([4.0, 5.0], dtype="float32"))
    x.grad = None
    assert x.grad is None
    with pytest.raises(ShapeError, match=r"grad: expected shape \(2,\), got \(3,\)"):
        x.grad = np.ones(3)
    with pytest.raises(GraphError, match=r"only a variable, .* has a gradient to set"):
        Tensor([1.0]).grad = np.ones(1)


def test_a_tensor_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError):
        Tensor([1.0]).requires_gradient = True  # type: ignore[attr-defined]


# -------------------------------------------------------------------------------- operators

ARITHMETIC = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow"]
COMPARISONS = ["lt", "le", "gt", "ge", "eq", "ne"]
BITS = ["and_", "or_", "xor", "lshift", "rshift"]


@pytest.mark.parametrize("name", ARITHMETIC + COMPARISONS)
def test_operators_of_numbers_are_those_of_numpy(name: str) -> None:
    f = getattr(operator, name)
    a, b = np.asarray([[1.5, 2.0, 3.5]]), np.asarray([[2.0], [0.5]])
    expected = f(a, b)
    for found in (f(Tensor(a), Tensor(b)), f(Tensor(a), b), f(a, Tensor(b))):
        assert isinstance(found, Tensor)
        assert_close(found, expected)
    assert_close(f(Tensor(a), 2.0), f(a, 2.0))
    assert_close(f(2.0, Tensor(a)), f(2.0, a))


@pytest.mark.parametrize("name", BITS)
def test_operators_of_integers_are_those_of_numpy(name: str) -> None:
    f = getattr(operator, name)
    a, b = np.asarray([1, 6, 3]), np.asarray([[2], [1]])
    for found in (f(Tensor(a), Tensor(b)), f(Tensor(a), b), f(a, Tensor(b))):
        assert isinstance(found, Tensor)
        assert_close(found, f(a, b))
    assert_close(f(Tensor(a), 2), f(a, 2))
    assert_close(f(6, Tensor(a)), f(6, a))


@pytest.mark.parametrize("name", ["and_", "or_", "xor"])
def test_operators_of_booleans_are_those_of_numpy(name: str) -> None:
    f = getattr(operator, name)
    a, b = np.asarray([True, True, False]), np.asarray([True, False, False])
    assert_close(f(Tensor(a), b), f(a, b))
    assert_close(f(True, Tensor(a)), f(True, a))


@pytest.mark.parametrize("name", ["neg", "pos", "abs"])
def test_unary_operators_are_those_of_numpy(name: str) -> None:
    f = getattr(operator, name)
    a = np.asarray([1.5, -2.0])
    assert_close(f(Tensor(a)), f(a))
    assert_close(~Tensor(np.asarray([1, 2])), ~np.asarray([1, 2]))


def test_matrix_products_on_both_sides() -> None:
    a, b = np.ones((2, 3)), np.arange(12.0).reshape(3, 4)
    for found in (Tensor(a) @ Tensor(b), Tensor(a) @ b, a @ Tensor(b)):
        assert isinstance(found, Tensor)
        assert_close(found, a @ b)


def test_python_scalars_do_not_change_the_dtype(device: Place) -> None:
    x = Tensor(make((2,), device, "float32", "positive"))
    for y in (x + 1, 1.5 * x, x**2, 2 / x, 0 - x):
        assert y.dtype == "float32"
        assert y.device == device


def test_operators_are_defined_by_the_standard_only() -> None:
    x = Tensor([1.0])
    with pytest.raises(TypeError, match="unsupported operand"):
        divmod(x, 2.0)
    for name in ("sum", "reshape", "astype"):  # functions of the namespace, not methods
        assert not hasattr(x, name)


def test_a_tensor_is_one_variable_for_sets_and_dicts() -> None:
    x, y = Tensor([1.0]), Tensor([1.0])
    assert len({x, y, x}) == 2
    assert {x: 1}[x] == 1


# -------------------------------------------------------------- from and to the other worlds


def test_numpy_gets_the_values_of_a_constant(device: Place) -> None:
    x = Tensor(make((2, 3), device))
    found = np.asarray(x)
    assert_close(found, xpnn.to_numpy(x))
    assert np.asarray(x, dtype="float64").dtype == np.float64


def test_numpy_shares_or_copies_as_it_is_told() -> None:
    a = np.asarray([1.0, 2.0])
    assert np.shares_memory(np.asarray(Tensor(a)), a)
    assert np.shares_memory(np.asarray(Tensor(a), copy=False), a)
    assert not np.shares_memory(np.array(Tensor(a), copy=True), a)
    with pytest.raises(ValueError, match="copy"):
        np.asarray(Tensor(a), dtype="float32", copy=False)


def test_a_tensor_on_the_tape_does_not_leave_it_unnoticed() -> None:
    y = Tensor([1.0], requires_grad=True) * 2.0
    for leave in (np.asarray, np.from_dlpack, lambda t: np.concatenate([t])):
        with pytest.raises(GraphError, match=r"would leave the tape unnoticed.*x\.detach\(\)"):
            leave(y)
    assert_close(np.asarray(y.detach()), np.asarray([2.0], dtype="float32"))
    assert_close(xpnn.to_numpy(y), np.asarray([2.0], dtype="float32"))


def test_making_arrays_of_tensors_does_not_leave_the_tape_unnoticed() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    for leave in (ops.from_dlpack, lambda t: ops.asarray([t[0], t[1]])):
        try:
            found = leave(x)
        except (GraphError, BufferError):
            continue
        assert found.requires_grad


@pytest.mark.parametrize("f", [np.sin, np.add, np.matmul, np.isnan], ids=lambda f: f.__name__)
def test_a_numpy_ufunc_of_a_tensor_is_an_error(f: Any) -> None:
    x = Tensor(np.ones((2, 2)))
    with pytest.raises(TypeError, match="does not support ufuncs"):
        f(*(x,) * f.nin)


def test_dlpack_to_and_from_numpy() -> None:
    a = np.asarray([1.0, 2.0])
    assert np.shares_memory(np.from_dlpack(Tensor(a)), a)
    x = ops.from_dlpack(a)
    assert isinstance(x, Tensor)
    assert np.shares_memory(x.data, a)
    assert Tensor(a).__dlpack_device__() == a.__dlpack_device__()


@pytest.mark.libraries
def test_dlpack_to_and_from_torch() -> None:
    torch = pytest.importorskip("torch")
    usable("torch:cpu")
    a = np.asarray([1.0, 2.0])
    shared = torch.from_dlpack(Tensor(a))
    shared[0] = 5.0
    assert a[0] == 5.0
    assert_close(np.from_dlpack(Tensor(shared)), a)
    x = ops.from_dlpack(torch.ones(3, dtype=torch.float64), device="torch:cpu")
    assert x.device == "torch:cpu"
    assert_close(x, np.ones(3))


def test_one_element_becomes_a_python_scalar(device: Place) -> None:
    one = Tensor(on(device, np.asarray(2.5, dtype="float32")))
    whole = Tensor(on(device, np.asarray(3, dtype="int32")))
    assert float(one) == 2.5
    assert int(one) == 2
    assert complex(one) == 2.5
    assert bool(one) is True
    assert one.item() == 2.5
    assert (type(one.item()), type(whole.item())) == (float, int)
    assert operator.index(whole) == 3
    assert [10, 11, 12, 13][whole] == 13
    assert range(5)[whole] == 3


def test_several_elements_do_not_become_a_python_scalar() -> None:
    x = Tensor([1.0, 2.0])
    with pytest.raises(ShapeError, match=r"item\(\): expected one element, got shape \(2,\)"):
        x.item()
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)
    for convert in (float, int, complex):
        with pytest.raises(TypeError, match="scalar"):
            convert(x)
    with pytest.raises(TypeError, match="index"):
        operator.index(Tensor(1.0))


def test_iteration_and_length(device: Place) -> None:
    x = Tensor(make((3, 2), device))
    assert len(x) == 3
    rows = list(x)
    assert len(rows) == 3
    for row, expected in zip(rows, xpnn.to_numpy(x), strict=True):
        assert_close(xpnn.to_numpy(row), expected)
    assert [float(v) for v in Tensor([1.0, 2.0])] == [1.0, 2.0]


def test_iteration_is_recorded() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    a, b = x
    (a * b).backward()
    assert_close(x.grad, np.asarray([2.0, 1.0], dtype="float32"))


def test_a_tensor_without_axes_has_no_length() -> None:
    with pytest.raises(TypeError, match="len"):
        len(Tensor(1.0))
    with pytest.raises(TypeError, match="iteration over a Tensor without axes"):
        iter(Tensor(1.0))


# ------------------------------------------------------------------------------------- repr


def test_repr_shows_values_dtype_and_tape() -> None:
    assert repr(Tensor([1.0, 2.0])) == "Tensor([1., 2.], dtype=float32)"
    assert repr(Tensor(1)) == "Tensor(1, dtype=int64)"
    assert repr(Tensor([True])) == "Tensor([ True], dtype=bool)"
    x = Tensor(np.asarray([1.0]), requires_grad=True)
    assert repr(x) == "Tensor([1.], dtype=float64, requires_grad=True)"
    assert repr(x * 2.0) == "Tensor([2.], dtype=float64, requires_grad=True)"
    assert repr(ops.zeros((0, 3))) == "Tensor([], shape=(0, 3), dtype=float32)"


def test_repr_of_a_matrix_is_aligned() -> None:
    assert repr(Tensor([[1, 2], [3, 4]])) == "Tensor([[1, 2],\n        [3, 4]], dtype=int64)"


def test_repr_names_another_device(device: Place) -> None:
    text = repr(Tensor(on(device, np.asarray([1.0], dtype="float32"))))
    assert text.startswith("Tensor([1.], dtype=float32")
    assert ("device=" in text) == (device != "cpu")
    assert device == "cpu" or f"device='{device}" in text


def test_repr_of_an_array_that_is_too_long_is_short() -> None:
    assert "..." in repr(Tensor(np.zeros(10_000)))
    assert len(repr(Tensor(np.zeros(10_000)))) < 200


# -------------------------------------------------------------------------- copies and files


@pytest.mark.parametrize(
    "twin",
    [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_of_a_variable_is_another_variable(twin: Any) -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = twin(x)
    assert y.requires_grad
    assert not np.shares_memory(x.data, y.data)
    ops.sum(x * y * y).backward()
    assert_close(x.grad, np.asarray([1.0, 4.0], dtype="float32"))
    assert_close(y.grad, np.asarray([2.0, 8.0], dtype="float32"))
    assert not twin(Tensor([1.0])).requires_grad


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_a_copy_lies_on_the_same_device(twin: Any, device: Place) -> None:
    x = Tensor(make((2,), device))
    assert twin(x).device == device
    assert_close(twin(x), x)


def test_a_pickled_tensor_on_the_tape_comes_back_as_a_constant() -> None:
    y = Tensor([1.0], requires_grad=True) * 2.0
    again = pickle.loads(pickle.dumps(y))
    assert not again.requires_grad
    assert_close(again, y)


def test_a_deep_copy_keeps_what_is_one_object_one() -> None:
    x = Tensor([1.0], requires_grad=True)
    a, b = copy.deepcopy([x, x])
    assert a is b


# ------------------------------------------------------------------------------------ devices

PAIRS = [("cpu", "torch:cpu"), ("torch:cpu", "cpu"), ("cpu", "strict:device1")]


@pytest.mark.parametrize(("start", "end"), PAIRS)
def test_gradients_travel_back_to_the_device_they_came_from(start: str, end: str) -> None:
    usable(start)
    usable(end)
    x = Tensor(on(start, np.asarray([1.0, 2.0])), requires_grad=True)
    y = x.to_device(end)
    assert y.device == end
    ops.sum(y * y * y).backward()
    assert x.grad is not None
    assert x.grad.device == start
    assert_close(xpnn.to_numpy(x.grad), np.asarray([3.0, 12.0]))


@pytest.mark.parametrize(("start", "end"), PAIRS)
def test_second_derivatives_travel_between_devices(start: str, end: str) -> None:
    usable(start)
    usable(end)
    x = on(start, np.asarray([1.0, 2.0]))
    xpnn.check_grad(lambda x: ops.sin(xpnn.to_device(x, end)), x, order=2)


def test_a_move_to_where_it_is_does_nothing(device: Place) -> None:
    x = Tensor(make((2,), device))
    assert x.to_device(device) is x
    assert xpnn.to_device(x, x.device) is x


@pytest.mark.libraries
def test_a_move_that_loses_precision_gives_the_gradient_its_dtype_back() -> None:
    usable("jax:cpu")
    x = Tensor(np.asarray([1.0, 2.0]), requires_grad=True)
    ops.sum(x.to_device("jax:cpu") * 2.0).backward()
    assert_close(x.grad, np.asarray([2.0, 2.0]))


@pytest.mark.parametrize("name", ["torch:cpu", "jax:cpu", "strict:device1"])
def test_two_libraries_do_not_mix(name: str) -> None:
    here, there = Tensor([1.0, 2.0]), Tensor(make((2,), usable(name)))
    for mix in (
        lambda: here + there,
        lambda: there * here,
        lambda: here @ there,
        lambda: ops.where(here > 0, here, there),
        lambda: ops.concat([here, there]),
        lambda: here + there.data,
        lambda: np.ones(2, dtype="float32") * there,
        lambda: here.__setitem__(0, there[0]),
    ):
        with pytest.raises(DeviceError, match=r"arrays of two libraries meet: .*Move one of them"):
            mix()


def test_two_devices_of_a_library_do_not_mix() -> None:
    usable("strict:device1")
    a, b = ops.ones(2, device="strict:device1"), ops.ones(2, device="strict:device2")
    with pytest.raises((DeviceError, ValueError, RuntimeError), match="device"):
        a + b


def test_a_move_to_an_unknown_device_is_refused() -> None:
    with pytest.raises(DeviceError, match="unknown device 'tpu'"):
        Tensor([1.0]).to_device("tpu")


# -------------------------------------------------------------------------------- namespace


def test_the_namespace_of_a_tensor_is_ops(device: Place) -> None:
    x = Tensor(make((2,), device))
    assert x.__array_namespace__() is ops
    assert xpnn.array_namespace(x) is ops
    assert xpnn.array_namespace(x, x.data, 1.0, None) is ops


def test_the_namespace_of_every_version_of_the_standard() -> None:
    x = Tensor([1.0])
    for version in ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12"):
        assert x.__array_namespace__(api_version=version) is ops
    with pytest.raises(ValueError, match=r"'2020\.12' is not one of 2021\.12"):
        x.__array_namespace__(api_version="2020.12")


def standardised(x: Any, axis: int = -1) -> Any:
    """Written as a stranger would, against the standard alone."""
    compat = pytest.importorskip("array_api_compat")
    xp = compat.array_namespace(x)
    mean = xp.mean(x, axis=axis, keepdims=True)
    scale = xp.sqrt(xp.mean((x - mean) ** 2, axis=axis, keepdims=True) + 1e-6)
    masked = xp.where(x > mean, x, xp.zeros_like(x))
    weights = xp.linspace(0.0, 1.0, x.shape[axis], dtype=x.dtype, device=compat.device(x))
    return xp.sum((x - mean) / scale * weights + masked, axis=axis)


def test_a_function_written_against_the_standard_runs_on_tensors(device: Place) -> None:
    x = make((2, 4), device, double(device))
    found = standardised(Tensor(x))
    assert isinstance(found, Tensor)
    assert found.device == device
    assert_close(xpnn.to_numpy(found), standardised(xpnn.to_numpy(x)), rtol=1e-4)


def test_a_function_written_against_the_standard_has_derivatives() -> None:
    xpnn.check_grad(standardised, make((2, 4), dtype="float64"), order=2)


def test_functions_of_array_api_compat_know_tensors() -> None:
    compat = pytest.importorskip("array_api_compat")
    x = Tensor([1.0, 2.0])
    assert compat.is_array_api_obj(x)
    assert compat.array_namespace(x, Tensor([1.0])) is ops
    assert compat.device(x) == "cpu"
    assert compat.size(x) == 2
    assert compat.to_device(x, "cpu") is x


def test_functions_of_array_api_extra_run_on_tensors() -> None:
    extra = pytest.importorskip("array_api_extra")
    x = Tensor(np.asarray([[1.0, 2.0, 4.0], [0.5, 1.0, -1.0]]))
    assert_close(extra.cov(x), np.cov(x.data))
    assert_close(extra.kron(x, x), np.kron(x.data, x.data))
    assert_close(extra.pad(x, 1), np.pad(x.data, 1))
