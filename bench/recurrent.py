"""Time a step of recurrent layers, forward and backward, against torch on two threads.

N = 32 sequences of T = 100 steps, D = H = 128, float32: ``python bench/recurrent.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import xpnn
from xpnn import layers

N, T, D, H = 32, 100, 128, 128
ROUNDS = 10


def ours(kind: str, x: Any, dy: Any) -> Callable[[], Any]:
    """Return a step of xpnn: states, gradients of input and weights."""
    layer = getattr(layers, kind)(H, D)

    def step() -> Any:
        layer.zero_grad()
        layer(x)
        return layer.backward(dy)

    return step


def theirs(kind: str, x: Any, dy: Any) -> Callable[[], Any]:
    """Return the same step of torch."""
    import torch

    torch.set_num_threads(2)
    layer = getattr(torch.nn, kind)(D, H, batch_first=True)
    t, g = torch.tensor(x, requires_grad=True), torch.tensor(dy)

    def step() -> Any:
        layer.zero_grad()
        t.grad = None
        layer(t)[0].backward(g)
        return t.grad

    return step


def main() -> None:
    """Print the median and the best of many rounds, taken in turns."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((N, T, n)).astype(np.float32) for n in (D, H))
    xpnn.set_seed(0)
    for kind in ("RNN", "GRU", "LSTM"):
        steps = {"xpnn": ours(kind, x, dy), "torch": theirs(kind, x, dy)}
        times: dict[str, list[float]] = {name: [] for name in steps}
        for round_ in range(ROUNDS + 3):
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                if round_ >= 3:
                    times[name].append(1e3 * (time.perf_counter() - start))
        text = ", ".join(
            f"{name} {np.median(ms):.1f} ms (best {min(ms):.1f})" for name, ms in times.items()
        )
        print(f"{kind}: {text}")


if __name__ == "__main__":
    main()
