"""Networks that make examples, and word vectors: their objectives, and that they learn."""

from __future__ import annotations

import math

import numpy as np
import pytest

import xpnn
from xpnn import data, layers, optim, zoo
from xpnn.callbacks import Checkpoint
from xpnn.data import Batch
from xpnn.errors import ConfigError, DataError, DTypeError, ShapeError
from xpnn.zoo.vae import VAE
from xpnn.zoo.wgan_gp import WassersteinGAN, critic_loss, gradient_norms
from xpnn.zoo.word2vec import Word2Vec, text


def floats(shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def dense(*sizes, activation="tanh", last=None):
    hidden = [layers.Dense(n, activation=activation) for n in sizes[:-1]]
    return xpnn.Sequential([layers.Flatten(), *hidden, layers.Dense(sizes[-1], activation=last)])


def small_vae(shape=(4, 4), latent=3):
    return VAE(dense(16), dense(16, math.prod(shape)), latent)


def small_gan(**options):
    model = WassersteinGAN(dense(16, 6), dense(16, 1), latent=3, **options)
    model.compile()
    return model


def small_words(**options):
    counts = {word: 10 + i for i, word in enumerate("abcdefgh")}
    model = Word2Vec(counts, size=4, **options)
    model.compile(optimizer=optim.Adam(0.01))
    return model


def small(kind):
    """Return a compiled model of a kind, and data for it."""
    if kind == "vae":
        model = small_vae()
        model.compile(optimizer=optim.Adam(0.01))
        return model, floats((20, 4, 4))
    if kind == "gan":
        return small_gan(critic_steps=3), floats((20, 2, 3))
    model = small_words(window=2, skip_gram=kind == "skip_gram")
    return model, np.random.default_rng(0).integers(-1, 8, (20, 12))


KINDS = ("vae", "gan", "skip_gram", "cbow")
kinds = pytest.mark.parametrize("kind", KINDS)

# ---------------------------------------------------------------- what all of them do


@kinds
def test_saved_and_loaded(kind, tmp_path):
    model, x = small(kind)
    model.fit(x, epochs=1, batch_size=8, verbose=0)
    model.save(tmp_path / "model.safetensors")
    loaded = xpnn.load(tmp_path / "model.safetensors")
    assert type(loaded) is type(model)
    xpnn.set_seed(5)
    expected = model.objective(Batch(x))
    xpnn.set_seed(5)
    found = loaded.objective(Batch(x))
    assert float(found[0]) == float(expected[0])
    if kind in ("vae", "gan"):
        xpnn.set_seed(6)
        expected = model.sample(4)
        xpnn.set_seed(6)
        np.testing.assert_array_equal(loaded.sample(4), expected)
    else:
        assert loaded.words == model.words
        assert loaded.most_similar("c", 3) == model.most_similar("c", 3)


@kinds
@pytest.mark.parametrize("killed_at", [4, 7])
def test_resumed_exactly(kind, killed_at, tmp_path):
    def run(folder, stop=None, resume=None):
        class Kill(xpnn.callbacks.Callback):
            def on_step_end(self, run, values):
                if run.step == stop:
                    raise RuntimeError

        xpnn.set_seed(3)
        model, x = small(kind)
        watch = [Checkpoint(folder, every=2, best=False), Kill()]
        options = {"epochs": 4, "batch_size": 8, "callbacks": watch, "resume": resume}
        if stop is not None:
            with pytest.raises(RuntimeError):
                model.fit(x, validation_data=(x[:5], None), verbose=0, **options)
            return None
        return model, model.fit(x, validation_data=(x[:5], None), verbose=0, **options)

    model, history = run(tmp_path / "whole")
    run(tmp_path / "parts", stop=killed_at)
    again, rest = run(tmp_path / "parts", resume=tmp_path / "parts")
    assert dict(rest) == dict(history)
    assert {"loss", "val_loss"} <= history.keys()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value)


@kinds
def test_evaluated_without_a_trace(kind):
    model, x = small(kind)
    model.fit(x, epochs=1, verbose=0)
    before = {name: value.copy() for name, value in model.state_dict().items()}
    found = model.evaluate(x, None)
    assert all(math.isfinite(value) for value in found.values())
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert all(p.grad is None for p in model.parameters())


