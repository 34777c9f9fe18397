"""The bench of a GPU: what it counts, what it writes, and that every step of xpnn runs."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import usable

import xpnn

BENCH = Path(__file__).parents[2] / "bench"
WHOLE = 'extern "C" __global__ void one_more(float* x) { *x += 1; }'


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
    activations, states = 4 * 5 * 10 * (5 + 2), 28 * (3 * 5 + 5 * 2)
    assert mlp.bytes() == mlp.bytes("tf32") == activations + states
    assert mlp.bytes("bfloat16") == activations / 2 + states
    assert work.adam(100).bytes() == 2800
    assert work.momentum(100).bytes() == 2000
    assert work.conv3x3(batch=1, side=4, channels=2).flops == 3 * 2 * 16 * 9 * 2 * 2
    assert work.lstm(batch=1, length=1, inputs=2, hidden=3).flops == 3 * 2 * (2 + 3) * 12
    assert work.dense(batch=2, inputs=3, outputs=5).flops == 3 * 2 * 2 * 3 * 5
    one = work.resnet(batch=1, side=4, channels=(2, 6), blocks=1)
    stem, first = 2 * (2 * 16 * 27 * 2), 3 * 2 * (2 * 16 * 18 * 2)
    second = 3 * (2 * 4 * 18 * 6 + 2 * 4 * 54 * 6 + 2 * 4 * 2 * 6)
    assert one.flops == stem + first + second + 3 * 2 * 6 * 10
    sizes = {"batch": 1, "length": 4, "features": 2, "heads": 1, "hidden": 3}
    scores = 2 * 3 * 2 * 4 * 4 * 2  # two products, forward and twice back
    assert work.transformer(**sizes).flops - work.gpt(**sizes).flops == scores / 2
    assert work.WORK["gelu"](rows=3, columns=4).bytes() == 5 * 4 * 12
    assert mlp.floor(flops=mlp.flops, bandwidth=1.0) == mlp.bytes()
    assert mlp.floor(flops=1.0, bandwidth=mlp.bytes()) == mlp.flops


def test_workloads_are_the_same_in_both_sizes() -> None:
    rows = importlib.import_module("gpu_rows")
    assert list(rows.FULL) == list(rows.TINY)
    for bench in (rows.FULL, rows.TINY):
        for row in bench.values():
            assert rows.work_of(row).bytes() > 0 or row.network == "fit"
            assert set(rows.contestants(row)) <= set(rows.CONTESTANTS)


def test_what_matters_comes_first() -> None:
    rows = importlib.import_module("gpu_rows")
    pairs = rows.order(rows.FULL, set())
    assert len(pairs) == len({*pairs}) == sum(len(rows.contestants(r)) for r in rows.FULL.values())
    targets = importlib.import_module("gpu_targets").TARGETS
    asked = [(row, who) for t in targets for row in t.rows for who in (t.ours, t.against)]
    last = max(pairs.index(pair) for pair in asked if pair in pairs)
    assert all(who != "jax" for _, who in pairs[: last + 1])
    some = rows.order(rows.FULL, {"torch", "GELU, 64 M", "LSTM 1024 wide, batch 64, tf32"})
    assert some == [("LSTM 1024 wide, batch 64, tf32", "torch"), ("GELU, 64 M", "torch")]


def test_targets_are_of_what_is_measured() -> None:
    rows, targets = (importlib.import_module(name) for name in ("gpu_rows", "gpu_targets"))
    for target in targets.TARGETS:
        assert target.rows
        for name in target.rows:
            who = {target.ours, target.against} - {"its floor"}
            assert who <= set(rows.contestants(rows.FULL[name])), (target.what, name)


def _report(**seconds: float) -> dict[str, Any]:
    """Return a report of the dense layer in bfloat16, by contestant."""
    found = {name.replace("_", ", "): {"seconds": s} for name, s in seconds.items()}
    row = {"floor": 0.85, "found": found}
    step = "dense layer, 8192 x 4096 x 4096, bfloat16"
    return {"card": {"cudnn": "not installed"}, "steps": {step: row}}


def test_the_card_is_as_good_as_the_best_library_on_it() -> None:
    ours = {"flops": {"float32": 1.0, "tf32": 9.0}, "bandwidth": 5.0}
    theirs = {"flops": {"float32": 2.0, "tf32": 8.0, "bfloat16": 7.0}, "bandwidth": 4.0}
    found = {"xpnn": ours, "torch": theirs}
    best_of = importlib.import_module("gpu_card").best_of
    flops = {"float32": 2.0, "tf32": 9.0}
    assert best_of(found) == {"flops": flops, "bandwidth": 5.0, "of": found}
    assert best_of({"xpnn": ours})["flops"] == ours["flops"]


def test_what_is_missed_is_said() -> None:
    missed = importlib.import_module("gpu_targets").missed
    unmeasured = [
        "small networks: nothing was measured",
        "fused kernels: nothing was measured",
        "convolutions by cuDNN: nothing was measured (cuDNN: not installed)",
        "fit over its steps: nothing was measured",
    ]
    fast = _report(xpnn_captured=0.99, torch=1.0, torch_compiled=0.95)
    assert missed(fast) == unmeasured
    slow = _report(xpnn_captured=1.25, torch=1.0, torch_compiled=1.0)
    name = "dense layer, 8192 x 4096 x 4096, bfloat16: xpnn, captured"
    assert [line for line in missed(slow) if line not in unmeasured] == [
        f"captured steps: {name} / torch is 1.25, not 1.00",
        f"large products: {name} reaches 68% of its floor, not 85%",
        f"large networks: {name} / torch, compiled is 1.25, not 1.10",
    ]


def test_the_table_compares_with_the_floor_and_with_torch() -> None:
    gpu = _bench()
    card = {
        "name": "A card", "driver": "13.0", "runtime": "13.2", "cupy": "14", "cudnn": "9.1",
        "flops": {"float32": 5e13, "tf32": 4e14}, "bandwidth": 3e12,
    }  # fmt: skip
    found = {"xpnn": {"seconds": 0.003}, "torch": {"seconds": 0.002}}
    row = {"network": "mlp", "flops": 1e9, "bytes": 1e6, "floor": 0.001, "found": found}
    fit = {"xpnn, captured": {"seconds": 0.002}, "xpnn, fit": {"seconds": 0.0021}}
    steps = {
        "a": row, "b": {**row, "network": "gelu"},
        "c": {"network": "fit", "flops": 0.0, "bytes": 0.0, "floor": 0.0, "found": fit},
    }  # fmt: skip
    report = {"card": card, "steps": steps, "left out": {"d, jax": "no GPU"}, "missed": ["e"]}
    text = gpu.table(report)
    assert "A card; CUDA 13.0 of the driver, 13.2 of CuPy 14; cuDNN: 9.1." in text
    assert "50.0 in float32, 400.0 in tf32 TFLOP/s; a copy: 3000 GB/s" in text
    assert "| a | 1 | 1 | 1 |  | 3 (1.50; 33%) |  | 2 (1.00; 50%) |  |  |" in text
    assert "| b | 1 | 1 | 1 | 3 (1.50; 33%) | 2 (1.00; 50%) |  |" in text
    assert "| c | 0 | 0 | 0 | 2 (1.00) | 2.1 (1.05) |  |" in text
    assert "- d, jax: no GPU" in text
    assert "Targets that are missed:\n\n- e" in text


def _process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> Any:
    """Return a process that runs some code in the place of a contestant."""
    gpu = _bench()
    (tmp_path / "gpu.py").write_text(
        f"import os, sys, time\nprint('result {{}}', flush=True)\n{code}"
    )
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    return gpu.Process("xpnn")


def test_what_a_process_says_is_heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    echo = "for line in sys.stdin:\n    print('noise\\nresult {\"seconds\": 1.5}', flush=True)"
    process = _process(monkeypatch, tmp_path, echo)
    try:
        assert [process.ask({}, 20.0) for _ in range(2)] == [{"seconds": 1.5}] * 2
    finally:
        process.stop()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("sys.stdin.readline()\ntime.sleep(60)", "it took more than 3 seconds"),
        ("sys.stdin.readline()\nsys.exit('no memory')", "its process ended: no memory"),
        ('sys.stdin.readline()\nprint(\'result {"failed": "why"}\')', "why"),
    ],
)
def test_a_process_that_fails_is_started_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, expected: str
) -> None:
    process = _process(monkeypatch, tmp_path, code)
    try:
        for _ in range(2):
            assert process.ask({}, 3.0) == expected
            assert process.absent == ""
    finally:
        process.stop()


@pytest.mark.libraries
def test_without_a_gpu_nothing_is_measured() -> None:
    pytest.importorskip("torch")
    done = run("--quick", CUDA_VISIBLE_DEVICES="-1", XPNN_EMULATE_CUDA="")
    assert done.returncode == 1
    assert "nothing was measured: " in done.stderr


def test_the_script_that_runs_all_is_one() -> None:
    subprocess.run(["bash", "-n", str(BENCH / "gpu_all.sh")], check=True)


def test_parts_of_the_script_have_their_time(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/bash\necho "$*" >> "$0.log"\n[[ "$*" != *gpu_smoke* ]]\n')
    python.chmod(0o755)
    out = tmp_path / "out"
    done = subprocess.run(
        ["bash", str(BENCH / "gpu_all.sh"), str(out)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHON": str(python)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "== smoke: exit status 1" in done.stdout
    calls = (tmp_path / "python.log").read_text()
    for part in ("gpu_smoke.py", "-m pytest", "gpu_parity.py", "gpu.py --check"):
        assert part in calls
    parts = re.findall(r"(?m)^part (\S+) (\S+) ", (BENCH / "gpu_all.sh").read_text())
    assert [name for name, _ in parts] == ["smoke", "tests", "parity", "bench"]
    assert sum(int(seconds) for _, seconds in parts[:3]) <= 300  # the bench has what is left of 575
    minutes = float(calls.partition("--minutes ")[2].split()[0])
    assert 8 < minutes < 10


@pytest.mark.gpu
def test_it_writes_what_it_measures(tmp_path: Path) -> None:
    usable("cuda")
    pytest.importorskip("ml_dtypes")
    names = (
        "GPT block, d 1024, T 1024, batch 8, bfloat16", "LSTM 1024 wide, batch 64, tf32",
        "Adam, 100 M parameters", "embedding of 50,000 rows", "GELU, 64 M",
        "fit, MLP 784-500-500-10, batch 500",
    )  # fmt: skip
    who = ("xpnn", "xpnn, captured", "xpnn, fit")
    done = run("--quick", "--only", *who, *names, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads((tmp_path / "gpu.json").read_text())
    assert report["left out"] == {}
    assert set(report["steps"]) == {*names}
    rows = importlib.import_module("gpu_rows")
    for name, row in report["steps"].items():
        assert set(row["found"]) == {*who} & {*rows.contestants(rows.FULL[name])}
        assert min(found["seconds"] for found in row["found"].values()) > 0
    assert min(report["card"]["flops"].values()) > 0
    assert (tmp_path / "gpu.md").read_text() in done.stdout + "\n"


@pytest.mark.gpu
def test_every_workload_takes_a_step() -> None:
    usable("cuda")
    pytest.importorskip("ml_dtypes")
    rows, child = (importlib.import_module(name) for name in ("gpu_rows", "gpu_child"))
    with xpnn.device("cuda"):
        for row in rows.TINY.values():
            for options in ({}, {"captured": True}):
                if row.network != "fit":
                    step = child.step_of("xpnn", row, options)
                    for _ in range(4):
                        step()


@pytest.mark.gpu
def test_smoke_lists_all_sources_and_says_what_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usable("cuda")
    smoke = importlib.import_module("gpu_smoke")
    from test_cuda_sources import SOURCES

    assert sorted(code for _, code in smoke.sources()) == sorted(SOURCES.values())
    broken = [("whole", WHOLE), ("half", WHOLE.replace("float", "flaot"))]
    monkeypatch.setattr(smoke, "sources", lambda: broken)
    monkeypatch.setattr(smoke, "_versions", lambda: None)
    monkeypatch.setattr(smoke, "TINY", {})
    with xpnn.device("cuda"), pytest.raises(SystemExit, match="failed: compiling"):
        smoke.main()
    said = capsys.readouterr()
    assert "half: " in said.err
    assert "whole: " not in said.err
