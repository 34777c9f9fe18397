"""The two ways in which sequences and images come: channels last, xpnn's own, and first."""

from __future__ import annotations

from typing import Any

from xpnn.backend import array_namespace
from xpnn.errors import ConfigError, ShapeError

__all__ = ["channels_first", "channels_last", "example_shape", "images"]

Array = Any

_SHAPES = {
    ("channels_last", 1): "(N, T, C)",
    ("channels_last", 2): "(N, H, W, C)",
    ("channels_first", 1): "(N, C, T)",
    ("channels_first", 2): "(N, C, H, W)",
}


def images(who: str, data_format: str) -> str:
    """Return a ``data_format`` that is one of the two."""
    if data_format not in ("channels_last", "channels_first"):
        msg = (
            f"{who}: 'data_format' must be 'channels_last' or 'channels_first', got"
            f" {data_format!r}."
        )
        raise ConfigError(msg)
    return data_format


def example_shape(
    who: str, shape: tuple[int, ...], data_format: str, axes: int, channels: int | None = None
) -> tuple[int, ...]:
    """Return the shape of sequences (one axis) or images (two) with the channels last.

    Raises
    ------
    ShapeError
        If there are more or fewer axes, or other than ``channels`` channels.
    """
    expected = _SHAPES[data_format, axes]
    if len(shape) != axes + 2:
        msg = (
            f"{who}: expected x of shape {expected}, got {tuple(shape)}. A single example needs a"
            " batch axis, x[None, ...], and one without channels a channel axis, for example"
            " x[..., None]."
        )
        raise ShapeError(msg)
    n, *size = shape
    size = [*size[1:], size[0]] if data_format == "channels_first" else size
    if channels is not None and size[-1] != channels:
        other = "channels_last" if data_format == "channels_first" else "channels_first"
        msg = (
            f"{who}: expected x of shape {expected} with {channels} channels, got {tuple(shape)}."
            f" If its axes lie the other way, give data_format={other!r}."
        )
        raise ShapeError(msg)
    return (n, *size)


def channels_last(x: Array, data_format: str) -> Array:
    """Return sequences or images in xpnn's own order."""
    if data_format == "channels_last" or x.ndim < 3:
        return x
    return array_namespace(x).moveaxis(x, 1, -1)


def channels_first(x: Array, data_format: str) -> Array:
    """Return sequences or images from xpnn's own order in the order of ``data_format``."""
    if data_format == "channels_last":
        return x
    return array_namespace(x).moveaxis(x, -1, 1)
