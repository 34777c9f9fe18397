"""Norms of gradients on a GPU, for clipping: the host waits for none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnn.kernels.cupy_launch import Source, contiguous, cupy, wide
from xpnn.kernels.cupy_tables import Chunks, mirror

__all__ = ["global_factor", "gradient_norm", "sources"]

Array = Any

_norms = Source("norms")
_THREADS = 256
_BLOCKS = 1024  # of one array, at most
_EACH = 2**12  # elements a block, at least


def sources() -> dict[str, str]:
    """Return every CUDA source of this module by name, for the compile check."""
    return _norms.codes()


def gradient_norm(x: Array) -> Array:
    """Return the root of the sum of all squares."""
    x = contiguous(x)
    blocks = max(1, min(-(-x.size // _EACH), _BLOCKS))
    sums = cupy().empty(blocks, wide(x.dtype))
    _norms.launch("squares", x.dtype, blocks, _THREADS, x, x.size, sums)
    return _root(sums, x.dtype, 1.0, 0.0)[1]


def global_factor(
    grads: Sequence[Array],
    bound: float,
    tiny: float,
    workspace: dict[Any, Any],
    times: Array = None,
) -> tuple[Array, Array]:
    """Return ``min(1, bound / (norm + tiny))``, and the norm, of all gradients together.

    With ``times`` it is the norm of their products with it, and the factor is multiplied with it.

    Parameters
    ----------
    grads : sequence of array
        Of one dtype and device.
    bound, tiny : float
    workspace : dict
        Where the tables are kept for the next call.
    times : array, optional
        A 0-d array of float32, or of the dtype in which the gradients are computed.
    """
    grads = [contiguous(g) for g in grads]
    dtype, device = grads[0].dtype, grads[0].device.id
    chunks = Chunks.of(workspace, ("chunks of gradients", device), [g.size for g in grads])
    pointers = mirror(workspace, ("pointers to gradients", device))
    pointers.put(np.asarray([g.data.ptr for g in grads], np.uint64))
    sums = cupy().empty(chunks.count, wide(dtype))
    if times is not None:
        times = times.astype(sums.dtype, copy=False)
    if chunks.count:
        _norms.launch(
            "squares_of_all", dtype, chunks.count, _THREADS,
            pointers.array, chunks.table.array, times, sums,
        )  # fmt: skip
    return _root(sums, dtype, bound, tiny, times)


def _root(
    sums: Array, dtype: Any, bound: float, tiny: float, times: Array = None
) -> tuple[Array, Array]:
    norm, factor = cupy().empty((), sums.dtype), cupy().empty((), sums.dtype)
    numbers = float(bound), float(tiny)  # of an int or a narrow float, CuPy sends other bits
    _norms.launch("root", dtype, 1, _THREADS, sums, sums.size, *numbers, times, norm, factor)
    return factor, norm
