"""The bench of a GPU: what it counts, what it writes, and that every step of xpnn runs."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import usable

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the bench import what stands beside it, and forget it afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCH))
    yield
    for name in set(sys.modules) - before:
        if str(BENCH) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def _bench() -> Any:
    """Return the script as a module: these tests are in a package of its name."""
    spec = importlib.util.spec_from_file_location("bench_gpu", BENCH / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = [str(BENCH.parent), os.environ.get("PYTHONPATH")]
    return subprocess.run(
        [sys.executable, str(BENCH / "gpu.py"), *options], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment},
        check=False,
    )  # fmt: skip


def test_operations_and_bytes_are_counted() -> None:
    work = importlib.import_module("gpu_work")
    mlp = work.mlp(batch=10, sizes=(3, 5, 2))
    assert mlp.flops == 2 * (2 * 10 * 3 * 5) + 3 * (2 * 10 * 5 * 2)
    assert mlp.bytes == 4 * 5 * 10 * (5 + 2) + 28 * (3 * 5 + 5 * 2)
    assert work.adam(100) == (0.0, 2800.0)
    assert work.conv3x3(batch=1, side=4, channels=2).flops == 3 * 2 * 16 * 9 * 2 * 2
    assert work.lstm(batch=1, length=1, inputs=2, hidden=3).flops == 3 * 2 * (2 + 3) * 12
    assert mlp.floor(flops=mlp.flops, bandwidth=1.0) == mlp.bytes
    assert mlp.floor(flops=1.0, bandwidth=mlp.bytes) == mlp.flops


def test_workloads_are_the_same_in_both_sizes() -> None:
    gpu = _bench()
    assert list(gpu.FULL) == list(gpu.TINY)
    for bench in (gpu.FULL, gpu.TINY):
        for network, sizes in bench.values():
            assert gpu.work_of(network, sizes).bytes > 0


def test_the_table_compares_with_the_floor_and_with_torch() -> None:
    gpu = _bench()
    card = {"name": "A card", "driver": "13.0", "cupy": "14", "flops": 5e13, "bandwidth": 3e12}
    found = {"xpnn": {"seconds": 0.003}, "torch": {"seconds": 0.002}}
    row = {"flops": 1e9, "bytes": 1e6, "floor": 0.001, "found": found}
    text = gpu.table({"card": card, "steps": {"a": row}, "left out": {"b, jax": "no GPU"}})
    assert "A card, driver for CUDA 13.0, CuPy 14; 50.0 TFLOP/s" in text
    assert "| a | 1 | 1 | 1 | 3 (1.50; 33%) |  | 2 (1.00; 50%) |  |  |" in text
    assert "- b, jax: no GPU" in text


def test_without_a_gpu_nothing_is_measured() -> None:
    pytest.importorskip("torch")
    done = run("--quick", CUDA_VISIBLE_DEVICES="-1", XPNN_EMULATE_CUDA="")
    assert done.returncode == 1
    assert "nothing was measured: " in done.stderr


def test_the_script_that_runs_all_is_one() -> None:
    subprocess.run(["bash", "-n", str(BENCH / "gpu_all.sh")], check=True)


@pytest.mark.gpu
def test_it_writes_what_it_measures(tmp_path: Path) -> None:
    usable("cuda")
    names = ("Adam, 100 M parameters", "LSTM 1024 wide, batch 64")
    done = run("--quick", "--only", "xpnn", *names, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads((tmp_path / "gpu.json").read_text())
    assert list(report["steps"]) == [name for name in (*names[::-1],)]
    for row in report["steps"].values():
        assert row["found"]["xpnn"]["seconds"] > 0
    assert report["card"]["flops"] > 0
    assert (tmp_path / "gpu.md").read_text() in done.stdout + "\n"
