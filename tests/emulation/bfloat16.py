"""Functions of NumPy that CuPy has no loop of bfloat16 for: they widen it, or refuse it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["as_cupy_does"]

_DTYPES = {
    **dict.fromkeys("where tril triu round around".split(), "float32"),
    **dict.fromkeys("var std".split(), "float64"),
}
_REFUSED = frozenset(
    ("sort argsort partition argpartition lexsort msort isin in1d intersect1d setdiff1d union1d"
     " setxor1d unique unique_all unique_counts unique_inverse unique_values").split()
)  # fmt: skip
_FAST_POWERS = {2.0: np.square, 0.5: np.sqrt, -1.0: np.reciprocal}


def as_cupy_does(name: str, f: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of NumPy's arrays as CuPy's of this name treats bfloat16."""
    name = name.strip("_")
    if name not in _DTYPES and name not in _REFUSED and name != "pow":
        return f

    @functools.wraps(f)
    def function(*args: Any, **options: Any) -> Any:
        if not any(map(_is_bfloat16, args)):
            return f(*args, **options)
        if name in _REFUSED:
            msg = f"{name} of bfloat16: Unsupported dtype"
            raise NotImplementedError(msg)
        if name == "pow":
            power = args[1]
            fast = _FAST_POWERS.get(power) if type(power) is float else None
            return f(*args, **options) if fast is None else fast(args[0].astype("float64"))
        dtype = _DTYPES[name]
        return f(*(x.astype(dtype) if _is_bfloat16(x) else x for x in args), **options)

    return function


def _is_bfloat16(x: Any) -> bool:
    return isinstance(x, (np.ndarray, np.generic)) and x.dtype.name == "bfloat16"
