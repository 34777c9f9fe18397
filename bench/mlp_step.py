"""One training step of the 784-500-500-10 network, batch 500, Adam, float32.

Forward, cross-entropy, backward, update. The floor is the matrix products alone through NumPy's
BLAS.
"""

from __future__ import annotations

import itertools
from typing import Any

from contest import main

SIZES = (784, 500, 500, 10)
BATCH = 500


def _data() -> Any:
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.random((BATCH, SIZES[0]), dtype=np.float32), rng.integers(0, 10, BATCH)


def xpnn_step() -> Any:
    """Prepare xpnn, through its public layers, loss and optimizer."""
    import xpnn
    from xpnn import layers, losses, optim

    x, y = _data()
    model = xpnn.Sequential(
        [layers.Dense(n, activation="relu") for n in SIZES[1:-1]] + [layers.Dense(SIZES[-1])]
    )
    optimizer = optim.Adam(1e-3)

    def step() -> None:
        losses.cross_entropy(model(x), y).backward()
        optimizer.step(model)

    return step


def _torch_step(**options: Any) -> Any:
    import torch
    from torch import nn

    x, y = map(torch.from_numpy, _data())
    parts: list[Any] = []
    for n_in, n_out in itertools.pairwise(SIZES):
        parts += [nn.Linear(n_in, n_out), nn.ReLU()]
    model = nn.Sequential(*parts[:-1])
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, **options)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def torch_step() -> Any:
    """Prepare PyTorch as people write it."""
    return _torch_step()


def torch_fused_step() -> Any:
    """Prepare PyTorch with its fused Adam."""
    return _torch_step(fused=True)


def products() -> Any:
    """Prepare the matrix products alone."""
    import numpy as np

    x, _ = _data()
    rng = np.random.default_rng(0)
    weights = [rng.random(s, dtype=np.float32) for s in itertools.pairwise(SIZES)]
    hidden = [x] + [rng.random((BATCH, n), dtype=np.float32) for n in SIZES[1:]]

    def step() -> None:
        for w, h in zip(weights, hidden, strict=False):
            h @ w
        for i, w in reversed(list(enumerate(weights))):
            hidden[i].T @ hidden[i + 1]
            if i:
                hidden[i + 1] @ w.T

    return step


if __name__ == "__main__":
    main(
        __doc__,
        {
            "xpnn": xpnn_step,
            "torch": torch_step,
            "torch, fused Adam": torch_fused_step,
            "products alone": products,
        },
        baseline="torch",
    )
