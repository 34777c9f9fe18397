"""Text: vocabularies, words, and the plays that language models learn from."""

from __future__ import annotations

import hashlib
import http.server
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

import xpnn
from xpnn.data import Vocabulary, split_words
from xpnn.datasets import _download, load_shakespeare, text
from xpnn.errors import ConfigError, DataError, DTypeError

# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            "Ta'en, \u2019tis; O'er -- the hell-hound!",
            ["ta'en", "tis", "o'er", "the", "hell-hound"],
        ),
        ("Äpfel und ÖL\n\t24 snake_case", ["äpfel", "und", "öl", "24", "snake", "case"]),
        ("'quoted' - -dash- x\u2019s", ["quoted", "dash", "x\u2019s"]),
        ("... !?", []),
        ("", []),
    ],
)
def test_split_words(given, words):
    assert split_words(given) == words


# ---------------------------------------------------------------- vocabulary


def test_vocabulary_most_frequent_first_equals_in_alphabetical_order():
    assert Vocabulary.of("cabbage").symbols == ["a", "b", "c", "e", "g"]
    assert Vocabulary.of("eebbac").symbols == Vocabulary.of("cabbee").symbols == list("beac")


def test_vocabulary_takes_any_iterable_once():
    letters = Vocabulary.of(iter("hello"))
    assert letters.symbols == ["l", "e", "h", "o"]
    assert letters.encode(iter("hole")).tolist() == [2, 3, 0, 1]


def test_vocabulary_round_trip():
    given = "it was the best of times\nit was the worst of times"
    letters = Vocabulary.of(given)
    numbers = letters.encode(given)
    assert (numbers.dtype, numbers.shape) == (np.int64, (len(given),))
    assert sorted(set(numbers.tolist())) == list(range(len(letters)))
    assert "".join(letters.decode(numbers)) == given
    assert letters.decode(xpnn.asarray(numbers[:2])) == ["i", "t"]
    assert letters.decode([]) == []
    assert letters.encode("").shape == (0,)


def test_vocabulary_of_rare_words():
    given = split_words("a rose is a rose is a flower")
    assert Vocabulary.of(given, min_count=2).symbols == ["a", "is", "rose"]
    small = Vocabulary.of(given, max_size=2, unknown="?")
    assert small.symbols == ["?", "a"]
    assert small.encode(given).tolist() == [1, 0, 0, 1, 0, 0, 1, 0]
    assert small.decode([0, 1]) == ["?", "a"]


def test_vocabulary_is_a_collection():
    letters = Vocabulary("xyz")
    assert (len(letters), list(letters), "y" in letters, "a" in letters) == (3, list("xyz"), 1, 0)
    assert repr(letters) == "Vocabulary(3 symbols: 'x', 'y', 'z')"
    assert repr(Vocabulary("vwxyz")).endswith("'y', ...)")
    assert pickle.loads(pickle.dumps(letters)).encode("zx").tolist() == [2, 0]


@pytest.mark.parametrize(
    ("error", "make", "match"),
    [
        (DataError, lambda: Vocabulary(""), "Vocabulary: there are no symbols"),
        (DataError, lambda: Vocabulary("aba"), "Vocabulary: 'a' is there twice"),
        (ConfigError, lambda: Vocabulary("ab", unknown="c"), "'unknown' must be one of .* 'c'"),
        (ConfigError, lambda: Vocabulary.of("ab", unknown="a"), "must not be in the text, but 'a'"),
        (ConfigError, lambda: Vocabulary.of("ab", max_size=0), "'max_size' must be at least 1"),
        (DataError, lambda: Vocabulary.of(""), "none of 0 .* Is the text empty"),
        (DataError, lambda: Vocabulary.of("ab", min_count=2), "none of 2 different symbols"),
        (DataError, lambda: Vocabulary("ab").encode("abc"), "'c' is none of the 2 symbols"),
        (DataError, lambda: Vocabulary("ab").decode([0, 2]), r"in \[0, 2\), got 0 to 2"),
        (DataError, lambda: Vocabulary("ab").decode([-1]), r"in \[0, 2\), got -1"),
        (DataError, lambda: Vocabulary("ab").decode([[0]]), r"expected shape \(n,\)"),
        (DTypeError, lambda: Vocabulary("ab").decode([0.5]), "expected integers, got float64"),
    ],
)
def test_vocabulary_errors(error, make, match):
    with pytest.raises(error, match=match):
        make()


# ---------------------------------------------------------------- Shakespeare

_PLAY = b"To be, or not to be.\n"


@pytest.fixture
def play(monkeypatch, tmp_path) -> Path:
    """Replace the plays by one line, without mirrors, folders of the user's or old cache."""
    monkeypatch.setattr(text, "_BYTES", len(_PLAY))
    monkeypatch.setattr(text, "_SHA256", hashlib.sha256(_PLAY).hexdigest())
    monkeypatch.setattr(text, "_MIRRORS", ())
    monkeypatch.delenv("XPNN_DATA", raising=False)
    monkeypatch.setenv("XPNN_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("below", ["text", "."])
def test_shakespeare_in_a_folder(play, monkeypatch, below):
    folder = play / "own" / below
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tinyshakespeare.txt").write_bytes(_PLAY)
    assert load_shakespeare(folder=play / "own") == _PLAY.decode()
    monkeypatch.setenv("XPNN_DATA", str(play / "own"))
    assert load_shakespeare() == _PLAY.decode()


def test_shakespeare_altered(play):
    path = play / "tinyshakespeare.txt"
    path.write_bytes(_PLAY.lower())
    match = r"load_shakespeare: \S+tinyshakespeare.txt: the content is altered. Expected 21 bytes"
    with pytest.raises(DataError, match=match):
        load_shakespeare(folder=play)
    assert path.read_bytes() == _PLAY.lower()


def test_shakespeare_nowhere(play):
    match = "load_shakespeare: no mirror delivered tinyshakespeare.txt"
    with pytest.raises(DataError, match=match):
        load_shakespeare()


def test_shakespeare_is_downloaded_under_its_own_name(play, monkeypatch):
    class Mirror(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/plays/input.txt" else 404)
            self.end_headers()
            self.wfile.write(_PLAY)

        def log_message(self, *args):
            """Keep the test output clean."""

    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        monkeypatch.setattr(text, "_MIRRORS", (f"http://127.0.0.1:{server.server_port}/plays/",))
        assert load_shakespeare() == _PLAY.decode()
        server.shutdown()
    assert [p.name for p in (play / "cache/text").iterdir()] == ["tinyshakespeare.txt"]
    assert load_shakespeare() == _PLAY.decode()  # from the cache: nobody listens any more


def _real() -> bool:
    top = Path(os.environ.get("XPNN_DATA") or "nowhere")
    return _download._find("tinyshakespeare.txt", [top / "text", top]) is not None


@pytest.mark.skipif(not _real(), reason="XPNN_DATA names no folder with tinyshakespeare.txt")
def test_the_real_plays():
    plays = load_shakespeare()
    assert (len(plays), plays[:14]) == (1_115_394, "First Citizen:")
    letters = Vocabulary.of(plays)
    assert (len(letters), letters.symbols[:3]) == (65, [" ", "e", "t"])
    assert "".join(letters.decode(letters.encode(plays))) == plays
