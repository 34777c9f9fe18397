"""Native kernels: faster stand-ins for hot primitives, one module a library.

A kernel is a pair of functions named after its primitive, ``linear`` and ``linear_vjp``, beside
which the standard version stays; a test holds every kernel to its standard twin. A primitive
without a kernel works everywhere all the same.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["load", "sums"]

# How arrays of a class are added: gradients that arrive at one place are, outside of primitives.
sums: dict[type, Callable[[Any, Any], Any]] = {}

_MODULES = {
    "array_api_compat.numpy": "xpnn.kernels.numpy",
    "array_api_compat.cupy": "xpnn.kernels.cupy",
}


def load(namespace: str) -> ModuleType | None:
    """Return the module of kernels for a namespace, imported now, or None if it has none."""
    name = _MODULES.get(namespace)
    return None if name is None else importlib.import_module(name)
