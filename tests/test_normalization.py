"""batch_norm against PyTorch, JAX, finite differences and its own kernel, on every device."""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy as numpy_namespace
import numpy as np
import pytest
from helpers import Place, assert_close, make
from hypothesis import assume, given
from hypothesis import strategies as st

from xpnn import Tensor, backend, check_grad
from xpnn.autograd.record import apply
from xpnn.autograd.transforms import vjp
from xpnn.errors import ShapeError
from xpnn.kernels import numpy_norm
from xpnn.primitives.normalization import batch_norm, batch_norm_inference

KERNEL = batch_norm._find_overlay(numpy_norm)
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


def norm(*xs: Any, epsilon: float = 1e-3) -> Any:
    static = {"axes": tuple(range(xs[0].ndim - 1)), "epsilon": epsilon}
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
)
def test_kernel_equals_standard(places: list[int], c: int, block: int, has: Any) -> None:
    assume(any(has[2:]))  # a gradient of some output has arrived
    x, *rest = arrays((*places, c))
    x.flags.writeable = False
    scale, shift, *g = (a if yes else None for a, yes in zip(rest, has, strict=True))
    static = {"axes": tuple(range(len(places))), "epsilon": 1e-2}
    needs = [True, scale is not None, shift is not None]
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numpy_norm, "_BLOCK", block)
        for version in (batch_norm, KERNEL):
            y, res = version.forward(numpy_namespace, x, scale, shift, **static)
            kept = version.joint.take(y, res, [x, scale, shift])  # type: ignore[union-attr]
            grads = version.joint(numpy_namespace, g, needs, *kept, **static)  # type: ignore[misc]
            found.append([*y, *grads])
    for ours, expected in zip(found[1], found[0], strict=True):
        assert (ours is None) == (expected is None)
        if ours is not None:
            assert_close(ours, expected, 1e-9, 1e-10)


def test_kernel_keeps_digits_far_from_zero() -> None:
    """A variance of 4 around a mean of 10000: what E[x^2] - E[x]^2 would lose in float32."""
    rng = np.random.default_rng(0)
    x = (1e4 + 2.0 * rng.standard_normal((20000, 3))).astype("float32")
    _, scale, shift, *_ = arrays((1, 3), dtype="float32")
    g = (rng.standard_normal(x.shape) + (x - 1e4)).astype("float32")
    narrow, wide = (x, scale, shift, g), (a.astype("float64") for a in (x, scale, shift, g))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(batch_norm.overlays, numpy_namespace, KERNEL)
        found = gradients(*narrow, None, None)
        expected = gradients(*wide, None, None)
    for ours, exact in zip(found, expected, strict=True):
        assert_close(ours, exact, 0.0, 1e-6 * float(np.max(np.abs(exact))), check_dtype=False)


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
