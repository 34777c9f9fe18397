"""Containers: several arrays in between, shared layers, lists that grow, summaries; the tree."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_close, make

import xpnn
from xpnn import layers, optim
from xpnn.errors import ConfigError, ShapeError
from xpnn.layers import Layer, Parameter


def dense(n: int, **options: Any) -> Layer:
    return layers.Dense(n, **options)


# ------------------------------------------------------------------------- chains as lists


def test_a_chain_is_a_sequence_of_layers() -> None:
    members = [dense(3), layers.Activation("tanh"), dense(2)]
    chain = layers.Chain(iter(members))
    assert len(chain) == 3
    assert list(chain) == members
    assert chain[0] is members[0]
    assert chain[-1] is members[2]
    with pytest.raises(IndexError):
        chain[3]


@pytest.mark.parametrize("cls", [layers.Chain, xpnn.Sequential])
def test_a_slice_is_a_chain_of_the_same_layers(cls: Any) -> None:
    net = cls([dense(3), layers.Activation("tanh"), dense(2)])
    x = make((4, 5))
    net(x)
    head, tail = net[:2], net[2:]
    assert type(head) is cls
    assert head[0] is net[0]
    assert_close(tail(head(x)), net(x), rtol=0)
    again = Layer.from_config(json.loads(json.dumps(head.to_config())))
    again.load_state_dict(head.state_dict())
    assert_close(again(x), head(x), rtol=0)


def test_a_slice_of_a_network_of_ones_own_is_a_plain_chain() -> None:
    class Net(xpnn.Sequential):
        def __init__(self, width: int) -> None:
            super().__init__([dense(width), dense(2)])

    assert type(Net(3)[:1]) is layers.Chain


def test_a_slice_of_parallel_branches_is_merged_as_they_are() -> None:
    whole = layers.Parallel([dense(3), dense(2), dense(3)], merge="add")
    part = whole[::2]
    x = make((2, 4))
    assert_close(part(x), whole[0](x) + whole[2](x))


def test_layers_are_added_one_by_one() -> None:
    net = xpnn.Sequential([])
    net.add(dense(4, activation="tanh"))
    net.add(dense(2))
    x = make((3, 5))
    assert net(x).shape == (3, 2)
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    with pytest.raises(ConfigError, match="Sequential: item 2 is not a layer but function"):
        net.add(lambda x: x)
    assert len(net) == 2


def test_a_layer_that_is_added_late_is_like_the_others(tmp_path: Path) -> None:
    net = xpnn.Sequential([dense(4)])
    x = make((3, 5))
    net(x)
    net.eval()
    net.add(layers.Chain([dense(3), layers.Dropout(0.5)]))
    path = tmp_path / "net.safetensors"
    net.save(path)  # before the new layer has weights
    assert xpnn.load(path)(x).shape == (3, 3)
    assert not any(layer.training for layer in net.layers())
    net(x)
    net.save(path)
    assert_close(xpnn.load(path).eval()(x), net(x), rtol=0)


def test_a_new_head_on_a_frozen_network_is_trained() -> None:
    for body in (dense(4), dense(4, in_features=5)):
        net = xpnn.Sequential([body]).freeze()
        net.add(dense(2))
        net(make((3, 5)))
        assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]


def test_a_layer_that_is_added_late_goes_where_the_others_are(device: Any) -> None:
    net = xpnn.Sequential([dense(4)])
    net.to(device)
    net.add(dense(3, in_features=4))
    assert net(make((2, 5), device)).device == device


def test_a_chain_of_nothing_gives_back_its_input() -> None:
    x, y = make((2, 3)), make((2, 3), seed=1)
    chain = layers.Chain([])
    assert_close(chain(x), x)
    assert_close(chain(x, y), (x, y))


# --------------------------------------------------------------- several arrays in between


def test_outputs_of_one_layer_are_the_inputs_of_the_next() -> None:
    both = layers.Parallel([dense(3), layers.Parallel([dense(2), dense(3)], None)], None)
    net = layers.Chain([both, layers.Concatenate()])
    x = make((4, 5))
    assert net(x).shape == (4, 8)
    a, b, c = both(x)
    assert_close(net(x), np.concatenate([a.data, b.data, c.data], 1))


def test_too_many_arrays_are_named_before_they_arrive() -> None:
    two = layers.Parallel([dense(3), dense(3)], None)
    x = make((2, 4))
    message = (
        r"Chain: layer 0, Parallel, gives 2 arrays, and layer 1, Dense, takes 1\."
        r" Merge them .* layers\.Concatenate"
    )
    with pytest.raises(ConfigError, match=message):
        layers.Chain([two, dense(2)])(x)
    with pytest.raises(ConfigError, match="Sequential: there are 2 arrays, and layer 0, Dense"):
        xpnn.Sequential([dense(2)])(x, x)
    with pytest.raises(ConfigError, match="gives 3 arrays, and layer 1, Dot, takes 2"):
        layers.Chain([layers.Parallel([dense(3)] * 3, None), layers.Dot()])(x)


def test_keywords_are_not_handed_on() -> None:
    message = "Sequential: mask: a chain hands no keyword arguments on"
    with pytest.raises(ConfigError, match=message):
        xpnn.Sequential([layers.LSTM(2)])(make((2, 3, 4)), mask=np.ones((2, 3), bool))


def test_a_model_of_two_inputs_is_trained_from_a_tuple() -> None:
    net = xpnn.Sequential([layers.Parallel([layers.Add(), layers.Multiply()]), dense(1)])
    a, b = make((16, 2)), make((16, 2), seed=1)
    net.compile("mean_squared_error", optim.Adam(0.1))
    history = net.fit((a, b), a[:, :1] * b[:, :1], epochs=60, batch_size=8, verbose=0)
    assert history["loss"][-1] < 0.1 * history["loss"][0]
    assert net.predict((a, b)).shape == (16, 1)


# ---------------------------------------------------------------------- what is refused


def test_residual_says_what_shortcut_is_missing() -> None:
    message = (
        r"the layers give shape \(2, 3\) and x itself has \(2, 4\), for x of shape \(2, 4\);"
        r".* shortcut=layers\.Dense\(3\)"
    )
    with pytest.raises(ShapeError, match=message):
        layers.Residual(dense(3))(make((2, 4)))
    with pytest.raises(ShapeError, match=r"and the shortcut has \(2, 1\)"):
        layers.Residual(dense(4), shortcut=dense(1))(make((2, 4)))
    with pytest.raises(ConfigError, match="must have one output each"):
        layers.Residual(layers.Parallel([dense(4), dense(4)], None))(make((2, 4)))


def test_parallel_merges_one_output_of_each_branch() -> None:
    two = layers.Parallel([dense(3), dense(3)], None)
    with pytest.raises(ConfigError, match=r"branch 1, Parallel, has 2 outputs and merge='add'"):
        layers.Parallel([dense(3), two], "add")(make((2, 4)))
    with pytest.raises(ShapeError, match=r"Parallel\(merge='add'\): expected inputs of one shape"):
        layers.Parallel([dense(3), dense(2)], "add")(make((2, 4)))


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: layers.Parallel([]), "Parallel: expected at least one layer"),
        (lambda: layers.Parallel([dense(2)], "mean"), "average, concat, .* or None, got 'mean'"),
        (lambda: layers.Parallel([dense(2)], axis=0), "not 0, the axis of the examples"),
        (lambda: layers.Parallel([dense(2)], "add", 1), "got axis=1 and merge='add'"),
        (lambda: layers.Parallel([dense(2)], None, 1), "got axis=1 and merge=None"),
        (lambda: layers.Parallel([2]), "Parallel: item 0 is not a layer but int"),
        (lambda: layers.Residual([dense(2), "tanh"]), "Residual: item 1 is not a layer but str"),
        (lambda: layers.Residual([], shortcut=[3]), "Residual: item 0 is not a layer but int"),
    ],
)
def test_bad_arguments(make_it: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_it()


# ----------------------------------------------------------------- shared layers, nests


def test_what_is_shared_in_a_nest_is_shared_after_saving(tmp_path: Path) -> None:
    shared = dense(4, activation="tanh")
    tied = layers.Residual([shared, layers.LayerNorm()], shortcut=[shared])
    net = xpnn.Sequential([shared, tied, layers.Parallel([shared, layers.Chain([shared])], "add")])
    x = make((3, 4))
    net(x)
    net.save(tmp_path / "net.safetensors")
    again = xpnn.load(tmp_path / "net.safetensors")
    first = again[0]
    found = (again[1].body[0], again[1].shortcut[0], again[2][0], again[2][1][0])
    assert all(layer is first for layer in found)
    assert len(again.parameters()) == 4
    assert_close(again(x), net(x), rtol=0)


def test_a_built_nest_is_rebuilt_without_running_it(monkeypatch: pytest.MonkeyPatch) -> None:
    net = layers.Residual([dense(4), layers.Parallel([dense(2), layers.Chain([dense(2)])])])
    net(make((3, 4)))
    config = json.loads(json.dumps(net.to_config()))
    monkeypatch.setattr(layers.Dense, "forward", None)
    assert list(Layer.from_config(config).state_dict()) == list(net.state_dict())


def test_a_summary_names_the_layers_of_a_nest_and_counts_what_is_shared_once() -> None:
    shared = dense(4)
    net = xpnn.Sequential(
        [
            layers.Residual([shared, layers.LayerNorm()], shortcut=dense(4, bias=False)),
            layers.Parallel([shared, layers.Chain([dense(3), layers.Activation("tanh")])]),
        ]
    )
    net(make((2, 4)))
    said = [(row.depth, row.name, row.kind, row.parameters) for row in net.summary().rows]
    assert said == [
        (0, "", "Sequential", ""),
        (1, "0", "Residual", ""),
        (2, "body.0", "Dense", "20"),
        (2, "body.1", "LayerNorm", "8"),
        (2, "shortcut.0", "Dense", "16"),
        (1, "1", "Parallel", ""),
        (2, "0", "Dense", "20 shared"),
        (2, "1", "Chain", ""),
        (3, "0", "Dense", "15"),
        (3, "1", "Activation", "0"),
    ]
    assert "59 parameters (59 trainable, 0 frozen), on cpu" in net.summary()


def test_a_summary_counts_parameters_in_lists() -> None:
    class Scales(xpnn.Model):
        def __init__(self) -> None:
            self.scales = [Parameter(np.ones(3)), Parameter(np.ones(2))]

    found = Scales().summary()
    assert found.rows[0][6:8] == (0, True)
    assert found.rows[0].shapes == "scales.0 (3,), scales.1 (2,)"
    assert "5 parameters (5 trainable" in found


# ------------------------------------------------------------- the tree sees every change


class Holder(Layer):
    buffers = ("count",)

    def __init__(self) -> None:
        self.first = dense(2, in_features=2)
        self.several: list[Any] = []
        self.count = np.zeros(1)


def names(layer: Layer) -> list[str]:
    return list(layer.state_dict())


def test_parts_that_come_and_go_are_seen_at_the_next_walk() -> None:
    layer = Holder()
    own = ["first.weight", "first.bias", "count"]
    assert names(layer) == own
    layer.several.append(Parameter(np.ones(2)))
    assert names(layer) == ["first.weight", "first.bias", "several.0", "count"]
    layer.several.clear()
    layer.scale = Parameter(np.ones(1))
    assert names(layer) == [*own, "scale"]
    layer.scale = 3.0
    assert names(layer) == own
    layer.scale = (Parameter(np.ones(1)), layers.Dense(1, in_features=1, bias=False))
    assert names(layer) == [*own, "scale.0", "scale.1.weight"]
    del layer.scale
    assert names(layer) == own
    layer.first = layer.first.activation
    assert names(layer) == ["count"]
    assert list(layer.layers()) == [layer]
    layer.count = np.ones(3)
    assert layer.state_dict()["count"].shape == (3,)


def test_copies_see_their_own_parts() -> None:
    layer = Holder()
    assert len(names(layer)) == 3
    for twin in (copy.copy(layer), copy.deepcopy(layer)):
        twin.extra = Parameter(np.ones(1))
        assert names(twin) == [*names(layer), "extra"]
    layer.many = [dense(1, in_features=1)]
    assert names(layer) == ["first.weight", "first.bias", "count", "many.0.weight", "many.0.bias"]
    chain = layers.Chain([dense(2, in_features=2), dense(2, in_features=2)])
    twin = pickle.loads(pickle.dumps(chain))
    twin.add(dense(1, in_features=2))
    assert len(twin.parameters()) == 6
    assert len(chain.parameters()) == 4


def test_functional_call_gives_a_layer_its_own_parts() -> None:
    seen: list[Any] = []

    class Looking(layers.Dense):
        def forward(self, x: Any) -> Any:
            seen.append(names(self))
            return super().forward(x)

    layer = Looking(2, in_features=3)
    assert names(layer) == ["weight", "bias"]
    xpnn.functional_call(layer, {"weight": np.ones((3, 2), np.float32)}, make((1, 3)))
    assert seen == [["bias"]]  # the weight is an array now


def test_what_a_layer_returned_is_no_part_of_it() -> None:
    class Constant(layers.Dense):
        def forward(self, x: Any) -> Any:
            return self.weight

    layer = Constant(2, in_features=3)
    layer(make((1, 3)))
    assert names(layer) == ["weight", "bias"]
