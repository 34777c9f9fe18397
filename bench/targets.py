"""What the benches are measured by: how long, and how much memory, xpnn may take beside others.

``alone`` is with NumPy alone, ``fast`` with the kernels in Numba; ``moonshot`` is what would be
remarkable. Every figure is xpnn's median over that of ``against``.
"""

from __future__ import annotations

import statistics
from typing import Any, NamedTuple

__all__ = ["MEAN", "MEMORY", "TARGETS", "Target", "mean", "missed", "ratio"]


class Target(NamedTuple):
    """A row of the table: all workloads that it names are held to it.

    Attributes
    ----------
    row : str
    bench : str
    workloads : tuple of str
    alone, fast : float
    moonshot : float, optional
    against : str
        The contestant to whom xpnn is compared; for those of xpnn itself, with its kernels if
        ``ours`` has them.
    ours : str
    """

    row: str
    bench: str
    workloads: tuple[str, ...]
    alone: float
    fast: float
    moonshot: float | None = None
    against: str = "torch"
    ours: str = "xpnn"

    def contestants(self, fast: bool) -> tuple[str, str]:
        """Return who is compared to whom."""
        suffix = ", fast" if fast else ""
        against = self.against + suffix if self.against.startswith("xpnn") else self.against
        return self.ours + suffix, against


TARGETS = (
    Target("tiny MLP", "tiny_mlp", ("10-32-32-10, batch 32",), 0.6, 0.6, 0.35),
    Target("MLP", "mlp_step", ("784-500-500-10, batch 500",), 1.15, 0.95, 0.8),
    Target("LeNet-5", "lenet", ("LeNet-5, batch 128",), 1.3, 1.0, 0.8),
    Target("conv-BN stack", "conv_stack", ("conv-BN-ReLU stack, batch 64",), 1.3, 0.9, 0.65),
    Target(
        "3 x 3 convolutions", "conv3x3", ("32 x 32, batch 32", "56 x 56, batch 16"), 1.3, 0.75, 0.5
    ),
    Target("LSTM, GRU", "recurrent", ("LSTM", "GRU"), 1.4, 1.1, 1.0),
    Target("transformer layer", "transformer", ("encoder layer, batch 32",), 1.3, 1.1, 1.0),
    Target(
        "Adam, 10 M", "optimizers", ("10 M, adam",), 2.8, 1.05, 0.9, against="torch, fused"
    ),
    Target(
        "fit over its steps", "fit_epoch", ("one epoch, batch 128",), 1.05, 1.05,
        against="xpnn, bare steps", ours="xpnn, fit",
    ),
    Target("uniform numbers", "random_stream", ("uniform, 4 M",), 1.5, 1.5, against="numpy"),
    Target("dropout masks", "random_stream", ("bernoulli, 4 M",), 0.4, 0.4, against="uniform"),
)  # fmt: skip
MEAN = Target("geometric mean of the first seven", "", (), 1.15, 0.9, 0.75)
MEMORY = Target("peak memory of each workload", "", (), 1.2, 1.2, 0.8)


def ratio(target: Target, report: dict[str, Any], *, fast: bool) -> list[float]:
    """Return the ratios of a row's workloads, of those that were measured."""
    ours, against = target.contestants(fast)
    rows = [report["workloads"].get(name, {}) for name in target.workloads]
    return [
        row[ours]["milliseconds"] / row[against]["milliseconds"]
        for row in rows
        if ours in row and against in row
    ]


def mean(reports: dict[str, Any], *, fast: bool) -> float | None:
    """Return the geometric mean of the first seven rows, or None if one was not measured."""
    rows = [ratio(t, reports.get(t.bench, {"workloads": {}}), fast=fast) for t in TARGETS[:7]]
    if not all(rows):
        return None
    return statistics.geometric_mean(map(statistics.geometric_mean, rows))


def missed(bench: str, report: dict[str, Any]) -> list[str]:
    """Return a line for each figure of a bench that misses its target."""
    lines = []
    for target in (t for t in TARGETS if t.bench == bench):
        for fast, limit in ((False, target.alone), (True, target.fast)):
            worst = max(ratio(target, report, fast=fast), default=0.0)
            if worst > limit:
                ours, against = target.contestants(fast)
                lines.append(f"{target.row}: {ours} / {against} is {worst:.2f}, not {limit:.2f}")
    for workload, rows in report["workloads"].items():
        for ours, limit in (("xpnn", MEMORY.alone), ("xpnn, fast", MEMORY.fast)):
            if ours in rows and "torch" in rows:
                peak = rows[ours]["peak MB"] / rows["torch"]["peak MB"]
                if peak > limit:
                    who = f"{workload}: peak memory of {ours} / torch"
                    lines.append(f"{who} is {peak:.2f}, not {limit:.2f}")
    return lines
