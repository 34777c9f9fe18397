"""model.summary(): what it says, how it is shown, and that it leaves the model as it was."""

from __future__ import annotations

import pickle
import re
import sys
from typing import Any

import numpy as np
import pytest
from helpers import make

import xpnn
from xpnn import layers
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers import Parameter
from xpnn.training.summary import Summary


def images() -> xpnn.Sequential:
    return xpnn.Sequential(
        [
            layers.Conv2D(8, 3, activation="relu"),
            layers.BatchNorm(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10),
        ]
    )


def outputs(found: Summary) -> dict[str, str]:
    return {f"{row.name} {row.kind}".strip(): row.outputs for row in found.rows}


# ------------------------------------------------------------------------------ what it says


def test_a_model_that_was_never_called_has_no_shapes_yet() -> None:
    found = images().summary()
    assert set(outputs(found).values()) == {"?"}
    assert [row.parameters for row in found.rows] == ["", "?", "?", "0", "0", "?"]
    assert "not built yet: 3; call the model once, or say summary(input_shape=...)" in found
    assert found.totals["outputs"] is None


def test_an_input_shape_is_enough() -> None:
    model = images()
    found = model.summary(input_shape=(6, 6, 1))
    assert outputs(found) == {
        "Sequential": "(N, 10)",
        "0 Conv2D": "(N, 4, 4, 8)",
        "1 BatchNorm": "(N, 4, 4, 8)",
        "2 Flatten": "(N, 128)",
        "3 Dropout": "(N, 128)",
        "4 Dense": "(N, 10)",
    }
    assert [row.parameters for row in found.rows] == ["", "80", "16", "0", "0", "1,290"]
    assert found.totals == {
        "parameters": 1386,
        "trainable": 1386,
        "frozen": 0,
        "memory": 4 * 1386,
        "buffers": 64,
        "gradients": 4 * 1386,
        "outputs": 4 * (128 * 4 + 10),
    }


def test_a_called_model_needs_no_input() -> None:
    model = images()
    model(make((3, 6, 6, 1)))
    assert outputs(model.summary())["0 Conv2D"] == "(N, 4, 4, 8)"


def test_the_examples_that_are_given_count() -> None:
    model = xpnn.Sequential([layers.Embedding(50, 4), layers.LSTM(3)])
    model(np.zeros((2, 5), int))
    assert outputs(model.summary())["1 LSTM"] == "(N, 5, 3)"
    assert outputs(model.summary(np.zeros((6, 9), int)))["1 LSTM"] == "(N, 9, 3)"


def test_the_text_is_a_table() -> None:
    model = images()
    model(make((2, 6, 6, 1)))
    model[0].freeze()
    lines = model.summary().splitlines()
    assert re.split(r"\s\s+", lines[0]) == [
        "layer", "output", "parameters", "memory", "dtype", "device",
    ]  # fmt: skip
    assert lines[1].split() == ["Sequential", "(N,", "10)"]
    cells = ["", "0 Conv2D", "(N, 4, 4, 8)", "80 frozen", "320 B", "float32", "cpu"]
    assert re.split(r"\s\s+", lines[2]) == cells
    starts = {line.find("(N") for line in lines[1:7]}
    assert len(starts) == 1
    assert lines[-2] == "1,386 parameters (1,306 trainable, 80 frozen), on cpu"
    assert lines[-1] == (
        "memory: parameters 5.4 KiB, buffers 64 B, gradients 5.1 KiB,"
        " outputs of the layers 2.0 KiB for one example"
    )


def test_several_inputs_and_outputs_of_a_class_of_ones_own() -> None:
    class Two(xpnn.Model):
        def __init__(self) -> None:
            self.left, self.right = layers.Dense(3), layers.Dense(5)
            self.unused = layers.Dense(2, in_features=2)

        def forward(self, a: Any, b: Any, scale: float = 1.0) -> Any:
            return {"a": self.left(a), "both": (self.right(b) * scale, None)}["a"], self.right(b)

    found = Two().summary(input_shape=[(4,), (7, 2)])
    assert outputs(found) == {
        "Two": "(N, 3), (N, 7, 5)",
        "left Dense": "(N, 3)",
        "right Dense": "(N, 7, 5)",
        "unused Dense": "not called",
    }
    model = Two()
    model(make((2, 4)), make((2, 7, 2)))
    assert outputs(model.summary()) == outputs(found)
    assert outputs(model.summary((make((2, 4)), make((2, 9, 2)))))["Two"] == "(N, 3), (N, 9, 5)"


