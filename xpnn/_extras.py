"""Optional libraries: imported when first needed, with the pip line if they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from xpnn.errors import MissingLibraryError

__all__ = ["require"]


def require(module: str, extra: str, purpose: str) -> Any:
    """Return a module of an optional library, imported now.

    Raises
    ------
    MissingLibraryError
        If it does not import; the message says what ``purpose`` needs and how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        msg = f"{purpose} needs {library}, which does not import: {error}."
        msg += f" pip install 'xpnn[{extra}]' brings it."
        raise MissingLibraryError(msg) from error
