"""Dropout and noise: the same masks everywhere, the moments that they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import on

import xpnn
from xpnn import functional as F
from xpnn.backend import to_numpy
from xpnn.errors import ConfigError


def test_dropout_masks_are_the_same_on_every_device_and_keep_the_mean(device: Any) -> None:
    x = np.ones((200, 200), np.float32)
    xpnn.set_seed(1)
    here = F.dropout(x, 0.25)
    xpnn.set_seed(1)
    there = F.dropout(on(device, x), 0.25)
    np.testing.assert_array_equal(to_numpy(there), here)
    assert set(np.unique(here)) == {np.float32(0), np.float32(1 / 0.75)}
    assert here.mean() == pytest.approx(1, abs=0.02)
    assert F.dropout(x, 0.25, training=False) is x


def test_bad_arguments() -> None:
    with pytest.raises(ConfigError, match=r"'p' must be in \[0, 1\], got 2.0"):
        F.dropout(np.ones(3), 2.0)
