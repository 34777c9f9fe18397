"""Files that are broken at random are refused in our words, quickly, in little memory.

``python tests/test_fuzz_files.py 100000 [first]`` runs as many cases; each is a function of its
number, so that one that fails is run again by ``python tests/test_fuzz_files.py 1 NUMBER``.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import operator
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_every_layer import SINGLE
from test_saving import Twin, tower

import xpnn
from xpnn import callbacks, io, layers
from xpnn.backend import to_numpy
from xpnn.errors import XpnnError

resource = pytest.importorskip("resource")  # of POSIX

SECONDS = 1.0  # of the processor, that a file may take
MEGABYTES = 400  # that all of them together may take at once

NUMBERS = [0, 1, -1, 2, 3, 7, 64, 1000, 10**5, 10**9, 2**31, 2**63, 10**30, -(10**9)]
VALUES = [
    *(None, True, False, "", "x", "relu", "zeros", "same", 0.5, -0.5, 1e300, 1e-300),
    *(float("nan"), float("inf"), [], {}, [[]], [1, 2], ["x"], [None], "Dense", "9" * 400),
    *({"layer": {}}, {"same": 0}, {"layer": {"same": 0}}, {"dict": {}}, {"dict": 3}),
    *({"parameter": [0, "weight"]}, {"parameter": 3}, {"initializer": "Normal"}),
    {"initializer": "VarianceScaling", "gain": "x", "fan": 3, "distribution": []},
]
DEEP = "[" * 3000 + "]" * 3000


def models() -> list[Any]:
    """Return a builder of every model whose files are broken."""
    builders = [lambda row=row: xpnn.Sequential([row.make(), layers.Dense(1)]) for row in SINGLE]
    shapes = [row.inputs()[0] for row in SINGLE]
    builders += [lambda: Twin(5)]
    found = list(zip(builders, [(x,) for x in shapes], strict=False))
    x = np.ones((4, 3), np.float32), np.ones((4, 5), np.float32)
    return [*found, (lambda: Twin(5), x), (tower, None)]


MODELS = models()


class Case:
    """A broken file, made of a number."""

    def __init__(self, number: int, folder: Path) -> None:
        self.rng = random.Random(number)
        self.path = folder / "broken"
        self.build, x = MODELS[self.rng.randrange(len(MODELS))]
        xpnn.set_seed(number)
        model = self.build()
        if x is not None:
            model(*x)
        if self.rng.random() < 0.2:
            model.freeze()
        self.weights = self.rng.random() < 0.25
        (model.save_weights if self.weights else model.save)(self.path)
        kinds = [self.noise, self.flip, self.cut, self.length, self.header, self.config]
        (kind,) = self.rng.choices(kinds, [1, 2, 2, 1, 4, 10])
        self.what = kind.__name__
        kind()

    # ------------------------------------------------------------ without a fitting checksum

    def noise(self) -> None:
        content = self.rng.randbytes(self.rng.choice([0, 1, 7, 8, 9, 100, 3000]))
        if self.rng.random() < 0.5:  # as the header
            content = len(content).to_bytes(8, "little") + content + self.rng.randbytes(9)
        self.path.write_bytes(content)

    def flip(self) -> None:
        content = bytearray(self.path.read_bytes())
        end = len(content) if self.rng.random() < 0.5 else min(len(content), 400)
        for _ in range(self.rng.choice([1, 1, 2, 8])):
            content[self.rng.randrange(end)] = self.rng.randrange(256)
        self.path.write_bytes(content)

    def cut(self) -> None:
        whole, at = self.path.read_bytes(), self.rng.randrange
        a, b = sorted((at(len(whole) + 1), at(len(whole) + 1)))
        pieces = [whole[:a], whole[b:], whole[:a] + whole[b:], whole[:b] + whole[a:], whole * 2]
        self.path.write_bytes(self.rng.choice(pieces))

    def length(self) -> None:
        whole = self.path.read_bytes()
        n = int.from_bytes(whole[:8], "little")
        others = [0, 1, n - 1, n + 1, n - 8, n + 8, n * 2, len(whole), 2**63, 2**64 - 1, 10**8]
        self.path.write_bytes(self.rng.choice(others).to_bytes(8, "little") + whole[8:])

    # --------------------------------------------------------------- with a fitting checksum

    def header(self) -> None:
        whole = self.path.read_bytes()
        n = int.from_bytes(whole[:8], "little")
        entries, data = json.loads(whole[8 : 8 + n]), whole[8 + n :]
        for _ in range(self.rng.choice([1, 1, 2, 3])):
            self.break_json(entries)
        if self.rng.random() < 0.2:
            data = data[: self.rng.randrange(len(data) + 1)] + self.rng.randbytes(3)
        if isinstance(entries, dict) and isinstance(entries.get("__metadata__"), dict):
            entries["__metadata__"]["sha256"] = "0" * 64
        text = json.dumps(entries)
        if self.rng.random() < 0.1:  # a name twice
            text = text[:-1] + "," + text[1:]
        if self.rng.random() < 0.05:
            text = text[:-1] + f', "deep": {DEEP}}}'
        content = text.encode()
        content = len(content).to_bytes(8, "little") + content
        digest = hashlib.sha256(content + data).hexdigest().encode()
        self.path.write_bytes(content.replace(b"0" * 64, digest, 1) + data)

    def config(self) -> None:
        arrays, config = io.read(self.path)
        for _ in range(self.rng.choice([0, 1, 1, 1, 2, 5])):
            self.break_json(config)
        for name in [x for x in arrays if self.rng.random() < 0.1]:
            value = arrays[name]
            ways: list[Any] = [
                lambda v: v.astype(
                    self.rng.choice(["int8", "bool", "float16", "float64", "complex64"])
                ),
                lambda v: v.reshape(-1),
                lambda v: v[None],
                lambda v: v[..., :0] if v.ndim else v,
                lambda v: v,
            ]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                changed = self.rng.choice(ways)(value)
            if self.rng.random() < 0.5:
                del arrays[name]
            arrays[self.rng.choice([name, name + "x", "", *arrays])] = changed
        if self.rng.random() < 0.03:
            for _ in range(self.rng.choice([50, 150])):
                config = {"model": {"class": "Chain", "config": {"layers": [{"layer": config}]}}}
                config = config["model"]
            config = {"model": config, "layers": {}, "dtype": "float32", "frozen": [], "fixed": []}
        io.write(self.path, arrays, config)

    def break_json(self, root: Any) -> None:
        """Change one place, any one, of a JSON value."""
        places = [(root, key) for key in keys(root)]
        for parent, key in places:
            places += [(parent[key], inner) for inner in keys(parent[key])]
        if not places:
            return
        parent, key = self.rng.choice(places)
        old, other = parent[key], self.rng.choice(places)
        action = self.rng.randrange(8)
        if action == 0:
            del parent[key]
        elif action == 1 and isinstance(parent, dict):
            parent[self.rng.choice(["x", "class", "config", "shapes", "1.weight"])] = old
        elif action == 2:
            parent[key] = copy.deepcopy(other[0].get(other[1]) if isinstance(other[0], dict) else 3)
        elif action == 3 and isinstance(old, list):
            parent[key] = old * self.rng.choice([2, 3, 50])
        elif action <= 5 and isinstance(old, (int, float)):
            parent[key] = self.rng.choice([*NUMBERS, old + 1, old - 1, old * 2, -old])
        else:
            parent[key] = copy.deepcopy(self.rng.choice([*VALUES, *NUMBERS]))

    # -------------------------------------------------------------------------------- trying

    def attempt(self, f: Any) -> Any:
        """Return what f returns, or None if it refuses the file by its name."""
        try:
            return f(self.path)
        except XpnnError as error:
            message = str(error)
        assert str(self.path) in message
        return None

    def try_it(self) -> str:
        """Read the file in every way; return what came of it."""
        dtype, stream = xpnn.get_dtype(), xpnn.get_rng().state
        read = self.attempt(io.read)
        if (model := self.attempt(xpnn.load)) is not None:
            check(model, read[0])
        assert xpnn.get_rng().state == stream
        assert xpnn.get_dtype() == dtype

        other = self.build()
        before = {name: to_numpy(x).copy() for name, x in other.state_dict().items()}
        stream = xpnn.get_rng().state
        found = self.attempt(other.load_weights)
        assert xpnn.get_rng().state == stream
        after = other.state_dict()
        if found is None:
            assert before.keys() == after.keys()
            for name, x in before.items():
                np.testing.assert_array_equal(x, to_numpy(after[name]))
        else:
            assert after.keys() == read[0].keys()
        return "refused" if (found if self.weights else model) is None else "loaded"


def keys(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value)
    return list(range(len(value))) if isinstance(value, list) else []


def check(model: Any, arrays: dict[str, Any]) -> None:
    """See that a model that was loaded is all that is in the file."""
    found = model.state_dict()
    assert found.keys() == arrays.keys()
    for name, x in arrays.items():
        assert found[name].dtype == x.dtype
        np.testing.assert_array_equal(found[name], x)


def fuzz(count: int, first: int = 0) -> dict[str, int]:
    """Try cases; return how many there were of each kind and outcome."""
    found: dict[str, int] = {}
    slowest = 0.0
    before = peak()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            case = Case(number, Path(folder))
            start = time.process_time()
            try:
                outcome = case.try_it()
            except BaseException as error:
                error.add_note(f"case {number}, {case.what}")
                raise
            took = time.process_time() - start
            assert took < SECONDS, f"case {number}, {case.what}: {took:.2f} s"
            assert peak() - before < MEGABYTES, f"case {number}, {case.what}: {peak() - before} MB"
            slowest = max(slowest, took)
            key = f"{case.what} {outcome}"
            found[key] = found.get(key, 0) + 1
    print(f"slowest {slowest:.2f} s, {peak() - before:.0f} MB more", file=sys.stderr)
    return found


def peak() -> float:
    """Return the most memory that was in use, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_broken_files_are_refused_or_load_as_they_are() -> None:
    """In a process of its own, whose memory is measured."""
    call = [sys.executable, "-W", "error", __file__, "250"]
    env = {"PYTHONPATH": f"{Path(xpnn.__file__).parents[1]}:{Path(__file__).parent}"}
    done = subprocess.run(call, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    for kind in ("noise", "flip", "cut", "length", "header", "config"):
        assert found[f"{kind} refused"] > 3
    assert found["config loaded"] > 20  # the deeper code was reached


# --------------------------------------------------------------------------------- checkpoints


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every part of a JSON value."""
    for key in keys(value):
        yield (*path, key)
        yield from places(value[key], (*path, key))


@pytest.mark.parametrize("number", range(3))
def test_no_part_of_a_checkpoint_is_trusted(number: int, tmp_path: Path) -> None:
    """Each is deleted, or is something else, beneath a fitting checksum."""
    rng = random.Random(number)
    x = np.random.default_rng(0).random((40, 6)).astype("float32")

    def run(resume: Path | None = None) -> Any:
        xpnn.set_seed(0)
        model = xpnn.Sequential([layers.Dense(4), layers.BatchNorm(), layers.Dense(3)])
        model.compile("cross_entropy", "adam", metrics=["accuracy"])
        watching = [
            callbacks.Checkpoint(tmp_path / "run", every=1, overwrite=True),
            callbacks.EarlyStopping("loss"),
            callbacks.IterationPatience("loss", patience=9),
            callbacks.LearningRateSchedule(lambda epoch, lr: lr),
            callbacks.CSVLogger(tmp_path / "log.csv"),
        ]
        model.fit(x, np.arange(40) % 3, epochs=2, callbacks=watching, resume=resume, verbose=0)

    run()
    arrays, config = io.read(max((tmp_path / "run").glob("checkpoint-*")))
    path = tmp_path / "broken.safetensors"
    refused = 0
    for place in places(config):
        broken = copy.deepcopy(config)
        *way, last = place
        parent = functools.reduce(operator.getitem, way, broken)
        if rng.random() < 0.2:
            del parent[last]
        else:
            parent[last] = copy.deepcopy(rng.choice(VALUES))
        io.write(path, arrays, broken)
        try:
            run(path)
        except XpnnError:
            refused += 1
        except Exception as error:
            error.add_note(f"{place} became {parent[last] if last in keys(parent) else 'nothing'}")
            raise
    assert refused > 50


if __name__ == "__main__":
    os.fsync = lambda handle: None  # no file is kept
    limit = 4 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print(json.dumps(fuzz(*map(int, sys.argv[1:])), sort_keys=True))
