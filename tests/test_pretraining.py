"""Greedy pre-training: which layer learns from what, and that it helps."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from helpers import make

import xpnn
from xpnn import callbacks, datasets, layers, optim, random
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, DataError, NonFiniteError, ShapeError

X = np.random.default_rng(0).uniform(size=(50, 6)).astype(np.float32)


def quiet(model: Any, x: Any = X, **options: Any) -> Any:
    return xpnn.pretrain(model, x, **{"epochs": 2, "verbose": 0, **options})


def stack() -> Any:
    xpnn.set_seed(0)
    hidden = [layers.AutoEncoder(5, corruption=0.3), layers.RBM(4, k=2)]
    return xpnn.Sequential([layers.Dropout(0.5), *hidden, layers.Dense(3)])


def state(model: Any) -> dict[str, Any]:
    return {name: to_numpy(value).copy() for name, value in model.state_dict().items()}


def changed(before: dict[str, Any], model: Any) -> set[str]:
    after = state(model)
    return {name for name in before if not np.array_equal(before[name], after[name])}


# --------------------------------------------------------------------------------- the algorithm


def by_hand(model: Any, x: Any, epochs: int, batch_size: int, lr: float) -> dict[str, list[float]]:
    """Layer by layer, each on what those below make of x; the order from a stream of its own."""
    model.eval()
    with xpnn.no_grad():
        model(x[:batch_size])
    found = {}
    for i, layer in enumerate(model):
        if not isinstance(layer, layers.Unsupervised):
            continue
        layer.train()
        optimizer, means = optim.SGD(lr), []
        for _ in range(epochs):
            order, total = random.get_rng().spawn().permutation(len(x), device="cpu"), 0.0
            for start in range(0, len(x), batch_size):
                h = x[order[start : start + batch_size]]
                with xpnn.no_grad():
                    for below in model.members[:i]:
                        h = below(h)
                loss = layer.loss(h)
                if isinstance(layer, layers.RBM):
                    layer.pseudo_likelihood(h)  # draws random numbers as well
                loss.backward()
                optimizer.step(layer)
                total += float(loss) * len(h)
            means.append(total / len(x))
        layer.eval()
        found[str(i)] = means
    return found


def test_it_is_the_loop_that_one_would_write() -> None:
    ours, theirs = stack(), stack()
    xpnn.set_seed(1)
    found = quiet(ours, epochs=3, batch_size=8, lr=0.1)
    xpnn.set_seed(1)
    expected = by_hand(theirs, X, 3, 8, 0.1)
    assert list(found) == ["1", "2"] == list(expected)
    for name, means in expected.items():
        assert found[name]["loss"] == pytest.approx(means, rel=1e-5)
    for name, value in state(theirs).items():
        np.testing.assert_array_equal(state(ours)[name], value, err_msg=name)


def test_nothing_but_the_layer_changes() -> None:
    model = xpnn.Sequential(
        [
            layers.Dense(6, activation="sigmoid"),
            layers.BatchNorm(),
            layers.Activation("sigmoid"),
            layers.AutoEncoder(5),
            layers.RBM(4),
            layers.Dense(3),
        ]
    )
    model(X)
    for layer, own in ((3, {"3."}), (4, {"4."})):
        model.unfreeze()
        model[7 - layer].freeze()
        before = state(model)
        quiet(model, lr=0.1)
        moved = changed(before, model)
        assert {name[:2] for name in moved} == own
        assert len(moved) == 3  # weight, bias, visible_bias
    assert model.optimizer is None


def test_modes_and_gradients_are_as_before() -> None:
    model = stack()
    model(X)
    model.train()
    model[0].eval()
    model[2].weight.grad = xpnn.Tensor(np.ones((5, 4), np.float32))  # left by somebody
    twin = stack()
    twin(X)
    modes = [layer.training for layer in model.layers()]
    for one in (model, twin):
        xpnn.set_seed(3)
        quiet(one, lr=0.1)
    assert [layer.training for layer in model.layers()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert not changed(state(model), twin)
    assert all("forward" not in vars(layer) for layer in model.layers())


def test_labels_few_and_images_many() -> None:
    """With fifty labels, a classifier on learnt features beats one on random features."""
    x, y = datasets.load_digits()
    x = x.reshape(-1, 64)
    errors = []
    for epochs in (0, 15):
        xpnn.set_seed(0)
        model = xpnn.Sequential(
            [layers.AutoEncoder(64, corruption=0.3), layers.Dense(10, weight_init="zeros")]
        )
        xpnn.pretrain(model, x[:1000], epochs=epochs, lr=0.1, verbose=0)
        model.compile("cross_entropy", optim.SGD(0.1), metrics=["accuracy"])
        model.fit(x[:50], y[:50], batch_size=10, epochs=30, verbose=0)
        errors.append(1 - model.evaluate(x[1000:], y[1000:])["accuracy"])
    assert errors[1] < 0.75 * errors[0]


# ----------------------------------------------------------------------------- models of all kinds


def test_layers_at_any_depth_have_their_names() -> None:
    inner = layers.Chain([layers.Dense(5, activation="sigmoid"), layers.AutoEncoder(4)])
    model = xpnn.Sequential([layers.RBM(6), xpnn.Sequential([inner]), layers.RBM(3)])
    found = quiet(model, epochs=1)
    assert list(found) == ["0", "1.0.1", "2"]
    assert set(found["0"]) == {"loss", "pseudo_likelihood"}
    assert set(found["1.0.1"]) == {"loss"}


class Own(xpnn.Model):
    """The attributes in another order than the calls, and calls that are no chain."""

    def __init__(self) -> None:
        self.top = layers.RBM(3)
        self.low = layers.AutoEncoder(6)
        self.calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return self.top((x + self.low(x=x)) / 2)


def test_a_model_of_ones_own_says_what_a_layer_is_given() -> None:
    xpnn.set_seed(0)
    model = Own()
    seen: dict[str, Any] = {}
    for name, layer in (("low", model.low), ("top", model.top)):
        layer.loss = lambda x, f=layer.loss, name=name: f(seen.setdefault(name, x))
    found = quiet(model, batch_size=50, shuffle=False, epochs=1)
    assert list(found) == ["low", "top"]
    np.testing.assert_array_equal(to_numpy(seen["low"]), X)
    with xpnn.no_grad():
        expected = (X + to_numpy(model.low(X))) / 2
    np.testing.assert_array_equal(to_numpy(seen["top"]), expected)


def test_a_layer_by_itself_and_a_part_of_a_chain() -> None:
    xpnn.set_seed(0)
    rbm = layers.RBM(4)
    assert list(quiet(rbm)) == ["RBM"]
    model = stack()
    model(X)
    before = state(model)
    quiet(model[2:], model[:2].predict(X), lr=0.1)
    assert {name[:2] for name in changed(before, model)} == {"2."}


def test_several_inputs() -> None:
    model = xpnn.Sequential([layers.Concatenate(), layers.AutoEncoder(4), layers.Dense(2)])
    found = quiet(model, (X, X[:, :3]), validation_data=(X, X[:, :3]))
    assert model[1].visible == 9
    assert set(found["1"]) == {"loss", "val_loss"}


def test_layers_that_are_made_when_they_are_built_are_in_training_afterwards() -> None:
    recurrent = layers.Bidirectional(layers.GRU(3))
    model = xpnn.Sequential([recurrent, layers.Activation("sigmoid"), layers.AutoEncoder(4)])
    quiet(model, X.reshape(50, 2, 3))
    assert len(list(recurrent.layers())) == 3
    assert all(layer.training for layer in model.layers())


def test_a_layer_twice_is_one_layer() -> None:
    shared = layers.AutoEncoder(6)
    assert list(quiet(xpnn.Sequential([shared, shared]))) == ["0"]


class Inside(layers.Unsupervised):
    """Made of unsupervised layers, with a loss of its own."""

    def __init__(self) -> None:
        self.a, self.b = layers.AutoEncoder(5), layers.AutoEncoder(4)

    def forward(self, x: Any) -> Any:
        return self.b(self.a(x))

    def loss(self, x: Any) -> Any:
        return self.a.loss(x) + self.b.loss(self.a(x))

    def measures(self, x: Any) -> Any:
        return {"two": xpnn.asarray(2.0)}

    def penalty(self) -> Any:
        return 100.0 + xpnn.ops.sum(self.a.weight**2)


def test_a_layer_of_layers_learns_as_one_with_its_penalty() -> None:
    model = xpnn.Sequential([layers.Flatten(), Inside()])
    found = quiet(model)
    assert list(found) == ["1"]
    assert found["1"]["two"] == [2.0, 2.0]
    assert found["1"]["loss"][-1] > 100


# --------------------------------------------------------------------------------------- settings


def test_one_setting_for_each_layer() -> None:
    model = stack()
    model(X)
    first = state(model)
    found = quiet(model, epochs=[3, 0], lr=[0.0, 0.5])
    assert [h.epochs for h in found.values()] == [3, 0]
    assert not changed(first, model)
    quiet(model, epochs=[0, 1], optimizer=["adam", ("sgd", {"lr": 0.5})])
    assert {name[:2] for name in changed(first, model)} == {"2."}


def test_every_layer_has_a_new_optimizer() -> None:
    seen = []

    class Note(callbacks.Callback):
        def on_train_end(self, run: Any) -> None:
            seen.append(run.model.optimizer)

    given = optim.Adam(0.1)
    quiet(stack(), optimizer=given, callbacks=[Note()])
    quiet(stack(), optimizer="adam", lr=0.2, callbacks=[Note()])
    quiet(stack(), lr=optim.schedules.Exponential(0.1, 1, 0.5), callbacks=[Note()])
    quiet(stack(), callbacks=[Note()])
    assert given.steps == 0
    assert len({id(o) for o in [given, *seen]}) == 9
    assert [type(o).__name__ for o in seen] == ["Adam"] * 4 + ["SGD"] * 4
    assert [o.steps for o in seen] == [6] * 8  # two epochs of 20, 20 and 10 examples
    assert [o.lr for o in seen[:4]] == [0.1, 0.1, 0.2, 0.2]
    assert seen[4].lr == seen[5].lr < 0.01
    assert [o.lr for o in seen[6:]] == [0.01, 0.01]


def test_callbacks_and_validation() -> None:
    class Half(callbacks.Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_epoch_end(self, run: Any, values: dict[str, float]) -> None:
            lines.append((self.name, type(run.model.layer).__name__, sorted(values)))
            run.stop = True

    lines: list[Any] = []
    found = quiet(stack(), epochs=5, validation_data=X[:7], callbacks=lambda name: [Half(name)])
    assert lines == [
        ("1", "AutoEncoder", ["loss", "val_loss"]),
        ("2", "RBM", ["loss", "pseudo_likelihood", "val_loss", "val_pseudo_likelihood"]),
    ]
    assert [h.epochs for h in found.values()] == [1, 1]


def test_an_interrupted_layer_is_the_last() -> None:
    class Stop(callbacks.Callback):
        def on_step_end(self, run: Any, values: dict[str, Any]) -> None:
            raise KeyboardInterrupt

    model = stack()
    found = quiet(model, callbacks=[Stop()])
    assert list(found) == ["1"]
    assert model.training


def test_progress_is_told_by_layer(capsys: Any, monkeypatch: Any) -> None:
    quiet(stack(), verbose=2, epochs=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("layer 1, AutoEncoder: epoch 1/1  loss ")
    assert lines[1].startswith("layer 2, RBM: epoch 1/1  loss ")
    assert "pseudo_likelihood -" in lines[1]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    quiet(stack(), verbose=1)
    out, shown = capsys.readouterr()
    assert "layer 1, AutoEncoder: epoch 2/2" in shown
    assert "layer 2, RBM: epoch 2/2" in shown
    assert not out


# --------------------------------------------------------------------------------- data and devices


def test_it_works_where_the_model_is(device: Any) -> None:
    results = []
    for place in ("cpu", device):
        xpnn.set_seed(0)
        model = xpnn.Sequential([layers.AutoEncoder(5), layers.RBM(4), layers.Dense(2)]).to(place)
        x = make((9, 6), dtype="float64", kind="uniform")
        found = quiet(model, x, batch_size=4, lr=0.1)
        assert {p.dtype for p in model.parameters()} == {"float32"}
        assert {p.device for p in model.parameters()} == {place}
        results.append(found["0"]["loss"])
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_files_that_are_mapped(tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    one, two = stack(), stack()
    for model, x in ((one, mapped), (two, X)):
        xpnn.set_seed(1)
        quiet(model, x)
    assert not changed(state(one), two)


def test_particles_stay_with_the_layer() -> None:
    xpnn.set_seed(0)
    model = xpnn.Sequential([layers.RBM(4, persistent=True, chains=3), layers.Dense(2)])
    model(X)
    before = to_numpy(model[0].particles).copy()
    quiet(model)
    assert not np.array_equal(before, to_numpy(model[0].particles))


# ------------------------------------------------------------------------------------ wrong input


def test_models_that_cannot_be_pretrained() -> None:
    with pytest.raises(ConfigError, match=r"Sequential has no unsupervised layers. Give it some"):
        quiet(xpnn.Sequential([layers.Dense(3)]))
    model = stack()
    model(X)
    model.freeze()
    with pytest.raises(ConfigError, match="1, 2: every unsupervised layer is frozen"):
        quiet(model)

    class Beside(xpnn.Model):
        def __init__(self) -> None:
            self.used, self.spare = layers.AutoEncoder(3), layers.AutoEncoder(3)

        def forward(self, x: Any) -> Any:
            return self.used(x)

    with pytest.raises(ConfigError, match=r"Beside.forward does not call spare.*Call layer\(x\)"):
        quiet(Beside())

    class Sometimes(xpnn.Model):
        def __init__(self) -> None:
            self.layer, self.calls = layers.AutoEncoder(3), 0

        def forward(self, x: Any) -> Any:
            self.calls += 1
            return self.layer(x) if self.calls < 4 else x

    with pytest.raises(ConfigError, match="Sometimes did not call AutoEncoder this time"):
        quiet(Sometimes())


def test_wrong_settings_are_told_before_anything_is_trained() -> None:
    model = stack()
    model(X)
    before = state(model)
    with pytest.raises(ConfigError, match=r"'epochs' has 3 values.*2 unsupervised layers: 1, 2"):
        quiet(model, epochs=[1, 2, 3])
    with pytest.raises(ConfigError, match="'lr' has 1 values"):
        quiet(model, lr=[0.1])
    for epochs in ([1, -1], 1.5, (1, 2)):
        with pytest.raises(ConfigError, match="'epochs' must not be negative"):
            quiet(model, epochs=epochs)
    with pytest.raises(ConfigError, match="'callbacks' must be a list"):
        quiet(model, callbacks=callbacks.EarlyStopping())
    with pytest.raises(ConfigError, match="adamant"):
        quiet(model, optimizer=["sgd", "adamant"])
    with pytest.raises(ConfigError, match="'lr' must"):
        quiet(model, lr=-1.0)
    assert not changed(before, model)


def test_wrong_data() -> None:
    model = stack()
    model(X)
    with pytest.raises(
        ShapeError, match=r"AutoEncoder.*expected x with last axis 6, got .*\(20, 5"
    ):
        quiet(model, X[:, :5])
    with pytest.raises(DataError, match="no examples"):
        quiet(model, X[:0])
    with pytest.raises(DataError, match=r"layer 1, AutoEncoder: expected inputs in \[0, 1\], got .*"
                       r"Scale the data.*loss='mean_squared_error'"):  # fmt: skip
        quiet(model, X * 255)
    real = xpnn.Sequential([layers.Dense(6), layers.RBM(4)])
    with pytest.raises(DataError, match=r"layer 1, RBM: expected inputs in \[0, 1\].*sigmoid"):
        quiet(real)
    linear = layers.AutoEncoder(3, output_activation="linear", loss="mean_squared_error")
    quiet(xpnn.Sequential([linear]), X * 9)  # takes any numbers
    assert model.training


def test_a_loss_that_is_no_number_is_that_of_a_layer() -> None:
    mean = {"output_activation": "linear", "loss": "mean_squared_error", "activation": "linear"}
    model = xpnn.Sequential([layers.AutoEncoder(5), layers.AutoEncoder(4, **mean)])
    with (
        np.errstate(all="ignore"),
        pytest.raises(NonFiniteError, match=r"pretrain: layer 1, AutoEncoder: the loss became"),
    ):
        quiet(model, lr=[0.01, 1e9], epochs=[1, 60])
    assert all(np.isfinite(value).all() for value in state(model).values())
    assert all(p.grad is None for p in model.parameters())
