"""One row a function, and the checks that every row of the linear algebra and FFT tests passes.

A row's formula is written against the standard, so the same one runs on Tensors (our rules), on
torch tensors (torch's own derivatives) and on Tensors over every array library.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from xpnn import backend, ops
from xpnn.autograd.check import check_grad
from xpnn.autograd.record import backward
from xpnn.autograd.tensor import Tensor
from xpnn.autograd.transforms import vjp


class Row(NamedTuple):
    name: str
    f: Callable[..., Any]  # f(xp, *arrays)
    shapes: tuple[tuple[int, ...], ...]
    kinds: str = "fc"  # real, complex; one letter each
    order: int = 2  # of the highest derivative that is compared
    torch: bool = True  # whether torch has the derivative


def pairs(rows: list[Row]) -> Any:
    """Parametrise a test over the rows and their kinds of numbers."""
    return pytest.mark.parametrize(
        ("row", "kind"), [pytest.param(r, k, id=f"{r.name}-{k}") for r in rows for k in r.kinds]
    )


def h(xp: Any, x: Any) -> Any:
    """Conjugate transpose."""
    x = xp.matrix_transpose(x)
    return xp.conj(x) if xp.isdtype(x.dtype, "complex floating") else x


def hermitian(xp: Any, x: Any) -> Any:
    return (x + h(xp, x)) / 2


def numbers(seed: str, kind: str, shape: tuple[int, ...], dtype: str = "float64") -> Any:
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    x = rng.normal(size=shape)
    if kind == "c":
        x = x + 1j * rng.normal(size=shape)
        dtype = {"float64": "complex128", "float32": "complex64"}[dtype]
    x = np.asarray(x, dtype=dtype)
    x.flags.writeable = False
    return x


def arguments(row: Row, kind: str, dtype: str = "float64") -> list[Any]:
    return [numbers(f"{row.name}{i}", kind, shape, dtype) for i, shape in enumerate(row.shapes)]


def upstream(row: Row, y: Any, salt: str = "g") -> Any:
    """Return random gradients of the shapes and kinds of the outputs."""
    if isinstance(y, (tuple, list)):
        return tuple(upstream(row, out, f"{salt}{i}") for i, out in enumerate(y))
    name = backend.to_numpy(y).dtype
    real = "float32" if name in ("float32", "complex64") else "float64"
    return numbers(row.name + salt, name.kind, tuple(y.shape), real)


def gradients(row: Row, xs: list[Any], device: str = "cpu") -> Any:
    """Return the outputs on a device, and gradients for random upstream ones, as NumPy arrays."""
    xs = [backend.to_device(x, device) for x in xs]
    y, pullback = vjp(lambda *args: row.f(ops, *args), *xs)
    g = upstream(row, y)
    if isinstance(g, tuple):
        found = pullback(tuple(backend.to_device(part, device) for part in g))
    else:
        found = pullback(backend.to_device(g, device))
    found = found if isinstance(found, tuple) else (found,)
    for x, dx in zip(xs, found, strict=True):
        assert backend.device_of(dx) == device
        assert dx.dtype == x.dtype
    outs = y if isinstance(y, tuple) else (y,)
    return [backend.to_numpy(out) for out in outs], [backend.to_numpy(dx) for dx in found]


def check_differences(row: Row, kind: str) -> None:
    """Derivatives of every order against finite differences."""
    check_grad(
        lambda *xs: row.f(ops, *xs), *arguments(row, kind), order=row.order, rtol=1e-4, atol=1e-6
    )


def check_layouts(row: Row, kind: str) -> None:
    """Views that are not contiguous give what contiguous arrays give."""
    xs = arguments(row, kind)
    strided = [_strided(x) for x in xs]
    assert not any(x.flags.writeable or (x.size > 1 and x.flags.c_contiguous) for x in strided)
    for a, b in zip(gradients(row, xs), gradients(row, strided), strict=True):
        for one, other in zip(a, b, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def _strided(x: Any) -> Any:
    """Return a read-only view with the values of ``x``, in which no two elements are neighbours."""
    for axis in range(x.ndim):
        x = np.repeat(x, 2, axis=axis)
    x.flags.writeable = False
    return x[(slice(None, None, 2),) * x.ndim]


def check_library(row: Row, kind: str, device: str, dtype: str = "float64") -> None:
    """The same outputs and gradients on another array library, and on its device throughout."""
    xs = arguments(row, kind, dtype)
    tol = 1e-9 if dtype == "float64" else 2e-3
    for a, b in zip(gradients(row, xs), gradients(row, xs, device), strict=True):
        for one, other in zip(a, b, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=tol, atol=tol)


def check_torch(row: Row, kind: str) -> None:
    """First and second derivatives against torch's own, for random upstream gradients."""
    torch = pytest.importorskip("torch")
    import array_api_compat.torch as xp

    raw = arguments(row, kind)
    xs = [torch.tensor(x, requires_grad=True) for x in raw]
    variables = [Tensor(x, requires_grad=True) for x in raw]
    ys, ours = _list(row.f(xp, *xs)), _list(row.f(ops, *variables))
    gs = _list(upstream(row, tuple(ours)))
    expected = torch.autograd.grad(
        ys, xs, [torch.tensor(g) for g in gs], create_graph=row.order > 1, materialize_grads=True
    )
    found = _pull(ours, variables, gs, create_graph=row.order > 1)
    _assert_close(found, expected, 1e-8)
    if row.order > 1 and any(b.requires_grad for b in expected):
        us = _list(upstream(row, tuple(found), "u"))
        second = torch.autograd.grad(
            expected, xs, [torch.tensor(u) for u in us], materialize_grads=True
        )
        _assert_close(_pull(found, variables, us), second, 1e-7)


def _pull(
    outs: list[Any], variables: list[Tensor], gs: list[Any], *, create_graph: bool = False
) -> list[Any]:
    found = backward(
        [y for y in outs if y.requires_grad],
        [g for y, g in zip(outs, gs, strict=True) if y.requires_grad],
        variables,
        create_graph=create_graph,
        retain_graph=True,
    )
    zeros = [ops.zeros_like(x.detach()) for x in variables]
    return [z if dx is None else dx for z, dx in zip(zeros, found, strict=True)]


def _assert_close(found: Any, expected: Any, tol: float) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(backend.to_numpy(a), b.numpy(force=True), rtol=tol, atol=tol)


def _list(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (tuple, list)) else [x]
