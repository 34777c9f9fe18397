from __future__ import annotations

import math
from typing import Any

import pytest
from gradient_battery import (
    Row,
    check_differences,
    check_layouts,
    check_library,
    check_torch,
    h,
    hermitian,
    pairs,
)


def row(name: str, f: Any, *shapes: tuple[int, ...], **options: Any) -> Row:
    return Row(name, f, shapes, **options)


def positive(xp: Any, x: Any) -> Any:
    return x @ h(xp, x)


def projector(xp: Any, v: Any) -> Any:
    """What does not depend on the sign or the phase of the first column."""
    return v[..., :, :1] @ h(xp, v[..., :, :1])


def eigh_parts(xp: Any, x: Any) -> Any:
    w, v = xp.linalg.eigh(hermitian(xp, x))
    return w, projector(xp, v), (v * xp.expand_dims(w, axis=-2) ** 3) @ h(xp, v)


def eig_parts(xp: Any, x: Any) -> Any:
    w, v = xp.linalg.eig(x)
    return w, xp.real(v * xp.conj(v)), projector(xp, v)


def svd_parts(full: bool) -> Any:
    def parts(xp: Any, x: Any) -> Any:
        u, s, vh = xp.linalg.svd(x, full_matrices=full)
        whole = (u * xp.expand_dims(s, axis=-2) ** 2) @ vh
        return s, projector(xp, u), projector(xp, h(xp, vh)), whole

    return parts


SQUARE, STACK, EMPTY = (3, 3), (2, 3, 3), (0, 3, 3)

