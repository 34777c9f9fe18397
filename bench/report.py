"""What a bench found: gathered from its rounds, printed, saved, read again."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

__all__ = ["RESULTS", "about", "gather", "load", "save", "show"]

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numpy", "numba", "torch", "jax", "thinc", "autograd", "numpy-ml")


def gather(rounds: dict[str, Any], baseline: str, options: Any) -> dict[str, Any]:
    """Return the report of a bench: medians over the rounds, and ratios to the baseline."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}",
        "cores": os.cpu_count(),
        "threads": options.threads,
        "versions": {p: v for p in PACKAGES if (v := _version(p))},
        "blas": _blas(),
        "rounds": options.rounds,
        "baseline": baseline,
        "workloads": {
            workload: _rows(contestants, baseline) for workload, contestants in rounds.items()
        },
    }


def _rows(contestants: dict[str, Any], baseline: str) -> dict[str, Any]:
    rows = {}
    for name, laps in contestants.items():
        times = [lap["seconds"] for lap in laps]
        row = {
            "milliseconds": 1e3 * statistics.median(times),
            "range": [1e3 * min(times), 1e3 * max(times)],
            "first call s": statistics.median(lap["first"] for lap in laps),
            "peak MB": statistics.median(lap["peak"] for lap in laps),
            "rise MB": statistics.median(lap["rise"] for lap in laps),
        }
        if work := laps[0]["work"]:
            row["gigaflops"] = work / row["milliseconds"] / 1e6
        rows[name] = row
    return _compared(rows, baseline)


def _compared(rows: dict[str, Any], baseline: str) -> dict[str, Any]:
    """Put all rows in relation to that of the baseline."""
    if base := rows.get(baseline):
        for row in rows.values():
            row["ratio"] = row["milliseconds"] / base["milliseconds"]
            row["peak ratio"] = row["peak MB"] / base["peak MB"]
    return rows


def _processor() -> str:
    """Return the name of the processor, which ``platform`` does not know on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _blas() -> str:
    """Return which BLAS NumPy multiplies with, and the kernels that it took for this processor."""
    np.ones((2, 2)) @ np.ones((2, 2))
    for found in threadpoolctl.threadpool_info():
        if found["user_api"] == "blas" and "numpy" in found["filepath"]:
            return f"{found['internal_api']} {found['version']} {found.get('architecture', '')}"
    return "unknown"


def show(report: dict[str, Any]) -> None:
    """Print a table a workload."""
    print(about(report))
    for workload, rows in report["workloads"].items():
        print(f"\n{workload}")
        ratio = f"/ {report['baseline']}"[:16]
        print(f"  {'':26} {'median':>12} {'range':>19} {ratio:>16} {'first':>8} {'peak':>8}  rise")
        for name, row in rows.items():
            scale, unit = (1, "ms") if row["milliseconds"] >= 1 else (1e3, "us")
            low, high = (f"{scale * x:.4g}" for x in row["range"])
            ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
            rate = f"  {row['gigaflops']:.1f} GFLOP/s" if "gigaflops" in row else ""
            print(
                f"  {name:26} {scale * row['milliseconds']:9.4g} {unit} {low + ' - ' + high:>19}"
                f" {ratio:>16} {row['first call s']:6.2f} s {row['peak MB']:5.0f} MB"
                f" {row['rise MB']:5.0f}{rate}"
            )


def about(report: dict[str, Any]) -> str:
    """Return a line on what was measured with what."""
    versions = ", ".join(f"{p} {v}" for p, v in report["versions"].items())
    return (
        f"{report['machine']}, {report['cores']} cores, threads: {report['threads']};"
        f" Python {report['python']}, {versions}, NumPy's BLAS: {report.get('blas', 'unknown')};"
        f" rounds: {report['rounds']}"
    )


def save(report: dict[str, Any], name: str, bench: dict[str, Any] | None = None) -> None:
    """Write a report to the results; one of a part of a ``bench`` into what is there of others."""
    path = RESULTS / f"{name}.json"
    if bench is not None and path.exists():
        report = _joined(json.loads(path.read_text()), report, bench)
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")


def _joined(old: dict[str, Any], new: dict[str, Any], bench: dict[str, Any]) -> dict[str, Any]:
    if other := [key for key in new if key != "workloads" and old.get(key) != new[key]]:
        sys.exit(f"--save --only: the results that are there have another {', '.join(other)}")
    workloads = {}
    for workload, contestants in bench.items():
        rows = {**old["workloads"].get(workload, {}), **new["workloads"].get(workload, {})}
        rows = {name: rows[name] for name in contestants if name in rows}
        if rows:
            workloads[workload] = _compared(rows, new["baseline"])
    return {**new, "workloads": workloads}


def load() -> dict[str, Any]:
    """Return the reports there are, by the names of their benches."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    return {name: report for name, report in found.items() if "workloads" in report}
