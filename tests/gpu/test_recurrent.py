"""Kernels of recurrent scans: one product and one launch a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from emulation.arrays import launches
from helpers import usable

from gpu.twins import DTYPES, counted, draw, on_cuda, same
from xpnn.backend import as_device
from xpnn.primitives.recurrent import lstm_scan, rnn_scan
from xpnn.primitives.recurrent_gru import gru_scan, gru_scan_reset_before

pytestmark = pytest.mark.gpu

# rows, steps, features, hidden
SIZES = [(1, 1, 1, 1), (3, 4, 5, 7), (5, 3, 2, 40)]
HALF = {"float16": 1e-2, "bfloat16": 6e-2}  # the standard version rounds after every operation


def given(
    sizes: tuple[int, ...], gates: int, dtype: str, states: int = 1, seed: int = 0
) -> tuple[Any, tuple[Any, ...], Any]:
    """Return inputs, weights and bias; first states; the gradients of all states and the last."""
    n, steps, features, hidden = sizes
    rng = np.random.default_rng(seed)
    shapes = [(n, steps, features), (features, gates * hidden), (hidden, gates * hidden)]
    arrays = [draw(rng, *shape, dtype="float64") for shape in (*shapes, (gates * hidden,))]
    for weight in arrays[1:3]:
        weight /= np.sqrt(weight.shape[0])
    first = [draw(rng, n, hidden) for _ in range(states)]
    g = [draw(rng, n, steps, hidden), *(draw(rng, n, hidden) for _ in range(states))]
    kind = draw(rng, 1, dtype=dtype).dtype
    cast = [tuple(x.astype(kind) for x in part) for part in (arrays, first, g)]
    return cast[0], cast[1], cast[2]


def masks(sizes: tuple[int, ...]) -> list[Any]:
    """Return no mask, and one that leaves out steps everywhere."""
    mask = np.random.default_rng(1).random(sizes[:2]) < 0.6
    mask[0] = False
    return [None, mask]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_rnn(activation: str, sizes: tuple[int, ...], dtype: str) -> None:
    (x, w, u, b), (h,), g = given(sizes, 1, dtype)
    options: dict[str, Any] = {"activation": activation, "tolerance": HALF.get(dtype)}
    for mask in masks(sizes):
        same(rnn_scan, (x, w, u, b, h, mask), g, **options)
        same(rnn_scan, (x, w, u, None, h, mask), g, reverse=True, **options)
        same(rnn_scan, (x, w, u, b, h, mask), g, grad_clip=0.1, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("looks", [False, True])
def test_lstm(looks: bool, tied: bool, sizes: tuple[int, ...], dtype: str) -> None:
    (x, w, u, b), (h, c), g = given(sizes, 3 if tied else 4, dtype, states=2)
    rows = 2 if tied else 3
    peephole = np.stack([b[: sizes[3]] * (k + 1) for k in range(rows)]) if looks else None
    options: dict[str, Any] = {"tied": tied, "tolerance": HALF.get(dtype)}
    for mask in masks(sizes):
        same(lstm_scan, (x, w, u, b, h, c, peephole, mask), g, **options)
        same(lstm_scan, (x, w, u, None, h, c, peephole, mask), g, reverse=True, **options)
        same(lstm_scan, (x, w, u, b, h, c, peephole, mask), g, grad_clip=0.1, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES)
def test_gru(sizes: tuple[int, ...], dtype: str) -> None:
    (x, w, u, b), (h,), g = given(sizes, 3, dtype)
    inner, options = b[: sizes[3]] * 2, {"tolerance": HALF.get(dtype)}
    for mask in masks(sizes):
        same(gru_scan, (x, w, u, b, inner, h, mask), g, **options)
        same(gru_scan, (x, w, u, None, inner, h, mask), g, reverse=True, **options)
        same(gru_scan, (x, w, u, b, None, h, mask), g, grad_clip=0.1, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES)
def test_gru_that_resets_before_the_product(sizes: tuple[int, ...], dtype: str) -> None:
    (x, w, u, b), (h,), g = given(sizes, 3, dtype)
    options = {"tolerance": HALF.get(dtype)}
    for mask in masks(sizes):
        same(gru_scan_reset_before, (x, w, u, b, h, mask), g, **options)
        same(gru_scan_reset_before, (x, w, u, None, h, mask), g, reverse=True, **options)
        same(gru_scan_reset_before, (x, w, u, b, h, mask), g, grad_clip=0.1, **options)
    for some in ((None, g[1]), (g[0], None)):
        same(gru_scan_reset_before, (x, w, u, b, h, None), some, **options)


@pytest.mark.parametrize("missing", [(0,), (1,), (0, 1), (2,)])
def test_gradients_that_have_not_arrived(missing: tuple[int, ...]) -> None:
    (x, w, u, b), (h, c), g = given((3, 4, 5, 7), 4, "float64", states=2)
    g = tuple(None if i in missing else d for i, d in enumerate(g))
    same(lstm_scan, (x, w, u, b, h, c, None, None), g)


def test_arrays_that_lie_otherwise() -> None:
    (x, w, u, b), (h, c), g = given((3, 4, 5, 7), 4, "float32", states=2)
    mask = masks((3, 4))[1]
    x, w, u, h, c, mask = (np.asfortranarray(a) for a in (x, w, u, h, c, mask))
    same(lstm_scan, (x, w, u, b, h, c, None, mask), tuple(map(np.asfortranarray, g)))


@counted
@pytest.mark.parametrize(("scan", "a_step"), [(lstm_scan, 2), (gru_scan_reset_before, 4)])
def test_a_step_is_as_many_launches_as_products(scan: Any, a_step: int) -> None:
    xp = as_device(usable("cuda")).xp
    states = 2 if scan is lstm_scan else 1
    counts = []
    for steps in (5, 9):
        gates = 4 if scan is lstm_scan else 3
        (x, w, u, b), first, g = given((3, steps, 5, 7), gates, "float32", states=states)
        peephole = (None,) if scan is lstm_scan else ()
        arrays, g = on_cuda((x, w, u, b, *first, *peephole, None)), on_cuda(g)
        kernel, static = scan.on(xp), {**scan.defaults}
        before = launches.count
        y, res = kernel.forward(xp, *arrays, **static)
        between = launches.count
        needs = [True] * len(arrays)
        kernel.joint(xp, g, needs, *kernel.joint.take(y, res, arrays), **static)
        counts.append((between - before, launches.count - between))
    forward, backward = (b - a for a, b in zip(*counts, strict=True))
    assert (forward, backward) == (a_step * 4, a_step * 4)