ROWS = [
    # inverses and solutions
    *(row(f"inv{s}", lambda xp, x: xp.linalg.inv(x), s) for s in (SQUARE, STACK, EMPTY)),
    *(
        row(f"solve{a}{b}", lambda xp, a, b: xp.linalg.solve(a, b), a, b)
        for a, b in [
            (SQUARE, (3,)),
            (SQUARE, (3, 2)),
            (STACK, (3,)),
            ((2, 1, 3, 3), (4, 3, 2)),
            (SQUARE, (2, 3, 2)),
            (EMPTY, (3, 2)),
        ]
    ),
    *(
        row(f"pinv{s}", lambda xp, x: xp.linalg.pinv(x), s)
        for s in ((4, 3), (3, 4), SQUARE, (2, 4, 3))
    ),
    row(
        "pinv-low-rank",
        lambda xp, a, b: xp.linalg.pinv(a @ b, rtol=1e-8),
        (4, 2),
        (2, 5),
        torch=False,
    ),
    *(
        row(f"matrix_power{n}", lambda xp, x, n=n: xp.linalg.matrix_power(x, n), STACK)
        for n in (-3, -2, -1, 0, 1, 2, 3, 4, 7)
    ),
    # determinants
    *(row(f"det{s}", lambda xp, x: xp.linalg.det(x), s) for s in (SQUARE, STACK, EMPTY, (1, 1))),
    *(row(f"slogdet{s}", lambda xp, x: xp.linalg.slogdet(x), s) for s in (SQUARE, STACK, EMPTY)),
    row("slogdet-sign", lambda xp, x: xp.linalg.slogdet(x)[0], STACK),
    row("slogdet-logabsdet", lambda xp, x: xp.linalg.slogdet(x)[1], STACK),
    # products
    row("outer", lambda xp, a, b: xp.linalg.outer(a, b), (3,), (4,)),
    *(
        row(f"cross{a}{b}", lambda xp, a, b, k=k: xp.linalg.cross(a, b, axis=k), a, b)
        for a, b, k in [((3,), (3,), -1), ((2, 3), (3,), -1), ((3, 4), (2, 3, 1), -2)]
    ),
    # diagonals
    *(
        row(f"{name}{s}{k}", lambda xp, x, n=name, k=k: getattr(xp.linalg, n)(x, offset=k), s)
        for name in ("diagonal", "trace")
        for s, k in [(SQUARE, 0), ((2, 3, 4), 1), ((2, 3, 4), -1), ((4, 3), -2), ((3, 4), 3)]
    ),
    row("diagonal-empty", lambda xp, x: xp.linalg.diagonal(x, offset=4), (2, 4)),
    # norms
    *(
        row(
            f"vector_norm-{p}-{axis}-{keep}",
            lambda xp, x, p=p, axis=axis, keep=keep: xp.linalg.vector_norm(
                x, ord=p, axis=axis, keepdims=keep
            ),
            (2, 3, 4),
        )
        for p in (0, 1, 2, math.inf, -math.inf, 3, 2.5, -1, 0.5)
        for axis, keep in [(None, False), (1, True), ((2, 0), False)]
    ),
    *(
        row(
            f"matrix_norm-{p}-{keep}",
            lambda xp, x, p=p, keep=keep: xp.linalg.matrix_norm(x, ord=p, keepdims=keep),
            (2, 3, 4),
        )
        for p in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf)
        for keep in (False, True)
    ),
    row("matrix_norm-tall", lambda xp, x: xp.linalg.matrix_norm(x, ord="nuc"), (4, 3)),
    # factorisations
    *(
        row(
            f"cholesky-{upper}{s}",
            lambda xp, x, upper=upper: xp.linalg.cholesky(positive(xp, x), upper=upper),
            s,
        )
        for upper in (False, True)
        for s in ((3, 4), (2, 3, 4), (0, 3, 4))
    ),
    *(row(f"eigh{s}", eigh_parts, s) for s in (SQUARE, STACK, EMPTY)),
    row("eigh-values", lambda xp, x: xp.linalg.eigh(hermitian(xp, x))[0], STACK),
    row("eigh-vectors", lambda xp, x: projector(xp, xp.linalg.eigh(hermitian(xp, x))[1]), STACK),
    row("eigvalsh", lambda xp, x: xp.linalg.eigvalsh(hermitian(xp, x)), STACK),
    *(row(f"eig{s}", eig_parts, s) for s in (SQUARE, STACK, EMPTY)),
    row("eig-vectors", lambda xp, x: projector(xp, xp.linalg.eig(x)[1]), SQUARE),
    row("eigvals", lambda xp, x: xp.linalg.eigvals(x), STACK),
    *(
        row(f"qr{s}", lambda xp, x: xp.linalg.qr(x), s)
        for s in (SQUARE, (4, 3), (3, 5), (2, 4, 3), (2, 2, 3), (0, 3, 2))
    ),
    *(
        row(f"qr-{'QR'[i]}{s}", lambda xp, x, i=i: xp.linalg.qr(x)[i], s)
        for i in (0, 1)
        for s in ((4, 3), (3, 5))
    ),
    *(
        row(f"qr-complete{s}", lambda xp, x: xp.linalg.qr(x, mode="complete"), s)
        for s in (SQUARE, (3, 4))
    ),
    row(
        "qr-complete-R",
        lambda xp, x: xp.linalg.qr(x, mode="complete")[1],
        (4, 3),
        order=1,
        torch=False,
    ),
    *(
        row(f"svd{s}", svd_parts(False), s)
        for s in (SQUARE, (4, 3), (3, 4), (2, 4, 3), (2, 2, 4), (0, 4, 3))
    ),
    row("svd-full-square", svd_parts(True), STACK),
    *(
        row(f"svd-full-S{s}", lambda xp, x: xp.linalg.svd(x)[1], s, order=1)
        for s in ((4, 3), (3, 4))
    ),
    row("svd-full-V", lambda xp, x: projector(xp, h(xp, xp.linalg.svd(x)[2])), (4, 3), order=1),
    row("svd-full-U", lambda xp, x: projector(xp, xp.linalg.svd(x)[0]), (3, 4), order=1),
    row("svdvals", lambda xp, x: xp.linalg.svdvals(x), (2, 4, 3)),
]


@pairs(ROWS)
def test_derivatives_are_those_of_finite_differences(row: Row, kind: str) -> None:
    check_differences(row, kind)


@pytest.mark.oracle
@pairs([r for r in ROWS if r.torch])
def test_derivatives_are_those_of_torch(row: Row, kind: str) -> None:
    check_torch(row, kind)


@pairs(ROWS)
def test_strided_and_read_only_arrays(row: Row, kind: str) -> None:
    check_layouts(row, kind)


@pairs(ROWS)
def test_runs_in_the_strict_standard_on_a_device(row: Row, kind: str) -> None:
    pytest.importorskip("array_api_strict")
    check_library(row, kind, "strict:device1")


@pytest.mark.oracle
@pairs(ROWS)
def test_runs_on_torch(row: Row, kind: str) -> None:
    pytest.importorskip("torch")
    check_library(row, kind, "torch:cpu")


@pytest.mark.oracle
@pytest.mark.parametrize("row", [r for r in ROWS if "(2, 3, 3)" in r.name], ids=lambda r: r.name)
def test_runs_on_jax(row: Row) -> None:
    pytest.importorskip("jax")
    check_library(row, "f", "jax:cpu", "float32")