def test_layers_that_nothing_calls_are_not_built() -> None:
    class Half(xpnn.Model):
        def __init__(self) -> None:
            self.used, self.unused = layers.Dense(3), layers.Dense(3)

        def forward(self, x: Any) -> Any:
            return self.used(x)

    found = Half().summary(input_shape=(2,))
    assert "not built yet: 1; as nothing calls them" in found
    assert found.rows[2].parameters == "?"


def test_a_shared_layer_is_counted_once_and_shows_all_shapes_of_its_calls() -> None:
    shared = layers.Dense(3)
    model = xpnn.Sequential(
        [
            layers.Parallel([shared, layers.Chain([shared])]),
            layers.Dense(3, weight=None),
        ]
    )
    found = model.summary(input_shape=(3,))
    assert [row.parameters for row in found.rows] == ["", "", "12", "", "12 shared", "21"]
    assert [row.memory for row in found.rows] == [0, 0, 48, 0, 0, 84]

    class Twice(xpnn.Model):
        def __init__(self) -> None:
            self.layer = layers.Dense(3)

        def forward(self, x: Any) -> Any:
            return self.layer(x), self.layer(x[..., None, :])

    assert Twice().summary(input_shape=(3,)).rows[1].outputs == "(N, 3) / (N, 1, 3)"


def test_a_tied_weight_is_counted_once() -> None:
    first = layers.Dense(4, in_features=6)
    model = xpnn.Sequential([first, layers.Dense(6, weight=first.weight, transposed=True)])
    found = model.summary(input_shape=(6,))
    assert [row.parameters for row in found.rows] == ["", "28", "6 + 24 shared"]
    assert found.totals["parameters"] == 34


def test_a_container_shared_as_a_whole_is_not_listed_twice() -> None:
    block = layers.Chain([layers.Dense(4), layers.BatchNorm()])
    found = xpnn.Sequential([block, block]).summary(input_shape=(4,))
    assert [(row.depth, row.kind, row.parameters) for row in found.rows] == [
        (0, "Sequential", ""),
        (1, "Chain", ""),
        (2, "Dense", "20"),
        (2, "BatchNorm", "8"),
        (1, "Chain", "28 shared"),
    ]
    assert found.totals["buffers"] == 32


def test_own_parameters_and_mixed_dtypes() -> None:
    class Mixed(xpnn.Model):
        def __init__(self) -> None:
            self.a, self.b = Parameter(np.ones(3, np.float32)), Parameter(np.ones(2))
            self.b.requires_grad = False

        def forward(self, x: Any) -> Any:
            return x * self.a

    row = Mixed().summary(input_shape=(3,)).rows[0]
    assert (row.parameters, row.memory, row.dtype) == ("3 + 2 frozen", 28, "float32, float64")


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (153600, "150 KiB"), (3 << 30, "3.0 GiB")],
)
def test_memory_in_units_that_people_read(size: int, said: str) -> None:
    from xpnn.training.summary import _human

    assert _human(size) == said


def test_a_huge_model_is_run_on_one_example(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Watch(layers.Layer):
        def forward(self, x: Any) -> Any:
            sizes.append(x.shape[0])
            return x

    model = xpnn.Sequential([Watch()])
    model(make((1000, 2)))
    model.summary()
    model.summary(make((500, 2)))
    assert sizes == [1000, 1, 1]


def test_every_place(device: Any) -> None:
    with xpnn.device(device):
        model = xpnn.Sequential([layers.Dense(3), layers.LayerNorm()])
        found = model.summary(input_shape=(4,))
        model(make((2, 4), device))
    assert found.rows[1].device == str(device)
    assert found.rows[1].dtype == "float32"
    assert outputs(model.summary(np.ones((2, 4))))["1 LayerNorm"] == "(N, 3)"


# --------------------------------------------------------------------------- how it is shown


def test_a_program_prints_it_and_a_prompt_displays_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sys, "ps1", raising=False)
    found = images().summary()
    assert capsys.readouterr().out == f"{found}\n"
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    found = images().summary()
    assert capsys.readouterr().out == ""
    assert repr(found) == str(found)  # what a prompt shows: lines, not '\n'


def test_html_escapes_what_others_named() -> None:
    class Holder(xpnn.Model):
        pass

    Holder.__name__ = "Holder<b>&"
    model = Holder()
    vars(model)["<script>"] = layers.Dense(300, in_features=2)
    html = model.summary()._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt; <b>Dense</b>" in html
    assert "Holder&lt;b&gt;&amp;" in html
    assert 'title="3,600 bytes">3.5 KiB<' in html
    assert 'title="weight (2, 300), bias (300,)">900<' in html
    assert html.count("<tr>") == 3
    assert html.count("<td") == 2 * 6


