"""The data sets: what they hold, where files are looked for, and what happens to damaged ones."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import os
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import xpnn.datasets
from xpnn.datasets import (
    _download,
    digits,
    fashion_mnist,
    load_digits,
    load_fashion_mnist,
    load_mnist,
    load_npz,
    mnist,
)
from xpnn.datasets import _idx as idx
from xpnn.datasets._idx import IdxFile
from xpnn.errors import DataError

# ---------------------------------------------------------------- digits

# Of the uint8 images and labels in C order, as scikit-learn 1.9.1 ships them.
_DIGITS_IMAGES = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"
_DIGITS_LABELS = "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0"


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def test_digits_shape_dtype_and_range():
    x, y = load_digits()
    assert (x.shape, x.dtype, x.min(), x.max()) == ((1797, 8, 8), np.float32, 0, 1)
    assert (y.shape, y.dtype) == ((1797,), np.int64)
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_those_of_scikit_learn():
    x, y = load_digits(normalize=False)
    assert (x.dtype, x.min(), x.max()) == (np.uint8, 0, 16)
    assert _sha256(x) == _DIGITS_IMAGES
    assert _sha256(y.astype(np.uint8)) == _DIGITS_LABELS
    np.testing.assert_array_equal(load_digits()[0] * 16, x)


@pytest.mark.parametrize("normalize", [True, False])
def test_digits_are_independent_copies(normalize):
    x, y = load_digits(normalize=normalize)
    expected = x.copy(), y.copy()
    x[...], y[...] = 1, 1
    again = load_digits(normalize=normalize)
    np.testing.assert_array_equal(again[0], expected[0])
    np.testing.assert_array_equal(again[1], expected[1])


def test_digits_damaged_archive(monkeypatch, tmp_path):
    packed = bytearray(digits._ARCHIVE.read_bytes())
    assert len(packed) < 50_000
    packed[1000] ^= 1
    damaged = tmp_path / "digits.npz"
    damaged.write_bytes(packed)
    monkeypatch.setattr(digits, "_ARCHIVE", damaged)
    found = hashlib.sha256(packed).hexdigest()
    match = rf"digits\.npz is damaged: expected SHA-256 {digits._SHA256}, found {found}"
    with pytest.raises(DataError, match=match):
        load_digits()


# ---------------------------------------------------------------- tiny MNIST

_NAMES = list(mnist._FILES)


def _idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 | array.ndim, *array.shape) + array.tobytes()


_rng = np.random.default_rng(0)
_ARRAYS = {
    name: _rng.integers(0, 10 if len(shape) == 1 else 256, shape, dtype=np.uint8)
    for name, shape in zip(_NAMES, [(6, 3, 2), (6,), (4, 3, 2), (4,)], strict=True)
}
_PLAIN = {name: _idx(array) for name, array in _ARRAYS.items()}
_IMAGES = _NAMES[0]


def _write(folder: Path, *, packed: bool = True) -> Path:
    """Write the four tiny files; return the path of the training images."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _PLAIN.items():
        path = folder / (name if packed else name.removesuffix(".gz"))
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder / (_IMAGES if packed else _IMAGES.removesuffix(".gz"))


def _check(result) -> None:
    (x_train, y_train), (x_test, y_test) = result
    for found, name in zip((x_train, y_train, x_test, y_test), _NAMES, strict=True):
        np.testing.assert_array_equal(found, _ARRAYS[name])


@pytest.fixture
def tiny(monkeypatch, tmp_path) -> Path:
    """Replace MNIST by four tiny files, without mirrors, folders of the user's or old cache."""
    table = {
        name: IdxFile(_ARRAYS[name].shape, hashlib.sha256(_PLAIN[name]).hexdigest())
        for name in _NAMES
    }
    monkeypatch.setattr(mnist, "_FILES", table)
    monkeypatch.setattr(mnist, "_MIRRORS", ())
    monkeypatch.delenv("XPNN_DATA", raising=False)
    monkeypatch.setenv("XPNN_CACHE", str(tmp_path / "cache"))
    return tmp_path


