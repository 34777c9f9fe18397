"""Convolution as a graph of the emulated cuDNN asks for it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

__all__ = ["Convolution"]


class Convolution:
    """One of image (N, C, H, W), weight (O, C, kh, kw) and map (N, O, h, w) from the others."""

    def __init__(self, kind: str, options: dict[str, list[int]]) -> None:
        assert set(options) == {"pre_padding", "post_padding", "stride", "dilation"}
        assert all(len(pair) == 2 and min(pair) >= 0 for pair in options.values())
        self.kind, self.options = kind, options

    def validate(self, tensors: dict[str, Any]) -> None:
        x, w, y = (tensors[name].dim for name in ("image", "weight", "map"))
        assert (x[0], w[0]) == (y[0], y[1])
        assert x[1] % w[1] == 0
        o = self.options
        for i in (0, 1):
            span = (w[i + 2] - 1) * o["dilation"][i] + 1
            room = x[i + 2] + o["pre_padding"][i] + o["post_padding"][i] - span
            assert y[i + 2] == room // o["stride"][i] + 1

    def compute(self, a: dict[str, Any]) -> None:
        """Add up the taps of a result that is zero."""
        o, x, w, y = self.options, a["image"], a["weight"], a["map"]
        before, after = o["pre_padding"], o["post_padding"]
        pad = ((0, 0), (0, 0), (before[0], after[0]), (before[1], after[1]))
        padded = np.pad(x, pad)
        groups = x.shape[1] // w.shape[1]
        c, k = w.shape[1], w.shape[0] // groups
        for q, i, j in itertools.product(range(groups), range(w.shape[2]), range(w.shape[3])):
            ins, outs = slice(q * c, (q + 1) * c), slice(q * k, (q + 1) * k)
            at = [
                slice(t * d, t * d + (m - 1) * s + 1, s)
                for t, d, m, s in zip((i, j), o["dilation"], y.shape[2:], o["stride"], strict=True)
            ]
            seen, tap = padded[:, ins, at[0], at[1]], w[outs, :, i, j]
            if self.kind == "fprop":
                y[:, outs] += np.einsum("nchw,kc->nkhw", seen, tap)
            elif self.kind == "dgrad":
                seen += np.einsum("nkhw,kc->nchw", y[:, outs], tap)
            else:
                w[outs, :, i, j] = np.einsum("nchw,nkhw->kc", seen, y[:, outs])
        if self.kind == "dgrad":
            h, v = x.shape[2:]
            x[...] = padded[:, :, before[0] : before[0] + h, before[1] : before[1] + v]
