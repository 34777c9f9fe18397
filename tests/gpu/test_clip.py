"""``clip`` and ``sign``: the results of the standard version, without a wait for the GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from gpu.twins import DTYPES, counted, draw, on_cuda, values
from xpnn import ops
from xpnn.training import capture

pytestmark = pytest.mark.gpu

SIGNED = ["int8", "int32", "int64"]
INTEGERS = [*SIGNED, "uint8", "uint64"]
ROW = np.asarray([-1.5, 0.25, np.nan, 2.0])
COLUMN = np.asarray([[1.0], [-0.5], [3.0]])
# Bounds of floating-point numbers: none, scalars, arrays that broadcast either way, and NaN.
BOUNDS: list[tuple[Any, Any]] = [
    (None, None), (-1.0, None), (None, 0.5), (-0.5, 1.0), (1.0, -1.0), (0, 1), (-np.inf, np.inf),
    (np.nan, 1.0), (-1.0, np.nan), (ROW, None), (ROW, 1.0), (-1.0, COLUMN), (ROW, COLUMN),
]  # fmt: skip
STRANGE = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-3, -2.0, 3.0]


def exact(found: Any, expected: Any) -> None:
    assert found.shape == expected.shape
    assert found.dtype.name == expected.dtype.name
    found = values(found)
    if expected.dtype.kind not in "iu":
        found, expected = found.astype("float64"), expected.astype("float64")
    np.testing.assert_array_equal(found, expected)


def standard(x: Any, low: Any, high: Any) -> Any:
    """Return what array-api-compat gives, which works in the dtype of ``x``."""
    y = np.array(np.broadcast_arrays(x, *(b for b in (low, high) if b is not None))[0])
    for bound, beyond in ((low, np.less), (high, np.greater)):
        if bound is not None:
            bound = np.broadcast_to(np.asarray(bound).astype(x.dtype), y.shape)
            y = np.where(beyond(y, bound) | np.isnan(bound), bound, y)
    return y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # the emulated GPU is a host
def test_clip(bounds: tuple[Any, Any], dtype: str) -> None:
    x = draw(np.random.default_rng(0), 3, 4, dtype=dtype)
    x[0, 1], x[2, 3] = np.nan, np.inf
    for given in (x, x[:1, :1]):
        moved = tuple(on_cuda(b) for b in bounds)
        exact(ops.clip(on_cuda(given), *moved), standard(given, *bounds))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_clip_of_integers(dtype: str) -> None:
    limits = np.iinfo(dtype)
    x = np.asarray([limits.min, 0, 1, 7, limits.max], dtype)
    bounds: list[tuple[Any, Any]] = [
        (None, None), (1, None), (None, 5), (1, 5), (5, 1), (-(2**70), 2**70), (limits.min, 3),
        (np.asarray([2, 3, 4, 5, 6], dtype), 5), (np.asarray(2, "int8"), None),
    ]  # fmt: skip
    for low, high in bounds:
        found = ops.clip(on_cuda(x), on_cuda(low), on_cuda(high))
        clear = [None if type(b) is int and abs(b) > 2**64 else b for b in (low, high)]
        exact(found, standard(x, *clear))


def test_clip_gives_a_new_array() -> None:
    x = on_cuda(np.ones(3))
    for low, high in ((None, None), (0.0, 2.0)):
        y = ops.clip(x, low, high)
        y += 1
        np.testing.assert_array_equal(values(x), 1)
    n = on_cuda(np.ones(3, "int8"))
    y = ops.clip(n, -1000, 1000)
    y += 1
    np.testing.assert_array_equal(values(n), 1)


def test_gradients_of_clip() -> None:
    x, low, high = np.asarray([-2.0, 0.5, 3.0]), np.asarray(-1.0), np.asarray([1.0, 1.0, 2.0])

    def total(x: Any, low: Any, high: Any) -> Any:
        return ops.sum(ops.clip(x, low, high) ** 2)

    found, expected = (
        xpnn.grad(total, argnums=(0, 1, 2))(*map(xpnn.Tensor, xs))
        for xs in (on_cuda((x, low, high)), (x, low, high))
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(xpnn.to_numpy(a), xpnn.to_numpy(b))


@pytest.mark.parametrize("dtype", [*DTYPES, *INTEGERS, "complex64", "complex128"])
def test_sign(dtype: str) -> None:
    usable("cuda")
    kind = np.dtype(dtype).kind
    x = np.asarray(STRANGE if kind not in "iu" else [0, 1, 7, 100]).astype(dtype)
    if kind == "c":
        x = np.asarray([0, 3 + 4j, -2, 1j, np.nan], dtype)
    expected = {"c": [0, 0.6 + 0.8j, -1, 1j, complex(np.nan, np.nan)]}.get(kind)
    if expected is None:
        expected = np.where(np.isnan(x.astype("float64")), np.nan, np.sign(x.astype("float64")))
    found = values(ops.sign(on_cuda(x)))
    assert found.dtype == x.dtype
    bound = 1e-6 if kind == "c" else 0
    np.testing.assert_allclose(
        found.astype("c16"), np.asarray(expected).astype("c16"), rtol=bound, equal_nan=True
    )


@counted
def test_neither_waits_and_both_can_be_captured() -> None:
    from emulation.arrays import waits

    def step(x: Any, low: Any) -> Any:
        slope = xpnn.grad(lambda x: ops.sum(ops.clip(x, low, 1.0) ** 2))(x)
        return slope, ops.clip(x, -0.5, None), ops.sign(x), ops.sign(x + 1j)

    x, low = on_cuda((np.linspace(-2, 2, 6, dtype="float32"), np.float32([-1, 0, 0, 0, 0, -2])))
    before = waits.count
    expected = values(step(x, low))
    assert waits.count == before + 4  # those of `values`
    captured = capture(step, warmup=1)
    for _ in range(3):
        for a, b in zip(values(captured(x, low)), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    assert captured.recordings == 1
