"""A table of a model's layers: shapes, parameters, memory."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from html import escape
from typing import Any, NamedTuple

from xpnn import backend
from xpnn._dtypes import as_dtype
from xpnn.backend import unwrap
from xpnn.errors import ConfigError
from xpnn.layers.base import Layer, Parameter
from xpnn.training.tracing import (
    batch_shapes,
    first_examples,
    nbytes,
    trace,
    unchanged,
    zeros_for,
)

__all__ = ["Row", "Summary", "summary"]


class Row(NamedTuple):
    """What a summary says of one layer, of what it holds itself and not of the layers inside.

    Parameters that an earlier layer holds too are ``shared``, and take no memory a second time.
    """

    depth: int
    name: str
    kind: str
    outputs: str
    trainable: int
    frozen: int
    shared: int
    built: bool
    container: bool
    memory: int
    dtype: str
    device: str
    shapes: str

    @property
    def parameters(self) -> str:
        """The numbers of parameters, in words."""
        if not self.built:
            return "?"
        counts = ((self.trainable, ""), (self.frozen, " frozen"), (self.shared, " shared"))
        said = " + ".join(f"{count:,}{word}" for count, word in counts if count)
        return said or ("" if self.container else "0")

    @property
    def cells(self) -> tuple[str, ...]:
        """The columns after the first."""
        memory = _human(self.memory) if self.memory else ""
        return self.outputs, self.parameters, memory, self.dtype, self.device


class Summary(str):
    """A model's layers as text, and as a table of HTML in a notebook.

    Attributes
    ----------
    rows : tuple of Row
        A layer each, in the order of the table.
    totals : dict
        ``parameters``, ``trainable``, ``frozen``; and in bytes ``memory`` (of parameters),
        ``buffers``, ``gradients`` and ``outputs`` (of all layers, for one example; None if the
        shapes are not known).
    notes : tuple of str
        The lines below the table.
    """

    rows: tuple[Row, ...]
    totals: dict[str, int | None]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return str(self)  # readable at a prompt

    def _repr_html_(self) -> str:
        left, right = "text-align: left", "text-align: right"
        aligned = (left, right, right, left, left)
        head = "".join(
            f'<th style="{style}">{title}</th>'
            for title, style in zip(_TITLES, (left, *aligned), strict=True)
        )
        lines = []
        for row in self.rows:
            name = f"{escape(row.name)} <b>{escape(row.kind)}</b>".strip()
            cells = [f'<td style="{left}; padding-left: {0.5 + 1.5 * row.depth}em">{name}</td>']
            hints = ("", row.shapes, f"{row.memory:,} bytes" if row.memory else "", "", "")
            for text, hint, style in zip(row.cells, hints, aligned, strict=True):
                title = f' title="{escape(hint)}"' if hint else ""
                cells.append(f'<td style="{style}"{title}>{escape(text)}</td>')
            lines.append(f"<tr>{''.join(cells)}</tr>")
        exact = "; ".join(f"{k}: {v:,}" for k, v in self.totals.items() if v is not None)
        below = "<br>".join(map(escape, self.notes))
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
            f'<p title="{escape(exact)}">{below}</p>'
        )


_TITLES = ("layer", "output", "parameters", "memory", "dtype", "device")


def summary(model: Any, x: Any = None, input_shape: Any = None) -> Summary:
    """Describe a model, and print that unless it is shown anyway.

    At a prompt or in a notebook (where Python has ``sys.ps1``) the value of a line is displayed, so
    nothing is printed there; within a program it is.

    Parameters
    ----------
    model : Model
    x : array or tuple of arrays, optional
        Inputs, of which the first example is run through the model.
    input_shape : tuple of ints, or a sequence of such, optional
        The shape of one example instead, without the axis of the examples: zeros are run.

    Raises
    ------
    ConfigError
        If both are given, or ``input_shape`` is no shape.
    """
    if x is not None and input_shape is not None:
        msg = "summary: 'x' and 'input_shape' both say what is run through the model. Give one."
        raise ConfigError(msg)
    traced: dict[int, list[Any]] = {}
    notes = []
    with unchanged(model):
        if x is not None:
            traced = trace(model, first_examples(model, x))
        elif input_shape is not None:
            traced = trace(model, zeros_for(model, batch_shapes(input_shape)))
        elif model._shapes:
            shapes = [(1, *shape[1:]) if shape else () for shape in model._shapes]
            try:
                traced = trace(model, zeros_for(model, shapes, model._dtypes))
            except Exception as error:  # of a forward that others wrote
                notes.append(
                    "output shapes are unknown: the model does not run on zeros"
                    f" ({type(error).__name__}: {error}). Give summary some x."
                )
        found = _describe(list(_rows(model, traced)), model, traced, notes)
    if not hasattr(sys, "ps1"):
        print(found)
    return found


def _said(output: Any) -> str:
    """Return an output in words: N is the number of examples, which is 1 here."""
    if isinstance(output, list):
        return ", ".join(map(_said, output)) or "nothing"
    if isinstance(output, str):
        return output
    first, *rest = output[0] or (None,)
    if first is None:
        return "()"
    axes = ["N" if first == 1 else str(first), *map(str, rest)]
    return f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"


def _bytes(output: Any) -> int:
    if isinstance(output, list):
        return sum(map(_bytes, output))
    return 0 if isinstance(output, str) else output[1]


# ------------------------------------------------------------------------------ the table


def _rows(model: Any, traced: dict[int, list[Any]]) -> Iterator[Row]:
    seen_layers: set[int] = set()
    seen_arrays: set[int] = set()
    stack: list[tuple[int, str, Any]] = [(0, "", model)]
    while stack:
        depth, name, layer = stack.pop()
        parts = list(layer._parts())
        again = id(layer) in seen_layers
        seen_layers.add(id(layer))
        inner = [(n, part) for n, part in parts if isinstance(part, Layer)]
        held = layer.named_parameters() if again else dict(parts)
        counts, memory, arrays = {"trainable": 0, "frozen": 0, "shared": 0}, 0, []
        for value in held.values():
            if value is None or isinstance(value, Layer):
                continue
            raw = unwrap(value)
            arrays.append(raw)
            known = id(value) in seen_arrays
            seen_arrays.add(id(value))
            if not known:
                memory += nbytes(raw)
            if isinstance(value, Parameter):
                kind = "trainable" if value.requires_grad else "frozen"
                counts["shared" if known else kind] += math.prod(raw.shape)
        calls = list(dict.fromkeys(map(_said, traced.get(id(layer), ()))))
        yield Row(
            depth, name, type(layer).__name__,
            outputs=" / ".join(calls) or ("not called" if traced else "?"),
            **counts,
            built=layer._shapes is not None or type(layer).build is type(layer)._build_nothing,
            container=bool(inner),
            memory=memory,
            dtype=", ".join(dict.fromkeys(as_dtype(x.dtype).name for x in arrays)),
            device=", ".join(dict.fromkeys(str(backend.device_of(x)) for x in arrays)),
            shapes=", ".join(f"{n} {tuple(v.shape)}" for n, v in held.items()
                             if isinstance(v, Parameter)),
        )  # fmt: skip
        if not again:
            stack += [(depth + 1, n, part) for n, part in inner][::-1]


def _describe(
    rows: list[Row], model: Any, traced: dict[int, list[Any]], more: list[str]
) -> Summary:
    """Return the rows as text, with what they come to."""
    table = [_TITLES, *((f"{'  ' * r.depth}{r.name} {r.kind}", *r.cells) for r in rows)]
    table[1] = (rows[0].kind, *rows[0].cells)
    widths = [max(len(line[i]) for line in table) for i in range(len(_TITLES))]
    lines = [
        "  ".join(
            f"{cell:>{width}}" if i in (2, 3) else f"{cell:{width}}"
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    totals = _totals(model, traced)
    if (precision := getattr(model, "precision", "float32")) != "float32":
        low = precision.removeprefix("mixed_")
        more = [*more, f"precision: {precision}; products in {low}, parameters in float32"]
    notes = (*_notes(totals, rows), *more)
    found = Summary("\n".join([*lines, *notes]))
    found.rows, found.totals, found.notes = tuple(rows), totals, notes
    return found


def _totals(model: Any, traced: dict[int, list[Any]]) -> dict[str, int | None]:
    parameters = model.parameters()
    buffers = {id(v): v for *_, v in model._named() if not isinstance(v, Parameter)}
    trainable = [p for p in parameters if p.requires_grad]
    leaves = [x for x in model.layers() if not any(isinstance(p, Layer) for _, p in x._parts())]
    outputs = sum(_bytes(call) for layer in leaves for call in traced.get(id(layer), ()))
    count = sum(math.prod(p.shape) for p in parameters)
    updated = sum(math.prod(p.shape) for p in trainable)
    return {
        "parameters": count,
        "trainable": updated,
        "frozen": count - updated,
        "memory": sum(map(nbytes, parameters)),
        "buffers": sum(nbytes(unwrap(b)) for b in buffers.values() if b is not None),
        "gradients": sum(map(nbytes, trainable)),
        "outputs": outputs if traced else None,
    }


def _notes(totals: dict[str, int | None], rows: list[Row]) -> list[str]:
    count, trainable, frozen = (totals[k] or 0 for k in ("parameters", "trainable", "frozen"))
    where = ", ".join(dict.fromkeys(row.device for row in rows if row.device))
    first = f"{count:,} parameters ({trainable:,} trainable, {frozen:,} frozen)"
    notes = [f"{first}, on {where}" if where else first]
    if unbuilt := sum(not row.built for row in rows):
        cure = "as nothing calls them"
        if totals["outputs"] is None:
            cure = "call the model once, or say summary(input_shape=...)"
        notes.append(f"layers that are not built yet: {unbuilt}; {cure}")
    memory = [f"parameters {_human(totals['memory'] or 0)}"]
    if totals["buffers"]:
        memory.append(f"buffers {_human(totals['buffers'])}")
    memory.append(f"gradients {_human(totals['gradients'] or 0)}")
    if totals["outputs"] is not None:
        memory.append(f"outputs of the layers {_human(totals['outputs'])} for one example")
    notes.append(f"memory: {', '.join(memory)}")
    return notes


def _human(size: int) -> str:
    """Return bytes in the unit in which they have one to four digits: 8.2 KiB."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
