"""Text to learn language models from."""

from __future__ import annotations

import os
from pathlib import Path

from xpnn.datasets._download import load_file
from xpnn.errors import DataError

__all__ = ["load_shakespeare"]

_MIRRORS: tuple[str, ...] = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",
)
_BYTES = 1_115_394
_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def load_shakespeare(*, folder: str | os.PathLike[str] | None = None) -> str:
    """Load "tiny Shakespeare": 1,115,394 characters of his plays, 65 different ones, one string.

    The file ``tinyshakespeare.txt`` is looked for in

    1. ``folder`` if given, else the folder that the environment variable ``XPNN_DATA`` names;
       in both cases its subfolder ``text`` comes first,
    2. the cache: ``$XPNN_CACHE/text``, by default ``~/.cache/xpnn/text`` (Linux),
    3. a public mirror, from which it is downloaded into the cache.

    Wherever it comes from, its SHA-256 is checked. A damaged file in the cache is deleted, one in
    the user's own folder never.

    Parameters
    ----------
    folder : str or path-like, optional
        Where to look first, in place of ``XPNN_DATA``.

    Returns
    -------
    str

    Raises
    ------
    DataError
        If ``folder`` does not exist, the file is truncated or altered, the cache cannot be
        written, or the mirror does not deliver it.

    Notes
    -----
    Put together by A. Karpathy for char-rnn (2015), who trained on the first nine tenths and
    validated on the next twentieth.

    Examples
    --------
    >>> from xpnn.datasets import load_shakespeare
    >>> text = load_shakespeare()  # doctest: +SKIP
    >>> len(text), text[:14]  # doctest: +SKIP
    (1115394, 'First Citizen:')
    """
    return load_file(
        "tinyshakespeare.txt",
        dataset="text",
        function="load_shakespeare",
        remote="input.txt",
        folder=folder,
        mirrors=_MIRRORS,
        read=_read,
    )


def _read(path: Path) -> str:
    import hashlib  # not at import: it takes longer than the rest of this module

    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != _SHA256:
        msg = (
            f"the content is altered. Expected {_BYTES} bytes with SHA-256 {_SHA256}, found"
            f" {len(content)} bytes with SHA-256 {found}."
        )
        raise DataError(msg)
    return content.decode("ascii")
