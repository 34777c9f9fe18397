"""Element-wise rules, each one kernel: what it computes, and that it is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from gpu.twins import DTYPES, TOLERANCE, draw, on_cuda, same, values
from xpnn import functional as F
from xpnn.autograd.record import apply
from xpnn.kernels import cupy_elementwise
from xpnn.primitives import activations, elementwise, neural, special
from xpnn.primitives.base import Primitive

pytestmark = pytest.mark.gpu

# All activations that are functions of one number, and the error function.
STATIC = {
    "leaky_relu": {"alpha": 0.1},
    "elu": {"alpha": 0.7},
    "hard_sigmoid": {"slope": 0.2},
    "symmetric_elliot": {"steepness": 1.5},
}
BY_ROWS = {"softmax", "log_softmax", "prelu"}
NAMES = sorted(
    name
    for module in (activations, special)
    for name in module.__all__
    if isinstance(getattr(module, name), Primitive) and name not in BY_ROWS
)
# Shapes of whole packs, of a rest, of one element, and of more than a block.
SHAPES = [(1,), (3, 5), (4, 8), (2, 3, 333)]
STRANGE = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-3, -1e-3, 3.0, -3.0, 30.0, -30.0, 6e4, -6e4]


def get(name: str) -> Primitive:
    return getattr(activations, name, None) or getattr(special, name)


@pytest.fixture
def launches() -> Any:
    """Counts launches, in the emulated CUDA."""
    arrays = pytest.importorskip("emulation.arrays")
    if "emulated" not in getattr(pytest.importorskip("cupy"), "__version__", ""):
        pytest.skip("only the emulated CUDA counts")
    return arrays.launches


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_activation(name: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        x, g = (draw(rng, *shape, dtype=dtype) for _ in range(2))
        same(get(name), (x,), g, **STATIC.get(name, {}))


def chosen(name: str, device: str, dtype: str) -> Any:
    """Return an activation as a function of one array."""
    if name == "prelu":
        slopes = np.float32([0.25, 0.5, -0.5, 0.0])
        return lambda x: F.prelu(x, xpnn.asarray(slopes, device=device, dtype=dtype))
    if name in BY_ROWS:
        return getattr(F, name)
    return lambda x: apply(get(name), (x,), STATIC.get(name, {}))


@pytest.mark.skipif("bfloat16" not in DTYPES, reason="needs ml_dtypes")
@pytest.mark.parametrize(("name", "shape"), [
    *((name, (3, 4)) for name in sorted({*NAMES, *BY_ROWS})), *((name, (0, 4)) for name in NAMES),
])  # fmt: skip
def test_an_activation_of_bfloat16_is_of_bfloat16(name: str, shape: tuple[int, ...]) -> None:
    """Alone and where a residual block ends, forward and back; CuPy widens it beside a number."""
    usable("cuda")
    x, y = (draw(np.random.default_rng(i), *shape, dtype="bfloat16") for i in range(2))
    f = chosen(name, "cuda:0", "bfloat16")
    wide = chosen(name, "cpu", "float32")
    for added in (False, True):
        t, u = (xpnn.Tensor(on_cuda(a), requires_grad=True) for a in (x, y))
        a, b = (xpnn.Tensor(a.astype("float32"), requires_grad=True) for a in (x, y))
        found, expected = f(t + u if added else t), wide(a + b if added else a)
        xpnn.ops.sum(found).backward()
        xpnn.ops.sum(expected).backward()
        for ours, theirs in ((found, expected), (t.grad, a.grad)):
            assert ours.dtype.name == "bfloat16"
            numbers = xpnn.to_numpy(ours).astype("float32")
            np.testing.assert_allclose(numbers, xpnn.to_numpy(theirs), rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers_that_are_none_and_huge_ones_too(name: str, dtype: str) -> None:
    x = np.asarray(STRANGE, dtype)
    same(get(name), (x,), np.ones_like(x), **STATIC.get(name, {}))
    same(get(name), (np.ones_like(x),), x, **STATIC.get(name, {}))


def test_views_that_are_misaligned_or_strided() -> None:
    rng = np.random.default_rng(0)
    host, slope = (draw(rng, 41, dtype="float32") for _ in range(2))
    xp = xpnn.array_namespace(on_cuda(host))
    for at in (slice(1, None), slice(None, None, 2), slice(None, None, -1), slice(3, 20)):
        x, g = on_cuda(host)[at], on_cuda(slope)[at]
        kernel, standard = activations.gelu.on(xp), activations.gelu
        y = kernel.forward(xp, x)
        np.testing.assert_allclose(values(y), standard.forward(np, host[at]), rtol=2e-5, atol=1e-6)
        dx = kernel.rules[0](xp, g, x)  # type: ignore[misc]
        expected = standard.rules[0](np, slope[at], host[at])  # type: ignore[misc]
        np.testing.assert_allclose(values(dx), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_one_kernel_forward_and_one_back(name: str, launches: Any) -> None:
    x = np.linspace(-2, 2, 12, dtype=np.float32)
    given = on_cuda(x)
    xp = xpnn.array_namespace(given)
    kernel, static = get(name).on(xp), STATIC.get(name, {})
    launches.reset()
    y = kernel.forward(xp, given, **static)
    assert launches.count == 1
    launches.reset()
    (rule,) = kernel.rules
    assert rule is not None
    rule(xp, given, *rule.take(y, None, (given,)), **static)
    assert launches.count == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slopes", [(3, 5), (5,), (1, 5), (1,), (), (3, 1)])
def test_prelu(slopes: tuple[int, ...], dtype: str) -> None:
    """Slopes that are repeated along leading axes, or along others, which is no kernel."""
    rng = np.random.default_rng(0)
    x, g, alpha = (draw(rng, *shape, dtype=dtype) for shape in [(2, 3, 5), (2, 3, 5), slopes])
    alpha = np.asarray(alpha)
    usable("cuda")
    found = {}
    for place in ("cuda:0", "cpu"):
        t, a = (xpnn.Tensor(xpnn.asarray(v, device=place), requires_grad=True) for v in (x, alpha))
        y = F.prelu(t, a)
        y.backward(xpnn.Tensor(xpnn.asarray(g, device=place)))
        found[place] = [xpnn.to_numpy(v).astype("float64") for v in (y, t.grad, a.grad)]
    for ours, theirs in zip(*found.values(), strict=True):
        bound = 8 * TOLERANCE[dtype]  # the host adds in half precision
        np.testing.assert_allclose(ours, theirs, rtol=bound, atol=bound)


@pytest.mark.parametrize("slopes", [(1, 4), (1, 1), (1, 1, 4), (1, 4, 1)])
def test_slopes_of_more_axes_than_the_array(slopes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, alpha = draw(rng, 4, dtype="float32"), draw(rng, *slopes, dtype="float32")
    usable("cuda")
    found = {}
    for place in ("cuda:0", "cpu"):
        t, a = (xpnn.Tensor(xpnn.asarray(v, device=place), requires_grad=True) for v in (x, alpha))
        y = F.prelu(t, a)
        xpnn.ops.sum(y).backward()
        found[place] = [xpnn.to_numpy(v) for v in (y, t.grad, a.grad)]
    for ours, theirs in zip(*found.values(), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_dropout(shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, g = (draw(rng, *shape, dtype=dtype) for _ in range(2))
    mask = rng.random(shape) < 0.7
    same(neural.dropout, (x, mask), g, scale=1.25)
    same(neural.alpha_dropout, (x, mask), g, scale=1.1, shift=0.2, dropped=-1.5)
    same(neural.dropout, (x[..., ::-1], mask[..., ::-1]), g, scale=1.25)


def test_dropout_is_one_kernel_forward_and_one_back(launches: Any) -> None:
    x = xpnn.Tensor(on_cuda(np.ones((4, 33), np.float32)), requires_grad=True)
    mask = on_cuda(np.arange(132).reshape(4, 33) % 3 > 0)
    launches.reset()
    y = apply(neural.dropout, (x, mask), {"scale": 1.5})
    assert launches.count == 1
    g = xpnn.Tensor(on_cuda(np.ones((4, 33), np.float32)))
    launches.reset()
    y.backward(g)
    assert launches.count == 1
    np.testing.assert_array_equal(xpnn.to_numpy(x.grad), values(mask) * np.float32(1.5))


def test_dropout_of_whole_channels_runs_as_it_is_written() -> None:
    x = np.ones((2, 3, 4), np.float32)
    mask = np.asarray([[[True, False, True, False]]])
    found = apply(neural.dropout, (on_cuda(x), on_cuda(mask)), {"scale": 2.0})
    np.testing.assert_array_equal(values(found), np.where(mask, 2 * x, 0))


def test_static_parameters_are_arguments_of_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    usable("cuda")
    codes = []
    compiled = cupy_elementwise.kernel

    def spy(code: str, name: str) -> Any:
        codes.append(code)
        return compiled(code, name)

    monkeypatch.setattr(cupy_elementwise, "kernel", spy)
    x = on_cuda(np.linspace(-2, 2, 7, dtype=np.float32))
    for alpha in (0.123, 0.456):
        found = cupy_elementwise.fused("leaky", activations.leaky_relu.forward)(
            xpnn.array_namespace(x), x, alpha=alpha
        )
        expected = np.where(values(x) > 0, values(x), np.float32(alpha) * values(x))
        np.testing.assert_allclose(values(found), expected, rtol=1e-6)
    assert codes[0] == codes[1]
    assert "c0" in codes[0]


@pytest.mark.parametrize("name", ["tan", "atan", "asinh", "log1p", "sqrt", "square", "reciprocal"])
def test_rules_of_elementary_functions(name: str) -> None:
    rng = np.random.default_rng(0)
    x, g = np.abs(draw(rng, 5, 7, dtype="float32")) / 4 + 0.1, draw(rng, 5, 7, dtype="float32")
    same(getattr(elementwise, name), (x,), g)


def test_what_is_not_element_wise_runs_as_it_is_written() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    t = xpnn.Tensor(on_cuda(x), requires_grad=True)
    y = xpnn.ops.cumulative_sum(xpnn.ops.flip(t, axis=1), axis=0)
    y.backward(xpnn.Tensor(on_cuda(np.ones_like(x))))
    assert t.grad is not None
    np.testing.assert_array_equal(xpnn.to_numpy(t.grad), [[2, 2, 2], [1, 1, 1]])


def test_arrays_of_integers_and_of_no_elements() -> None:
    usable("cuda")
    empty = on_cuda(np.zeros((0, 3), np.float32))
    assert F.gelu(empty).shape == (0, 3)
    with pytest.raises(xpnn.errors.DTypeError, match="real floating-point"):
        F.silu(on_cuda(np.arange(3)))


def test_second_derivatives_use_the_standard_rule() -> None:
    x = np.linspace(-2, 2, 9)

    def total(x: Any) -> Any:
        return xpnn.ops.sum(F.gelu(x) * F.elu(x))

    def slope(x: Any) -> Any:
        return xpnn.ops.sum(xpnn.grad(total)(x) ** 2)

    found = xpnn.grad(slope)(xpnn.Tensor(on_cuda(x)))
    expected = xpnn.grad(slope)(xpnn.Tensor(x))
    np.testing.assert_allclose(xpnn.to_numpy(found), xpnn.to_numpy(expected), rtol=1e-10)


def test_a_rule_that_keeps_its_output_lets_the_argument_go() -> None:
    import weakref

    x = xpnn.Tensor(on_cuda(np.linspace(-2, 2, 9, dtype=np.float32)), requires_grad=True)
    between = x * 2
    y = F.elu(between)
    array = weakref.ref(between.data)
    del between
    assert array() is None
    y.backward(xpnn.ops.ones_like(y))
    assert x.grad is not None