@kinds
def test_read_only_and_other_views_of_data(kind):
    model, x = small(kind)
    model(x)
    x.flags.writeable = False
    xpnn.set_seed(1)
    expected = float(model.objective(Batch(x[::2]))[0])
    xpnn.set_seed(1)
    assert float(model.objective(Batch(x[::2].copy()))[0]) == expected
    model.fit(x[::-1], epochs=1, batch_size=7, verbose=0)


@kinds
def test_targets_are_refused(kind):
    model, x = small(kind)
    with pytest.raises(DataError, match="learns from one array x alone, got targets"):
        model.fit(x, np.zeros(len(x), int), verbose=0)
    with pytest.raises(DataError, match="learns from one array x alone, got several inputs"):
        model.objective(Batch((x, x)))


@kinds
def test_on_every_device(kind, device):
    xpnn.set_device(device)
    model, x = small(kind)
    loss, _ = model.objective(Batch(xpnn.asarray(x, device=device)))
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.ndim == 2 and kind != "gan")
    assert str(loss.device) == str(model.parameters()[0].device)
    if kind in ("vae", "gan"):
        assert str(xpnn.backend.device_of(model.sample(2))) == str(loss.device)


@pytest.mark.parametrize("name", ["vae", "wgan_gp"])
def test_recipes_of_images(name):
    found = zoo.train(name, epochs=2, settings={"hidden": 16}, verbose=0)
    assert len(found.history["val_loss"]) == 2
    assert math.isfinite(found.scores["loss"])
    recipe = zoo.get(name)
    assert recipe.samples(found.model).shape == (64, 8, 8)
    if recipe.reconstruct is not None:
        assert recipe.reconstruct(found.model, found.splits.test[0][:3]).shape == (3, 8, 8)


# ---------------------------------------------------------------- variational autoencoder


def test_vae_bound_is_that_of_the_formula():
    model, x = small_vae(), floats((5, 4, 4))
    model(x)
    xpnn.set_seed(7)
    loss, values = model.objective(Batch(x))
    xpnn.set_seed(7)
    logits, mean, log_variance = (np.asarray(t.data, np.float64) for t in model(x))
    p = 1 / (1 + np.exp(-logits))
    reconstruction = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=(1, 2))
    kl = 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1).sum(axis=1)
    assert float(values["kl"]) == pytest.approx(kl.mean(), rel=1e-5)
    assert float(values["reconstruction"]) == pytest.approx(reconstruction.mean(), rel=1e-5)
    assert float(loss) == pytest.approx((kl + reconstruction).mean(), rel=1e-5)

    weight = np.asarray([1, 0, 2, 0, 1], np.float32)
    xpnn.set_seed(7)
    loss, values = model.objective(Batch(x, None, weight))
    assert float(loss) == pytest.approx(np.average(kl + reconstruction, weights=weight), rel=1e-5)
    assert float(values["kl"]) == pytest.approx(np.average(kl, weights=weight), rel=1e-5)


def test_vae_codes_have_the_deviation_of_the_encoder():
    # z = mean + exp(log_variance / 2) noise; a decoder that copies shows it.
    model = VAE(layers.Flatten(), layers.Flatten(), latent=4)
    x = np.zeros((4000, 4), np.float32)
    model(x)
    model.mean.bias.data = np.asarray([0.0, 1.0, -2.0, 3.0], np.float32)
    model.log_variance.bias.data = np.log(np.asarray([1.0, 4.0, 0.25, 9.0], np.float32))
    z = model(x)[0].data
    np.testing.assert_allclose(z.mean(axis=0), [0, 1, -2, 3], atol=0.2)
    np.testing.assert_allclose(z.std(axis=0), [1, 2, 0.5, 3], rtol=0.05)


