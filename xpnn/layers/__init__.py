"""Layers: forward formulas with parameters."""

from __future__ import annotations

from xpnn.layers.autoencoder import AutoEncoder
from xpnn.layers.base import Layer, Parameter
from xpnn.layers.calling import functional_call
from xpnn.layers.containers import Chain
from xpnn.layers.conv import Conv2D
from xpnn.layers.dense import Activation, Dense
from xpnn.layers.dropout import Dropout
from xpnn.layers.normalization import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from xpnn.layers.pooling import AvgPool2D, MaxPool2D
from xpnn.layers.rbm import RBM
from xpnn.layers.shape import Flatten, Reshape
from xpnn.layers.sparse import SparseEvolution
from xpnn.layers.unsupervised import Unsupervised

__all__ = [
    "RBM",
    "Activation",
    "AutoEncoder",
    "AvgPool2D",
    "BatchNorm",
    "Chain",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GroupNorm",
    "InstanceNorm",
    "Layer",
    "LayerNorm",
    "MaxPool2D",
    "Parameter",
    "RMSNorm",
    "Reshape",
    "SparseEvolution",
    "Unsupervised",
    "functional_call",
]
