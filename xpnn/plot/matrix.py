"""What was taken for what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from xpnn import metrics
from xpnn._extras import require
from xpnn.backend import to_numpy, unwrap
from xpnn.errors import ConfigError, DataError, ShapeError
from xpnn.plot._figure import axes_for, finished

__all__ = ["confusion_matrix"]

Array = Any

_MOST = 40  # classes whose numbers can be read
_AXES = {"true": 1, "pred": 0, "all": (0, 1)}


def confusion_matrix(
    predictions: Array,
    targets: Array,
    labels: Sequence[Any] | None = None,
    normalize: str | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    ax: Any = None,
) -> Any:
    """Draw how often each class was taken for each class: targets in rows, predictions in columns.

    Parameters
    ----------
    predictions : array of shape (N, classes), or (N,)
        Logits or probabilities, as ``model.predict`` gives; or predicted labels.
    targets : array of shape (N,), or (N, classes)
        Integer labels, or one-hot rows.
    labels : sequence, optional
        The names of the classes, from class 0 on.
    normalize : {"true", "pred", "all"}, optional
        Divide by how often a class is a target, by how often it is predicted, or by N; with "true"
        the diagonal is the recall of each class, with "pred" the precision.
    path : path, optional
        A file to write.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ConfigError
        If 'normalize' is something else, or there are fewer names than classes.
    ShapeError, DataError
        If predictions and targets do not belong together, or there are none.

    Notes
    -----
    The order of the arguments is that of all metrics. Of more than 40 classes the numbers are left
    out, and a bar tells the colours.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import plot
    >>> figure = plot.confusion_matrix(np.asarray([0, 1, 1]), np.asarray([0, 0, 1]), ["cat", "dog"])
    >>> figure.axes[0].get_title()
    'accuracy 66.7 % of 3'
    """
    if normalize not in (None, *_AXES):
        msg = (
            f"confusion_matrix: 'normalize' must be None or 'true', 'pred' or 'all', got"
            f" {normalize!r}."
        )
        raise ConfigError(msg)
    counts = _counted(predictions, targets, labels)
    classes, total = len(counts), int(counts.sum())
    shown = counts
    if normalize is not None:
        sums = counts.sum(axis=_AXES[normalize], keepdims=True)
        shown = counts / sums.clip(min=1)
    names = [str(i) for i in range(classes)] if labels is None else [str(x) for x in labels]
    longest = max(map(len, names))
    side = 7.5 if classes > _MOST else 2.0 + 0.5 * classes
    wide = 0.0 if classes > _MOST else 0.07 * longest
    (ax,) = axes_for(
        "confusion_matrix",
        ax,
        1,
        (side + wide, side + (wide if longest > 3 else 0)),
        layout="compressed",
    )
    # By the root, so that a few mistakes among many hits have a colour that is seen.
    colours = require("matplotlib.colors", "plot", "a picture")
    norm = colours.PowerNorm(0.5, vmin=0, vmax=max(float(shown.max()), 1e-12))
    image = ax.imshow(shown, cmap="Blues", norm=norm)
    if classes > _MOST:
        ax.figure.colorbar(image, ax=ax, shrink=0.8)
    else:
        _write_numbers(ax, shown, normalize is None)
        turned = longest > 3
        turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if turned else {}
        ax.set_xticks(range(classes), names, **turn)
        ax.set_yticks(range(classes), names)
    ax.set_xlabel("predicted")
    ax.set_ylabel("target")
    ax.set_title(f"accuracy {100 * float(counts.trace()) / total:.1f} % of {total:,}")
    return finished("confusion_matrix", [ax], path)


def _counted(predictions: Any, targets: Any, labels: Any) -> Any:
    """Return the matrix of counts, on the host."""
    predictions, targets = to_numpy(unwrap(predictions)), to_numpy(unwrap(targets))
    if targets.ndim == 2 and targets.shape == predictions.shape:
        targets = targets.argmax(axis=-1)
    if targets.ndim != 1 or predictions.ndim not in (1, 2) or len(predictions) != len(targets):
        msg = (
            "confusion_matrix: expected predictions (N, classes) or (N,) and then targets (N,), got"
            f" {predictions.shape} and {targets.shape}."
        )
        raise ShapeError(msg)
    if not len(targets):
        msg = "confusion_matrix: there are no examples."
        raise DataError(msg)
    classes = None
    if predictions.ndim == 1:
        classes = int(max(predictions.max(), targets.max())) + 1 if labels is None else len(labels)
    elif labels is not None and len(labels) != predictions.shape[1]:
        msg = (
            f"confusion_matrix: {len(labels)} labels, but predictions of shape {predictions.shape}"
            f" have {predictions.shape[1]} classes. 'labels' names each, from class 0 on."
        )
        raise ConfigError(msg)
    return to_numpy(metrics.confusion_matrix(predictions, targets, num_classes=classes))


def _write_numbers(ax: Any, shown: Any, whole: bool) -> None:
    """Write values into cells, dark on light and light on dark; zeros are pale."""
    middle = float(shown.max()) * 0.3
    longest = 0
    texts = []
    for i, row in enumerate(shown):
        for j, value in enumerate(row):
            text = f"{int(value)}" if whole else f"{value:.2f}"
            longest = max(longest, len(text))
            colour = "white" if value > middle else "black" if value else "#9a9a9a"
            text = text if value or whole else "0"
            texts.append(ax.text(j, i, text, ha="center", va="center", color=colour))
    cell = ax.bbox.width / ax.figure.dpi * 72 / len(shown)  # points
    for text in texts:
        text.set_in_layout(False)  # they lie in the cells: measuring them takes seconds
        text.set_fontsize(max(3.0, min(10.0, 1.4 * cell / (longest + 1))))
