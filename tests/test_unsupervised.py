"""What layers with a loss of their own learn: gradients, samples, training."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from helpers import assert_close, double, make, on

import xpnn
from xpnn import datasets, layers, losses, optim, random
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers import Layer, Unsupervised

V, H = 4, 3
STATES = np.asarray(list(itertools.product([0.0, 1.0], repeat=V)))  # every state that there is
HIDDEN = np.asarray(list(itertools.product([0.0, 1.0], repeat=H)))


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def randomised(layer: Any, dtype: str = "float64", device: str = "cpu", size: float = 1.0) -> Any:
    for i, p in enumerate(layer.parameters()):
        p.data = on(device, make(p.shape, dtype=dtype, seed=20 + i) * size)
    return layer


def values(layer: Any) -> tuple[Any, Any, Any]:
    return tuple(to_numpy(p) for p in (layer.weight, layer.bias, layer.visible_bias))


class LossOf(Layer):
    """The loss of a layer as a layer, so that functional_call can run it."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def forward(self, x: Any) -> Any:
        return self.inner.loss(x)


def check_loss(layer: Any, x: Any) -> None:
    """Compare the gradients of a loss with finite differences, with one noise throughout."""
    whole = LossOf(layer)
    names = list(whole.named_parameters())

    def f(x: Any, *params: Any) -> Any:
        xpnn.set_seed(3)
        return xpnn.functional_call(whole, dict(zip(names, params, strict=True)), x)

    xpnn.check_grad(f, x, *(p.data for p in layer.parameters()), order=2)


# ------------------------------------------------------------- the restricted Boltzmann machine


def rbm(device: str = "cpu", dtype: str = "float64", **options: Any) -> Any:
    xpnn.set_dtype(dtype)
    with xpnn.device(device):
        layer = layers.RBM(H, visible=V, **options)
    return randomised(layer, dtype, device)


def exact(layer: Any) -> Any:
    """Return the probability of every state, summed over all hidden states one by one."""
    w, b, c = values(layer)
    energy = -(STATES @ c)[:, None] - HIDDEN @ b - STATES @ w @ HIDDEN.T
    p = np.exp(-energy).sum(axis=1)
    return p / p.sum()


def test_free_energy_is_that_of_all_hidden_states_together() -> None:
    layer = rbm()
    p = np.exp(-to_numpy(layer.free_energy(STATES)))
    np.testing.assert_allclose(p / p.sum(), exact(layer), rtol=1e-12)
    assert layer.free_energy(STATES.reshape(2, 8, V)).shape == (2, 8)
    xpnn.check_grad(layer.free_energy, make((5, V), dtype="float64"), order=2)


def test_free_energy_does_not_overflow() -> None:
    layer = rbm(dtype="float32")
    layer.weight.data = np.full((V, H), 1e4, np.float32)
    x = xpnn.Tensor(np.asarray([[1, 1, 1, 1], [-1, -1, -1, -1]], np.float32), requires_grad=True)
    energy = layer.free_energy(x)
    np.testing.assert_allclose(to_numpy(energy)[0], -12e4, rtol=1e-3)
    xpnn.ops.sum(energy).backward()
    assert np.isfinite(to_numpy(x.grad)).all()
    assert np.isfinite(to_numpy(layer.weight.grad)).all()


def drawn(stream: Any, p: Any) -> Any:
    return (stream.uniform(p.shape, dtype="float64") < p).astype("float64")


def gibbs(stream: Any, layer: Any, v: Any, steps: int) -> Any:
    w, b, c = values(layer)
    for _ in range(steps):
        h = drawn(stream, sigmoid(v @ w + b))
        v = drawn(stream, sigmoid(h @ w.T + c))
    return v


