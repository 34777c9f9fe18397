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


def _projections(torch: Any, p: Any, ours: str, theirs: str) -> Any:
    names = [f"{ours}.{name}" for name in ("query", "key", "value")]
    return {
        f"{theirs}.in_proj_weight": torch.cat([p[f"{name}.weight"].T for name in names]),
        f"{theirs}.in_proj_bias": torch.cat([p[f"{name}.bias"] for name in names]),
        f"{theirs}.out_proj.weight": p[f"{ours}.out.weight"].T,
        f"{theirs}.out_proj.bias": p[f"{ours}.out.bias"],
    }


def _transformer(decoder: bool = False, masks: Any = None, **options: Any) -> Any:
    """Return PyTorch's own layer; ``masks(torch, x, *masks)`` gives its masks."""

    def formula(torch: Any, p: Any, x: Any, *rest: Any) -> Any:
        nn = torch.nn
        cls = nn.TransformerDecoderLayer if decoder else nn.TransformerEncoderLayer
        module = cls(4, 2, 3, dropout=0.0, batch_first=True, dtype=x.dtype, **options)
        weights = _projections(torch, p, "attention", "self_attn")
        if decoder:
            weights |= _projections(torch, p, "cross_attention", "multihead_attn")
        for ours, theirs in (("hidden", "linear1"), ("out", "linear2")):
            weights[f"{theirs}.weight"] = p[f"{ours}.weight"].T
            weights[f"{theirs}.bias"] = p[f"{ours}.bias"]
        for i in range(1, 4 if decoder else 3):
            weights[f"norm{i}.weight"] = p[f"norm{i}.scale"]
            weights[f"norm{i}.bias"] = p[f"norm{i}.shift"]
        assert weights.keys() == dict(module.named_parameters()).keys()
        inputs, given = (x, *rest[: int(decoder)]), rest[int(decoder) :]
        named = masks(torch, x, *given) if masks else {}
        return torch.func.functional_call(module, weights, inputs, named)

    return formula


def _upper(torch: Any, x: Any) -> Any:
    return torch.ones(x.shape[1], x.shape[1]).triu(1).bool()


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
    Row(
        "transformer encoder layer",
        lambda: layers.TransformerEncoderLayer(2, 3, dropout=0.0),
        (2, 3, 4),
        (2, 3, 4),
        torch=_transformer(),
        wrong={r"TransformerEncoderLayer: expected x of shape \(N, T, 4\)": (2, 3, 6)},
    ),
    Row(
        "transformer encoder layer, norm first, causal",
        lambda: layers.TransformerEncoderLayer(
            2, 3, 4, dropout=0.0, activation="tanh", norm_first=True, epsilon=1e-3, causal=True
        ),
        [(2, 3, 4), Bools((2, 3))],
        (2, 3, 4),
        keywords=("key_mask",),
        torch=lambda t, p, *inputs: _transformer(
            masks=lambda t, x, keys: {"src_mask": _upper(t, x), "src_key_padding_mask": ~keys},
            activation=t.tanh,
            norm_first=True,
            layer_norm_eps=1e-3,
        )(t, p, *inputs),
    ),
    Row(
        "transformer encoder layer with a mask and dropout",
        lambda: layers.TransformerEncoderLayer(2, 3),
        [(2, 3, 4), Bools((2, 3, 3))],
        (2, 3, 4),
        keywords=("mask",),
        random=True,
    ),
    Row(
        "transformer decoder layer",
        lambda: layers.TransformerDecoderLayer(2, 3, dropout=0.0),
        [(2, 3, 4), (2, 5, 4)],
        (2, 3, 4),
        torch=_transformer(True, lambda t, x: {"tgt_mask": _upper(t, x)}),
        wrong={
            r"TransformerDecoderLayer: expected x of shape \(N, T, 4\)": [(2, 3, 6), (2, 5, 4)],
            r"expected memory of shape \(N, T, 4\)": [(2, 3, 4), (2, 5, 6)],
        },
    ),
    Row(
        "transformer decoder layer, norm first, masks",
        lambda: layers.TransformerDecoderLayer(
            2, 3, dropout=0.0, norm_first=True, activation="tanh", causal=False
        ),
        [
            *[(2, 3, 4), (2, 5, 4), Bools((2, 2, 3, 3)), Bools((2, 3))],
            *[Bools((2, 2, 3, 5)), Bools((2, 5))],
        ],
        (2, 3, 4),
        keywords=("mask", "key_mask", "memory_mask", "memory_key_mask"),
        torch=lambda t, p, *inputs: _transformer(
            True,
            lambda t, x, mask, keys, memory_mask, memory_keys: {
                "tgt_mask": ~mask.flatten(0, 1),
                "tgt_key_padding_mask": ~keys,
                "memory_mask": ~memory_mask.flatten(0, 1),
                "memory_key_padding_mask": ~memory_keys,
            },
            activation=t.tanh,
            norm_first=True,
        )(t, p, *inputs),
    ),
    Row(
        "transformer decoder layer of another memory, with dropout",
        lambda: layers.TransformerDecoderLayer(2, 3, dropout=0.2),
        [(2, 3, 4), (2, 4, 5)],
        (2, 3, 4),
        random=True,
    ),
]
