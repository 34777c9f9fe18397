"""How the time of a step grows: with batch, width, depth and length, and on one thread or two.

A series varies one size of a network. The rate, floating-point operations of the matrix products in
a second, tells whether a term grows faster than this arithmetic: then it falls. ``--check`` misses
where a step has less than 0.8 times the best rate of the smaller ones of its series, for caches
have a say as well; or where two threads take longer than one.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from contest import THREADS, Contestant, main
from networks import step

LEAST = 0.8
Sizes = dict[str, int]

BASE: dict[str, Sizes] = {
    "mlp": {"batch": 128, "width": 256, "depth": 2},
    "conv3x3": {"batch": 16, "side": 16, "channels": 64},
    "lstm": {"batch": 64, "length": 32, "inputs": 256, "hidden": 256},
    "transformer": {"batch": 8, "length": 64, "features": 256, "heads": 4, "hidden": 1024},
}
SMALL: dict[str, Sizes] = {
    "mlp": {"batch": 2, "width": 4, "depth": 1},
    "conv3x3": {"batch": 2, "side": 4, "channels": 2},
    "lstm": {"batch": 2, "length": 3, "inputs": 2, "hidden": 3},
    "transformer": {"batch": 2, "length": 3, "features": 4, "heads": 2, "hidden": 5},
}
SERIES = {
    ("mlp", "batch"): (32, 64, 128, 256, 512),
    ("mlp", "width"): (128, 256, 512, 1024),
    ("mlp", "depth"): (2, 4, 8, 16),
    ("conv3x3", "batch"): (8, 16, 32, 64),
    ("conv3x3", "side"): (16, 32, 64),
    ("conv3x3", "channels"): (32, 64, 128),
    ("lstm", "batch"): (16, 32, 64, 128),
    ("lstm", "length"): (32, 64, 128, 256),
    ("transformer", "batch"): (4, 8, 16, 32),
    ("transformer", "length"): (64, 128, 256, 512),
}


def work(network: str, s: Sizes) -> float:
    """Return the operations in the products of a step; three products each, forward and back."""
    if network == "mlp":  # whose first layer has no gradient of its input
        return 2.0 * s["batch"] * s["width"] ** 2 * (3 * s["depth"] - 1)
    if network == "conv3x3":
        return 6.0 * s["batch"] * s["side"] ** 2 * 9 * s["channels"] ** 2
    places = 6.0 * s["batch"] * s["length"]
    if network == "lstm":
        return places * (s["inputs"] + s["hidden"]) * 4 * s["hidden"]
    features = s["features"]  # four projections; scores and mixture; two layers
    return places * features * (4 * features + 2 * s["length"] + 2 * s["hidden"])


def contestant(network: str, sizes: Sizes, threads: int | None = None) -> Contestant:
    """Return a step of xpnn with its arithmetic, on the threads of everybody or on some."""
    given: dict[str, Any] = dict(sizes)
    if network == "mlp":
        given = {"batch": sizes["batch"], "sizes": (sizes["width"],) * (sizes["depth"] + 1)}
    variables = {} if threads is None else dict.fromkeys(THREADS, str(threads))
    prepare = partial(step, "xpnn", network, given)
    return Contestant(prepare, {"XPNN_FAST": "0", **variables}, work(network, sizes))


def benches(base: dict[str, Sizes], *, tiny: bool = False) -> dict[str, dict[str, Contestant]]:
    """Return all series, by network and by what is varied; in tiny ones it is not varied."""
    found = {
        f"{network}, {size}": {
            f"xpnn, {size} {n}": contestant(network, base[network] | ({} if tiny else {size: n}))
            for n in values
        }
        for (network, size), values in SERIES.items()
    }
    for network, sizes in base.items():
        found[f"{network}, threads"] = {
            f"xpnn, threads {n}": contestant(network, sizes, n) for n in (1, 2)
        }
    return found


FULL = benches(BASE)
TINY = benches(SMALL, tiny=True)


def falls(report: dict[str, Any]) -> list[str]:
    """Return a line for each rate that falls."""
    lines = []
    for workload, rows in report["workloads"].items():
        best, least = 0.0, 1.0 if workload.endswith("threads") else LEAST
        for name, row in rows.items():
            if row["gigaflops"] < least * best:
                share = row["gigaflops"] / best
                lines.append(f"{workload}: {name} has {share:.2f} of the best rate before")
            best = max(best, row["gigaflops"])
    return lines


if __name__ == "__main__":
    main(__doc__, FULL, tiny=TINY, check=falls, rounds=3, seconds=0.6)
