"""Files: arrays and JSON in one ``.safetensors`` file, written whole or not at all. No pickle.

The format is three parts: the length of the header (8 bytes, little-endian), the header (JSON), and
the arrays one after another. ``__metadata__`` in the header holds

================  ================================================================================
``sha256``        the hash of the whole file, with zeros in the place of the hash itself
``xpnn``          the configuration, a JSON value as text
``xpnn_format``   the version of these four
``xpnn_version``  the version of the library that wrote the file
================  ================================================================================

Any reader of safetensors reads the arrays. They are written and read here, and not by the package
of that name: each goes between its own memory and the file, hashed on the way and copied nowhere;
equal arrays make equal files; and what a file says of itself is believed only as far as its size.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from xpnn import backend
from xpnn._dtypes import as_dtype
from xpnn._libraries import host_dtype
from xpnn.errors import ConfigError, DataError, DTypeError

__all__ = ["read", "replacing", "write", "write_text"]

_FORMAT = "1"
_ZEROS = "0" * 64  # what stands for the hash while it is computed
_LONGEST = 100_000_000  # bytes of a header, the limit of the format
_MOST_AXES = 64  # of NumPy
_NAMES = {
    "bool": "BOOL",
    "bfloat16": "BF16",
    "complex64": "C64",
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
}
_DTYPES = {short: name for name, short in _NAMES.items()}


def write(path: str | os.PathLike[str], arrays: Mapping[str, Any], config: Any) -> None:
    """Write arrays by name and a JSON value to a file, atomically.

    Parameters
    ----------
    path : path
    arrays : dict of arrays
        Of any library; they are fetched to the host one by one.
    config : JSON value
        Stored in the file's metadata.

    Raises
    ------
    DTypeError
        If an array has a dtype that the format has not, such as complex128.
    ConfigError
        If ``config`` is no JSON value, or a name no string.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from xpnn import io
    >>> path = f"{tempfile.mkdtemp()}/one.safetensors"
    >>> io.write(path, {"x": np.ones(2)}, {"step": 7})
    >>> io.read(path)
    ({'x': array([1., 1.])}, {'step': 7})
    """
    given = {k: x if hasattr(x, "dtype") else backend.to_numpy(x) for k, x in arrays.items()}
    header, order = _header(path, given, config)
    digest = hashlib.sha256(header)
    with replacing(path) as file:
        file.write(header)
        for name in order:
            content = _bytes(given[name])
            digest.update(content)
            file.write(content)
        file.seek(header.index(_ZEROS.encode()))
        file.write(digest.hexdigest().encode())


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8, atomically.

    Raises
    ------
    FileNotFoundError
        If its folder does not exist.
    """
    with replacing(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a new file to write; at the end it takes the place of ``path``, or is removed.

    Whatever happens, there is the old file or the new one, and never a part of it: it is written
    under another name beside the old one, reaches the disk, and then takes its place.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    """
    # What os.replace would put a file in the place of is a link; the file behind it is meant.
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        msg = f"{path}: there is no folder {str(target.parent)!r} to write to. Make it first."
        raise FileNotFoundError(msg)
    if target.is_dir():
        msg = f"{path}: this is a folder. Give the path of a file in it."
        raise IsADirectoryError(msg)
    temporary = target.with_name(f"{target.name}.{os.urandom(4).hex()}.part")
    try:
        with open(temporary, "xb") as file:  # with the permissions of any new file
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Any]:
    """Read what :func:`write` wrote: NumPy arrays by name, and the JSON value.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        If the file is truncated, altered, or was not written by xpnn.
    """
    if Path(path).is_dir():
        msg = f"{path}: this is a folder. Give the path of the file in it."
        raise IsADirectoryError(msg)
    if not Path(path).exists():
        msg = f"{path}: there is no such file. Give the path that was given to model.save."
        raise FileNotFoundError(msg)
    try:
        with open(path, "rb") as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except _Foreign as error:
        msg = f"{path}: {error}"
        raise DataError(msg) from None
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        what = str(error) or type(error).__name__
        msg = f"{path}: not a readable safetensors file ({what}). It may be truncated or altered."
        raise DataError(msg) from error


class _Foreign(Exception):
    """A sound file that was not written by this version of xpnn."""


# --------------------------------------------------------------------------------- writing


def _header(
    path: str | os.PathLike[str], arrays: Mapping[str, Any], config: Any
) -> tuple[bytes, list[str]]:
    """Return length and header of a file, and the names in the order in which arrays lie in it."""
    sizes: dict[str, int] = {}
    entries: dict[str, dict[str, Any]] = {}
    for name, x in arrays.items():
        if not isinstance(name, str) or name == "__metadata__":
            msg = f"{path}: an array needs a name that is a string, got {name!r}."
            raise ConfigError(msg)
        try:
            dtype = as_dtype(x.dtype)
            entries[name] = {"dtype": _NAMES[dtype.name], "shape": [int(n) for n in x.shape]}
        except (DTypeError, KeyError):
            msg = (
                f"{path}: {name!r} has dtype {x.dtype}, which safetensors files cannot hold. They"
                f" hold {', '.join(_NAMES)}. Convert it first."
            )
            raise DTypeError(msg) from None
        sizes[name] = dtype.itemsize
    # The widest first, so that each lies at a multiple of its itemsize, as safetensors has it.
    order = sorted(arrays, key=lambda name: -sizes[name])
    end = 0
    for name in order:
        start, end = end, end + math.prod(entries[name]["shape"]) * sizes[name]
        entries[name]["data_offsets"] = [start, end]
    try:
        text = json.dumps(config)
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"{path}: what is written beside the arrays must be JSON: {error}."
        raise ConfigError(msg) from error
    metadata = {
        "sha256": _ZEROS,
        "xpnn": text,
        "xpnn_format": _FORMAT,
        "xpnn_version": sys.modules["xpnn"].__version__,
    }
    content = json.dumps({"__metadata__": metadata, **entries}, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    if len(content) > _LONGEST:
        msg = (
            f"{path}: names, shapes and configuration take {len(content):,} bytes, and the header"
            f" of a safetensors file {_LONGEST:,} at most. Put long lists of numbers into arrays."
        )
        raise ConfigError(msg)
    return len(content).to_bytes(8, "little") + content, order


def _bytes(x: Any) -> Any:
    """Return the content of an array, in C order and little-endian; copied only if it must be."""
    host = backend.to_numpy(x)
    little = host.dtype.newbyteorder("<") if host.dtype.byteorder in ">=" else host.dtype
    return _flat(np.asarray(host, dtype=little, order="C"))


def _flat(array: Any) -> Any:
    """Return the bytes of a contiguous array, as a view."""
    return array.reshape(-1).view(np.uint8)


def _sync_folder(folder: Path) -> None:
    """Have the new name of a file reach the disk as well."""
    if os.name != "posix":
        return
    # Some file systems and permissions have no way to say so; the file is whole in any case.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# --------------------------------------------------------------------------------- reading


def _read(file: BinaryIO, size: int) -> tuple[dict[str, Any], Any]:
    length = file.read(8)
    n = int.from_bytes(length, "little")
    if not 2 <= n <= min(size - 8, _LONGEST):
        msg = f"a header of {n:,} bytes in a file of {size:,}"
        raise ValueError(msg)
    content = file.read(n)
    entries = json.loads(content, object_pairs_hook=_distinct)
    metadata = entries.pop("__metadata__", {}) if isinstance(entries, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(x, str) for x in metadata.values()):
        msg = "the header is none"
        raise ValueError(msg)
    if "xpnn" not in metadata:
        msg = "this safetensors file was not written by xpnn."
        raise _Foreign(msg)
    if metadata.get("xpnn_format") != _FORMAT:
        msg = (
            f"this file has format {metadata.get('xpnn_format', 'none')}, of xpnn"
            f" {metadata.get('xpnn_version', 'before there were checksums')}; this version reads"
            f" format {_FORMAT}. Write it anew."
        )
        raise _Foreign(msg)
    if len(expected := metadata.get("sha256", "")) != len(_ZEROS):
        msg = "the checksum is none"
        raise ValueError(msg)
    digest = hashlib.sha256(length + content.replace(expected.encode(), _ZEROS.encode(), 1))
    found = {}
    for name, array in _empty(entries, size - 8 - n):
        block = _flat(array)
        if file.readinto(memoryview(block)) != block.nbytes:  # type: ignore[attr-defined]
            msg = f"the file ends within {name!r}"
            raise ValueError(msg)
        digest.update(block)
        if array.dtype.kind == "b" and block.max(initial=0) > 1:
            msg = f"{name!r} holds more than true and false"
            raise ValueError(msg)
        found[name] = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder())
    if digest.hexdigest() != expected:
        msg = "its checksum does not fit"
        raise ValueError(msg)
    return {name: found[name] for name in entries}, json.loads(metadata["xpnn"])


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a name is there twice"
        raise ValueError(msg)
    return found


def _empty(entries: dict[str, Any], size: int) -> Iterator[tuple[str, Any]]:
    """Yield a new array for each entry, in the order of the file, if together they fill it."""
    described = [(*_describe(name, entry), name) for name, entry in entries.items()]
    end = 0
    for (start, stop), _, _, name in sorted(described, key=lambda one: one[0]):
        if start != end:
            msg = f"{name!r} begins at {start}, and what is before it ends at {end}"
            raise ValueError(msg)
        end = stop
    if end != size:
        msg = f"its arrays take {end:,} bytes, and there are {size:,}"
        raise ValueError(msg)
    for _, shape, dtype, name in sorted(described, key=lambda one: one[0]):
        yield name, np.empty(shape, dtype)


def _describe(name: str, entry: Any) -> tuple[tuple[int, int], tuple[int, ...], Any]:
    """Return place, shape and dtype of an array, as its entry says, after a look at it."""
    try:
        short, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        dtype = host_dtype(_DTYPES[short])
        whole = [type(n) is int and 0 <= n < 2**62 for n in (*shape, start, stop)]
        nbytes = math.prod(shape[:_MOST_AXES]) * dtype.itemsize if all(whole) else -1
        sound = len(shape) <= _MOST_AXES and stop - start == nbytes
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        msg = f"{name!r} is described by {str(entry)[:80]}"
        raise ValueError(msg)
    return (start, stop), shape, dtype if dtype.byteorder == "|" else dtype.newbyteorder("<")
