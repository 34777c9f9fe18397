"""Training with captured steps is training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from gpu.runs import FALLING
from xpnn import layers, losses, optim
from xpnn.errors import ConfigError, GraphError
from xpnn.training import capture

pytestmark = pytest.mark.gpu
RNG = np.random.default_rng(0)
X = RNG.standard_normal((48, 6)).astype("float32")
Y = RNG.integers(0, 3, 48)
IMAGES = RNG.standard_normal((48, 6, 6, 1)).astype("float32")


@pytest.fixture(autouse=True)
def _on_cuda() -> Any:
    with xpnn.device(usable("cuda")):
        yield


def perceptron() -> Any:
    xpnn.set_seed(1)
    parts = [layers.Dense(8, activation="relu"), layers.Dropout(0.3), layers.Dense(3)]
    return xpnn.Sequential(parts)


def convnet() -> Any:
    xpnn.set_seed(1)
    return xpnn.Sequential(
        [
            layers.Conv2D(4, 3, padding="same"),
            layers.BatchNorm(activation="relu"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def step_of(model: Any, optimizer: Any) -> Any:
    def step(x: Any, y: Any) -> Any:
        loss = losses.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step(model)
        return loss

    return step


def trained(model: Any, optimizer: Any, captured: bool, x: Any = X) -> tuple[list[float], Any]:
    """Return the losses of twelve steps, and the weights."""
    step = step_of(model, optimizer)
    f = capture(step) if captured else step
    found = []
    for i in range(12):
        rows = slice(12 * (i % 4), 12 * (i % 4) + 12)
        batch = xpnn.asarray(x[rows], device="cuda:0"), xpnn.asarray(Y[rows], device="cuda:0")
        found.append(f(*batch))
    if captured:
        assert f.recordings == 1
    weights = {name: xpnn.to_numpy(w) for name, w in model.state_dict().items()}
    return [float(loss) for loss in found], weights


OPTIMIZERS = {
    "sgd": lambda: optim.SGD(0.1, momentum=0.9),
    "adam with a schedule": lambda: optim.Adam(FALLING),
    "clipped adamw": lambda: optim.AdamW(0.02, clip_global_norm=0.5, weight_decay=0.1),
    "nadam": lambda: optim.NAdam(0.01),
    "clipped values": lambda: optim.RMSprop(0.01, clip_value=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_captured_steps_are_those_of_the_plain_run(name: str) -> None:
    plain = trained(perceptron(), OPTIMIZERS[name](), captured=False)
    captured = trained(perceptron(), OPTIMIZERS[name](), captured=True)
    np.testing.assert_allclose(captured[0], plain[0], rtol=1e-6)
    for key, w in plain[1].items():
        np.testing.assert_allclose(captured[1][key], w, rtol=1e-5, atol=1e-7, err_msg=key)


def test_a_convnet_with_statistics() -> None:
    plain = trained(convnet(), optim.Adam(0.01), captured=False, x=IMAGES)
    captured = trained(convnet(), optim.Adam(0.01), captured=True, x=IMAGES)
    np.testing.assert_allclose(captured[0], plain[0], rtol=1e-5)
    for key, w in plain[1].items():
        np.testing.assert_allclose(captured[1][key], w, rtol=1e-4, atol=1e-6, err_msg=key)


def test_counts_and_rates_go_on() -> None:
    model, optimizer = (
        perceptron(),
        optim.Adam(FALLING),
    )
    trained(model, optimizer, captured=True)
    assert optimizer.steps == 12
    assert optimizer.lr == pytest.approx(0.05 * 0.8**13)  # that of the next step


def test_weights_that_were_saved_before_a_step_stay_as_they_were() -> None:
    model, optimizer = convnet(), optim.SGD(0.1)

    step = capture(step_of(model, optimizer))
    x, y = xpnn.asarray(IMAGES, device="cuda:0"), xpnn.asarray(Y, device="cuda:0")
    for _ in range(4):
        step(x, y)
    saved = model.state_dict()
    before = {name: np.array(xpnn.to_numpy(w)) for name, w in saved.items()}
    first = step(x, y)
    step(x, y)
    for name, w in before.items():
        np.testing.assert_array_equal(xpnn.to_numpy(saved[name]), w)
    model.load_state_dict(saved)
    assert float(step(x, y)) == pytest.approx(float(first), rel=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adam with a schedule", "nadam"])
@pytest.mark.parametrize("apart", [False, True])
def test_an_optimizer_may_be_stepped_twice_in_a_captured_step(name: str, apart: bool) -> None:
    weights = []
    for captured in (False, True):
        model, optimizer = perceptron(), OPTIMIZERS[name]()

        def step(x: Any, model: Any = model, optimizer: Any = optimizer) -> None:
            for part, target in ((model[0], x[:, :3]), (model[2], x[:, 3:])):
                losses.mean_squared_error(model(x), target).backward()
                optimizer.step(part if apart else model)
                model.zero_grad()

        f = capture(step) if captured else step
        for i in range(8):
            f(xpnn.asarray(X[i : i + 20], device="cuda:0"))
        assert optimizer.steps == 16
        weights.append([xpnn.to_numpy(p) for p in model.parameters()])
    for found, expected in zip(*reversed(weights), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_fit_takes_captured_steps() -> None:
    def run(captured: bool, **options: Any) -> Any:
        model = perceptron()
        model.compile("cross_entropy", optim.Adam(0.02), metrics=["accuracy"])
        return model.fit(X, Y, batch_size=10, epochs=5, verbose=0, capture=captured, **options)

    plain, captured = run(False), run(True)
    for name in plain:
        np.testing.assert_allclose(captured[name], plain[name], rtol=1e-5, err_msg=name)
    run(True, validation_split=0.2)


def test_batches_of_two_sizes_keep_their_recordings() -> None:
    model, optimizer = convnet(), optim.Adam(0.01)

    step = capture(step_of(model, optimizer))
    for _ in range(6):
        for rows in (slice(0, 20), slice(20, 30)):
            step(*(xpnn.asarray(a[rows], device="cuda:0") for a in (IMAGES, Y)))
    assert step.recordings == 2
    assert optimizer.steps == 12


def test_fit_captures_no_accumulated_steps() -> None:
    model = perceptron()
    model.compile("cross_entropy")
    with pytest.raises(ConfigError, match="steps of several batches are not captured"):
        model.fit(X, Y, capture=True, accumulate=2)


def test_fit_captures_steps_in_mixed_precision() -> None:
    def run(captured: bool) -> Any:
        model = perceptron()
        model.compile("cross_entropy", optim.Adam(0.02), precision="mixed_bfloat16")
        return model.fit(X, Y, batch_size=12, epochs=4, verbose=0, capture=captured)["loss"]

    pytest.importorskip("ml_dtypes")
    np.testing.assert_allclose(run(True), run(False), rtol=1e-5)


def test_a_loss_that_is_no_number_ends_a_captured_run() -> None:
    from xpnn.errors import NonFiniteError

    model = perceptron()
    model.compile("cross_entropy", optim.SGD(1e30))
    with pytest.raises(NonFiniteError):
        model.fit(X, Y, batch_size=12, epochs=9, verbose=0, capture=True)


def test_an_optimizer_without_a_kernel_says_so() -> None:
    class Plain(optim.Optimizer):
        """A rule that is not element-wise."""

        def rule(self, xp: Any, lr: float, step: int, p: Any, g: Any, state: Any) -> Any:
            return p - lr * g / (1 + xp.max(xp.abs(g))), {}

    with pytest.raises(GraphError, match="Plain"):
        trained(perceptron(), Plain(0.1), captured=True)
