"""Functions of sequences and images against PyTorch, plain loops, and finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from battery.convolution import conv, padded
from helpers import assert_close, double, make, on

import xpnn
from xpnn import functional as F
from xpnn.errors import ConfigError, ShapeError
from xpnn.kernels import numpy as numpy_kernels
from xpnn.primitives.base import Implementation
from xpnn.primitives.convolution import conv2d
from xpnn.primitives.pooling import avg_pool2d, max_pool2d


class Case(NamedTuple):
    """A function of arrays of these shapes, and the same in PyTorch."""

    f: Callable[..., Any]
    shapes: list[tuple[int, ...]]
    torch: Callable[..., Any]


def _transposed(torch: Any, x: Any, w: Any, b: Any, **options: Any) -> Any:
    f = getattr(torch.nn.functional, f"conv_transpose{x.ndim - 2}d")
    return f(x.movedim(-1, 1), w.movedim((-1, -2), (0, 1)), b, **options).movedim(1, -1)


def _pooled(name: str, *args: Any, **options: Any) -> Callable[..., Any]:
    return lambda torch, x: getattr(torch.nn.functional, name)(
        x.movedim(-1, 1), *args, **options
    ).movedim(1, -1)


def _unfolded(torch: Any, x: Any) -> Any:
    """PyTorch's columns have the channels outside, and all places in one axis."""
    n, _, _, c = x.shape
    y = torch.nn.functional.unfold(
        x.movedim(-1, 1), (2, 3), dilation=(1, 2), padding=(1, 0), stride=(1, 2)
    )
    return y.reshape(n, c, 6, 3, 2).permute(0, 3, 4, 2, 1).reshape(n, 3, 2, 6 * c)


