"""Files of arrays, of models and of weights: what is written comes back, or is refused."""

from __future__ import annotations

import hashlib
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make, usable

import xpnn
from xpnn import io, layers
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError, DataError, DTypeError
from xpnn.layers.config import registry

# ------------------------------------------------------------------------------------ files

BASE = make((4, 6), dtype="float64")
ARRAYS = {
    "plain": BASE,
    "transposed": BASE.T,
    "strided": BASE[::2, ::-3],
    "fortran": np.asfortranarray(BASE),
    "broadcast": np.broadcast_to(BASE[0], (3, 6)),
    "scalar": np.asarray(3.5),
    "number": np.float32(2.5),
    "empty": np.ones((0, 3)),
    "emptier": np.ones((2, 0, 3), np.int16).T,
    "ints": np.arange(5),
    "flags": np.asarray([[True, False, True]]).T,
    "half": BASE.astype("float16"),
    "big-endian": BASE.astype(">f4"),
    "big-endian ints": np.arange(6, dtype=">i2").reshape(2, 3).T,
    "complex": (BASE + 1j * BASE).astype("complex64"),
    **{name: np.asarray([0, 1, 100], name) for name in ("int8", "int32", "uint8", "uint16")},
    "uint64": np.asarray([2**64 - 1], "uint64"),
}


def test_files_hold_arrays_of_every_layout_and_their_configuration(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    io.write(path, ARRAYS, {"a": [1, "ä", None], "b": 1e-7, "c": float("inf")})
    found, config = io.read(path)
    assert config == {"a": [1, "ä", None], "b": 1e-7, "c": float("inf")}
    assert list(found) == list(ARRAYS)
    for name, value in ARRAYS.items():
        assert found[name].dtype == value.dtype.newbyteorder("=")
        assert found[name].shape == value.shape
        assert found[name].flags.c_contiguous
        assert found[name].flags.writeable
        np.testing.assert_array_equal(found[name], value)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_other_readers_of_safetensors_read_the_same(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    io.write(tmp_path / "m.safetensors", ARRAYS, {})
    found = numpy.load_file(tmp_path / "m.safetensors")
    assert found.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        assert found[name].dtype == value.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], value)


def test_files_of_equal_content_are_equal(tmp_path: Path) -> None:
    for name in "ab":
        io.write(tmp_path / name, {k: np.array(x) for k, x in ARRAYS.items()}, {"step": 3})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.libraries