# ---------------------------------------------------------------- idx files


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
def test_idx_good(tiny, packed):
    _write(tiny, packed=packed)
    (x, y), _ = first = load_mnist(normalize=False, folder=tiny)
    _check(first)
    x[...], y[...] = 0, 0  # the next call is independent of this one
    _check(load_mnist(normalize=False, folder=str(tiny)))
    (x, y), _ = load_mnist(folder=tiny)
    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    np.testing.assert_allclose(x, _ARRAYS[_IMAGES] / 255, rtol=1e-7)


def test_idx_many_blocks_and_plain_content_under_a_gz_name(tiny, monkeypatch):
    monkeypatch.setattr(idx, "_BLOCK", 7)
    _write(tiny).write_bytes(_GOOD)
    _check(load_mnist(normalize=False, folder=tiny))


def _altered(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


_GOOD = _PLAIN[_IMAGES]
_ZIPPED = gzip.compress(_GOOD, compresslevel=0)  # 0 stores: byte 30 is a pixel
_DAMAGED = {
    "empty": (b"", "the content is too short"),
    "half a header": (_GOOD[:7], "the content is too short"),
    "truncated": (_GOOD[:-1], "the content is too short"),
    "truncated gz": (_ZIPPED[: len(_ZIPPED) // 2], "the gzip data ends too early"),
    "gz of truncated": (gzip.compress(_GOOD[:-1]), "the content is too short"),
    "too long": (gzip.compress(_GOOD + b"abc"), "the content is too long"),
    "altered byte": (_altered(_GOOD, 20), "the content is altered"),
    "altered byte in gz": (_altered(_ZIPPED, 30), r"the gzip data is broken \(CRC check"),
    "invalid gz": (_ZIPPED[:10] + b"\xff" * 20, r"the gzip data is broken \(Error -3"),
    "gz of altered": (gzip.compress(_altered(_GOOD, 20)), "the content is altered"),
    "garbage after gz": (_ZIPPED + b"abc", r"broken \(Not a gzipped file"),
    "neither gz nor idx": (b"<html>Not found</html>", "expected 0x00000803, found 0x3c68746d"),
    "wrong rank": (_idx(_ARRAYS[_IMAGES][0]), "expected 0x00000803, found 0x00000802"),
    "wrong type": (_altered(_GOOD, 2), "wrong idx magic number: .*, found 0x00000903"),
    "wrong dims": (
        _idx(_ARRAYS[_IMAGES].reshape(6, 2, 3)),
        r"wrong dimensions: expected \(6, 3, 2\), found \(6, 2, 3\)",
    ),
}


@pytest.mark.parametrize("how", _DAMAGED)
def test_idx_damaged_file_of_the_user_is_reported_and_kept(tiny, how):
    content, damage = _DAMAGED[how]
    path = _write(tiny)
    path.write_bytes(content)
    expected = mnist._FILES[_IMAGES].sha256
    whole = not content.startswith(b"\x1f\x8b")
    found = hashlib.sha256(content).hexdigest() if whole else "[0-9a-f]{64}"
    match = (
        rf"load_mnist: \S*{_IMAGES}: .*{damage}.* Expected 52 bytes \(uncompressed\) with "
        rf"SHA-256 {expected}, found \d+ bytes with SHA-256 {found}\. "
        "The file was left as it is: replace it or remove it"
    )
    with pytest.raises(DataError, match=match):
        load_mnist(folder=tiny)
    assert path.read_bytes() == content


# ---------------------------------------------------------------- where files are looked for


def _spoil(folder: Path) -> None:
    """Put damaged files where nothing should look."""
    _write(folder).write_bytes(b"damaged")


def test_lookup_folder_comes_before_xpnn_data_and_cache(tiny, monkeypatch):
    _write(tiny / "own")
    _spoil(tiny / "data")
    _spoil(tiny / "cache" / "mnist")
    monkeypatch.setenv("XPNN_DATA", str(tiny / "data"))
    _check(load_mnist(normalize=False, folder=tiny / "own"))


@pytest.mark.parametrize("below", ["mnist", "."])
def test_lookup_xpnn_data_comes_before_cache(tiny, monkeypatch, below):
    _spoil(tiny / "data")  # the subfolder comes before this one, where both exist
    _write(tiny / "data" / below)
    _spoil(tiny / "cache" / "mnist")
    for home in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(home, str(tiny))
    monkeypatch.setenv("XPNN_DATA", "~/data")
    _check(load_mnist(normalize=False))


@pytest.mark.parametrize("xpnn_data", [None, "", "nowhere"])
def test_lookup_cache(tiny, monkeypatch, xpnn_data):
    _write(tiny / "cache" / "mnist")
    monkeypatch.chdir(tiny)
    if xpnn_data is not None:
        monkeypatch.setenv("XPNN_DATA", xpnn_data)
    _check(load_mnist(normalize=False))


def test_lookup_folder_must_exist(tiny):
    with pytest.raises(DataError, match="load_mnist: folder 'nowhere' is not an existing folder"):
        load_mnist(folder="nowhere")


def test_damaged_file_in_the_cache_is_deleted(tiny):
    path = _write(tiny / "cache" / "mnist")
    path.write_bytes(b"damaged")
    match = rf"{_IMAGES}: .* The file was deleted from the cache: call again to download it anew"
    with pytest.raises(DataError, match=match):
        load_mnist()
    assert not path.exists()


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    for name in ("XPNN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    assert _download.cache_folder() == tmp_path / ".cache/xpnn"
    for name, value, expected in (  # each before the ones above it
        ("LOCALAPPDATA", tmp_path / "local", "local/xpnn/Cache"),
        ("XDG_CACHE_HOME", "relative", "local/xpnn/Cache"),
        ("XDG_CACHE_HOME", tmp_path / "xdg", "xdg/xpnn"),
        ("XPNN_CACHE", tmp_path / "own", "own"),
    ):
        monkeypatch.setenv(name, str(value))
        assert _download.cache_folder() == tmp_path / expected
    monkeypatch.setattr(sys, "platform", "darwin")
    for name in ("XPNN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)
    assert _download.cache_folder() == tmp_path / "Library/Caches/xpnn"


# ---------------------------------------------------------------- download


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Keep the test output clean."""


@pytest.fixture
def web(tiny, monkeypatch) -> Iterator[str]:
    """Serve the folder ``tiny/web`` on this machine; the value is its URL."""
    (tiny / "web").mkdir()
    handler = functools.partial(_Quiet, directory=str(tiny / "web"))
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _cached(tiny: Path) -> list[str]:
    return sorted(path.name for path in (tiny / "cache" / "mnist").iterdir())


def test_download_goes_to_the_cache(tiny, web, monkeypatch):
    _write(tiny / "own").unlink()
    _write(tiny / "web" / "good")
    monkeypatch.setattr(mnist, "_MIRRORS", (f"{web}/good/",))
    _check(load_mnist(normalize=False, folder=tiny / "own"))
    assert _cached(tiny) == [_IMAGES]  # only what is missing
    _check(load_mnist(normalize=False))
    monkeypatch.setattr(mnist, "_MIRRORS", ())
    _check(load_mnist(normalize=False))


@pytest.mark.parametrize("first", ["missing", "bad"])
def test_download_second_mirror(tiny, web, monkeypatch, first):
    _spoil(tiny / "web" / "bad")
    _write(tiny / "web" / "good")
    monkeypatch.setattr(mnist, "_MIRRORS", (f"{web}/{first}/", f"{web}/good/"))
    _check(load_mnist(normalize=False))
    assert _cached(tiny) == sorted(_NAMES)


@pytest.mark.parametrize("how", ["truncated gz", "gz of altered", "neither gz nor idx"])
def test_download_of_damaged_content_keeps_nothing(tiny, web, monkeypatch, how):
    content, damage = _DAMAGED[how]
    _write(tiny / "web" / "bad").write_bytes(content)
    monkeypatch.setattr(mnist, "_MIRRORS", (f"{web}/bad/",))
    expected = mnist._FILES[_IMAGES].sha256
    match = rf"  {web}/bad/{_IMAGES}: .*{damage}.*with SHA-256 {expected}, found \d+ bytes with"
    with pytest.raises(DataError, match=match):
        load_mnist()
    assert _cached(tiny) == []


def test_download_all_mirrors_fail(tiny, web, monkeypatch):
    _spoil(tiny / "web" / "bad")
    refusing = "http://127.0.0.1:9"  # the discard port: nothing listens there
    monkeypatch.setattr(mnist, "_MIRRORS", (f"{web}/missing/", f"{web}/bad/", refusing))
    monkeypatch.setenv("XPNN_DATA", str(tiny / "data"))
    with pytest.raises(DataError, match=f"load_mnist: no mirror delivered {_IMAGES}") as caught:
        load_mnist()
    lines = str(caught.value).splitlines()
    assert lines[1] == f"  {web}/missing/{_IMAGES}: HTTP Error 404: File not found"
    assert lines[2].startswith(f"  {web}/bad/{_IMAGES}: the content is too short.")
    assert lines[3].startswith(f"  {refusing}/{_IMAGES}: <urlopen error")
    assert lines[4] == "It is in none of these folders either:"
    assert lines[5:8] == [f"  {tiny / place}" for place in ("data/mnist", "data", "cache/mnist")]
    assert "a folder 'mnist' and name the folder above it in the environment variable" in lines[8]
    assert _cached(tiny) == []


def test_download_mirror_that_does_not_answer(tiny, web, monkeypatch):
    pause = threading.Event()
    monkeypatch.setattr(_Quiet, "do_GET", lambda self: pause.wait(10), raising=False)
    monkeypatch.setattr(_download, "_TIMEOUT", 0.05)
    monkeypatch.setattr(mnist, "_MIRRORS", (web,))
    with pytest.raises(DataError, match=f"{_IMAGES}: .*timed out"):
        load_mnist()
    pause.set()


def test_download_interrupted_keeps_nothing(tiny, web, monkeypatch):
    def interrupt(url, target):
        target.write(b"begun")
        raise KeyboardInterrupt

    monkeypatch.setattr(_download, "_fetch", interrupt)
    monkeypatch.setattr(mnist, "_MIRRORS", (web,))
    with pytest.raises(KeyboardInterrupt):
        load_mnist()
    assert _cached(tiny) == []


def test_download_cache_cannot_be_written(tiny):
    (tiny / "cache").write_bytes(b"a file in place of the folder")
    with pytest.raises(DataError, match=r"cannot write to the cache folder \S+: .*XPNN_CACHE"):
        load_mnist()


@pytest.mark.parametrize("terminal", [False, True])
def test_download_shows_a_bar_on_a_terminal_only(tiny, web, monkeypatch, capsys, terminal):
    _write(tiny / "web" / "good")
    monkeypatch.setattr(mnist, "_MIRRORS", (f"{web}/good",))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    load_mnist()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"{_IMAGES}: 100%" in shown.err if terminal else shown.err == ""


def test_import_opens_no_connection():
    code = """import sys
sys.addaudithook(lambda event, _: exit(event) if event == "socket.connect" else None)
import xpnn.datasets._download as d; assert not hasattr(d, "tqdm")"""
    root = Path(xpnn.datasets.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


# ---------------------------------------------------------------- the real MNIST


def _real(dataset: str) -> bool:
    top = Path(os.environ.get("XPNN_DATA") or "nowhere")
    return all(_download._find(name, [top / dataset]) is not None for name in mnist._FILES)


@pytest.mark.skipif(not _real("mnist"), reason="XPNN_DATA names no folder with the MNIST files")
def test_real_mnist():
    (x_train, y_train), (x_test, y_test) = load_mnist(normalize=False)
    assert (x_train.shape, x_train.dtype) == ((60_000, 28, 28), np.uint8)
    assert (x_test.shape, x_test.dtype) == ((10_000, 28, 28), np.uint8)
    assert (y_train.shape, y_train.dtype) == ((60_000,), np.int64)
    assert y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert y_test[:5].tolist() == [7, 2, 1, 0, 4]
    (x, _), (t, _) = load_mnist()
    assert x.dtype == t.dtype == np.float32
    assert (x.min(), x.max()) == (0, 1)
    np.testing.assert_array_equal(np.round(t * 255).astype(np.uint8), x_test)


# ---------------------------------------------------------------- Fashion-MNIST


@pytest.fixture
def fashion(tiny, monkeypatch) -> Path:
    """Replace Fashion-MNIST too by the four tiny files."""
    monkeypatch.setattr(fashion_mnist, "_FILES", mnist._FILES)
    monkeypatch.setattr(fashion_mnist, "_MIRRORS", ())
    return tiny


def test_fashion_mnist_is_told_from_mnist_by_its_folder(fashion, monkeypatch):
    _spoil(fashion / "data" / "mnist")
    _spoil(fashion / "data")  # MNIST may lie here, under the same names
    _write(fashion / "data" / "fashion_mnist")
    monkeypatch.setenv("XPNN_DATA", str(fashion / "data"))
    _check(load_fashion_mnist(normalize=False))
    (x, y), _ = load_fashion_mnist()
    assert (x.dtype, x.max() <= 1, y.dtype) == (np.float32, True, np.int64)


@pytest.mark.parametrize("below", ["fashion_mnist", "."])
def test_fashion_mnist_lies_in_a_folder_given_for_it(fashion, below):
    _write(fashion / "own" / below)
    _check(load_fashion_mnist(normalize=False, folder=fashion / "own"))


def test_fashion_mnist_without_a_network(fashion, monkeypatch):
    monkeypatch.setenv("XPNN_DATA", str(fashion / "data"))
    message = f"load_fashion_mnist: no mirror delivered {_IMAGES}.*folder 'fashion_mnist'"
    with pytest.raises(DataError, match=f"(?s){message}"):
        load_fashion_mnist()


def test_fashion_mnist_takes_nothing_but_fashion_mnist(tmp_path):
    """The real sums: digits under the names of clothes are refused."""
    _write(tmp_path)
    with pytest.raises(DataError, match=r"load_fashion_mnist: .*wrong dimensions"):
        load_fashion_mnist(folder=tmp_path)
    sums = {
        file.sha256 for files in (mnist._FILES, fashion_mnist._FILES) for file in files.values()
    }
    assert len(sums) == 8


@pytest.mark.skipif(not _real("fashion_mnist"), reason="XPNN_DATA has no folder fashion_mnist")
def test_real_fashion_mnist():
    (x, y), (x_test, y_test) = load_fashion_mnist()
    assert (x.shape, x_test.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert np.bincount(y).tolist() == [6000] * 10
    assert np.bincount(y_test).tolist() == [1000] * 10
    assert y[:5].tolist() == [9, 0, 0, 3, 0]


# ---------------------------------------------------------------- data of one's own


def _zip(content: bytes) -> bytes:
    """Return an archive whose one member, x, has some content."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy" if content.startswith(b"\x93") else "x", content)
    return file.getvalue()


def test_npz_gives_the_arrays_by_name(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.ones((3, 2), np.uint8), y=np.arange(3))
    arrays = load_npz(tmp_path / "a.npz")
    assert sorted(arrays) == ["x", "y"]
    assert (arrays["x"].dtype, arrays["y"].tolist()) == (np.uint8, [0, 1, 2])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "there is no file '.*a.npz'"),
        (lambda path: path.mkdir(), "there is no file"),
        (lambda path: path.write_bytes(b""), "this is no .npz file"),
        (lambda path: path.write_bytes(_zip(b"\x93NUMPY?")), "not a readable .npz file"),
        (lambda path: path.write_bytes(b"hello"), "this is no .npz file"),
        (lambda path: np.savez(path, x=np.array([None, 1], object)), "it holds Python objects"),
        (lambda path: np.savez(path, x=np.array(["a"])), "'x' holds no numbers: .* <U1"),
        (lambda path: path.write_bytes(_zip(b"hello")), "'x' holds no numbers"),
    ],
)
def test_npz_that_is_none(tmp_path, write, message):
    path = tmp_path / "a.npz"
    write(path)
    with pytest.raises(DataError, match=f"load_npz: .*{message}"):
        load_npz(path)
