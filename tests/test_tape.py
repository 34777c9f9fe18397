"""The tape: long chains, memory, pruning, several outputs, own primitives, checkpoints."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from helpers import Place, assert_close, make, on

import xpnn
from xpnn import Tensor, ops
from xpnn.autograd.record import apply, backward
from xpnn.autograd.tape import Slot
from xpnn.errors import DeviceError, DTypeError, GraphError, ShapeError
from xpnn.primitives.base import Implementation, Primitive, Rule, primitive
from xpnn.random import get_rng


def variable(*values: float, dtype: str = "float64") -> Tensor:
    return Tensor(np.asarray(values, dtype=dtype), requires_grad=True)


def array(x: Any) -> weakref.ref[Any]:
    """Return a weak reference to the raw array of a Tensor: dead once nothing keeps it."""
    return weakref.ref(x.data)


# -------------------------------------------------------------------------- long and deep


def test_a_chain_of_100_000_operations_needs_no_recursion() -> None:
    x = variable(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert_close(x.grad, np.asarray([1.0]))


def test_a_chain_of_100_000_operations_can_be_dropped_without_backward() -> None:
    x = variable(1.0)
    y = x
    for _ in range(100_000):
        y = y * 1.0
    del y
    assert x.grad is None


def test_a_chain_of_100_000_operations_can_be_dropped_with_its_graph_retained() -> None:
    y = x = variable(1.0)
    for _ in range(100_000):
        y = y * 1.0
    y.backward(retain_graph=True)
    del y
    assert_close(x.grad, np.asarray([1.0]))


def test_a_diamond_sums_the_gradients_of_all_its_ways() -> None:
    x = variable(3.0)
    a = x * 2.0
    b, c = a * a, a + 1.0
    (b * c + a).backward()  # 4 x^2 (2 x + 1) + 2 x
    assert_close(x.grad, np.asarray([24.0 * 9 + 8 * 3 + 2]))


def test_ways_are_counted_without_walking_each_of_them() -> None:
    x = variable(1.0)
    y = x
    for _ in range(60):  # 2^60 ways from y to x
        y = y + y
    y.backward()
    assert_close(x.grad, np.asarray([2.0**60]))


def test_a_variable_used_by_many_operations() -> None:
    x = variable(2.0)
    ops.sum(ops.stack([x * float(i) for i in range(50)])).backward()
    assert_close(x.grad, np.asarray([float(sum(range(50)))]))


def test_operations_that_depend_on_the_newest_first() -> None:
    x, w = variable(2.0), variable(5.0)
    old = x * x
    new = w * 3.0
    (new * old + old).backward()
    assert_close(x.grad, np.asarray([(15.0 + 1.0) * 4.0]))
    assert_close(w.grad, np.asarray([12.0]))


# ------------------------------------------------------------------- backward, once and again


def test_two_backward_calls_add_up() -> None:
    x = variable(3.0)
    (x * x).backward()
    (x * 5.0).backward()
    assert_close(x.grad, np.asarray([11.0]))


def test_two_backward_calls_add_up_after_the_gradient_was_read() -> None:
    x = variable(3.0)
    (x * x).backward()
    assert_close(x.grad, np.asarray([6.0]))
    (x * x).backward()
    assert_close(x.grad, np.asarray([12.0]))
    assert x.grad is not None
    assert not x.grad.requires_grad


def test_a_gradient_that_two_variables_share_is_not_added_to_in_place() -> None:
    x, y = variable(1.0, 2.0), variable(3.0, 4.0)
    upstream = np.asarray([1.0, 10.0])
    (x + y).backward(upstream)
    (x * 2.0).backward(upstream)
    assert_close(x.grad, np.asarray([3.0, 30.0]))
    assert_close(y.grad, np.asarray([1.0, 10.0]))
    assert_close(upstream, np.asarray([1.0, 10.0]))


def test_a_second_backward_through_freed_values_is_refused() -> None:
    x = variable(2.0)
    y = x * x
    y.backward()
    with pytest.raises(GraphError, match=r"second time through 'multiply'.*retain_graph=True"):
        y.backward()


def test_a_second_backward_through_a_freed_joint_rule_is_refused() -> None:
    x = variable(2.0)
    y = ops.sum(ops.concat([x, x]))
    y.backward()
    with pytest.raises(GraphError, match=r"second time through 'sum'"):
        y.backward()
    joined = ops.concat([x, x])
    joined.backward([1.0, 1.0])
    with pytest.raises(GraphError, match=r"second time through 'concat'"):
        joined.backward([1.0, 1.0])


def test_retain_graph_allows_another_pass() -> None:
    x = variable(2.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert_close(x.grad, np.asarray([8.0]))
    with pytest.raises(GraphError, match="second time"):
        y.backward()


def test_create_graph_keeps_the_graph_and_records_the_gradient() -> None:
    x = variable(2.0)
    y = x * x * x
    y.backward(create_graph=True)
    slope = x.grad
    assert slope is not None
    assert slope.requires_grad
    x.grad = None
    slope.backward()
    assert_close(x.grad, np.asarray([12.0]))


def test_backward_without_a_graph_is_refused() -> None:
    with pytest.raises(GraphError, match="not computed from a variable, so there is no graph"):
        Tensor(1.0).backward()
    with xpnn.no_grad():
        y = variable(1.0) * 2.0
    with pytest.raises(GraphError, match="made under no_grad"):
        y.backward()


def test_backward_of_several_elements_needs_a_gradient_of_their_shape() -> None:
    y = variable(1.0, 2.0) * 2.0
    with pytest.raises(ShapeError, match=r"of shape \(2,\) needs the gradient"):
        y.backward()
    with pytest.raises(ShapeError, match=r"expected shape \(2,\), got \(3,\)"):
        y.backward(np.ones(3))


def test_backward_takes_a_list_and_a_tensor_as_gradient() -> None:
    x = variable(1.0, 2.0)
    (x * 1.0).backward([3.0, 4.0])
    (x * 1.0).backward(Tensor(np.asarray([10.0, 10.0])))
    assert_close(x.grad, np.asarray([13.0, 14.0]))


@pytest.mark.libraries
def test_backward_refuses_a_gradient_of_another_library() -> None:
    pytest.importorskip("torch")
    y = variable(1.0, 2.0) * 2.0
    with pytest.raises(DeviceError, match="arrays of two libraries meet"):
        y.backward(xpnn.asarray([1.0, 2.0], device="torch:cpu"))


def test_a_gradient_has_the_dtype_of_its_variable_whatever_it_was_started_with() -> None:
    x = variable(1.0, 2.0, dtype="float32")
    (x * 2.0).backward(np.ones(2))
    assert_close(x.grad, np.asarray([2.0, 2.0], dtype="float32"))


def test_backward_from_a_variable_itself() -> None:
    x = variable(1.0, 2.0)
    x.backward([1.0, 5.0])
    assert_close(x.grad, np.asarray([1.0, 5.0]))


def test_a_backward_pass_records_nothing_unless_asked_to() -> None:
    x = variable(2.0)
    (x * x).backward()
    assert x.grad is not None
    assert not x.grad.requires_grad


# ------------------------------------------------------------------------------- memory


def test_what_a_rule_does_not_name_is_not_kept() -> None:
    x = variable(1.0, 2.0)
    hidden = x * 2.0
    kept = array(hidden)
    total = hidden + 1.0  # add keeps nothing
    del hidden
    assert kept() is None
    total.backward([1.0, 1.0])
    assert_close(x.grad, np.asarray([2.0, 2.0]))


def test_the_exponential_keeps_its_output_only() -> None:
    x = variable(1.0, 2.0)
    argument = x * 1.0
    before = array(argument)
    y = ops.exp(argument)
    after = array(y)
    del argument
    total = y + 0.0
    del y
    assert before() is None
    assert after() is not None
    total.backward([1.0, 1.0])
    assert after() is None


def test_a_sum_keeps_no_array() -> None:
    x = variable(1.0, 2.0)
    argument = x * 1.0
    kept = array(argument)
    total = ops.sum(argument)
    del argument
    assert kept() is None
    total.backward()


def test_a_product_with_a_constant_keeps_the_constant_alone() -> None:
    x, constant = variable(1.0, 2.0), np.asarray([3.0, 4.0])
    argument = x + 0.0
    before, other = array(argument), weakref.ref(constant)
    y = argument * constant
    del argument, constant
    assert before() is None
    assert other() is not None
    y.backward([1.0, 1.0])
    assert other() is None


def test_everything_that_was_kept_dies_with_the_backward_pass() -> None:
    x = variable(1.0, 2.0)
    kept = []
    y = x
    for _ in range(5):
        y = ops.sin(y)
        kept.append(array(y))
    total = ops.sum(y)
    del y
    assert sum(ref() is not None for ref in kept) == 4  # the last one was only summed
    total.backward()
    assert [ref() for ref in kept] == [None] * 5


def test_everything_that_was_kept_dies_with_the_output_if_backward_is_not_called() -> None:
    x = variable(1.0, 2.0)
    kept = []
    y = x
    for _ in range(5):
        y = ops.sin(y)
        kept.append(array(y))
    gc.disable()  # by reference counts alone
    try:
        del y
        assert [ref() for ref in kept] == [None] * 5
    finally:
        gc.enable()


def test_memory_is_freed_while_the_backward_pass_goes_on() -> None:
    alive: list[int] = []
    kept: list[weakref.ref[Any]] = []

    @primitive()
    def doubled(xp: Any, x: Any, /) -> Any:
        return x * 2.0

    def rule(xp: Any, g: Any, x: Any) -> Any:
        del x
        alive.append(sum(ref() is not None for ref in kept))
        return g * 2.0

    doubled.d(rule)
    y: Any = variable(1.0)
    for _ in range(6):
        y = apply(doubled, (y,))
        kept.append(array(y))
    y.backward()
    # y is alive all along; a step finds alive what it and the steps before it have kept
    assert alive == [6, 5, 4, 3, 2, 1]


def test_the_backward_pass_of_a_long_chain_needs_a_few_arrays_at_a_time() -> None:
    megabyte = 2**17
    x = Tensor(np.ones(megabyte), requires_grad=True)
    y = x
    for _ in range(20):
        y = ops.sin(y)
    total = ops.sum(y)
    del y
    tracemalloc.start()
    try:
        total.backward()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * 2**20  # 20 arrays were kept, and are freed; a gradient and a product are made


# ------------------------------------------------------------------------------- pruning


def counting(counts: dict[str, int]) -> Primitive:
    """Return a product that counts how often each of its gradients is computed."""

    @primitive(broadcasts=True)
    def product(xp: Any, x: Any, w: Any, /) -> Any:
        return x * w

    def to_x(xp: Any, g: Any, w: Any) -> Any:
        counts["x"] += 1
        return g * w

    def to_w(xp: Any, g: Any, x: Any) -> Any:
        counts["w"] += 1
        return g * x

    return product.d(to_x, to_w)


def joint(seen: list[list[bool]]) -> Primitive:
    """Return a product with a joint rule that notes which gradients it was asked for."""

    @primitive(broadcasts=True)
    def product(xp: Any, x: Any, w: Any, /) -> Any:
        return x * w

    @product.vjp
    def _vjp(xp: Any, g: Any, needs: list[bool], x: Any, w: Any) -> Any:
        seen.append(list(needs))
        return g * w if needs[0] else None, g * x if needs[1] else None

    return product


def test_a_gradient_that_nobody_asked_for_is_not_computed() -> None:
    counts = {"x": 0, "w": 0}
    product = counting(counts)
    w = variable(2.0, 3.0)
    dx = xpnn.grad(lambda x: ops.sum(apply(product, (x, w))))(np.ones(2))
    assert_close(dx, np.asarray([2.0, 3.0]))
    assert counts == {"x": 1, "w": 0}
    assert w.grad is None


def test_a_joint_rule_is_told_which_gradients_are_wanted() -> None:
    seen: list[list[bool]] = []
    product = joint(seen)
    w = variable(2.0, 3.0)
    dx = xpnn.grad(lambda x: ops.sum(apply(product, (x, w))))(np.ones(2))
    assert_close(dx, np.asarray([2.0, 3.0]))
    assert seen == [[True, False]]


def test_constants_get_no_gradient() -> None:
    counts, seen = {"x": 0, "w": 0}, []
    x, w = variable(1.0, 1.0), Tensor(np.asarray([2.0, 3.0]))
    ops.sum(apply(counting(counts), (x, w))).backward()
    ops.sum(apply(joint(seen), (x, w))).backward()
    assert counts == {"x": 1, "w": 0}
    assert seen == [[True, False]]
    assert_close(x.grad, np.asarray([4.0, 6.0]))


def test_the_pass_stops_at_the_oldest_that_is_wanted() -> None:
    counts = {"x": 0, "w": 0}
    product = counting(counts)
    x, w = variable(1.0), variable(2.0)
    early = apply(product, (x, w))
    dy = xpnn.grad(lambda y: ops.sum(y * y))(early)
    assert_close(dy, np.asarray([4.0]))
    assert counts == {"x": 0, "w": 0}


# -------------------------------------------------------------- primitives with several outputs


@primitive()
def split_in_two(xp: Any, x: Any, /, *, at: int = 1) -> Any:
    return x[:at], x[at:] * 3.0


@split_in_two.vjp
def _split_vjp(xp: Any, g: Any, needs: Any, x_shape: Any, at: int) -> Any:
    a, b = g
    some = a if a is not None else b
    parts = [
        xp.zeros((at,), dtype=some.dtype) if a is None else a,
        xp.zeros((x_shape[0] - at,), dtype=some.dtype) if b is None else b * 3.0,
    ]
    return (xp.concat(parts),)


@pytest.mark.parametrize("used", ["first", "second", "both", "twice"])
def test_outputs_that_were_not_used_have_no_gradient(used: str) -> None:
    x = variable(1.0, 2.0, 4.0)
    a, b = apply(split_in_two, (x,))
    total = {
        "first": lambda: ops.sum(a * a),
        "second": lambda: ops.sum(b),
        "both": lambda: ops.sum(a * a) + ops.sum(b),
        "twice": lambda: ops.sum(b) + ops.sum(b * 2.0),
    }[used]()
    total.backward()
    first, second = [2.0, 0.0, 0.0], [0.0, 3.0, 3.0]
    expected = {
        "first": np.asarray(first),
        "second": np.asarray(second),
        "both": np.asarray(first) + second,
        "twice": 3 * np.asarray(second),
    }
    assert_close(x.grad, expected[used])


def test_primitives_with_several_outputs_have_higher_derivatives() -> None:
    def f(x: Any) -> Any:
        a, b = apply(split_in_two, (x * x,), {"at": 2})
        return ops.sum(a * a * a) * ops.sum(b)

    xpnn.check_grad(f, np.asarray([0.5, 1.0, 1.5]), order=3)


def test_the_outputs_of_one_call_are_places_of_their_own() -> None:
    a, b = apply(split_in_two, (variable(1.0, 2.0),))
    assert isinstance(a.vertex, Slot)
    assert a.vertex is not b.vertex
    assert (a.vertex.index, b.vertex.index, b.vertex.of) == (0, 1, 2)


# --------------------------------------------------------- own primitives: residuals, overlays


def test_a_rule_of_ones_own_for_each_argument() -> None:
    @primitive(broadcasts=True)
    def scaled(xp: Any, x: Any, s: Any, /, power: int = 2) -> Any:
        """x s^power."""
        return x * s**power

    scaled.d(
        lambda xp, g, s, power: g * s**power,
        lambda xp, g, x, s, power: g * x * power * s ** (power - 1),
    )

    def f(x: Any, s: Any) -> Any:
        return apply(scaled, (x, s), {"power": 3})

    xpnn.check_grad(f, np.asarray([[1.0, 2.0]]), np.asarray([[0.5], [1.5]]), order=3)
    assert scaled.name == "scaled"
    assert repr(scaled).startswith("<primitive scaled(x")


def test_an_argument_without_a_rule_passes_no_gradient() -> None:
    @primitive()
    def masked(xp: Any, x: Any, m: Any, /) -> Any:
        return x * m

    masked.d(lambda xp, g, m: g * m, None)
    x, m = variable(1.0, 2.0), variable(0.0, 1.0)
    ops.sum(apply(masked, (x, m))).backward()
    assert_close(x.grad, np.asarray([0.0, 1.0]))
    assert m.grad is None


def with_residual(calls: list[str]) -> Primitive:
    """Return x^3 whose forward function hands x^2 to its rule."""

    @primitive(residual=True)
    def cube(xp: Any, x: Any, /) -> Any:
        calls.append("forward")
        square = x * x
        return square * x, square

    @cube.vjp
    def _vjp(xp: Any, g: Any, needs: Any, res: Any) -> Any:
        calls.append("vjp")
        return (g * (res * 3.0),)

    return cube


def test_a_residual_goes_from_the_forward_function_to_the_rule() -> None:
    calls: list[str] = []
    cube, x = with_residual(calls), variable(2.0)
    y = apply(cube, (x,))
    assert_close(y, np.asarray([8.0]))
    y.backward()
    assert_close(x.grad, np.asarray([12.0]))
    assert calls == ["forward", "vjp"]


def test_a_residual_is_computed_again_for_a_recorded_backward_pass() -> None:
    calls: list[str] = []
    cube = with_residual(calls)
    xpnn.check_grad(lambda x: apply(cube, (x,)), np.asarray([0.5, 2.0]), order=3)
    x = variable(2.0)
    calls.clear()
    assert_close(xpnn.grad(xpnn.grad(lambda x: ops.sum(apply(cube, (x,)))))(x), np.asarray([12.0]))
    assert calls == ["forward", "forward", "vjp"]


def test_a_primitive_with_a_residual_gives_its_output_alone() -> None:
    cube = with_residual([])
    assert_close(apply(cube, (np.asarray([2.0]),)), np.asarray([8.0]))
    assert_close(cube(np, np.asarray([2.0])), np.asarray([8.0]))


def overlaid(calls: list[str]) -> Primitive:
    """Return a square with a kernel for NumPy, which takes arrays of two elements only."""

    @primitive()
    def squared(xp: Any, x: Any, /) -> Any:
        calls.append("standard")
        return x * x

    @squared.vjp
    def _vjp(xp: Any, g: Any, needs: Any, x: Any) -> Any:
        calls.append("standard vjp")
        return (g * (x * 2.0),)

    def forward(xp: Any, x: Any) -> Any:
        calls.append("kernel")
        return np.square(x), 2.0 * np.asarray(x)

    def vjp(xp: Any, g: Any, needs: Any, res: Any) -> Any:
        calls.append("kernel vjp")
        return (np.multiply(g, res),)

    kernel = Implementation(forward, residual=True)
    kernel.joint = Rule(vjp, squared.arrays, squared.variadic)
    kernel.accepts = lambda x: x.shape == (2,)
    squared.overlays[xpnn.array_namespace(np.ones(1))] = kernel
    return squared


def test_a_kernel_stands_in_for_the_standard_version() -> None:
    calls: list[str] = []
    squared, x = overlaid(calls), variable(2.0, 3.0)
    ops.sum(apply(squared, (x,))).backward()
    assert_close(x.grad, np.asarray([4.0, 6.0]))
    assert calls == ["kernel", "kernel vjp"]


def test_what_a_kernel_does_not_accept_goes_to_the_standard_version() -> None:
    calls: list[str] = []
    squared, x = overlaid(calls), variable(2.0, 3.0, 4.0)
    ops.sum(apply(squared, (x,))).backward()
    assert_close(x.grad, np.asarray([4.0, 6.0, 8.0]))
    assert calls == ["standard", "standard vjp"]


def test_a_kernel_stands_in_for_raw_arrays_too() -> None:
    calls: list[str] = []
    squared = overlaid(calls)
    xp = xpnn.array_namespace(np.ones(1))
    assert_close(apply(squared, (np.asarray([2.0, 3.0]),)), np.asarray([4.0, 9.0]))
    assert_close(squared(xp, np.asarray([2.0, 3.0])), np.asarray([4.0, 9.0]))
    assert_close(squared(xp, np.asarray([2.0])), np.asarray([4.0]))
    assert calls == ["kernel", "kernel", "standard"]


def test_a_recorded_backward_pass_takes_the_standard_rule_of_a_kernel() -> None:
    calls: list[str] = []
    squared, x = overlaid(calls), variable(2.0, 3.0)
    apply(squared, (x,)).backward([1.0, 1.0], create_graph=True)
    assert calls == ["kernel", "standard vjp"]
    xpnn.check_grad(lambda x: apply(squared, (x,)), np.asarray([0.5, 2.0]), order=3)


def test_a_kernel_may_stand_in_for_a_primitive_with_a_rule_for_each_argument() -> None:
    @primitive(broadcasts=True)
    def product(xp: Any, x: Any, w: Any, /) -> Any:
        return x * w

    product.d(lambda xp, g, w: g * w, lambda xp, g, x: g * x)
    kernel = Implementation(lambda xp, x, w: np.multiply(x, w))
    kernel.joint = Rule(lambda xp, g, needs, x, w: (g * w, g * x), product.arrays, False)
    product.overlays[xpnn.array_namespace(np.ones(1))] = kernel
    a, b = np.asarray([1.0, 2.0]), np.asarray([3.0, 4.0])
    xpnn.check_grad(lambda x, w: apply(product, (x, w)), a, b, order=2)


def test_a_rule_may_call_another_primitive_and_stays_differentiable() -> None:
    @primitive()
    def outer(xp: Any, x: Any, /) -> Any:
        return xp.sum(x) * x

    outer.d(lambda xp, g, x: xp.sum(x) * g + split_in_two(xp, xp.full(x.shape, xp.sum(g * x)))[0])
    xpnn.check_grad(lambda x: apply(outer, (x[:1],)), np.asarray([2.0]), order=1)
    cube = with_residual([])

    @primitive()
    def fourth(xp: Any, x: Any, /) -> Any:
        return x * x * x * x

    fourth.d(lambda xp, g, x: g * 4.0 * cube(xp, x))
    xpnn.check_grad(lambda x: apply(fourth, (x,)), np.asarray([0.5, 2.0]), order=3)


# ----------------------------------------------------------- constants, scalars, raw arrays


def test_mixed_dtypes_give_each_variable_its_own() -> None:
    x = variable(1.0, 2.0, dtype="float32")
    y = x * np.asarray([3.0, 4.0])
    assert y.dtype == "float64"
    ops.sum(y).backward()
    assert_close(x.grad, np.asarray([3.0, 4.0], dtype="float32"))


SCALARS = [2, 2.0, True, np.float64(2.0), np.float32(2.0), np.int64(2), np.asarray(2.0)]


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda s: f"{type(s).__name__}")
def test_scalars_on_both_sides(scalar: Any) -> None:
    x = variable(1.0, 4.0)
    y = scalar * x + x * scalar + (scalar - x) + (x - scalar) + x / scalar + scalar / x
    s = float(scalar)
    v = np.asarray([1.0, 4.0])
    assert_close(y, 2 * s * v + v / s + s / v)
    ops.sum(y).backward()
    assert_close(x.grad, 2 * s + 1 / s - s / v**2)


def test_a_numpy_scalar_is_an_operand_before_any_other_was(run_python: Any) -> None:
    run_python(
        "import numpy as np, xpnn",
        "x = xpnn.Tensor([1.0, 2.0])",
        "assert float((x * np.float32(2))[1]) == 4.0",
        "assert float((np.float32(2) * x)[1]) == 4.0",
    )


@pytest.mark.libraries
def test_a_numpy_array_that_meets_another_library_is_a_device_error(run_python: Any) -> None:
    pytest.importorskip("torch")
    run_python(
        "import numpy as np, xpnn",
        "x = xpnn.Tensor(xpnn.asarray([1.0, 2.0], device='torch:cpu'))",
        "try: x * np.ones(2)",
        "except xpnn.errors.DeviceError: pass",
        "else: raise AssertionError",
    )


@pytest.fixture
def run_python() -> Iterator[Callable[..., None]]:
    """Run lines in an interpreter of their own, where nothing has been used before."""
    import subprocess
    import sys

    def run(*lines: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    return run


def test_raw_arrays_on_the_left_and_on_the_right(device: Place) -> None:
    a = make((3,), device, "float32", "positive")
    x = Tensor(make((3,), device, "float32", "positive", seed=1), requires_grad=True)
    ones = on(device, np.ones(3, dtype="float32"))
    found = [x * a, x + a, x - a, x / a, x**a, x @ a, x < a, x == a, ops.multiply(a, x)]
    if not device.startswith("strict"):  # its arrays refuse whatever is not theirs, and do not ask
        found += [a * x, a + x, a - x, a / x, a**x, a @ x, a < x, a == x]
    for y in found:
        assert isinstance(y, Tensor)
        assert y.device == device
    ops.divide(a, x).backward(ones)
    expected = -xpnn.to_numpy(a) / xpnn.to_numpy(x) ** 2
    assert_close(xpnn.to_numpy(x.grad), expected, rtol=1e-5)


def test_a_raw_array_cannot_be_updated_in_place_with_a_tensor() -> None:
    a = np.asarray([1.0, 2.0])
    with pytest.raises(TypeError, match="does not support ufuncs"):
        a += variable(1.0, 1.0)
    assert_close(a, np.asarray([1.0, 2.0]))


def test_in_place_operators_leave_the_old_tensor_to_the_tape() -> None:
    x = variable(1.0, 2.0)
    y = x * 1.0
    old = y
    y *= 3.0
    y += old
    ops.sum(y).backward()
    assert_close(x.grad, np.asarray([4.0, 4.0]))
    assert_close(old, np.asarray([1.0, 2.0]))


def test_what_is_no_operand_is_a_type_error() -> None:
    x = variable(1.0)
    for bad in ("a", [1.0], None, object()):
        with pytest.raises(TypeError, match="unsupported operand"):
            x + bad
    assert x != "a"
    assert (x == None) is False  # noqa: E711


def test_operations_refuse_what_is_no_array() -> None:
    with pytest.raises(DTypeError, match=r"expected an array, got builtins\.list"):
        ops.exp([1.0])
    with pytest.raises(DTypeError, match="expected at least one array, got only scalars"):
        ops.add(1.0, 2.0)


# ------------------------------------------------------------------------ no_grad and threads


def test_nothing_is_recorded_under_no_grad() -> None:
    x = variable(1.0)
    with xpnn.no_grad():
        y = x * 2.0
        with xpnn.no_grad():
            pass
        z = x * 2.0
    assert not y.requires_grad
    assert not z.requires_grad
    assert (x * 2.0).requires_grad


def test_no_grad_ends_with_an_exception() -> None:
    x = variable(1.0)
    with pytest.raises(ValueError, match="inside"), xpnn.no_grad():
        raise ValueError("inside")
    assert (x * 2.0).requires_grad


def test_no_grad_decorates_functions() -> None:
    x = variable(2.0)

    @xpnn.no_grad()
    def f(n: int) -> Any:
        """Say what it does."""
        return x * 2.0 if n == 0 else f(n - 1)

    assert not f(3).requires_grad
    assert f.__doc__ == "Say what it does."
    assert (x * 2.0).requires_grad


def test_one_no_grad_object_nests() -> None:
    x, off = variable(2.0), xpnn.no_grad()
    with off:
        with off:
            pass
        assert not (x * 2.0).requires_grad
    assert (x * 2.0).requires_grad


def test_a_gradient_can_be_taken_under_no_grad() -> None:
    x = variable(3.0)
    with xpnn.no_grad():
        dx = xpnn.grad(lambda x: ops.sum(x * x))(np.asarray([3.0]))
        value, slope = xpnn.value_and_grad(lambda x: ops.sum(x * x))(x)
    assert_close(dx, np.asarray([6.0]))
    assert_close(slope, np.asarray([6.0]))
    assert not value.requires_grad
    assert not slope.requires_grad


def test_threads_record_for_themselves() -> None:
    x = variable(2.0)
    inside, done = threading.Event(), threading.Event()
    recorded: dict[str, bool] = {}

    def without() -> None:
        with xpnn.no_grad():
            inside.set()
            done.wait(10)
            recorded["without"] = (x * 2.0).requires_grad

    def normal() -> None:
        inside.wait(10)
        recorded["with"] = (x * 2.0).requires_grad
        done.set()

    threads = [threading.Thread(target=f) for f in (without, normal)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorded == {"without": False, "with": True}


def test_a_decorated_function_runs_in_many_threads() -> None:
    x = variable(2.0)
    both = threading.Barrier(4)

    @xpnn.no_grad()
    def f() -> bool:
        both.wait(10)
        return (x * 2.0).requires_grad

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: (f(), (x * 2.0).requires_grad), range(4)))
    assert found == [(False, True)] * 4


def test_many_threads_differentiate_at_once() -> None:
    def slope(i: int) -> float:
        x = variable(float(i))
        y = x
        for _ in range(50):
            y = y * 1.0
        (y * x).backward()
        assert x.grad is not None
        return float(x.grad[0])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(slope, range(40))) == [2.0 * i for i in range(40)]


def test_asynchronous_tasks_record_for_themselves() -> None:
    x = variable(2.0)

    async def without() -> bool:
        with xpnn.no_grad():
            await asyncio.sleep(0)
            return (x * 2.0).requires_grad

    async def normal() -> bool:
        await asyncio.sleep(0)
        return (x * 2.0).requires_grad

    async def both() -> Any:
        return await asyncio.gather(without(), normal(), without(), normal())

    assert asyncio.run(both()) == [False, True, False, True]


def test_no_grad_reaches_into_decorated_coroutines_and_generators() -> None:
    """A decorator that only covers the making of the coroutine would record in silence."""
    x = variable(2.0)

    async def coroutine() -> bool:
        return (x * 2.0).requires_grad

    def generator() -> Any:
        yield (x * 2.0).requires_grad

    for f in (coroutine, generator):
        try:
            decorated = xpnn.no_grad()(f)
        except (TypeError, ValueError):
            continue  # refused, which is as good
        found = asyncio.run(decorated()) if f is coroutine else next(decorated())
        assert found is False, f.__name__


# ------------------------------------------------------------------------------ checkpoint


def block(w: Tensor) -> Callable[[Any], Any]:
    return lambda x: ops.tanh(ops.sin(x * w) * x)


def test_a_checkpoint_changes_neither_value_nor_gradients() -> None:
    w, x = variable(0.5, 1.5), variable(1.0, 2.0)
    plain = ops.sum(block(w)(x))
    plain.backward()
    expected = x.grad, w.grad
    x.grad = w.grad = None
    value = ops.sum(xpnn.checkpoint(block(w))(x))
    value.backward()
    assert_close(value, plain)
    assert_close((x.grad, w.grad), expected)


def test_variables_that_a_checkpoint_closes_over_get_gradients() -> None:
    w = variable(0.5, 1.5)
    constant = Tensor(np.asarray([1.0, 2.0]))
    ops.sum(xpnn.checkpoint(block(w))(constant)).backward()
    found = w.grad
    w.grad = None
    ops.sum(block(w)(constant)).backward()
    assert_close(found, w.grad)


def test_a_checkpoint_keeps_its_arguments_only() -> None:
    kept: list[weakref.ref[Any]] = []

    def f(x: Any) -> Any:
        y = ops.sin(x)
        kept.append(array(y))
        return ops.sin(y)

    y = xpnn.checkpoint(f)(variable(1.0, 2.0))
    assert kept[0]() is None
    y.backward([1.0, 1.0])
    assert len(kept) == 2
    assert kept[1]() is None


def test_what_a_checkpoint_kept_dies_with_the_backward_pass() -> None:
    x = variable(1.0, 2.0)
    hidden = x * 1.0
    kept = array(hidden)
    y = xpnn.checkpoint(ops.sin)(hidden)
    del hidden
    assert kept() is not None
    y.backward([1.0, 1.0])
    assert kept() is None


def test_checkpoints_need_less_memory_than_the_chain_they_hold() -> None:
    def chain(x: Any) -> Any:
        for _ in range(10):
            x = ops.sin(x)
        return x

    def kept_by(f: Callable[..., Any]) -> int:
        x = Tensor(np.ones(2**14), requires_grad=True)
        gc.collect()
        tracemalloc.start()
        try:
            y = f(f(f(x)))
            size, _ = tracemalloc.get_traced_memory()
            ops.sum(y).backward()
        finally:
            tracemalloc.stop()
        return size

    assert kept_by(xpnn.checkpoint(chain)) < 0.2 * kept_by(chain)


def test_a_checkpoint_draws_the_same_random_numbers_again() -> None:
    masks = []

    def f(x: Any) -> Any:
        mask = get_rng().bernoulli(0.5, (20,))
        masks.append(mask)
        return x * mask

    x = Tensor(np.ones(20), requires_grad=True)
    xpnn.set_seed(3)
    y = xpnn.checkpoint(f)(x)
    after = get_rng().bits(1)
    ops.sum(y).backward()
    assert_close(masks[0], masks[1])
    assert_close(x.grad, masks[0].astype(float))
    xpnn.set_seed(3)
    get_rng().bernoulli(0.5, (20,))
    assert_close(after, get_rng().bits(1))  # one draw in the stream, not two


def test_backward_through_a_checkpoint_leaves_the_stream_where_it_was() -> None:
    y = xpnn.checkpoint(lambda x: x * get_rng().uniform((2,), dtype="float64"))(variable(1.0, 2.0))
    before = get_rng().state
    ops.sum(y).backward()
    assert get_rng().state == before


def test_a_checkpoint_inside_a_derivative_sees_what_it_closes_over() -> None:
    def f(w: Any, x: Any) -> Any:
        return xpnn.checkpoint(lambda x: ops.sum(w * x * x))(x)

    w, x = np.asarray(2.0), np.asarray([1.0, 3.0])
    assert_close(xpnn.grad(f, argnums=(0, 1))(w, x), (np.asarray(10.0), 4 * x))
    mixed = xpnn.grad(lambda w: ops.sum(xpnn.grad(f, argnums=1)(w, x)))(w)
    assert_close(mixed, np.asarray(8.0))


def test_checkpoints_nest() -> None:
    w, x = variable(0.5, 1.5), variable(1.0, 2.0)
    inner = xpnn.checkpoint(block(w))
    ops.sum(xpnn.checkpoint(lambda x: inner(inner(x)) * w)(x)).backward()
    found = x.grad, w.grad
    x.grad = w.grad = None
    ops.sum(block(w)(block(w)(x)) * w).backward()
    assert_close(found, (x.grad, w.grad))


@pytest.mark.parametrize("used", [(0,), (1,), (0, 1)], ids=str)
def test_a_checkpoint_may_have_several_outputs(used: tuple[int, ...]) -> None:
    x = variable(1.0, 2.0)
    outs = xpnn.checkpoint(lambda x: (ops.sin(x), x * x))(x)
    total = sum(ops.sum(outs[i]) for i in used)
    total.backward()
    slopes = np.cos([1.0, 2.0]), np.asarray([2.0, 4.0])
    assert_close(x.grad, np.asarray(sum(slopes[i] for i in used)))


def test_a_checkpoint_takes_keywords_and_what_is_no_array() -> None:
    x = variable(1.0, 2.0)
    f = xpnn.checkpoint(lambda x, n, scale=1.0: x**n * scale)
    ops.sum(f(x, 2, scale=3.0)).backward()
    assert_close(x.grad, np.asarray([6.0, 12.0]))


def test_derivatives_of_a_checkpoint_can_be_differentiated() -> None:
    xpnn.check_grad(xpnn.checkpoint(lambda x: ops.sin(x) * x), np.asarray([0.5, 2.0]), order=2)


def test_a_second_backward_through_a_checkpoint_is_refused() -> None:
    y = xpnn.checkpoint(ops.sin)(variable(1.0))
    y.backward()
    with pytest.raises(GraphError, match="second time through a checkpoint"):
        y.backward()


def test_a_checkpoint_can_be_retained() -> None:
    x = variable(1.0)
    y = xpnn.checkpoint(lambda x: x * x)(x)
    y.backward(retain_graph=True)
    y.backward()
    assert_close(x.grad, np.asarray([4.0]))


def test_under_no_grad_a_checkpoint_is_the_function_itself() -> None:
    calls = []

    def f(x: Any) -> Any:
        calls.append(1)
        return x * 2.0

    with xpnn.no_grad():
        assert not xpnn.checkpoint(f)(variable(1.0)).requires_grad
    assert len(calls) == 1


def test_a_checkpoint_of_raw_arrays_gives_raw_arrays() -> None:
    y = xpnn.checkpoint(lambda x: ops.sin(x) * 2.0)(np.asarray([1.0, 2.0]))
    assert isinstance(y, np.ndarray)
    assert_close(y, 2.0 * np.sin([1.0, 2.0]))


def test_a_checkpoint_of_constants_is_a_constant() -> None:
    assert not xpnn.checkpoint(ops.sin)(Tensor([1.0])).requires_grad


def test_a_checkpoint_hands_integer_outputs_through_off_the_tape() -> None:
    value, index = xpnn.checkpoint(lambda x: (ops.max(x), ops.argmax(x)))(variable(1.0, 3.0, 2.0))
    assert int(index) == 1
    assert not index.requires_grad
    value.backward()


def test_a_checkpoint_computes_again_on_the_device_of_the_first_time() -> None:
    pytest.importorskip("array_api_strict")
    with xpnn.device("strict:device1"):
        x = Tensor([1.0, 2.0], requires_grad=True)
        y = xpnn.checkpoint(lambda x: x * ops.ones(2) * 2.0)(x)
    ops.sum(y).backward()
    assert x.grad is not None
    assert x.grad.device == "strict:device1"


# ------------------------------------------------------------------ the pass as a function


def test_backward_to_chosen_inputs_leaves_the_variables_alone() -> None:
    x, w = variable(2.0), variable(3.0)
    hidden = x * w
    y = hidden * hidden
    (dhidden, dx) = backward([y], [np.ones(1)], [hidden, x])
    assert_close(dhidden, np.asarray([12.0]))
    assert_close(dx, np.asarray([36.0]))
    assert x.grad is None
    assert w.grad is None


def test_backward_to_what_was_not_used_gives_none() -> None:
    x, other = variable(2.0), variable(3.0)
    assert backward([x * 2.0], [np.ones(1)], [other]) == [None]


def test_an_output_hands_on_its_own_gradient_and_nothing_for_the_others() -> None:
    """A tuple for each would make a sequence of T steps cost T * T."""
    x = xpnn.Tensor(np.ones((50, 2)), requires_grad=True)
    rows = ops.unstack(x)
    ((node, gradients),) = rows[7].vertex.pullback(np.ones(2), None, None)
    assert node is rows[3].vertex.node
    assert dict(gradients) == {7: pytest.approx(np.ones(2))}
    (rows[7] + rows[3] * 2.0 + rows[7]).backward(np.ones(2))
    expected = np.zeros((50, 2))
    expected[7], expected[3] = 2.0, 2.0
    assert_close(x.grad, expected, rtol=0)