def test_it_is_text_that_travels() -> None:
    found = images().summary(input_shape=(6, 6, 1))
    again = pickle.loads(pickle.dumps(found))
    assert (again, again.rows, again.totals) == (found, found.rows, found.totals)
    assert isinstance(found, str)


# --------------------------------------------------------------------- it leaves no traces


class Stateful(layers.Layer):
    """Changes everything that a forward can change, also in prediction mode."""

    buffers = ("seen",)

    def __init__(self) -> None:
        self.seen, self.calls = np.zeros(1), 0

    def forward(self, x: Any) -> Any:
        self.seen = self.seen + 1
        self.calls += 1
        return x + xpnn.get_rng().normal(tuple(x.shape))


@pytest.mark.parametrize("given", [{}, {"x": make((4, 6, 6, 1))}, {"input_shape": (6, 6, 1)}])
def test_the_model_is_left_as_it_was(given: Any) -> None:
    model = images()
    model.add(Stateful())
    y = model(make((4, 6, 6, 1)))
    model[1].eval()
    model[0].freeze()
    state = {k: np.array(v) for k, v in model.state_dict().items()}
    attributes = [dict(vars(layer)) for layer in model.layers()]
    stream = xpnn.get_rng()
    before = stream.state
    model.summary(**given)
    assert xpnn.get_rng() is stream
    assert stream.state == before
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    for layer, was in zip(model.layers(), attributes, strict=True):
        assert vars(layer).keys() == was.keys()
        assert all(vars(layer)[name] is was[name] for name in was)
    assert all(p.grad is None for p in model.parameters())
    model.backward(np.ones(y.shape, np.float32))  # of the call before the summary
    assert model[4].weight.grad is not None


def test_a_model_that_was_not_built_is_not() -> None:
    model = images()
    assert model.parameters() == []
    attributes = [dict(vars(layer)) for layer in model.layers()]
    state = xpnn.get_rng().state
    model.summary(input_shape=(6, 6, 1))
    model.summary(make((4, 6, 6, 1)))
    assert model.parameters() == []
    assert [dict(vars(layer)) for layer in model.layers()] == attributes
    assert xpnn.get_rng().state == state


def test_it_is_left_so_when_it_fails() -> None:
    model = images()
    model(make((4, 6, 6, 1)))
    with pytest.raises(ShapeError, match="Conv2D"):
        model.summary(input_shape=(6, 6, 2))
    assert "forward" not in vars(model[0])
    assert model[0].training


def test_training_goes_on_as_if_there_had_been_no_summary() -> None:
    found = []
    for look in (False, True):
        xpnn.set_seed(3)
        model = images()
        if look:
            model.summary(input_shape=(6, 6, 1))
        model.compile("cross_entropy")
        x, y = make((20, 6, 6, 1)), np.arange(20) % 10
        history = model.fit(x, y, batch_size=5, epochs=2, verbose=0)
        if look:
            model.summary()
        found.append(history["loss"])
    assert found[0] == found[1]


# ------------------------------------------------------------------------------------ errors


def test_shapes_that_no_zeros_fit_are_said_to_be_unknown() -> None:
    class Picky(xpnn.Model):
        def __init__(self) -> None:
            self.layer = layers.Dense(2)

        def forward(self, x: Any) -> Any:
            if not float(x[0, 0]):
                raise ShapeError("I take no zeros")
            return self.layer(x)

    model = Picky()
    model(np.ones((1, 3), np.float32))
    found = model.summary()
    assert found.rows[1].outputs == "?"
    assert "unknown: the model does not run on zeros (ShapeError: I take no zeros)" in found
    assert model.summary(np.ones((1, 3))).rows[1].outputs == "(N, 2)"
    with pytest.raises(ShapeError, match="I take no zeros"):
        model.summary(input_shape=(3,))


def test_x_and_a_shape_are_one_too_many() -> None:
    with pytest.raises(ConfigError, match="'x' and 'input_shape' both say what is run"):
        images().summary(np.ones((1, 6, 6, 1)), input_shape=(6, 6, 1))


@pytest.mark.parametrize("shape", [6, (6, 0), (6, None), [(6,), 3], "6"])
def test_what_is_no_shape(shape: Any) -> None:
    with pytest.raises(ConfigError, match="'input_shape' must be the shape of one example"):
        images().summary(input_shape=shape)
