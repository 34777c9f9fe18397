"""``linspace`` between complex ends."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import usable

from gpu.twins import values
from xpnn import ops

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("ends", [(0, 1 + 2j), (1j, 3), (2 - 1j, 2 - 1j), (-1, 2.5)])
@pytest.mark.parametrize("num", [0, 1, 2, 7])
@pytest.mark.parametrize("endpoint", [True, False])
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_ends(ends: tuple[complex, complex], num: int, endpoint: bool, dtype: str) -> None:
    usable("cuda")
    kind = getattr(ops, dtype)
    found = values(ops.linspace(*ends, num, dtype=kind, device="cuda", endpoint=endpoint))
    expected = np.linspace(*ends, num, dtype=dtype, endpoint=endpoint)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6 if dtype == "complex64" else 1e-14)
    if num > 1 and endpoint:
        assert found[-1] == expected[-1]


def test_the_dtype_is_complex_by_default() -> None:
    usable("cuda")
    assert ops.linspace(0, 1j, 3, device="cuda").dtype == ops.complex64
    assert ops.linspace(0, 1, 3, device="cuda").dtype == ops.float32
