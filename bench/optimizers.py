"""Time the optimizers' steps against PyTorch's: one large array, a small network, a tiny one.

Run from the repository's root, where xpnn can be imported; without PyTorch its rows are left out::

    python bench/optimizers.py          # prints a table
    python bench/optimizers.py --save   # writes bench/results/optimizers.json as well

Every contestant runs in a process of its own, one after another, and all of them once a round. A
figure is the median over the rounds of the median of many steps. A step is timed alone: gradients
are put in place before it. ``OMP_NUM_THREADS=1`` keeps both libraries to one thread, which is what
to compare on a machine that does other work as well.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
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

import numpy as np

RESULTS = Path(__file__).parent / "results" / "optimizers.json"
WORKLOADS: dict[str, tuple[list[tuple[int, ...]], int]] = {  # shapes, steps
    "10 M in one array": ([(10_000_000,)], 9),
    "784-500-500-10": ([(784, 500), (500,), (500, 500), (500,), (500, 10), (10,)], 100),
    "10-32-32-10": ([(10, 32), (32,), (32, 32), (32,), (32, 10), (10,)], 1000),
}
# Class in both libraries, and hyperparameters of the one and of the other.
OPTIMIZERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "sgd": ("SGD", {}, {}),
    "momentum": ("SGD", {"momentum": 0.9}, {"momentum": 0.9}),
    "adam": ("Adam", {}, {}),
    "amsgrad": ("Adam", {"amsgrad": True}, {"amsgrad": True}),
    "adamw": ("AdamW", {}, {}),
    "adagrad": ("Adagrad", {}, {}),
    "rmsprop": ("RMSprop", {}, {}),
    "adadelta": ("Adadelta", {}, {}),
    "adamax": ("Adamax", {}, {}),
    "nadam": ("NAdam", {}, {}),
    "radam": ("RAdam", {}, {}),
}
FUSED = ("SGD", "Adam", "AdamW", "Adagrad")  # of PyTorch
LIBRARIES: dict[str, dict[str, Any]] = {
    "xpnn": {},
    "torch": {},
    "torch foreach": {"foreach": True},
    "torch fused": {"fused": True},
}


def xpnn_step(name: str, arrays: list[Any], gradients: list[Any]) -> tuple[Any, Any]:
    """Return a function that puts gradients in place, and one that makes a step."""
    import xpnn
    from xpnn import optim

    cls, options, _ = OPTIMIZERS[name]
    optimizer = getattr(optim, cls)(lr=1e-3, **options)
    params = [xpnn.Tensor(x, requires_grad=True) for x in arrays]
    grads = [xpnn.Tensor(g) for g in gradients]

    def prepare() -> None:
        for p, g in zip(params, grads, strict=True):
            p.grad = g

    return prepare, lambda: optimizer.step(params)


def torch_step(name: str, arrays: list[Any], gradients: list[Any], **how: Any) -> tuple[Any, Any]:
    """Return a function that puts gradients in place, and one that makes a step."""
    torch: Any = importlib.import_module("torch")
    cls, _, options = OPTIMIZERS[name]
    params = [torch.tensor(x, requires_grad=True) for x in arrays]
    optimizer = getattr(torch.optim, cls)(params, lr=1e-3, **options, **how)
    for p, g in zip(params, gradients, strict=True):
        p.grad = torch.tensor(g)
    return lambda: None, optimizer.step


def median_time(prepare: Callable[[], None], step: Callable[[], Any], steps: int) -> float:
    """Return the median seconds of a step, after two that warm up."""
    seconds = []
    for _ in range(steps + 2):
        prepare()
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def contest(library: str, name: str) -> dict[str, float]:
    """Return the seconds a step on each workload; this is what a process of its own does."""
    found = {}
    for workload, (shapes, steps) in WORKLOADS.items():
        rng = np.random.default_rng(0)
        arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
        gradients = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
        if library == "xpnn":
            pair = xpnn_step(name, arrays, gradients)
        else:
            pair = torch_step(name, arrays, gradients, **LIBRARIES[library])
        found[workload] = median_time(*pair, steps)
    return found


def measure(rounds: int, names: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Return seconds by workload, optimizer and library."""
    here = [x for x in LIBRARIES if x == "xpnn" or importlib.util.find_spec("torch")]
    contests = {
        name: [x for x in here if x != "torch fused" or OPTIMIZERS[name][0] in FUSED]
        for name in names
    }
    samples: dict[tuple[str, str, str], list[float]] = {}
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    for i in range(rounds):
        for name in names:
            for library in contests[name]:
                command = [sys.executable, __file__, "--contestant", library, name]
                environment = {**os.environ, "PYTHONPATH": path}
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
                for workload, seconds in json.loads(done.stdout).items():
                    samples.setdefault((workload, name, library), []).append(seconds)
        print(f"round {i + 1} of {rounds} done", file=sys.stderr)
    return {
        workload: {
            name: {x: statistics.median(samples[workload, name, x]) for x in contests[name]}
            for name in names
        }
        for workload in WORKLOADS
    }


def versions() -> dict[str, str]:
    """Return the versions of what was measured."""
    found = {"python": platform.python_version()}
    for name in ("numpy", "torch"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def show(seconds: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print a table a workload: times, and the ratio of xpnn's to each other library's."""
    for workload, rows in seconds.items():
        scale, unit = (
            (1e3, "ms") if max(rows["xpnn"] for rows in rows.values()) > 1e-3 else (1e6, "us")
        )
        print(f"\n{workload} ({unit}; in brackets xpnn's time over theirs)")
        for name, row in rows.items():
            cells = [
                f"{library} {value * scale:7.2f}"
                + ("" if library == "xpnn" else f" ({row['xpnn'] / value:4.2f})")
                for library, value in row.items()
            ]
            print(f"  {name:9} " + "   ".join(cells))


def main() -> None:
    """Measure, print, and save if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--optimizers", nargs="+", choices=OPTIMIZERS, default=list(OPTIMIZERS))
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--contestant", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        print(json.dumps(contest(*options.contestant)))
        return
    seconds = measure(options.rounds, options.optimizers)
    report = {
        **versions(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "rounds": options.rounds,
        "seconds": seconds,
    }
    print(", ".join(f"{key} {value}" for key, value in report.items() if key != "seconds"))
    show(seconds)
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
