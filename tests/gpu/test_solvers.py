"""Inverses, solutions and factors on CuPy, which are errors where they do not exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from gpu.twins import on_cuda, same, values
from xpnn import ops, replay
from xpnn.backend import as_device
from xpnn.primitives import linalg

pytestmark = pytest.mark.gpu
SINGULAR = np.asarray([[1.0, 2.0], [2.0, 4.0]])
INDEFINITE = np.asarray([[1.0, 2.0], [2.0, 1.0]])
FAILING: dict[str, tuple[Callable[..., Any], Any]] = {
    "inv": (ops.linalg.inv, SINGULAR),
    "solve": (lambda x: ops.linalg.solve(x, x), SINGULAR),
    "cholesky": (ops.linalg.cholesky, INDEFINITE),
    "upper": (lambda x: ops.linalg.cholesky(x, upper=True), INDEFINITE),
    "matrix_power": (lambda x: ops.linalg.matrix_power(x, -2), SINGULAR),
    "the gradient of det": (lambda x: xpnn.grad(ops.linalg.det)(x), SINGULAR * 0),
}


def regular(*lead: int, size: int = 3) -> Any:
    return np.random.default_rng(0).standard_normal((*lead, size, size)) + 4 * np.eye(size)


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.parametrize("stacked", [False, True])
def test_what_does_not_exist_is_an_error_as_on_numpy(name: str, stacked: bool) -> None:
    usable("cuda")
    f, x = FAILING[name]
    if "det" in name and stacked:
        pytest.skip("a gradient is that of one number")
    x = np.stack([np.eye(2), x]) if stacked else x
    with pytest.raises(np.linalg.LinAlgError):
        f(ops.asarray(x))
    with pytest.raises(np.linalg.LinAlgError):
        f(ops.asarray(on_cuda(x)))


def test_while_a_step_is_recorded_nobody_looks() -> None:
    xp = as_device(usable("cuda")).xp
    x = on_cuda(SINGULAR)
    with replay.recording():
        assert linalg.inv(xp, x).shape == (2, 2)
    with pytest.raises(np.linalg.LinAlgError):
        linalg.inv(xp, x)


def test_numbers_and_gradients_are_those_of_the_standard_version() -> None:
    for lead in ((), (2,)):
        a, g = regular(*lead), np.random.default_rng(1).standard_normal((*lead, 3, 3))
        same(linalg.inv, (a,), g)
        same(linalg.solve, (a, g), g)
        same(linalg.cholesky, (a @ a.swapaxes(-1, -2),), g)
        for n in (-2, -1, 0, 1, 2, 5):
            same(linalg.matrix_power, (a,), g, n=n)
    same(linalg.solve, (regular(2), np.ones(3)), np.ones((2, 3)))
    assert values(ops.linalg.solve(on_cuda(regular()), on_cuda(np.ones(3)))).shape == (3,)


@pytest.mark.parametrize(
    ("first", "second"),
    [((2,), ()), ((), (2,)), ((2, 1), (3,)), ((3,), (2, 1)), ((1,), (2, 3)), ((2, 3), (3,))],
)
def test_stacks_of_equations_broadcast(first: Any, second: Any) -> None:
    lead = np.broadcast_shapes(first, second)
    rng = np.random.default_rng(2)
    x2, g = rng.standard_normal((*second, 3, 2)), rng.standard_normal((*lead, 3, 2))
    same(linalg.solve, (regular(*first), x2), g)


@pytest.mark.parametrize("public", [False, True])
def test_the_first_power_is_a_copy(public: bool) -> None:
    xp, a = as_device(usable("cuda")).xp, regular()
    x = on_cuda(a)
    y = ops.linalg.matrix_power(x, 1) if public else linalg.matrix_power(xp, x, n=1)
    x += 1
    np.testing.assert_array_equal(values(y), a)
