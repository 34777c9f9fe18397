"""Learning curves."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

from xpnn._extras import require
from xpnn.errors import ConfigError, DataError
from xpnn.metrics._common import grows
from xpnn.plot._figure import BLUE, GREY, ORANGE, axes_for, finished

__all__ = ["curves"]

_FEW = 30  # epochs, of which each is a point that can be seen


def curves(
    history: Mapping[str, Any],
    names: str | Iterable[str] | None = None,
    *,
    log: bool = False,
    best: str | None = "auto",
    mode: str = "auto",
    path: str | os.PathLike[str] | None = None,
    ax: Any = None,
) -> Any:
    """Draw loss and metrics epoch by epoch: a panel each, training against validation.

    Parameters
    ----------
    history : History, or dict of lists
        What ``fit`` returns, or the content of a JSON file of it. A list that is shorter than the
        others ends with the last epoch; what is NaN or None is left out.
    names : str or iterable of str, optional
        Which values are drawn, such as ``["loss", "accuracy"]``, without ``val_``; all by default.
    log : bool
        Whether losses have a logarithmic scale.
    best : str, optional
        The value whose best epoch is marked in all panels; "auto" is ``val_loss``, or ``loss``
        where nothing was validated. None marks nothing.
    mode : {"auto", "min", "max"}
        Which way that value is better; "auto" takes "max" for accuracies and the like.
    path : path, optional
        A file to write, such as ``"curves.png"``.
    ax : matplotlib Axes, or array of them, optional
        Where to draw, one for each panel.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ConfigError
        If there is no value of a name, or a loss that is not positive is to have a logarithmic
        scale.
    DataError
        If the history is empty or no history.

    Notes
    -----
    Epochs whose value is infinite or no number are marked at the top.

    Examples
    --------
    >>> from xpnn import plot
    >>> history = {"loss": [0.9, 0.5, 0.3], "val_loss": [0.8, 0.6, 0.7]}
    >>> figure = plot.curves(history)  # path="curves.png" writes it
    >>> [line.get_label() for line in figure.axes[0].lines[:2]]
    ['training', 'validation']
    """
    values, epochs = _columns(history)
    shown = _panels(values, names)
    at = None if best is None else _best_epoch(values, best, mode)
    axes = axes_for("curves", ax, len(shown), (4.6, 3.4), columns=2 if len(shown) == 4 else 3)
    for axis, name in zip(axes, shown, strict=True):
        _panel(axis, name, values, epochs, at)
        if log and "loss" in name:
            _log_scale(axis, name, values)
    return finished("curves", axes, path)


def _columns(history: Any) -> tuple[dict[str, list[float]], int]:
    """Return the values by name, as floats and for all epochs, and the number of epochs."""
    if isinstance(history, Mapping) and isinstance(history.get("history"), Mapping):
        history = history["history"]  # of a file
    found: dict[str, list[float]] = {}
    try:
        for name, column in history.items():
            found[name] = [math.nan if x is None else float(x) for x in column]
    except (AttributeError, TypeError, ValueError) as error:
        msg = (
            "curves: expected a History, or a dict of lists of numbers such as"
            f" {{'loss': [0.5, 0.25]}}, got {history!r:.80}."
        )
        raise DataError(msg) from error
    epochs = max(map(len, found.values()), default=0)
    if not epochs:
        msg = "curves: the history has no epochs. Train first: model.fit(...) returns it."
        raise DataError(msg)
    return {k: [math.nan] * (epochs - len(v)) + v for k, v in found.items()}, epochs


def _panels(values: dict[str, list[float]], names: Any) -> list[str]:
    known = list(dict.fromkeys(name.removeprefix("val_") for name in values))
    if names is None:
        return known
    chosen = [names] if isinstance(names, str) else list(names)
    if not chosen or any(name not in known for name in chosen):
        msg = f"curves: 'names' must be some of {', '.join(known)}, got {names!r}."
        raise ConfigError(msg)
    return chosen


def _best_epoch(values: dict[str, list[float]], best: str, mode: str) -> int | None:
    """Return the epoch, from 0, at which a value was best; None if it never was a number."""
    if best == "auto":
        best = next((name for name in ("val_loss", "loss") if name in values), "")
        if not best:
            return None
    elif best not in values:
        msg = f"curves: 'best' must be one of {', '.join(values)}, got {best!r}."
        raise ConfigError(msg)
    sign = -1 if grows(best, mode, "curves") else 1
    finite = [(sign * x, i) for i, x in enumerate(values[best]) if math.isfinite(x)]
    return min(finite)[1] if finite else None


def _panel(
    ax: Any, name: str, values: dict[str, list[float]], epochs: int, best: int | None
) -> None:
    """Draw one value of training and of validation."""
    ticker = require("matplotlib.ticker", "plot", "a picture")
    along = list(range(1, epochs + 1))
    marker = "o" if epochs <= _FEW else None
    lost: set[int] = set()
    both = ((name, "training", BLUE), (f"val_{name}", "validation", ORANGE))
    drawn = [(values[column], label, colour) for column, label, colour in both if column in values]
    for ys, label, colour in drawn:
        line = "--" if len(drawn) > 1 and label == "training" else "-"  # told apart in grey as well
        finite = [y if math.isfinite(y) else math.nan for y in ys]
        ax.plot(along, finite, line, color=colour, label=label, marker=marker, markersize=3.5)
        if marker is None:  # epochs between two that are no number make no line
            alone = _alone(finite)
            ax.plot([along[i] for i in alone], [finite[i] for i in alone], ".", color=colour)
        began = next((i for i, y in enumerate(ys) if y == y), epochs)
        lost |= {i for i in range(began, epochs) if not math.isfinite(ys[i])}
        lost |= set(range(epochs)) if began == epochs else set()
    if lost:
        ax.plot(
            [along[i] for i in sorted(lost)], [0.97] * len(lost), "x", color="black",
            transform=ax.get_xaxis_transform(), label="not finite",
        )  # fmt: skip
    if best is not None:
        _mark(ax, name, values, best)
    ax.set_xlabel("epoch")
    ax.set_title(name)
    edge = 0.5 if epochs < 3 else min(0.03 * epochs, 0.5)
    ax.set_xlim(1 - edge, epochs + edge)
    ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))
    ax.grid(alpha=0.25)
    ax.legend(fontsize="small", framealpha=0.8)


def _alone(ys: list[float]) -> list[int]:
    """Return where numbers have none beside them."""
    padded = [math.nan, *ys, math.nan]
    return [
        i
        for i, (before, y, after) in enumerate(zip(padded, ys, padded[2:], strict=False))
        if y == y and before != before and after != after
    ]


def _mark(ax: Any, name: str, values: dict[str, list[float]], best: int) -> None:
    """Mark the best epoch, and say what the value was there."""
    said = f"best: epoch {best + 1}"
    for column in (f"val_{name}", name):
        y = values.get(column, [math.nan] * (best + 1))[best]
        if math.isfinite(y):
            said += f", {y:.4g}"
            ax.plot([best + 1], [y], "o", color="none", markeredgecolor="black", markersize=8)
            break
    ax.axvline(best + 1, color=GREY, linestyle=":", linewidth=1.2, label=said)


def _log_scale(ax: Any, name: str, values: dict[str, list[float]]) -> None:
    for column in (name, f"val_{name}"):
        low = min((y for y in values.get(column, ()) if math.isfinite(y)), default=1.0)
        if low <= 0:
            msg = (
                f"curves: log=True needs losses above 0, and {column!r} goes down to {low:.4g}."
                " Leave it away."
            )
            raise ConfigError(msg)
    ax.set_yscale("log")
