"""Attention."""

from __future__ import annotations

from typing import Any

from battery.row import Bools, Row
from xpnn import layers

__all__ = ["ROWS"]

QKV = [(2, 3, 4), (2, 5, 4), (2, 5, 2)]


def _dot_product(**options: Any) -> Any:
    def formula(torch: Any, p: Any, q: Any, k: Any, v: Any, mask: Any = None) -> Any:
        attend = torch.nn.functional.scaled_dot_product_attention
        return attend(q, k, v, attn_mask=mask, **options)

    return formula


def multi_head(torch: Any, p: Any, q: Any, k: Any, v: Any, heads: int, **options: Any) -> Any:
    """Return PyTorch's multi-head attention with the parameters of ours; True masks are its own."""
    names = ("query", "key", "value")
    zeros = torch.zeros(p["query.weight"].shape[1], dtype=q.dtype)
    bias = torch.cat([p.get(f"{name}.bias", zeros) for name in names])
    y, _ = torch.nn.functional.multi_head_attention_forward(
        *(x.transpose(0, 1) for x in (q, k, v)),
        q.shape[-1], heads, None, bias, None, None, False, 0.0,
        p["out.weight"].T, p.get("out.bias"),
        use_separate_proj_weight=True, need_weights=False,
        q_proj_weight=p["query.weight"].T, k_proj_weight=p["key.weight"].T,
        v_proj_weight=p["value.weight"].T, **options,
    )  # fmt: skip
    return y.transpose(0, 1)


def _self(heads: int, mask: Any = None) -> Any:
    """Return self-attention by PyTorch; ``mask(torch, x, *masks)`` gives its options."""

    def formula(torch: Any, p: Any, x: Any, *masks: Any) -> Any:
        options = mask(torch, x, *masks) if mask else {}
        return multi_head(torch, p, x, x, x, heads, **options)

    return formula


def _causal(torch: Any, x: Any) -> Any:
    length = x.shape[1]
    return {"attn_mask": torch.ones(length, length).triu(1).bool()}


def _wide(torch: Any, p: Any, q: Any, k: Any, mask: Any) -> Any:
    """Return attention whose heads do not share out the features, by its formula."""

    def heads(x: Any, name: str) -> Any:
        return (x @ p[f"{name}.weight"] + p[f"{name}.bias"]).unflatten(-1, (2, -1)).transpose(1, 2)

    y = torch.nn.functional.scaled_dot_product_attention(
        heads(q, "query"), heads(k, "key"), heads(k, "value"), attn_mask=mask
    )
    return y.transpose(1, 2).flatten(2) @ p["out.weight"] + p["out.bias"]


ROWS = [
    Row(
        "dot product attention",
        layers.DotProductAttention,
        QKV,
        (2, 3, 2),
        torch=_dot_product(),
        wrong={
            r"q of shape \(\*, Tq, d\)": [(2, 3, 4), (2, 5, 3), (2, 5, 2)],
            "an axis of heads missing": [(2, 3, 4), (2, 5, 4), (5, 2)],
        },
    ),
    Row(
        "dot product attention causal, 4-d",
        lambda: layers.DotProductAttention(causal=True, scale=0.3),
        [(2, 3, 4, 2), (2, 3, 2, 2), (2, 3, 2, 3)],
        (2, 3, 4, 3),
        torch=_dot_product(is_causal=True, scale=0.3),
    ),
    Row(
        "dot product attention masked, not scaled",
        lambda: layers.DotProductAttention(scale=False),
        [*QKV, Bools((2, 3, 5))],
        (2, 3, 2),
        keywords=("mask",),
        torch=_dot_product(scale=1.0),
    ),
    Row(
        "dot product attention with a mask to add",
        layers.DotProductAttention,
        [(2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 2), (2, 1, 3, 5)],
        (2, 2, 3, 2),
        keywords=("mask",),
        torch=_dot_product(),
    ),
    Row(
        "dot product attention with dropout",
        lambda: layers.DotProductAttention(dropout=0.4),
        [*QKV, Bools((2, 3, 5))],
        (2, 3, 2),
        keywords=("mask",),
        random=True,
    ),
    Row(
        "dot product attention with weights",
        lambda: layers.DotProductAttention(causal=True),
        [*QKV, Bools((2, 1, 5))],
        [(2, 3, 2), (2, 3, 5)],
        keywords=("mask",),
        options={"return_weights": True},
    ),
    Row(
        "multi-head attention",
        lambda: layers.MultiHeadAttention(2),
        (2, 3, 4),
        (2, 3, 4),
        torch=_self(2),
        wrong={r"queries of shape \(N, T, 4\), got \(2, 3, 5\)": (2, 3, 5)},
    ),
    Row(
        "multi-head attention causal, no bias",
        lambda: layers.MultiHeadAttention(3, 6, bias=False, causal=True),
        (2, 4, 6),
        (2, 4, 6),
        torch=_self(3, _causal),
    ),
    Row(
        "multi-head attention of valid keys",
        lambda: layers.MultiHeadAttention(2),
        [(2, 3, 4), Bools((2, 3))],
        (2, 3, 4),
        keywords=("key_mask",),
        torch=_self(2, lambda t, x, keys: {"key_padding_mask": ~keys}),
    ),
    Row(
        "multi-head attention, every head with its mask",
        lambda: layers.MultiHeadAttention(2),
        [(2, 3, 4), Bools((2, 2, 3, 3)), Bools((2, 3))],
        (2, 3, 4),
        keywords=("mask", "key_mask"),
        torch=_self(
            2,
            lambda t, x, mask, keys: {
                "attn_mask": ~mask.flatten(0, 1),
                "key_padding_mask": ~keys,
            },
        ),
    ),
    Row(
        "multi-head attention to another sequence",
        lambda: layers.MultiHeadAttention(2),
        [(2, 3, 4), (2, 5, 6)],
        (2, 3, 4),
        torch=lambda t, p, q, k: multi_head(t, p, q, k, k, 2),
        wrong={
            r"keys of shape \(N, T, 6\), got \(2, 5, 4\)": [(2, 3, 4), (2, 5, 4)],
            r"queries \(N, Tq, .\), keys \(N, Tk, .\)": [(2, 3, 4), (1, 5, 6)],
        },
    ),
    Row(
        "multi-head attention of three inputs and a mask to add",
        lambda: layers.MultiHeadAttention(2),
        [(2, 3, 4), (2, 5, 6), (2, 5, 3), (2, 3, 5)],
        (2, 3, 4),
        keywords=("mask",),
        torch=lambda t, p, q, k, v, mask: multi_head(
            t, p, q, k, v, 2, attn_mask=mask.repeat_interleave(2, 0)
        ),
    ),
    Row(
        "multi-head attention, sizes of one's own",
        lambda: layers.MultiHeadAttention(2, 5, key_dim=3, value_dim=4, weight_init="he_normal"),
        [(2, 3, 4), (2, 5, 6), Bools((2, 1, 3, 5))],
        (2, 3, 5),
        keywords=("mask",),
        torch=_wide,
    ),
    Row(
        "multi-head attention with dropout and weights",
        lambda: layers.MultiHeadAttention(2, dropout=0.3),
        [(2, 3, 4), Bools((2, 3))],
        [(2, 3, 4), (2, 2, 3, 3)],
        keywords=("key_mask",),
        options={"return_weights": True},
        random=True,
    ),
]
