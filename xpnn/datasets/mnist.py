"""MNIST, 70,000 handwritten digits, read from its original idx files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from xpnn.datasets._idx import IdxFile, load_images

if TYPE_CHECKING:
    from xpnn.datasets._idx import Split

__all__ = ["load_mnist"]

_MIRRORS: tuple[str, ...] = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)

# In the order in which load_mnist returns them.
_FILES: dict[str, IdxFile] = {
    "train-images-idx3-ubyte.gz": IdxFile(
        (60_000, 28, 28), "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    "train-labels-idx1-ubyte.gz": IdxFile(
        (60_000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    "t10k-images-idx3-ubyte.gz": IdxFile(
        (10_000, 28, 28), "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    "t10k-labels-idx1-ubyte.gz": IdxFile(
        (10_000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
}


def load_mnist(
    *, normalize: bool = True, folder: str | os.PathLike[str] | None = None
) -> tuple[Split, Split]:
    """Load MNIST: 60,000 training and 10,000 test images of handwritten digits, 28x28 pixels.

    Each of the four idx files, packed (``.gz``) or not, is looked for in

    1. ``folder`` if given, else the folder that the environment variable ``XPNN_DATA`` names;
       in both cases its subfolder ``mnist`` comes first,
    2. the cache: ``$XPNN_CACHE/mnist``, by default ``~/.cache/xpnn/mnist`` (Linux),
    3. public mirrors, from which it is downloaded into the cache (11 MB in all).

    Wherever a file comes from, the SHA-256 of its content is checked. A damaged file in the
    cache is deleted, one in the user's own folder never.

    Parameters
    ----------
    normalize : bool, default True
        Divide the pixels by 255. With False they stay whole numbers 0..255.
    folder : str or path-like, optional
        Where to look first, in place of ``XPNN_DATA``.

    Returns
    -------
    (x_train, y_train) : tuple of numpy.ndarray
        Images of shape (60000, 28, 28), float32 in [0, 1] or uint8 with ``normalize=False``;
        labels of shape (60000,), int64 in 0..9. Dense layers want
        ``x.reshape(len(x), 784)``, convolutions ``x[..., None]`` (channels last).
    (x_test, y_test) : tuple of numpy.ndarray
        The same for the 10,000 test images.

    Raises
    ------
    DataError
        If ``folder`` does not exist, a file is truncated or altered, the cache cannot be
        written, or no mirror delivers a file that is missing.

    Notes
    -----
    Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits.
    As float32 the images take 220 MB, as uint8 55 MB.

    Examples
    --------
    >>> from xpnn.datasets import load_mnist
    >>> (x_train, y_train), (x_test, y_test) = load_mnist()  # doctest: +SKIP
    >>> x_train.shape, y_train[:5].tolist()  # doctest: +SKIP
    ((60000, 28, 28), [5, 0, 4, 1, 9])
    """
    return load_images("mnist", _FILES, _MIRRORS, normalize=normalize, folder=folder)
