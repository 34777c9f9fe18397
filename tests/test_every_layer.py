"""What must be true of every layer beside what it computes: in a model, and with bad input."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from battery import LAYERS, Row
from helpers import make

import xpnn
from xpnn import layers
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, DataError, DTypeError, GraphError, ShapeError, XpnnError

# Layers of one input and one output, with examples along its first axis.
SINGLE = [row for row in LAYERS if len(row.specs) == len(row.outputs) == 1 and row.batched]
SINGLE = [row for row in SINGLE if not row.options and len(row.outputs[0]) > 1]
SINGLE += [Row("GRU cell, no state", lambda: layers.GRUCell(3), (4, 2), (4, 3))]
SINGLE += [
    Row(f"{cls.__name__} of one input", cls, (4, 3), (4, 3))
    for cls in (layers.Average, layers.Concatenate, layers.Maximum, layers.Multiply)
]

# Those that are in no row of that kind: what they take is not one array.
OTHERS = {
    "DotProductAttention": "three inputs",
    "LSTMCell": "two outputs",
    "Layer": "the base",
    "NegativeSampling": "a loss",
    "Parameter": "no layer",
    "TransformerDecoderLayer": "two inputs",
    "Unsupervised": "the base",
    "WaveNetBlock": "two outputs",
    "functional_call": "a function",
}


def test_no_layer_is_missing() -> None:
    found = {type(part).__name__ for row in SINGLE for part in row.make().layers()}
    assert sorted(set(layers.__all__) - found) == sorted(OTHERS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("row", SINGLE, ids=str)
def test_fits_saves_and_comes_back_in_a_model(row: Row, dtype: str, tmp_path: Path) -> None:
    xpnn.set_dtype(dtype)
    x = np.concatenate([row.inputs()[0]] * 2)[:5]  # of float32, in batches of 3 and of 2
    y = make((len(x), 1), seed=9)
    model = xpnn.Sequential([layers.Chain([row.make(), layers.Flatten()]), layers.Dense(1)])
    model.compile("mean_squared_error", xpnn.optim.SGD(1e-2))
    model.summary()
    model.fit(x, y, batch_size=3, verbose=0)
    assert all(layer.training for layer in model.layers())
    expected = model.predict(x)
    assert expected.dtype == dtype
    assert {str(p.dtype) for p in model.parameters()} == {dtype}
    assert type(row.make()).__name__ in repr(model)
    model.save(tmp_path / "model.safetensors")
    again = xpnn.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict(x), expected)
    again.compile("mean_squared_error", xpnn.optim.SGD(1e-2))
    again.fit(x, y, batch_size=3, verbose=0)
    assert not np.array_equal(again.predict(x), expected)
    fixed = np.asfortranarray(x)
    fixed.flags.writeable = False
    np.testing.assert_allclose(model.predict(fixed), expected, rtol=1e-4, atol=1e-5)


BAD: dict[str, Any] = {
    "a list": lambda x: x.tolist(),
    "a tuple": tuple,
    "None": lambda x: None,
    "a string": lambda x: "x",
    "a number": lambda x: 1.0,
    "no axes": lambda x: np.asarray(1.0, np.float32),
    "one example": lambda x: x[0],
    "an axis more": lambda x: x[None],
    "a feature more": lambda x: np.concatenate([x, x[..., :1]], axis=-1),
    "no features": lambda x: x[..., :0],
    "objects": lambda x: x.astype(object),
    "complex": lambda x: x.astype(np.complex64),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("row", SINGLE, ids=str)
def test_what_is_refused_is_refused_in_our_words_and_leaves_nothing_behind(
    row: Row, bad: str
) -> None:
    x = row.inputs()[0]
    for built in (True, False):
        layer = row.make()
        if built:
            layer(x)
        try:
            layer(BAD[bad](x))
        except XpnnError as error:
            assert any(name in str(error) for name in layers.__all__), str(error)  # noqa: PT017
            if not any(True for part in list(layer.layers())[1:] if part._shapes is not None):
                assert layer(x).shape == row.outputs[0]


def test_a_list_is_named_with_its_cure() -> None:
    message = r"Dense: expected an array, got list\. Make one with xpnn\.asarray"
    for layer in (layers.Dense(2), layers.Dense(2, in_features=2)):
        with pytest.raises(DTypeError, match=message):
            layer([[1.0, 2.0]])
        with pytest.raises(DTypeError, match=message):
            layers.Chain([layer])([[1.0, 2.0]])
    with pytest.raises(DTypeError, match="LSTM: expected an array, got list"):
        layers.LSTM(2)(make((1, 2, 3)), mask=[[True, False]])


def test_inputs_may_be_given_by_name() -> None:
    x, memory = make((2, 3, 6)), make((2, 4, 5))
    layer = layers.TransformerDecoderLayer(2, 8).eval()
    by_name = layer(memory=memory, x=x)
    np.testing.assert_array_equal(to_numpy(by_name), to_numpy(layer(x, memory)))
    assert layer._shapes == ((2, 3, 6), (2, 4, 5))
    mask = np.ones((3, 3), bool)
    assert layers.TransformerDecoderLayer(2, 8)(x, memory, mask).shape == x.shape
    assert layers.TransformerEncoderLayer(2, 8)(x, mask).shape == x.shape
    with pytest.raises(TypeError, match=r"DecoderLayer: missing a required argument: 'memory'"):
        layers.TransformerDecoderLayer(2, 8)(x)
    with pytest.raises(TypeError, match="Dense: missing a required argument: 'x'"):
        layers.Dense(2)()


def test_an_error_of_ones_own_is_left_as_it_is() -> None:
    class Wrong(layers.Layer):
        def forward(self, x: Any, mask: Any = None) -> Any:
            return self.missing  # type: ignore[attr-defined]

    with pytest.raises(AttributeError, match="'Wrong' object has no attribute 'missing'"):
        Wrong()([1.0], mask=None)


def test_no_size_of_a_refused_input_is_kept() -> None:
    conv = layers.Conv2D(4, 2, groups=2)
    with pytest.raises(ShapeError, match="expected x with a multiple of 2 channels, got 3"):
        conv(make((1, 4, 4, 3)))
    assert conv(make((1, 4, 4, 2))).shape == (1, 3, 3, 4)
    norm = layers.GroupNorm(2)
    with pytest.raises(ShapeError, match="GroupNorm: expected channels that divide into 2 groups"):
        norm(make((2, 3, 5)))
    assert norm(make((2, 3, 4))).shape == (2, 3, 4)
    block = layers.TransformerEncoderLayer(2, 8)
    with pytest.raises(ConfigError, match="7 features do not divide into 2 heads"):
        block(make((2, 3, 7)))
    assert block(make((2, 3, 6))).shape == (2, 3, 6)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (lambda: layers.Dense(2), (3, 0), r"Dense: expected x with features, got shape \(3, 0\)"),
        (lambda: layers.BatchNorm(), (3, 0), r"BatchNorm: expected x with channels on axis -1"),
        (lambda: layers.Conv1D(2, 1), (3, 4, 0), "Conv1D.*expected x with at least one channel"),
        (lambda: layers.LayerNorm(), (3, 0), "^LayerNorm: expected at least one value"),
        (lambda: layers.InstanceNorm(), (3, 2), "^InstanceNorm: expected at least two values"),
        (lambda: layers.LSTM(2), (), r"LSTM: expected x of shape \(N, T, D\), got \(\)"),
    ],
)
def test_axes_of_length_zero_are_refused(layer: Any, shape: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        layer()(np.zeros(shape, np.float32))


def test_softmax_of_nothing_is_nothing(device: Any) -> None:
    x = make((3, 0), device)
    for name in ("softmax", "log_softmax"):
        assert layers.Activation(name)(x).shape == (3, 0)


def test_a_maximum_of_complex_numbers_is_refused() -> None:
    x = np.ones((1, 2, 2, 1), np.complex64)
    with pytest.raises(DTypeError, match=r"MaxPool2D: expected real x, .* got complex64"):
        layers.MaxPool2D()(x)


# ------------------------------------------------------------------------------ arguments


@pytest.mark.parametrize("bad", [2.5, "3", True, 0, -1])
@pytest.mark.parametrize(
    "make_it",
    [
        layers.Dense,
        lambda n: layers.Dense(2, n),
        layers.Maxout,
        lambda n: layers.Conv2D(n, 2),
        lambda n: layers.Conv2D(2, n),
        lambda n: layers.Conv1D(2, 2, groups=n),
        layers.ResidualBlock,
        lambda n: layers.WaveNetBlock(n, 2),
        layers.MaxPool1D,
        layers.GroupNorm,
        lambda n: layers.Embedding(n, 2),
        lambda n: layers.Embedding(2, n),
        layers.PositionalEncoding,
        layers.MultiHeadAttention,
        lambda n: layers.TransformerEncoderLayer(2, n),
        layers.GRUCell,
        layers.LSTM,
        lambda n: layers.RNN(2, num_layers=n),
        layers.SparseEvolution,
        layers.RBM,
        lambda n: layers.RBM(2, k=n),
        layers.AutoEncoder,
        layers.UpSample2D,
        lambda n: layers.NegativeSampling(n),
    ],
)
def test_sizes_are_positive_integers(make_it: Any, bad: Any) -> None:
    with pytest.raises(ConfigError, match=r"^\w+: .*(integer|at least)"):
        make_it(bad)


@pytest.mark.parametrize("bad", [1.5, "last", True])
@pytest.mark.parametrize(
    "make_it",
    [
        layers.Softmax,
        layers.BatchNorm,
        layers.LayerNorm,
        layers.InstanceNorm,
        lambda axis: layers.GroupNorm(2, axis),
        layers.Concatenate,
        layers.ExpandDims,
        layers.Squeeze,
        layers.Flatten,
        layers.Dot,
        lambda n: layers.Reshape((n, 2)),
        lambda n: layers.Permute((n, 2)),
    ],
)
def test_axes_are_integers(make_it: Any, bad: Any) -> None:
    with pytest.raises(ConfigError, match=r"^\w+: '\w+' must be an integer, got"):
        make_it(bad)


def test_a_scale_is_a_number() -> None:
    with pytest.raises(ConfigError, match="'scale' must be True, False or a number, got 'x'"):
        layers.DotProductAttention(scale="x")  # type: ignore[arg-type]


def test_ids_and_tables_may_be_lists_and_tuples() -> None:
    bag = layers.Embedding(2, 2, weight=[[1.0, 2.0], [3.0, 4.0]], pool="sum")
    np.testing.assert_array_equal(to_numpy(bag(((0, 1), (1,)))), [[4, 6], [3, 4]])


def test_branches_are_added_by_either_name() -> None:
    x = make((2, 3))
    one = layers.Dense(2, in_features=3)
    total, doubled = (layers.Parallel([one, one], name)(x) for name in ("sum", "add"))
    np.testing.assert_array_equal(to_numpy(total), to_numpy(doubled))
    np.testing.assert_array_equal(to_numpy(total), to_numpy(one(x) + one(x)))


def test_a_number_is_no_shape_and_no_layer() -> None:
    with pytest.raises(ConfigError, match="Reshape: 'shape' must be a tuple of integers, got 4"):
        layers.Reshape(4)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"Chain: expected layers, such as .*, got 3"):
        layers.Chain(3)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    ids = np.asarray([[0, 3, 1]])
    table = layers.Embedding(ids.max() + 1, np.int32(2), padding_idx=np.int64(0))
    conv = layers.Conv1D(np.int64(2), np.int64(2), activation=("elu", {"alpha": np.float64(0.5)}))
    model = xpnn.Sequential([table, conv, layers.Dense(1, l2=np.float32(0.5))])
    expected = model.predict(ids)
    model.save(tmp_path / "model.safetensors")
    again = xpnn.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict(ids), expected)
    assert type(again[1].kernel_size[0]) is type(again[0].num_embeddings) is int


def test_convolutions_take_their_arguments_by_position() -> None:
    given = (4, 3, 6, 2, 1, 1, 2, "relu", False)
    names = ("out_channels", "kernel_size", "in_channels", "stride", "padding", "dilation")
    names = (*names, "groups", "activation", "bias")
    for cls in (layers.Conv1D, layers.Conv2D, layers.ConvTranspose1D, layers.ConvTranspose2D):
        one, other = cls(*given), cls(**dict(zip(names, given, strict=True)))
        assert one._config == other._config
        assert one.bias is None
        x = make((2, *[7] * cls.axes, 6))
        other.load_state_dict(one.state_dict())
        np.testing.assert_array_equal(to_numpy(one(x)), to_numpy(other(x)))


# -------------------------------------------------------------------------- models and nests


def test_a_penalty_needs_a_weight() -> None:
    for layer in (layers.Dense(2, l2=0.1), layers.Conv2D(2, 2, l1=0.1)):
        net = xpnn.Sequential([layers.Chain([layer])])
        with pytest.raises(GraphError, match=r"l[12]=0\.1\): there is no penalty before .* Call"):
            net.penalties()
    assert xpnn.Sequential([layers.Dense(2), layers.Conv2D(2, 2)]).penalties() is None


def test_what_was_added_deep_inside_is_saved_before_the_next_call(tmp_path: Path) -> None:
    inner = layers.Chain([layers.Dense(5)])
    net = xpnn.Sequential([layers.Residual([layers.Chain([inner, layers.Dense(4)])])])
    x = make((3, 4))
    net(x)
    net.train(False)
    inner.add(layers.BatchNorm())
    inner[1].train()
    net.save(tmp_path / "net.safetensors")
    assert [layer.training for layer in net.layers()].count(True) == 1
    again = xpnn.load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(again.predict(x), net.predict(x))


@pytest.mark.parametrize(
    ("make_it", "shape"),
    [
        (lambda: layers.TransformerEncoderLayer(2, 8, dropout=0.5), (2, 3, 4)),
        (lambda: layers.MultiHeadAttention(2, dropout=0.5), (2, 3, 4)),
        (lambda: layers.GRU(3, num_layers=3, dropout=0.5), (2, 3, 4)),
        (lambda: layers.Bidirectional(layers.LSTM(3, num_layers=2, dropout=0.5)), (2, 3, 4)),
        (lambda: layers.ResidualBlock(3), (2, 4, 4, 3)),
        (lambda: layers.Chain([layers.Dropout(0.5), layers.Dense(2)]), (2, 3)),
    ],
)
def test_the_mode_before_the_first_call_is_that_of_all_parts(make_it: Any, shape: Any) -> None:
    layer = make_it().eval()
    x = make(shape)
    np.testing.assert_array_equal(to_numpy(layer(x)), to_numpy(layer(x)))
    assert not any(part.training for part in layer.layers())
    frozen = make_it().freeze()
    frozen(x)
    assert not any(p.requires_grad for p in frozen.parameters())


def test_a_mode_that_a_part_was_given_survives_building() -> None:
    net = xpnn.Sequential([layers.BatchNorm(), layers.Dense(2)])
    net[0].eval()
    net(make((3, 2)))
    assert [layer.training for layer in net.layers()] == [True, False, True]


def test_layers_on_a_device_are_copied_and_pickled(device: Any) -> None:
    layer = layers.LSTM(3, 2).to(device)
    x = make((2, 4, 2), device)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin.weight_input.device == device
        np.testing.assert_array_equal(to_numpy(twin(x)), to_numpy(layer(x)))
    both = layers.Bidirectional(layers.LSTM(3, 2).to(device)).to(device)
    assert both(x).shape == (2, 4, 6)


class Masked(xpnn.Model):
    """A model of ids and of which of them count."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.table = layers.Embedding(9, 4)
        self.encode: Any = layers.TransformerEncoderLayer(2, 8, dropout=0.0)
        if kind != "attention":
            self.encode = getattr(layers, kind)(4)
        self.kind = kind
        self.out = layers.Dense(2)

    def forward(self, ids: Any, mask: Any) -> Any:
        x = self.table(ids)
        name = "key_mask" if self.kind == "attention" else "mask"
        return self.out(self.encode(x, **{name: mask})[:, 0, :])


@pytest.mark.parametrize("kind", ["attention", "RNN", "GRU", "LSTM"])
def test_models_with_masks_train_save_and_come_back(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 9, (7, 5))
    mask = np.arange(5) < rng.integers(1, 6, (7, 1))
    labels = rng.integers(0, 2, 7)
    net = Masked(kind)
    net.compile("cross_entropy", xpnn.optim.Adam(0.05))
    history = net.fit((ids, mask), labels, batch_size=3, epochs=8, verbose=0)
    assert history["loss"][-1] < history["loss"][0]
    expected = net.predict((ids, mask))
    other = np.where(mask, ids, 8 - ids)
    np.testing.assert_allclose(net.predict((other, mask)), expected, rtol=1e-5, atol=1e-6)
    net.save(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(
        xpnn.load(tmp_path / "net.safetensors").predict((ids, mask)), expected
    )


def test_state_of_another_model_is_refused_by_name() -> None:
    net, other = (xpnn.Sequential([layers.Dense(n, in_features=2)]) for n in (2, 3))
    with pytest.raises(DataError, match=r"0\.weight: expected shape \(2, 2\), got \(2, 3\)"):
        net.load_state_dict(other.state_dict())