@pytest.mark.oracle
def test_vae_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch")
    model, x = small_vae(), floats((6, 4, 4))
    model(x)
    xpnn.set_seed(2)
    loss, _ = model.objective(Batch(x))
    loss.backward()
    xpnn.set_seed(2)
    noise = torch.as_tensor(xpnn.get_rng().normal((6, 3)))
    p = {n: torch.tensor(v.data, requires_grad=True) for n, v in model.named_parameters().items()}

    def linear(name, h):
        return h @ p[f"{name}.weight"] + p[f"{name}.bias"]

    images = torch.as_tensor(x).reshape(6, 16)
    features = linear("encoder.1", images)
    mean, log_variance = linear("mean", features), linear("log_variance", features)
    z = mean + torch.exp(0.5 * log_variance) * noise
    logits = linear("decoder.2", torch.tanh(linear("decoder.1", z)))
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, images, reduction="sum")
    kl = -0.5 * torch.sum(1 + log_variance - mean**2 - torch.exp(log_variance))
    ((bce + kl) / 6).backward()
    for name, value in model.named_parameters().items():
        np.testing.assert_allclose(value.grad.data, p[name].grad, rtol=1e-4, atol=1e-5)


def test_vae_learns_two_images():
    xpnn.set_seed(0)
    first = (floats((4, 4)) > 0.5).astype(np.float32)
    x = np.stack([first, 1 - first] * 50)
    model = small_vae()
    model.compile(optimizer=optim.Adam(0.02))
    history = model.fit(x, epochs=60, batch_size=20, verbose=0)
    # No code tells less than which image it is: log(2) nats, and the bound is not below that.
    assert math.log(2) < history["loss"][-1] < 2.0
    assert history["loss"][0] > 8.0
    assert np.abs(model.reconstruct(x[:2]) - x[:2]).max() < 0.1
    made = model.sample(400)
    error = np.minimum(*(np.abs(made - one).mean(axis=(1, 2)) for one in x[:2]))
    assert np.mean(error < 0.1) > 0.7
    shares = np.mean(np.abs(made - x[0]).mean(axis=(1, 2)) < 0.5)
    assert 0.3 < shares < 0.7


def test_vae_draws_in_both_modes_and_keeps_the_mode():
    model = small_vae()
    x = floats((2, 4, 4))
    model.eval()
    assert not np.array_equal(model(x)[0].data, model(x)[0].data)
    np.testing.assert_array_equal(model.reconstruct(x), model.reconstruct(x))
    assert not model.training
    assert not model.encoder.training
    model.train()
    model.sample(1)
    assert model.decoder.training


@pytest.mark.parametrize(
    ("error", "call", "match"),
    [
        (DataError, lambda m: m.objective(Batch(255 * floats((2, 4, 4)))), r"VAE: pixels must be"),
        (ConfigError, lambda m: m.sample(2), "VAE: it does not know yet what examples look like"),
        (ConfigError, lambda m: m.reconstruct(floats((2, 4, 4))), "Fit it first, or call it once"),
        (ConfigError, lambda m: m.sample(0), "VAE.sample: 'n' must be at least 1, got 0"),
        (ShapeError, lambda m: m(floats((2, 4, 5))), r"the decoder made \(16,\) .* \(4, 5\)"),
        (ConfigError, lambda m: VAE(m, m, latent=0), "VAE: 'latent' must be at least 1"),
    ],
)
def test_vae_errors(error, call, match):
    with pytest.raises(error, match=match):
        call(small_vae())


# ---------------------------------------------------------------- Wasserstein GAN


