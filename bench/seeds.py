"""Layers of numpy-ml 0.1.2 beside xpnn's: forward and backward, on the same arrays in float64.

numpy-ml is looked for where Python looks; ``pip install numpy-ml`` brings it, and needs an old name
of the standard library, which is given back here. Its recurrent layers do not run any more.
"""

from __future__ import annotations

import collections
import collections.abc
import importlib
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from contest import alone_and_fast, main

Shape = tuple[int, ...]

# Layer of numpy-ml and of xpnn with their arguments, and the shape of the input.
LAYERS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any], Shape]] = {
    "dense 784 -> 500, batch 500": (
        *("FullyConnected", {"n_out": 500}),
        *("Dense", {"out_features": 500}),
        (500, 784),
    ),
    "3 x 3 convolution 16 -> 16, 32 x 32, batch 4": (
        *("Conv2D", {"out_ch": 16, "kernel_shape": (3, 3), "pad": "same", "stride": 1}),
        *("Conv2D", {"out_channels": 16, "kernel_size": 3, "padding": "same"}),
        (4, 32, 32, 16),
    ),
    "2 x 2 max pooling, 32 x 32 x 16, batch 8": (
        *("Pool2D", {"kernel_shape": (2, 2), "stride": 2}),
        *("MaxPool2D", {"pool_size": 2}),
        (8, 32, 32, 16),
    ),
    "batch normalization, 32 x 32 x 16, batch 8": (
        *("BatchNorm2D", {}),
        *("BatchNorm", {}),
        (8, 32, 32, 16),
    ),
}


def _arrays(shape: Shape, like: Callable[[Any], Any]) -> Any:
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    return x, rng.standard_normal(like(x).shape)


def xpnn_layer(name: str, options: dict[str, Any], shape: Shape) -> Callable[[], Any]:
    """Prepare a layer of xpnn by its explicit interface, that of numpy-ml."""
    import xpnn

    xpnn.set_dtype("float64")
    layer = getattr(xpnn.layers, name)(**options)
    x, g = _arrays(shape, lambda x: layer(x).data)

    def call() -> Any:
        layer.zero_grad()
        layer(x)
        return layer.backward(g)

    return call


def numpy_ml_layer(name: str, options: dict[str, Any], shape: Shape) -> Callable[[], Any]:
    """Prepare a layer of numpy-ml."""
    collections.Hashable = collections.abc.Hashable  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layers = importlib.import_module("numpy_ml.neural_nets.layers")
    layer = getattr(layers, name)(**options)
    x, g = _arrays(shape, layer.forward)
    layer.flush_gradients()

    def call() -> Any:
        layer.forward(x)
        found = layer.backward(g)
        layer.flush_gradients()
        return found

    return call


def bench(smaller: int = 1) -> dict[str, Any]:
    """Return the contestants by workload."""
    found = {}
    for workload, (theirs, options, ours, own, (n, *rest)) in LAYERS.items():
        shape = (max(n // smaller, 1), *rest)
        found[workload] = {
            **alone_and_fast(partial(xpnn_layer, ours, own, shape)),
            "numpy-ml": partial(numpy_ml_layer, theirs, options, shape),
        }
    return found


FULL = bench()
TINY = bench(smaller=500)

if __name__ == "__main__":
    main(__doc__, FULL, tiny=TINY, baseline="numpy-ml", rounds=3, seconds=0.5)
