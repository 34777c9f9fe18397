"""How precisely matrices are multiplied: a setting of the context."""

from __future__ import annotations

import contextvars

import numpy as np
import pytest

import xpnn
from xpnn.errors import ConfigError


def test_it_is_the_highest_unless_set() -> None:
    assert xpnn.get_matmul_precision() == "highest"
    contextvars.copy_context().run(xpnn.set_matmul_precision, "tf32")
    assert xpnn.get_matmul_precision() == "highest", "that was another context"


def test_a_block_gives_back_what_was_before() -> None:
    with xpnn.matmul_precision("tf32"):
        assert xpnn.get_matmul_precision() == "tf32"
        with xpnn.matmul_precision("highest"):
            assert xpnn.get_matmul_precision() == "highest"
        assert xpnn.get_matmul_precision() == "tf32"
    with pytest.raises(ZeroDivisionError), xpnn.matmul_precision("tf32"):
        _ = 1 / 0
    assert xpnn.get_matmul_precision() == "highest"


@pytest.mark.parametrize("wrong", ["high", "TF32", None, 1])
def test_others_are_refused(wrong: object) -> None:
    with pytest.raises(ConfigError, match=f"expected 'highest' or 'tf32', got {wrong!r}"):
        xpnn.set_matmul_precision(wrong)  # type: ignore[arg-type]
    with (
        pytest.raises(ConfigError, match="expected 'highest' or 'tf32'"),
        xpnn.matmul_precision(
            wrong  # type: ignore[arg-type]
        ),
    ):
        pass


def test_the_cpu_does_not_heed_it() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((5, 5)).astype("float32") for _ in range(2))
    expected = xpnn.ops.matmul(a, b)
    with xpnn.matmul_precision("tf32"):
        np.testing.assert_array_equal(xpnn.ops.matmul(a, b), expected)