def check_cd(layer: Any, x: Any, v: Any) -> None:
    """Compare the gradients of a layer with those of contrastive divergence, x against v."""
    w, b, _ = values(layer)
    up, down = sigmoid(x @ w + b), sigmoid(v @ w + b)
    n, m = len(x), len(v)
    assert_close(layer.weight.grad, v.T @ down / m - x.T @ up / n, rtol=1e-10, atol=1e-14)
    assert_close(layer.bias.grad, down.mean(0) - up.mean(0), rtol=1e-10, atol=1e-14)
    assert_close(layer.visible_bias.grad, v.mean(0) - x.mean(0), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("k", [1, 3])
def test_the_gradient_is_that_of_contrastive_divergence(k: int) -> None:
    layer = rbm(k=k)
    x = make((7, V), dtype="float64", kind="uniform")
    xpnn.set_seed(5)
    layer.loss(x).backward()
    check_cd(layer, x, gibbs(random.Stream(5), layer, x, k))


def test_persistent_chains_go_on_where_they_stood() -> None:
    layer = rbm(persistent=True, chains=6, k=2)
    x = make((7, V), dtype="float64", kind="uniform")
    v = to_numpy(layer.particles)
    assert v.shape == (6, V)
    assert set(v.flat) == {0.0, 1.0}
    stream = random.Stream(5)
    xpnn.set_seed(5)
    for _ in range(2):
        v = gibbs(stream, layer, v, 2)
        layer.zero_grad()
        layer.loss(x).backward()
        check_cd(layer, x, v)
        np.testing.assert_array_equal(to_numpy(layer.particles), v)
    layer.eval().loss(x)
    np.testing.assert_array_equal(to_numpy(layer.particles), v)


def nll(w: Any, b: Any, c: Any, x: Any) -> Any:
    """The exact negative log-likelihood, over all states."""
    xp = xpnn.array_namespace(w)

    def free(v: Any) -> Any:
        return -xp.matmul(v, c) - xp.sum(xp.log1p(xp.exp(xp.matmul(v, w) + b)), axis=-1)

    return xp.mean(free(x)) + xp.log(xp.sum(xp.exp(-free(STATES))))


@pytest.mark.parametrize("options", [{"k": 40}, {"k": 40, "persistent": True, "chains": 20000}])
def test_long_chains_give_the_gradient_of_the_likelihood(options: dict[str, Any]) -> None:
    layer = rbm(**options)
    x = np.repeat(STATES[[1, 3, 14, 15]], 5000, axis=0)
    wanted = xpnn.grad(nll, argnums=(0, 1, 2))(*values(layer), x)
    xpnn.set_seed(1)
    layer.loss(x).backward()
    for found, g in zip(layer.grads, wanted, strict=True):
        assert np.abs(g).max() > 0.1
        np.testing.assert_allclose(to_numpy(found), g, atol=0.02)


def test_loss_takes_input_from_the_tape_and_has_second_derivatives() -> None:
    x = make((5, V), dtype="float64", kind="uniform")
    check_loss(rbm(), x)
    check_loss(rbm(persistent=True, chains=3), x)


@pytest.mark.parametrize("options", [{"k": 2}, {"persistent": True, "chains": 200}])
def test_training_raises_the_exact_likelihood(options: dict[str, Any]) -> None:
    xpnn.set_seed(0)
    layer = layers.RBM(6, **options)
    x = np.asarray([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]] * 10, np.float32)
    optimizer = optim.SGD(0.3)
    found = []
    for epoch in range(601):
        loss = layer.loss(x)
        if epoch % 300 == 0:
            w, b, c = (p.astype("float64") for p in values(layer))
            found.append(float(nll(w, b, c, x.astype("float64"))))
        loss.backward()
        optimizer.step(layer)
    assert found[0] == pytest.approx(V * np.log(2), abs=0.05)
    assert found[1] < 2.0
    assert found[2] < 1.5  # log(3) = 1.0986 is the best there is


