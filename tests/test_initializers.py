"""Initial values: their statistics, their fans, the same bits everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpnn
from xpnn import initializers
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, ShapeError


@pytest.mark.parametrize(
    ("name", "std"),
    [
        ("glorot_uniform", (2 / 300) ** 0.5),
        ("glorot_normal", (2 / 300) ** 0.5),
        ("he_uniform", (2 / 100) ** 0.5),
        ("he_normal", (2 / 100) ** 0.5),
    ],
)
def test_initializers_have_the_variance_of_their_papers(name: str, std: float) -> None:
    w = initializers.get(name)((100, 200))
    assert w.dtype == np.float32
    assert abs(w.mean()) < 4 * std / 20000**0.5
    assert w.std() == pytest.approx(std, rel=0.03)
    if "uniform" in name:
        assert abs(w).max() <= std * 3**0.5
    # the same fans for a kernel of 2 x 5 over 10 channels in, 20 out
    assert initializers.get(name)((2, 5, 10, 20)).std() == pytest.approx(std, rel=0.05)


def test_initial_values_are_the_same_bits_on_every_device(device: Any) -> None:
    xpnn.set_seed(3)
    expected = initializers.glorot_normal((5, 4), device="cpu")
    xpnn.set_seed(3)
    found = initializers.glorot_normal((5, 4), device=device)
    np.testing.assert_array_equal(to_numpy(found), expected)
    np.testing.assert_array_equal(to_numpy(initializers.ones((2,), device=device)), [1, 1])


def test_bad_arguments() -> None:
    with pytest.raises(ConfigError, match="unknown initializer 'he'; known are"):
        initializers.get("he")
    with pytest.raises(ShapeError, match="it has no fans"):
        initializers.he_normal((3,))
