"""A table of a model's layers."""

from __future__ import annotations

import math
from typing import Any

from xpnn.layers.base import Layer

__all__ = ["summary"]


def summary(model: Any) -> str:
    """Return a table of the layers that hold something themselves, and totals."""
    rows = [("layer", "parameters", "shapes")]
    for name, layer in _named_layers(model):
        own = {n: p for n, p in layer.named_parameters().items() if "." not in n}
        if any(isinstance(part, Layer) for _, part in layer._parts()) and not own:
            continue
        count = sum(math.prod(p.shape) for p in own.values())
        shapes = ", ".join(f"{n} {p.shape}" for n, p in own.items())
        rows.append((f"{name} {type(layer).__name__}".strip(), f"{count:,}", shapes))
    first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
    lines = [f"{a:{first}}  {b:>{second}}  {c}".rstrip() for a, b, c in rows]
    parameters = model.parameters()
    total = sum(math.prod(p.shape) for p in parameters)
    trainable = sum(math.prod(p.shape) for p in parameters if p.requires_grad)
    size = sum(math.prod(p.shape) * p.dtype.itemsize for p in parameters)
    where = f", on {parameters[0].device}" if parameters else "; not built yet"
    lines.append(f"{total:,} parameters ({trainable:,} trainable), {size:,} bytes{where}")
    return "\n".join(lines)


def _named_layers(model: Any) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []

    def visit(layer: Any, name: str) -> None:
        found.append((name, layer))
        for part_name, part in layer._parts():
            if isinstance(part, Layer):
                visit(part, f"{name}.{part_name}".strip("."))

    visit(model, "")
    return found