def test_bfloat16_is_kept(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = make((4, 3)).astype(ml_dtypes.bfloat16)
    io.write(tmp_path / "m", {"x": x.T, "none": x[:0]}, {})
    found = io.read(tmp_path / "m")[0]
    assert found["x"].dtype == found["none"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found["x"], x.T)


@pytest.mark.libraries
def test_bfloat16_goes_to_torch_and_comes_from_it(tmp_path: Path) -> None:
    ml_dtypes, device = pytest.importorskip("ml_dtypes"), usable("torch:cpu")
    import torch

    x = make((4, 3)).astype(ml_dtypes.bfloat16)
    same = torch.asarray(x.astype("float32")).to(torch.bfloat16)
    io.write(tmp_path / "t", {"x": same.T}, {})
    found = io.read(tmp_path / "t")[0]
    assert found["x"].tobytes() == x.T.tobytes()
    assert torch.equal(xpnn.asarray(found["x"], device=device), same.T)


@pytest.mark.parametrize("device", ["torch:cpu", "jax:cpu", "strict:device1"])
def test_arrays_of_every_library_are_written(device: str, tmp_path: Path) -> None:
    x = xpnn.asarray(make((3, 4)), device=usable(device))
    io.write(tmp_path / "m", {"x": x.T, "tensor": xpnn.Tensor(x), "list": [1, 2]}, {})
    found = io.read(tmp_path / "m")[0]
    np.testing.assert_array_equal(found["x"], make((3, 4)).T)
    np.testing.assert_array_equal(found["tensor"], make((3, 4)))
    np.testing.assert_array_equal(found["list"], [1, 2])


@pytest.mark.parametrize(
    "x", [np.ones(2, "complex128"), np.asarray(["a"]), np.asarray([None]), np.ones(2, "longdouble")]
)
def test_dtypes_that_files_cannot_hold(x: Any, tmp_path: Path) -> None:
    with pytest.raises(DTypeError, match=rf"m: 'x' has dtype {x.dtype}, which safetensors .*hold"):
        io.write(tmp_path / "m", {"x": x}, {})
    assert not list(tmp_path.iterdir())


def test_what_is_no_json_or_has_no_name_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    circle: list[Any] = []
    circle.append(circle)
    for config in ({"x": np.ones(2)}, {1, 2}, circle):
        with pytest.raises(ConfigError, match="m: what is written beside the arrays must be JSON"):
            io.write(tmp_path / "m", {}, config)
    for name in (3, "__metadata__"):
        with pytest.raises(ConfigError, match=rf"needs a name that is a string, got {name!r}"):
            io.write(tmp_path / "m", {name: np.ones(2)}, {})  # type: ignore[dict-item]
    with monkeypatch.context() as patch:
        patch.setattr(io, "_LONGEST", 1000)
        with pytest.raises(ConfigError, match=r" 1,000 at most\. Put long lists of numbers into"):
            io.write(tmp_path / "m", {}, "x" * 1000)
    with pytest.raises(IsADirectoryError, match=r"this is a folder\. Give the path of a file"):
        io.write(tmp_path, {}, {})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "m.safetensors"
    io.write(path, {"x": np.ones(3)}, {})
    before = path.read_bytes()
    for broken in ("os.fsync", "os.replace", "xpnn.io._bytes"):
        with monkeypatch.context() as patch:
            patch.setattr(broken, lambda *a: (_ for _ in ()).throw(OSError("disk full")))
            with pytest.raises(OSError, match="disk full"):
                io.write(path, {"x": np.zeros(3)}, {})
        assert path.read_bytes() == before
        assert len(list(tmp_path.iterdir())) == 1


def test_the_file_reaches_the_disk_before_it_has_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: Any
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr("os.fsync", lambda f: (done.append("sync"), sync(f)))
    monkeypatch.setattr("os.replace", lambda *a: (done.append("replace"), replace(*a)))
    io.write(tmp_path / "m", {"x": np.ones(3)}, {})
    assert done == ["sync", "replace", "sync"][: 3 if os.name == "posix" else 2]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(tmp_path / "m")
    for n in (1, 2):
        io.write(tmp_path / "latest", {"x": np.ones(n)}, {})
        assert (tmp_path / "latest").is_symlink()
        assert io.read(tmp_path / "m")[0]["x"].shape == (n,)


def rewrite(path: Path, change: Any) -> None:
    """Change the entries and the data of a file, and give it the checksum that fits."""
    whole = path.read_bytes()
    n = int.from_bytes(whole[:8], "little")
    entries, data = json.loads(whole[8 : 8 + n]), whole[8 + n :]
    changed = change(entries, data)
    data = changed if isinstance(changed, bytes) else data
    if "sha256" in entries.get("__metadata__", ()):
        entries["__metadata__"]["sha256"] = "0" * 64
    header = json.dumps(entries).encode()
    header = len(header).to_bytes(8, "little") + header
    digest = hashlib.sha256(header + data).hexdigest().encode()
    path.write_bytes(header.replace(b"0" * 64, digest, 1) + data)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    io.write(path, {"x": np.ones(100), "flags": np.ones(3, bool)}, {"a": 1})
    whole = path.read_bytes()
    damaged = [whole[:n] for n in range(0, len(whole), 7)]
    damaged += [whole + b"\0", b"\0" * 64, whole[8:], b"PK" + whole, b"\xff" * 16 + whole]
    deep = b'{"__metadata__":' + b"[" * 100_000
    damaged.append(len(deep).to_bytes(8, "little") + deep)
    for i in range(8, len(whole), 5):
        damaged.append(whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :])
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"m\.safetensors: (not a readable.*altered|this )"):
            io.read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e, d: e["x"].update(shape=[4]), "'x' is described by"),
        (lambda e, d: e["x"].update(shape=[-3, -1]), "'x' is described by"),
        (lambda e, d: e["x"].update(shape=[2**70]), "'x' is described by"),
        (lambda e, d: e["x"].update(shape=[10**9] * 70), "'x' is described by"),
        (lambda e, d: e["x"].update(shape=["3"]), "'x' is described by"),
        (lambda e, d: e["x"].update(shape=None), "'x' is described by"),
        (lambda e, d: e["x"].update(shape=[0, 2**62 - 1, 2**62 - 1]), "'x' is described by"),
        (lambda e, d: e["x"].update(dtype="F8_E4M3"), "'x' is described by"),
        (lambda e, d: e["x"].update(dtype=["F64"]), "'x' is described by"),
        (lambda e, d: e["x"].pop("dtype"), "'x' is described by"),
        (lambda e, d: e["x"].update(data_offsets=[0, 24, 48]), "'x' is described by"),
        (lambda e, d: e.update(x=3), "'x' is described by"),
        (lambda e, d: e.update(z=e["x"]), "begins at 0, and what is before it ends at 24"),
        (lambda e, d: e.pop("x"), "'y' begins at 24, and what is before it ends at 0"),
        (lambda e, d: e.pop("y"), "its arrays take 24 bytes, and there are 27"),
        (lambda e, d: d + b"more", "its arrays take 27 bytes, and there are 31"),
        (lambda e, d: d[:-1], "its arrays take 27 bytes, and there are 26"),
        (lambda e, d: d[:-1] + b"\x02", "'y' holds more than true and false"),
        (lambda e, d: e["__metadata__"].pop("sha256"), "the checksum is none"),
        (lambda e, d: e["__metadata__"].update(xpnn="{"), "not a readable"),
        (lambda e, d: e["__metadata__"].update(xpnn="[" * 100_000), "not a readable"),
        (lambda e, d: e["__metadata__"].update(xpnn="9" * 5000), "not a readable"),
        (lambda e, d: e["__metadata__"].update(xpnn=3), "not a readable"),
        (lambda e, d: e.update(__metadata__=[]), "the header is none"),
        (lambda e, d: e["__metadata__"].pop("xpnn"), "m: this .* was not written by xpnn"),
        (lambda e, d: e.pop("__metadata__"), "m: this .* was not written by xpnn"),
        (lambda e, d: e["__metadata__"].pop("xpnn_format"), "has format none, .* reads format 1"),
        (
            lambda e, d: e["__metadata__"].update(xpnn_format="2", xpnn_version="9.0"),
            r"has format 2, of xpnn 9\.0; this version reads format 1\. Write it anew",
        ),
    ],
)
def test_headers_that_do_not_fit_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m"
    io.write(path, {"x": np.ones(3), "y": np.ones(3, bool)}, {})
    rewrite(path, lambda entries, data: None)
    assert io.read(path)[0]["x"].tolist() == [1, 1, 1]  # a change that is none
    rewrite(path, change)
    with pytest.raises(DataError, match=message):
        io.read(path)


