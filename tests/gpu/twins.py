"""A kernel for CuPy beside its standard twin, which computes the same on the host."""

from __future__ import annotations

import os
from typing import Any

import array_api_compat.numpy as host
import numpy as np
import pytest
from helpers import usable

from xpnn import backend
from xpnn.backend import as_device

__all__ = ["DTYPES", "TOLERANCE", "counted", "draw", "on_cuda", "same", "values"]

TOLERANCE = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 2e-5, "float64": 1e-11}
DTYPES = [*TOLERANCE]
try:
    import ml_dtypes  # noqa: F401
except ImportError:
    DTYPES.remove("bfloat16")


def draw(rng: Any, *shape: int, dtype: str = "float64") -> Any:
    """Return normal numbers that ``dtype`` holds exactly."""
    return rng.standard_normal(shape).astype(backend._host_dtype(dtype) if dtype != "bfloat16"
                                             else np.dtype("bfloat16"))  # fmt: skip


def on_cuda(x: Any) -> Any:
    """Return arrays of the host, and what they are nested in, on the GPU."""
    usable("cuda")
    if isinstance(x, tuple):
        return tuple(map(on_cuda, x))
    return backend.to_device(x, "cuda:0") if isinstance(x, np.ndarray) else x


def values(x: Any) -> Any:
    """Return arrays of the GPU, and what they are nested in, as arrays of the host."""
    if isinstance(x, (tuple, list)):
        return tuple(map(values, x))
    return x if x is None else backend.to_numpy(x)


def _results(version: Any, rules: Any, xp: Any, xs: Any, static: Any, g: Any, needs: Any) -> Any:
    y, res = version.forward(xp, *xs, **static), None
    if version.residual:
        y, res = y
    g = g(y) if callable(g) else g
    if version.joint is not None:
        grads = version.joint(xp, g, needs, *version.joint.take(y, res, xs), **static)
    else:
        grads = [
            rule(xp, g, *rule.take(y, res, xs), **static) if need and rule else None
            for rule, need in zip(rules, needs, strict=True)
        ]
    return [y, *(grad if need else None for grad, need in zip(grads, needs, strict=True))]


def _widened(x: Any) -> Any:
    if isinstance(x, tuple):
        return tuple(map(_widened, x))
    half = isinstance(x, np.ndarray) and x.dtype.name in ("float16", "bfloat16")
    return x.astype(np.float32) if half else x


def same(
    primitive: Any,
    xs: tuple[Any, ...],
    g: Any,
    *,
    needs: Any = None,
    tolerance: float | None = None,
    **static: Any,
) -> None:
    """Assert that the kernel gives what the standard version gives, and changes no argument.

    ``xs`` and ``g`` are arrays of the host; ``needs`` says which gradients to compare, by default
    those of arrays of floating-point numbers.
    """
    xp = as_device(usable("cuda")).xp
    static = {**primitive.defaults, **static}
    kernel = primitive.on(xp)
    assert kernel is not primitive, f"{primitive.name} has no kernel"
    given, gradient = on_cuda(tuple(xs)), on_cuda(g)
    assert kernel.accepts is None or kernel.accepts(*given, **static)
    if needs is None:
        needs = [isinstance(x, np.ndarray) and x.dtype.kind not in "iub" for x in xs]
    dtype = next(
        x.dtype.name for x in xs if isinstance(x, np.ndarray) and x.dtype.kind not in "iub"
    )
    bound = tolerance or TOLERANCE[dtype]
    expected = _results(
        primitive, primitive.rules, host, _widened(tuple(xs)), static, _widened(g), needs
    )
    rules = kernel.rules or primitive.rules
    found = values(_results(kernel, rules, xp, given, static, gradient, needs))
    again = values(_results(kernel, rules, xp, given, static, gradient, needs))
    for name, a, b, c in zip(("y", *primitive.arrays), found, expected, again, strict=False):
        _compare(name, a, b, c, dtype, bound)
    for before, after in zip(xs, given, strict=True):
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(values(after), before)


def _compare(name: str, a: Any, b: Any, again: Any, dtype: str, bound: float) -> None:
    if isinstance(b, tuple):
        for i, parts in enumerate(zip(a, b, again, strict=True)):
            _compare(f"{name}[{i}]", *parts, dtype, bound)
        return
    assert (a is None) == (b is None), name
    if a is None:
        return
    assert a.shape == b.shape, name
    half = dtype in ("float16", "bfloat16") and b.dtype == np.float32
    assert a.dtype.name in ((dtype, "float32") if half else (b.dtype.name,)), name
    a, b = a.astype(b.dtype), np.asarray(b)
    scale = max(1.0, float(np.max(np.abs(b), initial=0.0)))
    np.testing.assert_allclose(a, b, rtol=bound, atol=bound * scale, err_msg=name)
    np.testing.assert_array_equal(a, again.astype(b.dtype), err_msg=f"{name}, a second time")


gpu = pytest.mark.gpu
counted = pytest.mark.skipif(
    not os.environ.get("XPNN_EMULATE_CUDA"), reason="only the emulated GPU counts"
)
