"""Data by name, cut into what trains, what chooses and what tests."""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnn import datasets
from xpnn.data import split
from xpnn.errors import ConfigError

__all__ = ["Splits", "images", "reconstruction", "unlabelled"]

_HELD_OUT = 10_000  # of MNIST's training set, the last: the usual validation set


class Splits(NamedTuple):
    """Three pairs ``(x, y)``; y is None where there are no targets.

    Attributes
    ----------
    train, validation, test : pair
        What the weights are fitted to; what decides which weights are kept; what is looked at
        once, at the end.
    """

    train: tuple[Any, Any]
    validation: tuple[Any, Any]
    test: tuple[Any, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example (of the first input, where there are several)."""
        x = self.train[0]
        return tuple((x[0] if isinstance(x, tuple) else x).shape[1:])

    @property
    def classes(self) -> int | None:
        """The number of classes, if the targets are whole numbers in one axis; else None."""
        labels = [y for _, y in self]
        if any(y is None or y.ndim != 1 or y.dtype.kind not in "iu" for y in labels):
            return None
        return 1 + max(int(y.max()) for y in labels)


def images(name: str) -> Splits:
    """Return images with their classes: digits, mnist.

    The images are float32 in [0, 1], of shape (N, H, W); the labels are whole numbers.

    Parameters
    ----------
    name : str
        "digits": a random fifth for the test, a tenth of the rest for validation, by the seed.
        "mnist": 50,000, 10,000 (the last of the training set) and 10,000 images.

    Raises
    ------
    ConfigError
        If there is no data of that name.

    Examples
    --------
    >>> from xpnn.zoo.data import images
    >>> splits = images("digits")
    >>> [len(x) for x, y in splits], splits.shape, splits.classes
    ([1294, 144, 359], (8, 8), 10)
    """
    if name == "digits":
        x, y = datasets.load_digits()
        x, x_test, y, y_test = split(x, y, fraction=0.2)
        x, x_val, y, y_val = split(x, y, fraction=0.1)
        return Splits((x, y), (x_val, y_val), (x_test, y_test))
    if name == "mnist":
        (x, y), test = datasets.load_mnist()
        n = len(x) - _HELD_OUT
        return Splits((x[:n], y[:n]), (x[n:], y[n:]), test)
    msg = f"no data is called {name!r}; there are digits, mnist."
    raise ConfigError(msg)


def unlabelled(name: str) -> Splits:
    """Return the images without their classes, for models whose objective needs no targets."""
    return Splits(*((x, None) for x, _ in images(name)))


def reconstruction(name: str) -> Splits:
    """Return the images as inputs and as targets, for models that reconstruct them."""
    return Splits(*((x, x) for x, _ in images(name)))
