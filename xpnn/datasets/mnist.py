"""MNIST, 70,000 handwritten digits, read from its original idx files."""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xpnn.datasets._download import load_file
from xpnn.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Split = tuple[NDArray[Any], NDArray[np.int64]]

__all__ = ["load_mnist"]


class _IdxFile(NamedTuple):
    """What an idx file of unsigned bytes must hold."""

    shape: tuple[int, ...]
    sha256: str  # of the uncompressed content: packers differ, the content does not


_MIRRORS: tuple[str, ...] = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)

# In the order in which load_mnist returns them.
_FILES: dict[str, _IdxFile] = {
    "train-images-idx3-ubyte.gz": _IdxFile(
        (60_000, 28, 28), "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    "train-labels-idx1-ubyte.gz": _IdxFile(
        (60_000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    "t10k-images-idx3-ubyte.gz": _IdxFile(
        (10_000, 28, 28), "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    "t10k-labels-idx1-ubyte.gz": _IdxFile(
        (10_000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
}


_BLOCK = 1 << 20
_UNSIGNED_BYTE = 0x08  # the idx code of the only data type used here


def load_mnist(
    *, normalize: bool = True, folder: str | os.PathLike[str] | None = None
) -> tuple[_Split, _Split]:
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
    train_images, train_labels, test_images, test_labels = (
        load_file(
            name,
            dataset="mnist",
            folder=folder,
            mirrors=_MIRRORS,
            read=partial(_read_idx, expected=expected),
        )
        for name, expected in _FILES.items()
    )
    return (
        (_pixels(train_images, normalize), train_labels.astype(np.int64)),
        (_pixels(test_images, normalize), test_labels.astype(np.int64)),
    )


def _pixels(images: NDArray[np.uint8], normalize: bool) -> NDArray[Any]:
    # The dtype keeps float64 out: no temporary of eight bytes a pixel.
    return np.divide(images, 255, dtype=np.float32) if normalize else images


def _read_idx(path: Path, expected: _IdxFile) -> NDArray[np.uint8]:
    """Read an idx file, packed or not, and accept nothing but the expected content.

    An idx file is a big-endian header (two zero bytes, the type code, the number of
    dimensions, then each dimension as uint32) followed by the values in C order.

    Raises DataError with the damage; where the file lay and what to do is the caller's to add.
    """
    rank = len(expected.shape)
    header = struct.Struct(f">{1 + rank}I")
    size = header.size + math.prod(expected.shape)
    content, length, sha256, damage = _read_content(path, size)

    magic = _UNSIGNED_BYTE << 8 | rank
    if not damage and length >= header.size:
        found_magic, *dims = header.unpack_from(content.data)
        if found_magic != magic:
            damage = f"wrong idx magic number: expected {magic:#010x}, found {found_magic:#010x}"
        elif tuple(dims) != expected.shape:
            damage = f"wrong dimensions: expected {expected.shape}, found {tuple(dims)}"
    if not damage and length != size:
        damage = "the content is too short" if length < size else "the content is too long"
    if not damage and sha256 != expected.sha256:
        damage = "the content is altered"
    if damage:
        msg = (
            f"{damage}. Expected {size} bytes (uncompressed) with SHA-256 {expected.sha256}, "
            f"found {length} bytes with SHA-256 {sha256}."
        )
        raise DataError(msg)
    return content[header.size :].reshape(expected.shape)


def _read_content(path: Path, size: int) -> tuple[NDArray[np.uint8], int, str, str]:
    """Keep the first ``size`` bytes; measure and hash all of them, in blocks.

    Returns the kept bytes, the length, the SHA-256 and what is wrong with the gzip data ("" if
    nothing). After damage the length and the SHA-256 are those of the bytes that came through.
    """
    import gzip  # these are slow to import, and only needed here
    import hashlib

    content = np.empty(size, dtype=np.uint8)
    room = content.data
    length, digest, damage = 0, hashlib.sha256(), ""
    try:
        with _open(path) as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
                kept = block[: max(size - length, 0)]
                room[length : length + len(kept)] = kept
                length += len(block)
    except EOFError:
        damage = "the gzip data ends too early"
    except (gzip.BadGzipFile, zlib.error) as error:
        damage = f"the gzip data is broken ({error})"
    return content, length, digest.hexdigest(), damage


def _open(path: Path) -> io.BufferedIOBase:
    """Open for reading; the first bytes, not the name, tell whether it is gzip.

    Browsers and some servers unpack a download and leave its name as it was.
    """
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    import gzip

    return gzip.open(path, "rb") if packed else path.open("rb")
