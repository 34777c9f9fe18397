"""Find a file of a data set: in the user's folders, in the cache, or on a public mirror.

The content decides, not the place: every file goes through a ``read`` that raises
:class:`~xpnn.errors.DataError` unless it holds exactly the expected bytes.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

from xpnn.errors import DataError

__all__ = ["cache_folder", "load_file"]

_T = TypeVar("_T")

_TIMEOUT = 30.0  # seconds without an answer before the next mirror is tried
_BLOCK = 1 << 16


def cache_folder() -> Path:
    """Return the folder where downloads are kept; it need not exist yet.

    Returns
    -------
    pathlib.Path
        ``$XPNN_CACHE``; else ``$XDG_CACHE_HOME/xpnn``; else the platform's own place
        (``~/.cache/xpnn`` on Linux).

    Examples
    --------
    >>> cache_folder()  # doctest: +SKIP
    PosixPath('/home/ada/.cache/xpnn')
    """
    if own := os.environ.get("XPNN_CACHE"):
        return Path(own).expanduser()
    # The XDG specification asks to ignore relative paths.
    if (xdg := os.environ.get("XDG_CACHE_HOME")) and Path(xdg).is_absolute():
        return Path(xdg) / "xpnn"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "xpnn"
    if local := os.environ.get("LOCALAPPDATA"):  # set by Windows only
        return Path(local) / "xpnn" / "Cache"
    return Path.home() / ".cache" / "xpnn"


def load_file(
    name: str,
    *,
    dataset: str,
    function: str | None = None,
    remote: str | None = None,
    folder: str | os.PathLike[str] | None,
    mirrors: Sequence[str],
    read: Callable[[Path], _T],
    own_folder: bool = False,
) -> _T:
    """Find a file, check it and return what ``read`` makes of it.

    Parameters
    ----------
    name : str
        The file's name. On disk ``name`` without ``.gz`` is taken as well.
    dataset : str
        The data set's name: its folder in the cache.
    function : str, optional
        Who is named in messages; ``load_<dataset>`` if not given.
    remote : str, optional
        The file's name on the mirrors, where it is not ``name``.
    folder : str or path-like or None
        Where to look first; None means the environment variable ``XPNN_DATA``.
    mirrors : sequence of str
        URLs of folders that hold the file, in the order in which they are tried.
    read : callable
        Takes a path and returns the content; raises DataError if it is damaged.
    own_folder : bool, default False
        Whether the file counts only in a folder named after the data set, unless ``folder`` says
        where it lies: for files whose names another data set has as well.

    Returns
    -------
    object
        The result of ``read``.

    Raises
    ------
    DataError
        If ``folder`` does not exist, the file found is damaged, the cache cannot be written,
        or no mirror delivers the file.

    Examples
    --------
    >>> load_file("words.txt", dataset="words", folder="corpus", mirrors=[],
    ...           read=Path.read_bytes)  # doctest: +SKIP
    """
    who = function or f"load_{dataset}"
    # An empty variable counts as none, as usual in a shell.
    named = folder if folder is not None else os.environ.get("XPNN_DATA") or None
    own: list[Path] = []
    if named is not None:
        top = Path(named).expanduser()
        own = [top / dataset] if own_folder and folder is None else [top / dataset, top]
        if folder is not None and not top.is_dir():
            msg = f"{who}: folder {str(folder)!r} is not an existing folder."
            raise DataError(msg)
    if (path := _find(name, own)) is not None:
        try:
            return read(path)
        except DataError as error:
            # A file of the user's is never deleted.
            advice = "The file was left as it is: replace it or remove it."
            msg = f"{who}: {path}: {error} {advice}"
            raise DataError(msg) from None

    cache = cache_folder() / dataset
    if (path := _find(name, [cache])) is not None:
        try:
            return read(path)
        except DataError as error:
            path.unlink(missing_ok=True)
            advice = "The file was deleted from the cache: call again to download it anew."
            msg = f"{who}: {path}: {error} {advice}"
            raise DataError(msg) from None

    partial = cache / f"{name}.{os.urandom(8).hex()}.part"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        partial.touch(exist_ok=False)
    except OSError as error:
        msg = (
            f"{who}: cannot write to the cache folder {cache}: {error}. "
            f"Name a writable folder in the environment variable XPNN_CACHE."
        )
        raise DataError(msg) from error
    try:
        return _download(remote or name, mirrors, partial, cache / name, read)
    except _NoMirrorError as error:
        looked = "".join(f"\n  {place}" for place in [*own, cache])
        msg = (
            f"{who}: no mirror delivered {name}:{error}\nIt is in none of these folders "
            f"either:{looked}\nWithout a network: put {name} (or the unpacked file) into a folder "
            f"{dataset!r} and name the folder above it in the environment variable XPNN_DATA."
        )
        raise DataError(msg) from None
    finally:
        partial.unlink(missing_ok=True)


class _NoMirrorError(Exception):
    """No mirror delivered the file; the text has one line for each mirror."""


def _find(name: str, folders: Iterable[Path]) -> Path | None:
    """Return the first existing file, the unpacked one before the .gz one."""
    for folder in folders:
        for path in (folder / name.removesuffix(".gz"), folder / name):
            if path.is_file():
                return path
    return None


def _download(
    remote: str, mirrors: Sequence[str], partial: Path, path: Path, read: Callable[[Path], _T]
) -> _T:
    """Try the mirrors in turn; the file gets its ``path`` only after ``read`` accepts it."""
    from http.client import HTTPException  # not at import: it costs as much as half of xpnn
    from urllib.error import HTTPError

    reasons = ""
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{remote}"
        try:
            with partial.open("wb") as target:
                _fetch(url, target)
            content = read(partial)
            # Atomic: another process sees the whole file or none.
            os.replace(partial, path)
            return content
        except HTTPError as error:
            reasons += f"\n  {url}: {error}"
            error.close()  # it holds the open connection
        except (OSError, HTTPException, DataError) as error:
            reasons += f"\n  {url}: {str(error) or type(error).__name__}"
    raise _NoMirrorError(reasons)


def _fetch(url: str, target: BinaryIO) -> None:
    """Copy what lies at ``url`` to an open file, with a progress bar on a terminal."""
    from urllib.request import Request, urlopen

    from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]  # needed only here

    # Some servers turn away urllib's default agent.
    request = Request(url, headers={"User-Agent": "xpnn"})
    with urlopen(request, timeout=_TIMEOUT) as response:
        length = response.headers.get("Content-Length", "")
        bar = tqdm.wrapattr(
            target,
            "write",
            total=int(length) if length.isdigit() else None,
            desc=url.rpartition("/")[2],
            disable=None,  # quiet unless stderr is a terminal
        )
        with bar as sink:
            shutil.copyfileobj(response, sink, _BLOCK)
