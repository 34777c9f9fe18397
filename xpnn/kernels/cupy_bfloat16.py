"""Functions that CuPy has for other dtypes, of bfloat16.

For these it has no loop of bfloat16: what it gives is float32 or float64, or an error. So they are
computed in float32, and come back in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnn.kernels.cupy_launch import cupy

__all__ = ["IN_FLOAT32", "in_float32", "in_float32_accepts", "pow", "pow_accepts"]
__all__ += ["where", "where_accepts"]

Array = Any

# By name, with their rules: what they give depends on order and size only, or is a sum.
IN_FLOAT32 = frozenset(
    ("argsort isin matrix_norm round sort std tril triu unique_all unique_counts unique_inverse"
     " unique_values var vector_norm").split()
)  # fmt: skip


def in_float32_accepts(*arrays: Any, **static: Any) -> bool:
    """Whether there is bfloat16 among arrays."""
    return any(map(_is_bfloat16, arrays))


def in_float32(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``f(xp, *arrays, **static)``, which sees float32 in the place of bfloat16.

    It is a function or a rule, and gives bfloat16 back where its first array is: what a gradient
    arrives in, it goes on in. Tensors, which a rule is given in a recorded backward pass, and
    other arrays are taken as they are.
    """

    def function(xp: Any, *given: Any, **static: Any) -> Any:
        if not any(map(_is_bfloat16, given)):
            return f(xp, *given, **static)
        wide = (x.astype("float32") if _is_bfloat16(x) else x for x in given)
        found = f(xp, *wide, **static)
        return _narrowed(found, given[0].dtype) if _is_bfloat16(given[0]) else found

    return function


def _narrowed(y: Any, dtype: Any) -> Any:
    if isinstance(y, tuple):
        parts = [_narrowed(part, dtype) for part in y]
        return y._make(parts) if hasattr(y, "_make") else tuple(parts)
    return y.astype(dtype) if y.dtype.kind == "f" else y


def _is_bfloat16(x: Any) -> bool:
    return isinstance(x, cupy().ndarray) and x.dtype.name == "bfloat16"


def where_accepts(condition: Array, x1: Any, x2: Any) -> bool:
    """Whether all that is chosen from is bfloat16, or a Python number beside it."""
    chosen = [x for x in (x1, x2) if type(x) not in (int, float)]
    return bool(chosen) and all(map(_is_bfloat16, chosen))


def where(xp: Any, condition: Array, x1: Any, x2: Any) -> Array:
    """Choose by the bits, which are integers that CuPy has a loop for."""
    dtype = next(x.dtype for x in (x1, x2) if _is_bfloat16(x))
    bits = (x if _is_bfloat16(x) else dtype.type(x) for x in (x1, x2))
    return cupy().where(condition, *(x.view("uint16") for x in bits)).view(dtype)


def pow_accepts(x1: Any, x2: Any) -> bool:
    """Whether a Python floating-point number would make another dtype of bfloat16."""
    return type(x2) is float and _is_bfloat16(x1)


def pow(xp: Any, x1: Array, x2: float) -> Array:
    return (x1.astype("float32") ** x2).astype(x1.dtype)
