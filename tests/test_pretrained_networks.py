"""Networks that are pre-trained: what they are made of, and that they train."""

from __future__ import annotations

import pytest

import xpnn
from xpnn import datasets, layers, zoo
from xpnn.errors import ConfigError

NETWORKS = {
    "autoencoder": [{"corruption": 0.0, "noise_std": 0.0, "contraction": 0.0}],
    "denoising_autoencoder": [{"corruption": 0.3}],
    "gaussian_denoising_autoencoder": [{"noise_std": 0.3}],
    "contractive_autoencoder": [{"contraction": 0.3}],
    "stacked_denoising_autoencoder": [{"corruption": 0.2}, {"corruption": 0.4}],
    "rbm": [{"k": 1, "persistent": False}],
    "deep_belief_network": [{"k": 1}, {"k": 1}],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_by_name(name: str) -> None:
    recipe = zoo.get(name)
    model = recipe.build((8, 8), 10)
    hidden = [layer for layer in model if isinstance(layer, layers.Unsupervised)]
    for layer, expected in zip(hidden, NETWORKS[name], strict=True):
        assert {key: getattr(layer, key) for key in expected} == expected
        assert layer.hidden == 500
    assert recipe.settings["pretrain_epochs"] == 15

    x, y = datasets.load_digits()
    model = recipe.build((8, 8), 10, hidden=12)
    found = xpnn.pretrain(model, x[:60], **{**recipe.pretrain, "epochs": 1}, verbose=0)
    assert [h.epochs for h in found.values()] == [1] * len(hidden)
    history = model.fit(x[:60], y[:60], epochs=2, verbose=0)
    assert set(history) == {"loss", "accuracy"}
    with pytest.raises(ConfigError, match=f"{name}: it tells classes apart"):
        recipe.build((8, 8), None)
