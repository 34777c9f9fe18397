from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gradient_battery import (
    Row,
    check_differences,
    check_layouts,
    check_library,
    check_torch,
    numbers,
    pairs,
)

from xpnn import ops
from xpnn.autograd.check import GradientError, check_grad
from xpnn.autograd.record import apply
from xpnn.autograd.transforms import vjp
from xpnn.primitives import fft
from xpnn.primitives.base import Primitive

NORMS = ("backward", "ortho", "forward")
# What the standard lets a transform take: real or complex numbers.
TAKES = {name: "f" if name in ("rfft", "ihfft", "rfftn") else "c" for name in fft.__all__}


def row(name: str, shape: tuple[int, ...], **options: Any) -> Row:
    words = " ".join(f"{k}={v}" for k, v in options.items())
    kinds = "fc" if "shift" in name else TAKES[name]
    return Row(
        f"{name} {shape} {words}",
        lambda xp, x: getattr(xp.fft, name)(x, **options),
        (shape,),
        kinds,
    )


ONE_AXIS = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
MORE_AXES = ("fftn", "ifftn", "rfftn", "irfftn")
SPECTRA = ("irfft", "hfft")

ROWS = [
    *(row(name, (n,)) for name in ONE_AXIS for n in range(2 if name in SPECTRA else 1, 7)),
    *(
        row(name, (6,), n=n, norm=norm)
        for name in ONE_AXIS
        for n in (1, 2, 4, 5, 6, 9, 12)
        for norm in NORMS
    ),
    *(
        row(name, (2, 5, 3), axis=axis, n=n)
        for name in ONE_AXIS
        for axis, n in [(1, None), (-2, 4), (0, 3)]
    ),
    *(row(name, (0, 5)) for name in ONE_AXIS),
    *(row(name, (2, 4, 5), norm=norm) for name in MORE_AXES for norm in NORMS),
    *(
        row(name, (2, 4, 5), s=s, axes=axes, norm=norm)
        for name in MORE_AXES
        for s, axes in [
            (None, (1,)),
            (None, (2, 0)),
            ((3, 7), (1, 2)),
            ((5, 4), (-1, 0)),
            ((3, 6, 2), (0, 1, 2)),
            ((3, 5), None),
        ]
        for norm in NORMS
    ),
    *(row(name, (0, 4, 5), axes=(1, 2)) for name in MORE_AXES),
    *(
        row(name, (3, 4), axes=axes)
        for name in ("fftshift", "ifftshift")
        for axes in (None, 0, -1, (0, 1))
    ),
]


@pairs(ROWS)
def test_derivatives_are_those_of_finite_differences(row: Row, kind: str) -> None:
    check_differences(row, kind)


@pytest.mark.oracle
@pairs([r for r in ROWS if "(0," not in r.name])  # torch has no FFT of nothing
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
@pairs([r for r in ROWS if r.shapes in [((2, 4, 5),), ((6,),)] and "ihfft" not in r.name])
def test_runs_on_torch(row: Row, kind: str) -> None:
    pytest.importorskip("torch")
    check_library(row, kind, "torch:cpu")  # ihfft: backend.to_numpy fails on torch's lazy conj


@pytest.mark.oracle
@pytest.mark.parametrize("name", [*ONE_AXIS, *MORE_AXES, "fftshift", "ifftshift"])
def test_runs_on_jax(name: str) -> None:
    pytest.importorskip("jax")
    check_library(row(name, (3, 5)), TAKES[name], "jax:cpu", "float32")


@pytest.mark.parametrize("name", [*ONE_AXIS, *MORE_AXES])
def test_single_precision_is_kept(name: str) -> None:
    x = numbers(name, TAKES[name], (4, 5), "float32")
    y, pullback = vjp(getattr(ops.fft, name), x)
    assert y.dtype in (np.float32, np.complex64)
    assert pullback(y).dtype == x.dtype


@pytest.mark.parametrize("name", ["fft", "ifft", "fftn", "ifftn", "irfft", "hfft", "irfftn"])
def test_a_real_array_has_a_real_gradient(name: str) -> None:
    # NumPy takes what the standard does not: real numbers where complex ones are meant.
    check_grad(getattr(ops.fft, name), numbers(name, "f", (3, 4)), order=2)


@pytest.mark.parametrize("name", [*ONE_AXIS, *MORE_AXES])
@pytest.mark.parametrize("length", [7, 8])
def test_a_transform_and_its_rule_are_adjoint(name: str, length: int) -> None:
    x = numbers("x", TAKES[name], (3, length))
    y, pullback = vjp(getattr(ops.fft, name), x)
    g = numbers("g", y.dtype.kind, y.shape)
    assert np.real(np.vdot(g, y)) == pytest.approx(np.real(np.vdot(pullback(g), x)), rel=1e-12)


def test_the_checker_finds_a_half_spectrum_without_its_weights() -> None:
    wrong = Primitive(fft.rfft.forward).d(
        lambda xp, g, x_shape: xp.fft.irfft(g, n=x_shape[-1], norm="forward")
    )
    with pytest.raises(GradientError, match="finite differences give"):
        check_grad(lambda x: apply(wrong, (x,)), numbers("x", "f", (6,)))
