"""CUDA kernels of pooling: each window looks for its pixels, each pixel for its windows.

The largest element of a window leaves its place within the window behind, one byte for windows of
up to 255 elements, so that the gradient needs neither the image nor what was made of it.
"""

from __future__ import annotations

import math
from typing import Any

from xpnn.kernels.cupy_launch import Source, contiguous, cupy, threads_for
from xpnn.kernels.cupy_windows import REAL, Pair, Pairs, divides

__all__ = [
    "avg_pool2d",
    "avg_pool2d_accepts",
    "avg_pool2d_vjp",
    "max_pool2d",
    "max_pool2d_accepts",
    "max_pool2d_vjp",
    "sources",
]

Array = Any
Shape = tuple[int, ...]

_pool = Source("pool")
_SMALL = 256  # elements of a window whose places a byte can name
_BLOCK = 256
_MOST = 65535  # blocks along the second axis of a grid


def sources() -> dict[str, str]:
    """Return every CUDA source of this module by name, for the compile check."""
    return _pool.codes()


def max_pool2d_accepts(
    x: Array, *, pool: Pair, stride: Pair, padding: Pairs, ceil_mode: bool
) -> bool:
    """Whether the shapes fit (if not, the standard version says why) and the dtype is real."""
    if x.ndim != 4 or x.dtype.name not in REAL or x.size == 0 or min(padding[0] + padding[1]) < 0:
        return False
    axes = zip(x.shape[1:3], pool, padding, strict=True)
    return all(n + sum(p) >= k and max(p) < k for n, k, p in axes)


def avg_pool2d_accepts(
    x: Array,
    *,
    pool: Pair,
    stride: Pair,
    padding: Pairs,
    ceil_mode: bool,
    count_include_pad: bool,
    mode: str,
) -> bool:
    """Whether the shapes fit (if not, the standard version says why) and the dtype is real."""
    return max_pool2d_accepts(x, pool=pool, stride=stride, padding=padding, ceil_mode=ceil_mode)


def max_pool2d(
    xp: Any, x: Array, *, pool: Pair, stride: Pair, padding: Pairs, ceil_mode: bool
) -> tuple[Array, Array]:
    x = contiguous(x)
    y = _outputs(x, pool, stride, padding, ceil_mode)
    small = math.prod(pool) <= _SMALL
    places = cupy().empty(y.shape, "uint8" if small else "int32")
    name = "max_pool" if small else "max_pool_large"
    _launch(name, y, (x, y), (places,), x.shape, y.shape, pool, stride, padding)
    return y, places


max_pool2d.residual = True  # type: ignore[attr-defined]


def max_pool2d_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    res: Array,
    x_shape: Shape,
    x_dtype: Any,
    pool: Pair,
    stride: Pair,
    padding: Pairs,
) -> tuple[Array]:
    g, dx = contiguous(g.astype(x_dtype, copy=False)), cupy().empty(x_shape, x_dtype)
    name = "max_pool_dx" if res.dtype == "uint8" else "max_pool_dx_large"
    _launch(name, dx, (g, res, dx), (), x_shape, g.shape, pool, stride, padding)
    return (dx,)


def avg_pool2d(
    xp: Any,
    x: Array,
    *,
    pool: Pair,
    stride: Pair,
    padding: Pairs,
    ceil_mode: bool,
    count_include_pad: bool,
    mode: str,
) -> Array:
    x = contiguous(x)
    y = _outputs(x, pool, stride, padding, ceil_mode)
    counted = _counted(mode, count_include_pad)
    _launch("avg_pool", y, (x, y), (counted,), x.shape, y.shape, pool, stride, padding)
    return y


def avg_pool2d_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    x_shape: Shape,
    x_dtype: Any,
    pool: Pair,
    stride: Pair,
    padding: Pairs,
    count_include_pad: bool,
    mode: str,
) -> tuple[Array]:
    g, dx = contiguous(g.astype(x_dtype, copy=False)), cupy().empty(x_shape, x_dtype)
    counted = _counted(mode, count_include_pad)
    _launch("avg_pool_dx", dx, (g, dx), (counted,), x_shape, g.shape, pool, stride, padding)
    return (dx,)


def _counted(mode: str, count_include_pad: bool) -> int:
    """Return what an average counts, as the kernels know it: nothing, pixels, the padding too."""
    return 0 if mode == "sum" else 2 if count_include_pad else 1


def _outputs(x: Array, pool: Pair, stride: Pair, padding: Pairs, ceil_mode: bool) -> Array:
    outputs = []
    for n, k, s, (before, after) in zip(x.shape[1:3], pool, stride, padding, strict=True):
        room = n + before + after - k
        count = (-(-room // s) if ceil_mode else room // s) + 1
        outputs.append(count - (ceil_mode and (count - 1) * s >= n + before))
    return cupy().empty((x.shape[0], *outputs, x.shape[3]), x.dtype)


def _launch(
    name: str, to: Array, arrays: tuple[Array, ...], rest: tuple[Any, ...], x_shape: Shape,
    y_shape: Shape, pool: Pair, stride: Pair, padding: Pairs,
) -> None:  # fmt: skip
    """Run a kernel whose rows of blocks write rows of an array, sixteen bytes a thread or one."""
    images, height, width, channels = to.shape
    row = width * channels
    if divides(channels, [to, *(a for a in arrays if a.dtype == to.dtype)]):
        name, row = f"{name}_wide", row * to.dtype.itemsize // 16
    threads = threads_for(row, _BLOCK)
    grid = (images * height, min(-(-row // threads), _MOST))
    before = (padding[0][0], padding[1][0])
    ends = (n + after for n, (_, after) in zip(x_shape[1:3], padding, strict=True))
    _pool.launch(
        name, to.dtype, grid, threads, *arrays, *rest,
        channels, *x_shape[1:3], *y_shape[1:3], *pool, *stride, *before, *ends,
    )  # fmt: skip
