"""Time the random stream on the host against NumPy's Philox, and dropout masks against uniforms.

Run from the repository's root, where xpnn can be imported::

    python bench/random_stream.py          # prints a table
    python bench/random_stream.py --save   # writes bench/results/random_stream.json as well

Each figure is the median over rounds; contestants take turns within a round, so that a slow moment
of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.random import Stream

LARGE = 4 * 2**20
RESULTS = Path(__file__).parent / "results" / "random_stream.json"


def median_times(
    contestants: dict[str, Callable[[], Any]], rounds: int, calls: int
) -> dict[str, float]:
    """Return the median seconds a call of each contestant."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            call()  # warm: caches, and the pages of the last result
            start = time.perf_counter()
            for _ in range(calls):
                call()
            seconds[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(times) for name, times in seconds.items()}


def measure(rounds: int) -> dict[str, float]:
    """Return every figure by name, in seconds."""
    stream = Stream(0)
    numpy_rng = np.random.Generator(np.random.Philox(key=0))
    large = {
        "numpy uniform float32, 4 M": lambda: numpy_rng.random(LARGE, dtype=np.float32),
        "xpnn uniform float32, 4 M": lambda: stream.uniform(LARGE, dtype="float32"),
        "xpnn bernoulli, 4 M": lambda: stream.bernoulli(0.2, LARGE),
        "numpy normal float32, 4 M": lambda: numpy_rng.standard_normal(LARGE, dtype=np.float32),
        "xpnn normal float32, 4 M": lambda: stream.normal(LARGE, dtype="float32"),
        "xpnn permutation, 60 k": lambda: stream.permutation(60_000),
    }
    small = {
        "numpy uniform float32, 32 x 32": lambda: numpy_rng.random((32, 32), dtype=np.float32),
        "xpnn uniform float32, 32 x 32": lambda: stream.uniform((32, 32), dtype="float32"),
        "xpnn bernoulli, 32 x 32": lambda: stream.bernoulli(0.2, (32, 32)),
        "xpnn bernoulli, 500 x 500": lambda: stream.bernoulli(0.2, (500, 500)),
    }
    return median_times(large, rounds, 1) | median_times(small, rounds, 200)


def ratios(seconds: dict[str, float]) -> dict[str, float]:
    """Return what the figures are judged by: the first at most 1.5, the second at least 2.5."""
    uniform = seconds["xpnn uniform float32, 4 M"]
    return {
        "uniform: xpnn / numpy": uniform / seconds["numpy uniform float32, 4 M"],
        "4 M: xpnn uniform / xpnn bernoulli": uniform / seconds["xpnn bernoulli, 4 M"],
        "normal: xpnn / numpy": seconds["xpnn normal float32, 4 M"]
        / seconds["numpy normal float32, 4 M"],
    }


def main() -> None:
    """Measure, print, and save if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    seconds = measure(options.rounds)
    report = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "rounds": options.rounds,
        "seconds": seconds,
        "ratios": ratios(seconds),
    }
    print(f"Python {report['python']}, NumPy {report['numpy']}, {report['machine']}")
    for name, value in seconds.items():
        unit, scale = ("ms", 1e3) if value > 1e-3 else ("us", 1e6)
        print(f"  {name:32} {value * scale:8.2f} {unit}")
    for name, value in ratios(seconds).items():
        print(f"  {name:36} {value:5.2f}")
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
