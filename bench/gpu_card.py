"""What a card does: products a second in each precision, and bytes a second in a copy.

Every library that multiplies measures it for itself; the best is what floors are reckoned with.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from gpu_libraries import Clock, set_precision

__all__ = ["best_of", "facts", "rates"]

_GROUP = 5  # products between two events, so that the host is ahead of the card
_PRODUCT, _COPY = 8192, 250_000_000  # rows, and elements


def facts() -> dict[str, Any]:
    """Return name and versions, as CuPy and xpnn see them."""
    from xpnn.kernels import cudnn

    cupy = importlib.import_module("cupy")
    runtime = cupy.cuda.runtime
    name = runtime.getDeviceProperties(runtime.getDevice())["name"]
    return {
        "name": name.decode() if isinstance(name, bytes) else name,
        "driver": _text(runtime.driverGetVersion()),
        "runtime": _text(runtime.runtimeGetVersion()),
        "cupy": cupy.__version__,
        "cudnn": cudnn.status(),
    }


def _text(version: int) -> str:
    """Return a version of CUDA, 13020, as it is written, 13.2."""
    return f"{version // 1000}.{version % 1000 // 10}"


def rates(library: str, clock: Clock, quick: bool) -> dict[str, Any]:
    """Return operations a second in a product, by precision, and bytes a second in a copy."""
    n, m = (16, 1000) if quick else (_PRODUCT, _COPY)
    multiplied, copied = (_of_torch if library == "torch" else _of_xpnn)(n, m)

    def best(f: Callable[[], Any]) -> float:
        f()
        found = []
        for _ in range(2 if quick else 5):
            stop = clock()
            for _ in range(_GROUP):
                f()
            found.append(stop() / _GROUP)
        return max(min(found), 1e-9)

    flops = {}
    for precision in ("float32", "tf32", "bfloat16"):
        if library == "torch" or precision != "bfloat16" or importlib.util.find_spec("ml_dtypes"):
            set_precision(library, precision)
            flops[precision] = 2 * n**3 / best(multiplied(precision))
    return {"flops": flops, "bandwidth": 2 * 4 * m / best(copied)}


Prepared = tuple[Callable[[str], Callable[[], Any]], Callable[[], Any]]


def _of_xpnn(n: int, m: int) -> Prepared:
    import xpnn
    from xpnn import ops

    x, xp = ops.zeros(m).data, xpnn.get_device().xp

    def multiplied(precision: str) -> Callable[[], Any]:
        kind = ops.bfloat16 if precision == "bfloat16" else ops.float32
        a = ops.astype(xpnn.get_rng().normal((n, n)), kind)
        return lambda: ops.matmul(a, a)

    return multiplied, lambda: xp.asarray(x, copy=True)


def _of_torch(n: int, m: int) -> Prepared:
    import torch

    x = torch.zeros(m)

    def multiplied(precision: str) -> Callable[[], Any]:
        a = torch.randn(n, n).to(torch.bfloat16 if precision == "bfloat16" else torch.float32)
        return lambda: a @ a

    return multiplied, lambda: x.clone()


def best_of(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the best rates of several libraries, in precisions that xpnn has here, and whose."""
    flops = {p: max(f["flops"].get(p, 0.0) for f in found.values()) for p in found["xpnn"]["flops"]}
    bandwidth = max(f["bandwidth"] for f in found.values())
    return {"flops": flops, "bandwidth": bandwidth, "of": found}
