"""Layers: forward formulas with parameters."""

from __future__ import annotations

from xpnn.layers.base import Layer, Parameter, functional_call
from xpnn.layers.containers import Chain
from xpnn.layers.dense import Activation, Dense
from xpnn.layers.dropout import Dropout
from xpnn.layers.shape import Flatten, Reshape

__all__ = [
    "Activation",
    "Chain",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "Parameter",
    "Reshape",
    "functional_call",
]
