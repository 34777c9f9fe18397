r"""Attention in 16 bits by NVIDIA's cuDNN: one graph in each direction, which keeps no scores.

It is asked where it computes what ``cupy_attention`` does:

- heads of a multiple of 8 features, up to 256; cuDNN itself says which of them a device has;
- lengths of whole tiles, multiples of 128. A plan is made for a length, in a good part of a second,
  and with tiles that are not full some versions of cuDNN make NaN of gradients where all scores of
  a row are far below zero;
- the causal mask, whose triangle stands in the upper left corner as here, but no other: a row that
  may attend to nothing has a logarithm of minus infinity in cuDNN, and NaN for a gradient, and
  whether a mask has such a row only the device knows;
- no dropout, for which cuDNN draws other bits.

Heads are read as they lie, also beside their features as in (N, T, heads, d); what comes out lies
as what went in. The logarithms that are kept for the gradient are those of ``cupy_attention``, so
that either may take up what the other has begun. Gradients are sums in a fixed order, for which
cuDNN wants memory that grows with the square of the length: up to a gigabyte is given.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpnn.kernels import cudnn
from xpnn.kernels.cupy_launch import cupy

__all__ = ["attend", "gradients", "takes"]

Array = Any
Layout = tuple[tuple[int, ...], tuple[int, ...]]  # dimensions, and strides in elements

_FORWARD = ("q", "k", "v", "o", "stats")  # the names of arrays, whose uids count from 1
_BACKWARD = (*_FORWARD, "dO", "dQ", "dK", "dV")
_TILE, _WIDEST, _MULTIPLE = 128, 256, 8
_MOST = 1 << 30  # bytes that a plan may take on the way
_OWN = ("sdpa_fwd_", "sdpa_bwd_")  # how engines of the package itself, for PyTorch, are called


class _Attention(NamedTuple):
    """The output and the logarithms, or the gradients: arrays of such names lie like this."""

    names: tuple[str, ...]
    layouts: tuple[Layout, ...]
    dtype: str
    scale: float
    causal: bool

    def declare(self, library: Any, graph: Any) -> None:
        real = cudnn.data_type(library, self.dtype)
        layouts = dict(zip(self.names, self.layouts, strict=True))
        about = {
            name: {
                "uid": uid,
                "dim": list(layouts[name][0]),
                "stride": list(layouts[name][1]),
                "data_type": library.data_type.FLOAT if name == "stats" else real,
            }
            for uid, name in enumerate(self.names, 1)
        }

        def given(names: tuple[str, ...]) -> dict[str, Any]:
            return {name: graph.tensor(**about[name]) for name in names}

        options: dict[str, Any] = {
            "attn_scale": self.scale,
            "diagonal_alignment": library.diagonal_alignment.TOP_LEFT,
        }
        if self.causal:
            options["diagonal_band_right_bound"] = 0
        if self.names == _FORWARD:
            outputs = graph.sdpa(**given(self.names[:3]), generate_stats=True, **options)
        else:
            options["use_deterministic_algorithm"] = True
            outputs = graph.sdpa_backward(**given(self.names[:6]), **options)
        for name, out in zip(self.names[-len(outputs) :], outputs, strict=True):
            out.set_output(True).set_uid(about[name]["uid"]).set_data_type(about[name]["data_type"])
            out.set_dim(about[name]["dim"]).set_stride(about[name]["stride"])

    def choose(self, library: Any, graph: Any) -> None:
        graph.deselect_numeric_notes([library.numerical_note.NONDETERMINISTIC])
        graph.deselect_workspace_greater_than(_MOST)
        graph.deselect_engines(list(_OWN))

    def __str__(self) -> str:
        what = "attention" if self.names == _FORWARD else "gradient of attention"
        (q, _), (k, _), (v, _) = self.layouts[:3]
        return f"{what} of {q}, {k}, {v} in {self.dtype}{', causal' * self.causal}"


def takes(q: Array, k: Array, v: Array, mask: Any, keep: Any, scale: float, gain: float) -> bool:
    """Whether cuDNN is there, and asked for attention of these."""
    if mask is not None or keep is not None or gain != 1.0 or scale <= 0.0:
        return False  # the highest score is that of the highest product
    if q.dtype.name not in ("float16", "bfloat16") or isinstance(cudnn.library(), str):
        return False
    widths = (q.shape[-1], v.shape[-1])
    whole = q.shape[-2] % _TILE == k.shape[-2] % _TILE == 0
    return whole and max(widths) <= _WIDEST and not any(width % _MULTIPLE for width in widths)


def attend(q: Array, k: Array, v: Array, scale: float, causal: bool) -> tuple[Array, Array] | None:
    """Return the output, and the logarithms of the sums of exponentials by heads and rows.

    None if cuDNN has no plan.
    """
    lead = q.shape[:-2]
    q, k, v = (_ready(x) for x in (q, k, v))
    y = _beside(q, v.shape[3])
    logarithm = cupy().empty((*q.shape[:3], 1), "float32")
    if not _run((q, k, v, y, logarithm), scale, causal):
        return None
    return y.reshape(*lead, *y.shape[2:]), logarithm.reshape(-1, q.shape[2])


def gradients(
    g: Array, q: Array, k: Array, v: Array, y: Array, logarithm: Array, scale: float, causal: bool
) -> tuple[Array, Array, Array] | None:
    """Return the gradients with respect to queries, keys and values; None if there is no plan."""
    shapes = [x.shape for x in (q, k, v)]
    q, k, v, y, g = (_ready(x) for x in (q, k, v, y, g))
    if _lies(g) != _lies(y):  # which not every version of cuDNN takes
        g, given = _beside(y, y.shape[3]), g
        g[...] = given
    logarithm = logarithm.reshape(*q.shape[:3], 1)
    found = tuple(_beside(x, x.shape[3]) for x in (q, k, v))
    if not _run((q, k, v, y, logarithm, g, *found), scale, causal):
        return None
    dq, dk, dv = (d.reshape(shape) for d, shape in zip(found, shapes, strict=True))
    return dq, dk, dv


def _run(arrays: tuple[Array, ...], scale: float, causal: bool) -> bool:
    names = _FORWARD if len(arrays) == len(_FORWARD) else _BACKWARD
    layouts = tuple(_lies(x) for x in arrays)
    operation = _Attention(names, layouts, arrays[0].dtype.name, float(scale), bool(causal))
    return cudnn.run(operation, dict(enumerate(arrays, 1)))


def _ready(x: Array) -> Array:
    """Return an array (*, T, d) as (N, heads, T, d), whose rows lie together and begin aligned."""
    if x.ndim != 4:
        lead = x.shape[:-2]
        x = x.reshape(math.prod(lead[:-1]), lead[-1] if lead else 1, *x.shape[-2:])
    steps = zip(x.shape[:3], x.strides[:3], strict=True)
    apart = all(n == 1 or (s > 0 and s % cudnn.ALIGNED == 0) for n, s in steps)
    if apart and x.strides[3] == x.itemsize and x.data.ptr % cudnn.ALIGNED == 0:
        return x
    return x.copy(order="C")


def _beside(x: Array, width: int) -> Array:
    """Return an empty array (N, heads, T, width), whose heads lie as those of an array."""
    n, heads, length, _ = x.shape
    if x.strides[1] < x.strides[2]:
        return cupy().empty((n, length, heads, width), x.dtype).transpose(0, 2, 1, 3)
    return cupy().empty((n, heads, length, width), x.dtype)


def _lies(x: Array) -> Layout:
    """Return dimensions and strides; along an axis of one, a stride that is as good as any."""
    steps = zip(x.shape[:3], x.strides[:3], strict=True)
    return x.shape, (*(x.size if n == 1 else s // x.itemsize for n, s in steps), 1)
