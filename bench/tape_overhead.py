"""What the tape costs: single operations on tiny arrays, and an unfused small network.

*Operations*: a chain of 100 products, sums and hyperbolic tangents of 4 x 4 float32 matrices; one
operation has a hundredth of the figure. *Network*: value and gradients of the cross-entropy of a
10-32-32-10 network with a batch of 32, written with operations of the standard alone, by hand in
NumPy, and in PyTorch. One thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from contest import main

LENGTH = 100  # operations in the chain
SIZES, BATCH = (10, 32, 32, 10), 32

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
    "numpy": numpy_forward,
    "xpnn.ops on raw arrays": raw_forward,
    "xpnn, constants": tensor_forward,
    "xpnn, recorded": taped_forward,
    "torch, constants": partial(torch_chain, recorded=False, backward=False),
    "torch, recorded": partial(torch_chain, recorded=True, backward=False),
}
GRADIENTS: dict[str, Callable[[], Call]] = {
    "numpy": numpy_backward,
    "xpnn": taped_backward,
    "torch": partial(torch_chain, recorded=True, backward=True),
}

# ------------------------------------------------------------------------------- a network


def network() -> Any:
    """Return inputs, one-hot labels, and a list of weights and biases in turn; float32."""
    import numpy as np
    from networks.problems import mlp

    x, labels, weights, _ = mlp(batch=BATCH, sizes=SIZES)
    return x, np.eye(SIZES[-1], dtype=np.float32)[labels], weights


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
    "numpy": numpy_network,
    "xpnn": xpnn_network,
    "torch": torch_network,
}

FULL = {
    "100 operations, 4 x 4": OPERATIONS,
    "100 operations and gradient, 4 x 4": GRADIENTS,
    "10-32-32-10 of single operations, batch 32": NETWORKS,
}
TINY = FULL  # they are

if __name__ == "__main__":
    main(__doc__, FULL, tiny=TINY, baseline="numpy", rounds=7, seconds=0.6, threads=1)
