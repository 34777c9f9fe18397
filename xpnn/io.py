"""Files: arrays and JSON in one ``.safetensors`` file, written whole or not at all. No pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from xpnn import backend
from xpnn.errors import DataError

__all__ = ["read", "replacing", "write", "write_text"]

_KEY = "xpnn"


def write(path: str | os.PathLike[str], arrays: Mapping[str, Any], config: Any) -> None:
    """Write arrays by name and a JSON value to a file, atomically.

    Parameters
    ----------
    path : path
    arrays : dict of arrays
        Of any library; they are fetched to the host.
    config : JSON value
        Stored in the file's metadata.
    """
    from safetensors.numpy import save

    # safetensors 0.8 writes wrong values for arrays that are not C-contiguous.
    host = {k: np.array(backend.to_numpy(v), order="C", copy=None) for k, v in arrays.items()}
    with replacing(path) as file:
        file.write(save(host, metadata={_KEY: json.dumps(config)}))


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8, atomically.

    Raises
    ------
    FileNotFoundError
        If its folder does not exist.
    """
    with replacing(path) as file:
        file.write(text.encode())


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a new file to write; at the end it takes the place of ``path``, or is removed.

    Whatever happens, there is the old file or the new one, and never a part of it.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    """
    target = Path(path)
    if not target.parent.is_dir():
        msg = f"{path}: there is no folder {str(target.parent)!r} to write to. Make it first."
        raise FileNotFoundError(msg)
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


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Any]:
    """Read what :func:`write` wrote: NumPy arrays by name, and the JSON value.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        If the file is no safetensors file, is damaged, or was not written by xpnn.
    """
    from safetensors import SafetensorError, safe_open

    if Path(path).is_dir():
        msg = f"{path}: this is a folder. Give the path of the file in it."
        raise IsADirectoryError(msg)
    if not Path(path).exists():
        msg = f"{path}: there is no such file. Give the path that was given to model.save."
        raise FileNotFoundError(msg)
    try:
        with safe_open(os.fspath(path), framework="np") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:
                msg = f"{path}: this safetensors file was not written by xpnn."
                raise DataError(msg)
            config = json.loads(metadata[_KEY])
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: not a readable safetensors file ({error}). It may be truncated or altered."
        raise DataError(msg) from error
    return arrays, config