# ----------------------------------------------------------------------------------- models


class Twin(xpnn.Model):
    """Two inputs, a layer that is used twice, one inside another, and one never used."""

    def __init__(self, size: int, depth: int = 2) -> None:
        super().__init__()
        self.inner = layers.Chain([layers.Dense(size, activation="tanh"), layers.BatchNorm()])
        self.more = [layers.Dense(size, activation="relu") for _ in range(depth)]
        self.shared = layers.Dense(size)
        self.out = layers.Dense(2)
        self.idle = layers.Dense(7)

    def forward(self, x: Any, z: Any) -> Any:
        x = self.shared(self.shared(self.inner(x))) * z
        for layer in self.more:
            x = layer(x)
        return self.out(x)


def twin() -> tuple[Any, tuple[Any, Any]]:
    model, x = Twin(5), (make((4, 3)), make((4, 5), seed=1))
    model(*x)
    return model, x


def tower(hidden: int = 6) -> Any:
    model = xpnn.Sequential(
        [
            layers.Residual([layers.LSTM(3, 3), layers.MultiHeadAttention(1)]),
            layers.Flatten(),
            layers.SparseEvolution(hidden, epsilon=3),
            layers.BatchNorm(),
            layers.Dense(2, weight_init=("normal", {"std": 0.5})),
        ]
    )
    model(make((4, 5, 3)))
    return model


