"""The optimizers' kernels against their rules, and the arrays that an update must not change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers import assert_close, make
from hypothesis import given
from hypothesis import strategies as st
from optim_table import (
    assert_same,
    create,
    every_kernel,
    every_optimizer,
    gradients,
    values,
    variables,
)

import xpnn
import xpnn.kernels.numpy
from xpnn import Tensor, ops, optim, parallel
from xpnn.errors import ShapeError
from xpnn.kernels import numpy_optim

# --------------------------------------------------------------------------- kernels and rules


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make blocks so small that arrays of a few hundred elements use all that the kernels do."""
    monkeypatch.setattr(numpy_optim, "_BLOCK", 64)
    monkeypatch.setattr(numpy_optim, "_SMALL", 8)
    monkeypatch.setattr(numpy_optim, "_SHARED", 256)
    monkeypatch.setattr(parallel, "get_num_threads", lambda: 2)
    return


# Around the borders: what is packed, one block, two, and what two threads share.
BORDERS = [
    (1,),
    (7,),
    (2, 4),
    (9,),
    (63,),
    (8, 8),
    (65,),
    (127,),
    (2, 64),
    (129,),
    (257,),
    (0,),
    (),
]


@every_kernel
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.usefixtures("small_blocks")
def test_kernel_equals_rule(name: str, dtype: str, together: bool) -> None:
    for shapes in [BORDERS] if together else [[shape] for shape in BORDERS]:
        ours, theirs = variables(shapes, dtype=dtype), variables(shapes, dtype=dtype)
        fast, plain = create(name), create(name, kernel=False)
        for step in range(5):
            fast.update(ours, gradients(shapes, dtype=dtype, seed=step))
            plain.update(theirs, gradients(shapes, dtype=dtype, seed=step))
        tolerance = 1e-13 if dtype == "float64" else 1e-5
        for p, expected in zip(ours, theirs, strict=True):
            assert_close(p.data, expected.data, tolerance, tolerance)
        for kept, wanted in zip(
            fast.state_dict()["state"], plain.state_dict()["state"], strict=True
        ):
            assert kept.keys() == wanted.keys() == set(fast.state_names())
            for key, x in wanted.items():
                assert_close(kept[key], x, tolerance, tolerance)


@every_kernel
@given(
    shapes=st.lists(st.lists(st.integers(0, 20), max_size=2).map(tuple), min_size=1, max_size=6),
    absent=st.lists(st.integers(0, 5), max_size=4),
)
def test_kernel_equals_rule_whatever_the_shapes(
    name: str, shapes: list[tuple[int, ...]], absent: list[int]
) -> None:
    """With parameters without gradient now and then, so that those packed together change."""
    ours, theirs = variables(shapes, dtype="float64"), variables(shapes, dtype="float64")
    fast, plain = create(name), create(name, kernel=False)
    for step, without in enumerate([None, *absent, None]):
        grads = gradients(shapes, dtype="float64", seed=step)
        if without is not None and without < len(grads):
            grads[without] = None
        fast.update(ours, grads)
        plain.update(theirs, grads)
    for p, expected in zip(ours, theirs, strict=True):
        assert_close(p.data, expected.data, 1e-12, 1e-12)


@pytest.mark.parametrize("shape", [(4, 6), (200, 200)], ids=["packed", "large"])
@pytest.mark.parametrize("layout", ["transposed", "fortran", "strided", "read-only"])
@every_kernel
def test_layout_of_parameter_and_gradient_does_not_matter(
    name: str, layout: str, shape: tuple[int, int]
) -> None:
    def laid_out(x: Any) -> Any:
        if layout == "transposed":
            return np.ascontiguousarray(x.T).T
        if layout == "fortran":
            return np.asfortranarray(x)
        if layout == "strided":
            return np.repeat(x, 2, axis=1)[:, ::2]
        x = np.array(x)
        x.flags.writeable = False
        return x

    ours, theirs = Tensor(laid_out(make(shape))), Tensor(make(shape))
    odd, plain = create(name), create(name)
    for step in range(3):
        odd.update([ours], [laid_out(make(shape, seed=step))])
        plain.update([theirs], [make(shape, seed=step)])
    assert_same(values([ours]), values([theirs]))


def test_two_threads_and_blocks_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> list[Any]:
        params = variables([(1000, 300), (40, 500)])
        optimizer = optim.Adam()
        for step in range(3):
            optimizer.update(params, gradients([(1000, 300), (40, 500)], seed=step))
        return values(params)

    alone = run()
    monkeypatch.setattr(parallel, "get_num_threads", lambda: 2)
    monkeypatch.setattr(numpy_optim, "_SHARED", 1)
    monkeypatch.setattr(numpy_optim, "_BLOCK", 10_000)
    assert_same(run(), alone)


def test_a_thread_has_the_error_state_of_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "get_num_threads", lambda: 2)
    monkeypatch.setattr(numpy_optim, "_SHARED", 1)
    w = Tensor(np.ones(2**19, np.float32))
    huge = np.full(2**19, 1e30, np.float32)
    with np.errstate(over="ignore"):
        optim.Adam().update([w], [huge])
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        optim.Adam().update([w], [huge])


