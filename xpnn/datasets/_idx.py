"""Images in idx files, the format of MNIST."""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xpnn.datasets._download import load_file
from xpnn.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Split = tuple[NDArray[Any], NDArray[np.int64]]

__all__ = ["IdxFile", "load_images"]

_BLOCK = 1 << 20
_UNSIGNED_BYTE = 0x08  # the idx code of the only data type used here


class IdxFile(NamedTuple):
    """What an idx file of unsigned bytes must hold."""

    shape: tuple[int, ...]
    sha256: str  # of the uncompressed content: packers differ, the content does not


def load_images(
    dataset: str,
    files: Mapping[str, IdxFile],
    mirrors: Sequence[str],
    *,
    normalize: bool,
    folder: str | os.PathLike[str] | None,
    own_folder: bool = False,
) -> tuple[Split, Split]:
    """Load training images and labels, test images and labels, from four files in that order."""
    train_images, train_labels, test_images, test_labels = (
        load_file(
            name,
            dataset=dataset,
            folder=folder,
            mirrors=mirrors,
            read=partial(_read_idx, expected=expected),
            own_folder=own_folder,
        )
        for name, expected in files.items()
    )
    return (
        (_pixels(train_images, normalize), train_labels.astype(np.int64)),
        (_pixels(test_images, normalize), test_labels.astype(np.int64)),
    )


def _pixels(images: NDArray[np.uint8], normalize: bool) -> NDArray[Any]:
    # The dtype keeps float64 out: no temporary of eight bytes a pixel.
    return np.divide(images, 255, dtype=np.float32) if normalize else images


def _read_idx(path: Path, expected: IdxFile) -> NDArray[np.uint8]:
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
