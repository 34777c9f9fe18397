"""The optimizers' kernels against their rules, and the arrays that an update must not change."""

from __future__ import annotations

import importlib.util
from collections import Counter
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
    every_optimizer,
    gradients,
    values,
    variables,
)

import xpnn
import xpnn.kernels.numpy
from xpnn import Tensor, ops, optim, parallel
from xpnn.errors import ShapeError
from xpnn.kernels import fast, numpy_optim, rules
from xpnn.optim.hyperparameters import registry

needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="numba is not installed"
)

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


@pytest.fixture(params=["numpy", pytest.param("compiled", marks=needs_numba)])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With compiled code from the first step, and without."""
    if request.param == "compiled":
        monkeypatch.setattr("xpnn.kernels.numba_optim._ENOUGH", 0)
    with fast.use(request.param == "compiled"):
        yield


def assert_same_steps(fast: Any, ours: list[Tensor], plain: Any, theirs: list[Tensor]) -> None:
    assert_same(values(ours), values(theirs))
    for kept, wanted in zip(fast.state_dict()["state"], plain.state_dict()["state"], strict=True):
        assert kept.keys() == wanted.keys()
        assert_same(list(kept.values()), list(wanted.values()))


@every_optimizer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.usefixtures("small_blocks", "way")
def test_blocks_are_the_rule_bit_for_bit(name: str, dtype: str, together: bool) -> None:
    for shapes in [BORDERS] if together else [[shape] for shape in BORDERS]:
        ours, theirs = variables(shapes, dtype=dtype), variables(shapes, dtype=dtype)
        fast, plain = create(name), create(name, elementwise=False)
        for step in range(7):
            fast.update(ours, gradients(shapes, dtype=dtype, seed=step))
            plain.update(theirs, gradients(shapes, dtype=dtype, seed=step))
        assert_same_steps(fast, ours, plain, theirs)


@every_optimizer
@given(
    shapes=st.lists(st.lists(st.integers(0, 20), max_size=2).map(tuple), min_size=1, max_size=6),
    absent=st.lists(st.integers(0, 5), max_size=4),
)
def test_packed_arrays_follow_the_rule_whatever_the_shapes(
    name: str, shapes: list[tuple[int, ...]], absent: list[int]
) -> None:
    """With parameters without gradient now and then, so that those packed together change."""
    ours, theirs = variables(shapes, dtype="float64"), variables(shapes, dtype="float64")
    fast, plain = create(name), create(name, elementwise=False)
    for step, without in enumerate([None, *absent, None]):
        grads = gradients(shapes, dtype="float64", seed=step)
        if without is not None and without < len(grads):
            grads[without] = None
        fast.update(ours, grads)
        plain.update(theirs, grads)
    assert_same_steps(fast, ours, plain, theirs)


@every_optimizer
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.usefixtures("small_blocks", "way")
def test_numbers_that_are_none_and_huge_ones_too(name: str) -> None:
    strange = np.resize([np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -1e-45, 1.0], 200)
    ours, theirs = ([Tensor(strange.astype(np.float32)[::-1].copy())] for _ in range(2))
    fast, plain = create(name), create(name, elementwise=False)
    for shift in range(7):
        g = np.roll(strange, shift).astype(np.float32)
        fast.update(ours, [g])
        plain.update(theirs, [g])
    assert np.array_equal(*(values(x)[0] for x in (ours, theirs)), equal_nan=True)


@pytest.mark.usefixtures("small_blocks", "way")
def test_numbers_of_their_own_that_differ() -> None:
    ours, theirs = variables(BORDERS), variables(BORDERS)
    fast, plain = create("nadam"), create("nadam", elementwise=False)
    for step in range(6):
        for optimizer, params in ((fast, ours), (plain, theirs)):
            optimizer.update(params, gradients(BORDERS, seed=step))
            slots = list(optimizer._slots.values())
            if step == 2:
                for i, product in enumerate((0.5, np.nan, 0.25)):
                    slots[4 * i + 1].state["mu_product"] = np.asarray(product, np.float32)
    for a, b in zip(values(ours), values(theirs), strict=True):
        assert np.array_equal(a, b, equal_nan=True)


# What a rule may do, and how it is then followed: as a program, block by block, or not at all.
def swap(xp: Any, p: Any, g: Any, a: Any, b: Any) -> Any:
    return p - g, b, a


def keep(xp: Any, p: Any, g: Any, a: Any, b: Any) -> Any:
    return g, p, p


def many(xp: Any, p: Any, g: Any, a: Any, b: Any) -> Any:
    a = xp.minimum(xp.abs(a) + 1, xp.maximum(-p, 0.5)) / 2
    b = xp.exp(-xp.square(b)) + xp.log1p(abs(a)) + xp.tanh(g) * np.float64(0.5)
    return 1 - 0.1 * xp.sign(xp.negative(g)) + p / (3 + xp.reciprocal(b)), a, b


def branches(xp: Any, p: Any, g: Any, a: Any, b: Any) -> Any:
    return xp.where(g > 0, p, -p), a + p, xp.clip(b, -1, g)


RULES = {"swap": (swap, True), "keep": (keep, True), "many": (many, True)}
RULES["branches"] = branches, False


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the rules of large arrays became programs."""
    found = []

    def spy(*args: Any) -> Any:
        found.append(False)
        program = rules.trace(*args)
        found[-1] = True
        return program

    monkeypatch.setattr(numpy_optim, "trace", spy)
    return found


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("size", [5, 300])
@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.usefixtures("small_blocks", "way")
def test_rules_of_ones_own(name: str, size: int, counts: bool, traces: list[bool]) -> None:
    formula, traced = RULES[name]

    class Own(optim.Optimizer):
        elementwise = True
        scalar_state = ("n",) * counts

        def state_names(self) -> tuple[str, ...]:
            return ("a", "b", *self.scalar_state)

        def state_start(self, name: str) -> float:
            return 0.25 if name == "a" else 0.0

        def rule(self, xp: Any, lr: float, step: int, p: Any, g: Any, state: Any) -> Any:
            n = {"n": state["n"] + 1} if counts else {}
            p, a, b = formula(xp, p * n["n"] if counts else p, g, state["a"], state["b"])
            return p, {"a": a, "b": b, **n}

    ours, theirs = (variables([(size,)] * 2, dtype="float64") for _ in range(2))
    fast, plain = Own(0.1), Own(0.1)
    plain.elementwise = False
    for step in range(4):
        fast.update(ours, gradients([(size,)] * 2, dtype="float64", seed=step))
        plain.update(theirs, gradients([(size,)] * 2, dtype="float64", seed=step))
    assert_same_steps(fast, ours, plain, theirs)
    assert bool(traces) == (size == 300)
    assert all(x == traced for x in traces)
    del registry["own"]


