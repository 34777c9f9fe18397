"""Reading and assigning elements of Tensors, recorded."""

from __future__ import annotations

import math
from typing import Any

from xpnn import backend
from xpnn.autograd.record import Tracked, apply, namespace, wrap
from xpnn.autograd.tape import is_recording
from xpnn.backend import NAMESPACE_OF, array_namespace, unwrap
from xpnn.primitives import indexing
from xpnn.primitives.elementwise import astype, where

__all__ = ["assign", "get"]

_BASIC = (int, slice, type(None), type(...))


def _raw_key(key: Any) -> Any:
    """Return the key with raw arrays for Tensors."""
    parts = key if isinstance(key, tuple) else (key,)
    parts = tuple(unwrap(part) for part in parts)
    return parts if isinstance(key, tuple) else parts[0]


def _is_basic(key: Any) -> bool:
    parts = key if isinstance(key, tuple) else (key,)
    return all(
        isinstance(p, _BASIC) or (isinstance(p, Tracked) and p.data.ndim == 0) for p in parts
    )


def _positions(x: Any, key: Any) -> Any:
    """Return the row-major positions in ``x`` of what ``x[key]`` gives, for any key it takes."""
    xp = array_namespace(x)
    home = backend.device_of(x)
    ramp = xp.arange(math.prod(x.shape), dtype=backend.index_dtype(home), device=home.native)
    return xp.reshape(ramp, x.shape)[key]


def get(x: Any, key: Any) -> Any:
    """Return ``x[key]``; the gradient goes back to the elements that were read."""
    raw_key = _raw_key(key)
    if x.vertex is None:
        if type(x.data) in NAMESPACE_OF:
            return wrap(x.data[raw_key])
        with backend.on_device_of(x):
            return wrap(x.data[raw_key])
    if _is_basic(key):
        return apply(indexing.getitem, (x,), {"key": raw_key})
    with backend.on_device_of(x):
        return _gathered(x, raw_key)


def _gathered(x: Any, raw_key: Any) -> Any:
    xp = namespace()
    positions = _positions(x.data, raw_key)
    flat = xp.take(xp.reshape(x, (-1,)), array_namespace(x.data).reshape(positions, (-1,)), axis=0)
    return xp.reshape(flat, positions.shape)


def assign(x: Any, key: Any, value: Any) -> None:
    """Make ``x`` the Tensor that has ``value`` at ``key``, and its own elements elsewhere.

    The array itself is not written into: others, and the tape, may hold it.
    """
    with backend.on_device_of(x):
        _assign(x, _raw_key(key), value)


def _assign(x: Any, raw_key: Any, value: Any) -> None:
    raw_value = unwrap(value)
    xp = array_namespace(x.data)
    if not isinstance(raw_value, (bool, int, float, complex)):
        array_namespace(x.data, raw_value)  # one library only
    on_tape = x.vertex is not None or getattr(value, "vertex", None) is not None
    if not (on_tape and is_recording()):  # under no_grad a variable stays one
        x.data = backend.put(xp.asarray(x.data, copy=True), raw_key, raw_value)
        return
    # Number the elements of the value, write the numbers, and gather: right for every kind of key.
    positions = _positions(x.data, raw_key)
    count = math.prod(positions.shape)
    if not count:
        return
    device = backend.device_of(x.data).native
    dtype = positions.dtype
    numbers = xp.reshape(xp.arange(count, dtype=dtype, device=device), positions.shape)
    source = backend.put(xp.full(x.shape, -1, dtype=dtype, device=device), raw_key, numbers)
    ops = namespace()
    if isinstance(raw_value, (bool, int, float, complex)):
        new: Any = xp.full(x.shape, raw_value, dtype=x.data.dtype, device=device)
    else:
        # NumPy lets a value have more axes than the place it goes to, if their length is 1
        surplus = max(len(value.shape) - len(positions.shape), 0)
        value = ops.reshape(value, value.shape[surplus:]) if surplus else value
        flat = ops.reshape(ops.broadcast_to(value, positions.shape), (-1,))
        safe = xp.reshape(xp.where(source < 0, xp.zeros_like(source), source), (-1,))
        new = ops.reshape(ops.take(flat, safe, axis=0), x.shape)
        if new.dtype != x.dtype:
            new = apply(astype, (new,), {"dtype": x.data.dtype})
    result = apply(where, (source >= 0, new, x))
    x.data, x.vertex = result.data, result.vertex
