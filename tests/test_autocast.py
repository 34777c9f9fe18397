"""Mixed precision: what is computed in which dtype, and what comes of it."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import numpy as np
import pytest
from battery import LAYERS, Row
from helpers import make, on, usable

import xpnn
from xpnn import backend, layers, losses, ops, optim
from xpnn import functional as F
from xpnn.autograd import casting
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, DTypeError, MissingLibraryError


def built(row: Row, device: str = "cpu") -> Any:
    """Return the layer of a row with random values in every parameter."""
    xpnn.set_seed(0)
    with xpnn.device(device):
        layer = row.make()
        row.call(layer, row.inputs(device))
    for i, p in enumerate(layer.parameters()):
        p.data = make(p.shape, device, seed=i + 1) * 0.5
    return layer


def outputs_of(y: Any) -> tuple[Any, ...]:
    return y if isinstance(y, tuple) else (y,)


def results(row: Row, low: str | None, device: str = "cpu") -> tuple[Any, Any]:
    """Return outputs and gradients, of the inputs and of the parameters, of a layer."""
    layer = built(row, device)
    xpnn.set_seed(5)
    with xpnn.autocast(low or "float16", enabled=low is not None):
        ys = outputs_of(row.call(layer, row.inputs(device)))
    dxs = outputs_of(layer.backward(*row.upstream(device)))
    grads = [p.grad for p in layer.parameters() if p.grad is not None]
    assert all(g.dtype == "float32" for g in grads)
    given = [dxs[i] for i in row.positional]
    return [to_numpy(y) for y in ys], [to_numpy(g) for g in (*given, *grads)]


TOLERANCE = {"float16": 1e-2, "bfloat16": 8e-2}
# The largest of some numbers may be another one after rounding, and the gradient goes elsewhere.
JUMPS = {("conv pool", "bfloat16")}


@pytest.mark.parametrize("low", ["float16", pytest.param("bfloat16", marks=pytest.mark.libraries)])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("row", LAYERS, ids=str)
def test_every_layer_is_close_to_float32(row: Row, device: str, low: str) -> None:
    usable(device.partition(":")[0])
    if low == "bfloat16":
        pytest.importorskip("ml_dtypes")
    pairs = list(zip(results(row, None, device), results(row, low, device), strict=True))
    for expected, found in pairs[: 1 if (row.name, low) in JUMPS else 2]:
        largest = max((np.abs(x).max() for x in expected if x.size), default=0.0)
        for wanted, got in zip(expected, found, strict=True):
            assert got.shape == wanted.shape
            assert str(got.dtype) in ("float32", low)
            assert np.isfinite(got.astype("float32")).all()
            np.testing.assert_allclose(
                got.astype("float32"), wanted, rtol=0, atol=TOLERANCE[low] * (largest + 0.1)
            )


PRODUCTS = {
    "linear": lambda x, w: F.linear(x, w, None),
    "matmul": lambda x, w: x @ w,
    "tensordot": lambda x, w: ops.tensordot(x, w, axes=1),
    "vecdot": lambda x, w: ops.vecdot(x, w),
    "conv2d": lambda x, w: F.conv2d(x[None, :, :, None], w[None, None, :1, :], None),
    "attention": lambda x, w: F.attention(x[None], w[None], w[None]),
}
WIDE = {
    "sum": ops.sum,
    "mean": ops.mean,
    "exp": ops.exp,
    "cumulative_sum": lambda x: ops.cumulative_sum(x, axis=0),
    "softmax": F.softmax,
    "logsumexp": F.logsumexp,
    "layer_norm": lambda x: F.layer_norm(x, None, None),
    "det": ops.linalg.det,
    "mean_squared_error": lambda x: losses.mean_squared_error(x, ops.zeros_like(x)),
    "cross_entropy": lambda x: losses.cross_entropy(x, ops.argmax(x, axis=-1)),
    "categorical_hinge": lambda x: losses.categorical_hinge(x, ops.argmax(x, axis=-1)),
}
LIBRARIES = ["cpu", "cpu read-only", "torch:cpu", "jax:cpu", "cuda"]


@pytest.fixture(
    params=[pytest.param(d, marks=[pytest.mark.gpu] * (d == "cuda")) for d in LIBRARIES]
)
def place(request: pytest.FixtureRequest) -> Any:
    """The places whose library has float16."""
    return usable(request.param)


def made(name: str, kind: type | None, device: Any, seed: int = 0) -> Any:
    x = make((4, 4), device, seed=seed)
    return x if kind is None else kind(x, requires_grad=True)


@pytest.mark.parametrize("kind", [None, xpnn.Tensor], ids=["raw", "Tensor"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_low(name: str, kind: Any, place: Any) -> None:
    if kind is None and name == "matmul":
        pytest.skip("the operator of a raw array is its library's")
    x, w = (made(name, kind, place, seed) for seed in (0, 1))
    with xpnn.autocast("float16"):
        y = PRODUCTS[name](x, w)
    assert ops.isdtype(y.dtype, ops.float16)
    if kind is None:
        assert type(y) is type(x)
        return
    ops.sum(y).backward()
    for v in (x, w):
        assert v.grad.dtype == "float32"
        assert v.grad.device == place


@pytest.mark.parametrize("kind", [None, xpnn.Tensor], ids=["raw", "Tensor"])
@pytest.mark.parametrize("name", WIDE)
def test_what_needs_digits_is_wide(name: str, kind: Any, place: Any) -> None:
    x = made(name, kind, place)
    with xpnn.autocast("float16"):
        y = WIDE[name](ops.astype(x, ops.float16))
    assert ops.isdtype(y.dtype, ops.float32)
    if kind is not None:
        ops.sum(y).backward()
        assert x.grad.dtype == "float32"


def test_the_rest_follows_its_arguments() -> None:
    x = xpnn.Tensor(make((3, 3)))
    with xpnn.autocast("float16"):
        assert F.relu(x).dtype == (x + x).dtype == x[0].dtype == "float32"
        half = x @ x
        assert F.relu(half).dtype == (half + half).dtype == half[0].dtype == "float16"
        assert (half + x).dtype == "float32"


def test_float64_stays() -> None:
    x, w = (make((3, 3), dtype="float64", seed=i) for i in range(2))
    with xpnn.autocast("float16"):
        assert F.linear(x, w, None).dtype == "float64"
        assert F.linear(x, w.astype("float32"), None).dtype == "float64"
        assert (xpnn.Tensor(x) @ x.astype("complex64")).dtype.name.startswith("complex")
        assert ops.matmul(np.eye(2, dtype=int), np.eye(2, dtype=int)).dtype == np.int64


# ----------------------------------------------------------------------------------- the block


def low() -> str | None:
    """Return in which dtype products are computed here."""
    with xpnn.no_grad():
        name = str(F.linear(xpnn.Tensor([[1.0]]), xpnn.Tensor([[1.0]]), None).dtype)
    return None if name == "float32" else name


@pytest.mark.libraries
def test_blocks_nest_and_end() -> None:
    pytest.importorskip("ml_dtypes")
    block = xpnn.autocast("float16")
    assert low() is None
    with block:
        assert low() == "float16"
        with xpnn.autocast():
            assert low() == "bfloat16"
            with block:
                assert low() == "float16"
            with xpnn.autocast(enabled=False):
                assert low() is None
                with xpnn.autocast("float16"):
                    assert low() == "float16"
            assert low() == "bfloat16"
        assert low() == "float16"
    assert low() is None
    assert not casting.blocks


def test_an_exception_ends_a_block() -> None:
    with pytest.raises(ZeroDivisionError), xpnn.autocast("float16"):
        raise ZeroDivisionError
    assert low() is None
    assert not casting.blocks


def test_a_block_is_that_of_its_thread() -> None:
    found: dict[str, Any] = {}
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        with xpnn.autocast("float16"):
            inside.set()
            found["other"] = low()
            done.wait(30)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(30)
    found["here"] = low()
    done.set()
    thread.join()
    assert found == {"other": "float16", "here": None}


def test_a_block_is_that_of_its_task() -> None:
    async def with_block() -> str | None:
        with xpnn.autocast("float16"):
            await asyncio.sleep(0.01)
            return low()

    async def without() -> str | None:
        await asyncio.sleep(0.005)
        return low()

    async def both() -> list[str | None]:
        return await asyncio.gather(with_block(), without())

    assert asyncio.run(both()) == ["float16", None]


@pytest.mark.parametrize("dtype", ["float32", "int8", "half", None])
def test_another_dtype_is_refused(dtype: Any) -> None:
    with pytest.raises(ConfigError, match="autocast: 'dtype' must be 'bfloat16' or 'float16', got"):
        xpnn.autocast(dtype)


def test_a_library_without_the_dtype_says_so() -> None:
    x = make((2, 2), "strict:device1")
    message = "autocast: array_api_strict has no dtype float16. Mixed precision runs on NumPy"
    with xpnn.autocast("float16"), pytest.raises(DTypeError, match=message):
        F.linear(x, x, None)


def test_bfloat16_of_numpy_needs_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    monkeypatch.setattr(backend, "_NATIVE", {})
    with xpnn.autocast(), pytest.raises(MissingLibraryError, match="pip install ml_dtypes"):
        F.linear(make((2, 2)), make((2, 2)), None)


# ----------------------------------------------------------------------------------- the tape


def test_a_weight_is_cast_once_in_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    casts = []
    convert = casting._converted
    monkeypatch.setattr(
        casting, "_converted", lambda xp, x, d: casts.append(x) or convert(xp, x, d)
    )
    w, x = xpnn.Tensor(make((3, 3)), requires_grad=True), make((3, 3), seed=1)
    with xpnn.autocast("float16"):
        with xpnn.autocast("float16"):
            F.linear(x, w, None)
        y = F.linear(x, w, None)
        assert sum(c is w.data for c in casts) == 1
        with xpnn.no_grad():  # of which no gradient would come
            F.linear(x, w, None)
        F.linear(x, w, None)
        assert sum(c is w.data for c in casts) == 2
        optim.SGD(0.5).update([w], [np.ones((3, 3), "float32")])
        assert not np.array_equal(to_numpy(F.linear(x, w, None)), to_numpy(y))
    casts.clear()
    with xpnn.autocast("float16"):
        F.linear(x, w, None)
    assert sum(c is w.data for c in casts) == 1


def test_several_backward_passes_in_one_block_go_through_one_cast() -> None:
    w, x = xpnn.Tensor(make((3, 3)), requires_grad=True), make((3, 3), seed=1)
    with xpnn.autocast("float16"):
        for _ in range(2):
            ops.sum(F.linear(x, w, None)).backward()
    twice = w.grad.data
    w.grad = None
    ops.sum(F.linear(x, w, None)).backward()
    np.testing.assert_allclose(twice, 2 * w.grad.data, rtol=1e-2)


def test_derivatives_of_any_order() -> None:
    def f(x: Any) -> Any:
        return ops.sum(ops.tanh(x @ x) ** 2)

    x = make((3, 3)) * np.float32(0.5)

    def slope(x: Any) -> Any:
        return ops.sum(xpnn.grad(f)(x) ** 2)

    expected = xpnn.grad(slope)(x)
    with xpnn.autocast("float16"):
        found = xpnn.grad(slope)(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02 * np.abs(expected).max())


def test_a_checkpoint_computes_again_as_it_did() -> None:
    layer = layers.Dense(3, in_features=3, activation="tanh")
    x = xpnn.Tensor(make((4, 3)), requires_grad=True)

    def gradients(wrap: Any) -> list[Any]:
        with xpnn.autocast("float16"):
            y = wrap(lambda x: layer(layer(x)))(x)
        assert y.dtype == "float16"
        ops.sum(y).backward()
        found = [p.grad.data for p in (x, *layer.parameters())]
        for p in (x, *layer.parameters()):
            p.grad = None
        return found

    for a, b in zip(gradients(lambda f: f), gradients(xpnn.checkpoint), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not casting.blocks


def test_a_layer_is_built_as_without_the_block() -> None:
    xpnn.set_seed(0)
    one = layers.Dense(3, weight_init="orthogonal")
    one(make((2, 3)))
    xpnn.set_seed(0)
    other = xpnn.Sequential([layers.Dense(3), layers.Dense(3, weight_init="orthogonal")])
    with xpnn.autocast("float16"):
        other(make((2, 3)))
    assert {str(p.dtype) for p in other.parameters()} == {"float32"}
    w = other[1].weight.data
    np.testing.assert_allclose(w.T @ w, np.eye(3), atol=1e-5)
    assert other[1]._dtypes == ("float32",)


def test_running_statistics_are_of_float32() -> None:
    layer, twin = layers.BatchNorm(), layers.BatchNorm()
    x = make((64, 3)) * np.float32(3) + np.float32(100)
    with xpnn.autocast("float16"):
        y = layer(x.astype("float16"))
    twin(x.astype("float16").astype("float32"))
    assert y.dtype == "float16"
    assert layer.running_var.dtype == np.float32
    np.testing.assert_allclose(layer.running_var, twin.running_var, rtol=1e-6)


# ------------------------------------------------------------------------------------ PyTorch


@pytest.mark.oracle
@pytest.mark.parametrize("device", ["cpu", "torch:cpu"])
def test_a_convolutional_network_is_that_of_torch(device: str) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("ml_dtypes")
    net = layers.Chain(
        [
            layers.Conv2D(4, 3, in_channels=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(8, activation="tanh"),
            layers.Dense(5),
        ]
    )
    x, labels = make((6, 6, 6, 2), seed=3), np.arange(6) % 5
    net(x)
    names = net.named_parameters()
    p = {n: torch.tensor(to_numpy(v), requires_grad=True) for n, v in names.items()}
    with torch.autocast("cpu", torch.bfloat16):
        h = torch.tensor(x).permute(0, 3, 1, 2)
        h = torch.conv2d(h, p["0.weight"].permute(3, 2, 0, 1), p["0.bias"]).relu()
        h = h.permute(0, 2, 3, 1).reshape(6, -1)
        h = torch.nn.functional.linear(h, p["2.weight"].T, p["2.bias"]).tanh()
        logits = torch.nn.functional.linear(h, p["3.weight"].T, p["3.bias"])
    loss = torch.nn.functional.cross_entropy(logits.float(), torch.tensor(labels))
    loss.backward()
    net.to(device)
    with xpnn.autocast():
        mine = net(on(device, x))
        my_loss = losses.cross_entropy(mine, on(device, labels))
    my_loss.backward()
    assert str(mine.dtype) == str(logits.dtype).removeprefix("torch.") == "bfloat16"
    np.testing.assert_allclose(float(my_loss), loss.item(), rtol=1e-2)
    for name, v in net.named_parameters().items():
        theirs = p[name].grad.numpy()
        assert v.grad.dtype == "float32"
        np.testing.assert_allclose(
            to_numpy(v.grad), theirs, rtol=0, atol=0.03 * np.abs(theirs).max(), err_msg=name
        )


@pytest.mark.oracle
def test_the_table_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    x = torch.randn(4, 4)
    theirs = {
        "linear": lambda: f.linear(x, x),
        "matmul": lambda: x @ x,
        "attention": lambda: f.scaled_dot_product_attention(x[None], x[None], x[None]),
        "conv2d": lambda: torch.conv2d(x[None, None], x[None, None]),
    }
    with torch.autocast("cpu", torch.bfloat16):
        assert {name: y().dtype for name, y in theirs.items()} == dict.fromkeys(
            theirs, torch.bfloat16
        )
        assert f.mse_loss(x.bfloat16(), x.bfloat16()).dtype == torch.float32
        assert f.relu(x.bfloat16()).dtype == (x.bfloat16() + x.bfloat16()).dtype == torch.bfloat16
    assert theirs.keys() <= PRODUCTS.keys()
