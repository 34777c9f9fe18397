"""Dropout, and softmax with cross-entropy, alone: forward, and the gradient of the input.

The floor is a pass over the bytes that must be read and written, masks of one byte a number
included.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from contest import Contestant, alone_and_fast, main

Shape = tuple[int, int]
P = 0.5  # of dropout


def _draw(what: str, shape: Shape) -> Any:
    """Return inputs, and the gradient of the output or labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, dtype=np.float32)
    if what == "dropout":
        return x, rng.standard_normal(shape, dtype=np.float32)
    return x, rng.integers(0, shape[1], shape[0])


def _xpnn(what: str, shape: Shape) -> Any:
    import xpnn
    from xpnn import functional as F
    from xpnn import losses

    x, target = _draw(what, shape)
    variable = xpnn.Tensor(x, requires_grad=True)

    def call() -> Any:
        variable.grad = None
        if what == "dropout":
            y = F.dropout(variable, P, training=True)
            y.backward(target)
        else:
            y = losses.cross_entropy(variable, target)
            y.backward()
        return y, variable.grad

    return call


def _torch(what: str, shape: Shape, compiled: bool = False) -> Any:
    import torch

    x, target = map(torch.from_numpy, _draw(what, shape))
    x.requires_grad_()
    f = torch.nn.functional.dropout if what == "dropout" else torch.nn.functional.cross_entropy
    f = torch.compile(f) if compiled else f

    def call() -> Any:
        x.grad = None
        if what == "dropout":
            y = f(x, P)
            y.backward(target)
        else:
            y = f(x, target)
            y.backward()
        return y, x.grad

    return call


def _jax(what: str, shape: Shape) -> Any:
    import jax
    import jax.numpy as jnp

    x, target = map(jnp.asarray, _draw(what, shape))

    def dropout(x: Any, key: Any) -> Any:
        return jnp.where(jax.random.bernoulli(key, 1 - P, x.shape), x / (1 - P), 0.0)

    def loss(x: Any) -> Any:
        scores = jax.nn.log_softmax(x)
        return -jnp.mean(jnp.take_along_axis(scores, target[:, None], axis=1))

    @jax.jit
    def both(x: Any, key: Any) -> Any:
        key, used = jax.random.split(key)
        y, pullback = jax.vjp(lambda x: dropout(x, used), x)
        return (y, *pullback(target)), key

    of_loss, key = jax.jit(jax.value_and_grad(loss)), jax.random.key(0)

    def call() -> Any:
        nonlocal key
        if what != "dropout":
            return jax.block_until_ready(of_loss(x))
        found, key = jax.block_until_ready(both(x, key))
        return found

    return call


def _bytes(what: str, shape: Shape) -> Any:
    from networks.floors import copies

    n = shape[0] * shape[1]
    return copies(9 * n, 9 * n) if what == "dropout" else copies(4 * n, 4 * n)


def contestants(what: str, shape: Shape) -> dict[str, Contestant]:
    """Return forward and backward of an operation in every library."""
    return alone_and_fast(partial(_xpnn, what, shape)) | {
        "torch": Contestant(partial(_torch, what, shape)),
        "torch, compiled": Contestant(partial(_torch, what, shape, compiled=True)),
        "jax": Contestant(partial(_jax, what, shape)),
        "bytes alone": Contestant(partial(_bytes, what, shape)),
    }


FULL = {
    "dropout, 500 x 500": contestants("dropout", (500, 500)),
    "dropout, 4096 x 1024": contestants("dropout", (4096, 1024)),
    "cross-entropy, 500 x 10": contestants("cross-entropy", (500, 10)),
    "cross-entropy, 512 x 32,000": contestants("cross-entropy", (512, 32_000)),
}
TINY = {name: contestants(name.partition(",")[0], (4, 3)) for name in FULL}

if __name__ == "__main__":
    main(__doc__, FULL, tiny=TINY)
