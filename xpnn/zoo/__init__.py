"""Networks by name, each with the data and the settings it is trained with."""

from __future__ import annotations

from xpnn.zoo.attention import transformer
from xpnn.zoo.data import Splits
from xpnn.zoo.dense import (
    batch_normalization,
    logistic_regression,
    mlp,
    mlp_dropconnect,
    mlp_dropout,
    self_normalizing,
)
from xpnn.zoo.images import conv_pool, convnet, lenet5
from xpnn.zoo.pretrained import (
    autoencoder,
    contractive_autoencoder,
    deep_belief_network,
    denoising_autoencoder,
    gaussian_denoising_autoencoder,
    rbm,
    stacked_denoising_autoencoder,
)
from xpnn.zoo.recipe import RECIPES, Recipe, get
from xpnn.zoo.run import Outcome, train
from xpnn.zoo.sequences import gru, lstm, rnn
from xpnn.zoo.settings import listed, parse
from xpnn.zoo.vae import VAE, vae
from xpnn.zoo.wgan_gp import WassersteinGAN, critic_loss, gradient_norms, wgan_gp
from xpnn.zoo.word2vec import Word2Vec, word2vec

__all__ = [
    "RECIPES",
    "VAE",
    "Outcome",
    "Recipe",
    "Splits",
    "WassersteinGAN",
    "Word2Vec",
    "autoencoder",
    "batch_normalization",
    "contractive_autoencoder",
    "conv_pool",
    "convnet",
    "critic_loss",
    "deep_belief_network",
    "denoising_autoencoder",
    "gaussian_denoising_autoencoder",
    "get",
    "gradient_norms",
    "gru",
    "lenet5",
    "listed",
    "logistic_regression",
    "lstm",
    "mlp",
    "mlp_dropconnect",
    "mlp_dropout",
    "parse",
    "rbm",
    "rnn",
    "self_normalizing",
    "stacked_denoising_autoencoder",
    "train",
    "transformer",
    "vae",
    "wgan_gp",
    "word2vec",
]
