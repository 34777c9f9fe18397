"""Pictures of training, predictions and weights.

Every function returns a matplotlib ``Figure``, which a notebook shows as the value of its cell;
``path`` also writes it to a file, whose suffix says in which format, and ``ax`` draws into axes
that are there. Figures are made without ``pyplot``: no window is opened and no backend chosen, so
it works on servers and in threads. ``pip install 'xpnn[plot]'`` brings matplotlib.
"""

from __future__ import annotations

from xpnn.plot.curves import curves
from xpnn.plot.images import filters, images, reconstructions
from xpnn.plot.matrix import confusion_matrix
from xpnn.plot.weights import weight_histograms

__all__ = [
    "confusion_matrix",
    "curves",
    "filters",
    "images",
    "reconstructions",
    "weight_histograms",
]
