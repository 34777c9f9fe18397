"""The random stream on the host beside NumPy's Philox, and dropout masks beside uniform numbers.

Uniform numbers may take 1.5 times as long as NumPy's, of whose bits they are; masks, which compare
bits, at most 0.4 times as long as uniform numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from contest import Contestant, alone_and_fast, main

Draw = Callable[..., Any]


def _xpnn(draw: Draw, shape: Any) -> Any:
    from xpnn.random import Stream

    return partial(draw, Stream(0), shape)


def _numpy(draw: Draw, shape: Any) -> Any:
    import numpy as np

    return partial(draw, np.random.Generator(np.random.Philox(key=0)), shape)


def _torch(draw: Draw, shape: Any) -> Any:
    import torch

    torch.manual_seed(0)
    return partial(draw, torch, shape)


UNIFORM: dict[str, tuple[Any, Draw]] = {
    "numpy": (_numpy, lambda rng, shape: rng.random(shape, dtype="float32")),
    "torch": (_torch, lambda torch, shape: torch.rand(shape)),
}
NORMAL: dict[str, tuple[Any, Draw]] = {
    "numpy": (_numpy, lambda rng, shape: rng.standard_normal(shape, dtype="float32")),
    "torch": (_torch, lambda torch, shape: torch.randn(shape)),
}
PERMUTATION: dict[str, tuple[Any, Draw]] = {
    "numpy": (_numpy, lambda rng, n: rng.permutation(n)),
    "torch": (_torch, lambda torch, n: torch.randperm(n)),
}


def uniform(stream: Any, shape: Any) -> Any:
    return stream.uniform(shape, dtype="float32")


MASK: dict[str, tuple[Any, Draw]] = {
    "uniform": (_xpnn, uniform),
    "numpy": (_numpy, lambda rng, shape: rng.random(shape, dtype="float32") < 0.2),
    "torch": (_torch, lambda torch, shape: torch.empty(shape).bernoulli_(0.2)),
}
ROWS: dict[str, tuple[Draw, dict[str, tuple[Any, Draw]]]] = {
    "uniform": (uniform, UNIFORM),
    "normal": (lambda stream, shape: stream.normal(shape, dtype="float32"), NORMAL),
    "bernoulli": (lambda stream, shape: stream.bernoulli(0.2, shape), MASK),
    "permutation": (lambda stream, n: stream.permutation(n), PERMUTATION),
}
SIZES: dict[str, dict[str, Any]] = {
    "uniform": {"4 M": 4 * 2**20, "32 x 32": (32, 32)},
    "normal": {"4 M": 4 * 2**20},
    "bernoulli": {"4 M": 4 * 2**20, "500 x 500": (500, 500), "32 x 32": (32, 32)},
    "permutation": {"60 k": 60_000},
}


def contestants(row: str, shape: Any) -> dict[str, Contestant]:
    """Return the ways to draw some numbers."""
    draw, peers = ROWS[row]
    others = {name: Contestant(partial(how, f, shape)) for name, (how, f) in peers.items()}
    return alone_and_fast(partial(_xpnn, draw, shape)) | others


FULL = {
    f"{row}, {size}": contestants(row, shape)
    for row, sizes in SIZES.items()
    for size, shape in sizes.items()
}
TINY = {f"{row}, {size}": contestants(row, 8) for row, sizes in SIZES.items() for size in sizes}

if __name__ == "__main__":
    main(__doc__, FULL, tiny=TINY, baseline="numpy", seconds=0.5)
