"""Many arrays joined in a captured step, where CuPy's own table of addresses may not be copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from gpu.twins import on_cuda, values
from xpnn import functional as F
from xpnn import layers, ops, replay
from xpnn.errors import GraphError
from xpnn.optim.clipping import _joined
from xpnn.primitives import convolution, recurrent, shape
from xpnn.training import capture

pytestmark = pytest.mark.gpu


def draw(*sizes: int, seed: int = 0, dtype: str = "float32") -> Any:
    return np.random.default_rng(seed).standard_normal(sizes).astype(dtype)


def same_when_captured(step: Callable[..., Any], *xs: Any) -> None:
    """Assert that a captured step gives what it gives elsewhere, also of other values."""
    captured = capture(step, warmup=1)
    for scale in (1.0, 1.0, 2.0):
        given = [x * x.dtype.type(scale) for x in xs]
        found = values(captured(*on_cuda(tuple(given))))
        expected = step(*given)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, xpnn.to_numpy(b), rtol=1e-5, atol=1e-5)
    assert captured.recordings == 1


@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize("count", [8, 9, 20])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_joined_arrays(count: int, axis: int, dtype: str) -> None:
    x = (draw(count, 3, 4) * 10).astype(dtype)

    def step(x: Any) -> Any:
        parts = [x[i, ...] for i in range(count)]
        return ops.stack(parts, axis=axis), ops.concat(parts, axis=axis)

    same_when_captured(step, x)


def test_arrays_of_several_lengths() -> None:
    def step(x: Any) -> Any:
        return (ops.concat([x[:, i : 2 * i + 1] for i in range(10)], axis=1),)

    same_when_captured(step, draw(2, 20))


@pytest.mark.parametrize("join", [ops.stack, ops.concat])
def test_gradients(join: Any) -> None:
    def step(x: Any) -> Any:
        return (xpnn.grad(lambda x: ops.sum(join(list(ops.unstack(x))[:11]) ** 3))(x),)

    same_when_captured(step, draw(12, 3))


def test_only_what_a_recording_needs_is_joined_in_another_way() -> None:
    xs = on_cuda(tuple(draw(3, seed=i) for i in range(9)))
    kernel = shape.concat.on(xpnn.array_namespace(*xs))
    assert not kernel.accepts(*xs, axis=0)
    with replay.recording():
        assert kernel.accepts(*xs, axis=0)
        assert not kernel.accepts(*xs[:8], axis=0)
        assert not kernel.accepts(xs[0].astype("float64"), *xs[1:], axis=0)


def standard_scan(x: Any, w: Any, u: Any, peephole: Any) -> Any:
    """Return an LSTM's states and gradients by the standard version, which joins its steps."""
    xp, rule = xpnn.array_namespace(x), recurrent.lstm_scan
    start = xp.zeros_like(x[:, 0, :])
    arrays = (x, w, u, None, start, start, peephole, None)
    static = {**rule.defaults}
    y, res = rule.forward(xp, *arrays, **static)
    needs = [a is not None for a in arrays]
    g = (y[0] * 2, None, None)
    grads = rule.joint(xp, g, needs, *rule.joint.take(y, res, arrays), **static)
    return y[0], *(d for d in grads if d is not None)


def standard_convolution(x: Any, w: Any) -> Any:
    rule = convolution.conv2d
    static = {**rule.defaults, "padding": ((1, 1), (1, 1))}
    return (rule.forward(xpnn.array_namespace(x), x, w, None, **static),)


STEPS: dict[str, tuple[Any, ...]] = {
    "recurrent": (standard_scan, draw(2, 11, 3), draw(3, 12), draw(3, 12, seed=1), draw(3, 3)),
    "products": (
        lambda x: (xpnn.grad(lambda x: ops.sum(ops.cumulative_prod(x, axis=1) ** 2))(x),),
        draw(2, 10),
    ),
    "windows": (lambda x: (F.im2col(x, (3, 3), padding=1),), draw(2, 4, 5, 1)),
    "taps": (standard_convolution, draw(2, 4, 5, 2), draw(3, 3, 2, 2, seed=1)),
    "enlarged": (
        lambda x: (layers.UpSample2D(9, interpolation="bilinear")(x),),
        draw(1, 2, 2, 2),
    ),
    "Concatenate": (
        lambda x: (layers.Concatenate()(*[x[:, i : i + 2] for i in range(9)]),),
        draw(3, 10),
    ),
    "Maximum": (lambda x: (layers.Maximum()(*[x[:, i : i + 2] for i in range(9)]),), draw(3, 10)),
    "norms": (lambda x: (_joined([x[i, ...] for i in range(10)]),), draw(10)),
}


@pytest.mark.parametrize("name", STEPS)
def test_what_joins_many_arrays_can_be_captured(name: str) -> None:
    same_when_captured(*STEPS[name])


@pytest.mark.parametrize("name", ["a table", "an array", "a list of indices"])
def test_what_comes_from_the_host_is_an_error_that_says_so(name: str) -> None:
    usable("cuda")
    import cupy

    steps = {
        "a table": lambda x: cupy.stack([x] * 9),
        "an array": lambda x: x + xpnn.asarray(np.ones(3, "float32"), device="cuda:0"),
        "a list of indices": lambda x: x[[0, 2]],
    }
    f = capture(steps[name], warmup=1)
    x = on_cuda(draw(3))
    f(x)
    with pytest.raises(GraphError, match=r"nor may an array come from the host.*given"):
        f(x)
    assert values(x * 2).shape == (3,)


def test_a_number_of_the_host_may_be_in_a_recording() -> None:
    def step(x: Any) -> Any:
        xp = xpnn.array_namespace(x)
        return (x * xp.asarray(3.0, dtype=x.dtype),)

    same_when_captured(step, draw(3))
