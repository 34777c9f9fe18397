"""Time what the tape costs: single operations on tiny arrays, and an unfused small network.

Run from the repository's root, where xpnn can be imported::

    python bench/tape_overhead.py          # prints two tables
    python bench/tape_overhead.py --save   # writes bench/results/tape_overhead.json as well

*Operations*: a chain of 100 products, sums and hyperbolic tangents of 4 x 4 float32 matrices; the
figure is one operation's share. *Network*: value and gradients of the cross-entropy of a
10-32-32-10 network with a batch of 32, written with operations of the standard alone, by hand in
NumPy, and in PyTorch. Each contestant runs in a process of its own, in turn, for several rounds;
the figure is the median over rounds of the median over calls. One thread.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
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

RESULTS = Path(__file__).parent / "results" / "tape_overhead.json"
PACKAGES = ("numpy", "torch")
LENGTH = 100  # operations in the chain
SIZES, BATCH = (10, 32, 32, 10), 32
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Call = Callable[[], Any]


# ------------------------------------------------------------------------- single operations


def matrices() -> Any:
    """Return the start of the chain, a factor, and a summand: 4 x 4, float32."""
    import numpy as np

    rng = np.random.default_rng(0)
    return [rng.uniform(0.5, 1.0, (4, 4)).astype(np.float32) for _ in range(3)]


def chain(tanh: Callable[[Any], Any], x: Any, w: Any, b: Any) -> Any:
    """Return the result of 100 operations: 34 products, 33 sums, 33 hyperbolic tangents."""
    for _ in range(LENGTH // 3):
        x = tanh(x * w + b)
    return x * w


def numpy_forward() -> Call:
    """The chain in NumPy."""
    import numpy as np

    x, w, b = matrices()
    return lambda: chain(np.tanh, x, w, b)


def numpy_backward() -> Call:
    """The chain and its gradient for x, by hand in NumPy."""
    import numpy as np

    x, w, b = matrices()
    ones = np.ones_like(x)

    def call() -> Any:
        y, outputs = x, []
        for _ in range(LENGTH // 3):
            y = np.tanh(y * w + b)
            outputs.append(y)
        g = ones * w
        for y in reversed(outputs):
            g = g * (1 - y * y) * w
        return g

    return call


def raw_forward() -> Call:
    """The chain through the namespace of xpnn, on raw arrays."""
    from xpnn import ops

    x, w, b = matrices()

    def call() -> Any:
        y = x
        for _ in range(LENGTH // 3):
            y = ops.tanh(ops.add(ops.multiply(y, w), b))
        return ops.multiply(y, w)

    return call


def tensor_forward() -> Call:
    """The chain on Tensors that are constants."""
    from xpnn import Tensor, ops

    x, w, b = map(Tensor, matrices())
    return lambda: chain(ops.tanh, x, w, b)


def taped_forward() -> Call:
    """The chain on a variable: recorded."""
    from xpnn import Tensor, ops

    x, w, b = matrices()
    variable = Tensor(x, requires_grad=True)
    return lambda: chain(ops.tanh, variable, w, b)


def taped_backward() -> Call:
    """The chain on a variable, and backward."""
    import numpy as np

    from xpnn import Tensor, ops

    x, w, b = matrices()
    variable, ones = Tensor(x, requires_grad=True), np.ones_like(x)

    def call() -> Any:
        variable.grad = None
        chain(ops.tanh, variable, w, b).backward(ones)

    return call


def torch_chain(*, recorded: bool, backward: bool) -> Call:
    """The chain in PyTorch."""
    import torch

    torch.set_num_threads(1)
    x, w, b = map(torch.from_numpy, matrices())
    ones = torch.ones_like(x)
    x.requires_grad_(recorded)

    def call() -> Any:
        x.grad = None
        y = chain(torch.tanh, x, w, b)
        if backward:
            y.backward(ones)

    return call


OPERATIONS: dict[str, Callable[[], Call]] = {
    "NumPy, forward": numpy_forward,
    "xpnn.ops on raw arrays": raw_forward,
    "xpnn, constants": tensor_forward,
    "xpnn, recorded": taped_forward,
    "PyTorch, constants": lambda: torch_chain(recorded=False, backward=False),
    "PyTorch, recorded": lambda: torch_chain(recorded=True, backward=False),
    "NumPy by hand, and gradient": numpy_backward,
    "xpnn, and gradient": taped_backward,
    "PyTorch, and gradient": lambda: torch_chain(recorded=True, backward=True),
}

# ------------------------------------------------------------------------------- a network


def network() -> Any:
    """Return inputs, one-hot labels, and a list of weights and biases in turn; float32."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, SIZES[0]), dtype=np.float32)
    labels = np.eye(SIZES[-1], dtype=np.float32)[rng.integers(0, SIZES[-1], BATCH)]
    params = []
    for n_in, n_out in itertools.pairwise(SIZES):
        weight = rng.standard_normal((n_in, n_out), dtype=np.float32)
        params += [weight * np.float32((2 / n_in) ** 0.5), np.zeros(n_out, dtype=np.float32)]
    return x, labels, params


