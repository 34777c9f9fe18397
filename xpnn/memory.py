"""Memory that is kept to be used again."""

from __future__ import annotations

from typing import Any

from xpnn import backend, kernels
from xpnn.errors import DeviceError

__all__ = ["free_memory", "memory_stats"]


def memory_stats(device: Any = None) -> dict[str, int]:
    """Return what memory is held for the arrays of a device, in bytes.

    New memory is slow, as the system has to find and clear it page by page. So what large arrays
    lay in is kept when the last of them goes, and given to the next of about that size.

    Parameters
    ----------
    device : optional
        As for :func:`set_device`; the default device if not given.

    Returns
    -------
    dict of int
        ``held``: bytes that are kept, of them ``in_use`` by arrays. On the CPU, of large arrays
        only, also ``scratch`` for what kernels compute on the way, and ``requests`` for memory so
        far, of them ``reused`` from what was there. On a GPU also ``recordings``, in which captured
        steps compute and which stays theirs; ``limit`` of CuPy's pool, 0 if there is none; and
        ``free`` and ``total`` of the device, which other processes use as well.

    Raises
    ------
    DeviceError
        If memory of that library is not managed by xpnn.

    Examples
    --------
    >>> import xpnn
    >>> sorted(xpnn.memory_stats("cpu"))
    ['held', 'in_use', 'requests', 'reused', 'scratch']
    """
    module, scope = _managed(device)
    with scope:
        return dict(module.memory_stats())


def free_memory(device: Any = None) -> None:
    """Give memory that is kept, and in which no array lies, back to the system.

    Parameters
    ----------
    device : optional
        As for :func:`memory_stats`.

    Raises
    ------
    DeviceError
        If memory of that library is not managed by xpnn.

    Examples
    --------
    >>> import xpnn
    >>> xpnn.free_memory("cpu")
    >>> xpnn.memory_stats("cpu")["scratch"]
    0
    """
    module, scope = _managed(device)
    with scope:
        module.free_memory()


def _managed(device: Any) -> tuple[Any, Any]:
    where = backend.get_device() if device is None else backend.as_device(device)
    module = kernels.load(where.xp.__name__)
    if module is None or not hasattr(module, "memory_stats"):
        msg = f"memory of {str(where)!r} is managed by its own library."
        raise DeviceError(msg)
    return module, where.library.scope(where.native)
