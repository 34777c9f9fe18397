"""Two GPUs: operations run where their arrays lie, and arrays of two never meet unnoticed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn
from xpnn import callbacks, layers, losses, metrics, ops, optim
from xpnn.backend import as_device, device_of
from xpnn.errors import DeviceError

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _two() -> Iterator[None]:
    """Run with cuda:0 as the current device, and see that it still is so afterwards."""
    usable("cuda")
    try:
        as_device("cuda:1")
    except DeviceError as error:
        pytest.skip(str(error))
    yield
    assert current() == 0


def current() -> int:
    import cupy

    return int(cupy.cuda.runtime.getDevice())


def there(*shape: int, seed: int = 0, dtype: str = "float32") -> Any:
    """Return a raw array on cuda:1."""
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return xpnn.to_device(x, "cuda:1")


def variable(*shape: int, seed: int = 0) -> xpnn.Tensor:
    return xpnn.Tensor(there(*shape, seed=seed), requires_grad=True)


# ------------------------------------------------------------------------ one array elsewhere


FUNCTIONS: dict[str, Any] = {
    "operators": lambda x: (x * 2.0 + x / 3.0 - 1.0) ** 2,
    "a kernel": lambda x: ops.sum(xpnn.activations.softmax(x)),
    "a product": lambda x: x @ ops.permute_dims(x, (1, 0)),
    "a reduction": lambda x: ops.mean(x, axis=0),
    "a slice": lambda x: x[1:, ::2],
    "indices": lambda x: x[:, xpnn.to_device(np.asarray([0, 2, 2]), "cuda:1")],
    "a sum of two paths": lambda x: ops.tanh(x) * x + x,
    "a trip and back": lambda x: x + (x.to_device("cuda:0") * 2.0).to_device("cuda:1"),
    "a trip to the host": lambda x: ops.exp(x.to_device("cpu")),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_and_gradients_run_where_the_array_lies(name: str) -> None:
    f = FUNCTIONS[name]
    x, host = variable(4, 3), xpnn.Tensor(xpnn.to_numpy(there(4, 3)), requires_grad=True)
    y = f(x)
    assert y.device == ("cpu" if name == "a trip to the host" else "cuda:1")
    if name not in ("indices", "a trip and back"):
        np.testing.assert_allclose(xpnn.to_numpy(y.detach()), xpnn.to_numpy(f(host).detach()), 1e-5)
    ops.sum(y).backward()
    assert x.grad.device == "cuda:1"
    again = variable(4, 3)
    with xpnn.device("cuda:1"):
        ops.sum(f(again)).backward()
    np.testing.assert_array_equal(xpnn.to_numpy(x.grad), xpnn.to_numpy(again.grad))


def test_transforms_run_where_the_array_lies() -> None:
    x = there(3)
    assert device_of(xpnn.grad(lambda a: ops.sum(a * a))(x)) == "cuda:1"
    assert device_of(xpnn.grad(lambda a, b: ops.sum(ops.square(b)), argnums=0)(x, x)) == "cuda:1"
    second = xpnn.grad(lambda a: ops.sum(xpnn.grad(lambda b: ops.sum(b**3))(a)))
    np.testing.assert_allclose(xpnn.to_numpy(second(x)), 6 * xpnn.to_numpy(x), rtol=1e-5)
    y, pullback = xpnn.vjp(ops.exp, x)
    assert {str(device_of(y)), str(device_of(pullback(y)))} == {"cuda:1"}


def test_elements_are_assigned_where_they_lie() -> None:
    x = xpnn.Tensor(there(4))
    x[1:3] = 5.0
    y = variable(4) * 1.0
    y[ops.asarray(there(4)) > 0] = 0.0
    ops.sum(y).backward()
    assert {str(x.device), str(y.device)} == {"cuda:1"}
    assert xpnn.to_numpy(x)[1:3].tolist() == [5.0, 5.0]


def net() -> xpnn.Sequential:
    xpnn.set_seed(0)
    return xpnn.Sequential(
        [
            layers.Dense(8, activation="relu"),
            layers.BatchNorm(),
            layers.Dropout(0.2),
            layers.Dense(3),
        ]
    )


def test_a_loop_of_ones_own_runs_where_the_model_lies() -> None:
    found = {}
    y = np.asarray([0, 1, 2, 0])
    for place in ("cpu", "cuda:1"):
        model = net().to(place)
        optimizer = optim.Adam(1e-2, clip_global_norm=1.0)
        x, labels = (xpnn.to_device(a, place) for a in (xpnn.to_numpy(there(4, 5)), y))
        for _ in range(3):
            loss = losses.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step(model)
        assert loss.device == place
        found[place] = xpnn.to_numpy(loss.detach())
    np.testing.assert_allclose(found["cuda:1"], found["cpu"], rtol=1e-4)


LOSSES: dict[str, Any] = {
    "cross_entropy": ((4, 3), np.asarray([0, 1, 2, 0])),
    "binary_cross_entropy": ((4,), np.asarray([0.0, 1.0, 1.0, 0.0], "float32")),
    "mean_squared_error": ((4, 3), np.ones((4, 3), "float32")),
    "huber": ((4, 3), np.ones((4, 3), "float32")),
    "binary_hinge": ((4,), np.asarray([-1.0, 1.0, 1.0, -1.0], "float32")),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_run_where_the_predictions_lie(name: str) -> None:
    shape, targets = LOSSES[name]
    options = {"ignore_index": 1} if name == "cross_entropy" else {}
    predictions = variable(*shape)
    outputs = xpnn.activations.sigmoid(predictions) if name.startswith("bin") else predictions
    loss = getattr(losses, name)(outputs, xpnn.to_device(targets, "cuda:1"), **options)
    loss.backward()
    assert {str(loss.device), str(predictions.grad.device)} == {"cuda:1"}


@pytest.mark.parametrize("prefetch", [0, 2])
def test_fit_evaluate_and_predict_move_what_they_are_given(prefetch: int) -> None:
    model = net().to("cuda:1")
    model.compile("cross_entropy", optim.Adam(1e-2), ["accuracy"])
    x, y = xpnn.to_numpy(there(20, 5)), np.arange(20) % 3
    history = model.fit(
        x, y, batch_size=8, epochs=2, validation_split=0.2, prefetch=prefetch, verbose=0
    )
    assert history.epochs == 2
    assert {str(p.device) for p in model.parameters()} == {"cuda:1"}
    assert set(model.evaluate(x, y)) == {"loss", "accuracy"}
    host = model.predict(x, batch_size=8)
    assert isinstance(host, np.ndarray)
    other = model.predict(xpnn.to_device(x, "cuda:0"), batch_size=8)
    assert device_of(other) == "cuda:0"
    np.testing.assert_array_equal(host, xpnn.to_numpy(other))


def test_weights_buffers_and_the_optimizer_follow() -> None:
    def losses_of(*places: str) -> list[float]:
        model = net().to(places[0])
        model.compile("cross_entropy", optim.Adam(1e-2))
        found = []
        for place in places:
            model.to(place)
            x = xpnn.to_numpy(there(16, 5, seed=1))
            found += model.fit(x, np.arange(16) % 3, batch_size=4, verbose=0)["loss"]
            arrays = [*model.state_dict().values(), *(s for s in _states(model.optimizer))]
            assert {str(device_of(a)) for a in arrays} == {place}
        return found

    moved = losses_of("cpu", "cuda:1", "cuda:0")
    np.testing.assert_allclose(moved, losses_of("cpu", "cpu", "cpu"), rtol=1e-4)


def _states(optimizer: Any) -> Iterator[Any]:
    for slot in optimizer._slots.values():
        yield from slot.state.values()


# ------------------------------------------------------------------------ two that meet


MEET = {
    "add": lambda a, b: a + b,
    "matmul": lambda a, b: a @ b,
    "where": lambda a, b: ops.where(a > 0, a, b),
    "concat": lambda a, b: ops.concat([a, b]),
}


@pytest.mark.parametrize("name", MEET)
def test_arrays_of_two_gpus_are_refused_by_name(name: str) -> None:
    a = xpnn.Tensor(xpnn.to_device(np.ones((3, 3), "float32"), "cuda:0"))
    expected = (
        rf"{name}: arrays of two devices meet, cuda:0 and cuda:1\. Move one of them, for example"
        r" with xpnn\.to_device\(x, 'cuda:0'\), or the whole model with model\.to\('cuda:0'\)\."
    )
    with pytest.raises(DeviceError, match=expected):
        MEET[name](a, there(3, 3))


def test_so_are_those_of_a_model_and_its_input() -> None:
    layer = layers.LayerNorm().to("cuda:0")
    with pytest.raises(DeviceError, match="arrays of two devices meet, cuda:0 and cuda:1"):
        layer(there(2, 3))


def test_so_are_gradients_from_elsewhere() -> None:
    y = variable(3) * 2.0
    with pytest.raises(DeviceError, match=r"backward\(grad\): arrays of two devices meet"):
        y.backward(xpnn.to_device(np.ones(3, "float32"), "cuda:0"))
    with pytest.raises(DeviceError, match="but its gradient is on"):
        optim.SGD(0.1).update([variable(3)], [xpnn.to_device(np.ones(3, "float32"), "cuda:0")])


def test_metrics_say_where_they_are_to_be_computed() -> None:
    scores, labels = there(4, 3), xpnn.to_device(np.asarray([0, 1, 2, 0]), "cuda:1")
    expected = r"accuracy: the arrays lie on cuda:1, which is not .*`with xpnn\.device\('cuda:1'\)"
    with pytest.raises(DeviceError, match=expected):
        metrics.accuracy(scores, labels)
    with xpnn.device("cuda:1"):
        assert device_of(metrics.accuracy(scores, labels)) == "cuda:1"


# ------------------------------------------------------------------------ devices and threads


def test_the_default_device_is_current_in_its_block() -> None:
    with xpnn.device("cuda:1"):
        assert current() == 1
        with xpnn.device("cuda:0"):
            assert current() == 0
        assert ops.ones(3).device == "cuda:1"


def test_set_device_holds_for_its_thread() -> None:
    found = {}

    def work(name: str) -> None:
        xpnn.set_device(name)
        for _ in range(20):
            y = ops.sum(ops.exp(ops.ones((3, 3))))
            found[name] = (str(y.device), current())

    threads = [threading.Thread(target=work, args=(name,)) for name in ("cuda:0", "cuda:1")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"cuda:0": ("cuda:0", 0), "cuda:1": ("cuda:1", 1)}


def test_batches_are_drawn_ahead_on_the_device_that_was_set() -> None:
    seen = []

    def batches() -> Iterator[Any]:
        for i in range(3):
            seen.append((threading.current_thread().name, current()))
            x = ops.full((4, 5), float(i)).data
            yield x * 2.0, xpnn.to_device(np.asarray([0, 1, 2, 0]), "cuda:1")

    with xpnn.device("cuda:1"):
        model = net()
        model.compile("cross_entropy", "sgd")
        model.fit(batches, epochs=1, prefetch=2, verbose=0)
    assert {("xpnn-prefetch", 1)} <= set(seen)
    assert {number for _, number in seen} == {1}


def test_two_models_in_two_threads_do_not_disturb_each_other() -> None:
    def run(place: str, into: dict[str, list[float]]) -> None:
        xpnn.set_device(place)
        model = net()
        model.compile("cross_entropy", optim.Adam(1e-2), ["accuracy"])
        x = np.random.default_rng(3).standard_normal((32, 5)).astype("float32")
        history = model.fit(x, np.arange(32) % 3, batch_size=8, epochs=3, verbose=0)
        into[place] = history["loss"]

    together: dict[str, list[float]] = {}
    alone: dict[str, list[float]] = {}
    threads = [threading.Thread(target=run, args=(f"cuda:{i}", together)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    thread = threading.Thread(target=run, args=("cuda:0", alone))
    thread.start()
    thread.join()
    assert together["cuda:0"] == together["cuda:1"] == alone["cuda:0"]


def test_metrics_and_callbacks_of_fit_compute_where_the_model_is() -> None:
    seen = []

    class Look(callbacks.Callback):
        def on_step_end(self, run: Any, values: dict[str, Any]) -> None:
            seen.append((current(), float(values["loss"] * 2.0)))

    model = net().to("cuda:1")
    model.compile("cross_entropy", "sgd", [metrics.accuracy])
    model.fit(
        xpnn.to_numpy(there(8, 5)), np.arange(8) % 3, batch_size=4, callbacks=[Look()], verbose=0
    )
    assert [number for number, _ in seen] == [1, 1]


def test_only_arrays_without_gaps_cross_from_gpu_to_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    # CuPy would fill the gaps on the first GPU's stream while the second does not wait for it.
    x = xpnn.to_device(np.arange(24.0, dtype="float32").reshape(4, 6), "cuda:0")[:, ::2]
    crossed, plain = [], type(x).copy

    def copy(self: Any, order: str = "C") -> Any:
        crossed.append((device_of(self), self.flags.c_contiguous))
        return plain(self, order)

    monkeypatch.setattr(type(x), "copy", copy)
    moved = xpnn.to_device(x, "cuda:1")
    np.testing.assert_array_equal(xpnn.to_numpy(moved), np.arange(24).reshape(4, 6)[:, ::2])
    assert crossed == [("cuda:0", False), ("cuda:0", True)]
