"""Layers: forward formulas with parameters."""

from __future__ import annotations

from xpnn.layers.activation import Activation, Maxout, PReLU, Softmax
from xpnn.layers.attention import DotProductAttention, MultiHeadAttention
from xpnn.layers.autoencoder import AutoEncoder
from xpnn.layers.base import Layer, Parameter
from xpnn.layers.blocks import ConvPool2D, ResidualBlock, WaveNetBlock
from xpnn.layers.calling import functional_call
from xpnn.layers.containers import Chain, Parallel, Residual
from xpnn.layers.conv import Conv1D, Conv2D, ConvTranspose1D, ConvTranspose2D
from xpnn.layers.dense import Dense
from xpnn.layers.dropout import AlphaDropout, DropConnect, Dropout, GaussianNoise
from xpnn.layers.embedding import Embedding, PositionalEncoding
from xpnn.layers.merge import Add, Average, Concatenate, Dot, Maximum, Multiply
from xpnn.layers.normalization import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from xpnn.layers.pooling import (
    AvgPool1D,
    AvgPool2D,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool1D,
    MaxPool2D,
)
from xpnn.layers.rbm import RBM
from xpnn.layers.recurrent import GRU, LSTM, RNN
from xpnn.layers.recurrent_bidirectional import Bidirectional
from xpnn.layers.recurrent_cells import GRUCell, LSTMCell, RNNCell
from xpnn.layers.resize import UpSample2D, ZeroPad1D, ZeroPad2D
from xpnn.layers.sampling import NegativeSampling
from xpnn.layers.shape import ExpandDims, Flatten, Lambda, Permute, Reshape, Squeeze
from xpnn.layers.sparse import SparseEvolution
from xpnn.layers.transformer import TransformerDecoderLayer, TransformerEncoderLayer
from xpnn.layers.unsupervised import Unsupervised

__all__ = [
    "GRU",
    "LSTM",
    "RBM",
    "RNN",
    "Activation",
    "Add",
    "AlphaDropout",
    "AutoEncoder",
    "Average",
    "AvgPool1D",
    "AvgPool2D",
    "BatchNorm",
    "Bidirectional",
    "Chain",
    "Concatenate",
    "Conv1D",
    "Conv2D",
    "ConvPool2D",
    "ConvTranspose1D",
    "ConvTranspose2D",
    "Dense",
    "Dot",
    "DotProductAttention",
    "DropConnect",
    "Dropout",
    "Embedding",
    "ExpandDims",
    "Flatten",
    "GRUCell",
    "GaussianNoise",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "InstanceNorm",
    "LSTMCell",
    "Lambda",
    "Layer",
    "LayerNorm",
    "MaxPool1D",
    "MaxPool2D",
    "Maximum",
    "Maxout",
    "MultiHeadAttention",
    "Multiply",
    "NegativeSampling",
    "PReLU",
    "Parallel",
    "Parameter",
    "Permute",
    "PositionalEncoding",
    "RMSNorm",
    "RNNCell",
    "Reshape",
    "Residual",
    "ResidualBlock",
    "Softmax",
    "SparseEvolution",
    "Squeeze",
    "TransformerDecoderLayer",
    "TransformerEncoderLayer",
    "Unsupervised",
    "UpSample2D",
    "WaveNetBlock",
    "ZeroPad1D",
    "ZeroPad2D",
    "functional_call",
]
