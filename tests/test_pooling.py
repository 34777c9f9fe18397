"""max_pool2d and avg_pool2d against PyTorch, finite differences and their own kernels."""

from __future__ import annotations

import importlib.util
from typing import Any, NamedTuple

import array_api_compat.numpy as numpy_namespace
import numpy as np
import pytest
from helpers import Place, assert_close, make, on
from hypothesis import given
from hypothesis import strategies as st

from xpnn import backend, check_grad, parallel
from xpnn.autograd.record import apply
from xpnn.autograd.transforms import vjp
from xpnn.errors import ConfigError, ShapeError
from xpnn.kernels import fast, numpy_pool
from xpnn.primitives.pooling import avg_pool2d, max_pool2d, pool_shape

needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="numba is not installed"
)
NUMBA = importlib.util.find_spec("numba") is not None
KERNELS = {p: p._find_overlay(numpy_pool) for p in (max_pool2d, avg_pool2d)}


class Case(NamedTuple):
    name: str
    x: tuple[int, int, int, int]
    pool: tuple[int, int]
    stride: tuple[int, int]
    padding: Any = ((0, 0), (0, 0))
    ceil_mode: bool = False

    @property
    def static(self) -> dict[str, Any]:
        return {
            "pool": self.pool,
            "stride": self.stride,
            "padding": self.padding,
            "ceil_mode": self.ceil_mode,
        }


SAME = ((1, 1), (1, 1))
CASES = [
    Case("tiles", (2, 6, 8, 3), (2, 2), (2, 2)),
    Case("a rest is left", (2, 7, 9, 3), (2, 2), (2, 2)),
    Case("a rest counts", (2, 7, 9, 3), (2, 2), (2, 2), ceil_mode=True),
    Case("overlap", (2, 7, 8, 3), (3, 3), (2, 2)),
    Case("overlap, padding", (2, 7, 8, 3), (3, 3), (2, 2), SAME),
    Case("overlap, padding, rest", (2, 8, 6, 2), (3, 3), (2, 2), SAME, True),
    Case("ceil begins in the padding", (2, 5, 5, 2), (2, 2), (2, 2), SAME, True),
    Case("stride 1", (2, 5, 6, 2), (2, 3), (1, 1), ((1, 1), (1, 1))),
    Case("gaps", (2, 9, 8, 2), (2, 2), (3, 4)),
    Case("gaps, rest", (2, 9, 9, 2), (2, 2), (3, 4), ceil_mode=True),
    Case("one pixel", (2, 5, 4, 3), (1, 1), (1, 1)),
    Case("one pixel, stride", (2, 5, 4, 3), (1, 1), (2, 3)),
    Case("everything", (2, 5, 4, 3), (5, 4), (5, 4)),
    Case("one image, one channel", (1, 4, 4, 1), (2, 2), (2, 2)),
    Case("empty batch", (0, 4, 4, 2), (2, 2), (2, 2)),
]
ASYMMETRIC = [
    Case("odd pixel after", (2, 6, 5, 2), (3, 2), (2, 2), ((0, 1), (0, 1))),
    Case("before only", (2, 6, 5, 2), (3, 3), (1, 2), ((2, 0), (1, 0)), True),
]


@pytest.fixture(params=["standard", "kernel"])
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run NumPy arrays through the standard version, and through the kernel."""
    for primitive, kernel in KERNELS.items():
        chosen = {"standard": primitive, "kernel": kernel}[request.param]
        monkeypatch.setitem(primitive.overlays, numpy_namespace, chosen)
    return request.param


POOLS = [
    pytest.param(max_pool2d, {}, id="max"),
    pytest.param(avg_pool2d, {"count_include_pad": True}, id="avg"),
    pytest.param(avg_pool2d, {"count_include_pad": False}, id="avg without padding"),
    pytest.param(avg_pool2d, {"mode": "sum"}, id="sum"),
]
over_pools = pytest.mark.parametrize(("primitive", "extra"), POOLS)
over_cases = pytest.mark.parametrize("case", CASES + ASYMMETRIC, ids=lambda case: case.name)


def with_ties(case: Case, place: str = "cpu", dtype: str = "float64") -> tuple[Any, Any]:
    """x with few different values, and a gradient of the output."""
    x = make(case.x, "cpu", "float64", "ints") // 3 - 1.0
    return on(place, x.astype(dtype)), make(
        pool_shape(case.x, **case.static, who="a test"), place, dtype
    )


def gradient(primitive: Any, static: Any, x: Any, g: Any) -> tuple[Any, Any]:
    y, pullback = vjp(lambda x: apply(primitive, (x,), static), x)
    return y, pullback(g)


def torch_pools(primitive: Any, case: Case, extra: Any) -> Any:
    """Return PyTorch's function of x, channels last: its padding has to be symmetric."""
    f = pytest.importorskip("torch").nn.functional
    (top, _), (left, _) = case.padding
    if primitive is max_pool2d:
        return lambda x: f.max_pool2d(
            x.permute(0, 3, 1, 2), case.pool, case.stride, (top, left), 1, case.ceil_mode
        ).permute(0, 2, 3, 1)
    return lambda x: f.avg_pool2d(
        x.permute(0, 3, 1, 2),
        case.pool,
        case.stride,
        (top, left),
        case.ceil_mode,
        extra.get("count_include_pad", True),
        divisor_override=1 if "mode" in extra else None,
    ).permute(0, 2, 3, 1)


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES[:-1], ids=lambda case: case.name)
@over_pools
def test_torch_agrees(primitive: Any, extra: Any, case: Case, dtype: str, version: str) -> None:
    torch = pytest.importorskip("torch")
    f = torch_pools(primitive, case, extra)
    tolerance = 1e-13 if dtype == "float64" else 1e-6
    x, g = with_ties(case, dtype=dtype)
    y, dx = gradient(primitive, case.static | extra, x, g)
    leaf = torch.asarray(x).requires_grad_()
    expected = f(leaf)
    assert_close(y, expected.detach().numpy(), tolerance, tolerance)
    (expected_dx,) = torch.autograd.grad(expected, leaf, torch.asarray(g))
    assert_close(dx, expected_dx.numpy(), tolerance, tolerance)