def test_reconstructions_sample_hidden_units_and_keep_probabilities_between() -> None:
    layer = rbm()
    w, b, c = values(layer)
    x = make((6, V), dtype="float64", kind="uniform")
    stream = random.Stream(9)
    p = x
    for _ in range(3):
        p = sigmoid(drawn(stream, sigmoid(p @ w + b)) @ w.T + c)
    xpnn.set_seed(9)
    assert_close(layer.reconstruct(x, 3, return_prob=True), p, rtol=1e-12)
    xpnn.set_seed(9)
    bits = layer.reconstruct(x, n_steps=3)
    assert_close(bits, drawn(stream, p))
    assert not bits.requires_grad
    xpnn.set_seed(9)
    once = layer.reconstruct(x, return_prob=True)
    xpnn.set_seed(9)
    assert_close(layer.reconstruction_error(x), np.mean((x - to_numpy(once)) ** 2), rtol=1e-12)
    with pytest.raises(ConfigError, match=r"RBM.reconstruct: 'n_steps' must be at least 1, got 0"):
        layer.reconstruct(x, 0)


def test_samples_are_on_as_often_as_their_probability_says() -> None:
    layer = rbm()
    w, b, c = values(layer)
    x, h = STATES[5], HIDDEN[3]
    on_hidden = layer.sample_hidden(np.tile(x, (40000, 1)))
    on_visible = layer.sample_visible(np.tile(h, (40000, 1)))
    for bits, p in ((on_hidden, sigmoid(x @ w + b)), (on_visible, sigmoid(h @ w.T + c))):
        assert set(to_numpy(bits).flat) == {0.0, 1.0}
        assert not bits.requires_grad
        np.testing.assert_allclose(to_numpy(bits).mean(axis=0), p, atol=0.012)


def test_the_pseudo_likelihood_is_that_of_every_bit_given_the_others() -> None:
    layer = rbm()
    p = exact(layer)
    at = {tuple(state): p[i] for i, state in enumerate(STATES.tolist())}
    x = STATES[[3, 8, 13]]
    total = 0.0
    for row in x:
        for i in range(V):
            other = row.copy()
            other[i] = 1 - other[i]
            total += np.log(at[tuple(row)] / (at[tuple(row)] + at[tuple(other)]))
    blurred = np.tile(x, (6000, 1)) * 0.8 + 0.1  # rounds to the bits
    found = layer.pseudo_likelihood(blurred)
    assert float(found) == pytest.approx(total / 3, abs=0.05)
    assert not found.requires_grad