def test_a_class_with_its_own_rule_does_not_inherit_the_kernel() -> None:
    class Backwards(optim.Adam):
        def rule(self, xp: Any, lr: float, step: int, p: Any, g: Any, state: Any) -> Any:
            return p + lr * g, state

    assert Backwards.kernel is None
    assert optim.AdamW.kernel == "adam_update"
    w = Tensor(np.ones(2))
    Backwards(0.5).update([w], [np.ones(2)])
    assert values([w])[0].tolist() == [1.5, 1.5]


def test_kernels_are_really_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the parameters of one dtype in one call; not for half precision, nor elsewhere."""
    calls = []

    def spy(params: Any, *args: Any, **options: Any) -> Any:
        calls.append(len(params))
        return numpy_optim.adam_update(params, *args, **options)

    monkeypatch.setattr(xpnn.kernels.numpy, "adam_update", spy)
    kinds = ["float32", "float16", "float64", "float32"]
    params = [Tensor(np.ones(3, kind)) for kind in kinds]
    optim.Adam().update(params, [np.ones(3, kind) for kind in kinds])
    assert calls == [2, 1]


# ------------------------------------------------------------------------- what is not changed


HOLDERS: dict[str, Callable[[Tensor], Any]] = {
    "detached": Tensor.detach,
    "state dict": lambda w: {"w": w.data}["w"],
    "view": lambda w: w.data[1:],
    "view of a view": lambda w: w.data[1:].reshape(-1)[::2],
}


@every_optimizer
@pytest.mark.parametrize("rows", [4, 200], ids=["packed", "large"])
@pytest.mark.parametrize("holder", HOLDERS)
def test_arrays_that_others_see_are_not_changed(name: str, rows: int, holder: str) -> None:
    w, g = Tensor(make((rows, 200)), requires_grad=True), make((rows, 200), seed=1)
    optimizer, gradient = create(name), g.copy()
    for _ in range(2):
        optimizer.update([w], [gradient])
        held = HOLDERS[holder](w)
        before = values([held])
        optimizer.update([w], [gradient])
        assert_same(values([held]), before)
        assert np.any(values([HOLDERS[holder](w)])[0] != before[0])
        del held
    assert_same([gradient], [g])


@pytest.mark.parametrize("rows", [4, 200], ids=["packed", "large"])
def test_the_array_that_a_parameter_was_made_of_is_not_changed(rows: int) -> None:
    whole = make((2 * rows, 200))
    before = whole.copy()
    half = Tensor(whole[:rows])
    optimizer = optim.SGD()
    for _ in range(2):
        optimizer.update([half], [make((rows, 200))])
    assert_same([whole], [before])


@every_optimizer
@pytest.mark.parametrize("kernel", [True, False], ids=["kernel", "rule"])
def test_arrays_stay_arrays(name: str, kernel: bool) -> None:
    """NumPy makes scalars of 0-d results."""
    w = Tensor(np.ones(()))
    optimizer = create(name, kernel=kernel)
    for _ in range(2):
        optimizer.update([w], [np.ones(())])
    assert type(w.data) is np.ndarray
    for x in next(iter(optimizer._slots.values())).state.values():
        assert type(x) is np.ndarray


@pytest.mark.parametrize("shape", [(6,), (200, 200)], ids=["packed", "large"])
def test_a_kept_graph_keeps_its_values(shape: tuple[int, ...]) -> None:
    w = Tensor(make(shape), requires_grad=True)
    optimizer = optim.SGD(0.1)
    for _ in range(2):
        y = ops.sum(w * w * w)
        y.backward(retain_graph=True)
        expected = values([w.grad])  # type: ignore[list-item]
        optimizer.step([w])
        y.backward()
        assert_same(values([w.grad]), expected)  # type: ignore[list-item]
        w.grad = None


def test_a_large_array_that_nobody_else_sees_is_written_in_place() -> None:
    w = Tensor(make((200, 200)))
    optimizer = optim.Adam()
    optimizer.update([w], [make((200, 200))])
    address = w.data.ctypes.data
    optimizer.update([w], [make((200, 200))])
    assert w.data.ctypes.data == address


def test_nothing_is_changed_if_one_gradient_is_wrong() -> None:
    params = variables([(3,), (200, 200)])
    optimizer = optim.Adam()
    optimizer.update(params, gradients([(3,), (200, 200)]))
    before, state = values(params), optimizer.state_dict()
    with pytest.raises(ShapeError):
        optimizer.update(params, gradients([(3,), (100, 400)]))
    assert_same(values(params), before)
    after = optimizer.state_dict()
    assert after["steps"] == state["steps"] == 1
    assert after["updates"] == state["updates"]
    for kept, wanted in zip(after["state"], state["state"], strict=True):
        assert_same(list(kept.values()), list(wanted.values()))
