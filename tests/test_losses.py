"""Losses, metrics and activations, by one table, against finite differences and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import assert_close, double, make, on

import xpnn
from xpnn import activations, initializers, losses, metrics
from xpnn import functional as F
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, DataError, ShapeError

LABELS = np.asarray([0, 3, 1, 3, 2])
ONE_HOT = np.eye(4)[LABELS]
SOFT = np.asarray([[0.1, 0.2, 0.3, 0.4]] * 5)

# name: loss of one array, the shape of the array, the torch formula
LOSSES: dict[str, Any] = {
    "cross_entropy labels": (
        lambda x, r: losses.cross_entropy(x, _beside(x, LABELS), reduction=r),
        (5, 4),
        lambda t, x, r: t.nn.functional.cross_entropy(x, t.from_numpy(LABELS), reduction=r),
    ),
    "cross_entropy one-hot": (
        lambda x, r: losses.cross_entropy(x, _beside(x, ONE_HOT), reduction=r),
        (5, 4),
        lambda t, x, r: t.nn.functional.cross_entropy(x, t.from_numpy(ONE_HOT), reduction=r),
    ),
    "cross_entropy soft": (
        lambda x, r: losses.cross_entropy(x, _beside(x, SOFT), reduction=r),
        (5, 4),
        lambda t, x, r: t.nn.functional.cross_entropy(x, t.from_numpy(SOFT), reduction=r),
    ),
    "mean_squared_error": (
        lambda x, r: losses.mean_squared_error(x, _beside(x, SOFT), reduction=r),
        (5, 4),
        lambda t, x, r: t.nn.functional.mse_loss(x, t.from_numpy(SOFT), reduction=r),
    ),
}


def _beside(x: Any, values: Any) -> Any:
    """Return host values as the kind of array that goes with ``x``."""
    values = values.astype(str(x.dtype).rpartition(".")[2]) if values.dtype.kind == "f" else values
    return on(str(xpnn.backend.device_of(x)), values)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_have_the_gradients_of_finite_differences_and_torch(
    name: str, reduction: str
) -> None:
    loss, shape, formula = LOSSES[name]
    x = make(shape, dtype="float64")
    xpnn.check_grad(lambda x: loss(x, reduction), x, order=2)
    torch = pytest.importorskip("torch")
    t = torch.tensor(x, requires_grad=True)
    theirs = formula(torch, t, reduction)
    y, pullback = xpnn.vjp(lambda x: loss(x, reduction), x)
    assert_close(y, theirs.detach().numpy(), rtol=1e-12)
    g = make(tuple(y.shape), dtype="float64", seed=3)
    theirs.backward(torch.from_numpy(np.asarray(g)))
    assert_close(pullback(g), t.grad.numpy(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_run_on_every_device_and_keep_the_dtype(name: str, device: Any) -> None:
    loss, shape, _ = LOSSES[name]
    x = make(shape, device, "float32")
    raw = loss(x, "mean")
    tensor = xpnn.Tensor(x, requires_grad=True)
    taped = loss(tensor, "mean")
    taped.backward()
    here = loss(make(shape), "mean")
    for value in (raw, taped):
        np.testing.assert_allclose(to_numpy(value), here, rtol=1e-5)
    assert tensor.grad is not None
    assert tensor.grad.device == device
    assert tensor.grad.dtype == "float32"


def test_cross_entropy_survives_huge_logits() -> None:
    x = xpnn.Tensor(np.asarray([[1e4, -1e4], [-1e4, 1e4]], np.float32), requires_grad=True)
    loss = losses.cross_entropy(x, np.asarray([0, 0]))
    loss.backward()
    assert float(loss) == pytest.approx(1e4)
    np.testing.assert_allclose(to_numpy(x.grad), [[0, 0], [-0.5, 0.5]])


def test_cross_entropy_takes_labels_of_any_integer_dtype_and_rank() -> None:
    x = make((2, 3, 4))
    labels = np.asarray([[0, 1, 2], [3, 3, 0]])
    expected = losses.cross_entropy(x, labels)
    for dtype in ("int8", "uint8", "int32", "uint16"):
        assert_close(losses.cross_entropy(x, labels.astype(dtype)), expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), np.asarray([0, 3])),
            DataError,
            r"3 classes, so labels must be in \[0, 2\]; got 3",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), np.asarray([-1, 0])),
            DataError,
            "got -1",
        ),
        (
            lambda: losses.cross_entropy(np.ones((2, 3)), np.asarray([1, 0, 1])),
            ShapeError,
            r"need labels of shape \(2,\), got \(3,\)",
        ),
        (
            lambda: losses.mean_squared_error(np.ones((2, 1)), np.ones(2)),
            ShapeError,
            "a loss does not broadcast",
        ),
        (
            lambda: losses.mean_squared_error(np.ones(2), np.ones(2), reduction="average"),
            ConfigError,
            "'reduction' must be 'mean', 'sum' or 'none', got 'average'",
        ),
        (lambda: losses.get("entropy"), ConfigError, "unknown loss 'entropy'; known are"),
        (lambda: metrics.get("acc"), ConfigError, "unknown metric 'acc'; known are accuracy"),
        (
            lambda: metrics.accuracy(np.ones((2, 3)), np.ones(3, int)),
            ShapeError,
            r"need targets of shape \(2,\), got \(3,\)",
        ),
        (lambda: activations.get("gelu!"), ConfigError, "unknown activation 'gelu!'; known are"),
        (lambda: initializers.get("he"), ConfigError, "unknown initializer 'he'; known are"),
        (lambda: initializers.he_normal((3,)), ShapeError, "it has no fans"),
        (lambda: F.dropout(np.ones(3), 2.0), ConfigError, r"'p' must be in \[0, 1\], got 2.0"),
        (
            lambda: F.linear(np.ones((2, 3)), np.ones((4, 5))),
            ShapeError,
            r"expected x with last axis 4.*got x of shape \(2, 3\)",
        ),
    ],
)
def test_bad_input_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_accuracy_takes_labels_and_one_hot_rows(device: Any) -> None:
    predictions = on(device, np.asarray([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], np.float32))
    for targets in (np.asarray([1, 1, 1]), np.asarray([[0, 1], [0, 1], [0, 1]])):
        found = metrics.accuracy(predictions, on(device, targets))
        assert float(found) == pytest.approx(2 / 3)


ACTIVATIONS: dict[str, Any] = {
    "relu": lambda t, x: t.relu(x),
    "sigmoid": lambda t, x: t.sigmoid(x),
    "tanh": lambda t, x: t.tanh(x),
    "softmax": lambda t, x: t.softmax(x, -1),
    "linear": lambda t, x: x,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_have_the_values_and_gradients_of_torch(name: str) -> None:
    f = activations.get(name)
    assert activations.name_of(f) == name
    x = make((3, 4), dtype="float64")
    xpnn.check_grad(f, x, order=2)
    torch = pytest.importorskip("torch")
    g = make((3, 4), dtype="float64", seed=1)
    t = torch.tensor(x, requires_grad=True)
    y = ACTIVATIONS[name](torch, t)
    y.backward(torch.from_numpy(g))
    mine, pullback = xpnn.vjp(f, x)
    assert_close(mine, y.detach().numpy(), rtol=1e-12)
    assert_close(pullback(g), t.grad.numpy(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_run_on_every_device_and_keep_the_dtype(name: str, device: Any) -> None:
    dtype = double(device)
    y = activations.get(name)(make((3, 4), device, dtype))
    here = activations.get(name)(make((3, 4), dtype=dtype))
    assert_close(xpnn.asarray(y, device="cpu"), here, rtol=1e-5)


def test_activations_do_not_overflow() -> None:
    x = np.asarray([-1e4, 0.0, 1e4], np.float32)
    np.testing.assert_array_equal(F.sigmoid(x), [0, 0.5, 1])
    np.testing.assert_allclose(F.softmax(x), [0, 0, 1])
    np.testing.assert_array_equal(F.log_softmax(x)[[0, 2]], [-2e4, 0])
    assert float(F.logsumexp(x)) == 1e4
    assert float(F.logsumexp(np.asarray([-np.inf, -np.inf]))) == -np.inf


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


def test_dropout_masks_are_the_same_on_every_device_and_keep_the_mean(device: Any) -> None:
    x = np.ones((200, 200), np.float32)
    xpnn.set_seed(1)
    here = F.dropout(x, 0.25)
    xpnn.set_seed(1)
    there = F.dropout(on(device, x), 0.25)
    np.testing.assert_array_equal(to_numpy(there), here)
    assert set(np.unique(here)) == {np.float32(0), np.float32(1 / 0.75)}
    assert here.mean() == pytest.approx(1, abs=0.02)
    assert F.dropout(x, 0.25, training=False) is x
