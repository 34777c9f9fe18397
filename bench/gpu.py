"""Training steps on a GPU: xpnn beside PyTorch and JAX on one card, and what the card could do.

A workload's floor is the longer of two times: that of its arithmetic at the rate of a large product
of the same precision, and that of its bytes at the rate of a copy, all measured here as well. Rows
in bfloat16 are computed under autocast, in TF32 with float32's products rounded, all others in
float32 without TF32, by everybody. What is measured stands in ``gpu_rows.py``, how in
``gpu_child.py``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gpu_card import best_of
from gpu_child import MARK, serve
from gpu_rows import CONTESTANTS, FULL, TINY, Row, order, work_of
from gpu_targets import missed
from gpu_work import KERNELS

__all__ = ["main", "table"]

HERE = Path(__file__).parent
_START = 90.0  # seconds that a process may take until it is ready
_ANSWER = 75.0  # and to measure one workload, torch.compile included
_FITTING = ("xpnn, captured", "xpnn, fit", "xpnn, fit from the host")


class Process:
    """A contestant's process, which is started when it is first asked and after each failure.

    Attributes
    ----------
    absent : str
        Why it measures nothing at all, once that is known.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._running: subprocess.Popen[bytes] | None = None
        self.absent = ""
        self._heard = b""

    def ask(self, asked: dict[str, Any], seconds: float) -> dict[str, Any] | str:
        """Return what was measured, or why nothing was."""
        if self.absent:
            return self.absent
        if self._running is None:
            found = self._start(min(_START, seconds))
            if isinstance(found, str):
                return found
        assert self._running is not None
        assert self._running.stdin is not None
        try:
            self._running.stdin.write(json.dumps(asked).encode() + b"\n")
            self._running.stdin.flush()
        except BrokenPipeError:
            return self._ended("its process had ended")
        return self._answer(min(_ANSWER, seconds))

    def stop(self) -> str:
        """End the process, and return what it last wrote as an error."""
        if self._running is None:
            return ""
        self._running.kill()
        self._running.communicate()
        self._running = None
        with self._errors as errors:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def _start(self, seconds: float) -> dict[str, Any] | str:
        paths = [str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # others need the card's memory too
        }
        self._errors = tempfile.TemporaryFile()
        self._heard = b""
        self._running = subprocess.Popen(
            [sys.executable, str(HERE / "gpu.py"), "--child", self._name],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        found = self._answer(seconds)
        if isinstance(found, dict) and "absent" in found:
            self.stop()
            self.absent = str(found["absent"])
            return self.absent
        return found

    def _answer(self, seconds: float) -> dict[str, Any] | str:
        assert self._running is not None
        assert self._running.stdout is not None
        pipe, end = self._running.stdout.fileno(), time.monotonic() + seconds
        while True:
            while b"\n" in self._heard:
                line, _, self._heard = self._heard.partition(b"\n")
                if line.startswith(MARK.encode()):
                    found: dict[str, Any] = json.loads(line[len(MARK) :])
                    if "failed" not in found:
                        return found
                    self.stop()
                    return str(found["failed"])
            ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return self._ended(f"it took more than {seconds:.0f} seconds")
            heard = os.read(pipe, 1 << 16)
            if not heard:
                return self._ended("its process ended")
            self._heard += heard

    def _ended(self, why: str) -> str:
        said = self.stop()
        return f"{why}: {said}" if said else why


# -------------------------------------------------------------------------------- tables


def table(report: dict[str, Any]) -> str:
    """Return the report as tables in Markdown: milliseconds, over PyTorch, of the floor."""
    card, steps = report["card"], report["steps"]
    rates = ", ".join(f"{rate / 1e12:.1f} in {name}" for name, rate in card["flops"].items())
    lines = [
        f"{card['name']}; CUDA {card['driver']} of the driver, {card['runtime']} of CuPy"
        f" {card['cupy']}; cuDNN:"
        f" {card['cudnn']}. Products of matrices: {rates} TFLOP/s; a copy:"
        f" {card['bandwidth'] / 1e9:.0f} GB/s. Milliseconds (over torch; fraction of the floor that"
        " is reached).",
    ]
    kernels = {name for name, row in steps.items() if row["network"] in (*KERNELS, "momentum")}
    fits = {name for name, row in steps.items() if row["network"] == "fit"}
    every = [who for who in CONTESTANTS if who not in _FITTING[1:]]
    for names, columns, base in (
        ([name for name in steps if name not in kernels | fits], every, "torch"),
        (
            [name for name in steps if name in kernels],
            ["xpnn", "torch", "torch, compiled"],
            "torch",
        ),
        ([name for name in steps if name in fits], list(_FITTING), _FITTING[0]),
    ):
        if names:
            lines += ["", *_rows({name: steps[name] for name in names}, columns, base)]
    left_out = [f"- {what}: {why}" for what, why in report["left out"].items()]
    lines += ["", "Left out:", "", *left_out] if left_out else []
    unmet = [f"- {line}" for line in report["missed"]]
    lines += ["", "Targets that are missed:", "", *unmet] if unmet else []
    return "\n".join([*lines, ""])


def _rows(steps: dict[str, Any], columns: list[str], base: str) -> list[str]:
    lines = [
        "| | GFLOP | MB | floor, ms | " + " | ".join(columns) + " |",
        "|---" * (4 + len(columns)) + "|",
    ]
    for name, row in steps.items():
        cells = [_cell(row, who, base) for who in columns]
        lines.append(
            f"| {name} | {row['flops'] / 1e9:.3g} | {row['bytes'] / 1e6:.3g} |"
            f" {1e3 * row['floor']:.3g} | {' | '.join(cells)} |"
        )
    return lines


def _cell(row: dict[str, Any], who: str, base: str) -> str:
    found, other = row["found"].get(who), row["found"].get(base)
    if not found:
        return ""
    notes = [f"{found['seconds'] / other['seconds']:.2f}"] if other else []
    notes += [f"{row['floor'] / found['seconds']:.0%}"] if row["floor"] else []
    return f"{1e3 * found['seconds']:.3g}" + (f" ({'; '.join(notes)})" if notes else "")


# ------------------------------------------------------------------ from the command line


def _options() -> Any:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="of a contestant, in a workload")
    parser.add_argument("--minutes", type=float, default=30.0, help="after which all has to end")
    parser.add_argument("--only", nargs="+", help="contestants and workloads to run")
    parser.add_argument("--out", type=Path, help="write gpu.json and gpu.md to this folder")
    parser.add_argument("--check", action="store_true", help="exit with 1 if targets are missed")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.only or ()) - {*FULL, *CONTESTANTS}:
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}")
    if options.quick and options.check:
        parser.error("--quick measures other sizes than the targets are for")
    if options.quick:
        options.seconds = 0.0
    return options


