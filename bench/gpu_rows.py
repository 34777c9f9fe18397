"""What ``gpu.py`` measures: workloads, who takes part in each, and who comes first.

Workloads stand in the order of their weight. They are measured in rounds: first what the targets
ask of captured steps, of PyTorch and of kernels, then what takes long to compile, so that a cut
takes away what matters least.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gpu_work import KERNELS, WORK, Work

__all__ = ["CONTESTANTS", "FULL", "TINY", "Row", "contestants", "order", "rows_of", "work_of"]

Sizes = dict[str, Any]


class Row(NamedTuple):
    """A workload: a network and its sizes, and how its products are computed.

    Attributes
    ----------
    network : str
    sizes : dict
    precision : {"float32", "tf32", "bfloat16"}
        The last by autocast.
    """

    network: str
    sizes: Sizes
    precision: str = "float32"


# By name: which process it runs in, and how.
CONTESTANTS: dict[str, tuple[str, Sizes]] = {
    "xpnn, captured": ("xpnn", {"captured": True}),
    "xpnn": ("xpnn", {}),
    "xpnn, without cuDNN": ("xpnn, without cuDNN", {}),
    "torch": ("torch", {"fused": True}),
    "torch, compiled": ("torch", {"fused": True, "compiled": True}),
    "jax": ("jax", {}),
    "xpnn, fit": ("xpnn", {"where": "card"}),
    "xpnn, fit from the host": ("xpnn", {"where": "host"}),
}

_LARGE: dict[str, tuple[str, Sizes]] = {
    "dense layer, 8192 x 4096 x 4096": (
        "dense", {"batch": 8192, "inputs": 4096, "outputs": 4096},
    ),
    "MLP 4096 wide, batch 8192": ("mlp", {"batch": 8192, "sizes": (4096, 4096, 4096, 1000)}),
    "GPT block, d 1024, T 1024, batch 8": (
        "gpt", {"batch": 8, "length": 1024, "features": 1024, "heads": 16, "hidden": 4096},
    ),
    "residual network, 64 x 64, batch 256": (
        "resnet", {"batch": 256, "side": 64, "channels": (64, 128), "blocks": 2},
    ),
    "LSTM 1024 wide, batch 64": ("lstm", {"inputs": 1024, "hidden": 1024}),
}  # fmt: skip
_OTHERS: dict[str, tuple[str, Sizes]] = {
    "MLP 784-500-500-10, batch 500": ("mlp", {}),
    "MLP 10-32-32-10, batch 32": ("mlp", {"batch": 32, "sizes": (10, 32, 32, 10)}),
    "LSTM 256 wide, batch 64": ("lstm", {}),
    "Adam, 100 M parameters": ("adam", {"parameters": 100_000_000}),
    "embedding of 50,000 rows": ("embedding", {}),
    "3 x 3 convolution, 32 x 32, batch 32": ("conv3x3", {}),
    "LeNet-5, batch 128": ("lenet5", {}),
    "conv-BN-ReLU stack, 32 x 32, batch 64": ("conv_stack", {}),
    "GRU 256 wide, batch 64": ("gru", {}),
    "encoder layer, batch 32": ("transformer", {}),
}
_ROWS = {"rows": 65536, "columns": 1024}
_FUSED: dict[str, tuple[str, Sizes]] = {
    "GELU, 64 M": ("gelu", _ROWS),
    "layer normalization, 65536 x 1024": ("layer_norm", _ROWS),
    "softmax, 65536 x 1024": ("softmax", _ROWS),
    "cross-entropy, 8192 x 8192": ("cross_entropy", {"rows": 8192, "columns": 8192}),
    "batch normalization and ReLU, 1 M x 64": (
        "batch_norm_relu", {"rows": 1 << 20, "columns": 64},
    ),
    "dropout, 64 M": ("dropout", _ROWS),
    "SGD with momentum, 100 M parameters": ("momentum", {"parameters": 100_000_000}),
}  # fmt: skip
_FIT = {"fit, MLP 784-500-500-10, batch 500": ("fit", {"batch": 500, "steps": 100, "epochs": 8})}

FULL: dict[str, Row] = {
    **{name: Row(*row) for name, row in _LARGE.items()},
    **{f"{name}, {p}": Row(*row, p) for p in ("bfloat16", "tf32") for name, row in _LARGE.items()},
    **{name: Row(*row) for name, row in (_OTHERS | _FUSED | _FIT).items()},
}
_RECURRENT = {"batch": 2, "length": 3, "inputs": 3, "hidden": 4}
_BLOCK = {"batch": 2, "length": 4, "features": 8, "heads": 2, "hidden": 8}
_SMALL: dict[str, Sizes] = {
    "dense": {"batch": 4, "inputs": 5, "outputs": 6},
    "mlp": {"batch": 4, "sizes": (5, 6, 3)},
    "lenet5": {"batch": 2, "side": 16, "filters": (2, 3)},
    "conv_stack": {"batch": 2, "side": 8, "channels": (2, 3, 4)},
    "resnet": {"batch": 2, "side": 4, "channels": (2, 3), "blocks": 1},
    "conv3x3": {"batch": 2, "side": 4, "channels": 2},
    "lstm": _RECURRENT,
    "gru": _RECURRENT,
    "transformer": _BLOCK,
    "gpt": _BLOCK,
    "embedding": {"rows": 11, "width": 4, "ids": 6},
    "adam": {"parameters": 1000},
    "momentum": {"parameters": 1000},
    "fit": {"batch": 4, "sizes": (5, 6, 3), "steps": 4, "epochs": 3},
    **{kernel: {"rows": 6, "columns": 5} for kernel in KERNELS},
}
TINY = {name: row._replace(sizes=_SMALL[row.network]) for name, row in FULL.items()}

_CONVOLUTIONS = ("resnet", "conv3x3", "lenet5", "conv_stack")
_ALONE = ("adam", "momentum")
_NOT_COMPILED = ("lstm", "gru", *_ALONE)  # PyTorch leaves recurrent layers as they are


def rows_of(networks: tuple[str, ...] | None = None, precisions: tuple[str, ...] = ("float32",)
            ) -> list[str]:  # fmt: skip
    """Return the names of the rows of some networks, or of all, in some precisions."""
    return [
        name
        for name, row in FULL.items()
        if row.precision in precisions and (networks is None or row.network in networks)
    ]


def work_of(row: Row) -> Work:
    """Return the operations and bytes of a workload; nothing of a fit, compared to its steps."""
    return Work(0.0, 0.0) if row.network == "fit" else WORK[row.network](**row.sizes)


def contestants(row: Row) -> list[str]:
    """Return who takes part in a workload."""
    if row.network == "fit":
        return ["xpnn, captured", "xpnn, fit", "xpnn, fit from the host"]
    if row.network in KERNELS or row.network == "momentum":
        return ["xpnn", "torch", *(["torch, compiled"] if row.network in KERNELS else [])]
    found = ["xpnn, captured", "xpnn", "torch"]
    if row.network in _CONVOLUTIONS or (row.network == "gpt" and row.precision == "bfloat16"):
        found.append("xpnn, without cuDNN")
    if row.network not in _NOT_COMPILED:
        found.append("torch, compiled")
    if row.network not in _ALONE and row.precision != "bfloat16":  # of which JAX has no autocast
        found.append("jax")
    return found


def _round(row: Row, who: str) -> int:
    """Return in which round somebody is measured in a workload: what costs most comes late."""
    of_kernels = row.network in (*KERNELS, *_ALONE, *_CONVOLUTIONS)
    if who in ("xpnn, captured", "torch", "xpnn, fit") or (who == "xpnn" and of_kernels):
        return 0
    if who == "torch, compiled" and row.precision != "float32":
        return 1
    return {"xpnn, without cuDNN": 2, "xpnn, fit from the host": 2, "xpnn": 3, "jax": 4}.get(who, 5)


def order(bench: dict[str, Row], only: set[str]) -> list[tuple[str, str]]:
    """Return workload and contestant of each measurement, the most important first.

    Parameters
    ----------
    bench : dict of Row
    only : set of str
        Names of workloads, of contestants, or of both; those of a kind that is not named are all.
    """
    rows = [name for name in bench if name in only or not only & {*bench}]
    names = only & {*CONTESTANTS} or {*CONTESTANTS}
    pairs = [(name, who) for name in rows for who in contestants(bench[name]) if who in names]
    return sorted(pairs, key=lambda pair: _round(bench[pair[0]], pair[1]))
