"""NumPy kernels of convolution: blocked im2col into reused memory, and products with ``out=``.

A block is small enough for its columns to stay in a second-level cache until the product has read
them, and large enough for the product to run on all cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from xpnn.kernels.numpy_blocks import Pair, Pairs, blocks, clipped, scratch, window_outputs

__all__ = ["conv2d", "conv2d_accepts", "conv2d_vjp"]

Array = Any

# Bytes of columns a block. With few channels a product is too short to be worth a second thread.
_LARGE, _SMALL = 1 << 22, 1 << 17
_FEW_CHANNELS = 4


def conv2d_accepts(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Pair,
    padding: Pairs,
    dilation: Pair,
    groups: int,
) -> bool:
    """Whether the shapes fit (if not, the standard version says why) and the dtypes are one."""
    if x.ndim != 4 or weight.ndim != 4 or x.dtype.char not in "fd" or weight.dtype != x.dtype:
        return False
    kh, kw, channels, features = weight.shape
    if x.shape[3] != channels * groups or features % groups or min(padding[0] + padding[1]) < 0:
        return False
    if bias is not None and (bias.shape != (features,) or bias.dtype != x.dtype):
        return False
    outputs = window_outputs(x.shape[1:3], (kh, kw), stride, padding, dilation)
    return min(outputs) > 0 and min(x.shape[1:3]) > 0


def conv2d(
    xp: Any,
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: Pair,
    padding: Pairs,
    dilation: Pair,
    groups: int,
) -> Array:
    kh, kw, channels, features = weight.shape
    outputs = window_outputs(x.shape[1:3], (kh, kw), stride, padding, dilation)
    y = np.empty((x.shape[0], *outputs, features), x.dtype)
    if groups > 1 and channels == 1:
        _depthwise(x, weight, bias, y, stride, padding, dilation)
        return y
    for ins, outs, w in _groups(weight, groups):
        part = None if bias is None else bias[outs]
        _convolve(x[..., ins], w, part, y[..., outs], stride, padding, dilation)
    return y


def conv2d_vjp(
    xp: Any,
    g: Array,
    needs: list[bool],
    x: Array,
    weight: Array,
    stride: Pair,
    padding: Pairs,
    dilation: Pair,
    groups: int,
) -> tuple[Array | None, Array | None, Array | None]:
    g = np.ascontiguousarray(g, dtype=x.dtype)
    channels = weight.shape[2]
    dx = np.zeros(x.shape, x.dtype) if needs[0] else None
    dw = np.zeros(weight.shape, x.dtype) if needs[1] else None
    if not (needs[0] or needs[1]):
        pass
    elif groups > 1 and channels == 1:
        _depthwise_vjp(g, x, weight, dx, dw, stride, padding, dilation)
    else:
        for ins, outs, w in _groups(weight, groups):
            g_part = g[..., outs]
            if dx is not None:
                _transpose(g_part, w, dx[..., ins], stride, padding, dilation)
            if dw is not None:
                part = _weight_gradient(g_part, x[..., ins], w, stride, padding, dilation)
                dw[..., outs] = _diagonal(part, channels)
    db = None
    if needs[2]:  # rows of the image at a time: long runs, which add up fast
        n, h, w, o = g.shape
        db = g.reshape(n * h, w * o).sum(axis=0).reshape(w, o).sum(axis=0)
    return dx, dw, db


def _groups(weight: Array, groups: int) -> Iterator[tuple[slice, slice, Array]]:
    """Yield the channels, the features and the weight of each group.

    Groups of few channels are joined into wider ones, with zeros where channels of one meet
    features of another: a product of 16 channels takes less time than eight of two.
    """
    kh, kw, c, features = weight.shape
    joined = max(r for r in range(1, groups + 1) if groups % r == 0 and (r == 1 or r * c <= 16))
    o = features // groups
    for first in range(0, groups, joined):
        w = weight[..., first * o : (first + joined) * o]
        if joined > 1:
            wide = np.zeros((kh, kw, joined * c, joined * o), w.dtype)
            for q in range(joined):
                outs = slice(q * o, (q + 1) * o)
                wide[:, :, q * c : (q + 1) * c, outs] = w[..., outs]
            w = wide
        ins = slice(first * c, (first + joined) * c)
        yield ins, slice(first * o, (first + joined) * o), w


def _diagonal(dw: Array, c: int) -> Array:
    """Return the blocks that belong to the groups of c channels from a gradient of joined ones."""
    joined = dw.shape[2] // c
    if joined == 1:
        return dw
    o = dw.shape[3] // joined
    return np.concatenate(
        [dw[:, :, q * c : (q + 1) * c, q * o : (q + 1) * o] for q in range(joined)], axis=-1
    )


def _columns(
    x: Array,
    kernel: Pair,
    outputs: Pair,
    stride: Pair,
    padding: Pairs,
    dilation: Pair,
) -> Iterator[tuple[tuple[slice, slice], Array]]:
    """Yield for each block of the output its images and rows, and its columns.

    The columns are (places, kh * kw * C). With few channels they are laid out the other way round,
    place by place for each tap: a run of copies is then a row of the image, not a few channels.
    """
    n, height, width, c = x.shape
    (kh, kw), (rows, columns), (sh, sw), (dh, dw) = kernel, outputs, stride, dilation
    (top, _), (left, _) = padding
    few = c <= _FEW_CHANNELS
    span, width_padded = (kh - 1) * dh + 1, (columns - 1) * sw + (kw - 1) * dw + 1
    target = (_SMALL if few else _LARGE) // x.itemsize
    around = None
    for i0, i1, h0, h1 in blocks(n, rows, columns * kh * kw * c, target):
        images, start, count = i1 - i0, h0 * sh - top, (h1 - h0 - 1) * sh + span
        if padding == ((0, 0), (0, 0)):
            seen = x[i0:i1, start:]
        else:
            if around is None:  # the first block is the largest
                around = scratch("padded", (images, count, width_padded, c), x.dtype)
                around[...] = 0
            seen = around[:images, :count]
            low, high = max(start, 0), max(min(start + count, height), 0)
            seen[:, : low - start] = 0
            seen[:, max(high - start, 0) :] = 0
            wide = min(width, width_padded - left)
            if low < high and wide > 0:
                inside = seen[:, low - start : high - start, left : left + wide]
                inside[...] = x[i0:i1, low:high, :wide]
        s0, s1, s2, s3 = seen.strides
        windows = as_strided(
            seen,
            (images, h1 - h0, columns, kh, kw, c),
            (s0, s1 * sh, s2 * sw, s1 * dh, s2 * dw, s3),
            writeable=False,
        )
        places = images * (h1 - h0) * columns
        if few:
            windows = windows.transpose(3, 4, 5, 0, 1, 2)
        block = scratch("columns", windows.shape, x.dtype)
        np.copyto(block, windows)
        block = block.reshape(-1, places).T if few else block.reshape(places, -1)
        yield (slice(i0, i1), slice(h0, h1)), block


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _is_pointwise(kernel: tuple[int, ...], stride: Pair, padding: Pairs) -> bool:
    return kernel == (1, 1) and stride == (1, 1) and padding == ((0, 0), (0, 0))


def _convolve(
    x: Array,
    weight: Array,
    bias: Array | None,
    y: Array,
    stride: Pair,
    padding: Pairs,
    dilation: Pair,
) -> None:
    """Write the convolution of one group into ``y``."""
    kernel, w = weight.shape[:2], _rows(weight)
    if bias is not None:  # a row of the image at a time
        bias = np.broadcast_to(bias, y.shape[2:]).copy()
    if _is_pointwise(kernel, stride, padding):
        whole = ((slice(None), slice(None)), _rows(x))
        parts: Any = [whole]
    else:
        parts = _columns(x, kernel, y.shape[1:3], stride, padding, dilation)
    for at, columns in parts:
        block = y[at]
        np.matmul(columns, w, out=_rows(block))
        if bias is not None:
            np.add(block, bias, out=block)


def _weight_gradient(
    g: Array, x: Array, weight: Array, stride: Pair, padding: Pairs, dilation: Pair
) -> Array:
    kernel = weight.shape[:2]
    if _is_pointwise(kernel, stride, padding):
        return (_rows(x).T @ _rows(g)).reshape(weight.shape)
    total = np.zeros((weight.size // weight.shape[3], weight.shape[3]), x.dtype)
    part = np.empty_like(total)
    for at, columns in _columns(x, kernel, g.shape[1:3], stride, padding, dilation):
        np.matmul(columns.T, _rows(g[at]), out=part)
        total += part
    return total.reshape(weight.shape)


def _transpose(
    g: Array, weight: Array, dx: Array, stride: Pair, padding: Pairs, dilation: Pair
) -> None:
    """Write the gradient of one group into ``dx``, which is zero.

    Without a stride it is the convolution of g with the kernel turned by 180 degrees, unless most
    of that would be padding. Otherwise a product a tap, added to what the tap saw.
    """
    kh, kw, c, o = weight.shape
    n, height, width, _ = dx.shape
    rows, columns = g.shape[1:3]
    if _is_pointwise((kh, kw), stride, padding):
        dx[...] = (_rows(g) @ _rows(weight).T).reshape(dx.shape)
        return
    around = tuple(
        (d * (k - 1) - before, size + before - m)
        for d, k, (before, _), size, m in zip(
            dilation, (kh, kw), padding, (height, width), (rows, columns), strict=True
        )
    )
    if (
        stride == (1, 1)
        and min(around[0] + around[1]) >= 0
        and 4 * height * width <= 5 * rows * columns
        and min(c, o) > _FEW_CHANNELS
    ):
        turned = np.ascontiguousarray(weight[::-1, ::-1].transpose(0, 1, 3, 2))
        _convolve(g, turned, None, dx, stride, around, dilation)
        return
    taps = np.ascontiguousarray(weight.transpose(0, 1, 3, 2)).reshape(kh * kw, o, c)
    target = _LARGE // g.itemsize
    for i0, i1, h0, h1 in blocks(n, rows, columns * kh * kw * c, target):
        g_rows = _rows(g[i0:i1, h0:h1])
        parts = scratch("columns", (kh * kw, len(g_rows), c), g.dtype)
        if c == 1:
            np.matmul(taps[..., 0], g_rows.T, out=parts[..., 0])
        else:
            np.matmul(g_rows, taps, out=parts)
        parts = parts.reshape(kh, kw, i1 - i0, h1 - h0, columns, c)
        for i in range(kh):
            down = clipped(i * dilation[0] - padding[0][0], stride[0], height, h0, h1)
            for j in range(kw):
                across = clipped(j * dilation[1] - padding[1][0], stride[1], width, 0, columns)
                seen = dx[i0:i1, down[1], across[1]]
                np.add(seen, parts[i, j, :, down[0], across[0]], out=seen)


# ------------------------------------------------------------------------------ depthwise

Tap = tuple[int, int, tuple[slice, slice, slice], tuple[slice, slice, slice]]


def _depthwise_taps(
    x: Array,
    kernel: tuple[int, ...],
    outputs: tuple[int, ...],
    stride: Pair,
    padding: Pairs,
    dilation: Pair,
) -> Iterator[tuple[tuple[slice, slice], list[Tap]]]:
    """Yield blocks of the output, and for each tap of the kernel what it sees of x from there.

    A tap is (i, j, places within the block, elements of x).
    """
    n, height, width, c = x.shape
    for i0, i1, h0, h1 in blocks(n, outputs[0], outputs[1] * c, _SMALL // x.itemsize):
        taps = []
        for i in range(kernel[0]):
            down = clipped(i * dilation[0] - padding[0][0], stride[0], height, h0, h1)
            for j in range(kernel[1]):
                offset = j * dilation[1] - padding[1][0]
                across = clipped(offset, stride[1], width, 0, outputs[1])
                places = (slice(None), down[0], across[0])
                taps.append((i, j, places, (slice(i0, i1), down[1], across[1])))
        yield (slice(i0, i1), slice(h0, h1)), taps


def _row_weights(weight: Array, columns: int, q: int, m: int) -> Array:
    """Return the weights of output q of m a channel, repeated along a row: (kh, kw, columns, C)."""
    w = weight[:, :, :, q::m]
    return np.broadcast_to(w, (*w.shape[:2], columns, w.shape[3])).copy()


def _depthwise(
    x: Array,
    weight: Array,
    bias: Array | None,
    y: Array,
    stride: Pair,
    padding: Pairs,
    dilation: Pair,
) -> None:
    m, outputs = y.shape[3] // x.shape[3], y.shape[1:3]
    for q in range(m):
        w = _row_weights(weight, outputs[1], q, m)
        start = 0.0 if bias is None else bias[q::m]
        for at, taps in _depthwise_taps(x, weight.shape[:2], outputs, stride, padding, dilation):
            block = y[..., q::m][at]
            block[...] = start
            for i, j, places, seen in taps:
                part = block[places]
                term = scratch("term", part.shape, x.dtype)
                np.multiply(x[seen], w[i, j, places[2]], out=term)
                np.add(part, term, out=part)


def _depthwise_vjp(
    g: Array,
    x: Array,
    weight: Array,
    dx: Array | None,
    dw: Array | None,
    stride: Pair,
    padding: Pairs,
    dilation: Pair,
) -> None:
    m, outputs = g.shape[3] // x.shape[3], g.shape[1:3]
    for q in range(m):
        w = _row_weights(weight, outputs[1], q, m)
        for at, taps in _depthwise_taps(x, weight.shape[:2], outputs, stride, padding, dilation):
            block = g[..., q::m][at]
            for i, j, places, seen in taps:
                part = block[places]
                term = scratch("term", part.shape, x.dtype)
                if dx is not None:
                    np.multiply(part, w[i, j, places[2]], out=term)
                    to = dx[seen]
                    np.add(to, term, out=to)
                if dw is not None:
                    np.multiply(part, x[seen], out=term)
                    dw[i, j, 0, q::m] += term.sum(axis=(0, 1)).sum(axis=0)
