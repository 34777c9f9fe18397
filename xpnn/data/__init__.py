"""Data: mini-batches, parts, classes as rows, scales, text as integers."""

from __future__ import annotations

from xpnn.data.batches import Batch, Batches, as_arrays, minibatches, split
from xpnn.data.encoding import one_hot, unhot
from xpnn.data.prefetch import prefetched
from xpnn.data.scaling import MinMaxScaler, Scaler, StandardScaler
from xpnn.data.text import Vocabulary, split_words

__all__ = [
    "Batch",
    "Batches",
    "MinMaxScaler",
    "Scaler",
    "StandardScaler",
    "Vocabulary",
    "as_arrays",
    "minibatches",
    "one_hot",
    "prefetched",
    "split",
    "split_words",
    "unhot",
]
