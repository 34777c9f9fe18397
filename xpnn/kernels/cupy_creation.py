"""Arrays that come to CuPy by DLPack, and ``linspace`` between complex ends.

CuPy's ``from_dlpack`` takes neither a device, nor an array of the host, nor ``copy=True``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn import backend
from xpnn.kernels.cupy_launch import cupy

__all__ = ["from_dlpack", "linspace"]

Array = Any
_OF_CUDA = (2, 13)  # kDLCUDA and kDLCUDAManaged


def from_dlpack(x: Any, target: Any, copy: bool | None, told: bool) -> Array:
    """Return an array that speaks DLPack as one of CuPy.

    It comes to the ``target`` if ``told``; if not, it may stay on another GPU.
    """
    if int(x.__dlpack_device__()[0]) not in _OF_CUDA:
        _need_a_copy(copy, "a GPU")
        host = x if isinstance(x, np.ndarray) else np.from_dlpack(x)
        return backend.to_device(host, target)
    found = cupy().from_dlpack(x)
    if told and found.device != target.native:
        _need_a_copy(copy, "another GPU")
        return backend.to_device(found, target)
    if not copy:
        return found
    with found.device:
        return found.copy()


def _need_a_copy(copy: bool | None, where: str) -> None:
    if copy is False:
        msg = f"from_dlpack(copy=False): a copy is needed to bring an array to {where}."
        raise BufferError(msg)


def linspace(
    start: complex, stop: complex, num: int, *, dtype: Any, device: Any, endpoint: bool
) -> Array:
    """Return evenly spaced numbers, also between complex ends, of which CuPy's makes floats."""
    xp = backend.as_device(device).xp
    kinds = (complex, np.complexfloating)
    if not (isinstance(start, kinds) or isinstance(stop, kinds)):
        return xp.linspace(start, stop, num, dtype=dtype, device=device, endpoint=endpoint)
    if num < 0:
        msg = f"linspace: 'num' must not be negative, got {num}."
        raise ValueError(msg)
    steps = num - 1 if endpoint else num
    places = xp.arange(num, dtype=xp.complex128, device=device)
    y = places * ((stop - start) / max(steps, 1)) + start
    if endpoint and num > 1:
        y[-1] = stop
    return y.astype(dtype, copy=False)