@pytest.mark.oracle
@over_cases
@over_pools
def test_torch_differentiates_our_forward(primitive: Any, extra: Any, case: Case) -> None:
    torch = pytest.importorskip("torch")
    x = make(case.x, "torch:cpu", "float64")
    g = with_ties(case, "torch:cpu")[1]
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(apply(primitive, (leaf,), case.static | extra), leaf, g)
    assert_close(gradient(primitive, case.static | extra, x, g)[1], expected, 1e-12, 1e-12)


@pytest.mark.oracle
@over_pools
def test_jax_differentiates_our_forward(primitive: Any, extra: Any) -> None:
    jax = pytest.importorskip("jax")
    case = CASES[5]
    x, g = make(case.x, "jax:cpu"), with_ties(case, "jax:cpu", "float32")[1]
    _, pullback = jax.vjp(lambda x: apply(primitive, (x,), case.static | extra), x)
    found = gradient(primitive, case.static | extra, x, g)[1]
    assert_close(found, pullback(g)[0], 1e-5, 1e-6)


@pytest.mark.parametrize(
    "case", [c for c in CASES + ASYMMETRIC if c.x[0]], ids=lambda case: case.name
)
@over_pools
def test_finite_differences(primitive: Any, extra: Any, case: Case, version: str) -> None:
    x = make(case.x, "cpu", "float64")
    check_grad(lambda x: apply(primitive, (x * x,), case.static | extra), x, order=2)


def test_the_first_of_equals_wins(version: str) -> None:
    x = np.ones((1, 3, 3, 1))
    g = np.arange(1.0, 5.0).reshape(1, 2, 2, 1)
    static = {"pool": (2, 2), "stride": (1, 1)}
    _, dx = gradient(max_pool2d, static, x, g)
    assert dx[0, ..., 0].tolist() == [[1, 2, 0], [3, 4, 0], [0, 0, 0]]


def test_padding_never_wins(version: str) -> None:
    x = np.full((1, 2, 2, 1), -5.0)
    static = {"pool": (2, 2), "stride": (1, 1), "padding": SAME}
    y, dx = gradient(max_pool2d, static, x, np.ones((1, 3, 3, 1)))
    assert y.tolist() == np.full((1, 3, 3, 1), -5.0).tolist()
    assert dx.sum() == 9


def test_what_is_not_a_number_comes_through(version: str) -> None:
    x = np.zeros((1, 2, 4, 1))
    x[0, 1, 1, 0] = np.nan
    static = {"pool": (2, 2), "stride": (2, 2)}
    y, dx = gradient(max_pool2d, static, x, np.ones((1, 1, 2, 1)))
    assert np.isnan(y[0, 0, 0, 0])
    assert y[0, 0, 1, 0] == 0
    assert dx.sum() == 2


def test_integers(device: Place) -> None:
    x = on(device, np.arange(-16, 0, dtype="int64").astype("int32").reshape(1, 4, 4, 1))
    y = apply(max_pool2d, (x,), {"pool": (2, 2), "stride": (2, 2), "padding": SAME})
    assert_close(y[0, :, :, 0], np.asarray([[-16, -14, -13], [-8, -6, -5], [-4, -2, -1]], "int32"))


# -------------------------------------------------------------------- kernel and standard


