"""Functions in which CuPy widens bfloat16, or refuses it: here they keep it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from gpu.twins import DTYPES, draw, on_cuda, values
from xpnn import ops

pytestmark = [
    pytest.mark.gpu, pytest.mark.skipif("bfloat16" not in DTYPES, reason="needs ml_dtypes"),
]  # fmt: skip

# By name, functions of x, y and a condition, with a derivative or without.
SMOOTH: dict[str, Callable[..., Any]] = {
    "where": lambda x, y, c: ops.where(c, x, y),
    "where, broadcast": lambda x, y, c: ops.where(c, x, y[0, 0]),
    "where, a number": lambda x, y, c: ops.where(c, x, 0.5),
    "where, a number first": lambda x, y, c: ops.where(c, -1, x),
    "tril": lambda x, y, c: ops.tril(x, k=1),
    "triu": lambda x, y, c: ops.triu(x),
    "clip": lambda x, y, c: ops.clip(x, -0.5, y),
    "var": lambda x, y, c: ops.var(x, axis=1, correction=1.0),
    "std": lambda x, y, c: ops.std(x, axis=0, keepdims=True),
    "vector_norm": lambda x, y, c: ops.linalg.vector_norm(x, axis=0),
    "vector_norm, 1": lambda x, y, c: ops.linalg.vector_norm(x, ord=1),
    "matrix_norm": lambda x, y, c: ops.linalg.matrix_norm(x),
    "matrix_norm, inf": lambda x, y, c: ops.linalg.matrix_norm(x, ord=np.inf),
    "square": lambda x, y, c: x**2.0,
    "cube": lambda x, y, c: x**3.0,
    "root": lambda x, y, c: ops.abs(x) ** 0.5,
    "reciprocal": lambda x, y, c: ops.pow(x, -1.0),
    "sort": lambda x, y, c: ops.sort(x, axis=0),
    "sort, descending": lambda x, y, c: ops.sort(x, descending=True),
}
STEPS: dict[str, Callable[..., Any]] = {
    "round": lambda x, y, c: ops.round(4 * x),
    "sign": lambda x, y, c: ops.sign(x),
    "argsort": lambda x, y, c: ops.argsort(x, axis=0),
    "argsort, descending": lambda x, y, c: ops.argsort(x, descending=True),
    "isin": lambda x, y, c: ops.isin(x, x[0, :]),
    "unique_all": lambda x, y, c: tuple(ops.unique_all(ops.round(x))),
    "unique_counts": lambda x, y, c: tuple(ops.unique_counts(ops.round(x))),
    "unique_inverse": lambda x, y, c: tuple(ops.unique_inverse(ops.round(x))),
    "unique_values": lambda x, y, c: ops.unique_values(x),
}


def given() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    x, y = (draw(rng, 3, 4, dtype="bfloat16") for _ in range(2))
    return x, y, y > x


def wide(x: Any) -> Any:
    return x.astype("float32") if x.dtype.name == "bfloat16" else x


def like(found: Any, expected: Any) -> None:
    """Assert that numbers agree, and that those that are float32 on the host are bfloat16."""
    narrow = "bfloat16" if expected.dtype.name == "float32" else expected.dtype.name
    assert found.dtype.name == narrow
    assert found.shape == expected.shape
    found, expected = wide(xpnn.to_numpy(found)), xpnn.to_numpy(expected)
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", [*SMOOTH, *STEPS])
def test_what_comes_of_bfloat16(name: str) -> None:
    usable("cuda")
    f = {**SMOOTH, **STEPS}[name]
    found = f(*map(xpnn.Tensor, on_cuda(given())))
    expected = f(*(xpnn.Tensor(wide(x)) for x in given()))
    assert isinstance(found, tuple) == isinstance(expected, tuple)
    pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
    for ours, theirs in pairs:
        like(ours, theirs)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients(name: str) -> None:
    usable("cuda")
    f = SMOOTH[name]
    grads = []
    for xs in (on_cuda(given()), tuple(map(wide, given()))):
        x, y, c = (xpnn.Tensor(xs[0], requires_grad=True), *map(xpnn.Tensor, xs[1:]))
        out = f(x, y, c)
        out.backward(ops.ones_like(out))
        grads.append(x.grad)
    assert grads[0].dtype.name == "bfloat16"
    bound = 4e-2 * float(np.max(np.abs(xpnn.to_numpy(grads[1]))))
    np.testing.assert_allclose(wide(values(grads[0].data)), xpnn.to_numpy(grads[1]), atol=bound)


def test_second_derivatives() -> None:
    def slope(x: Any) -> Any:
        return ops.sum(xpnn.grad(lambda x: ops.sum(ops.var(x, axis=0) ** 2.0))(x))

    x = given()[0]
    found = xpnn.grad(slope)(xpnn.Tensor(on_cuda(x)))
    expected = xpnn.grad(slope)(xpnn.Tensor(wide(x)))
    np.testing.assert_allclose(
        wide(xpnn.to_numpy(found)), xpnn.to_numpy(expected), rtol=0.1, atol=0.1
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_other_dtypes_are_left_to_cupy(dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, y = ((8 * rng.standard_normal((3, 4))).astype(dtype) for _ in range(2))
    for f, g in [
        (lambda x, y: ops.where(x > y, x, y), lambda x, y: np.where(x > y, x, y)),
        (lambda x, y: ops.where(x > y, x, 2), lambda x, y: np.where(x > y, x, 2)),
        (lambda x, y: ops.where(x > y, 2, y), lambda x, y: np.where(x > y, 2, y)),
        (lambda x, y: ops.sort(x), lambda x, y: np.sort(x)),
        (lambda x, y: ops.tril(x), lambda x, y: np.tril(x)),
        (lambda x, y: ops.round(x), lambda x, y: np.round(x)),
    ]:
        found = values(f(*on_cuda((x, y))))
        assert found.dtype == x.dtype
        np.testing.assert_array_equal(found, g(x, y))


def test_a_gradient_keeps_the_dtype_of_its_argument() -> None:
    """Also where bfloat16 stands beside it."""
    x, y, _ = given()
    t, low = xpnn.Tensor(on_cuda(wide(x)), requires_grad=True), on_cuda(y)
    ops.sum(ops.clip(t, low, None)).backward()
    assert t.grad is not None
    assert t.grad.dtype.name == "float32"
    np.testing.assert_array_equal(values(t.grad.data), wide(x) >= wide(y))


def test_bfloat16_beside_float32_is_float32() -> None:
    x, y, c = given()
    found = ops.where(*on_cuda((c, x, wide(y))))
    assert found.dtype.name == "float32"
    np.testing.assert_array_equal(values(found), np.where(c, wide(x), wide(y)))
