"""Write the tables of bench/README.md from the results there are.

``python bench/table.py`` writes what stands between the markers; ``--check`` prints which figures
miss their targets instead, and which rows have no result. Nothing is measured.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import report
from targets import MEAN, MEMORY, TARGETS, Target, mean, missed, ratio

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"

WIDEST = 12  # columns

# What bounds a row now, for those who want to make it faster.
BOUNDS: dict[str, str] = dict.fromkeys([t.row for t in (*TARGETS, MEAN, MEMORY)], "") | {
    "tiny MLP": "Python: 650 calls, of which 75 are NumPy's; the products are 0.01 ms",
    "MLP": "products, three quarters; Adam",
    "LeNet-5": "products, two thirds; pooling and ReLUs, in NumPy",
    "conv-BN stack": "products, half; passes over the memory, in NumPy",
    "3 x 3 convolutions": "products, in NumPy; transforms of tiles",
    "LSTM, GRU": "products, whose weight BLAS packs at every step",
    "transformer layer": "products, nine tenths",
    "Adam, 10 M": "twelve passes over blocks in the cache, in NumPy; the memory",
    "fit over its steps": "gathering shuffled rows from memory, 3 %; the bar, 4 ms an epoch",
    "uniform numbers": "NumPy's Philox, on all threads",
    "dropout masks": "NumPy's Philox, a quarter of a word for each",
    "peak memory of each workload": "arrays; numba's compiler, 120 MB",
}


def _peaks(reports: dict[str, Any], ours: str) -> list[float]:
    """Return peak memory over PyTorch's of all workloads in which both are."""
    workloads = [rows for found in reports.values() for rows in found["workloads"].values()]
    return [
        rows[ours]["peak MB"] / rows["torch"]["peak MB"]
        for rows in workloads
        if ours in rows and "torch" in rows
    ]


def measured(target: Target, reports: dict[str, Any], *, fast: bool) -> list[float]:
    """Return the ratios that a row of the table is about; none if it was not measured."""
    if target is MEAN:
        found = mean(reports, fast=fast)
        return [] if found is None else [found]
    if target is MEMORY:
        peaks = _peaks(reports, "xpnn, fast" if fast else "xpnn")
        return [max(peaks)] if peaks else []
    return ratio(target, reports[target.bench], fast=fast) if target.bench in reports else []


def summary(reports: dict[str, Any]) -> list[str]:
    """Return the table of targets: each with what was measured, and what bounds it."""
    lines = [
        "| row | over | NumPy alone | target | Numba | target | moonshot | what bounds it now |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for target in (*TARGETS, MEAN, MEMORY):
        alone, fast = (
            ", ".join(f"{x:.2f}" for x in measured(target, reports, fast=fast)) or "-"
            for fast in (False, True)
        )
        moonshot = "-" if target.moonshot is None else f"{target.moonshot:g}"
        cells = [target.row, target.against, alone, f"{target.alone:g}", fast, f"{target.fast:g}"]
        lines.append("| " + " | ".join([*cells, moonshot, BOUNDS[target.row]]).rstrip() + " |")
    return lines


def figures(name: str, found: dict[str, Any]) -> list[str]:
    """Return all figures of a bench: a column a contestant, or, of too many, all in one."""
    workloads = found["workloads"]
    names = list(dict.fromkeys(c for rows in workloads.values() for c in rows))
    what = f"Milliseconds (over {found['baseline']})"
    if len(names) <= WIDEST:
        header = names
        cells = [[_cell(rows.get(c)) for c in names] for rows in workloads.values()]
    else:
        header, what = ["xpnn"], "Milliseconds (and the rate)"
        cells = [["; ".join(f"{c}: {_cell(rows[c])}" for c in rows)] for rows in workloads.values()]
    return [
        f"### `{name}.py`", "", f"{report.about(found)}. {what}.", "",
        "| | " + " | ".join(header) + " |", "|---" * (len(header) + 1) + "|",
        *(f"| {w} | {' | '.join(row)} |" for w, row in zip(workloads, cells, strict=True)), "",
    ]  # fmt: skip


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    share = f" ({row['ratio']:.2f})" if "ratio" in row else ""
    rate = f" ({row['gigaflops']:.3g} GFLOP/s)" if "gigaflops" in row else ""
    return f"{row['milliseconds']:.3g}{share}{rate}"


def text(reports: dict[str, Any]) -> str:
    """Return what stands between the markers."""
    parts = [line for name, found in reports.items() for line in ("", *figures(name, found)[:-1])]
    return "\n".join([*summary(reports), *parts, ""])


def unmet(reports: dict[str, Any]) -> list[str]:
    """Return a line for each figure that misses its target, and for each row without one."""
    lines = [f"{name}: {line}" for name, found in reports.items() for line in missed(name, found)]
    for target in TARGETS:
        if not measured(target, reports, fast=False):
            lines.append(f"{target.bench}: {target.row} was not measured")
    for fast, limit in ((False, MEAN.alone), (True, MEAN.fast)):
        found = mean(reports, fast=fast)
        if found is not None and found > limit:
            lines.append(f"{MEAN.row} is {found:.2f}, not {limit:.2f}")
    return lines


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="print what misses its target")
    options = parser.parse_args()
    reports = report.load()
    if options.check:
        if lines := unmet(reports):
            sys.exit("\n".join(lines))
        return
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(before + BEGIN + text(reports) + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
