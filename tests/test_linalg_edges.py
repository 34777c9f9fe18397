"""The interface of the linear algebra, and the matrices at which its rules could fail."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
from gradient_battery import hermitian, numbers

from xpnn import backend, ops
from xpnn.autograd.check import GradientError, check_grad
from xpnn.autograd.record import apply
from xpnn.autograd.tensor import Tensor
from xpnn.autograd.transforms import grad, vjp
from xpnn.errors import GraphError
from xpnn.primitives import linalg
from xpnn.primitives.base import Primitive

SQUARE = (3, 3)

# ------------------------------------------------------------------------------- the interface

NAMES = [n for n in linalg.__all__ if isinstance(getattr(linalg, n), Primitive)]


@pytest.mark.parametrize("name", [n for n in NAMES if n != "matrix_power"])
def test_signatures_are_those_of_the_standard(name: str) -> None:
    strict = pytest.importorskip("array_api_strict")
    ours = getattr(linalg, name).signature.parameters.values()
    theirs = inspect.signature(getattr(strict.linalg, name)).parameters.values()
    assert [(p.name, p.kind, p.default) for p in ours] == [
        (p.name, p.kind, p.default) for p in theirs
    ]


def test_matrix_power_takes_its_exponent_by_position() -> None:
    x = Tensor(numbers("x", "f", SQUARE))
    np.testing.assert_allclose(ops.linalg.matrix_power(x, 2).data, x.data @ x.data)


@pytest.mark.oracle
@pytest.mark.parametrize("device", ["cpu", "torch:cpu", "strict:device1", "jax:cpu"])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("eig", ("eigenvalues", "eigenvectors")),
        ("eigh", ("eigenvalues", "eigenvectors")),
        ("qr", ("Q", "R")),
        ("slogdet", ("sign", "logabsdet")),
        ("svd", ("U", "S", "Vh")),
    ],
)
def test_outputs_have_the_names_of_the_standard(
    name: str, fields: tuple[str, ...], device: str
) -> None:
    library = {"torch:cpu": "torch", "jax:cpu": "jax", "strict:device1": "array_api_strict"}
    pytest.importorskip(library.get(device, "numpy"))
    x = Tensor(backend.to_device(numbers("x", "f", SQUARE, "float32"), device))
    x.requires_grad = True
    y = getattr(ops.linalg, name)(x)
    assert y._fields == fields
    for field in fields:
        out = getattr(y, field)
        assert isinstance(out, Tensor)
        assert out.requires_grad
        assert out.device == device


def test_only_the_rank_has_no_derivative() -> None:
    assert [n for n in NAMES if not getattr(linalg, n).differentiable] == ["matrix_rank"]
    rank = ops.linalg.matrix_rank(Tensor(numbers("x", "f", (4, 3)), requires_grad=True))
    assert not rank.requires_grad
    assert int(rank) == 3


def test_rtol_may_be_a_tensor() -> None:
    x = np.stack([np.diag([1.0, 0.1]), np.diag([1.0, 0.001])])
    rtol = np.asarray([0.5, 0.01])
    assert ops.linalg.matrix_rank(Tensor(x), rtol=Tensor(rtol)).data.tolist() == [1, 1]
    np.testing.assert_allclose(
        ops.linalg.pinv(Tensor(x), rtol=Tensor(rtol)).data, ops.linalg.pinv(x, rtol=rtol)
    )


@pytest.mark.parametrize(
    ("f", "dtypes"),
    [
        (lambda a, b: ops.linalg.solve(a, b[:, 0]), ("float64", "complex128")),
        (ops.linalg.solve, ("float64", "complex128")),
        (ops.linalg.solve, ("complex128", "float64")),
        (ops.linalg.solve, ("float32", "float64")),
        (ops.linalg.cross, ("float64", "complex128")),
        (lambda a, b: ops.linalg.outer(a[0, ...], b[0, ...]), ("complex128", "float64")),
    ],
)
def test_gradients_have_the_dtype_of_their_argument(f: Any, dtypes: tuple[str, str]) -> None:
    a, b = (
        numbers(str(i), "c" if d[0] == "c" else "f", SQUARE).astype(d) for i, d in enumerate(dtypes)
    )
    y, pullback = vjp(f, a, b)
    da, db = pullback(numbers("g", y.dtype.kind, y.shape))
    assert (da.dtype, db.dtype) == (a.dtype, b.dtype)
    if "float32" not in dtypes:
        check_grad(f, a, b, order=2)


@pytest.mark.parametrize("f", [ops.linalg.inv, ops.linalg.det, ops.linalg.slogdet])
@pytest.mark.parametrize("kind", ["f", "c"])
def test_third_derivatives(f: Any, kind: str) -> None:
    check_grad(f, numbers("third", kind, SQUARE), order=3, rtol=1e-4)


# ------------------------------------------------------------------------- where rules could fail


@pytest.mark.parametrize("ord", [0, 1, 2, math.inf, -math.inf, 3, 1.5, 0.5])
@pytest.mark.parametrize("kind", ["f", "c"])
def test_the_norm_of_a_zero_vector_has_gradient_zero(ord: float, kind: str) -> None:
    x = np.zeros((2, 3), dtype={"f": "float64", "c": "complex128"}[kind])
    _, pullback = vjp(lambda x: ops.linalg.vector_norm(x, axis=1, ord=ord), x)
    assert not np.any(pullback(np.ones(2)))


@pytest.mark.parametrize("ord", ["fro", "nuc", 1, 2, math.inf])
def test_the_norm_of_a_zero_matrix_has_a_finite_gradient(ord: Any) -> None:
    _, pullback = vjp(lambda x: ops.linalg.matrix_norm(x, ord=ord), np.zeros((3, 2)))
    assert np.all(np.isfinite(pullback(np.asarray(1.0))))


@pytest.mark.parametrize("name", ["eigvalsh", "svdvals"])
def test_equal_values_do_not_meet_in_the_gradient_of_the_values(name: str) -> None:
    x = np.eye(3)
    _, pullback = vjp(getattr(ops.linalg, name), x)
    np.testing.assert_allclose(pullback(np.full(3, 2.0)), 2 * x, atol=1e-14)


def test_equal_values_share_the_gradient_of_the_spectral_norm() -> None:
    dx = grad(lambda x: ops.linalg.matrix_norm(x, ord=2))(np.eye(4))
    np.testing.assert_allclose(dx, np.eye(4) / 4, atol=1e-14)


def test_equal_values_with_vectors() -> None:
    # A function of the whole matrix, written with its eigenvectors: A^3, at a triple eigenvalue.
    def cube(x: Any) -> Any:
        w, v = ops.linalg.eigh(hermitian(ops, x))
        return (v * ops.expand_dims(w, axis=-2) ** 3) @ ops.matrix_transpose(v)

    q, _ = np.linalg.qr(numbers("q", "f", (4, 4)))
    g = numbers("g", "f", (4, 4))
    for values in ([2.0, 2.0, 2.0, 2.0], [1.0, 2.0, 2.0, 3.0]):
        _, pullback = vjp(cube, (q * values) @ q.T)
        assert np.all(np.isfinite(pullback(g)))
    check_grad(lambda x: cube(x @ ops.matrix_transpose(x)), numbers("x", "f", (4, 6)))


def test_values_of_singular_matrices() -> None:
    x = numbers("x", "f", (4, 1)) @ numbers("y", "f", (1, 3))
    u, _, vh = np.linalg.svd(x)
    _, pullback = vjp(ops.linalg.svdvals, x)
    np.testing.assert_allclose(pullback(np.asarray([1.0, 0.0, 0.0])), u[:, :1] @ vh[:1], atol=1e-12)


@pytest.mark.parametrize("name", ["cholesky", "eigh", "eigvalsh"])
@pytest.mark.parametrize("kind", ["f", "c"])
def test_gradients_of_hermitian_matrices_are_hermitian(name: str, kind: str) -> None:
    x = numbers("x", kind, (3, 5))
    y, pullback = vjp(getattr(ops.linalg, name), x @ x.conj().T)
    g = y if isinstance(y, tuple) else (y,)
    g = tuple(numbers(f"g{i}", part.dtype.kind, part.shape) for i, part in enumerate(g))
    dx = pullback(g if isinstance(y, tuple) else g[0])
    np.testing.assert_allclose(dx, dx.conj().T, atol=1e-12)


@pytest.mark.parametrize("size", [10, 90])
def test_eigenvalues_keep_their_gradient_whatever_their_order(size: int) -> None:
    x, v = numbers("x", "f", (size, size)), numbers("v", "f", (size, size))
    y, pullback = vjp(ops.linalg.eigvals, x)
    g = numbers("g", "c", (size,))
    near = np.linalg.eigvals(x + 1e-7 * v), np.linalg.eigvals(x - 1e-7 * v)
    near = tuple(w[np.argmin(np.abs(w[:, None] - y), axis=0)] for w in near)
    expected = np.real(np.vdot(g, near[0] - near[1])) / 2e-7
    assert np.vdot(pullback(g), v) == pytest.approx(expected, rel=1e-4)


def test_what_is_not_unique_has_no_gradient() -> None:
    x = Tensor(numbers("x", "f", (4, 3)), requires_grad=True)
    q, _ = ops.linalg.qr(x, mode="complete")
    with pytest.raises(GraphError, match=r"shape \(4, 3\) has no derivative through Q"):
        q.backward(np.ones((4, 4)))
    u, _, _ = ops.linalg.svd(x)
    with pytest.raises(GraphError, match=r"\(4, 3\) .* singular vectors.*full_matrices=False"):
        u.backward(np.ones((4, 4)))
    _, _, vh = ops.linalg.svd(ops.matrix_transpose(x))
    with pytest.raises(GraphError, match=r"shape \(3, 4\) .* singular vectors"):
        vh.backward(np.ones((4, 4)))


def test_second_derivatives_of_full_factors_are_an_error_and_not_wrong() -> None:
    x = Tensor(numbers("x", "f", (4, 3)), requires_grad=True)
    for y in (ops.linalg.svd(x)[1], ops.linalg.qr(x, mode="complete")[1]):
        x.grad = None
        y.backward(np.ones(y.shape), create_graph=True)
        with pytest.raises(GraphError, match="not unique"):
            x.grad.backward(np.ones((4, 3)))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("inv", lambda xp, g, y: -(y @ g @ y)),
        ("det", lambda xp, g, y, x: g * y * xp.linalg.inv(x)),
        ("svdvals", lambda xp, g, x: (xp.linalg.svd(x)[0] * g) @ xp.linalg.svd(x)[2].T),
    ],
    ids=["inv", "det", "svdvals"],
)
def test_the_checker_fails_on_a_rule_without_its_transpose(name: str, rule: Any) -> None:
    wrong = Primitive(getattr(linalg, name).forward).d(rule)
    with pytest.raises(GradientError, match="finite differences give"):
        check_grad(lambda x: apply(wrong, (x,)), numbers("x", "f", SQUARE))
