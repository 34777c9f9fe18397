"""One epoch on 12,800 images as MNIST's, 784-500-500-10, batch 128: ``fit`` over its bare steps.

``fit`` shuffles, cuts batches, draws its bar, and keeps the history; the bare steps take batches
that lie ready. PyTorch's loader is its DataLoader over tensors, shuffled, without processes; the
"steps" of PyTorch take the same batches as those of xpnn. The images are random numbers: those of
MNIST would take as long.
"""

from __future__ import annotations

import io
import sys
from functools import partial
from typing import Any

from contest import Contestant, alone_and_fast, main

SIZES = (784, 500, 500, 10)


def _problem(examples: int) -> Any:
    from networks.problems import mlp

    return mlp(batch=examples, sizes=SIZES)


class Terminal(io.StringIO):
    """A stream of errors on which a bar is drawn."""

    def isatty(self) -> bool:
        """Return that it is a terminal."""
        return True


def xpnn_fit(examples: int, batch: int) -> Any:
    """Prepare an epoch of fit, with its bar."""
    from networks.in_xpnn import mlp_model

    from xpnn import optim

    problem = _problem(examples)
    model = mlp_model(problem)
    model.compile("cross_entropy", optim.Adam(1e-3))

    def call() -> None:
        stream, sys.stderr = sys.stderr, Terminal()
        try:
            model.fit(problem.x, problem.y, batch_size=batch)
        finally:
            sys.stderr = stream

    return call


def xpnn_steps(examples: int, batch: int) -> Any:
    """Prepare the steps of an epoch."""
    from networks.in_xpnn import mlp_model

    from xpnn import losses, optim

    problem = _problem(examples)
    model, optimizer = mlp_model(problem), optim.Adam(1e-3)
    cuts = [slice(i, i + batch) for i in range(0, examples, batch)]
    batches = [(problem.x[cut], problem.y[cut]) for cut in cuts]

    def call() -> None:
        for x, y in batches:
            losses.cross_entropy(model(x), y).backward()
            optimizer.step(model)

    return call


def torch_epoch(examples: int, batch: int, loader: bool) -> Any:
    """Prepare an epoch of PyTorch, with its loader or with batches that lie ready."""
    import torch
    from networks.in_torch import mlp_model
    from torch.utils.data import DataLoader, TensorDataset

    problem = _problem(examples)
    model = mlp_model(problem)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    data = tuple(map(torch.from_numpy, problem[:2]))
    ready = list(zip(*(part.split(batch) for part in data), strict=True))
    shuffled = DataLoader(TensorDataset(*data), batch_size=batch, shuffle=True)

    def call() -> None:
        for x, y in shuffled if loader else ready:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    return call


def contestants(examples: int, batch: int = 128) -> dict[str, Contestant]:
    """Return an epoch with and without what is about the steps."""
    sizes = {"examples": examples, "batch": batch}
    return (
        alone_and_fast(partial(xpnn_fit, **sizes), "xpnn, fit")
        | alone_and_fast(partial(xpnn_steps, **sizes), "xpnn, bare steps")
        | {
            "torch, DataLoader": Contestant(partial(torch_epoch, **sizes, loader=True)),
            "torch, bare steps": Contestant(partial(torch_epoch, **sizes, loader=False)),
        }
    )


FULL = {"one epoch, batch 128": contestants(12_800)}
TINY = {"one epoch, batch 128": contestants(8, 4)}

if __name__ == "__main__":
    main(__doc__, FULL, tiny=TINY, baseline="torch, DataLoader")
