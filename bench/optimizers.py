"""A step of every optimizer on 10 million parameters; of two also on a small and a tiny network's.

PyTorch loops over the parameters by default; ``fused`` or, where it has not got that, ``foreach``
are other ways of its to do the same. A step is timed alone: the gradients are there. xpnn's step
uses them up, so that to put them in place is timed with it, one assignment a parameter. The floor
is a pass over the bytes that must be read and written: parameter, gradient and state.
"""

from __future__ import annotations

import importlib
import itertools
from functools import partial
from typing import Any

from contest import Contestant, alone_and_fast, main

Shapes = list[tuple[int, ...]]


def _dense(*sizes: int) -> Shapes:
    return [s for a, b in itertools.pairwise(sizes) for s in ((a, b), (b,))]


SIZES: dict[str, Shapes] = {
    "10 M": [(10_000_000,)],
    "784-500-500-10": _dense(784, 500, 500, 10),
    "10-32-32-10": _dense(10, 32, 32, 10),
}
# Class, its options (PyTorch's as well), arrays of state; None where PyTorch has it not.
OPTIMIZERS: dict[str, tuple[str, dict[str, Any], int]] = {
    "sgd": ("SGD", {}, 0),
    "momentum": ("SGD", {"momentum": 0.9}, 1),
    "adam": ("Adam", {}, 2),
    "amsgrad": ("Adam", {"amsgrad": True}, 3),
    "adamw": ("AdamW", {}, 2),
    "adagrad": ("Adagrad", {}, 1),
    "rmsprop": ("RMSprop", {}, 1),
    "adadelta": ("Adadelta", {}, 2),
    "adamax": ("Adamax", {}, 2),
    "nadam": ("NAdam", {}, 2),
    "radam": ("RAdam", {}, 2),
    "lion": ("Lion", {}, 1),
}
FEW = ("sgd", "adam")  # what small arrays cost is about the same for all
FUSED = ("SGD", "Adam", "AdamW", "Adagrad")  # of PyTorch, which has no Lion


def _arrays(shapes: Shapes) -> tuple[list[Any], list[Any]]:
    """Return parameters and gradients."""
    import numpy as np

    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
    return arrays, [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def xpnn_step(name: str, shapes: Shapes) -> Any:
    """Prepare a step of xpnn."""
    import xpnn
    from xpnn import optim

    cls, options, _ = OPTIMIZERS[name]
    optimizer = getattr(optim, cls)(lr=1e-3, **options)
    arrays, gradients = _arrays(shapes)
    params = [xpnn.Tensor(x, requires_grad=True) for x in arrays]
    del arrays
    grads = [xpnn.Tensor(g) for g in gradients]

    def step() -> None:
        for p, g in zip(params, grads, strict=True):
            p.grad = g
        optimizer.step(params)

    return step


def torch_step(name: str, shapes: Shapes, **how: Any) -> Any:
    """Prepare a step of PyTorch."""
    torch = importlib.import_module("torch")
    cls, options, _ = OPTIMIZERS[name]
    arrays, gradients = _arrays(shapes)
    params = [torch.from_numpy(x).requires_grad_() for x in arrays]
    for p, g in zip(params, gradients, strict=True):
        p.grad = torch.from_numpy(g)
    return getattr(torch.optim, cls)(params, lr=1e-3, **options, **how).step


def bytes_alone(name: str, shapes: Shapes) -> Any:
    """Prepare a pass over the bytes."""
    import numpy as np
    from networks.floors import copies

    numbers = 4 * sum(int(np.prod(shape)) for shape in shapes)
    states = OPTIMIZERS[name][2]
    return copies((2 + states) * numbers, (1 + states) * numbers)


def contestants(name: str, shapes: Shapes) -> dict[str, Contestant]:
    """Return a step of an optimizer in both libraries."""
    found = alone_and_fast(partial(xpnn_step, name, shapes))
    way = "fused" if OPTIMIZERS[name][0] in FUSED else "foreach"
    if name != "lion":
        found["torch"] = Contestant(partial(torch_step, name, shapes))
        found[f"torch, {way}"] = Contestant(partial(torch_step, name, shapes, **{way: True}))
    found["bytes alone"] = Contestant(partial(bytes_alone, name, shapes))
    return found


FULL = {
    f"{size}, {name}": contestants(name, shapes)
    for size, shapes in SIZES.items()
    for name in (OPTIMIZERS if size == "10 M" else FEW)
}
TINY = {name: contestants(name.rpartition(", ")[2], [(3, 2), (2,)]) for name in FULL}

if __name__ == "__main__":
    main(__doc__, FULL, tiny=TINY, rounds=3, seconds=0.6)
