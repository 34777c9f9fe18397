"""The benches: every contestant of xpnn runs, and all libraries compute the same numbers."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import usable

import xpnn

BENCH = Path(__file__).parent.parent / "bench"
SCRIPTS = [
    path.stem for path in sorted(BENCH.glob("*.py")) if "from contest import" in path.read_text()
]

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"batch": 6, "sizes": (5, 8, 7, 3)},
    "lenet5": {"batch": 3, "side": 16, "filters": (2, 3)},
    "conv_stack": {"batch": 3, "side": 8, "channels": (4, 4, 6)},
    "resnet": {"batch": 3, "side": 6, "channels": (4, 6), "blocks": 2},
    "dense": {"batch": 5, "inputs": 7, "outputs": 4},
    "conv3x3": {"batch": 2, "side": 5, "channels": 4},
    "rnn": {"batch": 2, "length": 4, "inputs": 3, "hidden": 5},
    "gru": {"batch": 2, "length": 4, "inputs": 3, "hidden": 5},
    "lstm": {"batch": 2, "length": 4, "inputs": 3, "hidden": 5},
    "transformer": {"batch": 2, "length": 5, "features": 8, "heads": 2, "hidden": 12},
    "gpt": {"batch": 2, "length": 5, "features": 8, "heads": 2, "hidden": 12},
    "embedding": {"rows": 11, "width": 4, "ids": 6},
}
KERNELS = ("batch_norm_relu", "cross_entropy", "dropout", "gelu", "layer_norm", "softmax")
LIBRARIES = [
    *((library, network) for library in ("torch", "jax") for network in NETWORKS),
    *(("thinc", "mlp"), ("autograd", "mlp"), ("autograd", "lstm")),
]
# PyTorch's layers have biases besides, which learn as well: only the first step is the same.
FIRST_ONLY = ("gru", "lstm", "rnn")


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the benches import what stands beside them, and forget it afterwards."""
    usable("cpu")
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCH))
    yield
    for name in set(sys.modules) - before:
        if str(BENCH) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_workload(bench: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return importlib.import_module("contest").by_workload(bench, "bench")


def run(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(BENCH / f"{name}.py"), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


# ------------------------------------------------------------------------------- scripts


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_is_measured_of_xpnn_runs(name: str) -> None:
    module = load(name)
    full, tiny = by_workload(module.FULL), by_workload(module.TINY)
    assert {w: list(c) for w, c in full.items()} == {w: list(c) for w, c in tiny.items()}
    ran = 0
    for contestants in tiny.values():
        for who, contestant in contestants.items():
            if who.startswith("xpnn") and not who.endswith("fast"):
                xpnn.set_seed(0)
                contestant.prepare()()
                ran += 1
    assert ran


def test_a_bench_from_the_command_line() -> None:
    done = run("mlp_step", "--quick", "--only", "xpnn")
    assert done.returncode == 0, done.stderr
    assert "784-500-500-10, batch 500\n" in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("  xpnn ")]
    assert "MB" in row
    assert "\n  torch " not in done.stdout


def test_a_bench_refuses_names_that_it_has_not() -> None:
    done = run("mlp_step", "--quick", "--only", "theano")
    assert "there is no 'theano'; there are '784-500-500-10, batch 500', 'autograd'" in done.stderr


def test_what_is_quick_is_not_kept() -> None:
    assert "--quick measures other sizes" in run("mlp_step", "--quick", "--save").stderr


# ------------------------------------------------------------------------------ networks


def results(library: str, network: str) -> list[Any]:
    """Return what the first steps of a network return, as arrays."""
    step = importlib.import_module("networks").step(library, network, NETWORKS[network])
    return [step() for _ in range(1 if network in FIRST_ONLY else 3)]


@pytest.mark.oracle
@pytest.mark.parametrize(("library", "network"), LIBRARIES)
def test_networks_compute_the_same(library: str, network: str) -> None:
    pytest.importorskip(library)
    ours = [xpnn.to_numpy(a) for a in flat(results("xpnn", network))]
    theirs = [host(a, library, network) for a in flat(results(library, network))]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("network", ["mlp", "dense", "gpt", "resnet"])
def test_networks_compute_the_same_in_16_bits(network: str) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("ml_dtypes")
    step = importlib.import_module("networks").step
    ours, theirs = (step(name, network, NETWORKS[network], low="bfloat16") for name in LOW)
    outputs = list(zip(flat([ours()]), flat([theirs()]), strict=True))
    assert str(outputs[0][0].dtype) == str(outputs[0][1].dtype).removeprefix("torch.")
    for a, b in outputs:
        expected = b.detach().to(torch.float32).numpy()
        found = np.asarray(xpnn.to_numpy(a), "float32")
        np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


LOW = ("xpnn", "torch")  # JAX casts nothing by itself


@pytest.mark.oracle
@pytest.mark.parametrize("kernel", sorted({*KERNELS} - {"dropout"}))
def test_kernels_of_the_gpu_bench_compute_the_same(kernel: str) -> None:
    pytest.importorskip("torch")
    gpu_kernels = importlib.import_module("gpu_kernels")
    given = gpu_kernels.problem(6, 5)
    with xpnn.device("cpu"):
        ours = gpu_kernels.in_xpnn(kernel, given)()
    for a, b in zip(ours, gpu_kernels.in_torch(kernel, given)(), strict=True):
        np.testing.assert_allclose(xpnn.to_numpy(a), b.detach(), rtol=1e-4, atol=1e-5)


def flat(steps: list[Any]) -> list[Any]:
    return [a for part in steps for a in (part if isinstance(part, tuple) else (part,))]


def host(a: Any, library: str, network: str) -> Any:
    """Return a result as an array of NumPy, with the channels last."""
    a = np.asarray(a.detach() if library == "torch" else a)
    return a.transpose(0, 2, 3, 1) if (library, network) == ("torch", "conv3x3") else a


@pytest.mark.parametrize("network", NETWORKS)
def test_floors_run(network: str) -> None:
    importlib.import_module("networks").step("floors", network, NETWORKS[network])()


# ------------------------------------------------------------------------------- targets


def report(**milliseconds: float) -> dict[str, Any]:
    """Return a report of one workload of the LeNet-5 bench."""
    rows = {
        name.replace("_", ", "): {"milliseconds": ms, "peak MB": 30 * ms}
        for name, ms in milliseconds.items()
    }
    return {"workloads": {"LeNet-5, batch 128": rows}}


def test_targets_are_those_of_workloads_that_there_are() -> None:
    targets = importlib.import_module("targets")
    for target in targets.TARGETS:
        workloads = by_workload(load(target.bench).FULL)
        for workload in target.workloads:
            for fast in (False, True):
                assert set(target.contestants(fast)) <= set(workloads[workload])


def test_what_is_missed_is_said() -> None:
    missed = importlib.import_module("targets").missed
    assert missed("lenet", report(xpnn=1.19, xpnn_fast=0.99, torch=1.0)) == []
    assert missed("lenet", report(xpnn=1.0)) == []  # nobody to compare with
    assert missed("lenet", report(xpnn=1.5, xpnn_fast=1.1, torch=1.0)) == [
        "LeNet-5: xpnn / torch is 1.50, not 1.30",
        "LeNet-5: xpnn, fast / torch is 1.10, not 1.00",
        "LeNet-5, batch 128: peak memory of xpnn / torch is 1.50, not 1.20",
    ]


def test_rates_that_fall_are_said() -> None:
    falls = load("scaling").falls
    series = {"xpnn, batch 1": 10.0, "xpnn, batch 2": 8.1, "xpnn, batch 4": 7.9}
    rows = {name: {"gigaflops": rate} for name, rate in series.items()}
    assert falls({"workloads": {"mlp, batch": rows}}) == [
        "mlp, batch: xpnn, batch 4 has 0.79 of the best rate before"
    ]
    assert len(falls({"workloads": {"mlp, threads": rows}})) == 2


def test_the_mean_is_of_the_first_seven() -> None:
    targets = importlib.import_module("targets")
    row = {"xpnn": {"milliseconds": 2.0}, "torch": {"milliseconds": 1.0}}
    reports = {t.bench: {"workloads": dict.fromkeys(t.workloads, row)} for t in targets.TARGETS[:7]}
    assert targets.mean(reports, fast=False) == pytest.approx(2.0)
    assert targets.mean(reports, fast=True) is None


def test_the_table_is_written_between_its_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, report = load("table"), importlib.import_module("report")
    laps = {"first": 0.1, "peak": 60.0, "rise": 1.0, "work": None}
    rounds = {
        "LeNet-5, batch 128": {
            "xpnn": [{"seconds": s, **laps} for s in (0.002, 0.003, 0.009)],
            "torch": [{"seconds": 0.002, **laps, "peak": 120.0}],
        }
    }
    options = SimpleNamespace(threads=2, rounds=3)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(table, "README", tmp_path / "README.md")
    monkeypatch.setattr(sys, "argv", ["table.py"])
    report.save(report.gather(rounds, "torch", options), "lenet")
    many = {f"xpnn, batch {n}": [{"seconds": 0.002, **laps, "work": 4e6}] for n in range(20)}
    report.save(report.gather({"mlp, batch": many}, "torch", options), "scaling")
    part = {"LeNet-5, batch 128": {"jax": [{"seconds": 0.001, **laps}]}}
    bench = {"LeNet-5, batch 128": {"xpnn": 0, "torch": 0, "jax": 0}}
    report.save(report.gather(part, "torch", options), "lenet", bench)
    options.threads = 1
    other = report.gather(part, "torch", options)
    with pytest.raises(SystemExit, match="that are there have another threads"):
        report.save(other, "lenet", bench)
    (tmp_path / "mnist_tutorial.json").write_text('{"runs": []}')  # of another kind
    table.README.write_text(f"before\n{table.BEGIN}old\n{table.END}after\n")
    for _ in range(2):
        table.main()
        written = table.README.read_text()
        assert written.startswith(f"before\n{table.BEGIN}| row |")
        assert written.endswith(f"{table.END}after\n")
        assert "old" not in written
    assert "| LeNet-5 | torch | 1.50 | 1.3 | - | 1 | 0.8 |" in written
    assert "| peak memory of each workload | torch | 0.50 | 1.2 | - | 1.2 | 0.8 |" in written
    assert "| LeNet-5, batch 128 | 3 (1.50) | 2 (1.00) | 1 (0.50) |" in written
    assert "| mlp, batch | xpnn, batch 0: 2 (2 GFLOP/s); xpnn, batch 1: 2 (2 GFLOP/s)" in written

    monkeypatch.setattr(sys, "argv", ["table.py", "--check"])
    with pytest.raises(SystemExit, match=r"lenet: LeNet-5: xpnn / torch is 1\.50, not 1\.30"):
        table.main()
