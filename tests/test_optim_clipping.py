"""Clipping: the functions against PyTorch's, and what optimizers do with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import Place, assert_close, double, make, on, raw
from optim_table import gradients, values, variables

import xpnn
from xpnn import Tensor, ops, optim
from xpnn.errors import ConfigError, DTypeError

SHAPES = [(3,), (2, 3), (), (0, 2), (4, 1, 2)]


def by_global_norm(grads: Any, bound: float) -> Any:
    return optim.clip_by_global_norm(grads, bound)[0]


CLIPS: dict[str, Callable[..., Any]] = {
    "value": optim.clip_by_value,
    "norm": optim.clip_by_norm,
    "global norm": by_global_norm,
}


def torch_clipped(how: str, grads: list[Any], bound: float) -> list[Any]:
    """Return NumPy arrays that PyTorch's functions have clipped."""
    torch = pytest.importorskip("torch")
    params = [torch.zeros(g.shape, dtype=getattr(torch, str(g.dtype))) for g in grads]
    for p, g in zip(params, grads, strict=True):
        p.grad = torch.tensor(g)
    if how == "value":
        torch.nn.utils.clip_grad_value_(params, bound)
    for one in {"norm": [[p] for p in params], "global norm": [params]}.get(how, []):
        torch.nn.utils.clip_grad_norm_(one, bound)
    return [p.grad.numpy() for p in params]


@pytest.mark.oracle
@pytest.mark.parametrize("how", CLIPS)
@pytest.mark.parametrize("bound", [0.3, 2.5, 100.0])
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-10), ("float32", 1e-5)])
def test_equals_torch(how: str, bound: float, dtype: str, rtol: float) -> None:
    grads = gradients(SHAPES, dtype=dtype)
    found = CLIPS[how](grads, bound)
    for g, expected in zip(found, torch_clipped(how, grads, bound), strict=True):
        assert type(g) is np.ndarray
        assert_close(g, expected, rtol)


