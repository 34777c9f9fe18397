"""Attention as a graph of the emulated cuDNN asks for it, and what it demands."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Attention"]

_WIDEST = 256  # of a Hopper; others have gradients up to 128


class Attention:
    """The output and the logarithms, or the gradients from these.

    What is passed by keyword is what xpnn asks for: any other argument is an error here.
    """

    def __init__(
        self,
        kind: str,
        *,
        attn_scale: float,
        diagonal_alignment: Any,
        diagonal_band_right_bound: int | None = None,
    ) -> None:
        assert type(attn_scale) is float  # the package takes nothing else that is not a tensor
        assert diagonal_alignment.name == "TOP_LEFT"
        assert diagonal_band_right_bound in (None, 0)
        self.kind, self.scale = kind, attn_scale
        self.causal = diagonal_band_right_bound is not None

    def validate(self, tensors: dict[str, Any]) -> None:
        n, heads, rows, size = tensors["q"].dim
        columns, width = tensors["k"].dim[2], tensors["v"].dim[3]
        dims = {
            "q": (rows, size), "k": (columns, size), "v": (columns, width),
            "o": (rows, width), "stats": (rows, 1),
        }  # fmt: skip
        dims |= {"dQ": dims["q"], "dK": dims["k"], "dV": dims["v"], "dO": dims["o"]}
        assert max(size, width) <= _WIDEST
        assert size % 8 == width % 8 == 0
        assert rows > 1 or columns > 1
        real = tensors["q"].data_type
        assert real.name in ("HALF", "BFLOAT16")
        for name, tensor in tensors.items():
            assert type(tensor.dim) is list
            assert tensor.dim == [n, heads, *dims[name]]
            assert len(tensor.stride) == 4
            assert tensor.stride[3] == 1
            assert tensor.data_type is (type(real).FLOAT if name == "stats" else real)
            if name != "stats":
                assert all(s > 0 and s % 8 == 0 for s in tensor.stride[:3])  # 16 bytes

    def compute(self, a: dict[str, Any]) -> None:
        s = self.scale * np.einsum("nhid,nhjd->nhij", a["q"], a["k"])
        if self.causal:
            s[..., np.arange(s.shape[2])[:, None] < np.arange(s.shape[3])] = -np.inf
        if self.kind == "sdpa":
            top = s.max(axis=-1, keepdims=True)
            a["stats"][...] = np.log(np.exp(s - top).sum(axis=-1, keepdims=True)) + top
        p = np.exp(s - a["stats"])
        if self.kind == "sdpa":
            a["o"][...] = p @ a["v"]
            return
        dp = np.einsum("nhid,nhjd->nhij", a["dO"], a["v"])
        ds = self.scale * p * (dp - (a["dO"] * a["o"]).sum(axis=-1, keepdims=True))
        a["dV"][...] = p.swapaxes(2, 3) @ a["dO"]
        a["dQ"][...] = ds @ a["k"]
        a["dK"][...] = ds.swapaxes(2, 3) @ a["q"]
