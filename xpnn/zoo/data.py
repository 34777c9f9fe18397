"""Data by name, cut into what trains, what chooses and what tests."""

from __future__ import annotations

from math import isfinite
from typing import Any, NamedTuple

from xpnn import datasets
from xpnn.data import split
from xpnn.errors import ConfigError, DataError

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
    def examples(self) -> int:
        """How many there are to train with."""
        x = self.train[0]
        return len(x[0] if isinstance(x, tuple) else x)

    @property
    def classes(self) -> int | None:
        """The number of classes, if the targets are whole numbers in one axis; else None."""
        labels = [y for _, y in self]
        if any(y is None or y.ndim != 1 or y.dtype.kind not in "iu" for y in labels):
            return None
        return 1 + max(int(y.max()) for y in labels)


def images(name: str) -> Splits:
    """Return images with their classes: digits, mnist, fashion, or an ``.npz`` file's.

    Images are float32 in [0, 1], of shape (N, H, W); labels are whole numbers.

    Parameters
    ----------
    name : str
        "digits": a random fifth for the test, a tenth of the rest for validation, by the seed.
        "mnist", "fashion": 50,000 images, 10,000 (the last of the training set) and 10,000.
        A path that ends in ``.npz``: a file with the arrays x_train, y_train, x_test and y_test, of
        which a random tenth of the training set is for validation; or x and y, which are split
        like the digits. Without the labels, y is None. Bytes are divided by 255; other whole
        numbers become float32 as they are.

    Raises
    ------
    ConfigError
        If there is no data of that name.
    DataError
        If it is not to be had, or an array in the file does not fit.

    Examples
    --------
    >>> from xpnn.zoo.data import images
    >>> splits = images("digits")
    >>> [len(x) for x, y in splits], splits.shape, splits.classes
    ([1294, 144, 359], (8, 8), 10)
    """
    if name == "digits":
        return _split(*datasets.load_digits())
    if name in ("mnist", "fashion"):
        load = datasets.load_mnist if name == "mnist" else datasets.load_fashion_mnist
        (x, y), test = load()
        n = len(x) - _HELD_OUT
        return Splits((x[:n], y[:n]), (x[n:], y[n:]), test)
    if name.endswith(".npz"):
        return _own(name)
    msg = f"no data is called {name!r}; there are digits, mnist, fashion, and files *.npz."
    raise ConfigError(msg)


def _split(x: Any, y: Any, fraction: float = 0.2) -> Splits:
    """Hold out a part for the test, and of the rest a tenth for validation."""
    rest, test = _two(x, y, fraction)
    train, validation = _two(*rest, 0.1)
    return Splits(train, validation, test)


def _two(x: Any, y: Any, fraction: float) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    if y is None:
        x, x_out = split(x, fraction=fraction)
        return (x, None), (x_out, None)
    x, x_out, y, y_out = split(x, y, fraction=fraction)
    return (x, y), (x_out, y_out)


_CLASSES = 1000  # more than examples, and more than this, are taken for a mistake
_NAMES = "x_train, y_train, x_test and y_test, or x and y"


def _own(path: str) -> Splits:
    """Return the data in a file of one's own."""
    arrays = datasets.load_npz(path)
    parts = ("x_train", "x_test") if "x_train" in arrays else ("x",)
    known = {name.replace("x", letter) for name in parts for letter in "xy"}
    labels = [name.replace("x", "y") for name in parts]
    missing = [name for name in parts if name not in arrays]
    if any(name in arrays for name in labels):
        missing += [name for name in labels if name not in arrays]
    if missing or arrays.keys() - known:
        msg = f"{path}: expected arrays {_NAMES}, got {', '.join(arrays) or 'none'}."
        raise DataError(msg)
    pairs = [
        (_examples(path, x, arrays[x]), _labels(path, y, arrays.get(y), len(arrays[x])))
        for x, y in zip(parts, labels, strict=True)
    ]
    if len({x.shape[1:] for x, _ in pairs}) > 1:
        shapes = " and ".join(str(x.shape[1:]) for x, _ in pairs)
        msg = f"{path}: training and test examples have different shapes, {shapes}."
        raise DataError(msg)
    if len(pairs) == 1:
        return _split(*pairs[0])
    train, validation = _two(*pairs[0], 0.1)
    return Splits(train, validation, pairs[1])


def _examples(path: str, name: str, x: Any) -> Any:
    """Return examples as floats, or refuse them."""
    if x.ndim < 2 or not x.size:
        msg = f"{path}: expected {name} of shape (N, ...) with N examples, got {x.shape}."
        raise DataError(msg)
    if x.dtype.kind != "f":
        return x.astype("float32") / (255 if x.dtype == "uint8" else 1)
    if not isfinite(float(x.sum(dtype="float64"))):
        msg = f"{path}: {name} holds NaN or infinite values."
        raise DataError(msg)
    return x


def _labels(path: str, name: str, y: Any, n: int) -> Any:
    """Return labels 0, 1, ... as they are, or refuse them."""
    if y is None:
        return None
    if y.shape != (n,) or y.dtype.kind not in "iu":
        msg = f"{path}: expected {name} of shape ({n},), whole numbers; got {y.shape}, {y.dtype}."
        raise DataError(msg)
    if int(y.min()) < 0 or int(y.max()) >= max(n, _CLASSES):
        msg = (
            f"{path}: {name} must number the classes from 0 on, got {y.min()} to {y.max()}."
            " numpy.unique(y, return_inverse=True) numbers them."
        )
        raise DataError(msg)
    return y


def unlabelled(name: str) -> Splits:
    """Return the images without their classes, for models whose objective needs no targets."""
    return Splits(*((x, None) for x, _ in images(name)))


def reconstruction(name: str) -> Splits:
    """Return the images as inputs and as targets, for models that reconstruct them."""
    return Splits(*((x, x) for x, _ in images(name)))