@pytest.mark.parametrize("device", ["cpu", "torch:cpu", "jax:cpu", "strict:device1"])
@pytest.mark.parametrize("name", ["tower", "twin"])
def test_models_come_back_on_another_device(name: str, device: str, tmp_path: Path) -> None:
    model, x = twin() if name == "twin" else (tower(), make((4, 5, 3)))
    expected = model.predict(x)
    model.save(tmp_path / "m.safetensors")
    again = xpnn.load(tmp_path / "m.safetensors", device=usable(device))
    assert all(p.device == device for p in again.parameters())
    np.testing.assert_allclose(to_numpy(again.predict(x)), expected, rtol=1e-4, atol=1e-6)
    assert list(again.state_dict()) == list(model.state_dict())
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(to_numpy(again.state_dict()[key]), value)
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (
        tmp_path / "m.safetensors"
    ).read_bytes()


def test_loading_draws_nothing_and_runs_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    for model in (twin()[0], tower()):
        model.save(tmp_path / "m")
        xpnn.set_seed(5)
        with monkeypatch.context() as patch:
            for cls in {type(layer) for layer in model.layers()}:
                patch.setattr(cls, "forward", None)
            for kind in ("uniform", "normal", "bits", "bernoulli"):
                patch.setattr(xpnn.random.Stream, kind, None)
            xpnn.load(tmp_path / "m")
        assert xpnn.get_rng().counter == 0
        assert xpnn.get_rng().seed == 5


def test_a_model_keeps_the_dtype_in_which_it_was_made(tmp_path: Path) -> None:
    xpnn.set_dtype("float64")
    model = tower()
    expected = model.predict(make((4, 5, 3), dtype="float64"))
    model.save(tmp_path / "m")
    xpnn.set_dtype("float32")
    again = xpnn.load(tmp_path / "m")
    assert xpnn.get_dtype() == "float32"
    assert {str(p.dtype) for p in again.parameters()} == {"float64"}
    np.testing.assert_array_equal(again.predict(make((4, 5, 3), dtype="float64")), expected)
    half = tower()
    half.load_weights(tmp_path / "m")  # to the dtype that it has
    assert {str(p.dtype) for p in half.parameters()} == {"float32"}


def test_what_was_frozen_is(tmp_path: Path) -> None:
    model = tower()
    model[0].freeze()
    model[2].bias.requires_grad = False
    model.save(tmp_path / "m")
    again = xpnn.load(tmp_path / "m")
    for a, b in zip(model.layers(), again.layers(), strict=True):
        assert a._frozen == b._frozen
    fixed = [name for name, p in again.named_parameters().items() if not p.requires_grad]
    assert fixed == [name for name in again.named_parameters() if name.startswith("0.")] + [
        "2.bias"
    ]
    again.compile("cross_entropy", "sgd")
    before = {k: to_numpy(x).copy() for k, x in again.state_dict().items()}
    again.fit(make((4, 5, 3)), np.asarray([0, 1, 1, 0]), epochs=1, verbose=0)
    after = again.state_dict()
    moved = {k for k in before if not np.array_equal(before[k], to_numpy(after[k]))}
    assert not moved & set(fixed)
    assert "4.weight" in moved
    # and what began frozen may have been freed
    table = xpnn.Sequential([layers.Embedding(5, 3, trainable=False)]).unfreeze()
    table.save(tmp_path / "m")
    assert xpnn.load(tmp_path / "m")[0].weight.requires_grad


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    tower().save(tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]
    assert header["xpnn_version"] == xpnn.__version__
    config = json.loads(header["xpnn"])
    assert config["model"]["class"] == "Sequential"
    assert config["dtype"] == "float32"


def test_a_model_without_all_of_its_parameters_is_not_saved(tmp_path: Path) -> None:
    empty = xpnn.Sequential([layers.Dense(2)])
    half = xpnn.Sequential([layers.Dense(2, in_features=3), layers.Dense(4)])
    for save in ("save", "save_weights"):
        with pytest.raises(DataError, match=rf"^{save}: the model has no parameters yet\. Call"):
            getattr(empty, save)(tmp_path / "m")
        with pytest.raises(DataError, match=r"layer Dense\(out_features=4\) has no parameters"):
            getattr(half, save)(tmp_path / "m")
    free = xpnn.Sequential([layers.Dense(2, activation=lambda x: x * 2)])
    free(make((1, 3)))
    with pytest.raises(ConfigError, match=r"cannot hold.* save_weights\(path\) writes the weigh"):
        free.save(tmp_path / "m")
    free.save_weights(tmp_path / "m")


