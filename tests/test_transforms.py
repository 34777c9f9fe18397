"""grad, value_and_grad, vjp and check_grad: derivatives of functions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import Place, assert_close, double, make, on

import xpnn
from xpnn import Tensor, check_grad, grad, ops, value_and_grad, vjp
from xpnn.autograd import GradientError, apply
from xpnn.errors import DTypeError, ShapeError, XpnnError
from xpnn.primitives.base import Primitive, primitive

X = np.asarray([0.5, -1.0, 2.0])
A = np.asarray([[2.0, 1.0, 0.0], [0.5, 3.0, 1.0], [0.0, -1.0, 4.0]])


def cubes(x: Any) -> Any:
    return ops.sum(x * x * x)


def quadratic(x: Any) -> Any:
    return x @ A @ x / 2.0


# ---------------------------------------------------------------- what goes in comes out


def test_raw_arrays_give_raw_gradients() -> None:
    value, slope = value_and_grad(cubes)(X)
    assert not isinstance(value, Tensor)
    assert type(slope) is np.ndarray
    assert_close(value, np.sum(X**3))
    assert_close(slope, 3 * X**2)


def test_raw_arrays_without_axes_give_raw_gradients() -> None:
    value, slope = value_and_grad(lambda x: x * x)(np.asarray(3.0))
    assert not isinstance(value, Tensor)
    assert not isinstance(slope, Tensor)
    assert (slope.shape, slope.dtype, float(slope)) == ((), np.float64, 6.0)


def test_tensors_give_tensors_off_the_tape() -> None:
    value, slope = value_and_grad(cubes)(Tensor(X))
    assert isinstance(slope, Tensor)
    assert isinstance(value, Tensor)
    assert not slope.requires_grad
    assert not value.requires_grad
    assert_close(slope, 3 * X**2)


def test_variables_give_tensors_that_can_be_differentiated() -> None:
    x = Tensor(X, requires_grad=True)
    slope = grad(cubes)(x)
    assert slope.requires_grad
    assert x.grad is None
    ops.sum(slope).backward()
    assert_close(x.grad, 6 * X)


def test_gradients_lie_where_the_arguments_lie(device: Place) -> None:
    dtype = double(device)
    x = make((3,), device, dtype)
    slope = grad(cubes)(x)
    assert xpnn.array_namespace(slope) is xpnn.array_namespace(x)
    assert_close(xpnn.to_numpy(slope), 3 * xpnn.to_numpy(x) ** 2, rtol=1e-5)
    y, pullback = vjp(ops.exp, x)
    pulled = pullback(on(device, np.ones(3, dtype=dtype)))
    assert_close(xpnn.to_numpy(pulled), xpnn.to_numpy(y), rtol=1e-5)


def test_python_scalars_can_be_differentiated() -> None:
    assert float(grad(lambda x: x * x)(3.0)) == 6.0


def test_the_name_and_the_docstring_of_a_function_stay() -> None:
    def energy(x: Any) -> Any:
        """In joules."""

    for f in (grad(energy), value_and_grad(energy), xpnn.checkpoint(energy)):
        assert (f.__name__, f.__doc__) == ("energy", "In joules.")


# ----------------------------------------------------------------- arguments and results


def weighted(x: Any, w: Any, scale: float = 1.0) -> Any:
    return ops.sum(x * w * w) * scale


def test_argnums_choose_the_arguments() -> None:
    w = np.asarray([1.0, 2.0, 3.0])
    assert_close(grad(weighted)(X, w), w**2)
    assert_close(grad(weighted, argnums=1)(X, w), 2 * X * w)
    assert_close(grad(weighted, argnums=-1)(X, w), 2 * X * w)
    both = grad(weighted, argnums=(1, 0))(X, w)
    assert isinstance(both, tuple)
    assert_close(both, (2 * X * w, w**2))
    assert_close(grad(weighted, argnums=(1,))(X, w), (2 * X * w,))


def test_keywords_are_handed_on() -> None:
    assert_close(grad(weighted)(X, np.ones(3), scale=5.0), np.full(3, 5.0))


def test_one_argument_may_be_given_twice() -> None:
    x = Tensor(X, requires_grad=True)
    dx, dy = grad(lambda x, y: ops.sum(x * x * y), argnums=(0, 1))(x, x)
    assert_close((dx, dy), (2 * X**2, X**2))


def test_has_aux_hands_something_else_through() -> None:
    def f(x: Any) -> Any:
        y = x * x
        return ops.sum(y), {"squares": y, "name": "f"}

    (value, aux), slope = value_and_grad(f, has_aux=True)(X)
    assert_close(value, np.sum(X**2))
    assert_close(slope, 2 * X)
    assert aux["name"] == "f"
    assert_close(aux["squares"], X**2)


def test_aux_of_raw_arrays_is_raw_and_off_the_tape() -> None:
    (_, aux), _ = value_and_grad(lambda x: (ops.sum(x), x * 2.0), has_aux=True)(X)
    assert type(aux) is np.ndarray
    (_, (one, two)), _ = value_and_grad(lambda x: (ops.sum(x), (x * 2.0, x)), has_aux=True)(X)
    for part in (one, two):
        assert not getattr(part, "requires_grad", False)


def test_an_argument_that_does_not_matter_has_gradient_zero() -> None:
    dx, dy = grad(lambda x, y: ops.sum(x), argnums=(0, 1))(X, np.ones((2, 2), dtype="float32"))
    assert_close(dx, np.ones(3))
    assert_close(dy, np.zeros((2, 2), dtype="float32"))


@pytest.mark.parametrize(
    "value", [1.0, np.asarray(1.0), Tensor(1.0)], ids=["float", "raw", "Tensor"]
)
def test_a_function_that_returns_a_constant_has_gradient_zero(value: Any) -> None:
    assert_close(grad(lambda x: value)(X), np.zeros(3))
    assert_close(vjp(lambda x: value, X)[1](np.asarray(1.0)), np.zeros(3))


def test_a_function_of_steps_has_gradient_zero() -> None:
    assert_close(grad(lambda x: ops.sum(ops.floor(x)))(X), np.zeros(3))


def test_variables_that_a_function_closes_over_collect_nothing() -> None:
    w = Tensor(X, requires_grad=True)
    assert_close(grad(lambda x: ops.sum(x * w))(np.ones(3)), X)
    assert w.grad is None


def test_a_gradient_of_many_elements_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"must return one element, got shape \(3,\); see vjp"):
        grad(lambda x: x * 2.0)(X)


def test_one_element_in_some_axes_is_enough() -> None:
    assert_close(grad(lambda x: ops.sum(x, keepdims=True))(X), np.ones(3))


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_an_argument_of_integers_is_refused(dtype: str) -> None:
    with pytest.raises(DTypeError, match=f"cannot differentiate .* argument of dtype {dtype}"):
        grad(ops.sum)(np.ones(3, dtype=dtype))


def test_a_missing_argument_is_an_error() -> None:
    with pytest.raises(IndexError):
        grad(cubes, argnums=1)(X)


# -------------------------------------------------------------------------- higher orders


def test_derivatives_nest_to_the_third_order() -> None:
    f = ops.sin
    x = np.asarray(0.7)
    for expected in (np.cos(x), -np.sin(x), -np.cos(x)):
        f = grad(f)
        assert float(f(x)) == pytest.approx(float(expected), rel=1e-12)


def test_derivatives_nest_on_every_library(device: Place) -> None:
    x = make((), device, double(device), "positive")
    third = grad(grad(grad(lambda x: ops.exp(x) * x)))(x)
    v = float(xpnn.to_numpy(x))
    assert float(xpnn.to_numpy(third)) == pytest.approx((v + 3) * np.exp(v), rel=1e-5)


def test_mixed_second_derivatives() -> None:
    def f(x: Any, y: Any) -> Any:
        return x * x * y * y * y

    x, y = np.asarray(2.0), np.asarray(3.0)
    assert float(grad(grad(f, 0), 1)(x, y)) == 6 * 2.0 * 9.0
    assert float(grad(grad(f, 1), 0)(x, y)) == 6 * 2.0 * 9.0
    assert float(grad(grad(f, 1), 1)(x, y)) == 6 * 4.0 * 3.0


def test_an_inner_gradient_sees_the_variables_it_closes_over() -> None:
    """d/dw of d/dx (w x^2) at x = 3 is 2 x = 6, also where x is a constant."""
    w = np.asarray(2.0)
    x = Tensor(np.asarray(3.0))
    assert float(grad(lambda w: grad(lambda x: w * x * x)(x))(w)) == 6.0


def test_an_inner_gradient_at_an_outer_variable_does_not_confuse_the_two() -> None:
    """x d/dy (x + y) at y = 1 is x, whose derivative is 1: no perturbation is taken for another."""
    one, x = Tensor(np.asarray(1.0)), np.asarray(3.0)
    assert float(grad(lambda x: x * grad(lambda y: x + y)(one))(x)) == 1.0
    assert float(grad(lambda x: x * grad(lambda y: x * y)(x))(x)) == 6.0


def test_a_gradient_penalty_reaches_the_weights() -> None:
    """d/dw of |d/dx sum(w x^2)|^2 = |2 w x|^2, where x is a batch of constants."""
    w = Tensor(np.asarray(2.0), requires_grad=True)
    slope = grad(lambda x: ops.sum(w * x * x))(Tensor(X))
    ops.sum(slope * slope).backward()
    assert_close(w.grad, np.asarray(np.sum(8 * 2.0 * X**2)))


def test_the_gradient_of_a_gradient_step() -> None:
    """The loss after a step of gradient descent, differentiated by the rate: -|grad|^2 at 0."""

    def after(rate: Any, x: Any) -> Any:
        return quadratic(x - rate * grad(quadratic)(x))

    slope = grad(after)(np.asarray(0.0), Tensor(X, requires_grad=True))
    gradient = (A + A.T) @ X / 2
    assert float(slope) == pytest.approx(-float(gradient @ gradient), rel=1e-12)


def test_a_hessian_vector_product_is_that_of_the_closed_form() -> None:
    v = np.asarray([1.0, -2.0, 0.5])
    hvp = grad(lambda x: ops.sum(grad(quadratic)(x) * v))(X)
    assert_close(hvp, (A + A.T) @ v / 2, rtol=1e-12)


def test_a_hessian_vector_product_of_cubes() -> None:
    v = np.asarray([1.0, -2.0, 0.5])
    _, pullback = vjp(grad(cubes), Tensor(X, requires_grad=True))
    assert_close(pullback(v), 6 * X * v, rtol=1e-12)


def test_a_jacobian_row_by_row() -> None:
    _, pullback = vjp(lambda x: ops.asarray(A) @ ops.sin(x), X)
    rows = [pullback(row) for row in np.eye(3)]
    assert_close(np.stack(rows), A * np.cos(X))


def test_a_hessian_row_by_row() -> None:
    _, pullback = vjp(grad(lambda x: ops.sum(ops.exp(x)) * x[0]), Tensor(X, requires_grad=True))
    hessian = np.stack([xpnn.to_numpy(pullback(row)) for row in np.eye(3)])
    e = np.exp(X)
    expected = np.diag(e * X[0])
    expected[0] += e
    expected[:, 0] += e
    assert_close(hessian, expected, rtol=1e-12)


# ------------------------------------------------------------------------------------ vjp


def test_a_pullback_can_be_called_again() -> None:
    y, pullback = vjp(lambda x: x * x, X)
    assert_close(y, X**2)
    first = pullback(np.ones(3))
    assert_close(pullback(np.ones(3)), first)
    assert_close(pullback(np.full(3, 10.0)), 20 * X)
    assert_close(first, 2 * X)


def test_vjp_of_several_arguments_and_results() -> None:
    y = np.asarray([1.0, 2.0, 4.0])
    outs, pullback = vjp(lambda a, b: (a * b, ops.sum(a)), X, y)
    assert_close(outs, (X * y, np.sum(X)))
    da, db = pullback((np.ones(3), np.asarray(10.0)))
    assert_close((da, db), (y + 10.0, X))


class Pair(NamedTuple):
    square: Any
    total: Any


def test_vjp_of_a_named_tuple_gives_one() -> None:
    y, pullback = vjp(lambda a: Pair(a * a, ops.sum(a)), X)
    assert type(y) is Pair
    assert type(y.square) is np.ndarray
    assert not isinstance(y.total, Tensor)
    assert_close(pullback(Pair(np.ones(3), np.asarray(10.0))), 2 * X + 10.0)


def test_vjp_takes_none_for_a_result_without_a_gradient() -> None:
    _, pullback = vjp(lambda a: (a * a, ops.sum(a), ops.argmax(a)), X)
    assert_close(pullback((None, np.asarray(3.0), None)), np.full(3, 3.0))
    assert_close(pullback((None, None, None)), np.zeros(3))


def test_vjp_of_tensors_gives_tensors() -> None:
    y, pullback = vjp(lambda a: a * a, Tensor(X))
    assert isinstance(y, Tensor)
    assert isinstance(pullback(np.ones(3)), Tensor)
    assert not y.requires_grad


@pytest.mark.parametrize("x", [Tensor(X), X], ids=["Tensor", "raw"])
def test_a_pullback_can_be_differentiated_by_the_gradient_it_is_given(x: Any) -> None:
    _, pullback = vjp(lambda a: a * a * a, x)
    g = Tensor(np.ones(3), requires_grad=True)
    ops.sum(pullback(g) * np.asarray([1.0, 10.0, 100.0])).backward()
    assert_close(g.grad, 3 * X**2 * np.asarray([1.0, 10.0, 100.0]))


def test_a_pullback_refuses_another_shape_and_another_count() -> None:
    _, pullback = vjp(lambda a: a * a, X)
    with pytest.raises(ShapeError, match=r"expected shape \(3,\), got \(2,\)"):
        pullback(np.ones(2))
    _, pullback = vjp(lambda a: (a, a * a), X)
    with pytest.raises(ValueError, match="zip"):
        pullback((np.ones(3),))


def test_recording_is_as_it_was_after_an_exception() -> None:
    def fails(x: Any) -> Any:
        raise RuntimeError("inside")

    with xpnn.no_grad():
        with pytest.raises(RuntimeError, match="inside"):
            grad(fails)(X)
        assert not (Tensor(X, requires_grad=True) * 2.0).requires_grad


# ------------------------------------------------------------------- the checker is checked


def with_rule(*rules: Any) -> Primitive:
    """Return the product with these rules."""

    @primitive()
    def product(xp: Any, x: Any, w: Any, /) -> Any:
        return x * w

    return product.d(*rules)


def to_x(xp: Any, g: Any, w: Any) -> Any:
    return g * w


def to_w(xp: Any, g: Any, x: Any) -> Any:
    return g * x


W = np.asarray([1.5, 2.0, -3.0])


def test_a_right_rule_passes() -> None:
    check_grad(lambda x, w: apply(with_rule(to_x, to_w), (x, w)), X, W, order=3)


@pytest.mark.parametrize("factor", [1.001, 0.999, -1.0, 0.0, 2.0])
@pytest.mark.parametrize("argument", [0, 1])
def test_a_factor_in_a_rule_is_found(factor: float, argument: int) -> None:
    rules = [to_x, to_w]
    right = rules[argument]
    wrong = (lambda xp, g, w: right(xp, g, w) * factor, lambda xp, g, x: right(xp, g, x) * factor)
    rules[argument] = wrong[argument]
    with pytest.raises(GradientError, match=rf"argument {argument}: .* finite differences give"):
        check_grad(lambda x, w: apply(with_rule(*rules), (x, w)), X, W)


def test_a_rule_that_forgets_to_sum_over_broadcast_axes_is_found() -> None:
    with pytest.raises(GradientError, match=r"shape \(2, 3\) .* the argument \(3,\)"):
        check_grad(lambda x, w: apply(with_rule(to_x, to_w), (x, w)), X, np.ones((2, 3)))


def test_a_rule_that_changes_the_dtype_is_found() -> None:
    def single(xp: Any, g: Any, x: Any) -> Any:
        return xp.astype(g * 2.0, xp.float32)

    @primitive()
    def double_(xp: Any, x: Any, /) -> Any:
        return x * 2.0

    double_.d(single)
    with pytest.raises(GradientError, match=r"dtype float32, the argument .* float64"):
        check_grad(lambda x: apply(double_, (x,)), X)


def test_a_rule_that_forgets_the_conjugate_is_found() -> None:
    with pytest.raises(GradientError, match="finite differences"):
        check_grad(lambda x, w: apply(with_rule(to_x, to_w), (x, w)), X + 1j, W - 2j)


def test_a_rule_that_is_right_for_ones_alone_is_found() -> None:
    @primitive()
    def shares(xp: Any, x: Any, /) -> Any:
        e = xp.exp(x)
        return e / xp.sum(e)

    shares.d(lambda xp, g, y: g * 0.0)  # the sum of the outputs is constant
    with pytest.raises(GradientError, match="finite differences"):
        check_grad(lambda x: apply(shares, (x,)), X)


def test_a_second_derivative_that_is_wrong_is_found() -> None:
    @primitive()
    def cube(xp: Any, x: Any, /) -> Any:
        return x * x * x

    def frozen(xp: Any, g: Any, x: Any) -> Any:
        return g * 3.0 * xp.asarray(xpnn.to_numpy(x) ** 2)  # off the tape

    cube.d(frozen)
    check_grad(lambda x: apply(cube, (x,)), X)
    with pytest.raises(GradientError, match="order"):
        check_grad(lambda x: apply(cube, (x,)), X, order=2)


def test_a_gradient_error_is_an_assertion() -> None:
    assert issubclass(GradientError, AssertionError)
    assert issubclass(GradientError, XpnnError)


def test_a_check_in_single_precision_is_made_in_double() -> None:
    check_grad(lambda x: ops.exp(x), X.astype("float32"), order=2)


def test_a_check_on_every_library_with_double_precision(device: Place) -> None:
    if double(device) != "float64":
        pytest.skip("no float64")
    check_grad(lambda x, w: ops.sin(x) * w, on(device, X), on(device, W), order=2)
