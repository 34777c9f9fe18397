"""What ``gpu.py --check`` demands: of captured steps, of products in 16 bits, of fused kernels.

A figure is the time of one contestant over that of another, at most so much, or the fraction of the
floor that is reached, at least so much.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gpu_rows import FULL, rows_of
from gpu_work import KERNELS

__all__ = ["TARGETS", "Target", "missed"]

_LOW = ("bfloat16", "tf32")
_CONVOLUTIONS = rows_of(("resnet", "conv3x3", "lenet5", "conv_stack"))
_FLOOR = "its floor"


class Target(NamedTuple):
    """What several workloads are held to.

    Attributes
    ----------
    what : str
    rows : list of str
    ours, against : str
        Contestants whose times are compared; or ``ours`` and the floor.
    limit : float
        The most that a ratio of times may be, the least that a fraction of the floor may be.
    cudnn : bool
        Whether it is about what cuDNN computes.
    """

    what: str
    rows: list[str]
    ours: str
    against: str
    limit: float
    cudnn: bool = False


_STEPS = [name for name, row in FULL.items() if row.network not in (*KERNELS, "fit", "momentum")]
TARGETS = (
    Target("captured steps", _STEPS, "xpnn, captured", "torch", 1.0),
    Target(
        "small networks",
        ["MLP 10-32-32-10, batch 32", "MLP 784-500-500-10, batch 500", "LSTM 256 wide, batch 64"],
        "xpnn, captured", "torch", 0.5,
    ),
    Target("large products", rows_of(("dense",), _LOW), "xpnn, captured", _FLOOR, 0.85),
    Target(
        "large networks", rows_of(("dense", "mlp", "gpt", "resnet"), _LOW), "xpnn, captured",
        "torch, compiled", 1.1,
    ),
    Target(
        "fused kernels", rows_of((*KERNELS, "adam", "momentum")), "xpnn", _FLOOR, 0.8
    ),
    Target("convolutions by cuDNN", _CONVOLUTIONS, "xpnn", "torch", 1.1, cudnn=True),
    Target("fit over its steps", rows_of(("fit",)), "xpnn, fit", "xpnn, captured", 1.1),
)  # fmt: skip


def missed(report: dict[str, Any]) -> list[str]:
    """Return a line for each target that is missed, and for each that nothing was measured of."""
    lines = []
    for target in TARGETS:
        found = _figures(target, report)
        if not found:
            why = f" (cuDNN: {report['card']['cudnn']})" if target.cudnn else ""
            lines.append(f"{target.what}: nothing was measured{why}")
        for name, figure in found.items():
            who = f"{target.what}: {name}: {target.ours}"
            if target.against == _FLOOR and figure < target.limit:
                lines.append(f"{who} reaches {figure:.0%} of its floor, not {target.limit:.0%}")
            elif target.against != _FLOOR and figure > target.limit:
                lines.append(f"{who} / {target.against} is {figure:.2f}, not {target.limit:.2f}")
    return lines


def _figures(target: Target, report: dict[str, Any]) -> dict[str, float]:
    if (
        target.cudnn and not report["card"]["cudnn"][:1].isdigit()
    ):  # a version, or why there is none
        return {}
    figures = {}
    for name in target.rows:
        row = report["steps"].get(name, {"found": {}, "floor": 0.0})
        ours, other = (row["found"].get(who) for who in (target.ours, target.against))
        if ours and target.against == _FLOOR:
            figures[name] = row["floor"] / ours["seconds"]
        elif ours and other:
            figures[name] = ours["seconds"] / other["seconds"]
    return figures
