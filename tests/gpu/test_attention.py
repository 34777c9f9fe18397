"""Attention in tiles: every mask, dropout, half precision, lengths of one and of many tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpu.twins import DTYPES, draw, on_cuda, same, values
from xpnn.kernels import cupy_attention, cupy_launch
from xpnn.primitives.attention import attention

pytestmark = pytest.mark.gpu
LOOSE = {"float16": 1e-2, "bfloat16": 6e-2, "float32": None, "float64": None}
RNG = np.random.default_rng


def heads(
    *lead: int,
    length: int = 5,
    keys: int = 7,
    size: int = 4,
    width: int = 3,
    dtype: str = "float32",
) -> tuple[Any, ...]:
    """Return queries, keys, values and the gradient of the output."""
    rng = RNG(0)
    shapes = ((length, size), (keys, size), (keys, width), (length, width))
    q, k, v, g = (draw(rng, *lead, *shape, dtype=dtype) for shape in shapes)
    return q, k, v, g


def check(q: Any, k: Any, v: Any, g: Any, mask: Any = None, keep: Any = None, **more: Any) -> None:
    more = {"scale": 0.5, "causal": False, "gain": 1.0, **more}
    needs = [True, True, True, mask is not None and mask.dtype != bool, False]
    same(attention, (q, k, v, mask, keep), g, needs=needs, tolerance=LOOSE[q.dtype.name], **more)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("block", [1, 20, 70, 2**24])
def test_tiles_of_all_sizes(block: int, causal: bool, dtype: str) -> None:
    for lead in ((), (3,), (2, 3)):
        check(*heads(*lead, dtype=dtype), causal=causal, block=block)
    check(*heads(2, length=7, keys=4, dtype=dtype), causal=causal, block=block)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("length", "keys"), [(1, 1), (1, 40), (3, 1100), (70, 33)])
def test_lengths(length: int, keys: int, dtype: str) -> None:
    for causal in (False, True):
        check(*heads(2, length=length, keys=keys, dtype=dtype), causal=causal)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", [20, 2**24])
@pytest.mark.parametrize(
    "shape",
    [(5, 7), (7,), (5, 1), (2, 1, 1, 7), (2, 1, 5, 7), (3, 5, 7), (2, 3, 5, 7), (1, 3, 1, 1)],
)
def test_masks(shape: tuple[int, ...], block: int, dtype: str) -> None:
    seen = RNG(1).random(shape) < 0.7
    added = draw(RNG(2), *shape, dtype=dtype)
    for causal in (False, True):
        check(*heads(2, 3, dtype=dtype), mask=seen, block=block, causal=causal)
        check(*heads(2, 3, dtype=dtype), mask=added, block=block, causal=causal)


def test_masks_with_three_axes_of_heads_are_spread_as_well() -> None:
    for shape in ((2, 1, 3, 5, 7), (2, 1, 3, 1, 1), (1, 4, 1, 5, 7), (2, 4, 1, 1, 7)):
        check(*heads(2, 4, 3), mask=RNG(1).random(shape) < 0.7)
        check(*heads(2, 4, 3), mask=draw(RNG(1), *shape, dtype="float32"), block=20)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.endswith("16")])
def test_half_precision_with_a_mask_of_float32(dtype: str) -> None:
    check(*heads(2, 3, dtype=dtype), mask=draw(RNG(2), 3, 5, 7, dtype="float32"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", [20, 2**24])
def test_dropout(block: int, dtype: str) -> None:
    for shape in ((2, 3, 5, 7), (3, 5, 7), (2, 1, 5, 7)):
        keep = RNG(3).random(shape) < 0.6
        for mask in (None, RNG(1).random((5, 7)) < 0.7):
            check(*heads(2, 3, dtype=dtype), mask=mask, keep=keep, gain=1 / 0.6, block=block)


@pytest.mark.parametrize("block", [20, 2**24])
def test_a_row_that_may_attend_to_nothing_is_zero(block: int) -> None:
    q, k, v, g = heads(2)
    for mask in (np.zeros((5, 7), bool), np.full((5, 7), -np.inf, "float32")):
        mask[1:3, 2:] = True if mask.dtype == bool else 0.0
        needs = [True, True, True, False, False]
        same(attention, (q, k, v, mask, None), g, needs=needs, scale=1.0, block=block)
        given = on_cuda((q, k, v, mask))
        y, _ = cupy_attention.attention(
            None, *given, None, scale=1.0, causal=False, gain=1.0, block=block
        )
        assert (values(y)[:, [0, 3, 4]] == 0).all()


def test_large_scores_do_not_overflow() -> None:
    q, k, v, g = heads(2)
    check(q * 30, k * 30, v, g, scale=1.0)
    mask = np.where(RNG(0).random((5, 7)) < 0.5, np.float32(-3e38), np.float32(0))
    check(q, k, v, g, mask=mask)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
def test_scores_far_below_zero_over_whole_tiles(causal: bool, dtype: str) -> None:
    """Sums of exponentials below what float32 holds, at lengths that cuDNN may be asked for."""
    q, k, v, g = heads(2, length=256, keys=128, size=8, width=8, dtype=dtype)
    q, k = (q / 4 + 5.5).astype(q.dtype), (k / 4 - 5.5).astype(k.dtype)
    check(q, k, v, g, causal=causal)


def test_views_with_the_heads_beside_the_features() -> None:
    q, k, v, g = (np.swapaxes(np.swapaxes(x, 1, 2).copy(), 1, 2) for x in heads(2, 3))
    check(q, k, v, g)
    check(q, k, v, g, block=20, causal=True)


@pytest.mark.parametrize("needs", [0, 1, 2, 3])
def test_only_what_is_wanted(needs: int) -> None:
    q, k, v, g = heads(2)
    mask = draw(RNG(1), 5, 7, dtype="float32")
    wanted = [i == needs for i in range(5)]
    for block in (20, 2**24):
        same(attention, (q, k, v, mask, None), g, needs=wanted, scale=0.5, block=block)


def test_memory_grows_with_the_length_and_not_with_its_square() -> None:
    q, k, v, g = on_cuda(heads(1, length=400, keys=400))
    cupy = cupy_launch.cupy()
    options = {"scale": 0.5, "causal": True, "gain": 1.0, "block": 4000}
    needs = [True, True, True, False, False]
    pool, largest = cupy.cuda.MemoryPool(), 0

    def attend() -> None:
        y, res = cupy_attention.attention(None, q, k, v, None, None, **options)
        cupy_attention.attention_vjp(None, g, needs, q, k, v, None, None, y, res, **options)

    def allocate(size: int) -> Any:
        nonlocal largest
        largest = max(largest, size)
        return pool.malloc(size)

    attend()  # takes the memory that products need on the way
    with cupy.cuda.using_allocator(allocate):
        attend()
    assert 0 < largest <= 4000 * 4, "one tile"


def test_what_is_left_to_the_standard_version() -> None:
    options = {"scale": 1.0, "causal": False, "gain": 1.0, "block": 1}
    q, k, v, _ = on_cuda(heads(2))
    accepts = cupy_attention.attention_accepts
    assert accepts(q, k, v, None, None, **options)
    assert not accepts(q.astype("float64"), k, v, None, None, **options)
    assert not accepts(q, k, v, q.astype("float64"), None, **options)
    assert not accepts(q[:, :0], k, v, None, None, **options)
    assert not accepts(q[:1], k, v, None, None, **options)
    assert not accepts(q.astype("int64"), k.astype("int64"), v.astype("int64"), None, None,
                       **options)  # fmt: skip
