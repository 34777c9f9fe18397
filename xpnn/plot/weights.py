"""How weights are spread."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from xpnn.backend import array_namespace, to_numpy, unwrap
from xpnn.errors import ConfigError
from xpnn.plot._figure import BLUE, ORANGE, axes_for, finished

__all__ = ["weight_histograms"]

_BINS = 50


def weight_histograms(
    model: Any,
    names: Iterable[str] | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    ax: Any = None,
) -> Any:
    """Draw a histogram of each parameter, with name, shape, mean and standard deviation.

    Parts that are zero, NaN or infinite are counted and said: many zeros in a weight are dead units
    or pruned connections, and one NaN is a run that went astray.

    Parameters
    ----------
    model : Layer
        Built: called or fitted once.
    names : iterable of str, optional
        Which parameters, by the names of ``model.named_parameters()``; all by default.
    path : path, optional
        A file to write.
    ax : matplotlib Axes, or array of them, optional
        Where to draw, one for each parameter.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ConfigError
        If the model has no parameters yet, or none of a name.

    Examples
    --------
    >>> import xpnn
    >>> figure = xpnn.plot.weight_histograms(xpnn.layers.Dense(8, in_features=16))
    >>> [panel.get_title(loc="left") for panel in figure.axes]
    ['weight  (16, 8)', 'bias  (8,)']
    """
    known = model.named_parameters()
    if not known:
        msg = (
            f"weight_histograms: {type(model).__name__} has no parameters yet. Call it once, or fit"
            " it, to build it."
        )
        raise ConfigError(msg)
    chosen = list(known) if names is None else [names] if isinstance(names, str) else list(names)
    if not chosen or any(name not in known for name in chosen):
        msg = f"weight_histograms: 'names' must be some of {', '.join(known)}, got {names!r}."
        raise ConfigError(msg)
    axes = axes_for("weight_histograms", ax, len(chosen), (3.6, 2.3))
    for axis, name in zip(axes, chosen, strict=True):
        _panel(axis, name, to_numpy(unwrap(known[name])))
    return finished("weight_histograms", axes, path)


def _panel(ax: Any, name: str, values: Any) -> None:
    xp = array_namespace(values)
    flat = xp.astype(xp.reshape(values, (-1,)), xp.float64)
    good = flat[xp.isfinite(flat)]
    ax.set_title(f"{name}  {tuple(values.shape)}", loc="left", fontsize="small")
    ax.tick_params(labelsize="small")
    ax.set_yticks([])
    for side in ("left", "right", "top"):
        ax.spines[side].set_visible(False)
    lines: list[str] = []
    bad: list[str] = []
    if good.shape[0]:
        counts, *_ = ax.hist(good, bins=_BINS, color=BLUE)
        ax.set_ylim(0, 1.4 * max(counts))  # room for what is said
        ax.locator_params(axis="x", nbins=5)
        mean, std = float(xp.mean(good)), float(xp.std(good))
        ax.axvline(mean, color="black", linewidth=0.8, linestyle=":")
        lines.append(f"{mean:.3g} ± {std:.3g}")
    for count, word in (
        (int(xp.count_nonzero(flat == 0)), "zero"),
        (int(xp.count_nonzero(flat != flat)), "NaN"),
        (int(xp.count_nonzero(xp.isinf(flat))), "infinite"),
    ):
        if count:
            text = f"{_share(count, flat.shape[0])} {word}"
            (lines if word == "zero" else bad).append(text)
    for row, text in enumerate([*lines, *bad]):
        alarm = {"color": ORANGE, "fontweight": "bold"} if text in bad else {}
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1}
        ax.text(
            0.99, 0.97 - 0.14 * row, text, transform=ax.transAxes, ha="right", va="top",
            fontsize="small", bbox=box, **alarm,
        )  # fmt: skip


def _share(count: int, of: int) -> str:
    """Return a count as percent that is neither 0 nor 100 unless it is so."""
    percent = 100 * count / of
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.3g} %"
