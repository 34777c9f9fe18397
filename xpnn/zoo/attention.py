"""A transformer that looks at the patches of an image."""

from __future__ import annotations

import math

from xpnn import layers, optim
from xpnn.errors import ConfigError
from xpnn.training import Sequential
from xpnn.zoo.parts import check_classes, image, rate
from xpnn.zoo.recipe import recipe

__all__ = ["transformer"]


@recipe(epochs=10, batch_size=100, least_steps=2000)
def transformer(
    shape: tuple[int, ...],
    classes: int,
    *,
    lr: float = 1e-3,
    patch: int | None = None,
    embed_dim: int = 64,
    num_layers: int = 2,
    num_heads: int = 4,
    dropout: float = 0.1,
    weight_decay: float = 0.05,
    steps: int | None = None,
) -> Sequential:
    """A small vision transformer: patches of an image, self-attention, their mean.

    Parameters
    ----------
    shape : tuple of int
        (H, W) or (H, W, C).
    classes : int
    lr, weight_decay : float
        Of AdamW; the rate rises in the first tenth of the steps.
    patch : int, optional
        The side of a patch, in pixels; by default the largest that divides the image into at least
        four by four.
    embed_dim : int
        The size of the vector of a patch.
    num_layers, num_heads : int
    dropout : float
    steps : int, optional
        In how many steps the learning rate falls to zero; those of the whole run by default.

    Returns
    -------
    Sequential
        Compiled.

    Raises
    ------
    ConfigError
        If patches do not divide the image.

    Notes
    -----
    Dosovitskiy et al. 2021 in small: normalization first, the mean of the patches in place of a
    class token, and sines for the places.
    """
    check_classes("transformer", classes)
    channels = image("transformer", shape)
    height, width = shape[:2]
    if patch is None:
        sides = math.gcd(height, width)
        patch = next((p for p in range(min(height, width) // 4, 1, -1) if sides % p == 0), 1)
    if patch < 1 or height % patch or width % patch:
        msg = f"transformer: patches of {patch} x {patch} pixels do not divide {height} x {width}."
        raise ConfigError(msg)
    model = Sequential(
        [
            channels,
            layers.Conv2D(embed_dim, patch, stride=patch),
            layers.Reshape((height // patch * (width // patch), embed_dim)),
            layers.PositionalEncoding(),
            *(
                layers.TransformerEncoderLayer(
                    num_heads, 4 * embed_dim, dropout=dropout, activation="gelu", norm_first=True
                )
                for _ in range(num_layers)
            ),
            layers.LayerNorm(),
            layers.GlobalAvgPool(),
            layers.Dense(classes),
        ]
    )
    optimizer = optim.AdamW(rate(lr, steps, 0.1), weight_decay=weight_decay, clip_global_norm=1.0)
    model.compile("cross_entropy", optimizer, metrics=["accuracy"])
    return model
