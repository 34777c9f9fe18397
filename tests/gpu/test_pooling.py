"""Pooling: windows that overlap, leave gaps, reach into the padding or beyond it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpu.twins import DTYPES, draw, on_cuda, same, values
from xpnn.kernels import cupy_pool
from xpnn.primitives.pooling import avg_pool2d, max_pool2d, pool_shape

pytestmark = pytest.mark.gpu
DTYPE = pytest.mark.parametrize("dtype", DTYPES)

# x, the window, its steps, the padding, and whether a last window may reach beyond it
CASES: dict[str, Any] = {
    "tiles": ((2, 4, 6, 3), (2, 3), (2, 3)),
    "one pixel": ((1, 1, 1, 1), (1, 1), (1, 1)),
    "a rest": ((2, 5, 7, 2), (2, 2), (2, 2)),
    "overlap": ((2, 7, 8, 3), (3, 3), (2, 2)),
    "padding": ((2, 6, 5, 4), (3, 3), (2, 1), ((1, 1), (2, 0))),
    "beyond": ((2, 6, 8, 3), (3, 2), (2, 3), ((1, 1), (0, 0)), True),
    "beyond, padding": ((1, 5, 5, 2), (2, 3), (3, 2), ((1, 0), (1, 2)), True),
    "gaps": ((1, 9, 10, 1), (2, 1), (4, 3)),
    "packs": ((2, 5, 6, 16), (3, 2), (2, 2), ((1, 1), (1, 0))),
    "all": ((3, 4, 3, 5), (4, 3), (4, 3)),
    "one row": ((2, 1, 30, 3), (1, 4), (1, 2), ((0, 0), (3, 1))),
    "large windows": ((1, 20, 18, 2), (17, 16), (2, 1), ((8, 8), (0, 0))),
    "large windows, packs": ((1, 18, 17, 8), (17, 16), (1, 1)),
}


def _case(case: str, who: str) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    shape, pool, stride, *rest = CASES[case]
    padding, ceil_mode = (*rest, *(((0, 0), (0, 0)), False)[len(rest) :])
    options = {"pool": pool, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    return shape, pool_shape(shape, who=who, **options), options


@DTYPE
@pytest.mark.parametrize("case", CASES)
def test_max(case: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    shape, y_shape, options = _case(case, "max_pool2d")
    same(max_pool2d, (draw(rng, *shape, dtype=dtype),), draw(rng, *y_shape, dtype=dtype), **options)


@pytest.mark.parametrize("case", CASES)
def test_the_first_of_equals_has_the_gradient(case: str) -> None:
    rng = np.random.default_rng(0)
    shape, y_shape, options = _case(case, "max_pool2d")
    for x in (rng.integers(-1, 2, shape) * 1.0, np.full(shape, -np.inf), np.zeros(shape)):
        same(max_pool2d, (x,), draw(rng, *y_shape), **options)


@pytest.mark.parametrize("case", CASES)
def test_numbers_that_are_none(case: str) -> None:
    rng = np.random.default_rng(0)
    shape, y_shape, options = _case(case, "max_pool2d")
    x = draw(rng, *shape, dtype="float32")
    x[rng.random(shape) < 0.1] = np.nan
    x[rng.random(shape) < 0.1] = np.inf
    same(max_pool2d, (x,), draw(rng, *y_shape, dtype="float32"), **options)


@DTYPE
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("counts_padding", "mode"), [(0, "average"), (1, "average"), (0, "sum")])
def test_average(case: str, counts_padding: bool, mode: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    shape, y_shape, options = _case(case, "avg_pool2d")
    options |= {"count_include_pad": bool(counts_padding), "mode": mode}
    same(avg_pool2d, (draw(rng, *shape, dtype=dtype),), draw(rng, *y_shape, dtype=dtype), **options)


@pytest.mark.parametrize("primitive", [max_pool2d, avg_pool2d], ids=["max", "average"])
def test_other_orders_of_elements(primitive: Any) -> None:
    rng = np.random.default_rng(0)
    shape, y_shape, options = _case("padding", primitive.name)
    x, g = (np.swapaxes(draw(rng, *s), 1, 3).copy() for s in (shape, y_shape))
    same(primitive, (np.swapaxes(x, 1, 3),), np.swapaxes(g, 1, 3), **options)


def test_places_take_a_byte_where_it_can_name_them() -> None:
    options = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "ceil_mode": False}
    x = on_cuda(np.arange(17 * 16, dtype="float32").reshape(1, 17, 16, 1))
    for pool, dtype in (((16, 16), "uint8"), ((17, 16), "int32")):
        y, places = cupy_pool.max_pool2d(None, x, pool=pool, **options)
        assert places.dtype == dtype
        assert values(places).ravel()[0] == pool[0] * pool[1] - 1
        assert values(y).ravel()[0] == pool[0] * pool[1] - 1


def test_what_has_no_kernel() -> None:
    def accepts(shape: tuple[int, ...], dtype: str = "float32", **options: Any) -> bool:
        options = {
            "pool": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0)), "ceil_mode": False,
            **options,
        }  # fmt: skip
        x = on_cuda(np.zeros(shape, dtype))
        rest = {"count_include_pad": False, "mode": "sum"}
        both = {
            cupy_pool.max_pool2d_accepts(x, **options),
            cupy_pool.avg_pool2d_accepts(x, **options, **rest),
        }
        return both == {True}

    assert accepts((1, 2, 2, 1))
    assert not accepts((0, 2, 2, 1))
    assert not accepts((1, 1, 2, 1))
    assert not accepts((1, 2, 2))
    assert not accepts((1, 2, 2, 1), "int32")
    assert not accepts((1, 2, 2, 1), padding=((2, 0), (0, 0)))