def test_a_machine_is_the_same_on_every_device(device: Any) -> None:
    results = []
    for place in ("cpu", device):
        xpnn.set_seed(1)
        layer = rbm(place, "float32", persistent=True, chains=4)
        x = make((5, V), place, kind="uniform")
        xpnn.set_seed(2)
        loss = layer.loss(x)
        loss.backward()
        found = [
            loss,
            *(p.grad for p in layer.parameters()),
            layer.free_energy(x),
            layer.reconstruct(x),
            layer.sample_visible(layer.sample_hidden(x)),
            layer.pseudo_likelihood(x),
            layer.reconstruction_error(x),
        ]
        for y in found:
            assert y.dtype == "float32"
            assert y.device == place
        assert xpnn.backend.device_of(layer.particles) == place
        results.append([to_numpy(y) for y in (*found, layer.particles)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_chains_are_saved_and_moved(tmp_path: Any, device: Any) -> None:
    model = xpnn.Sequential([layers.RBM(H, persistent=True, chains=5), layers.Dense(2)])
    x = make((6, V), kind="uniform")
    model(x)
    model[0].loss(x)
    model.save(tmp_path / "m.safetensors")
    again = xpnn.load(tmp_path / "m.safetensors", device=device)
    assert xpnn.backend.device_of(again[0].particles) == device
    np.testing.assert_array_equal(to_numpy(again[0].particles), to_numpy(model[0].particles))
    again.to("cpu")
    for net in (model, again):
        xpnn.set_seed(4)
        net[0].loss(x)
    np.testing.assert_array_equal(again[0].particles, model[0].particles)
    assert "particles" not in layers.RBM(2, visible=3).state_dict()


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: layers.RBM(0), "RBM: 'hidden' must be at least 1, got 0"),
        (lambda: layers.RBM(2, visible=0), "RBM: 'visible' must be at least 1, got 0"),
        (lambda: layers.RBM(2, k=0), "RBM: 'k' must be at least 1, got 0"),
        (lambda: layers.RBM(2, chains=3), "'chains' says how many persistent chains.*=True"),
        (lambda: layers.RBM(2, persistent=True, chains=0), "'chains' must be at least 1, got 0"),
        (lambda: layers.RBM(2).sample_visible(np.ones((1, 2))), "RBM.sample_visible: the number"),
        (lambda: layers.AutoEncoder(2).decode(np.ones((1, 2))), "AutoEncoder.decode: the number"),
        (lambda: layers.AutoEncoder(2, corruption=-0.1), r"'corruption' must be in \[0, 1\]"),
        (lambda: layers.AutoEncoder(2, noise_std=-1), "'noise_std' must not be negative, got -1"),
        (lambda: layers.AutoEncoder(2, contraction=-1), "'contraction' must not be negative"),
        (lambda: layers.AutoEncoder(2, loss="mse"), "'loss' must be one of binary_cross_entropy"),
        (
            lambda: layers.AutoEncoder(2, output_activation="tanh"),
            "needs output_activation='sigmoid', got 'tanh'. For other outputs say",
        ),
        (
            lambda: layers.AutoEncoder(2, contraction=1, activation=("softmax", {"axis": 0})),
            "'contraction' takes the derivative of each unit.*every unit depends on all",
        ),
    ],
)
def test_bad_arguments(make_it: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_it()


@pytest.mark.parametrize("layer", [layers.RBM(3), layers.AutoEncoder(3)], ids=str)
def test_what_does_not_fit_is_refused_by_every_method(layer: Any) -> None:
    name = type(layer).__name__
    with pytest.raises(ShapeError, match=f"{name}: expected x with at least one axis"):
        layer.loss(np.asarray(1.0, np.float32))
    layer.loss(make((2, 4), kind="uniform"))
    match = rf"{name}\(hidden=3, visible=4\): expected x with last axis 4, got shape \(2, 5\)"
    for method in (layer.loss, layer.reconstruct, layer):
        with pytest.raises(ShapeError, match=match):
            method(make((2, 5)))
    back = layer.sample_visible if isinstance(layer, layers.RBM) else layer.decode
    with pytest.raises(ShapeError, match=r"expected a code with last axis 3, got shape \(2, 4\)"):
        back(make((2, 4)))
    with pytest.raises(xpnn.errors.DTypeError, match=rf"{name}: expected floating-point x, got"):
        layer.loss(np.ones((2, 4), int))


# ------------------------------------------------------------------------------ the autoencoder


def _bce(torch: Any, z: Any, x: Any) -> Any:
    return torch.nn.functional.binary_cross_entropy_with_logits(z, x, reduction="none")


def _mse(torch: Any, z: Any, x: Any) -> Any:
    return torch.nn.functional.mse_loss(z, x, reduction="none")


VARIANTS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "plain": ({}, "sigmoid", _bce),
    "denoising": ({"corruption": 0.4}, "sigmoid", _bce),
    "gaussian": ({"noise_std": 0.3, "tied": False}, "sigmoid", _bce),
    "both noises": ({"corruption": 0.3, "noise_std": 0.5}, "sigmoid", _bce),
    "contractive": ({"contraction": 0.7}, "sigmoid", _bce),
    "contractive denoising tanh": (
        {"contraction": 0.3, "corruption": 0.3, "activation": "tanh"},
        "tanh",
        _bce,
    ),
    "contractive linear untied": (
        {
            **{"contraction": 0.2, "activation": "linear", "tied": False},
            **{"loss": "mean_squared_error", "output_activation": "linear"},
        },
        "identity",
        _mse,
    ),
    "squared error": ({"loss": "mean_squared_error", "activation": "relu"}, "relu", _mse),
}


def autoencoder(options: Any, device: str = "cpu", dtype: str = "float64") -> Any:
    xpnn.set_dtype(dtype)
    with xpnn.device(device):
        layer = layers.AutoEncoder(H, visible=V, **options)
    return randomised(layer, dtype, device)