def test_files_of_another_kind_are_named(tmp_path: Path) -> None:
    io.write(tmp_path / "c", {}, {"checkpoint": {}})
    with pytest.raises(DataError, match=r"c: this is a checkpoint .* fit\(\.\.\., resume='.*c'\)"):
        xpnn.load(tmp_path / "c")
    with pytest.raises(DataError, match="c: this is a checkpoint"):
        tower().load_weights(tmp_path / "c")
    tower().save_weights(tmp_path / "w")
    with pytest.raises(DataError, match="w: this file holds the weights of a Sequential, not its"):
        xpnn.load(tmp_path / "w")
    io.write(tmp_path / "x", {}, [3])
    with pytest.raises(DataError, match=r"x: this file holds no model\."):
        xpnn.load(tmp_path / "x")


def test_classes_of_ones_own_that_changed_or_went_are_named(
    tmp_path: Path, monkeypatch: Any
) -> None:
    model, _ = twin()
    model.save(tmp_path / "m")

    class Other(xpnn.Model):
        def __init__(self, width: int) -> None:
            super().__init__()

    monkeypatch.setitem(registry, "Twin", Other)
    message = "Twin cannot be made .*unexpected keyword argument 'size'.* or give new ones a def"
    for make_it in (
        lambda: xpnn.load(tmp_path / "m"),
        lambda: Other.from_config(model.to_config()),
    ):
        with pytest.raises(ConfigError, match=message):
            make_it()

    class Broken(xpnn.Model):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.size = {}[size]

    monkeypatch.setitem(registry, "Twin", Broken)
    with pytest.raises(DataError, match=r"m: the model cannot be rebuilt from .*KeyError: 5"):
        xpnn.load(tmp_path / "m")
    monkeypatch.delitem(registry, "Twin")
    with pytest.raises(ConfigError, match="m: no layer class 'Twin' is defined; import its mod"):
        xpnn.load(tmp_path / "m")


def config_of(layer: Any, shapes: Any, **options: int) -> dict[str, Any]:
    config = {"model": xpnn.Sequential([layer]).to_config(), "dtype": "float32"}
    config["model"]["config"]["layers"][0]["layer"]["config"] |= options
    return config | {"frozen": [], "fixed": [], "layers": {"0": [shapes, ["float32"]]}}


@pytest.mark.parametrize(
    "config",
    [
        config_of(layers.Dense(10**9), [[1, 10**9]]),
        config_of(layers.Conv2D(10**6, 999), [[1, 9, 9, 10**6]]),
        config_of(layers.LSTM(10**6, num_layers=3), [[1, 9, 2]]),
        config_of(layers.LSTM(1), [[1, 9, 1]], num_layers=10**9),
        config_of(layers.RBM(3, persistent=True, chains=10**12), [[1, 5]]),
        config_of(layers.SparseEvolution(10**6), [[1, 10**6]]),
        config_of(layers.LayerNorm(), [[1, 10**12]]),
    ],
)
def test_what_a_file_claims_is_not_made_before_it_is_compared(
    config: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    io.write(
        tmp_path / "m",
        {"x": np.ones(3)},
        json.loads(json.dumps(config).replace("16384", "999999999")),
    )
    with pytest.raises(DataError, match="m: the layers need far more than the 3 numbers in 1 arr"):
        xpnn.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("layers"), "KeyError: 'layers'"),
        (lambda c: c.update(dtype="float8"), "unknown dtype|float8"),
        (lambda c: c["frozen"].append("9.body"), r"9\.body: said to be frozen, and not there"),
        (lambda c: c.update(model=[1]), r"a configuration holds \[1\], which xpnn did not write"),
        (lambda c: c.update(model={"same": 3}), r"a configuration holds \{'same': 3\}"),
        (lambda c: c["model"].update({"class": "Dense"}), "Dense"),
        (lambda c: c.update(model={"class": "Dense", "config": {"out_features": 2}}), "no model"),
        (lambda c: c["model"].update(config=None), "which xpnn did not write"),
        (lambda c: c["model"]["config"]["layers"].pop(), r"unexpected 4\.bias.*unexpected 4\.wei"),
        (
            lambda c: c["model"]["config"]["layers"][4]["layer"]["config"].update(
                weight_init={"initializer": "get", "initializer_": 3}
            ),
            "which xpnn did not write",
        ),
    ],
)
def test_configurations_that_do_not_fit_are_refused(
    change: Any, message: str, tmp_path: Path
) -> None:
    tower().save(tmp_path / "m")
    arrays, config = io.read(tmp_path / "m")
    change(config)
    io.write(tmp_path / "m", arrays, config)
    with pytest.raises(xpnn.errors.XpnnError, match=rf"/m: .*({message})"):
        xpnn.load(tmp_path / "m")


