"""Losses and metrics, by one table, against finite differences and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import assert_close, make, on

import xpnn
from xpnn import functional as F
from xpnn import losses, metrics
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
