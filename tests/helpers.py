"""Arrays for tests, and comparing them: the same for every device."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import xpnn
from xpnn import backend, ops
from xpnn.errors import DeviceError

__all__ = ["PLACES", "Place", "assert_close", "double", "make", "on", "places", "raw", "usable"]


class Place(str):
    """A place where tests run: the string of its device, which ``xpnn`` takes as it is.

    On a ``read_only`` place the arrays that tests make cannot be written to, so that code which
    writes into what it was given fails.
    """

    __slots__ = ("name", "read_only")
    name: str
    read_only: bool

    def __new__(cls, name: str) -> Place:
        device, _, rest = name.partition(" ")
        place = super().__new__(cls, "cuda:0" if device == "cuda" else device)
        place.name, place.read_only = name, rest == "read-only"
        return place


PLACES = ["cpu", "cpu read-only", "strict:device1", "torch:cpu", "jax:cpu", "cuda"]


def places() -> list[str]:
    """Return the places to test on: all, or those of ``XPNN_TEST_DEVICES`` (a comma list)."""
    chosen = os.environ.get("XPNN_TEST_DEVICES")
    return PLACES if not chosen else [name.strip() for name in chosen.split(",")]


def usable(name: str) -> Place:
    """Return a place, or skip the test where it is not tested or cannot be used."""
    if name not in places():
        pytest.skip(f"{name} is not in XPNN_TEST_DEVICES")
    place = Place(name)
    try:
        backend.as_device(place)
    except DeviceError as error:
        pytest.skip(str(error))
    return place


def double(device: str) -> str:
    """Return the most precise real dtype that a device has: JAX has no float64 unless told to."""
    return "float32" if device.startswith("jax") else "float64"


def on(device: str, x: Any) -> Any:
    """Return the NumPy array ``x`` as a raw array on a device: a read-only copy, if it says so."""
    if isinstance(device, Place) and device.read_only:
        x = np.array(x)
        x.flags.writeable = False
        return x
    return backend.asarray(np.asarray(x), device=device)


def make(
    shape: int | tuple[int, ...],
    device: str = "cpu",
    dtype: str = "float32",
    kind: str = "normal",
    seed: int = 0,
) -> Any:
    """Return a raw array of random numbers, the same on every device.

    ``kind`` is "normal", "uniform" (in [0, 1)), "positive" (in [0.5, 1.5)), "ints" (0 to 9), or
    "bools". Numbers of a complex dtype have random imaginary parts.
    """
    rng = np.random.default_rng(seed)
    draw = {
        "normal": rng.standard_normal,
        "uniform": rng.random,
        "positive": lambda s: 0.5 + rng.random(s),
        "ints": lambda s: rng.integers(0, 10, s),
        "bools": lambda s: rng.random(s) < 0.5,
    }[kind]
    x = np.asarray(draw(shape))
    if dtype.startswith("complex"):
        x = x + 1j * np.asarray(draw(shape))
    return on(device, x.astype("bool" if kind == "bools" else dtype))


def raw(x: Any) -> Any:
    """Return the array inside a Tensor."""
    return backend.unwrap(x)


def assert_close(
    actual: Any, expected: Any, rtol: float = 1e-6, atol: float = 0.0, *, check_dtype: bool = True
) -> None:
    """Assert that two arrays, Tensors or tuples of them have one shape, dtype and close values.

    A Python scalar or a sequence as ``expected`` has no dtype to compare.
    """
    if isinstance(expected, tuple):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_close(one, other, rtol, atol, check_dtype=check_dtype)
        return
    if check_dtype and hasattr(expected, "dtype"):
        assert ops.isdtype(actual.dtype, expected.dtype), f"{actual.dtype} != {expected.dtype}"
    a, b = xpnn.to_numpy(actual), xpnn.to_numpy(expected)
    assert a.shape == b.shape, f"shape {a.shape} != {b.shape}"
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
