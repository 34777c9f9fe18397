"""The derivatives of ``xpnn.ops`` agree with those of PyTorch and JAX, on every array library.

A row's formula is written against the standard, so PyTorch's and JAX's own differentiation runs the
very same one. Upstream gradients are random: ones would hide what a wrong rule does to them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import on, usable
from ops_table import DIFFERENTIABLE, Row

import xpnn
from xpnn import ops

rows = pytest.mark.parametrize("row", DIFFERENTIABLE, ids=str)
# JAX compiles every operation for every shape: a row or two of each function are enough.
_SOME = {(row.name, row.note == "complex"): row for row in reversed(DIFFERENTIABLE)}
_PLAIN_COMPLEX = ("abs", "conj", "exp", "multiply", "prod", "real", "square", "sum", "vecdot")
some_rows = pytest.mark.parametrize(
    "row",
    [row for (name, is_complex), row in _SOME.items() if name in _PLAIN_COMPLEX or not is_complex],
    ids=str,
)


def outputs(y: Any) -> list[Any]:
    return list(y) if isinstance(y, (tuple, list)) else [y]


def differentiated(xs: list[Any]) -> list[int]:
    """Return the places of the floating-point arrays."""
    return [i for i, x in enumerate(xs) if x.dtype.kind in "fc"]


def closed(row: Row, xp: Any, xs: list[Any], places: list[int]) -> Callable[..., Any]:
    """Return the row's call as a function of the arrays at ``places``."""

    def f(*chosen: Any) -> Any:
        full = list(xs)
        for i, x in zip(places, chosen, strict=True):
            full[i] = x
        return row.call(xp, *full)

    return f


def single(x: Any) -> Any:
    return x.astype({"f": "float32", "c": "complex64"}.get(x.dtype.kind, x.dtype))


def upstream(y: Any) -> Any:
    """Return random gradients of the shapes and dtypes of outputs that are NumPy arrays."""
    rng = np.random.default_rng(7)

    def one(out: Any) -> Any:
        g = rng.normal(size=out.shape)
        if out.dtype.kind == "c":
            g = g + 1j * rng.normal(size=out.shape)
        return np.asarray(g, dtype=out.dtype)

    return [one(out) for out in y]


def ours(row: Row, xs: list[Any], device: str = "cpu") -> tuple[list[Any], list[Any]]:
    """Return outputs and gradients of ``xpnn`` on a device, as NumPy arrays."""
    places = differentiated(xs)
    moved = [on(device, x) for x in xs]
    f = closed(row, ops, [xpnn.Tensor(x) for x in moved], places)
    chosen = [moved[i] for i in places]
    y, pullback = xpnn.vjp(f, *chosen)
    ys = [xpnn.to_numpy(out) for out in outputs(y)]
    gs = [on(device, g) for g in upstream(ys)]
    found = pullback(tuple(gs) if isinstance(y, tuple) else gs[0])
    found = found if len(chosen) > 1 else (found,)
    for x, dx in zip(chosen, found, strict=True):
        assert xpnn.array_namespace(dx) is xpnn.array_namespace(x)
        assert dx.dtype == x.dtype
        assert tuple(dx.shape) == tuple(x.shape)
    return ys, [xpnn.to_numpy(dx) for dx in found]


def assert_all_close(actual: list[Any], expected: list[Any], tol: float) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=tol, atol=tol)


# ------------------------------------------------------------------------------- oracles


@pytest.mark.oracle
@rows
def test_gradients_are_those_of_torch(row: Row) -> None:
    torch = pytest.importorskip("torch")
    if "torch" in row.without + row.no_oracle:
        pytest.skip("torch cannot run this call, or not differentiate it")
    from array_api_compat import torch as xp

    xs = row.arrays()
    places = differentiated(xs)
    moved = [torch.tensor(x, requires_grad=i in places) for i, x in enumerate(xs)]
    y = outputs(row.call(xp, *moved))
    ys, found = ours(row, xs)
    gs = [torch.tensor(g) for g in upstream(ys)]
    expected = torch.autograd.grad(y, [moved[i] for i in places], gs, materialize_grads=True)
    assert_all_close(found, [dx.numpy(force=True) for dx in expected], 1e-9)


@pytest.mark.oracle
@some_rows
def test_gradients_over_jax_are_those_of_jax(row: Row) -> None:
    device = usable("jax:cpu")
    jax = pytest.importorskip("jax")
    if "jax" in row.without + row.no_oracle:
        pytest.skip("JAX cannot run this call, or not differentiate it")
    xs = [single(x) for x in row.arrays()]
    places = differentiated(xs)
    moved = [on(device, x) for x in xs]
    y, pullback = jax.vjp(closed(row, jax.numpy, moved, places), *(moved[i] for i in places))
    ys, found = ours(row, xs, device)
    # JAX's gradient of a complex number is the conjugate of ours, dL/dRe + i dL/dIm.
    gs = [jax.numpy.conj(g) if g.dtype.kind == "c" else g for g in upstream(ys)]
    expected = pullback(type(y)(gs) if isinstance(y, (tuple, list)) else gs[0])
    assert_all_close(found, [np.conj(np.asarray(dx)) for dx in expected], 1e-4)


@pytest.mark.oracle
def test_torch_differentiates_through_functions_of_raw_tensors() -> None:
    """Given no Tensor of ours, every function leaves an array to its own library's tape."""
    torch = pytest.importorskip("torch")
    x = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    formula(ops, x).backward()
    assert_all_close(
        [x.grad.numpy()], [xpnn.grad(lambda x: formula(ops, x))(x.detach().numpy())], 1e-12
    )


@pytest.mark.oracle
def test_jax_differentiates_and_compiles_functions_of_raw_arrays() -> None:
    jax = pytest.importorskip("jax")
    x = np.asarray([0.5, 1.0, 2.0], dtype="float32")
    found = jax.jit(jax.grad(lambda x: formula(ops, x)))(jax.numpy.asarray(x))
    assert_all_close([np.asarray(found)], [xpnn.grad(lambda x: formula(ops, x))(x)], 1e-5)


def formula(xp: Any, x: Any) -> Any:
    y = xp.concat([xp.exp(x), xp.clip(x, 0.6, 1.5)])
    y = xp.matmul(xp.reshape(y, (2, 3)), xp.sin(x))
    return xp.sum(y * y) + xp.max(x) * xp.prod(x) + xp.mean(xp.where(x > 0.7, x, x * x))


# --------------------------------------------------------------------- the same everywhere


@pytest.mark.libraries
@rows
def test_gradients_over_torch_are_those_over_numpy(row: Row) -> None:
    _compare(row, "torch:cpu")


@rows
def test_gradients_over_array_api_strict_are_those_over_numpy(row: Row) -> None:
    _compare(row, "strict:device1")


@pytest.mark.gpu
@rows
def test_gradients_over_cupy_are_those_over_numpy(row: Row) -> None:
    _compare(row, "cuda")


def _compare(row: Row, name: str) -> None:
    device = usable(name)
    if device.partition(":")[0] in row.without:
        pytest.skip(f"{device} cannot run this call")
    xs = row.arrays()
    for actual, expected in zip(ours(row, xs, device), ours(row, xs), strict=True):
        assert_all_close(actual, expected, 1e-9)
