"""Normalization against PyTorch, JAX, finite differences and its own kernel, on every device."""

from __future__ import annotations

import importlib.util
from typing import Any

import array_api_compat.numpy as numpy_namespace
import numpy as np
import pytest
from helpers import Place, assert_close, double, make
from hypothesis import assume, given
from hypothesis import strategies as st

import xpnn
from xpnn import Tensor, backend, check_grad, layers, parallel
from xpnn import functional as F
from xpnn.autograd.record import apply
from xpnn.autograd.transforms import vjp
from xpnn.errors import ConfigError, DTypeError, ShapeError
from xpnn.kernels import fast, numpy_norm
from xpnn.primitives.normalization import batch_norm, batch_norm_inference

KERNEL = batch_norm._find_overlay(numpy_norm)
NUMBA = importlib.util.find_spec("numba") is not None
SHAPES = [(7, 3), (1, 3), (4, 5, 2), (3, 4, 5, 6), (2, 1, 1, 1), (64, 2)]
over_shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


@pytest.fixture(params=["standard", "kernel"])
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run NumPy arrays through the standard version, and through the kernel."""
    chosen = {"standard": batch_norm, "kernel": KERNEL}[request.param]
    monkeypatch.setitem(batch_norm.overlays, numpy_namespace, chosen)
    return request.param


def arrays(shape: tuple[int, ...], place: str = "cpu", dtype: str = "float64") -> list[Any]:
    """x, scale, shift, and gradients of y, mean and variance."""
    c = (shape[-1],)
    shapes = (shape, c, c, shape, c, c)
    return [make(shape, place, dtype, seed=i) for i, shape in enumerate(shapes)]


def norm(*xs: Any, epsilon: float = 1e-3, rectified: bool = False) -> Any:
    axes = tuple(range(xs[0].ndim - 1))
    static = {"axes": axes, "epsilon": epsilon, "rectified": rectified}
    return apply(batch_norm, xs, static)


def gradients(x: Any, scale: Any, shift: Any, *g: Any) -> tuple[Any, ...]:
    """Outputs and gradients, flat."""
    y, pullback = vjp(norm, x, scale, shift)
    return (*y, *pullback(tuple(g)))


@pytest.mark.oracle
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 2e-4)])
@pytest.mark.parametrize("shape", [s for s in SHAPES if s[0] > 1], ids=str)
def test_torch_agrees(shape: Any, dtype: str, tolerance: float, version: str) -> None:
    torch = pytest.importorskip("torch")
    x, scale, shift, g, *_ = arrays(shape, dtype=dtype)
    found = gradients(x, scale, shift, g, None, None)
    leaves = [torch.asarray(a).requires_grad_() for a in (x, scale, shift)]
    zero, one = torch.zeros(shape[-1], dtype=leaves[0].dtype), torch.ones(shape[-1]).to(leaves[0])
    moved = leaves[0].reshape(-1, shape[-1])
    y = torch.nn.functional.batch_norm(moved, zero, one, *leaves[1:], True, 1.0, 1e-3)
    grads = torch.autograd.grad(y.reshape(shape), leaves, torch.asarray(g))
    n = x.size // shape[-1]
    expected = (y.detach().reshape(shape), zero, one * (n - 1) / n, *grads)
    assert_close(found, tuple(a.numpy() for a in expected), tolerance, tolerance)


@pytest.mark.oracle
@pytest.mark.parametrize("given_for", [(0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2)], ids=str)
def test_torch_differentiates_our_forward(given_for: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    x, scale, shift, *g = arrays((3, 4, 5, 2), "torch:cpu")
    leaves = [a.clone().requires_grad_() for a in (x, scale, shift)]
    outs = norm(*leaves)
    expected = torch.autograd.grad(
        [outs[i] for i in given_for], leaves, [g[i] for i in given_for], materialize_grads=True
    )
    chosen = [g[i] if i in given_for else None for i in range(3)]
    assert_close(gradients(x, scale, shift, *chosen)[3:], tuple(expected), 1e-12, 1e-12)


@pytest.mark.oracle
def test_jax_differentiates_our_forward() -> None:
    jax = pytest.importorskip("jax")
    x, scale, shift, *g = arrays((3, 4, 5, 2), "jax:cpu", "float32")
    _, pullback = jax.vjp(norm, x, scale, shift)
    assert_close(gradients(x, scale, shift, *g)[3:], tuple(pullback(tuple(g))), 1e-4, 1e-4)


@pytest.mark.parametrize("shape", SHAPES[:1] + SHAPES[2:4], ids=str)
def test_finite_differences(shape: Any, version: str) -> None:
    x, scale, shift, *_ = arrays(shape)
    check_grad(norm, x, scale, shift, order=2)
    check_grad(lambda x: norm(x, None, None)[0] ** 2, x, order=2)
    check_grad(lambda x, s: norm(x, s, None)[::2], x, scale, order=2)
    check_grad(lambda x, s: norm(x, None, s)[1:], x, shift)
    check_grad(lambda *xs: norm(*xs, rectified=True), x, scale, shift, order=2)


@pytest.mark.parametrize("axes", [(0, 2, 3), (-1, 0, -2), (1, 2, 3)])
def test_channels_on_another_axis(axes: tuple[int, ...], version: str) -> None:
    x = make((3, 4, 5, 2), "cpu", "float64")
    (channel,) = set(range(4)) - {a % 4 for a in axes}
    scale, shift = make((x.shape[channel],), "cpu", "float64"), np.ones(x.shape[channel])

    def moved(x: Any, *rest: Any) -> Any:
        y, mean, var = apply(batch_norm, (x, *rest), {"axes": axes, "epsilon": 1e-3})
        return backend.array_namespace(y).moveaxis(y, channel, 3), mean, var

    y, pullback = vjp(moved, x, scale, shift)
    expected, expected_pullback = vjp(norm, np.moveaxis(x, channel, 3), scale, shift)
    assert_close(y, expected, 1e-12, 1e-12)
    g = tuple(make(a.shape, "cpu", "float64", seed=1) for a in y)
    (dx, *rest), (expected_dx, *expected_rest) = pullback(g), expected_pullback(g)
    assert_close(dx, np.moveaxis(expected_dx, 3, channel), 1e-11, 1e-12)
    assert_close(tuple(rest), tuple(expected_rest), 1e-11, 1e-12)


# -------------------------------------------------------------------- kernel and standard


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.integers(1, 20),
    st.sampled_from([1 << 17, 64]),
    st.tuples(*[st.booleans()] * 5),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.booleans(),
)
def test_kernel_equals_standard(
    places: list[int], c: int, block: int, has: Any, threads: int, compiled: bool, rectified: bool
) -> None:
    assume(any(has[2:]))  # a gradient of some output has arrived
    x, *rest = arrays((*places, c))
    x.flags.writeable = False
    scale, shift, *g = (a if yes else None for a, yes in zip(rest, has, strict=True))
    static = {"axes": tuple(range(len(places))), "epsilon": 1e-2, "rectified": rectified}
    needs = [True, scale is not None, shift is not None]
    found = []
    with pytest.MonkeyPatch.context() as patch, fast.use(compiled and NUMBA):
        patch.setattr(numpy_norm, "_BLOCK", block)
        patch.setattr(numpy_norm, "_SHARED", 0)
        patch.setattr(parallel, "_chosen", threads)
        for version in (batch_norm, KERNEL):
            y, res = version.forward(numpy_namespace, x, scale, shift, **static)
            kept = version.joint.take(y, res, [x, scale, shift])  # type: ignore[union-attr]
            grads = version.joint(numpy_namespace, g, needs, *kept, **static)  # type: ignore[misc]
            found.append([*y, *grads])
    for ours, expected in zip(found[1], found[0], strict=True):
        assert (ours is None) == (expected is None)
        if ours is not None:
            assert_close(ours, expected, 1e-9, 1e-10)


@pytest.mark.parametrize("compiled", [False, True])
def test_kernel_keeps_digits_far_from_zero(compiled: bool) -> None:
    """A variance of 4 around a mean of 10000: what E[x^2] - E[x]^2 would lose in float32."""
    rng = np.random.default_rng(0)
    x = (1e4 + 2.0 * rng.standard_normal((20000, 3))).astype("float32")
    _, scale, shift, *_ = arrays((1, 3), dtype="float32")
    g = (rng.standard_normal(x.shape) + (x - 1e4)).astype("float32")
    narrow, wide = (x, scale, shift, g), (a.astype("float64") for a in (x, scale, shift, g))
    with pytest.MonkeyPatch.context() as patch, fast.use(compiled and NUMBA):
        patch.setitem(batch_norm.overlays, numpy_namespace, KERNEL)
        found = gradients(*narrow, None, None)
        expected = gradients(*wide, None, None)
    for ours, exact in zip(found, expected, strict=True):
        assert_close(ours, exact, 0.0, 1e-6 * float(np.max(np.abs(exact))), check_dtype=False)


@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_rectified_is_that_of_a_relu_behind(compiled: bool) -> None:
    x, scale, shift, g, *_ = arrays((40, 8, 8, 16), dtype="float32")
    g[0, 0, 0] = np.inf  # goes where y is positive, and is no NaN elsewhere
    x[0, 0, 0, ::2], x[0, 0, 0, 1::2] = -9.0, 9.0
    scale = np.abs(scale)

    def two(*xs: Any) -> Any:
        return F.relu(norm(*xs)[0])

    def one(*xs: Any) -> Any:
        return norm(*xs, rectified=True)[0]

    with fast.use(compiled and NUMBA), np.errstate(invalid="ignore"):
        (y, pullback), (expected, expected_pullback) = (vjp(f, x, scale, shift) for f in (one, two))
        assert_close(y, expected, 1e-6, 1e-6)
        assert np.array_equal(np.isinf(pullback(g)[2]), np.isinf(expected_pullback(g)[2]))
        g[0, 0, 0] = 1.0
        assert_close(pullback(g), expected_pullback(g), 1e-5, 1e-4)


def test_a_normalization_has_an_activation() -> None:
    x, *_ = arrays((6, 3), dtype="float32")
    plain = layers.BatchNorm()
    for name in ("relu", "tanh"):
        layer = layers.BatchNorm(activation=name)
        for _ in range(2):  # in training, and in prediction
            assert_close(layer(x).data, layers.Activation(name)(plain(x)).data, 1e-6, 1e-6)
            layer.eval()
            plain.eval()
        plain.train()
        plain.reset_running_stats()


def test_views(version: str) -> None:
    x, scale, shift, g, *_ = arrays((3, 4, 5, 6))
    expected = gradients(x, scale, shift, np.ones_like(g), None, None)
    view = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 3, 1)), 1, 3)
    vectors = [np.repeat(a, 2)[::2] for a in (scale, shift)]
    found = gradients(view, *vectors, np.broadcast_to(np.ones(()), g.shape), None, None)
    assert_close(found, expected, 1e-11, 1e-11)


# ----------------------------------------------------------------------------- everywhere


@over_shapes
def test_every_device(shape: Any, device: Place) -> None:
    expected = gradients(*arrays(shape, dtype="float32"))
    found = gradients(*arrays(shape, device, "float32"))
    for a in found:
        assert backend.device_of(a) == device
    assert_close(found, expected, 2e-3, 2e-4, check_dtype=False)


def test_only_some_need_gradients(device: Place) -> None:
    x, scale, shift, g, *_ = arrays((4, 3), device, "float32")
    leaf = Tensor(scale, requires_grad=True)
    y, mean, _ = norm(Tensor(x), leaf, shift)
    y.backward(Tensor(g))
    assert leaf.grad.shape == (3,)
    assert not mean.requires_grad or mean.grad is None


def test_half_precision_has_statistics_in_float32() -> None:
    x, scale, shift, g, *_ = arrays((40, 30, 2), dtype="float16")
    x = x * np.float16(100) + np.float16(1000)
    found = gradients(x, scale, shift, g, None, None)
    assert [a.dtype.name for a in found] == ["float16", "float32", "float32"] + ["float16"] * 3
    assert all(np.isfinite(a).all() for a in found)
    wide = gradients(*(a.astype("float64") for a in (x, scale, shift, g)), None, None)
    assert_close(found[0], wide[0], 1e-2, 1e-2, check_dtype=False)


@pytest.mark.oracle
def test_inference_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    x, scale, shift, _, mean, var = arrays((3, 4, 5, 2))
    var = var * var
    found = batch_norm_inference(numpy_namespace, x, mean, var, scale, shift, axes=(0, 1, 2))
    parts = [torch.asarray(a) for a in (x.reshape(-1, 2), mean, var, scale, shift)]
    expected = torch.nn.functional.batch_norm(*parts, False, 0.1, 1e-5).reshape(x.shape)
    assert_close(found, expected.numpy(), 1e-12, 1e-12)


def test_inference_is_differentiable(device: Place) -> None:
    x, scale, shift, _, mean, var = arrays((3, 4, 2), device, "float32")
    var = var * var
    static = {"axes": (0, 1), "epsilon": 0.1}

    def f(*xs: Any) -> Any:
        return batch_norm_inference(backend.array_namespace(*xs), *xs, **static)

    assert f(x, mean, var, None, None).dtype == x.dtype
    y = f(*(Tensor(a, requires_grad=True) for a in (x, mean, var, scale, shift)))
    assert y.requires_grad
    if not device.startswith("jax"):  # which has no float64
        check_grad(f, x, mean, var, scale, shift, order=2)
    same = apply(batch_norm, (x, scale, shift), static)
    assert_close(f(x, same[1], same[2], scale, shift), same[0], 1e-4, 1e-4)


# --------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("shapes", "axes", "message"),
    [
        (((4, 3), (4,), (3,)), (0,), r"expected a value a channel, \(3,\), .* got \(4,\)"),
        (((4, 3), (3,), (1, 3)), (0,), r"got \(1, 3\)\. Is the layer"),
        (((4, 5, 3), (3,), (3,)), (0,), r"expected axes to be all .* got \(0,\) .* use \(0, 1\)"),
        (((4, 3), (3,), (3,)), (0, 1), r"expected axes to be all axes of x but"),
        (((0, 3), (3,), (3,)), (0,), r"at least one value a channel .* \(0, 3\)\. Leave out"),
    ],
)
def test_errors(shapes: Any, axes: Any, message: str, version: str) -> None:
    with pytest.raises(ShapeError, match=f"batch_norm: .*{message}"):
        apply(batch_norm, [np.ones(shape) for shape in shapes], {"axes": axes})


# ------------------------------------------------------- layer, group, instance and RMS norm

# name: the function of x and of parameters, shapes, PyTorch's formula
FUNCTIONS: dict[str, Any] = {
    "layer_norm": (
        F.layer_norm,
        [(3, 5), (5,), (5,)],
        lambda f, x, a, b: f.layer_norm(x, (5,), a, b, 1e-5),
    ),
    "layer_norm of three axes": (
        lambda x, a, b: F.layer_norm(x, a, b, axis=(-1, 1, 2), epsilon=0.1),
        [(2, 3, 1, 2), (3, 1, 2), (3, 1, 2)],
        lambda f, x, a, b: f.layer_norm(x, (3, 1, 2), a, b, 0.1),
    ),
    "layer_norm of the first axis": (
        lambda x, a: F.layer_norm(x, a, axis=0),
        [(4, 3), (4,)],
        lambda f, x, a: f.layer_norm(x.T, (4,), a).T,
    ),
    "layer_norm with a shift alone": (
        lambda x, b: F.layer_norm(x, None, b),
        [(3, 5), (5,)],
        lambda f, x, b: f.layer_norm(x, (5,), None, b),
    ),
    "rms_norm": (
        lambda x, a: F.rms_norm(x, a, epsilon=1e-2),
        [(2, 3, 5), (5,)],
        lambda f, x, a: f.rms_norm(x, (5,), a, 1e-2),
    ),
    "rms_norm of two axes": (
        lambda x, a: F.rms_norm(x, a, axis=(1, 2)),
        [(2, 3, 5), (3, 5)],
        lambda f, x, a: f.rms_norm(x, (3, 5), a, 1e-5),
    ),
    "group_norm": (
        lambda x, a, b: F.group_norm(x, 3, a, b),
        [(2, 3, 6), (6,), (6,)],
        lambda f, x, a, b: f.group_norm(x.movedim(2, 1), 3, a, b).movedim(1, 2),
    ),
    "group_norm channels first": (
        lambda x, a: F.group_norm(x, 2, a, axis=1, epsilon=0.1),
        [(2, 4, 3, 1), (4,)],
        lambda f, x, a: f.group_norm(x, 2, a, None, 0.1),
    ),
    "instance_norm": (
        lambda x, a, b: F.instance_norm(x, a, b),
        [(2, 3, 2, 3), (3,), (3,)],
        lambda f, x, a, b: f.instance_norm(x.movedim(3, 1), weight=a, bias=b).movedim(1, 3),
    ),
    "instance_norm channels in the middle": (
        lambda x, b: F.instance_norm(x, None, b, axis=-2, epsilon=0.1),
        [(2, 3, 4), (3,)],
        lambda f, x, b: f.instance_norm(x, bias=b, eps=0.1),
    ),
}


@pytest.fixture(params=FUNCTIONS)
def function(request: pytest.FixtureRequest) -> Any:
    return FUNCTIONS[request.param]


def inputs_of(shapes: Any, device: str = "cpu", dtype: str = "float64") -> list[Any]:
    return [make(shape, device, dtype, seed=i) for i, shape in enumerate(shapes)]


def test_functions_have_the_gradients_of_finite_differences(function: Any) -> None:
    f, shapes, _ = function
    check_grad(f, *inputs_of(shapes), order=2)


@pytest.mark.oracle
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_functions_equal_those_of_torch(function: Any, dtype: str, tolerance: float) -> None:
    torch = pytest.importorskip("torch")
    f, shapes, formula = function
    xs = inputs_of(shapes, dtype=dtype)
    g = make(shapes[0], dtype=dtype, seed=9)
    y, pullback = vjp(f, *xs)
    leaves = [torch.asarray(x).requires_grad_() for x in xs]
    theirs = formula(torch.nn.functional, *leaves)
    expected = torch.autograd.grad(theirs, leaves, torch.asarray(g))
    found = (y, *pullback(g))
    assert_close(
        found, tuple(a.detach().numpy() for a in (theirs, *expected)), tolerance, tolerance
    )


def test_functions_keep_dtype_and_device(function: Any, device: Place) -> None:
    f, shapes, _ = function
    for dtype in {"float32", double(device)}:
        xs = inputs_of(shapes, device, dtype)
        y, pullback = vjp(f, *xs)
        dxs = pullback(make(shapes[0], device, dtype, seed=9))
        expected, expected_pullback = vjp(f, *inputs_of(shapes))
        expected_dxs = expected_pullback(make(shapes[0], dtype="float64", seed=9))
        for a, b in zip((y, *dxs), (expected, *expected_dxs), strict=True):
            assert backend.device_of(a) == device
            assert xpnn.ops.isdtype(a.dtype, xs[0].dtype)
            assert_close(a, b, 1e-4, 1e-4, check_dtype=False)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "group_norm", "instance_norm"])
def test_half_precision_is_summed_in_float32(name: str) -> None:
    f, shapes, _ = FUNCTIONS[name]
    xs = inputs_of(shapes, dtype="float16")
    xs[0] = xs[0] * np.float16(1000)  # whose squares float16 cannot hold
    g = make(shapes[0], dtype="float16", seed=9)
    y, pullback = vjp(f, *xs)
    found = (y, *pullback(g))
    assert all(a.dtype == "float16" for a in found)
    wide, wide_pullback = vjp(f, *(x.astype("float64") for x in xs))
    expected = (wide, *wide_pullback(g.astype("float64")))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=4e-3, atol=4e-3)


def test_gradients_of_half_precision_are_summed_in_float32() -> None:
    x, shift = make((4000, 2), dtype="float16"), make((2,), dtype="float16")
    _, pullback = vjp(lambda x, b: F.layer_norm(x, None, b), x, shift)
    _, d_shift = pullback(np.ones_like(x))
    assert_close(d_shift, np.full(2, 4000, "float16"))  # float16 cannot count beyond 2048


def test_a_scale_of_another_precision_keeps_its_own(device: Place) -> None:
    if double(device) == "float32":
        pytest.skip("there is one precision")
    x, scale = make((3, 4), device, "float32"), make((4,), device, "float64", seed=1)
    y, pullback = vjp(F.layer_norm, x, scale)
    dx, d_scale = pullback(make((3, 4), device, "float32", seed=2))
    kinds = [str(a.dtype).rpartition(".")[2] for a in (y, dx, d_scale)]
    assert kinds == ["float32", "float32", "float64"]


@pytest.mark.parametrize("value", [0.0, 3.0])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "group_norm", "instance_norm"])
def test_constant_rows_give_finite_values_and_gradients(name: str, value: float) -> None:
    f, shapes, _ = FUNCTIONS[name]
    xs = inputs_of(shapes)
    xs[0] = np.full(shapes[0], value)
    y, pullback = vjp(f, *xs)
    for a in (y, *pullback(make(shapes[0], dtype="float64", seed=9))):
        assert np.isfinite(a).all()
    if name != "rms_norm":
        shift = np.broadcast_to(xs[2], y.shape)
        assert_close(y, np.ascontiguousarray(shift), atol=1e-12)
    check_grad(f, *xs, order=1)


def test_digits_are_kept_far_from_zero() -> None:
    x = (1e4 + np.random.default_rng(0).standard_normal((5, 64))).astype("float32")
    expected = F.layer_norm(x.astype("float64"))
    np.testing.assert_allclose(F.layer_norm(x), expected, atol=2e-3)  # float32 has 1e-3 at 1e4


def test_one_group_and_many_are_the_norms_of_other_names() -> None:
    x = make((3, 4, 6), dtype="float64")
    assert_close(F.group_norm(x, 6), F.instance_norm(x), 1e-12)
    assert_close(F.group_norm(x, 1), F.layer_norm(x, axis=(1, 2)), 1e-12)


def test_only_what_is_wanted_is_computed(device: Place) -> None:
    x, scale, shift = (make(s, device, seed=i) for i, s in enumerate([(3, 4), (4,), (4,)]))
    leaf = Tensor(shift, requires_grad=True)
    y = F.layer_norm(Tensor(x), scale, leaf)
    g = make((3, 4), device, seed=3)
    y.backward(Tensor(g))
    assert_close(leaf.grad, np.sum(backend.to_numpy(g), axis=0), 1e-5, check_dtype=False)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: F.layer_norm(x, axis=3),
            r"layer_norm: expected x to have, each once, .* 3, got",
        ),
        (
            lambda x: F.layer_norm(x, axis=(2, -1)),
            r"each once, the axes \(2, -1\), got .*\(2, 3, 4\)",
        ),
        (lambda x: F.layer_norm(x, axis=()), r"expected x to have, each once, the axes \(\)"),
        (lambda x: F.batch_norm(x, axis=-4), r"batch_norm: expected x to have, each once, .* -4"),
        (lambda x: F.layer_norm(x, np.ones(3)), r"scale and shift of shape \(4,\), .* got \(3,\)"),
        (lambda x: F.layer_norm(x, None, np.ones((1, 4))), r"on axis 2, got \(1, 4\)"),
        (
            lambda x: F.rms_norm(x, np.ones(4), axis=(1, 2)),
            r"\(3, 4\), .* on the axes \(1, 2\), got",
        ),
        (
            lambda x: F.layer_norm(x[:, :0], axis=1),
            r"at least one value .* \(2, 0, 4\) for the axes",
        ),
        (lambda x: F.group_norm(x, 3), r"divide into 3 groups, got 4 on axis 2 .* divisor of 4"),
        (lambda x: F.group_norm(x, 0), r"divide into 0 groups"),
        (lambda x: F.group_norm(x, 2, np.ones(3)), r"group_norm: expected scale .* got \(3,\)"),
        (
            lambda x: F.group_norm(x, 1, axis=0),
            r"examples on the first axis, .* use x\[None, \.\.\.\]",
        ),
        (lambda x: F.instance_norm(x, axis=-3), r"instance_norm: expected channels on axis -3"),
        (lambda x: F.instance_norm(x[:, 0, :]), r"at least two values .* places, use layer_norm"),
    ],
)
def test_errors_of_the_functions(call: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call(np.ones((2, 3, 4)))


@pytest.mark.parametrize("dtype", ["complex128", "int64"])
@pytest.mark.parametrize("f", [F.layer_norm, F.rms_norm, F.instance_norm, F.batch_norm])
def test_functions_take_real_floats(f: Any, dtype: str) -> None:
    with pytest.raises(
        DTypeError, match=f"{f.__name__}: expected real floating-point x, got {dtype}"
    ):
        f(make((2, 3, 4), dtype=dtype))


# ------------------------------------------------------------------------------- the layers


@pytest.mark.oracle
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
@pytest.mark.parametrize("momentum", [0.1, 0.7, 1.0])
def test_batch_norm_follows_torch_over_batches(
    momentum: float, dtype: str, tolerance: float
) -> None:
    """Outputs, gradients and running statistics, in training on odd batches, and after it."""
    torch = pytest.importorskip("torch")
    xpnn.set_dtype(dtype)
    layer = layers.BatchNorm(momentum=momentum, epsilon=1e-3)
    theirs = torch.nn.BatchNorm2d(3, momentum=momentum, eps=1e-3, dtype=getattr(torch, dtype))
    layer.ensure_built((5, 2, 4, 3))
    for name, weight in (("scale", theirs.weight), ("shift", theirs.bias)):
        getattr(layer, name).data = make((3,), dtype=dtype, seed=len(name))
        weight.data = torch.asarray(getattr(layer, name).data.copy())

    def compare(n: int, seed: int) -> None:
        x = 3.0 * make((n, 2, 4, 3), dtype=dtype, seed=seed) + 2.0
        g = make(x.shape, dtype=dtype, seed=seed + 1)
        y = layer(x)
        leaf = torch.asarray(x).requires_grad_()
        wanted = theirs(leaf.movedim(3, 1)).movedim(1, 3)
        wanted.backward(torch.asarray(g))
        found = (layer.backward(g), layer.scale.grad, layer.shift.grad)
        expected = (leaf.grad, theirs.weight.grad, theirs.bias.grad)
        pairs = zip((y, *found), (wanted.detach(), *expected), strict=True)
        for a, b in pairs:
            size = max(1.0, float(b.abs().max()))
            assert_close(a, b.numpy(), tolerance, tolerance * size)
        running = (theirs.running_mean.numpy(), theirs.running_var.numpy())
        assert_close((layer.running_mean, layer.running_var), running, tolerance, tolerance)

    for i, n in enumerate((5, 2, 1)):
        compare(n, 10 * i)
    layer.eval()
    theirs.eval()
    compare(3, 50)
    compare(1, 60)
    layer.reset_running_stats()
    theirs.reset_running_stats()
    compare(2, 70)


def test_batch_norm_starts_with_mean_0_and_variance_1_again() -> None:
    layer = layers.BatchNorm()
    layer.reset_running_stats()  # of a layer that has none yet
    layer(make((4, 3)))
    assert not np.array_equal(layer.running_mean, np.zeros(3))
    layer.reset_running_stats()
    assert_close(layer.running_mean, np.zeros(3, "float32"))
    assert_close(layer.running_var, np.ones(3, "float32"))


def test_batch_norm_needs_two_values_in_training_only() -> None:
    layer = layers.BatchNorm()
    with pytest.raises(
        ShapeError, match=r"more than one value a channel .* \(1, 3\)\. Use a larger"
    ):
        layer(make((1, 3)))
    assert layer.eval()(make((1, 3))).shape == (1, 3)
    with pytest.raises(ShapeError, match=r"BatchNorm\(axis=2\): expected x with at least two axes"):
        layers.BatchNorm(axis=2)(make((4, 3)))


def test_layers_begin_as_the_plain_normalization() -> None:
    x = make((3, 2, 4))
    assert_close(layers.LayerNorm()(x), F.layer_norm(x))
    assert_close(layers.RMSNorm()(x), F.rms_norm(x))
    assert_close(layers.GroupNorm(2)(x), F.group_norm(x, 2))
    assert_close(layers.InstanceNorm()(x), F.instance_norm(x))
    rms = layers.RMSNorm(axis=(2, 1))
    rms(x)
    assert list(rms.state_dict()) == ["scale"]
    assert rms.scale.shape == (2, 4)


def test_a_layer_without_parameters_takes_any_length() -> None:
    layer = layers.LayerNorm(affine=False)
    for n in (4, 7):
        assert_close(layer(make((3, n))), F.layer_norm(make((3, n))))


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: layers.LayerNorm(epsilon=0.0), "LayerNorm: 'epsilon' must be positive, got 0.0"),
        (lambda: layers.BatchNorm(epsilon=-1.0), "BatchNorm: 'epsilon' must be positive, got -1.0"),
        (lambda: layers.RMSNorm(epsilon=float("nan")), "RMSNorm: 'epsilon' must be positive"),
        (lambda: layers.BatchNorm(momentum=1.5), r"'momentum' must be in \[0, 1\], got 1.5"),
        (lambda: layers.LayerNorm((1, 1)), r"'axis' must be an axis or several different ones"),
        (lambda: layers.RMSNorm(()), r"RMSNorm: 'axis' must be an axis or several"),
        (lambda: layers.GroupNorm(0), "'groups' must be at least 1, got 0"),
    ],
)
def test_bad_arguments_of_the_layers(make_it: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_it()


def test_layers_name_the_axis_that_is_missing() -> None:
    with pytest.raises(ShapeError, match=r"LayerNorm\(axis=3\): expected x with the axes 3, got"):
        layers.LayerNorm(axis=3)(make((2, 3)))


def test_a_frozen_batch_norm_follows_the_batches_until_it_is_told_to_predict() -> None:
    layer = layers.BatchNorm().freeze()
    layer(make((4, 3)))
    before = backend.to_numpy(layer.running_mean)
    layer(make((4, 3)) + 5)
    after = backend.to_numpy(layer.running_mean)
    assert np.all(after > before)
    layer.eval()
    layer(make((4, 3)) + 9)
    np.testing.assert_array_equal(backend.to_numpy(layer.running_mean), after)