def _folded(torch: Any, x: Any) -> Any:
    n, h, w, k = x.shape
    x = x.reshape(n, h * w, 4, k // 4).permute(0, 3, 2, 1).reshape(n, k, h * w)
    return torch.nn.functional.fold(x, (4, 5), (2, 2), 1, (1, 1), (2, 1)).movedim(1, -1)


def _spread(torch: Any, x: Any) -> Any:
    y = x.new_zeros((2, 5, 4, 2))
    y[:, ::2, ::3] = x
    return y


FUNCTIONS = {
    "conv1d same": Case(
        lambda x, w, b: F.conv1d(x, w, b, stride=2, padding="same"),
        [(2, 6, 3), (3, 3, 2), (2,)],
        lambda t, x, w, b: conv(t, x, w, b, ((0, 1),), stride=2),
    ),
    "conv1d causal groups": Case(
        lambda x, w: F.conv1d(x, w, padding="causal", dilation=2, groups=2),
        [(2, 5, 4), (2, 2, 6)],
        lambda t, x, w: conv(t, x, w, None, ((2, 0),), dilation=2, groups=2),
    ),
    "conv2d full": Case(
        lambda x, w, b: F.conv2d(x, w, b, padding="full", stride=(2, 1)),
        [(2, 3, 2, 2), (2, 3, 2, 3), (3,)],
        lambda t, x, w, b: conv(t, x, w, b, ((1, 1), (2, 2)), stride=(2, 1)),
    ),
    "conv_transpose1d": Case(
        lambda x, w, b: F.conv_transpose1d(x, w, b, stride=3, padding=1, output_padding=2),
        [(2, 3, 2), (2, 3, 2), (3,)],
        lambda t, x, w, b: _transposed(t, x, w, b, stride=3, padding=1, output_padding=2),
    ),
    "conv_transpose2d": Case(
        lambda x, w, b: F.conv_transpose2d(
            x, w, b, stride=(2, 1), padding=(1, 0), dilation=(1, 2), output_padding=(1, 0), groups=2
        ),
        [(2, 3, 2, 4), (3, 2, 3, 4), (6,)],
        lambda t, x, w, b: _transposed(
            t,
            x,
            w,
            b,
            stride=(2, 1),
            padding=(1, 0),
            dilation=(1, 2),
            output_padding=(1, 0),
            groups=2,
        ),
    ),
    "conv_transpose2d depthwise": Case(
        lambda x, w: F.conv_transpose2d(x, w, stride=2, groups=3),
        [(1, 2, 3, 3), (2, 3, 2, 3)],
        lambda t, x, w: _transposed(t, x, w, None, stride=2, groups=3),
    ),
    "conv_transpose2d same": Case(
        lambda x, w: F.conv_transpose2d(x, w, stride=(3, 2), padding="same"),
        [(2, 2, 3, 2), (4, 1, 3, 2)],
        lambda t, x, w: padded(
            t, _transposed(t, x, w, None, stride=(3, 2)), ((0, -1), (0, 1), (0, 0))
        ),
    ),
    "max_pool1d": Case(
        lambda x: F.max_pool1d(x, 3, stride=2, padding=1, ceil_mode=True),
        [(2, 6, 3)],
        _pooled("max_pool1d", 3, 2, 1, ceil_mode=True),
    ),
    "avg_pool1d": Case(
        lambda x: F.avg_pool1d(x, 3, stride=2, padding=1, count_include_pad=False),
        [(2, 6, 3)],
        _pooled("avg_pool1d", 3, 2, 1, count_include_pad=False),
    ),
    "avg_pool2d sum": Case(
        lambda x: F.avg_pool2d(x, (2, 3), stride=1, mode="sum"),
        [(2, 3, 4, 2)],
        _pooled("avg_pool2d", (2, 3), 1, divisor_override=1),
    ),
    "global_avg_pool": Case(
        F.global_avg_pool, [(2, 3, 2, 2, 3)], lambda t, x: t.mean(x, (1, 2, 3))
    ),
    "global_max_pool": Case(
        lambda x: F.global_max_pool(x, keepdims=True),
        [(2, 3, 3)],
        lambda t, x: t.amax(x, 1, keepdim=True),
    ),
    "pad": Case(
        lambda x: F.pad(x, ((0, 0), (1, 2), 1), value=0.5),
        [(2, 2, 3)],
        lambda t, x: padded(t, x, ((0, 0), (1, 2), (1, 1)), 0.5),
    ),
    "im2col": Case(
        lambda x: F.im2col(x, (2, 3), stride=(1, 2), padding=((1, 1), (0, 0)), dilation=(1, 2)),
        [(2, 2, 7, 3)],
        _unfolded,
    ),
    "col2im": Case(
        lambda x: F.col2im(x, (4, 5), 2, stride=(2, 1), padding=1),
        [(2, 3, 6, 8)],
        _folded,
    ),
    "dilate": Case(lambda x: F.dilate(x, (2, 3)), [(2, 3, 2, 2)], _spread),
    "upsample2d": Case(
        lambda x: F.upsample2d(x, (2, 3), interpolation="bilinear"),
        [(2, 3, 2, 2)],
        _pooled("interpolate", scale_factor=(2, 3), mode="bilinear"),
    ),
}

over_functions = pytest.mark.parametrize("case", FUNCTIONS.values(), ids=FUNCTIONS)


def arrays(case: Case, device: str = "cpu", dtype: str = "float64") -> list[Any]:
    return [make(shape, device, dtype, seed=i) for i, shape in enumerate(case.shapes)]


@pytest.mark.oracle
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@over_functions
def test_torch_agrees(case: Case, dtype: str, tolerance: float) -> None:
    torch = pytest.importorskip("torch")
    raw = arrays(case, dtype=dtype)
    y, pullback = xpnn.vjp(case.f, *raw)
    leaves = [torch.tensor(x, requires_grad=True) for x in raw]
    theirs = case.torch(torch, *leaves)
    assert_close(y, theirs.detach().numpy(), tolerance, tolerance)
    g = make(tuple(y.shape), "cpu", dtype, seed=9)
    found = pullback(g)
    expected = torch.autograd.grad(theirs, leaves, torch.tensor(g))
    for a, b in zip(found if len(raw) > 1 else (found,), expected, strict=True):
        assert_close(a, b.numpy(), tolerance, tolerance * 10)


@over_functions
def test_finite_differences(case: Case) -> None:
    xpnn.check_grad(case.f, *arrays(case), order=2)
    xpnn.check_grad(lambda *xs: case.f(*(x * x for x in xs)), *arrays(case), order=2)


@over_functions
def test_every_device(case: Case, device: Any) -> None:
    expected, pullback = xpnn.vjp(case.f, *arrays(case, dtype="float32"))
    g = make(tuple(expected.shape), "cpu", "float32", seed=9)
    expected_gradients = pullback(g)
    for dtype in {"float32", double(device)}:
        xs = arrays(case, device, dtype)
        plain = case.f(*xs)
        assert type(plain) is type(xs[0])
        y, pullback = xpnn.vjp(case.f, *xs)
        found = pullback(on(device, g.astype(dtype)))
        for a in (plain, y, *(found if isinstance(found, tuple) else (found,))):
            assert xpnn.backend.device_of(a) == device
            assert str(a.dtype).rpartition(".")[2] == dtype
        assert_close(y, expected, 1e-4, 1e-4, check_dtype=False)
        assert_close(found, expected_gradients, 1e-4, 1e-4, check_dtype=False)


# --------------------------------------------------------------------------- plain loops


def looped_conv(x: Any, w: Any, s: Any, pairs: Any, d: Any, groups: int) -> Any:
    """Convolve by the formula, a number at a time."""
    x = np.pad(x, ((0, 0), *pairs, (0, 0)))
    *kernel, c, o = w.shape
    axes = zip(x.shape[1:-1], kernel, s, d, strict=True)
    size = [(n - (k - 1) * e - 1) // t + 1 for n, k, t, e in axes]
    y = np.zeros((len(x), *size, o))
    for at in np.ndindex(*y.shape):
        n, *place, feature = at
        first = feature // (o // groups) * c
        for tap in np.ndindex(*kernel):
            where = (t * p + e * i for p, i, t, e in zip(place, tap, s, d, strict=True))
            y[at] += x[(n, *where, slice(first, first + c))] @ w[(*tap, slice(None), feature)]
    return y


def looped_transpose(x: Any, w: Any, size: Any, s: Any, pairs: Any, d: Any, groups: int) -> Any:
    """Let every element write where the window sees it."""
    *kernel, inner, channels = w.shape
    whole = [n + p + q for n, (p, q) in zip(size, pairs, strict=True)]
    y = np.zeros((len(x), *whole, inner * groups))
    for at in np.ndindex(*x.shape):
        n, *place, channel = at
        first = channel // (channels // groups) * inner
        for tap in np.ndindex(*kernel):
            where = (t * p + e * i for p, i, t, e in zip(place, tap, s, d, strict=True))
            y[(n, *where, slice(first, first + inner))] += x[at] * w[(*tap, slice(None), channel)]
    return y[(slice(None), *(slice(p, p + n) for n, (p, _) in zip(size, pairs, strict=True)))]


def looped_pool(f: Any, x: Any, k: Any, s: Any) -> Any:
    size = [(n - m) // t + 1 for n, m, t in zip(x.shape[1:-1], k, s, strict=True)]
    y = np.zeros((len(x), *size, x.shape[-1]))
    for n, *place, c in np.ndindex(*y.shape):
        window = (slice(t * p, t * p + m) for p, m, t in zip(place, k, s, strict=True))
        y[(n, *place, c)] = f(x[(n, *window, c)])
    return y


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pairs", "dilation"),
    [
        ((5,), (2,), (1,), ((0, 0),), (1,)),
        ((7,), (3,), (2,), ((2, 1),), (2,)),
        ((4,), (1,), (3,), ((0, 0),), (1,)),
        ((4, 5), (2, 3), (1, 1), ((0, 0), (1, 1)), (1, 1)),
        ((6, 5), (2, 2), (3, 2), ((1, 0), (0, 2)), (2, 1)),
    ],
)
def test_loops_agree(
    size: Any, kernel: Any, stride: Any, pairs: Any, dilation: Any, groups: int
) -> None:
    n = len(size)
    options = {"stride": stride, "padding": pairs, "dilation": dilation, "groups": groups}
    x = make((2, *size, 2 * groups), dtype="float64")
    w = make((*kernel, 2, 3 * groups), dtype="float64", seed=1)
    forward = {1: F.conv1d, 2: F.conv2d}[n]
    back = {1: F.conv_transpose1d, 2: F.conv_transpose2d}[n]
    if n == 1:
        options |= {"stride": stride[0], "dilation": dilation[0]}
    y = forward(x, w, **options)
    assert_close(y, looped_conv(x, w, stride, pairs, dilation, groups), 1e-12, 1e-12)
    assert F.conv_output_shape(x.shape, w.shape, **options) == y.shape
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    rest = tuple(
        (m + p + q - e) % s for m, (p, q), e, s in zip(size, pairs, spans, stride, strict=True)
    )
    options["output_padding"] = rest if n == 2 else rest[0]
    dx = back(y, w, **options)
    assert dx.shape == x.shape == F.conv_transpose_output_shape(y.shape, w.shape, **options)
    looped = looped_transpose(y, w, size, stride, pairs, dilation, groups)
    assert_close(dx, looped, 1e-12, 1e-12)
    assert np.sum(y * y) == pytest.approx(np.sum(x * dx))  # transposes of one another


@pytest.mark.parametrize(("size", "k", "s"), [((7,), (3,), (2,)), ((5, 4), (2, 3), (3, 1))])
def test_loops_agree_on_pooling(size: Any, k: Any, s: Any) -> None:
    x = make((2, *size, 3), dtype="float64")
    one = len(size) == 1
    k_given, s_given = (k[0], s[0]) if one else (k, s)
    for f, name in ((np.max, "max_pool"), (np.mean, "avg_pool")):
        pool = getattr(F, f"{name}{len(size)}d")
        assert_close(pool(x, k_given, stride=s_given), looped_pool(f, x, k, s), 1e-12)


# ----------------------------------------------------------------------- what they promise


def test_columns_times_a_kernel_are_a_convolution_and_col2im_is_the_transpose() -> None:
    x, w = make((2, 5, 4, 3), dtype="float64"), make((2, 3, 3, 4), dtype="float64", seed=1)
    options: dict[str, Any] = {"stride": (2, 1), "padding": "same", "dilation": (1, 2)}
    columns = F.im2col(x, (2, 3), **options)
    assert_close(columns @ w.reshape(-1, 4), F.conv2d(x, w, **options), 1e-12, 1e-12)
    other = make(columns.shape, dtype="float64", seed=2)
    back = F.col2im(other, (5, 4), (2, 3), **options)
    assert np.sum(columns * other) == pytest.approx(np.sum(x * back))


def test_dilation_of_the_kernel_is_a_kernel_with_zeros() -> None:
    x, w = make((2, 7, 3), dtype="float64"), make((3, 3, 2), dtype="float64", seed=1)
    sparse = F.dilate(w[None], (2, 1))[0]
    assert sparse.shape == (5, 3, 2)
    assert_close(F.conv1d(x, sparse), F.conv1d(x, w, dilation=2), 1e-12)


def test_same_padding_is_what_same_stands_for() -> None:
    x, w = make((1, 6, 5, 1)), make((3, 2, 1, 1), seed=1)
    pairs = F.same_padding((6, 5), (3, 2), stride=2)
    assert pairs == ((0, 1), (0, 1))
    same = F.conv2d(x, w, stride=2, padding="same")
    assert_close(same, F.conv2d(x, w, stride=2, padding=pairs), 0.0)
    assert F.same_padding(5, 3, dilation=2) == ((2, 2),)


def test_global_max_pool_gives_the_gradient_to_the_first_of_equals() -> None:
    x = np.asarray([[[1.0], [3.0]], [[3.0], [2.0]]])[None]
    _, pullback = xpnn.vjp(F.global_max_pool, x)
    assert pullback(np.asarray([[5.0]]))[0, ..., 0].tolist() == [[0, 5], [0, 0]]
    _, pullback = xpnn.vjp(lambda x: F.max_pool2d(x, 2), x)
    assert pullback(np.full((1, 1, 1, 1), 5.0))[0, ..., 0].tolist() == [[0, 5], [0, 0]]


def test_sums_of_whole_numbers_are_whole() -> None:
    x = np.arange(27.0, dtype=np.float32).reshape(1, 3, 9, 1)
    assert F.avg_pool2d(x, 3, mode="sum")[0, 0, :, 0].tolist() == [90, 117, 144]


def test_padding_may_take_any_axes_and_dtypes(device: Any) -> None:
    for dtype, kind in (("int32", "ints"), ("bool", "bools"), ("float32", "normal")):
        x = make((2, 3), device, dtype, kind)
        y = F.pad(x, ((1, 0), (0, 2)), value=True if dtype == "bool" else 1)
        expected = np.pad(xpnn.to_numpy(x), ((1, 0), (0, 2)), constant_values=1)
        assert_close(y, expected)
        assert xpnn.backend.device_of(y) == device
    assert F.pad(np.zeros((0, 2)), 1, value=3.0).tolist() == [[3.0] * 4] * 2


def test_sequences_reach_the_kernels_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    xp = xpnn.array_namespace(np.ones(1))
    seen = []
    for primitive in (conv2d, max_pool2d, avg_pool2d):
        kernel = primitive._find_overlay(numpy_kernels)

        def forward(*args: Any, kernel: Any = kernel, **options: Any) -> Any:
            seen.append(kernel.forward.__name__)
            return kernel.forward(*args, **options)

        spy = Implementation(forward)
        spy.joint, spy.accepts = kernel.joint, kernel.accepts
        monkeypatch.setitem(primitive.overlays, xp, spy)
    x = make((2, 6, 3))
    F.conv1d(x, make((2, 3, 2)), padding="causal", dilation=2)
    F.max_pool1d(x, 2)
    F.avg_pool1d(x, 3, padding="same", stride=1)
    assert seen == ["conv2d", "max_pool2d", "avg_pool2d"]


def test_upsampling_by_one_changes_nothing() -> None:
    x = make((1, 2, 3, 1))
    for interpolation in ("nearest", "bilinear"):
        assert F.upsample2d(x, 1, interpolation=interpolation) is x


# -------------------------------------------------------------------------------- errors

X1, X2 = np.ones((2, 6, 3)), np.ones((2, 6, 5, 3))
W1, W2 = np.ones((3, 3, 4)), np.ones((3, 3, 3, 4))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: F.conv1d(X2, W1),
            ShapeError,
            r"^conv1d: expected x of shape \(N, T, C\) and weight of shape \(k, C, O\), got",
        ),
        (lambda: F.conv1d(X1, W2), ShapeError, r"^conv1d: .* \(2, 6, 3\) and \(3, 3, 3, 4\)"),
        (
            lambda: F.conv1d(X1[:, :2], W1),
            ShapeError,
            r"^conv1d: .* window of \(3,\)",
        ),
        (lambda: F.conv1d(X1, W1, stride=0), ConfigError, "^conv1d: expected stride to be a pos"),
        (lambda: F.conv1d(X1, W1, padding="some"), ConfigError, "^conv1d: expected padding to be"),
        (lambda: F.conv1d(X1, W1[:, :2]), ShapeError, "^conv1d: expected x with 2 channels"),
        (
            lambda: F.conv1d(X1, W1, np.ones(3)),
            ShapeError,
            r"^conv1d: expected bias of .*4,",
        ),
        (
            lambda: F.conv1d(X1, W1, groups=3),
            ShapeError,
            "^conv1d: expected groups to div",
        ),
        (
            lambda: F.conv2d(X2, W2, padding="causal"),
            ConfigError,
            "^conv2d: expected padding to be",
        ),
        (lambda: F.conv2d(X2, W2, dilation=(1,)), ConfigError, "^conv2d: expected dilation to be"),
        (
            lambda: F.conv_transpose1d(X1, W2),
            ShapeError,
            r"^conv_transpose1d: expected x of shape \(N, T, C\) and weight of shape \(k, O, C\)",
        ),
        (
            lambda: F.conv_transpose2d(X2, W2),
            ShapeError,
            r"^conv_transpose2d: expected x with 4 channels.*\(..., out / groups, in\)",
        ),
        (
            lambda: F.conv_transpose1d(np.ones((2, 6, 4)), W1, groups=3),
            ShapeError,
            "^conv_transpose1d: expected x with 4 channels .* a multiple of groups=3",
        ),
        (
            lambda: F.conv_transpose1d(np.ones((2, 6, 4)), W1, np.ones(2)),
            ShapeError,
            r"^conv_transpose1d: expected bias of shape \(3,\), got \(2,\)",
        ),
        (
            lambda: F.conv_transpose1d(np.ones((2, 6, 4)), W1, padding="causal"),
            ConfigError,
            "^conv_transpose1d: a transposed convolution has no padding 'causal'",
        ),
        (
            lambda: F.conv_transpose1d(np.ones((2, 6, 4)), W1, stride=2, output_padding=2),
            ConfigError,
            r"expected output_padding smaller than the stride \(2,\), .* got \(2,\)",
        ),
        (
            lambda: F.conv_transpose1d(
                np.ones((2, 6, 4)), W1, stride=2, output_padding=1, padding="same"
            ),
            ConfigError,
            "and 0 with padding='same'",
        ),
        (
            lambda: F.conv_transpose2d(np.ones((2, 1, 1, 4)), W2, output_padding=-1),
            ConfigError,
            "output_padding to be an integer that is not negative, or 2 of them, got -1",
        ),
        (
            lambda: F.conv_transpose2d(np.ones((2, 1, 1, 4)), W2, padding=2),
            ShapeError,
            r"^conv_transpose2d: nothing is left: .* would have \(-1, -1\)",
        ),
        (
            lambda: F.conv_output_shape((2, 3), (2, 3)),
            ShapeError,
            r"^conv_output_shape: expected a weight shape of three or four sizes",
        ),
        (
            lambda: F.conv_output_shape((2, 3), (2, 3, 3)),
            ShapeError,
            r"^conv_output_shape: expected x of shape \(N, T, C\)",
        ),
        (
            lambda: F.conv_transpose_output_shape((2, 6, 3), (3, 3, 4)),
            ShapeError,
            "^conv_transpose_output_shape: expected x with 4 channels",
        ),
        (lambda: F.max_pool1d(X2, 2), ShapeError, r"^max_pool1d: expected x of shape \(N, T, C\)"),
        (lambda: F.avg_pool1d(X1, 7), ShapeError, r"^avg_pool1d: .* window of \(7,\)"),
        (lambda: F.avg_pool1d(X1, 2, padding=2), ConfigError, r"^avg_pool1d: .* window \(2,\)"),
        (lambda: F.max_pool2d(X1, 2), ShapeError, r"^max_pool2d: expected x of shape \(N, H, W"),
        (lambda: F.max_pool1d(X1, 0), ConfigError, "^max_pool1d: expected size to be a positive"),
        (lambda: F.avg_pool2d(X2, 2, mode="max"), ConfigError, "^avg_pool2d: 'mode' must be 'av"),
        (lambda: F.global_avg_pool(X1[0]), ShapeError, r"^global_avg_pool: .* got shape \(6, 3\)"),
        (
            lambda: F.global_max_pool(X1[:, :0]),
            ShapeError,
            "^global_max_pool: .* length 0",
        ),
        (lambda: F.pad(X1, (1, 2)), ConfigError, r"^pad: expected padding to be a number that is"),
        (lambda: F.pad(X1, -1), ConfigError, r"^pad: .* not negative, .* got -1"),
        (lambda: F.pad(X1, "same"), ConfigError, r"^pad: .* got 'same'"),
        (lambda: F.im2col(X1[0], 2), ShapeError, r"^im2col: expected x of shape \(N, ..., C\)"),
        (lambda: F.im2col(X1, 7), ShapeError, r"^im2col: .* window of \(7,\)"),
        (
            lambda: F.col2im(np.ones((2, 5, 7)), 6, 2),
            ShapeError,
            r"^col2im: expected x of shape \(N, 5, a multiple of 2\) .* got \(2, 5, 7\)",
        ),
        (lambda: F.col2im(np.ones((2, 4, 6)), 6, 2), ShapeError, r"^col2im: .* got \(2, 4, 6\)"),
        (lambda: F.dilate(X1[0], 2), ShapeError, "^dilate: expected x of shape"),
        (lambda: F.dilate(X1, 0), ConfigError, "^dilate: expected dilation to be a positive"),
        (lambda: F.same_padding((6, 5), (3,)), ConfigError, "^same_padding: .* or 2 of them"),
        (lambda: F.upsample2d(X1, 2), ShapeError, r"^upsample2d: expected x of shape \(N, H, W, C"),
        (lambda: F.upsample2d(X2, 0.5), ConfigError, "^upsample2d: expected factor to be a pos"),
        (
            lambda: F.upsample2d(X2, 2, interpolation="cubic"),
            ConfigError,
            "^upsample2d: 'interpolation' must be 'nearest' or 'bilinear', got 'cubic'",
        ),
    ],
)
def test_bad_input_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
