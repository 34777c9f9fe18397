"""Figures: made without pyplot, shown by notebooks, written whole or not at all."""

from __future__ import annotations

import functools
import io
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xpnn._extras import require
from xpnn.errors import ConfigError
from xpnn.io import replacing

__all__ = ["BLUE", "GREY", "ORANGE", "axes_for", "finished", "panels"]

# Of Okabe & Ito 2008: told apart by all who see colours differently, and in grey.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"
_DPI = 150


def axes_for(
    who: str,
    given: Any,
    count: int,
    size: tuple[float, float],
    columns: int = 3,
    layout: str = "constrained",
) -> list[Any]:
    """Return axes for this many panels: those that were given, or of a new figure.

    ``size`` is that of a panel in inches; "compressed" is the ``layout`` of panels whose sides have
    a ratio of their own, as images do.
    """
    if given is None:
        return panels(count, size, columns, layout)
    axes = list(given.flat) if hasattr(given, "flat") else given
    axes = list(axes) if isinstance(axes, Iterable) else [axes]
    if len(axes) < count or any(not hasattr(ax, "plot") for ax in axes):
        wanted = "one matplotlib Axes" if count == 1 else f"{count} matplotlib Axes, one a panel"
        msg = f"{who}: expected 'ax' to be {wanted}, got {given!r}."
        raise ConfigError(msg)
    return axes[:count]


def panels(count: int, size: tuple[float, float], columns: int, layout: str) -> list[Any]:
    """Return the axes of a new figure with this many panels."""
    figure_class = require("matplotlib.figure", "plot", "a picture").Figure
    columns = min(count, columns)
    rows = math.ceil(count / columns)
    figure = figure_class(figsize=(size[0] * columns, size[1] * rows), layout=layout)
    # Notebooks know how to show figures of pyplot only, but ask every object for this.
    figure._repr_png_ = functools.partial(_drawn, figure, "png")
    return [figure.add_subplot(rows, columns, i + 1) for i in range(count)]


def finished(who: str, axes: list[Any], path: str | os.PathLike[str] | None) -> Any:
    """Return the figure of some axes, after writing it if there is a path."""
    figure = axes[0].figure
    while figure is not figure.figure:  # a part of a figure
        figure = figure.figure
    if path is not None:
        _write(who, figure, Path(path))
    return figure


def _drawn(figure: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=_DPI)
    return buffer.getvalue()


def _write(who: str, figure: Any, path: Path) -> None:
    kind, known = path.suffix[1:].lower(), figure.canvas.get_supported_filetypes()
    if kind not in known:
        msg = (
            f"{who}: the suffix of 'path' says how a picture is written, for example .png, .svg or"
            f" .pdf; got {str(path)!r}."
        )
        raise ConfigError(msg)
    content = _drawn(figure, kind)
    with replacing(path) as file:
        file.write(content)
