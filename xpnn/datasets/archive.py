"""Data of one's own in a ``.npz`` file."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.errors import DataError

__all__ = ["load_npz"]


def load_npz(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Load the arrays of numbers in a ``.npz`` file, as :func:`numpy.savez` writes it, by name.

    Nothing is unpickled: an array of Python objects is refused.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict of str to numpy.ndarray

    Raises
    ------
    DataError
        If there is no such file, it is no readable ``.npz`` file, or an array holds something
        else than numbers.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from xpnn.datasets import load_npz
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "data.npz")
    ...     np.savez(path, x=np.zeros((3, 2)), y=np.arange(3))
    ...     {name: array.shape for name, array in load_npz(path).items()}
    {'x': (3, 2), 'y': (3,)}
    """
    if not Path(path).is_file():
        msg = f"load_npz: there is no file {os.fspath(path)!r}."
        raise DataError(msg)
    if not zipfile.is_zipfile(path):
        msg = f"load_npz: {path}: this is no .npz file. numpy.savez writes one, of named arrays."
        raise DataError(msg)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = "it holds Python objects" if "pickle" in str(error) else str(error)
        msg = f"load_npz: {path}: not a readable .npz file of numbers ({reason})."
        raise DataError(msg) from error
    for name, array in arrays.items():
        # a member that is no .npy comes as bytes
        dtype = getattr(array, "dtype", None)
        if dtype is None or dtype.kind not in "biuf":
            msg = f"load_npz: {path}: {name!r} holds no numbers: its dtype is {dtype}."
            raise DataError(msg)
    return arrays