def noise(options: Any, shape: Any, dtype: str) -> tuple[Any, Any]:
    """Return the mask and the normal noise that a stream of seed 6 brings."""
    stream = random.Stream(6)
    mask, added = np.ones(shape, dtype), np.zeros(shape, dtype)
    if c := options.get("corruption"):
        mask = stream.bernoulli(1 - c, shape).astype(dtype)
    if std := options.get("noise_std"):
        added = stream.normal(shape, std=std, dtype=dtype)
    return mask, added


@pytest.mark.oracle
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_equal_the_formula_in_torch(variant: str, dtype: str, tolerance: float) -> None:
    torch = pytest.importorskip("torch")
    options, name, compare = VARIANTS[variant]
    layer = autoencoder(options, dtype=dtype)
    x = make((5, V), dtype=dtype, kind="uniform")
    leaf = xpnn.Tensor(x, requires_grad=True)
    xpnn.set_seed(6)
    ours = layer.loss(leaf)
    ours.backward()

    p = {k: torch.tensor(v.data, requires_grad=True) for k, v in layer.named_parameters().items()}
    target = torch.tensor(x, requires_grad=True)
    mask, added = map(torch.tensor, noise(options, x.shape, dtype))
    start = target * mask + added
    act = {"identity": lambda z: z}.get(name) or getattr(torch, name)

    def code(v: Any) -> Any:
        return act(v @ p["weight"] + p["bias"])

    decoder = p.get("decoder_weight", p["weight"].T)
    z = code(start) @ decoder + p["visible_bias"]
    if options.get("output_activation", "sigmoid") == "sigmoid" and compare is _mse:
        z = torch.sigmoid(z)
    theirs = compare(torch, z, target).sum() / len(x)
    if factor := options.get("contraction"):
        jacobian = torch.stack(  # of every example by itself, whole
            [torch.autograd.functional.jacobian(code, row, create_graph=True) for row in start]
        )
        theirs = theirs + factor * (jacobian**2).sum() / len(x)
    found = torch.autograd.grad(theirs, [target, *p.values()])
    mine = [ours, leaf.grad, *(q.grad for q in layer.parameters())]
    for a, b in zip(mine, [theirs, *found], strict=True):
        wanted = b.detach().numpy()
        size = max(1.0, float(np.abs(wanted).max()))
        assert a.dtype == dtype
        np.testing.assert_allclose(to_numpy(a), wanted, rtol=tolerance, atol=tolerance * size)


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_have_second_derivatives(variant: str) -> None:
    layer = autoencoder(VARIANTS[variant][0])
    check_loss(layer, make((3, V), dtype="float64", kind="uniform"))


