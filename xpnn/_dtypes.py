"""The dtypes of the standard as objects of their own, equal to every library's dtype of that name.

``Tensor.dtype`` and ``ops.float32`` are :class:`DType`, so a Tensor over torch and one over NumPy
answer ``x.dtype == ops.float32`` alike. No array library is named here: a foreign dtype is known by
its name (``numpy.dtype('float32').name``, ``str(torch.float32)``).
"""

from __future__ import annotations

from typing import Any

from xpnn.errors import DTypeError

__all__ = ["DTYPES", "DType", "as_dtype"]


class DType:
    """A dtype known by its name; ``kind`` is one of ``b i u f c``, ``itemsize`` is in bytes.

    Examples
    --------
    >>> import numpy, xpnn
    >>> xpnn.ops.float32 == numpy.dtype("float32"), str(xpnn.ops.float32)
    (True, 'float32')
    """

    __slots__ = ("itemsize", "kind", "name")

    def __init__(self, name: str, kind: str, itemsize: int) -> None:
        self.name, self.kind, self.itemsize = name, kind, itemsize

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, DType) or other is None:
            return False
        try:
            return as_dtype(other) is self
        except DTypeError:
            return False

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"xpnn.{self.name}"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)

    @property
    def is_inexact(self) -> bool:
        """Whether values of this dtype can carry a gradient (real or complex floating point)."""
        return self.kind in "fc"


def _all_dtypes() -> dict[str, DType]:
    rows = [("bool", "b", 1), ("float16", "f", 2), ("bfloat16", "f", 2)]
    rows += [(f"int{b}", "i", b // 8) for b in (8, 16, 32, 64)]
    rows += [(f"uint{b}", "u", b // 8) for b in (8, 16, 32, 64)]
    rows += [(f"float{b}", "f", b // 8) for b in (32, 64)]
    rows += [(f"complex{b}", "c", b // 8) for b in (64, 128)]
    return {name: DType(name, kind, size) for name, kind, size in rows}


DTYPES = _all_dtypes()
# By type first: array_api_strict's dtypes hash like NumPy's and warn when compared with them.
_KNOWN: dict[type, dict[Any, DType]] = {}


def as_dtype(dtype: Any) -> DType:
    """Return the :class:`DType` of a name, a DType, or any library's dtype object.

    Raises
    ------
    DTypeError
        If the dtype is not one of the standard's, float16 or bfloat16.
    """
    if type(dtype) is DType:
        return dtype
    try:
        return _KNOWN[type(dtype)][dtype]
    except (KeyError, TypeError):
        pass
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", None)
    if not isinstance(
        name, str
    ):  # torch.float32, array_api_strict.float32, numpy.float32 (a class)
        name = dtype.__name__ if isinstance(dtype, type) else str(dtype)
    found = DTYPES.get(name.rpartition(".")[2])
    if found is None:
        msg = f"{dtype!r} is not a dtype that xpnn knows; it knows {', '.join(DTYPES)}."
        raise DTypeError(msg)
    if not isinstance(dtype, str):
        _KNOWN.setdefault(type(dtype), {})[dtype] = found
    return found