def conv_critic():
    return xpnn.Sequential(
        [
            layers.Conv2D(3, 3, padding="same", activation="softplus"),
            layers.Conv2D(5, 2, stride=2, activation="tanh"),
            layers.LayerNorm(),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )


def torch_critic(torch, kind, p, x):
    """Return what the critic of a kind says, by PyTorch's own functions."""
    f = torch.nn.functional
    if kind == "dense":
        h = x.reshape(len(x), -1)
        h = f.leaky_relu(h @ p["1.weight"] + p["1.bias"], 0.01)
        h = torch.tanh(h @ p["2.weight"] + p["2.bias"])
        return h @ p["3.weight"] + p["3.bias"]
    h = x.permute(0, 3, 1, 2)
    weights = [p[f"{i}.weight"].permute(3, 2, 0, 1) for i in (0, 1)]
    h = f.softplus(f.conv2d(h, weights[0], p["0.bias"], padding="same"))
    h = torch.tanh(f.conv2d(h, weights[1], p["1.bias"], stride=2)).permute(0, 2, 3, 1)
    h = f.layer_norm(h, h.shape[-1:], p["2.scale"], p["2.shift"], 1e-5)
    return h.reshape(len(x), -1) @ p["4.weight"] + p["4.bias"]


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ["dense", "conv"])
@pytest.mark.parametrize("seed", range(3))
def test_gan_gradients_are_those_of_torch(kind, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    n, *shape = rng.integers(2, 7, 4).tolist()
    critic = conv_critic()
    if kind == "dense":
        hidden = [layers.Dense(7, activation="leaky_relu"), layers.Dense(5, activation="tanh")]
        critic = xpnn.Sequential([layers.Flatten(), *hidden, layers.Dense(1)])
    x, fake = rng.normal(size=(2, n, *shape))
    xpnn.set_dtype("float64")
    critic(x)
    xpnn.set_seed(seed)
    loss, values = critic_loss(critic, x, fake, penalty=3.0)
    loss.backward()

    xpnn.set_seed(seed)
    share = torch.as_tensor(xpnn.get_rng().uniform((n, 1, 1, 1), dtype="float64"))
    p = {k: torch.tensor(v.data, requires_grad=True) for k, v in critic.named_parameters().items()}
    x, fake = torch.as_tensor(x), torch.as_tensor(fake)
    between = (share * x + (1 - share) * fake).requires_grad_()
    said = torch_critic(torch, kind, p, between).sum()
    (slope,) = torch.autograd.grad(said, between, create_graph=True)
    norms = torch.sqrt((slope.reshape(n, -1) ** 2).sum(dim=1) + 1e-12)
    real, made = (torch_critic(torch, kind, p, t).mean() for t in (x, fake))
    expected = made - real + 3.0 * ((norms - 1) ** 2).mean()
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-8)
    assert float(values["wasserstein"]) == pytest.approx((real - made).item(), rel=1e-8)
    assert float(values["generator_loss"]) == pytest.approx(-made.item(), rel=1e-8)
    assert float(values["gradient_norm"]) == pytest.approx(norms.mean().item(), rel=1e-8)
    for name, value in critic.named_parameters().items():
        want = p[name].grad
        want = np.zeros(value.shape) if want is None else want
        got = np.zeros(value.shape) if value.grad is None else value.grad.data
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9, err_msg=name)


def test_gradient_norms_where_there_is_no_slope():
    w = xpnn.Tensor([0.0], requires_grad=True)
    norms = gradient_norms(lambda x: w * x[:, 0], np.ones((2, 3)))
    assert np.all(norms.data < 1e-5)
    norms.backward(np.ones(2))
    assert np.all(np.isfinite(w.grad.data))


def test_gan_steps_of_critic_and_generator():
    model, x = small_gan(critic_steps=3), floats((4, 2, 3))
    model(x)
    moved = []
    for _ in range(7):
        before = {k: v.copy() for k, v in model.state_dict().items()}
        model.train_step(Batch(x))
        now = model.state_dict()
        changed = {k.partition(".")[0] for k in now if not np.array_equal(now[k], before[k])}
        moved.append("".join(sorted(name[0] for name in changed)))
        assert all(p.grad is None for p in model.parameters())
    assert moved == ["c", "c", "cg", "c", "c", "cg", "c"]
    assert {name: o.steps for name, o in model.optimizers.items()} == {"critic": 7, "generator": 2}


def test_gan_generator_goes_where_the_critic_likes_it():
    model, x = small_gan(critic_steps=1), floats((64, 2, 3))
    model.compile(optimizer=optim.SGD(1e-8), generator_optimizer=optim.SGD(0.1))
    model(x)

    def liked():
        xpnn.set_seed(11)
        return float(np.mean(model(model.sample(500)).data))

    before = liked()
    for _ in range(5):
        model.train_step(Batch(x))
    assert liked() > before + 1e-3


def test_gan_critic_finds_the_distance():
    # Data is what the generator makes, moved by d: their distance is d. With the penalty the best
    # slope k is not 1: k d - penalty (k - 1)^2 is largest at k = 1 + d / (2 penalty).
    xpnn.set_seed(0)
    model = WassersteinGAN(
        dense(4, 2), dense(32, 32, 1, activation="relu"), latent=2, penalty=5.0, critic_steps=10**9
    )
    model.compile(optimizer=optim.Adam(5e-3, beta1=0.0, beta2=0.9))
    model(np.zeros((1, 2), np.float32))
    x = model.sample(2000) + np.asarray([1.5, 2.0], np.float32)
    history = model.fit(x, epochs=6, batch_size=64, verbose=0)
    slope = 1 + 2.5 / 10
    assert history["wasserstein"][-1] == pytest.approx(2.5 * slope, rel=0.05)
    assert history["gradient_norm"][-1] == pytest.approx(slope, rel=0.05)


