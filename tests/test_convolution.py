"""conv2d against PyTorch, JAX, finite differences and its own kernel, on every device."""

from __future__ import annotations

from typing import Any, NamedTuple

import array_api_compat.numpy as numpy_namespace
import numpy as np
import pytest
from helpers import Place, assert_close, make
from hypothesis import given
from hypothesis import strategies as st

from xpnn import Tensor, backend, check_grad, parallel
from xpnn.autograd.record import apply
from xpnn.autograd.transforms import vjp
from xpnn.errors import ConfigError, ShapeError
from xpnn.kernels import (
    numpy_conv,
    numpy_depthwise,
    numpy_im2col,
    numpy_memory,
    numpy_winograd,
)
from xpnn.kernels.numpy_columns import Window
from xpnn.primitives.base import Implementation
from xpnn.primitives.convolution import conv2d, conv_shape, conv_transpose2d
from xpnn.primitives.windows import as_tuple, resolve_padding, window_outputs

KERNEL = conv2d._find_overlay(numpy_conv)


class Case(NamedTuple):
    name: str
    x: tuple[int, int, int, int]
    kernel: tuple[int, int]
    features: int
    stride: Any = 1
    padding: Any = "valid"
    dilation: Any = 1
    groups: int = 1

    @property
    def weight(self) -> tuple[int, int, int, int]:
        return (*self.kernel, self.x[3] // self.groups, self.features)

    @property
    def static(self) -> dict[str, Any]:
        stride = as_tuple(self.stride, "stride", who="a test")
        dilation = as_tuple(self.dilation, "dilation", who="a test")
        padding = resolve_padding(
            self.padding, self.x[1:3], self.kernel, stride, dilation, who="a test"
        )
        return {"stride": stride, "padding": padding, "dilation": dilation, "groups": self.groups}

    @property
    def shape(self) -> tuple[int, ...]:
        return conv_shape(self.x, self.weight, **self.static)


CASES = [
    Case("grey", (2, 9, 8, 1), (5, 5), 3),
    Case("few channels", (2, 9, 8, 3), (3, 3), 4, padding="same"),
    Case("many channels", (2, 7, 9, 8), (3, 3), 6, padding=1),
    Case("pointwise", (2, 5, 6, 7), (1, 1), 4),
    Case("pointwise, stride 2", (2, 5, 6, 7), (1, 1), 4, stride=2),
    Case("one image, one pixel", (1, 1, 1, 3), (1, 1), 2),
    Case("kernel as large as x", (2, 4, 3, 5), (4, 3), 2),
    Case("even kernel", (2, 6, 7, 2), (2, 4), 3, padding="same"),
    Case("stride 2, same, even", (2, 8, 8, 5), (3, 3), 4, stride=2, padding="same"),
    Case("stride 2, same, odd", (2, 7, 9, 5), (3, 3), 4, stride=2, padding="same"),
    Case("stride 3, rest unused", (2, 9, 11, 6), (2, 3), 5, stride=3),
    Case("stride beyond the kernel", (2, 9, 9, 2), (2, 2), 3, stride=(4, 3)),
    Case("strides differ", (3, 8, 9, 2), (3, 2), 3, stride=(1, 3), padding=(1, 0)),
    Case("dilation", (2, 9, 10, 6), (3, 3), 4, dilation=2, padding="same"),
    Case("dilations differ", (2, 9, 10, 2), (3, 2), 4, dilation=(1, 3)),
    Case(
        "stride and dilation", (2, 12, 13, 5), (3, 3), 4, stride=(2, 3), dilation=(4, 2), padding=3
    ),
    Case("asymmetric padding", (2, 6, 5, 6), (3, 2), 4, padding=((2, 0), (1, 3))),
    Case("padding beyond the kernel", (2, 4, 5, 6), (2, 2), 5, padding=((3, 2), (2, 4))),
    Case("two groups", (2, 7, 6, 4), (3, 3), 6, groups=2, padding="same"),
    Case("wide groups", (2, 6, 6, 36), (3, 3), 4, groups=2, stride=2, padding=1),
    Case("many small groups", (2, 6, 6, 10), (2, 2), 15, groups=5),
    Case("depthwise", (2, 7, 6, 5), (3, 3), 5, groups=5, padding="same"),
    Case("depthwise, two features each", (2, 7, 6, 3), (3, 2), 6, groups=3, stride=2, dilation=2),
    Case("empty batch", (0, 6, 5, 2), (3, 3), 4),
]
over_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(params=["standard", "kernel"])
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run NumPy arrays through the standard version, and through the kernel."""
    chosen = {"standard": conv2d, "kernel": KERNEL}[request.param]
    monkeypatch.setitem(conv2d.overlays, numpy_namespace, chosen)
    return request.param


def arrays(case: Case, place: str = "cpu", dtype: str = "float64") -> list[Any]:
    """x, weight, bias, and a gradient of the output."""
    shapes = (case.x, case.weight, (case.features,), case.shape)
    return [make(shape, place, dtype, seed=i) for i, shape in enumerate(shapes)]


def gradients(case: Case, *xs: Any) -> tuple[Any, tuple[Any, ...]]:
    y, pullback = vjp(lambda x, w, b: apply(conv2d, (x, w, b), case.static), *xs[:3])
    return y, pullback(xs[3])


# ------------------------------------------------------------------------------- oracles


@pytest.mark.oracle
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
@over_cases
def test_torch_agrees(case: Case, dtype: str, tolerance: float, version: str) -> None:
    torch = pytest.importorskip("torch")
    raw = arrays(case, dtype=dtype)
    y, found = gradients(case, *raw)
    x, w, b, g = (torch.asarray(a) for a in raw)
    for leaf in (x, w, b):
        leaf.requires_grad_()
    (top, bottom), (left, right) = case.static["padding"]
    expected = torch.nn.functional.conv2d(
        torch.nn.functional.pad(x, (0, 0, left, right, top, bottom)).permute(0, 3, 1, 2),
        w.permute(3, 2, 0, 1), b, stride=case.static["stride"], dilation=case.static["dilation"],
        groups=case.groups,
    ).permute(0, 2, 3, 1)  # fmt: skip
    assert_close(y, expected.detach().numpy(), tolerance, tolerance)
    grads = torch.autograd.grad(expected, (x, w, b), g)
    assert_close(found, tuple(a.numpy() for a in grads), tolerance, 10 * tolerance)


@pytest.mark.oracle
@over_cases
def test_torch_differentiates_our_forward(case: Case) -> None:
    torch = pytest.importorskip("torch")
    raw = arrays(case, "torch:cpu")
    leaves = [a.clone().requires_grad_() for a in raw[:3]]
    y = apply(conv2d, leaves, case.static)
    expected = torch.autograd.grad(y, leaves, raw[3])
    assert_close(gradients(case, *raw)[1], tuple(expected), 1e-12, 1e-11)


@pytest.mark.oracle
@pytest.mark.parametrize("case", [CASES[i] for i in (1, 8, 15, 21)], ids=lambda case: case.name)
def test_jax_differentiates_our_forward(case: Case) -> None:
    jax = pytest.importorskip("jax")
    raw = arrays(case, "jax:cpu", "float32")
    y, pullback = jax.vjp(lambda *xs: apply(conv2d, xs, case.static), *raw[:3])
    assert y.shape == case.shape
    assert_close(gradients(case, *raw)[1], pullback(raw[3]), 1e-4, 1e-4)


@pytest.mark.parametrize("case", [c for c in CASES if c.x[0]], ids=lambda case: case.name)
def test_finite_differences(case: Case, version: str) -> None:
    x, w, b, _ = arrays(case)
    check_grad(lambda *xs: apply(conv2d, xs, case.static), x, w, b, order=2)


def test_third_derivative(version: str) -> None:
    case = Case("", (1, 5, 4, 2), (2, 3), 2, stride=2, padding="same")
    x, w, b, _ = arrays(case)
    check_grad(lambda *xs: apply(conv2d, xs, case.static) ** 3, x, w, b, order=3, rtol=1e-4)


def test_complex_numbers(version: str) -> None:
    case = Case("", (2, 5, 4, 4), (2, 3), 4, stride=(1, 2), groups=2)
    x, w, b, _ = arrays(case, dtype="complex128")
    check_grad(lambda *xs: apply(conv2d, xs, case.static), x, w, b, order=2)


# -------------------------------------------------------------------- kernel and standard


@st.composite
def geometries(draw: st.DrawFn) -> Case:
    size, few = st.integers(1, 11), st.integers(1, 4)
    two = st.tuples(few, few)
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 6]))
    channels = groups * draw(st.sampled_from([1, 2, 5, 9]))
    pads = st.tuples(st.integers(0, 4), st.integers(0, 4))
    return Case(
        "drawn",
        (draw(st.integers(0, 3)), draw(size), draw(size), channels),
        draw(two),
        groups * draw(st.sampled_from([1, 2, 6])),
        draw(two),
        draw(st.one_of(st.just("same"), st.just("valid"), st.tuples(pads, pads))),
        draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        groups,
    )


@given(
    geometries(), st.sampled_from([1 << 21, 1 << 10, 1 << 5]), st.sampled_from([0, 1 << 40]),
    st.booleans(),
)  # fmt: skip
def test_kernel_equals_standard(case: Case, block: int, shared: int, with_bias: bool) -> None:
    static = case.static
    raw = [np.zeros(case.x), np.zeros(case.weight), np.zeros(case.features)]
    if not KERNEL.accepts(*raw, **static):  # type: ignore[misc]
        with pytest.raises(ShapeError, match="hold a window"):
            conv2d.forward(numpy_namespace, *raw, **static)
        return
    x, w, b, g = arrays(case)
    b = b if with_bias else None
    needs = [True, True, with_bias]
    for a in (x, w, g):
        a.flags.writeable = False
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_BLOCK", block), ("_SHARED", shared)):
            patch.setattr(numpy_im2col, name, value)  # many blocks, bands of one image
        patch.setattr(numpy_depthwise, "_SHARED", shared)
        patch.setattr(parallel, "_chosen", 2)
        patch.setitem(conv2d.overlays, numpy_namespace, conv2d)
        assert_close(
            KERNEL.forward(numpy_namespace, x, w, b, **static),
            conv2d.forward(numpy_namespace, x, w, b, **static), 1e-10, 1e-10,
        )  # fmt: skip
        assert_close(
            KERNEL.joint(numpy_namespace, g, needs, x, w, **static)[: 2 + with_bias],  # type: ignore[misc]
            conv2d.joint(numpy_namespace, g, needs, x, w, **static)[: 2 + with_bias],  # type: ignore[misc]
            1e-10, 1e-10,
        )  # fmt: skip


@given(
    n=st.integers(0, 5), size=st.tuples(st.integers(5, 19), st.integers(7, 12)),
    kernel=st.tuples(st.integers(2, 5), st.integers(1, 4)),
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    across=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.tuples(st.integers(0, 5), st.integers(0, 5)),
                      st.tuples(st.integers(0, 2), st.integers(0, 2))),
    block=st.sampled_from([1 << 21, 1 << 10]), threads=st.sampled_from([1, 2]),
)  # fmt: skip
def test_fewer_products_are_the_convolution(
    n: int, size: Any, kernel: Any, channels: Any, across: Any, padding: Any, block: int,
    threads: int,
) -> None:  # fmt: skip
    draw = np.random.default_rng(n)
    x, weight, bias = (
        draw.standard_normal(shape)
        for shape in ((n, *size, channels[0]), (*kernel, *channels), channels[1:])
    )
    window = Window.over(x, kernel, (1, across[0]), padding, (1, across[1]))
    y = np.zeros((n, *window.outputs, channels[1]))
    g = draw.standard_normal(y.shape)

    def all_of(way: Any, dtype: Any) -> list[Any]:
        a, w, b, grad, out = (v.astype(dtype) for v in (x, weight, bias, g, y))
        dx = np.empty_like(a)
        way.convolve(a, w, b, out, window)
        way.input_gradient(grad, w, dx, window)
        return [out, dx, *way.weight_gradient(grad, a, w, window)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numpy_winograd, "_BLOCK", block)
        patch.setattr(parallel, "_chosen", threads)
        found, again = (all_of(numpy_winograd, np.float32) for _ in range(2))
        expected = all_of(numpy_im2col, np.float64)
    for a, b, c in zip(found, expected, again, strict=True):
        assert a.dtype == np.float32
        assert np.array_equal(a, c)
        assert np.max(np.abs(a - b), initial=0) <= 1e-5 * np.max(np.abs(b), initial=1)


def test_fewer_products_are_used_where_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_conv.fast, "_forced", False)
    x, w = np.zeros((8, 32, 32, 32), np.float32), np.zeros((3, 3, 32, 32), np.float32)

    def way(x: Any, w: Any, stride: Any = (1, 1), dilation: Any = (1, 1)) -> Any:
        window = Window.over(x, w.shape[:2], stride, ((1, 1), (1, 1)), dilation)
        return numpy_conv._way(x, w, x, window)

    assert way(x, w) is way(x, w, (1, 2), (1, 2)) is numpy_winograd
    for other in (
        way(x, w, stride=(2, 1)), way(x, w, dilation=(2, 1)), way(x[:, :, :1], w),
        way(x[..., :2], w[..., :2, :]), way(x[:, :5], w), way(x, w[:1]),
        way(x.astype(np.float64), w.astype(np.float64)),
    ):  # fmt: skip
        assert other is numpy_im2col


def test_kernel_reuses_memory() -> None:
    first = numpy_memory.scratch("a test", (10, 10), np.float32)
    again = numpy_memory.scratch("a test", (3, 5), np.float64)
    assert np.shares_memory(first, again)
    assert again.shape == (3, 5)
    assert not np.shares_memory(first, numpy_memory.scratch("another", (3, 5), np.float64))


def test_results_are_not_in_reused_memory(version: str) -> None:
    case = CASES[2]
    raw = arrays(case)
    y, found = gradients(case, *raw)
    copies = [np.array(a) for a in (y, *found)]
    gradients(case, *(2 * a for a in raw))
    assert_close((y, *found), tuple(copies), 0.0)


def test_only_what_is_needed_is_computed(version: str) -> None:
    case = CASES[2]
    x, w, _, g = arrays(case)
    rule = conv2d.on(numpy_namespace).joint
    for i in range(3):
        found = rule(numpy_namespace, g, [i == j for j in range(3)], x, w, **case.static)  # type: ignore[misc]
        assert [a is not None for a in found] == [i == j for j in range(3)]


@pytest.mark.parametrize("case", [CASES[i] for i in (0, 2, 3, 8, 18, 21)], ids=lambda c: c.name)
def test_views(case: Case, version: str) -> None:
    """Channels first seen as last, every second row, reversed, and a gradient of strides zero."""
    raw = arrays(case)
    expected = gradients(case, *raw[:3], np.ones(case.shape))
    x, w, b, _ = raw
    x_view = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 3, 1)), 1, 3)
    w_view = np.repeat(w, 2, axis=1)[:, ::2]
    b_view = np.flip(np.flip(b).copy())
    ones = np.broadcast_to(np.ones(()), case.shape)
    found = gradients(case, x_view, w_view, b_view, ones)
    assert_close(found, expected, 1e-12, 1e-12)


# ----------------------------------------------------------------------------- everywhere


@pytest.mark.parametrize(
    "case", [CASES[i] for i in (1, 8, 15, 18, 21, 23)], ids=lambda case: case.name
)
def test_every_device(case: Case, device: Place) -> None:
    expected = gradients(case, *arrays(case, dtype="float32"))
    y, found = gradients(case, *arrays(case, device, "float32"))
    for a in (y, *found):
        assert backend.device_of(a) == device
    assert_close((y, *found), (expected[0], *expected[1]), 1e-4, 1e-4, check_dtype=False)


def test_without_a_bias(device: Place) -> None:
    case = CASES[1]
    x, w, _, g = arrays(case, device, "float32")
    x, w = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
    y = apply(conv2d, (x, w, None), case.static)
    y.backward(Tensor(g))
    assert y.shape == case.shape
    assert x.grad.shape == x.shape
    assert w.grad.shape == w.shape


def test_mixed_dtypes() -> None:
    case = CASES[1]
    x, w, b, g = arrays(case)
    y, found = gradients(case, x.astype("float32"), w, b, g)
    assert y.dtype == np.float64
    assert [a.dtype.name for a in found] == ["float32", "float64", "float64"]


def test_half_precision_where_a_library_has_it() -> None:
    case = CASES[1]
    raw = arrays(case, dtype="float16")
    y, found = gradients(case, *raw)
    assert {a.dtype.name for a in (y, *found)} == {"float16"}


@over_cases
def test_transpose(case: Case, version: str) -> None:
    """<conv(x), y> = <x, transpose(y)>."""
    x, w, _, y = arrays(case)
    static = case.static
    back = conv_transpose2d(numpy_namespace, y, w, None, size=case.x[1:3], **static)
    assert back.shape == case.x
    there = conv2d(numpy_namespace, x, w, None, **static)
    assert np.sum(there * y) == pytest.approx(np.sum(x * back), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("case", [c for c in CASES if c.x[0]], ids=lambda case: case.name)
def test_transpose_has_the_gradients_of_finite_differences(case: Case, version: str) -> None:
    _, w, _, y = arrays(case)
    b = make((case.x[3],), "cpu", "float64", seed=5)
    options = case.static | {"size": case.x[1:3]}
    check_grad(lambda *xs: apply(conv_transpose2d, xs, options), y, w, b, order=2)


def test_transpose_of_complex_numbers(version: str) -> None:
    case = Case("", (2, 5, 4, 4), (2, 3), 4, stride=(1, 2), groups=2)
    _, w, _, y = arrays(case, dtype="complex128")
    options = case.static | {"size": case.x[1:3]}
    check_grad(lambda y, w: apply(conv_transpose2d, (y, w, None), options), y, w, order=2)


def test_transpose_reaches_the_kernel_forwards_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def forward(*args: Any, **options: Any) -> Any:
        calls.append("forward")
        return numpy_conv.conv2d(*args, **options)

    def rule(xp: Any, g: Any, needs: Any, x: Any, weight: Any, **options: Any) -> Any:
        calls.append("weight gradient")
        return KERNEL.joint(xp, g, needs, x, weight, **options)  # type: ignore[misc]

    spy = Implementation(forward)
    spy.joint, spy.accepts = rule, KERNEL.accepts  # type: ignore[assignment]
    monkeypatch.setitem(conv2d.overlays, numpy_namespace, spy)
    case = CASES[8]
    _, w, _, y = arrays(case)
    options = case.static | {"size": case.x[1:3]}
    x, pullback = vjp(lambda y, w: apply(conv_transpose2d, (y, w, None), options), y, w)
    assert calls == ["forward"] * 4  # a phase each
    pullback(x)
    assert calls[4:] == ["forward", "weight gradient"]


# ------------------------------------------------------------------------ padding and errors


@pytest.mark.parametrize(
    ("padding", "size", "kernel", "stride", "dilation", "pairs"),
    [
        ("valid", (5, 5), (3, 3), (1, 1), (1, 1), ((0, 0), (0, 0))),
        ("same", (5, 5), (3, 2), (1, 1), (1, 1), ((1, 1), (0, 1))),
        ("same", (6, 5), (3, 3), (2, 2), (1, 1), ((0, 1), (1, 1))),  # as TensorFlow
        ("same", (224, 224), (7, 7), (2, 2), (1, 1), ((2, 3), (2, 3))),
        ("same", (5, 5), (1, 1), (2, 3), (1, 1), ((0, 0), (0, 0))),
        ("same", (9, 9), (3, 3), (1, 1), (2, 3), ((2, 2), (3, 3))),
        (2, (5, 5), (3, 3), (1, 1), (1, 1), ((2, 2), (2, 2))),
        ((1, 2), (5, 5), (3, 3), (1, 1), (1, 1), ((1, 1), (2, 2))),
        ([[1, 0], [0, 2]], (5, 5), (3, 3), (1, 1), (1, 1), ((1, 0), (0, 2))),
        ("full", (5, 5), (3, 2), (2, 1), (1, 3), ((2, 2), (3, 3))),
        ("full", (5,), (3,), (1,), (1,), ((2, 2),)),
        ("causal", (5,), (3,), (1,), (2,), ((4, 0),)),
        ((1, 2), (5,), (3,), (1,), (1,), ((1, 2),)),
        (1, (5,), (3,), (1,), (1,), ((1, 1),)),
    ],
)
def test_padding(
    padding: Any, size: Any, kernel: Any, stride: Any, dilation: Any, pairs: Any
) -> None:
    assert resolve_padding(padding, size, kernel, stride, dilation, who="a test") == pairs


@given(st.integers(1, 30), st.integers(1, 7), st.integers(1, 5), st.integers(1, 4))
def test_same_padding_gives_n_over_stride(n: int, k: int, s: int, d: int) -> None:
    padding = resolve_padding("same", (n,), (k,), (s,), (d,), who="a test")
    assert window_outputs((n,), (k,), (s,), padding, (d,), who="a test") == (-(-n // s),)
    (before, after) = padding[0]
    assert 0 <= after - before <= 1


@pytest.mark.parametrize(
    "padding", ["fully", "causal", -1, (1,), (1, 2, 3), ((1, 2), (1, -1)), 1.5, True, None]
)
def test_unknown_padding(padding: Any) -> None:
    message = r"Conv2D: expected padding to be 'valid', 'same' or 'full', a number .*, got"
    with pytest.raises(ConfigError, match=message):
        resolve_padding(padding, (5, 5), (3, 3), (1, 1), who="Conv2D")
    with pytest.raises(ConfigError, match=r"Conv1D: .* 'valid', 'same', 'full' or 'causal'"):
        resolve_padding("fully", (5,), (3,), (1,), who="Conv1D")


@pytest.mark.parametrize("stride", [0, -1, (1,), (1, 0), 1.5, True, "2", None])
def test_sizes_are_positive_integers(stride: Any) -> None:
    message = "Conv2D: expected stride to be a positive integer, or 2 of them, got"
    with pytest.raises(ConfigError, match=message):
        as_tuple(stride, "stride", who="Conv2D")


@pytest.mark.parametrize(
    ("shapes", "static", "message"),
    [
        (((5, 5, 1), (3, 3, 1, 2)), {}, r"expected x of shape \(N, H, W, C\) .* got \(5, 5, 1\)"),
        (((1, 5, 5, 1), (3, 3, 2)), {}, r"weight of shape \(kh, kw, C, O\), got"),
        (((2, 3, 8, 8), (3, 3, 3, 4)), {}, r"expected x with 3 channels .*channels_first"),
        (((2, 8, 8, 4), (3, 3, 2, 3)), {"groups": 2}, r"groups to divide the 3 features"),
        (((2, 8, 8, 4), (3, 3, 2, 3)), {"groups": 0}, r"the 3 features .* got groups=0"),
        (((2, 8, 8, 3), (3, 3, 2, 4)), {"groups": 2}, r"4 channels .* 2 groups, got x"),
        (((2, 8, 8, 4), (3, 3, 4, 3), (4,)), {}, r"expected bias of shape \(3,\), got \(4,\)"),
        (((2, 4, 9, 1), (5, 5, 1, 2)), {}, r"window of \(5, 5\) .* got \(4, 9\) .*'same'"),
        (((2, 8, 8, 1), (3, 3, 1, 2)), {"dilation": (4, 1)}, r"window of \(9, 3\)"),
        (((2, 0, 8, 1), (1, 1, 1, 2)), {}, r"got \(0, 8\)"),
    ],
)
def test_shape_errors(shapes: Any, static: Any, message: str, version: str) -> None:
    x, w, *b = (np.zeros(shape) for shape in shapes)
    with pytest.raises(ShapeError, match=message):
        apply(conv2d, (x, w, *(b or [None])), static)
