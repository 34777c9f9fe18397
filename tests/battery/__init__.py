"""The table of layers: a row each, which every check of ``test_layers.py`` runs through."""

from __future__ import annotations

from battery import (
    activation,
    attention,
    blocks,
    containers,
    convolution,
    dense,
    dropout,
    embedding,
    images,
    merge,
    normalization,
    pooling,
    recurrent,
    sampling,
    shape,
    sparse,
    unsupervised,
)
from battery.row import Bools, Ints, Row

__all__ = ["LAYERS", "Bools", "Ints", "Row"]

LAYERS = [
    *dense.ROWS,
    *activation.ROWS,
    *shape.ROWS,
    *dropout.ROWS,
    *convolution.ROWS,
    *pooling.ROWS,
    *images.ROWS,
    *blocks.ROWS,
    *normalization.ROWS,
    *merge.ROWS,
    *sampling.ROWS,
    *embedding.ROWS,
    *attention.ROWS,
    *recurrent.ROWS,
    *containers.ROWS,
    *sparse.ROWS,
    *unsupervised.ROWS,
]
