"""Training steps on a GPU: xpnn beside PyTorch and JAX on one card, and what the card could do.

A workload's floor is the longer of two times: that of its arithmetic at the rate of a large product
in float32, and that of its bytes at the rate of a copy, both measured here as well. TF32 is off for
everybody. Contestants run in processes of their own; steps are timed with CUDA's events in groups,
so that the host runs ahead as it does in training, JAX by the clock of the host.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_work import WORK, Work, adam

__all__ = ["CONTESTANTS", "FULL", "TINY", "main", "table"]

Sizes = dict[str, Any]
HERE = Path(__file__).parent
NOT_MEASURED = 3  # the exit status of a contestant that is not here

# The large ones first: if time runs out, the small ones are left out.
FULL: dict[str, tuple[str, Sizes]] = {
    "MLP 4096 wide, batch 8192": ("mlp", {"batch": 8192, "sizes": (4096, 4096, 4096, 1000)}),
    "conv-BN-ReLU stack, 64 x 64, batch 256": (
        "conv_stack", {"batch": 256, "side": 64, "channels": (64, 64, 128)},
    ),
    "LSTM 1024 wide, batch 64": ("lstm", {"inputs": 1024, "hidden": 1024}),
    "transformer block, d 1024, T 1024, batch 8": (
        "transformer",
        {"batch": 8, "length": 1024, "features": 1024, "heads": 16, "hidden": 4096},
    ),
    "Adam, 100 M parameters": ("adam", {"parameters": 100_000_000}),
    "MLP 784-500-500-10, batch 500": ("mlp", {}),
    "MLP 10-32-32-10, batch 32": ("mlp", {"batch": 32, "sizes": (10, 32, 32, 10)}),
    "LeNet-5, batch 128": ("lenet5", {}),
    "conv-BN-ReLU stack, 32 x 32, batch 64": ("conv_stack", {}),
    "3 x 3 convolution, 32 x 32, batch 32": ("conv3x3", {}),
    "LSTM 256 wide, batch 64": ("lstm", {}),
    "GRU 256 wide, batch 64": ("gru", {}),
    "encoder layer, batch 32": ("transformer", {}),
    "embedding of 50,000 rows": ("embedding", {}),
}  # fmt: skip
_RECURRENT = {"batch": 2, "length": 3, "inputs": 3, "hidden": 4}
_SMALL: dict[str, Sizes] = {
    "mlp": {"batch": 4, "sizes": (5, 6, 3)},
    "lenet5": {"batch": 2, "side": 16, "filters": (2, 3)},
    "conv_stack": {"batch": 2, "side": 8, "channels": (2, 3, 4)},
    "conv3x3": {"batch": 2, "side": 4, "channels": 2},
    "lstm": _RECURRENT,
    "gru": _RECURRENT,
    "transformer": {"batch": 2, "length": 4, "features": 8, "heads": 2, "hidden": 8},
    "embedding": {"rows": 11, "width": 4, "ids": 6},
    "adam": {"parameters": 1000},
}
TINY = {name: (network, _SMALL[network]) for name, (network, _) in FULL.items()}
CONTESTANTS: dict[str, tuple[str, Sizes]] = {
    "xpnn": ("xpnn", {}),
    "xpnn, captured": ("xpnn", {"captured": True}),
    "torch": ("torch", {"fused": True}),
    "torch, compiled": ("torch", {"fused": True, "compiled": True}),
    "jax": ("jax", {}),
}
_NOT_COMPILED = ("lstm", "gru", "adam")  # PyTorch leaves recurrent layers as they are


def work_of(network: str, sizes: Sizes) -> Work:
    """Return the operations and bytes of a workload."""
    return adam(**sizes) if network == "adam" else WORK[network](**sizes)


def _takes_part(who: str, network: str) -> bool:
    if who == "torch, compiled":
        return network not in _NOT_COMPILED
    return not (who == "jax" and network == "adam")


# ------------------------------------------------------------------ in a contestant's process


def _left_out(reason: str) -> None:
    print(reason, file=sys.stderr)
    sys.exit(NOT_MEASURED)


def _start(library: str) -> Any:
    """Let a library compute on the GPU; return what starts a clock that, called, stops it."""
    if library != "xpnn" and importlib.util.find_spec(library) is None:
        _left_out(f"{library} is not installed")
    if library == "jax":
        import jax

        if jax.default_backend() != "gpu":
            _left_out("JAX sees no GPU")
        jax.config.update("jax_default_matmul_precision", "float32")
        return _host_clock
    if library == "torch":
        import torch

        if not torch.cuda.is_available():
            _left_out("PyTorch sees no GPU")
        torch.set_default_device("cuda")
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        return _torch_clock
    if os.environ.get("XPNN_EMULATE_CUDA"):  # for a test: no figures
        sys.path.insert(0, str(HERE.parent / "tests"))
        importlib.import_module("emulation.fake_cupy").install()
    import xpnn
    from xpnn.errors import DeviceError

    try:
        xpnn.set_device("cuda")
    except DeviceError as error:
        _left_out(str(error))
    return _cupy_clock


def _host_clock() -> Callable[[], float]:
    start = time.perf_counter()
    return lambda: time.perf_counter() - start


def _torch_clock() -> Callable[[], float]:
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()

    def stop() -> float:
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    return stop


def _cupy_clock() -> Callable[[], float]:
    import cupy

    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()

    def stop() -> float:
        end.record()
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(start, end)) / 1e3

    return stop


def _step(library: str, network: str, sizes: Sizes, options: Sizes) -> Callable[[], Any]:
    captured = options.pop("captured", False)
    if network == "adam":
        step = _adam_step(library, sizes["parameters"])
    else:
        problem = getattr(importlib.import_module("networks.problems"), network)(**sizes)
        if library == "xpnn":
            from xpnn import to_device

            problem = problem._replace(
                x=to_device(problem.x, "cuda"), y=to_device(problem.y, "cuda")
            )
        step = getattr(importlib.import_module(f"networks.in_{library}"), network)(
            problem, **({} if network == "conv3x3" and "compiled" not in options else options)
        )
    if not captured:
        return step
    import xpnn

    recorded = xpnn.training.capture(lambda turn: step())
    turn = xpnn.asarray([0.0], device="cuda")
    return lambda: recorded(turn)


def _adam_step(library: str, parameters: int) -> Callable[[], Any]:
    if library == "torch":
        import torch

        weight = torch.nn.Parameter(torch.zeros(parameters))
        weight.grad = torch.ones(parameters)
        return torch.optim.Adam([weight], 1e-3, fused=True).step
    import xpnn

    weight = xpnn.Tensor(xpnn.ops.zeros(parameters), requires_grad=True)
    gradient, optimizer = xpnn.ops.ones(parameters), xpnn.optim.Adam(1e-3)
    return lambda: optimizer.update([weight], [gradient])


def _measured(library: str, network: str, sizes: Sizes, options: Sizes, seconds: float) -> Any:
    """Return the seconds of a step: the median over groups of steps, and the first call."""
    clock = _start(library)
    step = _step(library, network, sizes, dict(options))
    begun = time.perf_counter()
    stop = clock()
    step()
    stop()
    first = time.perf_counter() - begun
    for _ in range(3):
        step()
    stop = clock()
    step()
    group = max(1, min(200, int(0.02 / max(stop(), 1e-6))))
    laps: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(laps) < 3:
        stop = clock()
        for _ in range(group):
            step()
        laps.append(stop() / group)
    return {"seconds": statistics.median(laps), "range": [min(laps), max(laps)], "first": first}


def _card(quick: bool) -> dict[str, Any]:
    """Return what the card does: operations a second in a product, bytes a second in a copy."""
    clock = _start("xpnn")
    import xpnn
    from xpnn import ops

    n, m = (16, 1000) if quick else (8192, 250_000_000)
    a = xpnn.get_rng().uniform((n, n))
    x, xp = ops.zeros(m).data, xpnn.get_device().xp

    def best(f: Callable[[], Any]) -> float:
        f()
        found = []
        for _ in range(2 if quick else 10):
            stop = clock()
            f()
            found.append(stop())
        return max(min(found), 1e-9)

    report = xpnn.device_report()
    name = next(row["name"] for key, row in report["devices"].items() if key.startswith("cuda"))
    return {
        "name": name,
        **{key: report["cuda"][key] for key in ("driver", "cuda", "cupy")},
        "flops": 2 * n**3 / best(lambda: ops.matmul(a, a)),
        "bandwidth": 2 * 4 * m / best(lambda: xp.asarray(x, copy=True)),
    }


# ------------------------------------------------------------------ from the command line


def _child(arguments: list[str], options: Any) -> dict[str, Any] | str:
    """Return what a process of its own found, or why it found nothing."""
    command = [sys.executable, str(HERE / "gpu.py"), "--child", *arguments]
    command += ["--seconds", str(options.seconds)] + ["--quick"] * options.quick
    paths = [str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
    except subprocess.TimeoutExpired:
        return "it took more than two minutes"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"exit status {done.returncode}"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(report: dict[str, Any]) -> str:
    """Return the report as a table in Markdown: milliseconds, over PyTorch, of the floor."""
    card = report["card"]
    lines = [
        f"{card['name']}, driver for CUDA {card['driver']}, CuPy {card['cupy']};"
        f" {card['flops'] / 1e12:.1f} TFLOP/s in a product of float32,"
        f" {card['bandwidth'] / 1e9:.0f} GB/s in a copy. Milliseconds (over torch; fraction of the"
        " floor that is reached).",
        "",
        "| | GFLOP | MB | floor, ms | " + " | ".join(CONTESTANTS) + " |",
        "|---" * (4 + len(CONTESTANTS)) + "|",
    ]
    for name, row in report["steps"].items():
        cells = []
        for who in CONTESTANTS:
            found = row["found"].get(who)
            base = row["found"].get("torch")
            over = f"{found['seconds'] / base['seconds']:.2f}; " if found and base else ""
            cells.append(
                f"{1e3 * found['seconds']:.3g} ({over}{row['floor'] / found['seconds']:.0%})"
                if found
                else ""
            )
        lines.append(
            f"| {name} | {row['flops'] / 1e9:.3g} | {row['bytes'] / 1e6:.3g} |"
            f" {1e3 * row['floor']:.3g} | {' | '.join(cells)} |"
        )
    left_out = [f"- {what}: {why}" for what, why in report["left out"].items()]
    return "\n".join([*lines, *(["", "Left out:", "", *left_out] if left_out else []), ""])


def _options() -> Any:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="of a contestant")
    parser.add_argument("--minutes", type=float, default=30.0, help="after which nobody starts")
    parser.add_argument("--only", nargs="+", help="contestants and workloads to run")
    parser.add_argument("--out", type=Path, help="write gpu.json and gpu.md to this folder")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.only or ()) - {*FULL, *CONTESTANTS}:
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}")
    if options.quick:
        options.seconds = 0.0
    return options


def main() -> None:
    """Run all, print the table, and exit with 1 if there is no card to measure."""
    options = _options()
    bench = TINY if options.quick else FULL
    if options.child:
        if options.child == ["card"]:
            print(json.dumps(_card(options.quick)))
            return
        name, who = options.child
        print(json.dumps(_measured(CONTESTANTS[who][0], *bench[name], CONTESTANTS[who][1],
                                   options.seconds)))  # fmt: skip
        return
    end = time.monotonic() + 60 * options.minutes
    card = _child(["card"], options)
    if isinstance(card, str):
        sys.exit(f"nothing was measured: {card}")
    report: dict[str, Any] = {"card": card, "versions": _versions(), "steps": {}}
    left_out: dict[str, str] = {}
    only = set(options.only or ())
    for name in [n for n in bench if n in only or not only & {*bench}]:
        work = work_of(*bench[name])
        found: dict[str, Any] = {}
        for who in [c for c in CONTESTANTS if c in only or not only & {*CONTESTANTS}]:
            if not _takes_part(who, bench[name][0]):
                continue
            late = time.monotonic() > end
            result = "the time was up" if late else _child([name, who], options)
            if isinstance(result, str):
                left_out[f"{name}, {who}"] = result
            else:
                found[who] = result
        floor = work.floor(card["flops"], card["bandwidth"])
        report["steps"][name] = {**work._asdict(), "floor": floor, "found": found}
        print(f"{name}: done", file=sys.stderr, flush=True)
    report["left out"] = left_out
    print(table(report))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
        (options.out / "gpu.md").write_text(table(report))


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