def test_a_rule_that_looks_at_more_than_one_element_gets_whole_arrays() -> None:
    class Normalized(optim.Optimizer):
        def rule(self, xp: Any, lr: float, step: int, p: Any, g: Any, state: Any) -> Any:
            return p - lr * g / xp.linalg.vector_norm(g), {}

    params = variables([(3,), (300, 300)])
    before, grads = values(params), gradients([(3,), (300, 300)])
    Normalized(0.5).update(params, grads)
    for p, old, g in zip(values(params), before, grads, strict=True):
        assert_close(p, old - 0.5 * g / np.linalg.norm(g), 1e-5, 1e-6)
    del registry["normalized"]


REFUSED: dict[str, Callable[..., Any]] = {
    "a sum": lambda xp, p, g, s: xp.sum(p),
    "a matrix product": lambda xp, p, g, s: p @ g,
    "a shape": lambda xp, p, g, s: p * p.shape[0],
    "a comparison": lambda xp, p, g, s: p > g,
    "a branch": lambda xp, p, g, s: p if g else g,
    "an element": lambda xp, p, g, s: p[0],
    "a conversion": lambda xp, p, g, s: xp.sqrt(float(g)),
    "NumPy's function": lambda xp, p, g, s: np.sqrt(p),
    "another dtype": lambda xp, p, g, s: p * np.float64(2),
    "an array": lambda xp, p, g, s: p + np.ones(3, np.float32),
    "a power": lambda xp, p, g, s: p**3,
    "no symbol": lambda xp, p, g, s: 1.0,
    "a function of numbers": lambda xp, p, g, s: p * xp.sqrt(2.0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_followed_element_by_element(name: str) -> None:
    with pytest.raises(rules.Refused):
        rules.trace(lambda *x: (REFUSED[name](*x), {}), (), {}, np.dtype("float32"))


@pytest.mark.parametrize(
    "new", [lambda p: {}, lambda p: {"a": p, "c": p, "d": p}, lambda p: {"a": p, "c": p}]
)
def test_states_that_are_not_those_of_the_rule_are_not_followed(new: Any) -> None:
    with pytest.raises(rules.Refused):
        rules.trace(lambda xp, p, g, s: (p, new(p)), ("a",), {"c": 1.0}, np.dtype("float32"))


@needs_numba
def test_compiled_code_begins_when_it_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from xpnn.kernels import numba_optim

    monkeypatch.setattr(numba_optim, "_ENOUGH", 150_000)
    monkeypatch.setattr(numba_optim, "_loops", {})
    monkeypatch.setattr(numba_optim, "_done", Counter())
    w = Tensor(make((200, 200)))
    with fast.use(True):
        optimizer = optim.Adam()
        for step in range(5):
            optimizer.update([w], [make((200, 200))])
            assert bool(numba_optim._loops) == (step >= 3)


@needs_numba
def test_compiled_code_is_kept_for_the_next_process_each_by_itself() -> None:
    """Of these two, the bytecode is the same, and only the function that is called differs."""
    from xpnn.kernels import numba_optim

    for function in ("sqrt", "abs"):
        program, _, _ = rules.trace(
            lambda xp, p, g, s, function=function: (getattr(xp, function)(p), {}),
            *((), {}, np.dtype("float32")),
        )
        first, again = (numba_optim._compiled(program, np.dtype("float32")) for _ in range(2))
        assert sum(again.stats.cache_hits.values()) == 1
        p, g = np.abs(make((5,))), make((5,))
        expected = getattr(np, function)(p)
        again(p, g, np.empty(0, np.float32))
        assert_same([p], [expected])
        assert first.stats.cache_path == again.stats.cache_path


@needs_numba
def test_functions_that_compiled_code_has_not_are_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    from xpnn.kernels import numba_optim

    monkeypatch.setattr(numba_optim, "_ENOUGH", 0)
    program, constants, _ = rules.trace(
        lambda xp, p, g, s: (xp.exp(p) * g, {}), (), {}, np.dtype("float32")
    )
    p, g = make((3,)), make((3,), seed=1)
    expected = np.exp(p) * g
    numba_optim.run_program(program, constants, [p, g])
    assert_same([p], [expected])


@pytest.mark.parametrize("shape", [(4, 6), (200, 200)], ids=["packed", "large"])
@pytest.mark.parametrize("layout", ["transposed", "fortran", "strided", "read-only"])
@every_optimizer
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
    with fast.use(False), np.errstate(over="ignore"):
        optim.Adam().update([w], [huge])
    with fast.use(False), np.errstate(over="raise"), pytest.raises(FloatingPointError):
        optim.Adam().update([w], [huge])


def test_a_class_with_its_own_rule_has_to_say_itself_that_it_is_elementwise() -> None:
    class Backwards(optim.Adam):
        def rule(self, xp: Any, lr: float, step: int, p: Any, g: Any, state: Any) -> Any:
            return p + lr * g, state

    assert not Backwards.elementwise
    assert optim.AdamW.elementwise
    w = Tensor(np.ones(2))
    Backwards(0.5).update([w], [np.ones(2)])
    assert values([w])[0].tolist() == [1.5, 1.5]


def test_kernels_are_really_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the parameters of one dtype in one call; not for half precision, nor elsewhere."""
    calls = []

    def spy(rule: Any, xp: Any, params: Any, *args: Any) -> Any:
        calls.append(len(params))
        return numpy_optim.elementwise_update(rule, xp, params, *args)

    monkeypatch.setattr(xpnn.kernels.numpy, "elementwise_update", spy)
    kinds = ["float32", "float16", "float64", "float32"]
    params = [Tensor(np.ones(3, kind)) for kind in kinds]
    optim.Adam().update(params, [np.ones(3, kind) for kind in kinds])
    assert calls == [2, 1]


# ---------------------------------------------------------------------------------- clipping


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(0,), (1,), (511,), (513,), (40, 33), (3, 5, 700)])
@pytest.mark.usefixtures("small_blocks")
def test_norm_of_a_gradient(dtype: str, shape: tuple[int, ...]) -> None:
    x = make(shape, dtype=dtype)
    for g in (x, x[..., ::2], np.asfortranarray(x)):
        found = numpy_optim.gradient_norm(g)
        assert found.dtype == dtype
        exact = np.sqrt(np.sum(g.astype(np.float64) ** 2))
        assert abs(found - exact) <= (1e-13 if dtype == "float64" else 1e-6) * exact


def test_the_norm_of_a_large_gradient_is_exact_to_six_digits_and_always_the_same() -> None:
    g = np.full(3_000_001, 0.1, np.float32)
    exact = np.sqrt(np.sum(g.astype(np.float64) ** 2))
    found = []
    for threads in (1, 2, 3):
        with xpnn.num_threads(threads):
            found.append(numpy_optim.gradient_norm(g))
    assert found[0] == found[1] == found[2]
    assert abs(found[0] - exact) <= 1e-6 * exact
    g[7] = np.nan
    assert np.isnan(numpy_optim.gradient_norm(g))


@pytest.mark.usefixtures("small_blocks", "way")
def test_the_global_norm_is_clipped_within_the_step() -> None:
    shapes = [(300,), (5,), (), (40, 20)]
    ours, theirs = variables(shapes), variables(shapes)
    clipping, plain = (
        optim.Adam(clip_global_norm=0.5, weight_decay=0.1),
        optim.Adam(weight_decay=0.1),
    )
    for step in range(3):
        grads = gradients(shapes, seed=step)
        clipping.update(ours, grads)
        plain.update(theirs, optim.clip_by_global_norm(grads, 0.5)[0])
    assert_same_steps(clipping, ours, plain, theirs)


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
@pytest.mark.parametrize("elementwise", [True, False], ids=["packed", "rule"])
def test_arrays_stay_arrays(name: str, elementwise: bool) -> None:
    """NumPy makes scalars of 0-d results."""
    w = Tensor(np.ones(()))
    optimizer = create(name, elementwise=elementwise)
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
