"""Measure contestants fairly: each in a process of its own, in turn, for several rounds.

Two BLAS thread pools in one process slow each other down twofold, so nothing is ever timed beside
its competitor. A bench is a dictionary of functions, each of which prepares a contestant and
returns what is to be timed::

    if __name__ == "__main__":
        main(__doc__, {"xpnn": xpnn_step, "torch": torch_step})

or a dictionary of such dictionaries, one a workload. A function imports what it measures: neither
this module nor a bench does at its top, for a process starts with the peak of the memory of the
process that started it. A contestant whose library is missing is left out.

Everybody has the same number of threads: by the variables of OpenMP and of the BLAS libraries, by
``torch.set_num_threads``, and by NPROC, from which JAX takes the size of its pools. JAX has threads
besides that wait most of the time, and thinc's own BLAS is built with one thread: those stay.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import report
import targets

__all__ = ["Contestant", "alone_and_fast", "main"]

LIBRARIES = ("torch", "jax", "thinc", "autograd", "numba", "numpy_ml", "cupy")
THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
    *("BLIS_NUM_THREADS", "NUMBA_NUM_THREADS", "XPNN_NUM_THREADS", "NPROC"),
)
UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes

Prepare = Callable[[], Callable[[], Any]]


class Contestant(NamedTuple):
    """What is measured.

    Attributes
    ----------
    prepare : callable
        Returns a function without arguments, a call of which is timed.
    environment : dict of str
        Variables of its process.
    work : float, optional
        The operations of arithmetic in a call, for a rate.
    """

    prepare: Prepare
    environment: Mapping[str, str] = {}
    work: float | None = None


Contestants = Mapping[str, Contestant | Prepare]


def alone_and_fast(prepare: Prepare, name: str = "xpnn") -> dict[str, Contestant]:
    """Return xpnn twice: with NumPy alone, and with its kernels in Numba, where there are any."""
    return {
        name: Contestant(prepare, {"XPNN_FAST": "0"}),
        f"{name}, fast": Contestant(partial(_fast, prepare), {"XPNN_FAST": "1"}),
    }


def _fast(prepare: Prepare) -> Callable[[], Any]:
    if importlib.util.find_spec("numba") is None:
        msg = "Numba is not installed"
        raise ModuleNotFoundError(msg, name="numba")
    return prepare()


def main(
    doc: str | None,
    bench: Contestants | Mapping[str, Contestants],
    *,
    tiny: Contestants | Mapping[str, Contestants] | None = None,
    baseline: str = "torch",
    check: Callable[[dict[str, Any]], list[str]] = lambda report: [],
    rounds: int = 5,
    seconds: float = 1.5,
    threads: int | None = None,
) -> None:
    """Run a bench from the command line.

    Parameters
    ----------
    doc : str
        Its first line describes the bench.
    bench : dict
        Contestants by name; or, by the names of workloads, such dictionaries.
    tiny : dict, optional
        The same in sizes for a test, which ``--quick`` runs instead.
    baseline : str
        To whose figures the others are put in relation.
    check : callable
        Returns a line for each demand of this bench that a report misses; ``--check`` prints these
        beside the targets of the table that are missed.
    rounds, seconds, threads
        What is measured if the command line says nothing else.
    """
    name = Path(sys.argv[0]).stem
    options = _options(doc, rounds, seconds, threads)
    if options.quick:
        bench, options.rounds, options.seconds = tiny or bench, 1, min(options.seconds, 0.2)
    workloads = everything = by_workload(bench, name)
    if options.child:
        workload, contestant = options.child
        print(json.dumps(_measured(workloads[workload][contestant].prepare, options.seconds)))
        return
    if options.only:
        workloads = _chosen(workloads, options.only)
    found = report.gather(_rounds(workloads, options), baseline, options)
    report.show(found)
    if options.save:
        report.save(found, name, everything if options.only else None)
    if options.check and (missed := targets.missed(name, found) + check(found)):
        sys.exit("missed:\n" + "\n".join(missed))


def _options(doc: str | None, rounds: int, seconds: float, threads: int | None) -> Any:
    parser = argparse.ArgumentParser(description=(doc or "").strip().partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=seconds, help="of a contestant in a round")
    parser.add_argument("--threads", type=int, default=threads or os.cpu_count() or 1)
    parser.add_argument("--save", action="store_true", help=f"write {report.RESULTS.name}/")
    parser.add_argument("--only", nargs="+", help="contestants and workloads to run")
    parser.add_argument("--check", action="store_true", help="say which targets are missed")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick and (options.save or options.check):
        parser.error("--quick measures other sizes than the table has")
    return options


def by_workload(bench: Any, name: str) -> dict[str, dict[str, Contestant]]:
    nested = isinstance(next(iter(bench.values())), dict)
    return {
        workload: {
            c: prepare if isinstance(prepare, Contestant) else Contestant(prepare)
            for c, prepare in contestants.items()
        }
        for workload, contestants in (bench if nested else {name: bench}).items()
    }


def _chosen(workloads: dict[str, dict[str, Contestant]], only: list[str]) -> Any:
    """Return what has the names that were given: of workloads, of contestants, or of both."""
    contestants = {c for found in workloads.values() for c in found}
    if unknown := set(only) - contestants - set(workloads):
        names = ", ".join(map(repr, [*workloads, *sorted(contestants)]))
        missing = ", ".join(map(repr, sorted(unknown)))
        sys.exit(f"--only: there is no {missing}; there are {names}")
    rows, names = set(only) & set(workloads) or set(workloads), set(only) & contestants
    chosen = {
        workload: {c: v for c, v in found.items() if c in (names or contestants)}
        for workload, found in workloads.items()
        if workload in rows
    }
    return {workload: found for workload, found in chosen.items() if found}


# ---------------------------------------------------------------------------- measuring


def _rounds(workloads: dict[str, dict[str, Contestant]], options: Any) -> dict[str, Any]:
    """Return what every contestant measured in every round, by workload and name."""
    found: dict[str, Any] = {w: {c: [] for c in workloads[w]} for w in workloads}
    missing: set[str] = set()
    for i in range(options.rounds):
        for workload, contestants in workloads.items():
            for name, contestant in contestants.items():
                if (workload, name) in missing:
                    continue
                result = _run(workload, name, contestant, options)
                if isinstance(result, str):
                    print(f"{workload}, {name}: left out, {result}", file=sys.stderr)
                    missing.add((workload, name))
                    continue
                found[workload][name].append(result | {"work": contestant.work})
        print(f"round {i + 1} of {options.rounds} done", file=sys.stderr)
    return {w: {c: laps for c, laps in rows.items() if laps} for w, rows in found.items()}


def _run(workload: str, name: str, contestant: Contestant, options: Any) -> dict[str, Any] | str:
    """Return what a contestant measured in a process of its own, or why it is left out."""
    command = [sys.executable, sys.argv[0], "--child", workload, name]
    command += ["--seconds", str(options.seconds)] + ["--quick"] * options.quick
    root = str(Path(__file__).parents[1])
    environment = {
        **os.environ,
        **dict.fromkeys(THREADS, str(options.threads)),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        **contestant.environment,
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 3:
        return done.stderr.strip().splitlines()[-1]
    if done.returncode:
        sys.exit(f"{workload}, {name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _measured(prepare: Prepare, seconds: float) -> dict[str, float]:
    """Return the median seconds of a call, after a warm-up of a third of the time; and memory."""
    try:
        call = prepare()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in LIBRARIES:
            raise
        print(error, file=sys.stderr)
        sys.exit(3)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    before = _peak()
    first = _lap(call)  # compiles, where that is done
    end = time.perf_counter() + seconds / 3
    while time.perf_counter() < end:
        call()
    laps: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(laps) < 3:
        laps.append(_lap(call))
    peak = _peak()
    return {
        "seconds": statistics.median(laps), "first": first, "peak": peak, "rise": peak - before,
    }  # fmt: skip


def _lap(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _peak() -> float:
    """Return the largest resident memory of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / 1e6
