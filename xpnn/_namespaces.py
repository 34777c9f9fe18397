"""Which namespace computes with arrays, and where: what every operation asks first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from xpnn._libraries import Library, find_library
from xpnn.errors import DeviceError, DTypeError

__all__ = [
    "NAMESPACE_OF",
    "SCALAR_TYPES",
    "SEVERAL",
    "ArrayWrapper",
    "array_namespace",
    "elsewhere",
    "unwrap",
    "wrapper_namespace",
]

Array = Any
Namespace = Any


class ArrayWrapper:
    """What holds a raw array in ``data``: the differentiable Tensor derives from it."""

    __slots__ = ("data",)
    data: Array


def unwrap(x: Any) -> Any:
    """Return the raw array inside a Tensor, and anything else as it is."""
    return x.data if isinstance(x, ArrayWrapper) else x


# What every operation looks up. Classes whose arrays may lie on another device than the current
# one, CuPy's where there are two GPUs, are not in it: whoever misses them looks at the devices.
NAMESPACE_OF: dict[type, Namespace] = {}
SEVERAL: list[Library] = []  # the libraries of such classes; only CuPy is one
# Scalars that NumPy gives where the standard asks for a 0-d array; `scalar[...]` is that array.
SCALAR_TYPES = frozenset(np.dtype(code).type for code in "?bhilqBHILQefdFD")


def array_namespace(*xs: Any) -> Namespace:
    """Return the standard namespace of arrays: ``xpnn.ops`` if one is a Tensor.

    Python scalars and None are passed over. Arrays of one library mix with its Tensors.

    Raises
    ------
    DeviceError
        If arrays of two libraries are given.
    DTypeError
        If something is not an array, or nothing is.

    Examples
    --------
    >>> import numpy, xpnn
    >>> xpnn.array_namespace(numpy.ones(3)).__name__
    'array_api_compat.numpy'
    """
    found = None
    wrapped = None
    for x in xs:
        if isinstance(x, ArrayWrapper):
            wrapped = x
            x = x.data
        elif x is None or isinstance(x, (bool, int, float, complex)):
            if type(x).__module__ == "builtins":
                continue
        xp = NAMESPACE_OF.get(type(x))
        if xp is None:
            xp = _meet(x)
        if found is None:
            found = xp
        elif found is not xp:
            msg = (
                f"arrays of two libraries meet: {found.__name__} and {xp.__name__}."
                " Move one of them, for example with xpnn.to_device(x, xpnn.get_device())."
            )
            raise DeviceError(msg)
    if found is None:
        msg = "expected at least one array, got only scalars."
        raise DTypeError(msg)
    return found if wrapped is None else wrapper_namespace(wrapped)


def _meet(x: Any) -> Namespace:
    """Return the namespace of an array whose class is not in :data:`NAMESPACE_OF`, or never is."""
    library = find_library(x)
    if not library.several:
        NAMESPACE_OF[type(x)] = library.xp
    elif library not in SEVERAL:
        SEVERAL.append(library)
    return library.xp


def elsewhere(who: str, xs: Iterable[Any]) -> Any:
    """Return the context in which an operation on arrays has to run, or None if it is this one.

    Arrays of classes in :data:`NAMESPACE_OF` need none, and nobody asks for them.

    Raises
    ------
    DeviceError
        If the arrays lie on two devices of a library that does not refuse that itself.
    """
    arrays = [x for x in map(unwrap, xs) if hasattr(x, "shape")]
    library = find_library(arrays[0])
    return library.elsewhere(who, arrays) if library.several else None


def wrapper_namespace(x: Any) -> Namespace:
    """Return the namespace that a wrapper announces for itself."""
    return x.__array_namespace__()