# ---------------------------------------------------------------------------------- weights


def test_weights_go_into_a_model_that_the_same_code_made(tmp_path: Path) -> None:
    model, x = twin()
    expected = model.predict(x)
    for save in (model.save_weights, model.save):
        save(tmp_path / "w")
        called, fresh = Twin(5), Twin(5)
        called(*x)
        xpnn.set_seed(0)
        for other in (called, fresh):  # one that was not called yet is built as that was
            assert other.load_weights(tmp_path / "w") == ([], [])
            np.testing.assert_array_equal(other.predict(x), expected)
            assert all(p.requires_grad for p in other.parameters())
        assert xpnn.get_rng().counter == 0
    fresh.compile("cross_entropy", "sgd")
    fresh.fit(x, np.asarray([0, 1, 1, 0]), epochs=1, verbose=0)


@pytest.mark.libraries
def test_weights_go_where_the_model_is_and_what_is_frozen_stays_so(tmp_path: Path) -> None:
    model, x = twin()
    model.freeze().save_weights(tmp_path / "w")
    other = Twin(5).to(usable("torch:cpu"))
    other.load_weights(tmp_path / "w")
    assert all(p.device == "torch:cpu" and p.requires_grad for p in other.parameters())
    np.testing.assert_allclose(other.predict(x), model.predict(x), rtol=1e-5)


@pytest.mark.parametrize("called", [True, False])
def test_all_that_does_not_fit_is_in_one_error_and_nothing_is_loaded(
    called: bool, tmp_path: Path
) -> None:
    model, x = twin()
    model.save_weights(tmp_path / "w")
    arrays, config = io.read(tmp_path / "w")
    arrays["other"] = arrays.pop("out.bias")
    arrays["out.weight"] = np.ones((2, 2), np.float32)
    arrays["shared.bias"] = arrays["shared.bias"].astype(np.int64)
    arrays["inner.1.running_mean"] = arrays["inner.1.running_mean"] > 0
    io.write(tmp_path / "w", arrays, config)
    other = Twin(5)
    if called:
        other(*x)
    before = {k: to_numpy(v).copy() for k, v in other.state_dict().items()}
    message = (
        r"w: Twin\.load_state_dict: inner\.1\.running_mean: expected float32, got bool; missing"
        r" out\.bias; out\.weight: expected shape \(5, 2\), got \(2, 2\); shared\.bias: expected"
        r" float32, got int64; unexpected other\."
    )
    with pytest.raises(DataError, match=message):
        other.load_weights(tmp_path / "w")
    after = other.state_dict()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[k], after[k]) for k in before)
    assert bool(other.parameters()) == called
    with pytest.raises(DataError, match=r"expected shape \(5, 2\), got \(2, 2\)"):
        other.load_weights(tmp_path / "w", strict=False)


def test_loading_what_is_there_says_what_was_not(tmp_path: Path) -> None:
    model, x = twin()
    model.save_weights(tmp_path / "w")
    arrays, config = io.read(tmp_path / "w")
    arrays["other"] = arrays.pop("out.bias")
    io.write(tmp_path / "w", arrays, config)
    other = Twin(5)
    other(*x)
    kept = to_numpy(other.out.bias).copy()
    found = other.load_weights(tmp_path / "w", strict=False)
    assert found.missing == ["out.bias"]
    assert found.unexpected == ["other"]
    np.testing.assert_array_equal(to_numpy(other.out.bias), kept)
    np.testing.assert_array_equal(to_numpy(other.out.weight), to_numpy(model.out.weight))


