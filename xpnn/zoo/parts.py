"""What the builders of the networks share."""

from __future__ import annotations

from typing import Any

from xpnn import layers
from xpnn.errors import ConfigError
from xpnn.optim import schedules

__all__ = ["check_classes", "image", "rate", "rows"]


def rate(lr: float, steps: int | None, warmup: float = 0.0) -> Any:
    """Return a learning rate that falls to zero along half a cosine.

    Parameters
    ----------
    lr : float
        Where it starts, or what it rises to.
    steps : int, optional
        In how many steps it falls; None: it stays.
    warmup : float
        The fraction of the steps in which it rises linearly before.
    """
    if steps is None:
        return lr
    return schedules.CosineWarmup(lr, steps, warmup_steps=int(warmup * steps))


def check_classes(name: str, classes: int | None) -> None:
    """Refuse data without labels, and of one class.

    Raises
    ------
    ConfigError
    """
    if classes is None:
        msg = f"{name}: it tells classes apart, and the data has no labels of classes."
        raise ConfigError(msg)
    if classes < 2:
        msg = f"{name}: it tells classes apart, and all labels of the data are 0."
        raise ConfigError(msg)


def image(name: str, shape: tuple[int, ...], least: int = 1) -> layers.Layer:
    """Return the layer that gives images (N, H, W) or (N, H, W, C) their axis of channels.

    Raises
    ------
    ConfigError
        If examples are no images, or have fewer than ``least`` pixels on a side.
    """
    if len(shape) not in (2, 3):
        msg = f"{name}: expected images of shape (H, W) or (H, W, C), got examples of {shape}."
        raise ConfigError(msg)
    if min(shape[:2]) < least:
        msg = f"{name}: expected images of at least {least} x {least} pixels, got {shape}."
        raise ConfigError(msg)
    return layers.Reshape((*shape, 1) if len(shape) == 2 else shape)


def rows(name: str, shape: tuple[int, ...]) -> layers.Layer:
    """Return the layer that makes images sequences of their rows; sequences (T, D) stay.

    Raises
    ------
    ConfigError
        If examples have not two or three axes.
    """
    if len(shape) not in (2, 3):
        msg = (
            f"{name}: expected images of shape (H, W) or (H, W, C), or sequences of shape (T, D),"
            f" got examples of {shape}."
        )
        raise ConfigError(msg)
    return layers.Reshape((shape[0], shape[1] if len(shape) == 2 else shape[1] * shape[2]))
