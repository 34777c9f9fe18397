"""Predictions for 10,000 examples in batches of 256: the perceptron and LeNet-5, without gradients.

xpnn by ``model.predict``, which also cuts the batches and joins the outputs, as the others do here
by hand.
"""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

from contest import Contestant, alone_and_fast, main

BATCH = 256


def _problem(network: str, sizes: dict[str, Any]) -> Any:
    return getattr(importlib.import_module("networks.problems"), network)(**sizes)


def _xpnn(network: str, sizes: dict[str, Any]) -> Any:
    from networks import in_xpnn

    problem = _problem(network, sizes)
    model = getattr(in_xpnn, f"{network}_model")(problem)
    return lambda: model.predict(problem.x, batch_size=BATCH)


def _torch(network: str, sizes: dict[str, Any], compiled: bool = False) -> Any:
    import torch
    from networks import in_torch

    problem = _problem(network, sizes)
    model = getattr(in_torch, f"{network}_model")(problem).eval()
    model = torch.compile(model) if compiled else model
    x = torch.from_numpy(problem.x)
    x = x.permute(0, 3, 1, 2).contiguous() if x.ndim == 4 else x

    def call() -> Any:
        with torch.inference_mode():
            return torch.cat([model(batch) for batch in x.split(BATCH)])

    return call


def _jax(network: str, sizes: dict[str, Any]) -> Any:
    import jax
    import jax.numpy as jnp
    from networks import in_jax

    problem = _problem(network, sizes)
    logits = jax.jit(getattr(in_jax, f"{network}_logits"))
    weights, x = [jnp.asarray(w) for w in problem.weights], problem.x
    starts = range(0, len(x), BATCH)
    return lambda: jax.block_until_ready(
        jnp.concatenate([logits(weights, x[i : i + BATCH]) for i in starts])
    )


def contestants(network: str, **sizes: Any) -> dict[str, Contestant]:
    """Return predictions in every library."""
    return alone_and_fast(partial(_xpnn, network, sizes)) | {
        "torch": Contestant(partial(_torch, network, sizes)),
        "torch, compiled": Contestant(partial(_torch, network, sizes, compiled=True)),
        "jax": Contestant(partial(_jax, network, sizes)),
    }


FULL = {
    "784-500-500-10": contestants("mlp", batch=10_000),
    "LeNet-5": contestants("lenet5", batch=10_000),
}
TINY = {
    "784-500-500-10": contestants("mlp", batch=300, sizes=(4, 5, 3)),
    "LeNet-5": contestants("lenet5", batch=300, side=16, filters=(1, 2)),
}

if __name__ == "__main__":
    main(__doc__, FULL, tiny=TINY)
