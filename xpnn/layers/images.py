"""The two ways in which images come: (N, H, W, C), which is xpnn's own, and (N, C, H, W)."""

from __future__ import annotations

from typing import Any

from xpnn.backend import array_namespace
from xpnn.errors import ConfigError

__all__ = ["channels_first", "channels_last", "images"]

Array = Any


def images(who: str, data_format: str) -> str:
    """Return a ``data_format`` that is one of the two."""
    if data_format not in ("channels_last", "channels_first"):
        msg = (
            f"{who}: 'data_format' must be 'channels_last' or 'channels_first', got"
            f" {data_format!r}."
        )
        raise ConfigError(msg)
    return data_format


def channels_last(x: Array, data_format: str) -> Array:
    """Return images in xpnn's own order; what is no image is returned as it is."""
    if data_format == "channels_last" or x.ndim != 4:
        return x
    return array_namespace(x).permute_dims(x, (0, 2, 3, 1))


def channels_first(x: Any, data_format: str) -> Any:
    """Return images, or their shape, from xpnn's own order in the order of ``data_format``."""
    if data_format == "channels_last":
        return x
    if isinstance(x, tuple):
        return (x[0], x[3], x[1], x[2])
    return array_namespace(x).permute_dims(x, (0, 3, 1, 2))
