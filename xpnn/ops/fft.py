"""Fourier transforms of the standard, differentiable."""

from __future__ import annotations

from typing import Any

from xpnn import backend
from xpnn.autograd.tensor import Tensor
from xpnn.ops._lift import lift
from xpnn.ops.creation import _new
from xpnn.primitives import fft as _f

__all__ = ["fftfreq", "rfftfreq", *_f.__all__]

globals().update({name: lift(getattr(_f, name)) for name in _f.__all__})


def fftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """Frequencies of the samples of a transform of length ``n`` at spacing ``d``."""
    return _frequencies(n, d, dtype, device, [*range((n + 1) // 2), *range(-(n // 2), 0)])


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """Frequencies of the samples of a real transform of length ``n`` at spacing ``d``."""
    return _frequencies(n, d, dtype, device, list(range(n // 2 + 1)))


def _frequencies(n: int, d: float, dtype: Any, device: Any, indices: list[int]) -> Tensor:
    dtype = backend.get_dtype() if dtype is None else dtype
    return _new("asarray", [i / (n * d) for i in indices], dtype=dtype, device=device)