@pytest.mark.parametrize("variant", ["both noises", "contractive", "contractive linear untied"])
def test_an_autoencoder_is_the_same_on_every_device(variant: str, device: Any) -> None:
    options = VARIANTS[variant][0]
    for dtype in {"float32", double(device)}:
        results = []
        for place in ("cpu", device):
            layer = autoencoder(options, place, dtype)
            x = make((5, V), place, dtype, kind="uniform")
            xpnn.set_seed(2)
            loss = layer.loss(x)
            loss.backward()
            found = [loss, *(p.grad for p in layer.parameters()), layer.reconstruct(x)]
            for y in found:
                assert y.dtype == dtype
                assert y.device == place
            results.append([to_numpy(y) for y in found])
        for a, b in zip(*results, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_there_is_noise_in_training_only_and_in_the_loss_only() -> None:
    layer = autoencoder({"corruption": 0.5, "noise_std": 0.5})
    plain = autoencoder({})
    x = make((5, V), dtype="float64", kind="uniform")
    assert_close(layer(x), plain(x), rtol=0)
    assert_close(layer.reconstruct(x), plain.reconstruct(x), rtol=0)
    first, second = float(layer.loss(x)), float(layer.loss(x))
    assert first != second
    assert float(layer.eval().loss(x)) == float(plain.loss(x))
    with xpnn.no_grad():
        assert not layer.loss(x).requires_grad
        assert float(autoencoder({"contraction": 0.1}).loss(x)) > float(plain.loss(x))


def test_coding_and_decoding_fit_together() -> None:
    layer = autoencoder({"activation": "tanh", "tied": False})
    w, b, c = values(layer)
    x = make((5, V), dtype="float64")
    y = np.tanh(x @ w + b)
    assert_close(layer.encode(x), y, rtol=1e-12)
    assert_close(layer.decode(y), sigmoid(y @ to_numpy(layer.decoder_weight) + c), rtol=1e-12)
    assert_close(layer.reconstruct(x), layer.decode(y), rtol=1e-12)


def test_the_cross_entropy_does_not_overflow() -> None:
    layer = layers.AutoEncoder(H, visible=V, activation="linear", weight_init="ones")
    layer.visible_bias.data = np.full(V, -2000.0, np.float32)
    loss = layer.loss(np.ones((2, V), np.float32))
    loss.backward()
    assert float(loss) == pytest.approx(V * (2000 - 12))
    assert all(np.isfinite(to_numpy(g)).all() for g in layer.grads)


# ------------------------------------------------------------------------------------- training


def digits(n: int) -> tuple[Any, Any]:
    x, y = datasets.load_digits()
    return x[:n].reshape(n, 64), y[:n]


def pretrained(layer: Any, x: Any, epochs: int, optimizer: Any) -> Any:
    """Train a layer on its own input."""
    for _ in range(epochs):
        for (batch,) in xpnn.data.Batches(x, batch_size=50, shuffle=True):
            layer.loss(batch).backward()
            optimizer.step(layer)
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        layers.AutoEncoder(32),
        layers.AutoEncoder(32, corruption=0.2),
        layers.AutoEncoder(32, noise_std=0.2, tied=False),
        layers.AutoEncoder(32, contraction=0.01, loss="mean_squared_error"),
    ],
    ids=["plain", "denoising", "gaussian", "contractive"],
)
def test_autoencoders_learn_digits(layer: Any) -> None:
    x, _ = digits(500)
    layer = Layer.from_config(layer.to_config())
    pretrained(layer, x, 15, optim.Adam(0.01))
    error = float(losses.mean_squared_error(layer.eval().reconstruct(x), x))
    assert error < 0.028
    assert np.var(x, axis=0).mean() > 0.07  # of the mean image


@pytest.mark.parametrize("persistent", [False, True])
def test_machines_learn_digits(persistent: bool) -> None:
    x, _ = digits(500)
    layer = layers.RBM(32, persistent=persistent)
    layer.loss(x[:1])
    before = float(layer.pseudo_likelihood(x)), float(layer.reconstruction_error(x))
    pretrained(layer, x, 40, optim.SGD(0.2))
    after = float(layer.pseudo_likelihood(x)), float(layer.reconstruction_error(x))
    assert before[0] == pytest.approx(-64 * np.log(2), rel=0.02)
    assert after[0] > -23
    assert after[1] < 0.055 < before[1]


def test_a_stack_is_trained_greedily_and_then_on_labels() -> None:
    x, y = digits(600)
    model = xpnn.Sequential(
        [
            layers.AutoEncoder(48, corruption=0.1),
            layers.RBM(32, weight_init="glorot_uniform"),
            layers.Dense(10),
        ]
    )
    below = x
    for layer in model:
        if isinstance(layer, Unsupervised):
            pretrained(layer, below, 8, optim.Adam(0.01))
            with xpnn.no_grad():
                below = layer(below).data
    model.compile("cross_entropy", optim.AdamW(0.01, weight_decay=0.1), metrics=["accuracy"])
    model.predict(x[:1])
    start = {name: to_numpy(p).copy() for name, p in model.named_parameters().items()}
    history = model.fit(x, y, batch_size=50, epochs=10, verbose=0)
    assert history["accuracy"][-1] > 0.9
    # What only the losses of the layers use has no gradient, and is left alone by weight decay too.
    for name, p in model.named_parameters().items():
        same = np.array_equal(start[name], to_numpy(p))
        assert same is name.endswith("visible_bias"), name


def test_a_layer_of_ones_own_writes_its_loss() -> None:
    class Half(Unsupervised):
        def forward(self, x: Any) -> Any:
            return x * 0.5

    with pytest.raises(NotImplementedError, match="Half has no loss method"):
        Half().loss(np.ones(3))