def test_gan_learns_where_data_is():
    xpnn.set_seed(0)
    x = np.asarray([4.0, -2.0], np.float32) + xpnn.get_rng().normal((2000, 2))
    generator, critic = dense(16, 2, activation="relu"), dense(32, 32, 1, activation="relu")
    model = WassersteinGAN(generator, critic, latent=2, critic_steps=2)
    model.compile(optimizer=optim.Adam(2e-3, beta1=0.0, beta2=0.9))
    model(x[:2])

    def away():
        return float(np.linalg.norm(model.sample(1000).mean(axis=0) - x.mean(axis=0)))

    before = away()
    history = model.fit(x, epochs=12, batch_size=64, verbose=0)
    assert away() < before / 2
    assert history["wasserstein"][-1] < max(history["wasserstein"]) / 2


def test_gan_optimizers():
    model = small_gan()
    critic, generator = model.optimizers.values()
    assert critic is not generator
    assert (critic.lr, critic.beta1, critic.beta2) == (1e-4, 0.0, 0.9)
    assert generator.to_config() == critic.to_config()
    model.compile(optimizer="rmsprop", generator_optimizer=optim.SGD(0.5))
    assert (type(model.optimizer), model.generator_optimizer.lr) == (optim.RMSprop, 0.5)


def test_gan_predicts_what_the_critic_says():
    model, x = small_gan(), floats((10, 2, 3))
    assert model.predict(x, batch_size=4).shape == (10,)
    np.testing.assert_allclose(model.predict(x), model.critic(x).data[:, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("error", "call", "match"),
    [
        (ConfigError, lambda m: m.compile("mse"), "has its own loss and metrics"),
        (ConfigError, lambda m: m.compile(metrics=["accuracy"]), "give optimizers only"),
        (
            ConfigError,
            lambda m: m.compile(optimizer=m.optimizer, generator_optimizer=m.optimizer),
            "need an optimizer each",
        ),
        (ConfigError, lambda m: m.sample(1), "does not know yet what examples look like"),
        (ConfigError, lambda m: WassersteinGAN(m, m, penalty=-1.0), "must not be negative, got -1"),
        (ConfigError, lambda m: WassersteinGAN(m, m, critic_steps=0), "'critic_steps' must be at"),
        (ShapeError, lambda m: m(floats((2, 5))), r"the generator made \(6,\) .* shape \(5,\)"),
        (
            ShapeError,
            lambda m: WassersteinGAN(m.generator, dense(3), latent=3)(floats((2, 6))),
            r"the critic made \(2, 3\) of 2 examples, expected one number each",
        ),
        (
            DataError,
            lambda m: m.fit(floats((2, 6)), sample_weight=np.ones(2), verbose=0),
            "examples have no weights",
        ),
    ],
)
def test_gan_errors(error, call, match):
    with pytest.raises(error, match=match):
        call(small_gan())


# ---------------------------------------------------------------- word vectors


def corpus(topics=4, words=6, sentences=400, length=8):
    """Return sentences of words of one topic each: words of a topic share contexts."""
    rng = np.random.default_rng(0)
    topic = rng.integers(0, topics, sentences)
    return [[f"{t}{w}" for w in rng.integers(0, words, length)] for t in topic]


@pytest.mark.parametrize("skip_gram", [True, False])
def test_words_that_share_contexts_become_similar(skip_gram):
    xpnn.set_seed(0)
    sentences = corpus()
    model = Word2Vec.of([w for s in sentences for w in s], size=8, skip_gram=skip_gram, window=3)
    model.compile(optimizer=optim.Adam(0.02))
    x = np.concatenate([model.encode(s, length=8) for s in sentences])
    history = model.fit(x, epochs=8, batch_size=32, validation_data=(x[:50], None), verbose=0)
    assert history["loss"][0] > history["loss"][-1] + 0.3
    right = [
        other[0] == word[0] for word in model.words for other, _ in model.most_similar(word, 5)
    ]
    assert np.mean(right) > 0.95  # by chance 5 of 23


def test_words_that_never_meet_become_similar_by_their_neighbours():
    # "cat" and "dog" are never near each other, but both stand between the same words.
    xpnn.set_seed(0)
    animals = [["the", a, "eats", "every", "day"] for a in ("cat", "dog")]
    things = [["a", b, "stands", "in", "rain"] for b in ("car", "house")]
    model = Word2Vec.of([w for s in animals + things for w in s], size=8, window=2, subsample=0.0)
    model.compile(optimizer=optim.Adam(0.02))
    rows = [model.encode(s, length=5) for s in animals + things]
    model.fit(np.concatenate(rows * 50), epochs=10, batch_size=20, verbose=0)
    cosines = dict(model.most_similar("cat", len(model.words)))
    assert cosines["dog"] > 0.9
    assert cosines["dog"] > max(cosines[word] for word in ("car", "house", "stands", "rain"))


def test_objective_is_the_mean_over_pairs():
    model = small_words(window=2, subsample=0.0, negatives=3)
    rng = np.random.default_rng(1)
    for table in (model.embedding, model.context):
        table.weight.data = rng.normal(size=(8, 4)).astype(np.float32)
    e, o = (table.weight.data.astype(np.float64) for table in (model.embedding, model.context))
    x = np.asarray([[0, 1, 2, 3, 4, -1], [5, -1, 6, 7, 7, 0]])
    q = np.asarray([n**0.75 for n in model._config["counts"].values()])
    q /= q.sum()

    def cost(i, j):  # of a pair, over all noise
        hit, miss = e[i] @ o[j], o @ e[i]
        return np.log1p(np.exp(-hit)) + 3 * q @ np.log1p(np.exp(miss))

    total = weight = 0.0
    for row in x:
        for t, i in enumerate(row):
            for u, j in enumerate(row):
                chance = {1: 1.0, 2: 0.5}.get(abs(t - u), 0.0)  # of a reach of 1 or 2
                if i >= 0 and j >= 0 and chance:
                    total, weight = total + chance * cost(i, j), weight + chance
    found = [float(model.objective(Batch(np.tile(x, (200, 1))))[0]) for _ in range(5)]
    assert np.mean(found) == pytest.approx(total / weight, rel=0.01)


def test_cbow_takes_the_mean_of_the_neighbours():
    model = small_words(window=1, subsample=0.0, negatives=2, skip_gram=False)
    rng = np.random.default_rng(1)
    for table in (model.embedding, model.context):
        table.weight.data = rng.normal(size=(8, 4)).astype(np.float32)
    e, o = (table.weight.data.astype(np.float64) for table in (model.embedding, model.context))
    q = np.asarray([n**0.75 for n in model._config["counts"].values()])
    q /= q.sum()
    total = 0.0
    for word, around in ((3, [1]), (1, [3, 4]), (4, [1])):
        hidden = e[around].mean(axis=0)
        total += np.log1p(np.exp(-hidden @ o[word])) + 2 * q @ np.log1p(np.exp(o @ hidden))
    x = np.tile([[3, 1, 4, -1, 2]], (400, 1))  # 2 has no neighbour
    found = [float(model.objective(Batch(x))[0]) for _ in range(5)]
    assert np.mean(found) == pytest.approx(total / 3, rel=0.01)


def test_subsampling_passes_over_frequent_words():
    counts = {"the": 900, "cat": 90, "sat": 10}
    model = Word2Vec(counts, size=2, subsample=0.01)
    np.testing.assert_allclose(model.kept, [(1 / 90) ** 0.5, (1 / 9) ** 0.5, 1.0], rtol=1e-6)
    assert np.all(Word2Vec(counts, size=2, subsample=0.0).kept == 1)
    ids = np.zeros((300, 6), int)
    pairs, _ = model._drawn(ids, ids >= 0)
    together = np.mean(pairs[:, 0, 1])
    assert together == pytest.approx(1 / 90, abs=0.015)


def test_rows_without_pairs_cost_nothing():
    model = small_words()
    loss, _ = model.objective(Batch(np.asarray([[3, -1, -1], [-1, -1, -1]])))
    loss.backward()
    assert float(loss) == 0.0
    assert np.all(model.embedding.weight.grad.data == 0)


def test_encoded_text():
    model = Word2Vec.of("to be or not to be".split(), min_count=2, size=3)
    assert model.words == ["be", "to"]
    assert model._config["counts"] == {"be": 2, "to": 2}
    given = "to go or to be to be or be".split()
    assert model.encode(given, length=4).tolist() == [[1, 1, 0, 1], [0, 0, -1, -1]]
    assert model.encode(iter(["to"] * 4), length=4).shape == (1, 4)
    assert model.encode(given).shape == (1, 64)
    vectors = model(np.asarray([[0, -1]])).data
    np.testing.assert_array_equal(vectors[0], [model.vector("be"), [0, 0, 0]])


def test_most_similar_by_hand():
    model = Word2Vec(dict.fromkeys("abcd", 1), size=2)
    model.embedding.weight.data = np.asarray([[1, 0], [3, 3], [0, 2], [-1, 0]], np.float32)
    found = model.most_similar("a", 3)
    assert [word for word, _ in found] == ["b", "c", "d"]
    np.testing.assert_allclose([c for _, c in found], [0.5**0.5, 0, -1], atol=1e-6)
    assert model.most_similar(model.vector("a") + model.vector("c"), 1)[0][0] == "b"
    assert len(model.most_similar("a", 10)) == 3


@pytest.mark.parametrize(
    ("error", "call", "match"),
    [
        (ConfigError, lambda m: m.vector("z"), "'z' is not among the 8 words"),
        (ConfigError, lambda m: m.most_similar("abc"), "'abc' is not among"),
        (ConfigError, lambda m: m.most_similar("a", 0), "'n' must be at least 1"),
        (ShapeError, lambda m: m.most_similar(np.ones(3)), r"a vector of shape \(4,\), got shape"),
        (DataError, lambda m: m.encode(["x", "y"]), "none of the words is among the 8"),
        (ConfigError, lambda m: m.encode(["a"], length=1), "'length' must be at least 2"),
        (ShapeError, lambda m: m.objective(Batch(np.asarray([1, 2]))), r"rows of words \(N, len"),
        (DataError, lambda m: m.objective(Batch(np.asarray([[1, 8]]))), "got 8 at"),
        (DTypeError, lambda m: m.objective(Batch(np.asarray([[1.0]]))), "integer ids, got float64"),
        (ConfigError, lambda m: Word2Vec({"a": 1}, subsample=-1.0), "must not be negative, got -1"),
        (ConfigError, lambda m: Word2Vec({"a": 1}, window=0), "'window' must be at least 1"),
        (DataError, lambda m: Word2Vec({}), "there are no symbols"),
    ],
)
def test_word_errors(error, call, match):
    with pytest.raises(error, match=match):
        call(small_words())


def test_recipe_of_words(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(" ".join(s) for s in corpus()), encoding="utf-8")
    found = zoo.train("word2vec", data=str(path), epochs=3, settings={"size": 6}, verbose=0)
    assert len(found.model.words) == 24
    assert found.model.size == 6
    assert found.history["loss"][-1] < found.history["loss"][0]
    assert found.scores["loss"] > 0
    assert [len(x) for x, _ in found.splits] == [45, 3, 3]


@pytest.mark.parametrize(
    ("error", "name", "content", "match"),
    [
        (ConfigError, "digits", None, "no text is called 'digits'; there is shakespeare, and"),
        (DataError, "none.txt", None, "^none.txt: this text cannot be read: No such file or dir"),
        (DataError, "latin.txt", "\xe9".encode("latin-1"), "expected a text in UTF-8"),
        (DataError, "short.txt", b"to be or not to be", "short.txt: too short to learn from, 6"),
    ],
)
def test_texts_that_cannot_be_used(error, name, content, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=match):
        text(name)


def test_shakespeare_that_is_not_to_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("XPNN_CACHE", str(tmp_path))
    monkeypatch.delenv("XPNN_DATA", raising=False)
    monkeypatch.setattr("xpnn.datasets.text._MIRRORS", ())
    with pytest.raises(DataError, match="load_shakespeare: no mirror delivered"):
        text("shakespeare")


def test_batches_of_generators_too():
    model, x = small("vae")
    history = model.fit(lambda: (b for b in data.Batches(x, batch_size=5)), epochs=2, verbose=0)
    assert len(history["kl"]) == 2