@st.composite
def geometries(draw: st.DrawFn) -> Case:
    size = st.integers(1, 10)
    pool = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    pads = [st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)) for k in pool]
    return Case(
        "drawn",
        (draw(st.integers(0, 3)), draw(size), draw(size), draw(st.integers(1, 3))),
        pool,
        draw(st.tuples(st.integers(1, 5), st.integers(1, 5))),
        (draw(pads[0]), draw(pads[1])),
        draw(st.booleans()),
    )


@given(geometries(), st.sampled_from([1 << 17, 1]), st.sampled_from([0, 1 << 40]), st.booleans())
@over_pools
def test_kernel_equals_standard(
    primitive: Any, extra: Any, case: Case, block: int, shared: int, compiled: bool
) -> None:
    static = case.static | extra
    kernel = KERNELS[primitive]
    if not kernel.accepts(np.zeros(case.x), **primitive.defaults | static):  # type: ignore[misc]
        with pytest.raises(ShapeError, match="hold a window"):
            primitive.forward(numpy_namespace, np.zeros(case.x), **static)
        return
    x, g = with_ties(case)
    x.flags.writeable = g.flags.writeable = False
    found = []
    with pytest.MonkeyPatch.context() as patch, fast.use(compiled and NUMBA):
        patch.setattr(numpy_pool, "_BLOCK", block)
        patch.setattr(numpy_pool, "_SHARED", shared)
        patch.setattr(parallel, "_chosen", 2)
        for implementation in (primitive, kernel):
            patch.setitem(primitive.overlays, numpy_namespace, implementation)
            found.append(gradient(primitive, static, x, g))
    assert_close(found[1], found[0], 1e-13, 1e-13)


@over_pools
def test_views(primitive: Any, extra: Any, version: str) -> None:
    """Channels first seen as last, and a gradient of strides zero."""
    case = CASES[4]
    static = case.static | extra
    x, g = with_ties(case)
    expected = gradient(primitive, static, x, np.ones(g.shape))
    view = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 3, 1)), 1, 3)
    found = gradient(primitive, static, view, np.broadcast_to(np.ones(()), g.shape))
    assert_close(found, expected, 1e-13, 1e-13)


@needs_numba
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pool", [(2, 2), (1, 3), (3, 2)])
def test_compiled_tiles_are_numpys(pool: Any, dtype: str) -> None:
    """With ties, infinities and what is not a number."""
    rng = np.random.default_rng(0)
    n, h, w, c = 2, 3, 4, 21
    x = rng.integers(-2, 3, (n, h * pool[0], w * pool[1], c)).astype(dtype)
    x[rng.random(x.shape) < 0.05] = np.nan
    x[rng.random(x.shape) < 0.05] = -np.inf
    g = rng.standard_normal((n, h, w, c)).astype(dtype)
    static: Any = {"pool": pool, "stride": pool, "padding": ((0, 0), (0, 0))}
    found = []
    for compiled in (False, True):
        with fast.use(compiled):
            y = numpy_pool.max_pool2d(np, x, **static, ceil_mode=False)
            found += [y, *numpy_pool.max_pool2d_vjp(np, g, [True], y, x, **static)]
    assert np.array_equal(found[0], found[2], equal_nan=True)
    assert np.array_equal(found[1], found[3], equal_nan=True)


# ----------------------------------------------------------------------------- everywhere


@pytest.mark.parametrize("case", [CASES[i] for i in (0, 2, 5, 14)], ids=lambda case: case.name)
@over_pools
def test_every_device(primitive: Any, extra: Any, case: Case, device: Place) -> None:
    static = case.static | extra
    expected = gradient(primitive, static, *with_ties(case, dtype="float32"))
    found = gradient(primitive, static, *with_ties(case, device, "float32"))
    for a in found:
        assert backend.device_of(a) == device
    assert_close(found, expected, 1e-6, 1e-6, check_dtype=False)


# --------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(("primitive", "extra"), POOLS[:2])
@pytest.mark.parametrize(
    ("shape", "static", "error", "message"),
    [
        ((4, 4, 1), {}, ShapeError, r"expected x of shape \(N, H, W, C\), got \(4, 4, 1\)"),
        ((1, 1, 4, 1), {}, ShapeError, r"window of \(2, 2\) at least once, got \(1, 4\)"),
        ((1, 0, 4, 1), {"padding": SAME}, ShapeError, r"got \(0, 4\)"),
        (
            (1, 4, 4, 1),
            {"padding": ((2, 0), (0, 0))},
            ConfigError,
            r"padding smaller than the window \(2, 2\)",
        ),
    ],
)
def test_errors(
    primitive: Any, extra: Any, shape: Any, static: Any, error: Any, message: str, version: str
) -> None:
    static = {"pool": (2, 2), "stride": (2, 2)} | static | extra
    with pytest.raises(error, match=f"{primitive.name}: .*{message}"):
        apply(primitive, (np.zeros(shape),), static)