def test_weights_of_another_architecture_do_not_build_this_one(tmp_path: Path) -> None:
    tower().save_weights(tmp_path / "w")
    other = xpnn.Sequential([layers.Dense(3), layers.Dense(2)])
    with pytest.raises(DataError, match=r"w: .*unexpected 4\.weight"):
        other.load_weights(tmp_path / "w")
    assert not other.parameters()
    assert other.predict(make((2, 9))).shape == (2, 2)


def test_state_that_holds_no_arrays_is_refused() -> None:
    net = xpnn.Sequential([layers.Dense(2, in_features=1)])
    with pytest.raises(DataError, match=r"0\.bias: expected an array, got list; 0\.weight: exp"):
        net.load_state_dict({"0.weight": [[1.0, 2.0]], "0.bias": [0.0, 0.0]})


def test_a_part_of_ones_own_is_built_from_blanks_that_can_be_written_to(tmp_path: Path) -> None:
    class Low(layers.Layer):
        def build(self, shape: Any) -> None:
            drawn = xpnn.initializers.normal((shape[-1], 4))
            drawn[0] = 1.0
            u, s, _ = np.linalg.svd(drawn, full_matrices=False)
            self.weight = layers.Parameter(u * s)

        def forward(self, x: Any) -> Any:
            return x @ self.weight

    model = xpnn.Sequential([Low(), layers.Dense(2)])
    x = make((3, 5))
    y = model.predict(x)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(xpnn.load(tmp_path / "m").predict(x), y)
    del registry["Low"]


def test_files_are_written_and_read_without_copies(tmp_path: Path) -> None:
    arrays = {str(i): np.ones((1000, 1000), np.float32) for i in range(4)}
    tracemalloc.start()
    try:
        io.write(tmp_path / "m", arrays, {})
        assert tracemalloc.get_traced_memory()[1] < 1e6
        tracemalloc.reset_peak()
        found, _ = io.read(tmp_path / "m")
        assert tracemalloc.get_traced_memory()[1] < 17e6
    finally:
        tracemalloc.stop()
    assert all(x.all() for x in found.values())


def test_what_is_shared_has_one_value(tmp_path: Path) -> None:
    table = layers.Embedding(6, 4)
    model = xpnn.Sequential([table, layers.Dense(6, weight=table.weight, transposed=True)])
    ids = np.asarray([[1, 2]])
    model(ids)
    table.weight.data[0, 0] = np.nan
    y = model.predict(ids)
    model.save(tmp_path / "m")
    again = xpnn.load(tmp_path / "m")
    assert again[1].weight is again[0].weight
    np.testing.assert_array_equal(again.predict(ids), y)
    arrays, config = io.read(tmp_path / "m")
    for other in (arrays["1.weight"] + 1, arrays["1.weight"].astype("float16"), np.ones((9, 9))):
        io.write(tmp_path / "m", arrays | {"1.weight": other}, config)
        with pytest.raises(DataError, match=r"1\.weight: it is 0\.weight here, and another array"):
            xpnn.load(tmp_path / "m")


def test_a_class_of_ones_own_takes_no_name_of_xpnn(tmp_path: Path) -> None:
    ours = registry["AutoEncoder"]
    mine = type("AutoEncoder", (xpnn.Sequential,), {"__module__": "somewhere"})
    try:
        assert registry["AutoEncoder"] is ours
        path = tmp_path / "m.safetensors"
        for layer, cls in (
            (layers.AutoEncoder(3, visible=2), ours),
            (layers.Dense(3, in_features=2), layers.Dense),
        ):
            model = mine([layer])
            model(np.ones((1, 2), "float32"))
            model.save(path)
            loaded = xpnn.load(path)
            assert type(loaded) is mine
            assert type(loaded[0]) is cls
    finally:
        del registry["somewhere.AutoEncoder"]