def numpy_network() -> Call:
    """The loss and its gradients by hand in NumPy."""
    import numpy as np

    x, labels, (w1, b1, w2, b2, w3, b3) = network()

    def call() -> Any:
        h1 = np.maximum(x @ w1 + b1, 0)
        h2 = np.maximum(h1 @ w2 + b2, 0)
        z = h2 @ w3 + b3
        z = z - np.max(z, axis=1, keepdims=True)
        e = np.exp(z)
        total = np.sum(e, axis=1, keepdims=True)
        loss = -np.sum((z - np.log(total)) * labels) / BATCH
        dz = (e / total - labels) / BATCH
        d2 = (dz @ w3.T) * (h2 > 0)
        d1 = (d2 @ w2.T) * (h1 > 0)
        gradients = [x.T @ d1, d1.sum(0), h1.T @ d2, d2.sum(0), h2.T @ dz, dz.sum(0)]
        return loss, gradients

    return call


def xpnn_network() -> Call:
    """The loss and its gradients with xpnn, in operations of the standard."""
    from xpnn import Tensor, ops

    x, labels, arrays = network()
    params = [Tensor(p, requires_grad=True) for p in arrays]
    w1, b1, w2, b2, w3, b3 = params

    def call() -> Any:
        for p in params:
            p.grad = None
        h1 = ops.maximum(x @ w1 + b1, 0.0)
        h2 = ops.maximum(h1 @ w2 + b2, 0.0)
        z = h2 @ w3 + b3
        z = z - ops.max(z.detach(), axis=1, keepdims=True)
        total = ops.sum(ops.exp(z), axis=1, keepdims=True)
        loss = -ops.sum((z - ops.log(total)) * labels) / BATCH
        loss.backward()
        return loss, [p.grad for p in params]

    return call


def torch_network() -> Call:
    """The loss and its gradients in PyTorch, with the same operations."""
    import torch

    torch.set_num_threads(1)
    x, labels, arrays = network()
    x, labels = torch.from_numpy(x), torch.from_numpy(labels)
    params = [torch.from_numpy(p).requires_grad_() for p in arrays]
    w1, b1, w2, b2, w3, b3 = params

    def call() -> Any:
        for p in params:
            p.grad = None
        h1 = torch.relu(x @ w1 + b1)
        h2 = torch.relu(h1 @ w2 + b2)
        z = h2 @ w3 + b3
        z = z - torch.amax(z.detach(), dim=1, keepdim=True)
        total = torch.sum(torch.exp(z), dim=1, keepdim=True)
        loss = -torch.sum((z - torch.log(total)) * labels) / BATCH
        loss.backward()
        return loss, [p.grad for p in params]

    return call


NETWORKS: dict[str, Callable[[], Call]] = {
    "NumPy by hand": numpy_network,
    "xpnn": xpnn_network,
    "PyTorch": torch_network,
}

# ------------------------------------------------------------------------------- measuring


def child(prepare: Callable[[], Call], seconds: float) -> None:
    """Print the median seconds of a call, after a warm-up; exit with 3 if a library is missing."""
    try:
        call = prepare()
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        print(error, file=sys.stderr)
        sys.exit(3)
    end = time.perf_counter() + seconds / 3
    while time.perf_counter() < end:
        call()
    laps = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(laps) < 5:
        start = time.perf_counter()
        call()
        laps.append(time.perf_counter() - start)
    print(statistics.median(laps))


def measure(names: list[str], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return the seconds of every contestant in every round, each in a process of its own."""
    times: dict[str, list[float]] = {}
    missing = set()
    environment = dict(os.environ) | dict.fromkeys(THREADS, "1")
    for _ in range(rounds):
        for name in names:
            if name in missing:
                continue
            command = [sys.executable, __file__, "--child", name, "--seconds", str(seconds)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode == 3:
                print(f"{name}: left out, {done.stderr.strip()}")
                missing.add(name)
            elif done.returncode:
                sys.exit(f"{name} failed:\n{done.stderr}")
            else:
                times.setdefault(name, []).append(float(done.stdout))
    return times


def summary(times: dict[str, list[float]], names: list[str], per: int = 1) -> dict[str, Any]:
    """Return the median and the range of some contestants, in microseconds."""
    rows = {}
    for name in (n for n in names if n in times):
        scaled = [1e6 * t / per for t in times[name]]
        rows[name] = {
            "median": statistics.median(scaled),
            "lowest": min(scaled),
            "highest": max(scaled),
        }
    return rows


def show(title: str, rows: dict[str, Any]) -> None:
    """Print a table, with the ratio of each row to the first."""
    first = next(iter(rows.values()))["median"]
    print(f"\n{title:32} {'median us':>10} {'range':>19} {'ratio':>8}")
    for name, row in rows.items():
        spread = f"{row['lowest']:.2f} - {row['highest']:.2f}"
        print(f"{name:32} {row['median']:10.2f} {spread:>19} {row['median'] / first:8.2f}")


def versions() -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Measure, print, and save if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.6, help="of a contestant in a round")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    contestants = {f"operation: {name}": prepare for name, prepare in OPERATIONS.items()}
    contestants |= {f"network: {name}": prepare for name, prepare in NETWORKS.items()}
    if options.child:
        child(contestants[options.child], options.seconds)
        return
    times = measure(list(contestants), options.rounds, options.seconds)
    parts = {
        part: {
            name.removeprefix(f"{part}: "): row
            for name, row in summary(
                times, [n for n in contestants if n.startswith(part)], per
            ).items()
        }
        for part, per in (("operation", LENGTH), ("network", 1))
    }
    report = {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, 1 thread",
        "versions": versions(),
        "rounds": options.rounds,
        "microseconds": parts,
    }
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    print(f"Python {report['python']}, {packages}; {report['machine']}")
    show("one operation, 4 x 4", parts["operation"])
    show("network 10-32-32-10, batch 32", parts["network"])
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
