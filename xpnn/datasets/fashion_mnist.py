"""Fashion-MNIST, 70,000 images of articles of clothing, read from its original idx files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from xpnn.datasets._idx import IdxFile, load_images

if TYPE_CHECKING:
    from xpnn.datasets._idx import Split

__all__ = ["load_fashion_mnist"]

_MIRRORS: tuple[str, ...] = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)

# In the order in which load_fashion_mnist returns them.
_FILES: dict[str, IdxFile] = {
    "train-images-idx3-ubyte.gz": IdxFile(
        (60_000, 28, 28), "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "train-labels-idx1-ubyte.gz": IdxFile(
        (60_000,), "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    "t10k-images-idx3-ubyte.gz": IdxFile(
        (10_000, 28, 28), "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    "t10k-labels-idx1-ubyte.gz": IdxFile(
        (10_000,), "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
}


def load_fashion_mnist(
    *, normalize: bool = True, folder: str | os.PathLike[str] | None = None
) -> tuple[Split, Split]:
    """Load Fashion-MNIST: 60,000 training and 10,000 test images of clothing, 28x28 pixels.

    Made to take MNIST's place where that has become too easy: sizes and format are the same, and
    so are the names of the files. They are looked for, packed (``.gz``) or not, in

    1. ``folder`` if given, its subfolder ``fashion_mnist`` first; else the subfolder
       ``fashion_mnist`` of the folder that the environment variable ``XPNN_DATA`` names,
    2. the cache: ``$XPNN_CACHE/fashion_mnist``, by default ``~/.cache/xpnn/fashion_mnist`` (Linux),
    3. public mirrors, from which they are downloaded into the cache (31 MB in all).

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
        labels of shape (60000,), int64: 0 T-shirt/top, 1 trouser, 2 pullover, 3 dress, 4 coat,
        5 sandal, 6 shirt, 7 sneaker, 8 bag, 9 ankle boot.
    (x_test, y_test) : tuple of numpy.ndarray
        The same for the 10,000 test images.

    Raises
    ------
    DataError
        If ``folder`` does not exist, a file is truncated or altered, the cache cannot be
        written, or no mirror delivers a file that is missing.

    Notes
    -----
    H. Xiao, K. Rasul, R. Vollgraf (2017), Fashion-MNIST: a novel image dataset for benchmarking
    machine learning algorithms, https://arxiv.org/abs/1708.07747. Licence: MIT, Zalando SE.

    Examples
    --------
    >>> from xpnn.datasets import load_fashion_mnist
    >>> (x_train, y_train), (x_test, y_test) = load_fashion_mnist()  # doctest: +SKIP
    >>> x_train.shape, y_train[:5].tolist()  # doctest: +SKIP
    ((60000, 28, 28), [9, 0, 0, 3, 0])
    """
    return load_images(
        "fashion_mnist",
        _FILES,
        _MIRRORS,
        normalize=normalize,
        folder=folder,
        own_folder=True,
    )