def _card(processes: dict[str, Process], options: Any) -> dict[str, Any]:
    """Return what the card is and does, for whoever of xpnn and PyTorch does most with it."""
    asked = {"row": "card", "quick": options.quick}
    card = processes["xpnn"].ask(asked, 60 * options.minutes)
    if isinstance(card, str):
        sys.exit(f"nothing was measured: {card}")
    found = {"xpnn": {key: card[key] for key in ("flops", "bandwidth")}}
    theirs = processes["torch"].ask(asked, 60 * options.minutes)
    if isinstance(theirs, dict):
        found["torch"] = theirs
    return card | best_of(found)


def _measured(
    card: dict[str, Any],
    bench: dict[str, Row],
    options: Any,
    end: float,
    processes: dict[str, Process],
) -> dict[str, Any]:
    """Return the report of all that was measured until the time was up; it is written meanwhile."""
    steps: dict[str, Any] = {}
    report = {"card": card, "versions": _versions(), "steps": steps, "left out": {}, "missed": []}
    pairs = order(bench, set(options.only or ()))
    for name, row in bench.items():
        if row.precision not in card["flops"]:
            report["left out"][name] = "ml_dtypes, which has bfloat16, is not installed"
            pairs = [pair for pair in pairs if pair[0] != name]
        elif any(name == measured for measured, _ in pairs):
            work = work_of(row)
            steps[name] = {
                "network": row.network, "flops": work.flops, "bytes": work.bytes(row.precision),
                "floor": work.floor(card["flops"][row.precision], card["bandwidth"], row.precision),
                "found": {},
            }  # fmt: skip
    for name, who in pairs:
        asked = {"row": name, "who": who, "seconds": options.seconds, "quick": options.quick}
        process, left = processes[CONTESTANTS[who][0]], end - time.monotonic()
        result = process.ask(asked, left) if left > 0 else "the time was up"
        if isinstance(result, str):
            report["left out"][who if process.absent else f"{name}, {who}"] = result
        else:
            steps[name]["found"][who] = result
            print(f"{name}, {who}: {1e3 * result['seconds']:.3g} ms", file=sys.stderr, flush=True)
            _write(report, options.out)
    report["missed"] = [] if options.quick else missed(report)
    return report


def _write(report: dict[str, Any], folder: Path | None) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
        (folder / "gpu.md").write_text(table(report))


def main() -> None:
    """Run all, print the table, and exit with 1 if there is no card to measure."""
    options = _options()
    if options.child:
        serve(options.child)
        return
    end = time.monotonic() + 60 * options.minutes
    processes = {name: Process(name) for name in dict.fromkeys(p for p, _ in CONTESTANTS.values())}
    try:
        card = _card(processes, options)
        bench = TINY if options.quick else FULL
        report = _measured(card, bench, options, end, processes)
    finally:
        for process in processes.values():
            process.stop()
    _write(report, options.out)
    print(table(report))
    if options.check and report["missed"]:
        sys.exit("missed:\n" + "\n".join(report["missed"]))


def _versions() -> dict[str, str]:
    found = {}
    for package in ("numpy", "torch", "jax"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
