"""Normalization."""

from __future__ import annotations

from typing import Any

from battery.row import Row
from xpnn import layers

__all__ = ["ROWS"]


def _batch_norm(axis: int, epsilon: float = 1e-5) -> Any:
    def formula(torch: Any, p: Any, x: Any) -> Any:
        y = torch.nn.functional.batch_norm(
            x.movedim(axis, 1), None, None, p.get("scale"), p.get("shift"), True, 0.1, epsilon
        )
        return y.movedim(1, axis)

    return formula


def _layer_norm(last: int, epsilon: float = 1e-5) -> Any:
    def formula(torch: Any, p: Any, x: Any) -> Any:
        return torch.nn.functional.layer_norm(
            x, x.shape[-last:], p.get("scale"), p.get("shift"), epsilon
        )

    return formula


def _layer_norm_of_axes_1_and_3(torch: Any, p: Any, x: Any) -> Any:
    y = x.movedim(2, 1)
    y = torch.nn.functional.layer_norm(y, y.shape[2:], p["scale"], p["shift"])
    return y.movedim(1, 2)


def _group_norm(groups: int, axis: int, epsilon: float = 1e-5) -> Any:
    def formula(torch: Any, p: Any, x: Any) -> Any:
        y = torch.nn.functional.group_norm(
            x.movedim(axis, 1), groups, p.get("scale"), p.get("shift"), epsilon
        )
        return y.movedim(1, axis)

    return formula


def _instance_norm(axis: int, epsilon: float = 1e-5) -> Any:
    def formula(torch: Any, p: Any, x: Any) -> Any:
        y = torch.nn.functional.instance_norm(
            x.movedim(axis, 1), weight=p.get("scale"), bias=p.get("shift"), eps=epsilon
        )
        return y.movedim(1, axis)

    return formula


def _rectified(f: Any) -> Any:
    return lambda torch, *args: torch.relu(f(torch, *args))


def _rms_norm(torch: Any, p: Any, x: Any) -> Any:
    return torch.nn.functional.rms_norm(x, x.shape[-1:], p["scale"], 1e-5)


ROWS = [
    Row(
        "batch norm",
        layers.BatchNorm,
        (6, 3),
        (6, 3),
        batch=True,
        torch=_batch_norm(1),
        wrong={"3 channels": (6, 4)},
    ),
    Row(
        "batch norm images",
        layers.BatchNorm,
        (3, 2, 4, 2),
        (3, 2, 4, 2),
        batch=True,
        torch=_batch_norm(3),
    ),
    Row(
        "batch norm channels first",
        lambda: layers.BatchNorm(axis=1, affine=False, epsilon=1e-3),
        (4, 3, 2),
        (4, 3, 2),
        batch=True,
        torch=_batch_norm(1, 1e-3),
    ),
    Row(
        "batch norm with relu",
        lambda: layers.BatchNorm(activation="relu"),
        (3, 2, 4, 2),
        (3, 2, 4, 2),
        batch=True,
        torch=_rectified(_batch_norm(3)),
    ),
    Row(
        "layer norm",
        layers.LayerNorm,
        (3, 5),
        (3, 5),
        torch=_layer_norm(1),
        wrong={r"built for x of lengths \(5,\) on axis -1, got shape \(3, 4\)": (3, 4)},
    ),
    Row(
        "layer norm of images",
        lambda: layers.LayerNorm((1, 2, 3), epsilon=1e-3),
        (2, 3, 1, 2),
        (2, 3, 1, 2),
        torch=_layer_norm(3, 1e-3),
        wrong={r"lengths \(3, 1, 2\) on axes \(1, 2, 3\)": (2, 1, 3, 2), "shape": (2, 6)},
    ),
    Row(
        "layer norm of axes apart",
        lambda: layers.LayerNorm((-1, 1)),
        (2, 3, 2, 4),
        (2, 3, 2, 4),
        torch=_layer_norm_of_axes_1_and_3,
    ),
    Row(
        "layer norm without parameters",
        lambda: layers.LayerNorm(affine=False),
        (2, 3, 5),
        (2, 3, 5),
        torch=_layer_norm(1),
    ),
    Row(
        "group norm",
        lambda: layers.GroupNorm(2),
        (2, 3, 1, 6),
        (2, 3, 1, 6),
        torch=_group_norm(2, 3),
        wrong={r"lengths \(6,\) on axis -1": (2, 3, 1, 4)},
    ),
    Row(
        "group norm channels first",
        lambda: layers.GroupNorm(3, axis=1, epsilon=1e-2),
        (3, 6, 2),
        (3, 6, 2),
        torch=_group_norm(3, 1, 1e-2),
    ),
    Row(
        "group norm without parameters",
        lambda: layers.GroupNorm(1, affine=False),
        (3, 4),
        (3, 4),
        torch=_group_norm(1, 1),
        wrong={"on axis -1 and examples on the first": (4,)},
    ),
    Row(
        "instance norm",
        layers.InstanceNorm,
        (2, 3, 2, 4),
        (2, 3, 2, 4),
        torch=_instance_norm(3),
        wrong={"at least two values a channel": (2, 1, 1, 4), r"lengths \(4,\)": (2, 3, 2, 2)},
    ),
    Row(
        "instance norm channels first",
        lambda: layers.InstanceNorm(axis=1, epsilon=1e-2, affine=False),
        (2, 3, 4),
        (2, 3, 4),
        torch=_instance_norm(1, 1e-2),
    ),
    Row(
        "rms norm",
        layers.RMSNorm,
        (2, 3, 5),
        (2, 3, 5),
        torch=_rms_norm,
        wrong={r"lengths \(5,\) on axis -1": (2, 3, 4)},
    ),
    Row(
        "rms norm of two axes",
        lambda: layers.RMSNorm((1, 2), epsilon=0.1, scale=False),
        (2, 3, 4),
        (2, 3, 4),
        torch=lambda t, p, x: x / t.sqrt((x * x).mean((1, 2), keepdim=True) + 0.1),
    ),
]
