"""Measure contestants fairly: each in a process of its own, in turn, for several rounds.

Two BLAS thread pools in one process slow each other down twofold, so nothing is ever timed beside
its competitor. A bench is a dictionary of functions, each of which prepares a contestant and
returns what is to be timed::

    if __name__ == "__main__":
        main(__doc__, {"xpnn": xpnn_step, "torch": torch_step}, baseline="torch")

A contestant whose library is missing raises ImportError when it is prepared, and is left out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numpy", "torch", "jax", "thinc", "autograd", "numba", "cupy-cuda13x")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(doc: str | None, contestants: dict[str, Callable[[], Any]], *, baseline: str) -> None:
    """Run a bench from the command line."""
    parser = argparse.ArgumentParser(description=(doc or "").strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of one contestant in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}/NAME.json")
    parser.add_argument("--only", nargs="*", help="contestants to run")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(contestants[options.child], options.seconds, options.threads)
        return
    chosen = [name for name in contestants if not options.only or name in options.only]
    times = _rounds(chosen, options)
    report = _report(times, baseline, options)
    _print(report, baseline)
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{Path(sys.argv[0]).stem}.json"
        path.write_text(json.dumps(report, indent=2) + "\n")


def _rounds(names: list[str], options: Any) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {}
    environment = dict(os.environ) | dict.fromkeys(THREAD_VARIABLES, str(options.threads))
    missing: set[str] = set()
    for _ in range(options.rounds):
        for name in names:
            if name in missing:
                continue
            command = [sys.executable, sys.argv[0], "--child", name]
            command += ["--seconds", str(options.seconds), "--threads", str(options.threads)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode == 3:
                print(f"{name}: left out, {done.stderr.strip().splitlines()[-1]}")
                missing.add(name)
                continue
            if done.returncode:
                sys.exit(f"{name} failed:\n{done.stderr}")
            times.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
    return times


def _child(prepare: Callable[[], Any], seconds: float, threads: int) -> None:
    """Time one contestant: the median over calls, after a warm-up of a third of the time."""
    try:
        if "torch" in sys.modules or prepare.__name__.startswith("torch"):
            import torch

            torch.set_num_threads(threads)
        call = prepare()
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(3)
    end = time.perf_counter() + seconds / 3
    while time.perf_counter() < end:
        call()
    laps = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(laps) < 3:
        start = time.perf_counter()
        call()
        laps.append(time.perf_counter() - start)
    print(json.dumps(statistics.median(laps)))


def _report(times: dict[str, list[float]], baseline: str, options: Any) -> dict[str, Any]:
    medians = {name: statistics.median(t) for name, t in times.items()}
    base = medians.get(baseline)
    return {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} threads",
        "versions": {p: v for p in PACKAGES if (v := _version(p))},
        "rounds": options.rounds,
        "milliseconds": {name: 1e3 * t for name, t in medians.items()},
        "range": {name: [1e3 * min(t), 1e3 * max(t)] for name, t in times.items()},
        f"ratio to {baseline}": {n: t / base for n, t in medians.items()} if base else {},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _print(report: dict[str, Any], baseline: str) -> None:
    versions = ", ".join(f"{p} {v}" for p, v in report["versions"].items())
    print(f"Python {report['python']}, {versions}; {report['machine']}")
    print(f"{'':28} {'median ms':>10} {'range':>20} {'/ ' + baseline:>16}")
    for name, value in report["milliseconds"].items():
        low, high = report["range"][name]
        ratio = report[f"ratio to {baseline}"].get(name)
        shown = f"{ratio:16.2f}" if ratio else ""
        print(f"{name:28} {value:10.3f} {low:9.3f} -{high:9.3f} {shown}")