@pytest.mark.parametrize("how", CLIPS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_dtype_and_device_stay_on_every_device(how: str, wrapped: bool, device: Place) -> None:
    """The arrays that are given may be read-only, and are not changed; None passes through."""
    dtype = double(device)
    grads: Any = gradients(SHAPES, device, dtype)
    before = [np.array(xpnn.to_numpy(g)) for g in grads]
    expected = CLIPS[how](gradients(SHAPES, dtype=dtype), 0.5)
    given = [Tensor(g) if wrapped else g for g in grads]
    first, *found = CLIPS[how]([None, *given], 0.5)
    assert first is None
    for g, wanted in zip(found, expected, strict=True):
        assert isinstance(g, Tensor) is wrapped
        assert ops.isdtype(g.dtype, dtype)
        assert xpnn.backend.device_of(g) == device
        assert_close(g, wanted, 1e-6, check_dtype=False)
    for g, old in zip(grads, before, strict=True):
        assert_close(g, old, 0)


def test_the_global_norm_is_returned(device: Place) -> None:
    grads = [on(device, np.asarray(x, np.float32)) for x in ([3.0, 0.0], [[4.0]])]
    _, norm = optim.clip_by_global_norm(grads, 1.0)
    assert xpnn.backend.device_of(norm) == device
    assert float(norm) == 5.0
    assert optim.clip_by_global_norm([None, None], 1.0) == ([None, None], 0.0)


@pytest.mark.parametrize("how", CLIPS)
def test_small_gradients_and_zeros_stay_bit_for_bit(how: str) -> None:
    grads = [make((5,)) * np.float32(1e-3), np.zeros(3, np.float32)]
    for g, same in zip(CLIPS[how](grads, 1.0), grads, strict=True):
        assert np.array_equal(g, same)


@pytest.mark.parametrize("how", ["norm", "global norm"])
def test_half_precision_has_a_norm_beyond_its_largest_number(how: str) -> None:
    g = np.full(100, 6e4, np.float16)  # the norm is 6e5, the largest number 65504
    (found,) = CLIPS[how]([g], 1.0)
    assert_close(found, np.full(100, 0.1, np.float16), 1e-3)


@pytest.mark.libraries
def test_gradients_of_two_dtypes_and_of_two_devices_have_one_norm() -> None:
    pytest.importorskip("torch")
    there = on("torch:cpu", np.asarray([12.0]))
    grads = [np.asarray([3.0], np.float32), np.asarray([4.0]), there]
    found, norm = optim.clip_by_global_norm(grads, 6.5)
    assert float(norm) == 13.0
    assert_close(norm, np.asarray(13.0))
    assert [str(xpnn.backend.device_of(g)) for g in found] == ["cpu", "cpu", "torch:cpu"]
    for g, wanted in zip(found, (1.5, 2.0, 6.0), strict=True):
        assert float(g[0]) == pytest.approx(wanted, rel=1e-6)
    assert found[0].dtype == np.float32


def test_dicts_keep_their_names() -> None:
    grads = {"weight": np.asarray([3.0]), "bias": None, "scale": np.asarray([-0.5])}
    found = optim.clip_by_value(grads, 1.0)
    assert list(found) == ["weight", "bias", "scale"]
    assert (found["weight"][0], found["bias"], found["scale"][0]) == (1.0, None, -0.5)


def test_nan_stays_visible() -> None:
    grads = [np.asarray([np.nan, 1.0]), np.asarray([2.0])]
    assert np.isnan(optim.clip_by_value(grads, 1.0)[0]).tolist() == [True, False]
    assert [np.isnan(g).all() for g in optim.clip_by_norm(grads, 1.0)] == [True, False]
    assert all(np.isnan(g).all() for g in optim.clip_by_global_norm(grads, 1.0)[0])


def test_clipping_is_differentiable() -> None:
    x = Tensor(make((4,), dtype="float64"))
    xpnn.check_grad(lambda x: optim.clip_by_norm([x], 1.0)[0], x, order=2)
    xpnn.check_grad(lambda x: optim.clip_by_global_norm([x, 2 * x], 1.0)[0][1], x, order=2)
    for clip in CLIPS.values():  # zeros have a norm of slope 0
        slope = xpnn.grad(lambda x, clip=clip: ops.sum(clip([x], 1.0)[0]))(np.zeros(4))
        assert slope.tolist() == [1.0] * 4


# ---------------------------------------------------------------------------- in an optimizer


def test_a_step_does_not_change_its_gradients() -> None:
    """Not those that are clipped, and not those that a caller still holds."""
    for name in ("clip_value", "clip_norm", "clip_global_norm"):
        for shape in ((3,), (200, 200)):
            w, g = Tensor(make(shape)), make(shape, seed=1)
            before = g.copy()
            optim.SGD(0.1, **{name: 0.01}).update([w], [g])
            assert np.array_equal(g, before)


def test_clipping_comes_before_weight_decay() -> None:
    w = Tensor(np.asarray([10.0]))
    optim.SGD(1.0, clip_value=1.0, weight_decay=0.5).update([w], [np.asarray([4.0])])
    assert w.data.tolist() == [10.0 - 1.0 - 5.0]


def test_the_global_norm_is_that_of_all_parameters() -> None:
    """Also of those that are updated apart, because they started later or have another dtype."""
    a, b = Tensor(np.zeros(1)), Tensor(np.zeros(1, np.float32))
    optimizer = optim.SGD(1.0, clip_global_norm=2.5)
    optimizer.update([a, b], [np.zeros(1), None])
    optimizer.update([a, b], [np.asarray([3.0]), np.asarray([4.0], np.float32)])
    assert_close(a.data, np.asarray([-1.5]), 1e-6)
    assert_close(b.data, np.asarray([-2.0], np.float32), 1e-6)
    assert b.data.dtype == np.float32


def test_parameters_without_a_gradient_do_not_count() -> None:
    params = variables([(2,), (3,)], dtype="float64")
    before = values(params)
    g = np.asarray([3.0, 4.0])
    optim.SGD(1.0, clip_global_norm=1.0).update(params, [g, None])
    assert_close(params[0].data, before[0] - g / 5, 1e-6)
    assert np.array_equal(raw(params[1]), before[1])


def test_bounds_can_be_set_later() -> None:
    w, optimizer = Tensor(np.zeros(1)), optim.SGD(1.0)
    optimizer.clip_value = 0.5
    optimizer.update([w], [np.asarray([4.0])])
    assert w.data.tolist() == [-0.5]
    optimizer.clip_norm = 0.5
    with pytest.raises(ConfigError, match="SGD: give one of clip_value, clip_norm: clipping is"):
        optimizer.update([w], [np.asarray([4.0])])
    assert w.data.tolist() == [-0.5]


def test_nothing_is_read_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that Python sees is one that a GPU is waited for."""
    strict = pytest.importorskip("array_api_strict")
    array = type(strict.ones(1))

    def forbidden(self: Any) -> Any:
        raise AssertionError

    params = variables([(3,), (2, 2)], "strict:device1")
    grads = gradients([(3,), (2, 2)], "strict:device1")
    for name in ("__float__", "__bool__", "__int__", "__index__"):
        monkeypatch.setattr(array, name, forbidden)
    with pytest.raises(AssertionError):
        float(params[0].data[0])
    for name in ("clip_value", "clip_norm", "clip_global_norm"):
        optim.Adam(**{name: 0.1}).update(params, grads)


# --------------------------------------------------------------------------------- mistakes

G = np.ones(3)
MISTAKES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "two": (
        lambda: optim.Adam(clip_value=1.0, clip_global_norm=1.0),
        ConfigError,
        "Adam: give one of clip_value, clip_global_norm: clipping is done one way",
    ),
    "zero": (
        lambda: optim.SGD(clip_norm=0.0),
        ConfigError,
        r"SGD: 'clip_norm' must be in \(0, inf\), got 0\.0\.",
    ),
    "no number": (
        lambda: optim.Lion(clip_value="1"),  # type: ignore[arg-type]
        ConfigError,
        r"Lion: 'clip_value' must be in \(0, inf\), got '1'\.",
    ),
    "bound": (
        lambda: optim.clip_by_value([G], -1.0),
        ConfigError,
        r"clip_by_value: 'bound' must be in \(0, inf\), got -1\.0\.",
    ),
    "bound of norm": (
        lambda: optim.clip_by_norm([G], float("nan")),
        ConfigError,
        r"clip_by_norm: 'bound' must be in \(0, inf\), got nan\.",
    ),
    "bound of global norm": (
        lambda: optim.clip_by_global_norm([G], 0),
        ConfigError,
        r"clip_by_global_norm: 'bound' must be in \(0, inf\), got 0\.",
    ),
    "one array": (
        lambda: optim.clip_by_norm(G, 1.0),
        DTypeError,
        r"clip_by_norm: expected a list of gradients, got one array: write \[g\]\.",
    ),
    "integers": (
        lambda: optim.clip_by_norm([None, np.ones(3, int)], 1.0),
        DTypeError,
        "clip_by_norm: expected gradients of real floating-point numbers, got int64 at 1",
    ),
    "no array": (
        lambda: optim.clip_by_global_norm([1.0], 1.0),
        DTypeError,
        "clip_by_global_norm: expected gradients of real .* got float at 0",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_explained(what: str) -> None:
    mistake, error, message = MISTAKES[what]
    with pytest.raises(error, match=message):
        mistake()
