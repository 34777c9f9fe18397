"""The networks of the benches, once a library, from the same weights and data.

``problems`` makes weights and data; ``in_xpnn``, ``in_torch``, ``in_jax``, ``in_thinc`` and
``in_autograd`` have a function a network that returns a training step; ``floors`` has the products
alone. A step returns the loss, or, of a layer alone, its output and the gradient of its input:
``tests/test_bench.py`` holds the libraries to the same numbers.

thinc has the perceptrons alone, HIPS autograd these and the LSTM: neither has convolutions in
anything faster than a loop, and thinc's LSTM takes its sequences and its weights in another form.
``torch.compile`` leaves PyTorch's recurrent layers as they are, so there it is left out.

Nothing is imported here: see ``contest``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

from contest import Contestant, alone_and_fast

__all__ = ["contestants"]

ADAM = {"torch, fused Adam": ("torch", {"fused": True})}
COMPILED = {"torch, compiled": ("torch", {"compiled": True})}
LAST = {"torch, channels last": ("torch", {"channels_last": True})}
JAX = {"jax": ("jax", {})}
THINC, AUTOGRAD = {"thinc": ("thinc", {})}, {"autograd": ("autograd", {})}
PRODUCTS, BYTES = {"products alone": ("floors", {})}, {"bytes alone": ("floors", {})}

PEERS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "mlp": ADAM | COMPILED | JAX | THINC | AUTOGRAD | PRODUCTS,
    "lenet5": ADAM | LAST | COMPILED | JAX | PRODUCTS,
    "conv_stack": ADAM | LAST | COMPILED | JAX | PRODUCTS,
    "conv3x3": LAST | COMPILED | JAX | PRODUCTS,
    "rnn": ADAM | JAX | PRODUCTS,
    "gru": ADAM | JAX | PRODUCTS,
    "lstm": ADAM | JAX | AUTOGRAD | PRODUCTS,
    "transformer": ADAM | COMPILED | JAX | PRODUCTS,
    "resnet": ADAM | LAST | COMPILED | JAX | PRODUCTS,
    "gpt": ADAM | COMPILED | JAX | PRODUCTS,
    "dense": COMPILED | JAX | PRODUCTS,
    "embedding": ADAM | COMPILED | JAX | BYTES,
}


def contestants(network: str, **sizes: Any) -> dict[str, Contestant]:
    """Return a training step of a network in every library that can express it."""
    found = alone_and_fast(partial(step, "xpnn", network, sizes))
    found["torch"] = Contestant(partial(step, "torch", network, sizes))
    for name, (library, options) in PEERS[network].items():
        found[name] = Contestant(partial(step, library, network, sizes, **options))
    return found


def step(library: str, network: str, sizes: dict[str, Any], **options: Any) -> Callable[[], Any]:
    """Prepare a training step of a network in a library."""
    problems = importlib.import_module("networks.problems")
    name = library if library == "floors" else f"in_{library}"
    module = importlib.import_module(f"networks.{name}")
    return getattr(module, network)(getattr(problems, network)(**sizes), **options)
