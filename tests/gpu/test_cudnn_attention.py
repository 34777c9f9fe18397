"""Attention by cuDNN: what it is asked for, with an emulated module in its place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from emulation.cudnn import FakeCudnn
from helpers import usable

import xpnn
from gpu.test_attention import LOOSE, heads
from gpu.twins import DTYPES, draw, on_cuda, same, values
from xpnn import functional as F
from xpnn import layers, ops
from xpnn.kernels import cudnn, cupy_attention
from xpnn.kernels.cupy_launch import cupy
from xpnn.primitives.attention import attention

pytestmark = pytest.mark.gpu
HALVES = [dtype for dtype in DTYPES if dtype.endswith("16")]
NEEDS = [True, True, True, False, False]
OPTIONS = {"scale": 0.3, "causal": False, "gain": 1.0, "block": 2**24}
RNG = np.random.default_rng
both = pytest.mark.parametrize("dtype", HALVES)


def halves(
    *lead: int, length: int = 128, keys: int = 128, size: int = 8, width: int = 8,
    dtype: str = "float16",
) -> tuple[Any, ...]:  # fmt: skip
    return heads(*lead, length=length, keys=keys, size=size, width=width, dtype=dtype)


def check(q: Any, k: Any, v: Any, g: Any, **more: Any) -> None:
    more = {"needs": NEEDS, "tolerance": LOOSE[q.dtype.name], **OPTIONS, **more}
    same(attention, (q, k, v, None, None), g, **more)


def kinds(module: FakeCudnn) -> list[str]:
    return [kind for kind, _ in module.runs]


@both
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("length", "keys"), [(128, 128), (256, 128), (128, 384)])
def test_as_the_standard_version(
    fake_cudnn: FakeCudnn, length: int, keys: int, causal: bool, dtype: str
) -> None:
    arrays = halves(2, 3, length=length, keys=keys, size=24, width=16, dtype=dtype)
    check(*arrays, causal=causal)
    assert kinds(fake_cudnn) == ["sdpa", "sdpa_backward"] * 2
    assert len(fake_cudnn.graphs) == 2


@both
@pytest.mark.parametrize("causal", [False, True])
def test_as_pytorch(fake_cudnn: FakeCudnn, causal: bool, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    arrays = halves(2, 2, length=256, keys=128, size=16, width=8, dtype=dtype)
    q, k, v, g = on_cuda(arrays)
    y, pullback = xpnn.vjp(lambda *xs: F.attention(*xs, causal=causal), q, k, v)
    found = values((y, *pullback(g)))
    assert kinds(fake_cudnn) == ["sdpa", "sdpa_backward"]
    *theirs, upstream = (torch.tensor(x.astype("float32"), requires_grad=True) for x in arrays)
    out = torch.nn.functional.scaled_dot_product_attention(*theirs, is_causal=causal)
    expected = (out, *torch.autograd.grad(out, theirs, upstream))
    for ours, other in zip(found, expected, strict=True):
        assert ours.dtype.name == dtype
        bound = LOOSE[dtype]
        np.testing.assert_allclose(
            ours.astype("float32"), other.detach().numpy(), rtol=bound, atol=bound
        )


@both
def test_as_the_kernels_and_together_with_them(fake_cudnn: FakeCudnn, dtype: str) -> None:
    """What one keeps for the gradient the other can take up."""
    q, k, v, g = on_cuda(halves(2, length=256, keys=128, dtype=dtype))

    def forward() -> Any:
        return cupy_attention.attention(None, q, k, v, None, None, **OPTIONS)

    def backward(y: Any, res: Any) -> Any:
        rest = (NEEDS, q, k, v, None, None, y, res, *OPTIONS.values())
        return values(cupy_attention.attention_vjp(None, g, *rest)[:3])

    y, logarithm = forward()
    fake_cudnn.refuses = lambda graph: True
    cudnn._plans.clear()
    ours, ours_logarithm = forward()
    assert logarithm.shape == ours_logarithm.shape
    assert logarithm.dtype == ours_logarithm.dtype
    np.testing.assert_allclose(values(logarithm), values(ours_logarithm), atol=1e-5)
    expected = backward(ours, ours_logarithm)
    ours_of_its = backward(y, logarithm)
    assert kinds(fake_cudnn) == ["sdpa"]
    fake_cudnn.refuses = lambda graph: False
    cudnn._plans.clear()
    its_of_ours = backward(ours, ours_logarithm)
    assert kinds(fake_cudnn) == ["sdpa", "sdpa_backward"]
    wide = [[x.astype("float32") for x in xs] for xs in (expected, ours_of_its, its_of_ours)]
    for a, b, c in zip(*wide, strict=True):
        np.testing.assert_allclose(b, a, rtol=LOOSE[dtype], atol=LOOSE[dtype])
        np.testing.assert_allclose(c, a, rtol=LOOSE[dtype], atol=LOOSE[dtype])


@pytest.mark.parametrize("lead", [(), (3,), (1, 2), (2, 1), (2, 1, 3)])
def test_axes_of_heads(fake_cudnn: FakeCudnn, lead: tuple[int, ...]) -> None:
    check(*halves(*lead, length=128, keys=256, width=16))
    assert kinds(fake_cudnn) == ["sdpa", "sdpa_backward"] * 2
    assert fake_cudnn.graphs[0].tensors["q"].dim[:2] == [math.prod(lead[:-1]), (1, *lead)[-1]]


def test_heads_beside_their_features_are_read_as_they_lie(fake_cudnn: FakeCudnn) -> None:
    q, k, v, g = on_cuda(tuple(x.swapaxes(1, 2).copy() for x in halves(2, 3, width=16)))
    *xs, g = (x.transpose(0, 2, 1, 3) for x in (q, k, v, g))
    y, res = cupy_attention.attention(None, *xs, None, None, **OPTIONS)
    rest = (NEEDS, *xs, None, None, y, res, *OPTIONS.values())
    gradients = cupy_attention.attention_vjp(None, g, *rest)[:3]
    forward, backward = fake_cudnn.graphs
    narrow, wide = [128 * 3 * 8, 8, 3 * 8, 1], [128 * 3 * 16, 16, 3 * 16, 1]
    lie = {name: t.stride for graph in (forward, backward) for name, t in graph.tensors.items()}
    assert lie.pop("stats") == [3 * 128, 128, 1, 1]
    assert {name: lie[name] for name in ("q", "k", "dQ", "dK")} == dict.fromkeys(
        ("q", "k", "dQ", "dK"), narrow
    )
    assert {name: lie[name] for name in ("v", "o", "dO", "dV")} == dict.fromkeys(
        ("v", "o", "dO", "dV"), wide
    )
    for x in (y, *gradients):
        assert x.transpose(0, 2, 1, 3).flags.c_contiguous
    again = cupy_attention.attention_vjp(None, cupy().ascontiguousarray(g), *rest)[:3]
    for a, b in zip(again, gradients, strict=True):
        np.testing.assert_array_equal(values(a), values(b))
    assert len(fake_cudnn.graphs) == 2, "the gradient of the output lies as the output"


def test_what_lies_otherwise_is_copied(fake_cudnn: FakeCudnn) -> None:
    """Features apart, heads that are one in memory, rows and arrays that begin between."""
    arrays = halves(2, 3)
    q, k, v, g = on_cuda(arrays)
    expected = cupy_attention.attention(None, q, k, v, None, None, **OPTIONS)
    q_apart = cupy().empty((2, 3, 8, 128), q.dtype).swapaxes(2, 3)
    k_between = cupy().empty(k.size + 1, k.dtype)[1:].reshape(k.shape)
    v_between = cupy().empty((2, 3, 128, 9), v.dtype)[..., :8]
    for x, y in ((q_apart, q), (k_between, k), (v_between, v)):
        x[...] = y
    found = cupy_attention.attention(None, q_apart, k_between, v_between, None, None, **OPTIONS)
    np.testing.assert_array_equal(values(found[0]), values(expected[0]))
    one = cupy().broadcast_to(k[:1, :1], k.shape)
    found, expected = (
        cupy_attention.attention(None, q, x, v, None, None, **OPTIONS) for x in (one, one.copy())
    )
    np.testing.assert_array_equal(values(found[0]), values(expected[0]))
    upstream = cupy().broadcast_to(g[:1, :1], g.shape)
    rest = (NEEDS, q, one, v, None, None, *expected, *OPTIONS.values())
    of_one = cupy_attention.attention_vjp(None, upstream, *rest)[:3]
    of_many = cupy_attention.attention_vjp(None, upstream.copy(), *rest)[:3]
    for a, b in zip(of_one, of_many, strict=True):
        np.testing.assert_array_equal(values(a), values(b))
    assert kinds(fake_cudnn) == ["sdpa"] * 4 + ["sdpa_backward"] * 2
    assert len(fake_cudnn.graphs) == 2


LEFT = {
    "float32": (halves(2, dtype="float32"), {}),
    "rows that fill no tile": (halves(2, length=64), {}),
    "keys that fill no tile": (halves(2, keys=192), {}),
    "a row": (halves(2, length=1), {}),
    "seven features": (halves(2, size=7), {}),
    "four features of values": (halves(2, width=4), {}),
    "wide heads": (halves(1, size=264), {}),
    "a scale below zero": (halves(2), {"scale": -0.3}),
    "a boolean mask": (halves(2), {"mask": RNG(0).random((128, 128)) < 0.9}),
    "a mask that is added": (halves(2), {"mask": draw(RNG(0), 1, 128, dtype="float16")}),
    "dropout": (halves(2), {"keep": RNG(0).random((2, 128, 128)) < 0.9, "gain": 1 / 0.9}),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_the_kernels_compute(fake_cudnn: FakeCudnn, case: str) -> None:
    (q, k, v, g), more = LEFT[case]
    static = {**OPTIONS, **more}
    masks = [static.pop(name, None) for name in ("mask", "keep")]
    needs = [True, True, True, masks[0] is not None and masks[0].dtype != bool, False]
    bound = LOOSE[q.dtype.name]
    same(attention, (q, k, v, *masks), g, needs=needs, tolerance=bound, **static)
    assert not fake_cudnn.graphs
    assert not cudnn._refusals, "nothing was asked"


@pytest.mark.parametrize("needs", [0, 1, 2])
def test_only_what_is_wanted(fake_cudnn: FakeCudnn, needs: int) -> None:
    check(*halves(2), needs=[i == needs for i in range(5)])
    assert kinds(fake_cudnn) == ["sdpa", "sdpa_backward"] * 2


def test_plans_are_kept_by_scale_mask_and_layout(fake_cudnn: FakeCudnn) -> None:
    q, k, v, _ = on_cuda(halves(2, 3))
    turned = cupy().ascontiguousarray(q.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    for _ in range(2):
        for options in (OPTIONS, {**OPTIONS, "scale": 0.5}, {**OPTIONS, "causal": True}):
            for x in (q, turned):
                cupy_attention.attention(None, x, k, v, None, None, **options)
    assert len(fake_cudnn.runs) == 12
    assert len(fake_cudnn.graphs) == 6


def test_which_plans_are_left_out(fake_cudnn: FakeCudnn) -> None:
    check(*halves(2))
    for graph in fake_cudnn.graphs:
        assert graph.unwanted == {"NONDETERMINISTIC"}
        assert graph.without == ["sdpa_fwd_", "sdpa_bwd_"]
    before = len(fake_cudnn.runs)
    fake_cudnn.workspace = (1 << 30) + 1
    check(*halves(4))
    assert len(fake_cudnn.runs) == before
    assert cudnn.status() == (
        "9.13.0, for convolutions and attention in 16 bits, but not for 2 kinds of them (the last:"
        " gradient of attention of (1, 4, 128, 8), (1, 4, 128, 8), (1, 4, 128, 8) in float16:"
        " Requires 1073741825 bytes of workspace)"
    )


def test_a_gradient_without_a_plan_is_that_of_the_kernels(fake_cudnn: FakeCudnn) -> None:
    fake_cudnn.refuses = lambda graph: graph.kind == "sdpa_backward"
    check(*halves(2), causal=True)
    assert kinds(fake_cudnn) == ["sdpa"] * 2
    assert cudnn._refusals == [
        "gradient of attention of (1, 2, 128, 8), (1, 2, 128, 8), (1, 2, 128, 8) in float16,"
        " causal: No valid execution plans were built"
    ]


@both
def test_a_layer_is_recorded(fake_cudnn: FakeCudnn, dtype: str) -> None:
    """Its heads go in as they lie, in the memory of the recording, and its gradients are those."""
    fake_cudnn.workspace = 1000
    with xpnn.device(usable("cuda")):
        layer = layers.MultiHeadAttention(2, causal=True)

        def gradient(x: Any) -> Any:
            with xpnn.autocast(dtype):
                y, pullback = xpnn.vjp(lambda x: ops.sum(layer(x) ** 2), x)
            return y, pullback(ops.ones_like(y))[0]

        inputs = [
            xpnn.asarray(draw(RNG(i), 2, 128, 16, dtype="float32"), device="cuda:0")
            for i in range(5)
        ]
        layer(inputs[0])  # makes its weights
        layer.freeze()
        expected = [[xpnn.to_numpy(x) for x in gradient(x)] for x in inputs]
        assert {t.stride[1] for t in fake_cudnn.graphs[0].tensors.values()} == {8, 128}
        step = xpnn.capture(gradient)
        before = len(fake_cudnn.runs)
        for x, values_of_it in zip(inputs, expected, strict=True):
            for a, b in zip(step(x), values_of_it, strict=True):
                np.testing.assert_array_equal(xpnn.to_numpy(a), b)
    assert step.recordings == 1
    assert kinds(fake_cudnn)[before:] == ["sdpa", "sdpa_backward"] * 3, "two steps, and a recording"
    assert len(fake_cudnn.graphs) == 2
