"""A table of a model's layers."""

from __future__ import annotations

import math
from typing import Any

from xpnn.layers.base import Layer, Parameter

__all__ = ["summary"]


def summary(model: Any) -> str:
    """Return a table of the layers that hold something themselves, and totals.

    A parameter of several layers counts in the first of them.
    """
    rows = [("layer", "parameters", "shapes")]
    counted: set[int] = set()
    for name, layer in _named_layers(model):
        parts = list(layer._parts())
        own = {id(p): (n, p) for n, p in parts if isinstance(p, Parameter)}
        if any(isinstance(part, Layer) for _, part in parts) and not own:
            continue
        count = sum(math.prod(p.shape) for i, (_, p) in own.items() if i not in counted)
        shapes = [f"{n} {p.shape}{' shared' if i in counted else ''}" for i, (n, p) in own.items()]
        counted |= own.keys()
        rows.append((f"{name} {type(layer).__name__}".strip(), f"{count:,}", ", ".join(shapes)))
    first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
    lines = [f"{a:{first}}  {b:>{second}}  {c}".rstrip() for a, b, c in rows]
    parameters = model.parameters()
    total = sum(math.prod(p.shape) for p in parameters)
    trainable = sum(math.prod(p.shape) for p in parameters if p.requires_grad)
    size = sum(math.prod(p.shape) * p.dtype.itemsize for p in parameters)
    where = f", on {parameters[0].device}" if parameters else "; not built yet: call it once"
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
